//! Two troubles at once: what each part takes care of alone, in combinations.

use super::super::*;
use crate::cloudwatch::Fault;
use crate::cloudwatch::ledger::Outcome;
use std::path::Path;

/// A buffer that a few minutes of an outage fill.
const SMALL_BYTES: u64 = 96 << 10;

/// A device whose pages have hundreds of events that do not compress.
fn large(seed: u64, promwatch: &str) -> Device {
    let device = Device::new(seed, "10s", promwatch);
    device.net.exporters.borrow_mut().insert("exporter:9100".to_owned(), Exporter::noisy("sim", &[600]));
    device
}

fn small(seed: u64, promwatch: &str) -> Device {
    let device = Device::new(seed, "10s", promwatch);
    device.net.exporters.borrow_mut().insert("exporter:9100".to_owned(), Exporter::sized("sim", &[3, 40]));
    device
}

fn dropped(device: &Device) -> u64 {
    device.agent.as_ref().unwrap().counts().0.dropped_total()
}

#[test]
fn a_body_that_outlived_its_segment_is_counted_once_over_a_restart() {
    each([End::Stop, End::Kill], |end| {
        let mut device = large(201, STATE);
        device.watch.name = format!("{end:?}");
        device.settings.buffer.max_bytes = SMALL_BYTES;
        device.status_path = Some("/run/promwatch/status.json".into());
        device.disk.put(Path::new("/run/promwatch/status.json"), b"");
        device.net.link.set(Link::Refused);
        device.start();
        device.run_ms(25_000);
        device.net.cloud.borrow_mut().create(GROUP, &["sim"]);
        device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 1, Fault::DropBefore);
        device.net.link.set(Link::Up(50));
        device.run_until(120_000, |device| device.net.cloud.borrow().faults.is_empty());
        device.net.link.set(Link::Refused);
        device.run_ms(200_000);
        assert!(dropped(&device) > 1_000, "the buffer overflowed");
        assert!(device.in_bodies_alone() > 0, "{end:?}: the body in flight outlived its segment");
        device.net.link.set(Link::Up(50));
        device.run_ms(300_000);
        device.net.link.set(Link::Refused);
        device.run_ms(60_000);
        // The live status file is up to five seconds old.
        device.net.exporters.borrow_mut().values_mut().for_each(|exporter| exporter.down = true);
        device.run_ms(15_000);
        let before = dropped(&device);
        if *end == End::Stop {
            device.stop();
        } else {
            device.kill();
        }
        device.start();
        assert_eq!(dropped(&device), before, "{end:?}: what was delivered is counted as lost by the next process");
        device.net.link.set(Link::Up(50));
        device.settle(3_600_000);
        if *end == End::Stop {
            device.check_every_event_is_somewhere();
        }
    });
}

#[test]
fn a_lock_that_is_removed_alone_is_taken_again_and_costs_nothing() {
    each([false, true], |in_flight| {
        let mut device = small(202, STATE);
        device.watch.name = format!("with a body in flight {in_flight}");
        device.start();
        device.run_ms(30_000);
        device.net.link.set(Link::Refused);
        device.run_ms(120_000);
        if *in_flight {
            device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 3, Fault::DropAfter);
            device.net.link.set(Link::Up(50));
            device.run_until(60_000, |device| {
                device.net.cloud.borrow().receipts.last().is_some_and(|r| r.outcome == Outcome::Lost)
            });
        }
        device.disk.remove_tree(Path::new("/state/lock"));
        device.run_ms(20_000);
        let second = promwatch::agent::Agent::new(device.settings.clone(), None, device.env());
        assert!(second.is_err(), "a second agent starts in the same state directory");
        device.net.link.set(Link::Up(50));
        device.settle(3_600_000);
        device.check_server();
        assert_eq!(dropped(&device), 0, "{}: nothing is lost with a lock", device.watch.name);
        device.check_all_there();
        device.check_every_event_is_somewhere();
        if !in_flight {
            device.watch.check_nothing_twice();
        }
    });
}

#[test]
fn a_spool_folder_that_is_removed_alone_is_made_again() {
    let mut device = small(203, STATE);
    device.start();
    device.run_ms(30_000);
    device.net.link.set(Link::Refused);
    device.run_ms(60_000);
    device.disk.remove_tree(Path::new("/state/spool"));
    let removed_ms = device.clock.true_ms();
    device.run_ms(300_000);
    device.net.link.set(Link::Up(50));
    device.settle(3_600_000);
    device.check_server();
    device.check_every_event_is_somewhere();
    let exporters = device.net.exporters.borrow();
    let exporter = &exporters["exporter:9100"];
    for (index, time_ms) in exporter.times_ms.iter().enumerate().filter(|(_, time_ms)| **time_ms > removed_ms + 15_000)
    {
        let lost = exporter.identities(index as u64 + 1).any(|identity| device.watch.copies("sim", identity) == 0);
        assert!(!lost, "scrape {index} at {time_ms}, after the removal, is lost");
    }
}

/// A device that keeps what is too old, with an event in every scrape that always is.
fn keeper(seed: u64) -> Device {
    let device = Device::new(seed, "10s", KEEP);
    let page = |n: i64| {
        let text = format!(
            "# TYPE g gauge\ng {n}\n# TYPE m gauge\nm{{old=\"yes\"}} 5 {}\n",
            BEGIN_MS - 20 * DAY_MS + 10_000 * n
        );
        (200, "text/plain; version=0.0.4".to_owned(), text.into_bytes())
    };
    device.net.exporters.borrow_mut().get_mut("exporter:9100").unwrap().pages = (1..400).map(page).collect();
    device
}

const KEEP: &str = r#"{"state_dir": "/state", "buffer": {"expired": "keep", "max_age": "60d"}}"#;

#[test]
fn records_that_were_passed_over_say_nothing_of_those_of_another_directory() {
    let mut device = keeper(204);
    device.watch.identities = false;
    device.watch.counts_last = false;
    device.net.link.set(Link::Refused);
    device.start();
    device.run_ms(300_000);
    device.net.link.set(Link::Up(50));
    device.run_ms(300_000);
    device.net.link.set(Link::Refused);
    device.run_ms(30_000);
    device.disk.remove_tree(Path::new("/state"));
    // One event a scrape: the new records get numbers that old ones had.
    let page = |n: i64| (200, "text/plain; version=0.0.4".to_owned(), format!("# TYPE g gauge\ng {n}\n").into_bytes());
    device.net.exporters.borrow_mut().get_mut("exporter:9100").unwrap().pages = (1..400).map(page).collect();
    let removed_ms = device.clock.true_ms();
    device.run_ms(300_000);
    device.net.link.set(Link::Up(50));
    device.run_ms(600_000);
    let (gauges, times) = (device.stored_gauges(), device.scrape_times());
    let late_ms = device.clock.true_ms() - 60_000;
    for (index, time_ms) in times.iter().enumerate().filter(|(_, ms)| **ms > removed_ms + 15_000 && **ms < late_ms) {
        assert!(gauges.contains_key(&(index as u64 + 1)), "scrape {index} at {time_ms} waits for ever");
    }
}

#[test]
fn what_was_kept_is_sent_when_a_reload_says_so() {
    let mut device = keeper(205);
    device.watch.identities = false;
    device.watch.nothing_ages = false;
    device.net.link.set(Link::Refused);
    device.start();
    device.run_ms(300_000);
    device.net.link.set(Link::Up(50));
    device.run_ms(300_000);
    assert!(device.pending() >= 30, "{} are kept", device.pending());
    let restamp = KEEP.replace("keep", "restamp");
    device.reload(&agent_json(&restamp, 5, ""), &prometheus("10s", &[("sim", "exporter:9100")]));
    device.settle(3_600_000);
}

#[test]
fn a_clock_that_ntp_set_wrong_in_an_outage_drops_nothing_at_the_next_boot() {
    each([30 * DAY_MS, -30 * DAY_MS, 3 * HOUR_MS, -3 * HOUR_MS], |wrong_ms| {
        let mut device = small(206, STATE);
        device.watch.name = format!("NTP off by {wrong_ms}");
        device.clock.set_by_ntp(0);
        device.start();
        device.run_ms(60_000);
        device.net.link.set(Link::Refused);
        device.run_ms(30_000);
        device.reboot(End::Stop, HOUR_MS, BootClock::Exact);
        device.clock.set_by_ntp(*wrong_ms);
        device.run_ms(120_000);
        device.reboot(End::Stop, HOUR_MS, BootClock::Exact);
        device.clock.set_by_ntp(0);
        device.net.link.set(Link::Up(50));
        device.run_ms(60_000);
        device.settle(3_600_000);
        device.check_server();
        device.check_all_there();
        assert_eq!(dropped(&device), 0, "{wrong_ms}: {:?}", device.agent.as_ref().unwrap().counts());
    });
}

#[test]
fn one_wrong_date_before_an_outage_drops_nothing_at_the_next_boot() {
    each([30 * DAY_MS, 3 * HOUR_MS, -3 * HOUR_MS, 366 * DAY_MS], |wrong_ms| {
        let mut device = small(207, STATE);
        device.watch.name = format!("Date off by {wrong_ms}");
        device.net.cloud.borrow_mut().create(GROUP, &["sim"]);
        device.net.date_offsets_ms.borrow_mut().extend([*wrong_ms, 0]);
        device.net.next_links.borrow_mut().extend([Link::Up(50), Link::Refused]);
        device.start();
        device.run_ms(180_000);
        device.reboot(End::Stop, HOUR_MS, BootClock::Exact);
        device.clock.set_by_ntp(0);
        device.net.link.set(Link::Up(50));
        device.run_ms(60_000);
        device.settle(3_600_000);
        device.check_server();
        device.check_all_there();
        assert_eq!(dropped(&device), 0, "{wrong_ms}: {:?}", device.agent.as_ref().unwrap().counts());
    });
}

#[test]
fn one_wrong_date_and_a_question_that_fails_drop_nothing() {
    each([30 * DAY_MS, -30 * DAY_MS, 3 * HOUR_MS], |wrong_ms| {
        let mut device = small(208, STATE);
        device.watch.name = format!("Date off by {wrong_ms}");
        device.net.cloud.borrow_mut().create(GROUP, &["sim"]);
        device.net.date_offsets_ms.borrow_mut().extend([*wrong_ms, 0]);
        device.net.next_links.borrow_mut().extend([Link::Up(50), Link::Refused, Link::Up(50)]);
        device.start();
        device.run_ms(180_000);
        device.settle(3_600_000);
        device.check_server();
        device.check_all_there();
        assert_eq!(dropped(&device), 0, "{wrong_ms}: {:?}", device.agent.as_ref().unwrap().counts());
    });
}

#[test]
fn a_body_that_may_be_stored_goes_again_as_it_was_although_the_clock_moved_by_an_hour() {
    each([HOUR_MS, -HOUR_MS], |wrong_ms| {
        let mut device = small(209, STATE);
        device.watch.name = format!("NTP off by {wrong_ms}");
        device.net.cloud.borrow_mut().create(GROUP, &["sim"]);
        device.clock.set_by_ntp(*wrong_ms);
        // The signature is refused, the question for the time fails; then the body is stored, and no answer comes.
        device.net.next_links.borrow_mut().extend([Link::Up(50), Link::Refused, Link::Up(50)]);
        let refused =
            Fault::Error { status: 403, code: "InvalidSignatureException".to_owned(), message: "no".to_owned() };
        device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 1, refused);
        device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 8, Fault::DropAfter);
        device.start();
        device.run_ms(300_000);
        device.clock.set_by_ntp(0);
        device.settle(3_600_000);
        device.check_server();
        device.check_all_there();
    });
}

#[test]
fn a_record_that_is_larger_than_the_buffer_and_partly_on_its_way_stops_no_scrape() {
    let mut device = large(210, STATE);
    device.settings.buffer.max_bytes = 2 << 10;
    device.net.cloud.borrow_mut().create(GROUP, &["sim"]);
    device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 1, Fault::DropBefore);
    device.net.next_links.borrow_mut().extend([Link::Up(50), Link::Refused]);
    device.start();
    let begun_ms = device.clock.monotonic_ms.get();
    for _ in 0..3_000 {
        device.step();
        if device.clock.monotonic_ms.get() > begun_ms + 120_000 {
            break;
        }
    }
    assert!(device.clock.monotonic_ms.get() > begun_ms + 120_000, "the loop does not sleep");
    device.net.link.set(Link::Up(50));
    device.settle(3_600_000);
    device.check_every_event_is_somewhere();
}

#[test]
fn what_only_a_body_has_is_counted_when_the_process_stops() {
    let mut device = small(211, STATE);
    device.net.link.set(Link::Refused);
    device.start();
    device.run_ms(60_000);
    device.net.cloud.borrow_mut().create(GROUP, &["sim"]);
    device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 1, Fault::DropBefore);
    device.net.link.set(Link::Up(50));
    device.run_until(120_000, |device| device.net.cloud.borrow().faults.is_empty());
    device.net.link.set(Link::Refused);
    device.disk.remove_tree(Path::new("/state"));
    device.run_ms(20_000);
    device.stop();
    device.clock.pass(1_000);
    device.start();
    device.net.link.set(Link::Up(50));
    device.settle(3_600_000);
    device.check_every_event_is_somewhere();
}

#[test]
fn a_stop_tries_a_body_that_may_be_stored_twice_although_the_time_is_doubted() {
    each(0..30_u64, |seconds| {
        let mut device = small(212, STATE);
        device.watch.name = format!("a stop after {} seconds", 25 + seconds);
        device.net.cloud.borrow_mut().create(GROUP, &["sim"]);
        device.clock.set_by_ntp(HOUR_MS);
        let refused =
            Fault::Error { status: 403, code: "InvalidSignatureException".to_owned(), message: "no".to_owned() };
        device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 1, refused);
        device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 1, Fault::DropAfter);
        device.net.next_links.borrow_mut().extend([Link::Up(50), Link::Refused, Link::Up(50), Link::Refused]);
        device.start();
        device.run_ms(25_000 + 1_000 * seconds);
        device.net.link.set(Link::Up(50));
        device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 1, Fault::DropAfter);
        device.stop();
        let cloud = device.net.cloud.borrow();
        assert_eq!(cloud.receipts.last().map(|receipt| receipt.outcome), Some(Outcome::Acknowledged), "{seconds}");
    });
}

#[test]
fn hours_of_what_is_too_old_hold_up_no_minute_of_what_is_young() {
    let mut device = small(218, r#"{"state_dir": "/state", "buffer": {"max_age": "30d"}}"#);
    device.watch.nothing_ages = false;
    device.clock.set_by_ntp(0);
    device.start();
    device.run_ms(60_000);
    device.net.link.set(Link::Refused);
    device.run_ms(4 * 3_600_000);
    device.stop();
    device.clock.pass(15 * DAY_MS as u64);
    device.start();
    device.run_ms(120_000);
    let (young, old) = (3 * 23 * 6, dropped(&device));
    device.net.link.set(Link::Up(50));
    device.run_until(60_000, |device| device.pending() < young);
    assert!(dropped(&device) - old > 10_000, "four hours are too old");
}

#[test]
fn a_lost_state_file_moves_no_time_that_aws_had_confirmed() {
    each([20 * DAY_MS, 3 * HOUR_MS, BEGIN_MS], |behind_ms| {
        let mut device = small(213, STATE);
        device.watch.name = format!("behind by {behind_ms}");
        device.watch.counts_last = false;
        device.clock.wall_error_ms.set(-behind_ms);
        device.start();
        device.run_ms(60_000);
        device.net.link.set(Link::Refused);
        device.run_ms(120_000);
        device.stop();
        device.disk.remove_tree(Path::new("/state/state.json"));
        device.clock.wake(HOUR_MS, BootClock::Behind(*behind_ms));
        device.net.put_in(&device.disk);
        device.start();
        device.clock.set_by_ntp(0);
        device.net.link.set(Link::Up(50));
        device.run_ms(60_000);
        device.settle(3_600_000);
        device.check_server();
        device.check_all_there();
        device.check_times(10_000);
    });
}

/// Looks at records of the lane and the spool, for two pages of so many streams that are sent from memory.
fn looks_at_live_streams(streams: u64) -> u64 {
    let prometheus = "global:\n  scrape_interval: 60s\nscrape_configs:\n  - job_name: sim\n    honor_labels: true\n    \
                      static_configs:\n      - targets: ['exporter:9100']\n";
    let mut device = Device::with_prometheus(214, prometheus, STATE);
    device.settings.buffer.sync_interval_ms = 60_000;
    device.watch.identities = false;
    let names: Vec<String> = (0..streams).map(|n| format!("job{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    device.net.cloud.borrow_mut().create(GROUP, &names);
    device.net.cloud.borrow_mut().create(GROUP, &["sim"]);
    let lines: String = (0..streams).map(|n| format!("m{{job=\"job{n}\"}} {n}\n")).collect();
    device.net.exporters.borrow_mut().get_mut("exporter:9100").unwrap().more = format!("# TYPE m gauge\n{lines}");
    device.net.link.set(Link::Up(2));
    device.start();
    let before = promwatch::spool::steps();
    device.run_ms(110_000);
    let stored = device.net.cloud.borrow().all_events().count() as u64;
    assert!(stored >= 2 * streams, "{stored} events of {streams} streams");
    promwatch::spool::steps() - before
}

#[test]
fn thousands_of_live_streams_cost_linear_work() {
    let (few, many) = (looks_at_live_streams(250), looks_at_live_streams(1_000));
    assert!(many <= 5 * few, "{few} looks for 250 streams, {many} for 1,000");
}

/// The first boot that anybody remembers is offline, and NTP sets its clock wrong.
fn after_a_wrong_first_boot(seed: u64, wrong_ms: i64) -> Device {
    let mut device = small(seed, STATE);
    device.watch.name = format!("NTP off by {wrong_ms}");
    device.net.link.set(Link::Refused);
    device.clock.set_by_ntp(wrong_ms);
    device.start();
    device.run_ms(120_000);
    device.reboot(End::Stop, HOUR_MS, BootClock::Exact);
    device.net.link.set(Link::Up(50));
    device
}

#[test]
fn a_first_boot_that_ntp_set_behind_is_not_dropped_for_its_age() {
    let mut device = after_a_wrong_first_boot(215, -20 * DAY_MS);
    device.clock.set_by_ntp(0);
    device.run_ms(600_000);
    assert!(device.status().clock.certain);
    assert_eq!(dropped(&device), 0, "{:?}", device.agent.as_ref().unwrap().counts());
}

#[test]
fn what_would_lie_in_the_future_waits_until_the_time_is_certain() {
    let mut device = after_a_wrong_first_boot(216, 30 * DAY_MS);
    device.run_ms(120_000);
    device.settle(3_600_000);
    device.check_all_there();
    assert_eq!(dropped(&device), 0, "{:?}", device.agent.as_ref().unwrap().counts());
}

#[test]
fn a_stop_in_the_middle_of_a_page_that_never_was_on_disk_repeats_nothing() {
    let partly = (0..40_usize).filter(|units| {
        let mut device = Device::new(219, "60s", STATE);
        device.watch.name = format!("after {units} units");
        device.settings.buffer.sync_interval_ms = 60_000;
        device.net.exporters.borrow_mut().insert("exporter:9100".to_owned(), Exporter::noisy("sim", &[1_500]));
        device.net.cloud.borrow_mut().create(GROUP, &["sim"]);
        device.net.link.set(Link::Up(1_100));
        device.start();
        device.run_until(10_000, |device| device.net.exporters.borrow()["exporter:9100"].scrapes == 1);
        device.net.exporters.borrow_mut().get_mut("exporter:9100").unwrap().down = true;
        for _ in 0..*units {
            device.step();
        }
        let backlog = device.status().backlog;
        let partly = backlog.memory_events > 0 && device.agent.as_ref().unwrap().counts().0.delivered > 0;
        device.net.link.set(Link::Refused);
        device.stop();
        device.clock.pass(1_000);
        device.net.link.set(Link::Up(50));
        device.start();
        device.settle(600_000);
        device.check_server();
        device.watch.check_nothing_twice();
        device.check_every_event_is_somewhere();
        partly
    });
    assert!(partly.count() >= 3, "a stop between two bodies of a page in memory");
}
