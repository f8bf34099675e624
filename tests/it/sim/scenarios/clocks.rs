//! Clocks that are wrong, and what sets them.

use super::super::*;
use crate::cloudwatch::{Date, Fault};

#[test]
fn a_clock_that_is_set_after_boot_moves_what_has_not_been_sent() {
    let mut device = Device::new(9, "5s", STATE);
    device.clock.wall_error_ms.set(-BEGIN_MS + 30_000);
    device.net.link.set(Link::Refused);
    device.start();
    device.run_ms(120_000);
    device.clock.wall_error_ms.set(0);
    device.net.link.set(Link::Up(50));
    device.run_ms(300_000);
    device.check_server();
    let times = device.scrape_times();
    let gauges = device.stored_gauges();
    assert!(gauges.len() + 2 >= times.len(), "{} of {}", gauges.len(), times.len());
    for (n, stored) in gauges {
        let error_ms = (stored[0] - times[n as usize - 1]).abs();
        assert!(error_ms <= 1_000, "scrape {n} is {error_ms} ms off");
    }
}

#[test]
fn a_device_in_1970_without_ntp_still_delivers_with_the_right_times() {
    let mut device = Device::new(10, "5s", STATE);
    device.clock.wall_error_ms.set(-BEGIN_MS);
    device.start();
    device.run_ms(300_000);
    device.check_server();
    let times = device.scrape_times();
    let gauges = device.stored_gauges();
    assert!(gauges.len() + 8 >= times.len(), "{} of {}", gauges.len(), times.len());
    for (n, stored) in gauges {
        assert!((stored[0] - times[n as usize - 1]).abs() <= 1_000, "scrape {n}");
    }
}

#[test]
fn a_step_of_a_year_and_one_of_two_hours_back_move_what_waits() {
    for step_ms in [366 * 86_400_000_i64, -2 * 3_600_000] {
        let mut device = Device::new(17, "5s", STATE);
        // The clock is wrong by the step until it is set.
        device.clock.wall_error_ms.set(-step_ms);
        device.net.link.set(Link::Refused);
        device.start();
        device.run_ms(120_000);
        device.clock.wall_error_ms.set(0);
        device.run_ms(60_000);
        device.net.link.set(Link::Up(50));
        device.drain(600_000);
        device.run_ms(30_000);
        device.check_server();
        let times = device.scrape_times();
        let gauges = device.stored_gauges();
        assert!(gauges.len() + 3 >= times.len(), "step {step_ms}: {} of {}", gauges.len(), times.len());
        for (n, stored) in gauges {
            assert!((stored[0] - times[n as usize - 1]).abs() <= 1_000, "step {step_ms}, scrape {n}");
        }
    }
}

#[test]
fn a_step_in_the_middle_of_a_drain_moves_the_rest() {
    let mut device = Device::new(18, "5s", r#"{"state_dir": "/state", "upload": {"jitter": 0}}"#);
    let wrong_ms = -3 * 60_000;
    device.clock.wall_error_ms.set(wrong_ms);
    device.net.link.set(Link::Refused);
    device.start();
    device.run_ms(1_800_000);
    device.net.link.set(Link::Up(50));
    device.run_ms(4_000);
    device.clock.wall_error_ms.set(0);
    device.drain(900_000);
    device.run_ms(30_000);
    device.check_server();
    let times = device.scrape_times();
    let gauges = device.stored_gauges();
    assert!(gauges.len() + 3 >= times.len());
    let right = gauges.iter().filter(|(n, stored)| (stored[0] - times[**n as usize - 1]).abs() <= 1_000).count();
    assert!(right * 10 >= gauges.len() * 8, "{right} of {} have the right time", gauges.len());
    assert!(gauges.values().all(|stored| stored.len() == 1), "nothing is there twice");
}

#[test]
fn three_boots_offline_with_a_saved_clock_keep_their_order_and_are_marked() {
    let mut device = Device::new(19, "5s", STATE);
    device.clock.synchronised.set(true);
    device.start();
    device.run_ms(60_000);
    let confirmed_ms = device.clock.true_ms();
    device.net.link.set(Link::Refused);
    device.clock.synchronised.set(false);
    for days in 1..=3 {
        device.stop();
        // The saved clock stands still while the power is off.
        let off_ms = 86_400_000_i64;
        device.power_cut(off_ms);
        device.clock.wall_error_ms.set(-days * off_ms);
        device.start();
        device.run_ms(60_000);
    }
    device.net.link.set(Link::Up(50));
    device.drain(900_000);
    device.run_ms(60_000);
    device.check_server();
    let (gauges, times) = (device.stored_gauges(), device.scrape_times());
    assert!(gauges.len() + 3 >= times.len(), "{} of {}", gauges.len(), times.len());
    let placed: Vec<i64> = gauges.values().map(|stored| stored[0]).collect();
    assert!(placed.is_sorted(), "in the order of the scrapes");
    let now_ms = device.clock.true_ms();
    assert!(placed.iter().all(|time_ms| *time_ms >= confirmed_ms - 120_000 && *time_ms <= now_ms));
    let cloud = device.net.cloud.borrow();
    let marked = cloud.events(GROUP, "sim").iter().filter(|event| event.message.contains("TimestampEstimated")).count();
    assert!(marked > 20, "{marked} events are marked as estimated");
}

#[test]
fn expired_events_are_dropped_restamped_or_kept_as_the_user_chose() {
    for (choice, expired) in [("drop", "drop"), ("restamp", "restamp"), ("keep", "keep")] {
        let promwatch = format!(r#"{{"state_dir": "/state", "buffer": {{"expired": "{expired}", "max_age": "30d"}}}}"#);
        let mut device = Device::new(20, "60s", &promwatch);
        device.watch.nothing_ages = false;
        device.clock.synchronised.set(true);
        device.start();
        device.run_ms(120_000);
        device.net.link.set(Link::Refused);
        device.run_ms(600_000);
        device.stop();
        device.clock.pass(15 * 86_400_000);
        device.start();
        device.run_ms(120_000);
        device.net.link.set(Link::Up(50));
        device.run_ms(1_200_000);
        device.check_server();
        let (counts, pending) = device.agent.as_ref().unwrap().counts();
        let cloud = device.net.cloud.borrow();
        let restamped =
            cloud.events(GROUP, "sim").iter().filter(|event| event.message.contains("OriginalTimestamp")).count();
        match choice {
            "drop" => assert!(counts.dropped_total() >= 18 && restamped == 0, "{counts:?}"),
            "restamp" => assert!(counts.dropped_total() == 0 && restamped >= 18, "{counts:?} {restamped}"),
            _ => assert!(counts.dropped_total() == 0 && pending >= 18, "{counts:?} {pending}"),
        }
    }
}

/// The backlog is sent as soon as the link is back.
const NO_JITTER: &str = r#"{"state_dir": "/state", "upload": {"jitter": 0}}"#;

/// A device whose pages have more than one event.
fn counted(seed: u64, interval: &str, promwatch: &str) -> Device {
    let device = Device::new(seed, interval, promwatch);
    device.net.exporters.borrow_mut().insert("exporter:9100".to_owned(), Exporter::sized("sim", &[3, 40]));
    device
}

/// Everything is there, at the right time, and nothing was dropped.
fn all_is_there(device: &mut Device, interval_ms: i64) {
    device.settle(3_600_000);
    device.check_server();
    device.check_all_there();
    device.check_times(interval_ms);
    let (counts, _) = device.agent.as_ref().unwrap().counts();
    assert_eq!(counts.dropped_total(), 0, "{}: {counts:?}", device.watch.name);
}

#[test]
fn a_clock_behind_by_more_than_max_age_drops_nothing_young() {
    let hour = r#"{"state_dir": "/state", "buffer": {"max_age": "1h"}}"#;
    let cases = [STATE, hour].into_iter().flat_map(|promwatch| {
        [BEGIN_MS, 20 * DAY_MS, 3 * HOUR_MS].into_iter().map(move |behind_ms| (promwatch, behind_ms))
    });
    each(cases, |(promwatch, behind_ms)| {
        let mut device = counted(50, "5s", promwatch);
        device.watch.name = format!("behind by {behind_ms}, {promwatch}");
        device.clock.wall_error_ms.set(-behind_ms);
        device.start();
        // AWS's Date is the only time there is; then an outage, and a restart in it.
        device.run_ms(120_000);
        device.net.link.set(Link::Refused);
        device.run_ms(300_000);
        device.stop();
        device.clock.pass(10_000);
        device.start();
        device.run_ms(300_000);
        device.net.link.set(Link::Up(50));
        device.run_ms(60_000);
        all_is_there(&mut device, 5_000);
    });
}

#[test]
fn a_reboot_with_a_clock_ahead_drops_no_backlog() {
    let cases = [false, true].into_iter().flat_map(|by_ntp| [End::Stop, End::PowerCut].map(|end| (by_ntp, end)));
    each(cases, |(by_ntp, end)| {
        let mut device = counted(51, "5s", STATE);
        device.watch.name = format!("mended by NTP {by_ntp}, after {end:?}");
        device.clock.set_by_ntp(0);
        device.start();
        device.run_ms(60_000);
        device.net.link.set(Link::Refused);
        device.run_ms(600_000);
        device.reboot(*end, HOUR_MS, BootClock::Ahead(30 * DAY_MS));
        device.run_ms(300_000);
        if *by_ntp {
            device.clock.set_by_ntp(0);
            device.run_ms(120_000);
        }
        device.net.link.set(Link::Up(50));
        device.run_ms(60_000);
        all_is_there(&mut device, 5_000);
    });
}

#[test]
fn what_is_old_by_the_true_time_is_dropped_and_nothing_else() {
    // A backlog of two hours when max_age is one: exactly the first hour may go.
    for ahead_ms in [0, 30 * DAY_MS] {
        let mut device = counted(52, "60s", r#"{"state_dir": "/state", "buffer": {"max_age": "1h"}}"#);
        device.watch.nothing_ages = false;
        device.clock.set_by_ntp(0);
        device.start();
        device.run_ms(60_000);
        device.net.link.set(Link::Refused);
        device.run_ms(1_800_000);
        device.reboot(End::Stop, HOUR_MS / 2, BootClock::Ahead(ahead_ms));
        device.run_ms(600_000);
        device.clock.set_by_ntp(0);
        device.run_ms(600_000);
        device.net.link.set(Link::Up(50));
        device.run_ms(60_000);
        device.settle(3_600_000);
        let now_ms = device.clock.true_ms();
        device.check_every_event_is_somewhere();
        let exporters = device.net.exporters.borrow();
        let exporter = &exporters["exporter:9100"];
        for (index, time_ms) in exporter.times_ms.iter().enumerate().skip(2) {
            let identity = exporter.identities(index as u64 + 1).next().unwrap();
            let is_there = device.watch.copies("sim", identity) > 0;
            let age_ms = now_ms - time_ms;
            assert!(is_there || age_ms > HOUR_MS, "ahead by {ahead_ms}: scrape {index} is {age_ms} ms old and lost");
        }
    }
}

#[test]
fn one_answer_with_a_wrong_date_drops_nothing() {
    let dates = [
        Date::Off(30 * DAY_MS),
        Date::Off(-30 * DAY_MS),
        Date::At(0),
        Date::Text("Thu, 01 Jan 1970 00:00:00 GMT".to_owned()),
        Date::Text("yesterday".to_owned()),
        Date::Missing,
    ];
    // What comes after it: nothing special, or nothing at all for so long that every bound is looked at meanwhile.
    let cases = dates.into_iter().flat_map(|date| {
        [(false, false), (true, false), (false, true), (true, true)].map(|(ntp, silence)| (date.clone(), ntp, silence))
    });
    each(cases, |(date, ntp, silence)| {
        for bodies in 0..3 {
            let mut device = counted(53, "5s", NO_JITTER);
            device.watch.name = format!("{date:?} after {bodies} bodies, NTP {ntp}, then silence {silence}");
            device.clock.synchronised.set(*ntp);
            device.start();
            device.run_ms(60_000);
            device.net.link.set(Link::Refused);
            device.run_ms(120_000);
            device.net.link.set(Link::Up(50));
            let before = device.net.cloud.borrow().receipts.len();
            device.run_until(60_000, |device| device.net.cloud.borrow().receipts.len() >= before + bodies);
            device.net.cloud.borrow_mut().fail(None, 1, Fault::Date(date.clone()));
            if *silence {
                device.run_until(60_000, |device| device.net.cloud.borrow().faults.is_empty());
                device.net.link.set(Link::Refused);
                device.run_ms(120_000);
                device.net.link.set(Link::Up(50));
            }
            device.run_ms(60_000);
            all_is_there(&mut device, 5_000);
        }
    });
}

#[test]
fn one_connection_with_a_wrong_clock_is_not_believed() {
    each([30 * DAY_MS, -30 * DAY_MS, -BEGIN_MS, 3 * HOUR_MS], |wrong_ms| {
        let mut device = counted(54, "5s", NO_JITTER);
        device.watch.name = format!("a connection that is {wrong_ms} ms off");
        device.net.date_offsets_ms.borrow_mut().extend([0, *wrong_ms, 0]);
        device.start();
        device.run_ms(60_000);
        device.net.link.set(Link::Refused);
        device.run_ms(300_000);
        device.net.link.set(Link::Up(50));
        device.run_ms(300_000);
        all_is_there(&mut device, 5_000);
    });
}

#[test]
fn a_boot_in_1970_delivers_as_soon_as_aws_told_the_time() {
    let json = agent_json(STATE, 1, "");
    let mut device = Device::with_files(56, &json, &prometheus("5s", &[("sim", "exporter:9100")]));
    device.clock.wall_error_ms.set(-BEGIN_MS);
    let begun_ms = device.clock.true_ms();
    device.start();
    device.run_ms(60_000);
    let first_ms = device.net.cloud.borrow().events(GROUP, "sim").iter().map(|event| event.ingested_ms).min();
    let after_ms = first_ms.map(|first_ms| first_ms - begun_ms);
    assert!(after_ms.is_some_and(|ms| ms <= 3_000), "the first event came after {after_ms:?} ms");
    device.check_times(5_000);
}

#[test]
fn what_one_answer_told_a_boot_is_not_undone_by_the_saved_clock_of_the_next() {
    each([End::Stop, End::Kill, End::PowerCut], |end| {
        let mut device = counted(57, "5s", STATE);
        device.watch.name = format!("ended by {end:?}");
        device.clock.set_by_ntp(0);
        device.start();
        device.run_ms(60_000);
        device.net.link.set(Link::Refused);
        device.run_ms(60_000);
        // An hour without power, for which the saved clock stands still; one answer tells that, and the second never comes.
        device.net.next_links.borrow_mut().extend([Link::Up(30), Link::BlackHole]);
        device.reboot(End::Stop, HOUR_MS, BootClock::Saved);
        device.run_ms(60_000);
        assert!(device.net.next_links.borrow().is_empty(), "{}: it asked twice", device.watch.name);
        // The next boot hears nothing, and its clock is as wrong.
        device.net.link.set(Link::Refused);
        device.reboot(*end, 20_000, BootClock::Saved);
        device.run_ms(60_000);
        device.reboot(*end, 20_000, BootClock::Exact);
        device.net.link.set(Link::Up(50));
        device.run_ms(60_000);
        all_is_there(&mut device, 5_000);
    });
}
