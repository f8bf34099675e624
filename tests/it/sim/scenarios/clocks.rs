//! Clocks that are wrong, and what sets them.

use super::super::*;

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
