//! Random courses: pages of many sizes, outages, slow links, policies that change, lost answers of every kind, kills, power cuts
//! and stops at any unit of work and in the middle of requests, drawn from a seed; for every third device also boots with a wrong clock. `PROMWATCH_SEEDS=FROM..TO` runs others
//! than the usual ones.

use super::*;
use crate::cloudwatch::Fault;
use promwatch::env::Clock as _;
use std::rc::Rc;

/// Streams, most courses with one or two.
const JOBS: [(&str, &str); 3] = [("sim", "exporter:9100"), ("second", "second:9100"), ("third", "third:9100")];

fn device(seed: u64) -> Device {
    let jobs = [1, 1, 2, 3][(seed % 4) as usize];
    let mut device = Device::with_prometheus(
        seed,
        &prometheus("5s", &JOBS[..jobs]),
        r#"{"state_dir": "/state", "buffer": {"max_bytes": "4MiB"}}"#,
    );
    let draw = |n: u64| device.clock.random() % n;
    // Mostly small pages, so that many courses fit into a minute; some of several bodies, a few of a dozen.
    for (stream, host) in &JOBS[..jobs] {
        let exporter = match draw(20) {
            0 => Exporter::noisy(stream, &[900, 3, 400]),
            1..=4 => Exporter::noisy(stream, &[100 + draw(150), 2]),
            5..=9 => Exporter::sized(stream, &[draw(100), draw(10)]),
            _ => Exporter::sized(stream, &[1 + draw(6)]),
        };
        device.net.exporters.borrow_mut().insert((*host).to_owned(), exporter);
    }
    device.watch.name = format!("seed {seed}");
    device
}

/// What a third of the devices have for a clock at their next boot.
fn boot_clock(draw: u64) -> BootClock {
    match draw {
        0 => BootClock::Epoch,
        1 => BootClock::Ahead(30 * DAY_MS),
        2 => BootClock::Behind(3 * HOUR_MS),
        3 => BootClock::Saved,
        _ => BootClock::Exact,
    }
}

fn course(seed: u64) {
    let bad_clock = seed % 3 == 2;
    let mut device = device(seed);
    device.start();
    let clock = Rc::clone(&device.clock);
    let draw = |n: u64| clock.random() % n;
    for _ in 0..320 {
        device.step();
        if device.agent.is_none() {
            device.clock.pass(draw(5_000));
            device.start();
        }
        match draw(70) {
            0 => device.net.link.set(Link::Refused),
            1 => device.net.link.set(Link::BlackHole),
            2 => device.net.link.set(Link::Slow(2_000 + draw(20_000))),
            3..=6 => device.net.link.set(Link::Up(20 + draw(500))),
            7 => put_fails(&device, Fault::DropAfter),
            8 => put_fails(&device, Fault::DropBefore),
            9 => put_fails(&device, Fault::Delay(2_500)),
            10 => put_fails(&device, Fault::ErrorAfter { status: 503, code: "ServiceUnavailableException".to_owned() }),
            11 => put_fails(&device, Fault::NoRequestId),
            12 => put_fails(&device, Fault::CaptivePortal),
            13 => device.net.cloud.borrow_mut().fail(None, 1, Fault::Throttle(Some(300))),
            14 => device.net.next_links.borrow_mut().extend([Link::Up(30), Link::BlackHole, Link::Up(30)]),
            15 => {
                let (stream, _) = JOBS[draw(3) as usize];
                if !device.net.cloud.borrow_mut().denied_streams.remove(stream) {
                    device.net.cloud.borrow_mut().denied_streams.insert(stream.to_owned());
                }
            }
            16 => {
                device.kill();
                device.clock.pass(draw(5_000));
                device.start();
            }
            17 => {
                device.power_cut(draw(60_000).cast_signed());
                device.start();
            }
            18 => device.crash_in_request(if draw(2) == 0 { End::Kill } else { End::PowerCut }),
            19 => {
                device.stop();
                device.clock.pass(1_000);
                device.start();
            }
            20 => {
                let down = draw(2) == 0;
                device.net.exporters.borrow_mut().get_mut("exporter:9100").unwrap().down = down;
            }
            21 if bad_clock => device.clock.set_by_ntp(0),
            22 if bad_clock => {
                let end = [End::Stop, End::Kill, End::PowerCut][draw(3) as usize];
                let off_ms = [20_000, HOUR_MS][draw(2) as usize];
                device.reboot(end, off_ms, boot_clock(draw(6)));
            }
            _ => {}
        }
    }
    device.net.spare();
    device.net.cloud.borrow_mut().denied_streams.clear();
    if device.agent.is_none() {
        device.start();
    }
    device.settle(3_600_000);
    device.stop();
    device.check_server();
    device.check_all_there();
    device.check_times(if bad_clock { 5_000 } else { 500 });
}

fn put_fails(device: &Device, fault: Fault) {
    device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 1, fault);
}

#[test]
fn every_seed_keeps_its_promises() {
    let range = std::env::var("PROMWATCH_SEEDS").unwrap_or_else(|_| "0..300".to_owned());
    let (from, to) = range.split_once("..").expect("PROMWATCH_SEEDS=FROM..TO");
    let (from, to): (u64, u64) = (from.parse().expect("a number"), to.parse().expect("a number"));
    each(from..to, |seed| course(*seed));
}
