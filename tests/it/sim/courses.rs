//! Courses of clocks: everything that a device without a clock of its own may go through, over several boots.

use super::*;
use promwatch::env::Clock as _;
use std::rc::Rc;

const INTERVAL_MS: i64 = 10_000;

/// What NTP does in a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ntp {
    /// It never comes.
    Never,
    /// It comes after two minutes, and is right.
    Late,
    /// It comes after a minute and is two hours behind; two minutes later it is right.
    WrongFirst,
}

/// What the link does in a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// It is up.
    Up,
    /// It is down.
    Down,
    /// It comes up after 100 seconds.
    Returning,
}

/// One boot of four minutes.
#[derive(Clone, Copy, Debug)]
struct Course {
    clock: BootClock,
    ntp: Ntp,
    line: Line,
    end: End,
}

const CLOCKS: [BootClock; 6] = [
    BootClock::Epoch,
    BootClock::Saved,
    BootClock::Ahead(30 * DAY_MS),
    BootClock::Behind(3 * HOUR_MS),
    BootClock::Behind(20 * DAY_MS),
    BootClock::Exact,
];
const NTPS: [Ntp; 3] = [Ntp::Never, Ntp::Late, Ntp::WrongFirst];
const LINES: [Line; 3] = [Line::Up, Line::Down, Line::Returning];
const ENDS: [End; 3] = [End::Stop, End::Kill, End::PowerCut];

fn device(name: String, seed: u64) -> Device {
    let mut device = Device::new(seed, "10s", STATE);
    device.net.exporters.borrow_mut().insert("exporter:9100".to_owned(), Exporter::sized("sim", &[3, 40]));
    device.watch.name = name;
    device
}

/// A boot as it should be: NTP at once, the link up, then an outage that leaves a backlog.
fn good_boot(device: &mut Device) {
    device.clock.set_by_ntp(0);
    device.start();
    device.run_ms(30_000);
    device.net.link.set(Link::Refused);
    device.run_ms(60_000);
}

/// The machine comes up after `off_ms` and goes through the course; the end is the caller's.
fn go_through(device: &mut Device, course: Course, end_before: End, off_ms: i64) {
    device.net.link.set(if course.line == Line::Up { Link::Up(50) } else { Link::Refused });
    device.reboot(end_before, off_ms, course.clock);
    device.run_ms(60_000);
    if course.ntp == Ntp::WrongFirst {
        device.clock.set_by_ntp(-2 * HOUR_MS);
    }
    device.run_ms(40_000);
    if course.line == Line::Returning {
        device.net.link.set(Link::Up(50));
    }
    device.run_ms(20_000);
    if course.ntp == Ntp::Late {
        device.clock.set_by_ntp(0);
    }
    device.run_ms(60_000);
    if course.ntp == Ntp::WrongFirst {
        device.clock.set_by_ntp(0);
    }
    device.run_ms(60_000);
}

/// The link is up, somebody tells the right time, and everything must be there.
fn finish(device: &mut Device) {
    device.net.link.set(Link::Up(50));
    device.run_ms(60_000);
    device.settle(3_600_000);
    device.stop();
    device.check_server();
    device.check_all_there();
    device.check_times(INTERVAL_MS);
}

fn one_boot(course: Course, last: BootClock, ntp: bool) {
    let mut device = device(format!("{course:?}, then {last:?} with NTP {ntp}"), 40);
    good_boot(&mut device);
    go_through(&mut device, course, End::Stop, 6 * HOUR_MS);
    device.net.link.set(Link::Up(50));
    device.reboot(course.end, HOUR_MS, last);
    if ntp {
        device.clock.set_by_ntp(0);
    }
    finish(&mut device);
}

fn all(line: Line) -> impl Iterator<Item = Course> {
    CLOCKS.into_iter().flat_map(move |clock| {
        NTPS.into_iter().flat_map(move |ntp| ENDS.into_iter().map(move |end| Course { clock, ntp, line, end }))
    })
}

#[test]
fn every_clock_ntp_and_end_with_the_link_up() {
    each(all(Line::Up), |course| one_boot(*course, BootClock::Exact, true));
}

#[test]
fn every_clock_ntp_and_end_with_the_link_down() {
    each(all(Line::Down), |course| one_boot(*course, BootClock::Exact, true));
}

#[test]
fn every_clock_ntp_and_end_with_the_link_returning() {
    each(all(Line::Returning), |course| one_boot(*course, BootClock::Exact, true));
}

#[test]
fn after_every_boot_offline_the_next_has_the_same_clock_and_aws_alone_tells_the_time() {
    each(all(Line::Down), |course| one_boot(*course, course.clock, false));
}

#[test]
fn boot_after_boot_drawn_from_a_seed() {
    each(0..40_u64, |seed| {
        let mut device = device(format!("seed {seed}"), 1_000 + *seed);
        let clock = Rc::clone(&device.clock);
        let draw = |n: usize| (clock.random() % n as u64) as usize;
        good_boot(&mut device);
        let mut end = ENDS[draw(3)];
        let mut boots = String::new();
        for _ in 0..2 + draw(4) {
            let course =
                Course { clock: CLOCKS[draw(6)], ntp: NTPS[draw(3)], line: LINES[draw(3)], end: ENDS[draw(3)] };
            let off_ms = [20_000, 120_000, 6 * HOUR_MS, 2 * DAY_MS][draw(4)];
            boots += &format!("; {end:?}, off for {off_ms} ms, {course:?}");
            device.watch.name = format!("seed {seed}{boots}");
            go_through(&mut device, course, end, off_ms);
            end = course.end;
        }
        device.net.link.set(Link::Up(50));
        device.reboot(end, HOUR_MS, CLOCKS[draw(6)]);
        if draw(2) == 0 {
            device.clock.set_by_ntp(0);
        }
        finish(&mut device);
    });
}
