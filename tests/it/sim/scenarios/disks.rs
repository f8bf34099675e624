//! Disks that are full, slow, read-only, dead or gone.

use super::super::*;
use crate::sim_disk::SimDisk;
use promwatch::agent::Agent;
use std::path::Path;

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

/// What somebody does to the state directory of a running agent.
type Removal = fn(&SimDisk, &Path);

/// The state directory goes away, by and by or in an outage; the next outage must be buffered, and survive a kill.
fn a_state_directory_goes(name: &str, remove: Removal) {
    for in_outage in [false, true] {
        let mut device = Device::new(36, "5s", STATE);
        device.watch.name = format!("{name}, in an outage {in_outage}");
        device.net.exporters.borrow_mut().insert("exporter:9100".to_owned(), Exporter::sized("sim", &[3]));
        device.start();
        device.run_ms(60_000);
        if in_outage {
            device.net.link.set(Link::Refused);
            device.run_ms(60_000);
        }
        remove(&device.disk, Path::new("/state"));
        device.watch.counts_last = false;
        let removed_ms = device.clock.true_ms();
        device.run_ms(60_000);
        device.net.link.set(Link::Refused);
        device.run_ms(120_000);
        let second = Agent::new(device.settings.clone(), None, device.env());
        assert!(second.is_err(), "{}: a second agent starts in the same state directory", device.watch.name);
        let killed_ms = device.clock.true_ms();
        device.kill();
        device.start();
        device.net.link.set(Link::Up(50));
        device.run_ms(30_000);
        device.settle(3_600_000);
        device.check_server();
        let exporters = device.net.exporters.borrow();
        let exporter = &exporters["exporter:9100"];
        for (index, time_ms) in exporter.times_ms.iter().enumerate() {
            let certain = *time_ms > removed_ms + 15_000 && *time_ms < killed_ms - 7_500;
            let lost = exporter.identities(index as u64 + 1).any(|identity| device.watch.copies("sim", identity) == 0);
            assert!(!(certain && lost), "{}: scrape {index}, after the removal, is lost", device.watch.name);
        }
    }
}

#[test]
fn a_removed_state_directory_is_made_again() {
    a_state_directory_goes("removed", SimDisk::remove_tree);
    a_state_directory_goes("replaced", SimDisk::replace_tree);
}

#[test]
fn a_state_directory_that_is_mounted_over_is_made_again() {
    a_state_directory_goes("mounted over", SimDisk::mount_over);
}

/// What that many streams cost in an outage, at the next start, and until all is delivered: units of work, operations of the disk,
/// bytes read from it, and microseconds of this thread's processor time.
fn cost_of_streams(streams: u64) -> [u64; 4] {
    let prometheus = "global:\n  scrape_interval: 60s\nscrape_configs:\n  - job_name: sim\n    honor_labels: true\n    \
                      static_configs:\n      - targets: ['exporter:9100']\n";
    let promwatch = r#"{"state_dir": "/state", "upload": {"backlog_requests_per_second": 1000}}"#;
    let mut device = Device::with_prometheus(37, prometheus, promwatch);
    device.watch.identities = false;
    let lines: String = (0..streams).map(|n| format!("m{{job=\"job{n}\"}} {n}\n")).collect();
    device.net.exporters.borrow_mut().get_mut("exporter:9100").unwrap().more = format!("# TYPE m gauge\n{lines}");
    let names: Vec<String> = (0..streams).map(|n| format!("job{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["sim"]).collect();
    device.net.cloud.borrow_mut().create(GROUP, &names);
    device.net.link.set(Link::Refused);
    let begun_us = processor_us();
    device.start();
    device.run_ms(70_000);
    device.stop();
    device.start();
    device.net.link.set(Link::Up(10));
    device.settle(24 * 3_600_000);
    let took_us = processor_us() - begun_us;
    let stored = device.net.cloud.borrow().all_events().count() as u64;
    assert!(stored >= 2 * streams, "{stored} events of {streams} streams");
    [device.units, device.disk.operations(), device.disk.read_bytes(), took_us]
}

/// Processor time of this thread, in microseconds: unlike time it does not depend on who else is at work. 0 where the kernel does not
/// tell.
#[allow(clippy::disallowed_methods)] // the test's own look at its machine
fn processor_us() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0) / 1_000
}

#[test]
fn thousands_of_streams_cost_linear_work() {
    const TIMES: u64 = 5;
    let (few, many) = (cost_of_streams(400), cost_of_streams(400 * TIMES));
    println!("units, disk operations, bytes read, us: {few:?} for 400 streams, {many:?} for 2,000");
    for (what, (few, many)) in ["units", "operations", "bytes read"].into_iter().zip(few.into_iter().zip(many)) {
        assert!(many <= few * TIMES * 5 / 4, "{what}: {few} for 400 streams, {many} for 2,000");
    }
    // What is quadratic takes 25 times as long; caches are forgiven twice.
    assert!(many[3] <= few[3] * TIMES * 2, "processor time: {} us for 400 streams, {} us for 2,000", few[3], many[3]);
}
