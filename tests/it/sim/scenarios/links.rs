//! Links and services that fail: nothing is lost, nothing is sent twice without need, and the loop keeps its pace.

use super::super::*;
use crate::cloudwatch::Fault;

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
fn expired_keys_from_sts_are_no_hot_loop() {
    let role = "arn:aws:iam::123456789012:role/edge";
    let json = agent_json(STATE, 5, &format!(r#", "credentials": {{"role_arn": "{role}"}}"#));
    let mut device = Device::with_files(35, &json, &prometheus("5s", &[("sim", "exporter:9100")]));
    device.net.cloud.borrow_mut().roles.insert(role.to_owned(), None);
    device.net.cloud.borrow_mut().roles_expired_ms = Some(60_000);
    device.start();
    let end_ms = device.clock.monotonic_ms.get() + 300_000;
    while device.clock.monotonic_ms.get() < end_ms {
        device.step();
        assert!(device.units < 5_000, "the loop does not sleep");
    }
    let asked = device.net.asked_ms.borrow().len();
    assert!(asked <= 300, "{asked} requests in five minutes");
    let trouble = device.status().upstreams[0].trouble.clone();
    assert!(trouble.is_some(), "status says what is wrong");
    device.net.cloud.borrow_mut().roles_expired_ms = None;
    device.run_ms(120_000);
    assert!(
        device.stored_gauges().len() + 2 >= device.scrape_times().len(),
        "and goes on as soon as the keys are good"
    );
}
