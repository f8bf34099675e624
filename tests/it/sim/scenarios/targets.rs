//! Targets that are slow or many.

use super::super::*;
use promwatch::env::NetErrorKind;

#[test]
fn a_target_that_hangs_does_not_keep_the_others_from_their_time() {
    let prometheus = "global:\n  scrape_interval: 10s\nscrape_configs:\n  - job_name: sim\n    static_configs:\n      \
                      - targets: ['exporter:9100', 'dead:1']\n";
    for kind in [NetErrorKind::Timeout, NetErrorKind::Resolve] {
        let mut device = Device::with_prometheus(21, prometheus, STATE);
        device.watch.identities = false; // several targets share a stream
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
        device.watch.identities = false; // several targets share a stream
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
fn a_loop_with_more_to_scrape_than_time_still_asks_for_its_targets() {
    let prometheus = "global:\n  scrape_interval: 10s\nscrape_configs:\n  - job_name: sim\n    static_configs:\n      \
                      - targets: ['exporter:9100', 'slow:1', 'slow:2']\n  - job_name: listed\n    http_sd_configs:\n      \
                      - {url: 'http://list:1/', refresh_interval: 60s}\n";
    let mut device = Device::with_prometheus(23, prometheus, STATE);
    device.watch.identities = false; // several targets share a stream
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
