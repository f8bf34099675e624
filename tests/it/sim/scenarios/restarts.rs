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
