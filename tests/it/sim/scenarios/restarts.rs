//! Kills, clean stops and reloads.

use super::super::*;

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
fn counts_after_a_kill_go_on_from_the_live_status_file() {
    let mut device = Device::new(33, "5s", STATE);
    device.status_path = Some("/run/promwatch/status.json".into());
    device.disk.put(std::path::Path::new("/run/promwatch/status.json"), b"");
    device.start();
    device.run_ms(600_000);
    let (counts, _) = device.agent.as_ref().unwrap().counts();
    let delivered = counts.delivered;
    device.kill();
    device.start();
    let (counts, _) = device.agent.as_ref().unwrap().counts();
    // Two events every five seconds, and a status that is at most five seconds old.
    assert!(counts.delivered + 6 >= delivered, "{} of {delivered}", counts.delivered);
}

#[test]
fn a_reload_keeps_the_targets_of_an_unreachable_list() {
    let prometheus = "global:\n  scrape_interval: 10s\nscrape_configs:\n  - job_name: sim\n    http_sd_configs:\n      \
                      - {url: 'http://list:1/', refresh_interval: 60s}\n";
    let mut device = Device::with_prometheus(34, prometheus, STATE);
    let body = br#"[{"targets": ["exporter:9100"]}]"#.to_vec();
    let list = Exporter { pages: vec![(200, "application/json".to_owned(), body)], ..Exporter::default() };
    device.net.exporters.borrow_mut().insert("list:1".to_owned(), list);
    device.start();
    device.run_ms(60_000);
    device.net.exporters.borrow_mut().get_mut("list:1").unwrap().down = true;
    let before = device.scrape_times().len();
    device.reload(&agent_json(STATE, 4, ""), prometheus);
    device.run_ms(120_000);
    let scrapes = device.scrape_times().len() - before;
    assert!(scrapes >= 11, "{scrapes} scrapes in two minutes after the reload");
    // Another list is another source: nothing is known of it.
    device.reload(&agent_json(STATE, 4, ""), &prometheus.replace("list:1/", "list:1/other"));
    let before = device.scrape_times().len();
    device.run_ms(60_000);
    assert_eq!(device.scrape_times().len(), before, "targets of a list that is not asked for any more");
}
