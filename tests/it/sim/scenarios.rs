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
fn creating_the_stream_over_a_slow_link_delays_no_scrape_by_more_than_a_second_and_a_request() {
    let mut device = Device::new(31, "1s", STATE);
    device.net.link.set(Link::Up(800));
    device.start();
    device.run_ms(60_000);
    let longest_ms = device.scrape_times().windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(longest_ms <= Some(2_900), "{longest_ms:?} ms between two scrapes");
    assert!(device.stored_gauges().len() > 40);
}

#[test]
fn a_stream_that_is_refused_keeps_no_other_waiting() {
    let job = |name: &str, host: &str| {
        format!("  - job_name: {name}\n    static_configs:\n      - targets: ['{host}:9100']\n")
    };
    let prometheus = format!(
        "global:\n  scrape_interval: 5s\n  scrape_timeout: 5s\nscrape_configs:\n{}{}",
        job("refused", "other"),
        job("sim", "exporter")
    );
    let mut device = Device::with_prometheus(32, &prometheus, STATE);
    device.net.exporters.borrow_mut().insert("other:9100".to_owned(), Exporter::default());
    device.net.cloud.borrow_mut().create(GROUP, &["sim"]);
    device.net.cloud.borrow_mut().denied.insert("CreateLogStream".to_owned());
    device.start();
    device.run_ms(300_000);
    let late = device.net.cloud.borrow().events(GROUP, "sim").iter().map(|e| e.ingested_ms - e.timestamp_ms).max();
    assert!(late < Some(4_000), "{late:?} ms until an event of the other stream was there");
    assert!(device.stored_gauges().len() >= 58, "{}", device.stored_gauges().len());
    assert!(device.units < 1_500, "{} polls: the loop does not sleep", device.units);
    let before_ms = device.clock.monotonic_ms.get();
    device.stop();
    assert!(device.clock.monotonic_ms.get() < before_ms + 1_000, "a clean stop does not wait for the refused stream");
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

#[test]
fn a_full_disk_falls_back_to_memory_and_returns_to_disk_when_it_heals() {
    let mut device = Device::new(13, "5s", STATE);
    device.start();
    device.run_ms(20_000);
    device.net.link.set(Link::Refused);
    device.run_ms(60_000);
    let used = device.disk.used_bytes();
    device.disk.set_faults(crate::sim_disk::Faults { capacity: Some(used + 700), ..Default::default() });
    device.run_ms(120_000);
    let status = device.status();
    assert_eq!(status.disk.buffer, "memory", "{:?}", status.disk);
    assert!(status.backlog.memory_events > 10);
    device.disk.set_faults(crate::sim_disk::Faults::default());
    device.run_ms(120_000);
    let status = device.status();
    assert_eq!((status.disk.buffer.as_str(), status.backlog.memory_events), ("disk", 0), "{:?}", status.disk);
    device.net.link.set(Link::Up(50));
    device.drain(900_000);
    device.run_ms(30_000);
    device.check_server();
    let (gauges, times) = (device.stored_gauges(), device.scrape_times());
    assert!(gauges.len() + 2 >= times.len(), "{} of {}", gauges.len(), times.len());
    assert!(gauges.values().all(|stored| stored.len() == 1), "nothing is there twice");
}

#[test]
fn a_disk_that_fails_for_good_stops_no_scrape_and_no_delivery() {
    let mut device = Device::new(14, "5s", STATE);
    device.start();
    device.run_ms(20_000);
    device.net.link.set(Link::Refused);
    device.run_ms(30_000);
    let from = device.disk.operations();
    device.disk.set_faults(crate::sim_disk::Faults { eio_from: Some(from), ..Default::default() });
    device.run_ms(300_000);
    device.net.link.set(Link::Up(50));
    device.run_ms(300_000);
    let gauges = device.stored_gauges();
    // What was on the disk already cannot be read any more; everything since then is there.
    assert!(gauges.len() + 12 >= device.scrape_times().len(), "{} of {}", gauges.len(), device.scrape_times().len());
}

#[test]
fn a_read_only_state_directory_means_memory() {
    let mut device = Device::new(15, "5s", STATE);
    device.disk.set_faults(crate::sim_disk::Faults { read_only: true, ..Default::default() });
    device.start();
    device.run_ms(300_000);
    device.check_server();
    assert!(device.stored_gauges().len() + 2 >= device.scrape_times().len());
}

#[test]
fn a_week_of_backlog_drains_while_every_scrape_keeps_its_time() {
    let mut device = Device::new(16, "60s", STATE);
    device.start();
    device.run_ms(120_000);
    device.net.link.set(Link::Refused);
    device.run_ms(7 * 86_400_000);
    let before = device.scrape_times().len();
    device.net.link.set(Link::Up(120));
    device.drain(6 * 3_600_000);
    device.check_server();
    let times = device.scrape_times();
    for pair in times[before - 1..].windows(2) {
        assert!((pair[1] - pair[0] - 60_000).abs() < 2_000, "{} ms between scrapes", pair[1] - pair[0]);
    }
    let gauges = device.stored_gauges();
    assert!(gauges.len() + 3 >= times.len(), "{} of {}", gauges.len(), times.len());
    let mut stored: Vec<i64> = Vec::new();
    for event in device.net.cloud.borrow().events(GROUP, "sim") {
        stored.push(event.timestamp_ms);
    }
    let live_from = times[before];
    let backlog: Vec<i64> = stored.into_iter().filter(|time_ms| *time_ms < live_from).collect();
    assert!(backlog.is_sorted(), "the backlog of a stream keeps its order");
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

#[test]
fn a_target_that_hangs_does_not_keep_the_others_from_their_time() {
    let prometheus = "global:\n  scrape_interval: 10s\nscrape_configs:\n  - job_name: sim\n    static_configs:\n      \
                      - targets: ['exporter:9100', 'dead:1']\n";
    for kind in [NetErrorKind::Timeout, NetErrorKind::Resolve] {
        let mut device = Device::with_prometheus(21, prometheus, STATE);
        let hanging = Exporter { hangs: Some(kind), ..Exporter::default() };
        device.net.exporters.borrow_mut().insert("dead:1".to_owned(), hanging);
        device.start();
        device.run_ms(1_200_000);
        let times = device.scrape_times();
        let late = times.iter().skip(6).filter(|time| (*time - times[0]) % 10_000 > 1_000).count();
        // Every tenth interval it gets its whole time-out.
        assert!(late <= times.len() / 8, "{kind:?}: {late} of {} scrapes came late", times.len());
    }
}

/// What docs/delivery-guarantees.md promises of several targets on one loop.
#[test]
fn targets_that_are_slow_by_nature_are_all_served_in_their_interval() {
    for (slow_ms, count) in [(5_000, 5), (10_000, 5), (5_000, 10)] {
        let names: Vec<String> = (0..count).map(|n| format!("slow{n}:1")).collect();
        let prometheus = format!(
            "global:\n  scrape_interval: 60s\n  scrape_timeout: 20s\nscrape_configs:\n  - job_name: sim\n    static_configs:\n      \
             - targets: ['{}', 'exporter:9100']\n",
            names.join("', '")
        );
        let mut device = Device::with_prometheus(22, &prometheus, STATE);
        for name in &names {
            let slow = Exporter { slow_ms: Some(slow_ms), ..Exporter::default() };
            device.net.exporters.borrow_mut().insert(name.clone(), slow);
        }
        device.start();
        device.run_ms(3_600_000);
        let now = device.status();
        assert!(now.targets.iter().all(|target| target.failures == 0), "{:?}", now.targets);
        for name in names.iter().map(String::as_str).chain(["exporter:9100"]) {
            let times = device.net.exporters.borrow()[name].times_ms.clone();
            assert!(times.len() >= 59, "{name}: {} scrapes", times.len());
            let worst = times.windows(2).skip(3).map(|pair| (pair[1] - pair[0] - 60_000).abs()).max();
            assert!(worst <= Some(100), "{slow_ms} ms, {name}: {worst:?} ms off its time");
        }
    }
}

#[test]
fn a_stream_that_is_refused_keeps_neither_the_others_nor_the_loop_busy() {
    let prometheus = "global:\n  scrape_interval: 5s\nscrape_configs:\n  - job_name: sim\n    static_configs:\n      \
                      - targets: ['exporter:9100']\n  - job_name: denied\n    static_configs:\n      \
                      - targets: ['other:9100']\n";
    let mut device = Device::with_prometheus(22, prometheus, STATE);
    device.net.exporters.borrow_mut().insert("other:9100".to_owned(), Exporter::default());
    device.net.cloud.borrow_mut().denied_streams.insert("denied".to_owned());
    device.start();
    device.run_ms(600_000);
    device.check_server();
    let (gauges, times) = (device.stored_gauges(), device.scrape_times());
    assert!(gauges.len() + 2 >= times.len(), "{} of {}", gauges.len(), times.len());
    assert!(device.units < 3_000, "{} units of work in ten minutes", device.units);
    device.net.cloud.borrow_mut().denied_streams.clear();
    device.drain(1_800_000);
    let cloud = device.net.cloud.borrow();
    assert!(cloud.events(GROUP, "denied").len() > 200, "nothing of the refused stream was lost");
}

#[test]
fn a_page_larger_than_the_memory_lane_is_not_written_to_disk_while_the_link_is_up() {
    let mut device = Device::new(23, "10s", r#"{"state_dir": "/state", "buffer": {"memory_bytes": "64KiB"}}"#);
    let more: String = (0..4_000).map(|i| format!("m{{i=\"{i}\"}} {i}\n")).collect();
    device.net.exporters.borrow_mut().get_mut("exporter:9100").unwrap().more = format!("# TYPE m gauge\n{more}");
    device.start();
    device.run_ms(30_000);
    let written = device.disk.written_bytes();
    device.run_ms(300_000);
    assert_eq!(device.disk.written_bytes(), written);
    device.check_server();
    assert!(device.stored_gauges().len() + 2 >= device.scrape_times().len());
}

/// What a dying card costs: syncs that block for seconds make scrapes late by as much, and nothing is lost by it. The
/// figures are in docs/delivery-guarantees.md.
#[test]
fn a_sync_that_blocks_makes_scrapes_late_and_loses_nothing() {
    for fsync_ms in [0, 3_000, 30_000] {
        let mut device = Device::new(24, "10s", STATE);
        device.start();
        device.run_ms(30_000);
        device.net.link.set(Link::Refused);
        device.run_ms(60_000);
        device.fsync_ms = fsync_ms;
        device.run_ms(600_000);
        device.fsync_ms = 0;
        device.net.link.set(Link::Up(50));
        device.drain(900_000);
        device.run_ms(30_000);
        device.check_server();
        let times = device.scrape_times();
        let longest_ms = times.windows(2).skip(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        println!("each sync blocks for {fsync_ms} ms: at most {longest_ms} ms between scrapes of 10 s");
        // A record's file and its folders: three syncs at the most in one unit of work, then the next scrape is due.
        assert!(longest_ms <= 10_000 + 4 * fsync_ms.cast_signed() + 200, "{longest_ms}");
        assert!(device.stored_gauges().len() + 2 >= times.len());
    }
}

#[test]
fn a_loop_with_more_to_scrape_than_time_still_asks_for_its_targets() {
    let prometheus = "global:\n  scrape_interval: 10s\nscrape_configs:\n  - job_name: sim\n    static_configs:\n      \
                      - targets: ['exporter:9100', 'slow:1', 'slow:2']\n  - job_name: listed\n    http_sd_configs:\n      \
                      - {url: 'http://list:1/', refresh_interval: 60s}\n";
    let mut device = Device::with_prometheus(23, prometheus, STATE);
    for name in ["slow:1", "slow:2"] {
        let slow = Exporter { slow_ms: Some(9_000), ..Exporter::default() };
        device.net.exporters.borrow_mut().insert(name.to_owned(), slow);
    }
    let list = Exporter { pages: vec![(200, "application/json".to_owned(), b"[]".to_vec())], ..Exporter::default() };
    device.net.exporters.borrow_mut().insert("list:1".to_owned(), list);
    device.start();
    device.run_ms(600_000);
    let asked = device.net.exporters.borrow()["list:1"].scrapes;
    assert!((6..=11).contains(&asked), "asked {asked} times in ten minutes");
}
