//! Scenarios with a known course: what happens is written in the test's name.

use super::*;
use crate::cloudwatch::Fault;

const STATE: &str = r#"{"state_dir": "/state"}"#;

#[test]
fn a_healthy_day_delivers_everything_and_leaves_the_disk_alone() {
    let mut device = Device::new(1, "10s", STATE);
    device.start();
    device.run_ms(30_000);
    let written = device.disk.written_bytes();
    device.run_ms(3_600_000);
    assert_eq!(device.disk.written_bytes(), written, "nothing is written while the link is up");
    device.check_server();
    let gauges = device.stored_gauges();
    let times = device.scrape_times();
    assert!(gauges.len() + 1 >= times.len() && times.len() > 360, "{} of {}", gauges.len(), times.len());
    for (n, stored) in gauges {
        assert_eq!(stored, [times[n as usize - 1]], "scrape {n} is there once, with its own time");
    }
}

#[test]
fn an_outage_loses_nothing_and_the_backlog_follows() {
    let mut device = Device::new(2, "5s", STATE);
    device.start();
    device.run_ms(60_000);
    device.net.link.set(Link::Refused);
    device.run_ms(2 * 3_600_000);
    device.net.link.set(Link::Up(80));
    device.drain(1_800_000);
    device.run_ms(30_000);
    device.check_server();
    let (gauges, times) = (device.stored_gauges(), device.scrape_times());
    assert!(gauges.len() + 2 >= times.len(), "{} of {}", gauges.len(), times.len());
    assert!(gauges.values().all(|stored| stored.len() == 1), "nothing is there twice");
}

#[test]
fn a_dead_uplink_delays_no_scrape_by_more_than_two_seconds() {
    let mut device = Device::new(3, "3s", STATE);
    device.start();
    device.run_ms(30_000);
    device.net.link.set(Link::BlackHole);
    device.run_ms(600_000);
    let times = device.scrape_times();
    for pair in times.windows(2).skip(2) {
        let gap_ms = pair[1] - pair[0];
        assert!((900..=5_100).contains(&gap_ms), "{gap_ms} ms between two scrapes");
    }
}

#[test]
fn retries_come_every_ten_seconds_and_later_every_minute() {
    let mut device = Device::new(4, "60s", STATE);
    device.start();
    device.run_ms(120_000);
    device.net.link.set(Link::Refused);
    let (mut last_ms, mut longest_early_ms, mut longest_ms) = (0, 0, 0);
    let begun_ms = device.clock.monotonic_ms.get();
    let mut seen = device.net.exchanges.get();
    for _ in 0..20_000 {
        device.step();
        let scrapes = device.net.exporters.borrow()["exporter:9100"].scrapes;
        let attempts = device.net.exchanges.get() - scrapes;
        let now_ms = device.clock.monotonic_ms.get();
        if attempts != seen {
            if last_ms > 0 {
                let gap_ms = now_ms - last_ms;
                longest_ms = longest_ms.max(gap_ms);
                if now_ms - begun_ms < 600_000 {
                    longest_early_ms = longest_early_ms.max(gap_ms);
                }
            }
            (seen, last_ms) = (attempts, now_ms);
        }
        if now_ms - begun_ms > 3 * 3_600_000 {
            break;
        }
    }
    assert!(longest_early_ms <= 12_000, "{longest_early_ms}");
    assert!((15_000..=62_000).contains(&longest_ms), "{longest_ms}");
}

#[test]
fn a_lost_acknowledgement_costs_one_duplicated_batch_of_the_same_bytes() {
    let mut device = Device::new(5, "5s", STATE);
    device.start();
    device.run_ms(60_000);
    device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 1, Fault::DropAfter);
    device.run_ms(120_000);
    device.check_server();
    let gauges = device.stored_gauges();
    let twice = gauges.values().filter(|stored| stored.len() > 1).count();
    assert!((1..=2).contains(&twice), "{twice} scrapes are there twice");
    let cloud = device.net.cloud.borrow();
    let mut bodies: Vec<&str> =
        cloud.log.iter().filter(|s| s.action == "PutLogEvents").map(|s| s.body_sha256.as_str()).collect();
    let all = bodies.len();
    bodies.sort_unstable();
    bodies.dedup();
    assert!(all > bodies.len(), "the very same body was sent again");
}

#[test]
fn throttling_never_drops() {
    let mut device = Device::new(6, "5s", STATE);
    device.start();
    device.run_ms(30_000);
    device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 40, Fault::Throttle(None));
    device.run_ms(1_800_000);
    device.drain(600_000);
    let (counts, _) = device.agent.as_ref().unwrap().counts();
    assert_eq!(counts.dropped_total(), 0);
    assert!(device.stored_gauges().len() + 2 >= device.scrape_times().len());
}

#[test]
fn a_kill_in_an_outage_loses_only_what_was_not_due_on_disk() {
    let mut device = Device::new(7, "5s", STATE);
    device.start();
    device.run_ms(60_000);
    device.net.link.set(Link::Refused);
    device.run_ms(600_000);
    let killed_ms = device.clock.true_ms();
    device.kill();
    device.clock.pass(3_000);
    device.start();
    device.run_ms(60_000);
    device.net.link.set(Link::Up(50));
    device.drain(900_000);
    device.run_ms(30_000);
    device.check_server();
    let gauges = device.stored_gauges();
    for (index, time_ms) in device.scrape_times().iter().enumerate() {
        if *time_ms < killed_ms - 7_000 {
            assert!(gauges.contains_key(&(index as u64 + 1)), "scrape {} at {time_ms} is lost", index + 1);
        }
    }
}

#[test]
fn a_clean_restart_loses_no_event_and_no_delta() {
    let mut device = Device::new(8, "5s", STATE);
    device.start();
    device.run_ms(62_000);
    device.stop();
    device.clock.pass(20_000);
    device.start();
    device.run_ms(62_000);
    device.net.link.set(Link::Refused);
    device.run_ms(60_000);
    device.stop();
    device.clock.pass(20_000);
    device.net.link.set(Link::Up(50));
    device.start();
    device.drain(600_000);
    device.run_ms(30_000);
    device.stop();
    device.check_server();
    let scrapes = device.scrape_times().len();
    assert_eq!(device.stored_gauges().len(), scrapes);
    // The first scrape has no delta, every later one counts ten.
    assert_eq!(device.stored_counter_sum(), (scrapes as f64 - 1.0) * 10.0);
}

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
fn an_uplink_of_five_kilobytes_a_second_drains_and_sends_no_body_twice() {
    let more: String = (0..400).map(|i| format!("m{{i=\"{i}\"}} {i}\n")).collect();
    let mut device = Device::new(11, "30s", STATE);
    device.net.exporters.borrow_mut().get_mut("exporter:9100").unwrap().more = format!("# TYPE m gauge\n{more}");
    device.start();
    device.net.link.set(Link::Refused);
    device.run_ms(600_000);
    device.net.link.set(Link::Slow(5_000));
    device.drain(1_800_000);
    device.run_ms(60_000);
    device.check_server();
    let gauges = device.stored_gauges();
    assert!(gauges.values().all(|stored| stored.len() == 1), "nothing is there twice");
    assert!(gauges.len() + 2 >= device.scrape_times().len());
}

#[test]
fn memory_only_keeps_the_latest_and_counts_the_rest() {
    let mut device = Device::new(12, "5s", r#"{"state_dir": null, "buffer": {"memory_bytes": "64KiB"}}"#);
    device.net.link.set(Link::Refused);
    device.start();
    device.run_ms(2 * 3_600_000);
    let (counts, pending) = device.agent.as_ref().unwrap().counts();
    assert!(pending > 100 && counts.dropped_total() > 100, "{counts:?} {pending}");
    device.net.link.set(Link::Up(50));
    device.drain(600_000);
    device.run_ms(30_000);
    device.check_server();
    let cloud = device.net.cloud.borrow();
    let markers =
        cloud.events(GROUP, "sim").iter().filter(|event| event.message.contains(r#""promwatch":"lost""#)).count();
    assert!(markers >= 1, "a marker event says what was lost");
}
