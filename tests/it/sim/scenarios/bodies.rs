//! A scrape that is several request bodies: the unit of acknowledgement is one body, whatever happens between two of them.

use super::super::*;
use crate::cloudwatch::Fault;
use crate::cloudwatch::ledger::{Outcome, Receipt};

/// A link whose answers are too slow for the bodies to grow.
const STEADY: Link = Link::Up(1_100);
/// A buffer that a few minutes of an outage fill; the least that a configuration may say takes longer.
const SMALL_BYTES: u64 = 96 << 10;

/// One stream, a page of 1,500 events every minute, over a link on which that is half a dozen bodies.
fn device(seed: u64) -> Device {
    let device = Device::new(seed, "60s", STATE);
    device.net.link.set(STEADY);
    device.net.exporters.borrow_mut().insert("exporter:9100".to_owned(), Exporter::noisy("sim", &[1_500]));
    device
}

/// Two streams, the first with the large pages.
fn two_streams(seed: u64) -> Device {
    let jobs = [("large", "large:9100"), ("sim", "exporter:9100")];
    let device = Device::with_prometheus(seed, &prometheus("10s", &jobs), STATE);
    let mut exporters = device.net.exporters.borrow_mut();
    exporters.insert("large:9100".to_owned(), Exporter::noisy("large", &[600]));
    exporters.insert("exporter:9100".to_owned(), Exporter::sized("sim", &[3]));
    drop(exporters);
    device
}

fn receipts(device: &Device, stream: &str, outcome: Outcome) -> usize {
    let is_it = |receipt: &&Receipt| receipt.stream == stream && receipt.outcome == outcome;
    device.net.cloud.borrow().receipts.iter().filter(is_it).count()
}

/// Lets a scrape be delivered, from memory or from the disk, and does `then` after so many units of it. Says whether it was
/// still under way.
fn after_units(units: u64, from_disk: bool, then: impl Fn(&mut Device)) -> bool {
    let mut device = device(70);
    device.watch.name = format!("after {units} units, from disk {from_disk}");
    if from_disk {
        device.net.link.set(Link::Refused);
    }
    device.start();
    device.run_until(10_000, |device| device.net.exporters.borrow()["exporter:9100"].scrapes == 1);
    device.net.exporters.borrow_mut().get_mut("exporter:9100").unwrap().down = true;
    if from_disk {
        device.run_ms(20_000);
        device.net.link.set(STEADY);
        device.run_until(20_000, |device| !device.net.cloud.borrow().log.is_empty());
    }
    for _ in 0..units {
        device.step();
    }
    let under_way = device.pending() > 0;
    then(&mut device);
    device.net.link.set(Link::Up(50));
    device.settle(600_000);
    device.check_server();
    device.check_all_there();
    under_way
}

/// After every unit of work of the delivery of one scrape.
fn after_every_unit(then: impl Fn(&mut Device)) {
    each([false, true], |from_disk| {
        let units = (0..200).take_while(|units| after_units(*units, *from_disk, &then)).count();
        assert!((6..200).contains(&units), "{units} units to deliver a scrape, from disk {from_disk}");
    });
}

#[test]
fn a_stop_between_two_bodies_repeats_nothing() {
    after_every_unit(|device| {
        // So slow that the ten seconds of a stop are not enough for the rest.
        device.net.link.set(Link::Up(1_900));
        device.stop();
        device.clock.pass(1_000);
        device.net.link.set(STEADY);
        device.start();
        device.settle(600_000);
        device.watch.check_nothing_twice();
        device.check_every_event_is_somewhere();
    });
}

#[test]
fn a_stop_between_two_bodies_with_the_link_gone_repeats_nothing() {
    after_every_unit(|device| {
        device.net.link.set(Link::Refused);
        device.stop();
        device.clock.pass(1_000);
        device.net.link.set(Link::Up(50));
        device.start();
        device.settle(600_000);
        device.watch.check_nothing_twice();
        device.check_every_event_is_somewhere();
    });
}

#[test]
fn a_kill_between_two_bodies_repeats_one_body_at_most() {
    after_every_unit(|device| {
        device.kill();
        device.clock.pass(1_000);
        device.start();
    });
}

#[test]
fn a_power_cut_between_two_bodies_repeats_what_was_settled_since_the_last_sync_at_most() {
    after_every_unit(|device| {
        device.power_cut(1_000);
        device.start();
    });
}

#[test]
fn a_process_that_dies_in_the_middle_of_a_body_repeats_that_one() {
    for end in [End::Kill, End::PowerCut] {
        after_every_unit(|device| {
            device.crash_in_request(end);
            for _ in 0..200 {
                if device.agent.is_some() {
                    device.step();
                }
            }
            if device.agent.is_none() {
                device.start();
            }
        });
    }
}

#[test]
fn a_stream_refused_after_its_first_body_keeps_no_other_waiting() {
    let mut device = two_streams(71);
    device.start();
    device.run_until(60_000, |device| receipts(device, "large", Outcome::Acknowledged) > 0);
    device.net.cloud.borrow_mut().denied_streams.insert("large".to_owned());
    let refused_ms = device.clock.true_ms();
    let units = device.units;
    device.run_ms(600_000);
    let late = device.net.cloud.borrow().events(GROUP, "sim").iter().map(|e| e.ingested_ms - e.timestamp_ms).max();
    assert!(late < Some(8_000), "{late:?} ms until an event of the other stream was there");
    let after = device.net.cloud.borrow().events(GROUP, "sim").iter().filter(|e| e.timestamp_ms > refused_ms).count();
    assert!(after >= 4 * 57, "{after} events of the other stream in ten minutes");
    assert!(device.units - units < 3_000, "{} units of work in ten minutes", device.units - units);
    device.net.cloud.borrow_mut().denied_streams.clear();
    device.settle(3_600_000);
    device.check_server();
    device.check_all_there();
    device.watch.check_nothing_twice();
    device.check_every_event_is_somewhere();
}

#[test]
fn a_partly_delivered_record_dropped_for_room_is_counted_once() {
    each(1..6_usize, |bodies| {
        let mut device = two_streams(72);
        device.settings.buffer.max_bytes = SMALL_BYTES;
        device.watch.name = format!("after {bodies} bodies of a backlog");
        device.net.link.set(Link::Refused);
        device.start();
        device.run_ms(50_000);
        device.net.link.set(Link::Up(50));
        let before = receipts(&device, "large", Outcome::Acknowledged);
        device.run_until(120_000, |device| receipts(device, "large", Outcome::Acknowledged) >= before + bodies);
        device.net.link.set(Link::Refused);
        device.run_ms(200_000);
        assert!(device.agent.as_ref().unwrap().counts().0.dropped_total() > 1_000, "the buffer overflowed");
        end_of_an_overflow(&mut device);
    });
}

#[test]
fn a_batch_in_flight_when_max_bytes_overflows_is_not_told_as_lost() {
    each([Fault::DropAfter, Fault::DropBefore, Fault::Delay(60_000)], |fault| {
        let mut device = two_streams(73);
        device.settings.buffer.max_bytes = SMALL_BYTES;
        device.watch.name = format!("{fault:?}");
        device.net.link.set(Link::Refused);
        device.start();
        device.run_ms(25_000);
        device.net.cloud.borrow_mut().create(GROUP, &["large", "sim"]);
        device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 1, fault.clone());
        device.net.link.set(Link::Up(50));
        device.run_until(120_000, |device| !device.net.cloud.borrow().receipts.is_empty());
        device.net.link.set(Link::Refused);
        device.run_ms(200_000);
        assert!(device.agent.as_ref().unwrap().counts().0.dropped_total() > 1_000, "the buffer overflowed");
        assert!(device.in_bodies_alone() > 0, "{fault:?}: the batch in flight outlived its segment");
        end_of_an_overflow(&mut device);
    });
}

fn end_of_an_overflow(device: &mut Device) {
    device.net.link.set(Link::Up(50));
    device.settle(3_600_000);
    device.check_every_event_is_somewhere();
    // The markers are the last to be sent.
    device.run_ms(300_000);
    device.check_markers();
    device.check_server();
}

#[test]
fn a_clean_stop_waits_for_the_body_in_flight() {
    for fault in [Fault::DropAfter, Fault::Delay(60_000), Fault::DropBefore] {
        let mut device = device(74);
        device.watch.name = format!("{fault:?}");
        device.start();
        device.run_until(60_000, |device| receipts(device, "sim", Outcome::Acknowledged) > 0);
        device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 1, fault);
        device.run_until(60_000, |device| receipts(device, "sim", Outcome::Lost) > 0);
        let begun_ms = device.clock.monotonic_ms.get();
        device.stop();
        let took_ms = device.clock.monotonic_ms.get() - begun_ms;
        assert!(took_ms <= 10_500, "the stop took {took_ms} ms");
        let answered = {
            let cloud = device.net.cloud.borrow();
            let lost = cloud.receipts.iter().find(|receipt| receipt.outcome == Outcome::Lost).expect("it was lost");
            let again = |receipt: &&Receipt| receipt.sha256 == lost.sha256 && receipt.outcome == Outcome::Acknowledged;
            cloud.receipts.iter().find(again).is_some()
        };
        assert!(answered, "{}: the stop did not wait for the body in flight", device.watch.name);
        device.clock.pass(1_000);
        device.start();
        device.settle(600_000);
        device.check_all_there();
        device.check_every_event_is_somewhere();
    }
}

#[test]
fn a_clean_stop_without_a_link_is_over_after_ten_seconds() {
    for link in [Link::BlackHole, Link::Refused, Link::Slow(200)] {
        let mut device = device(75);
        device.start();
        device.run_until(60_000, |device| receipts(device, "sim", Outcome::Acknowledged) > 0);
        device.net.link.set(link);
        device.step();
        let begun_ms = device.clock.monotonic_ms.get();
        device.stop();
        let took_ms = device.clock.monotonic_ms.get() - begun_ms;
        assert!(took_ms <= 10_500, "{link:?}: the stop took {took_ms} ms");
        device.clock.pass(1_000);
        device.net.link.set(Link::Up(50));
        device.start();
        device.settle(600_000);
        device.check_all_there();
    }
}

#[test]
fn a_body_whose_answer_was_lost_in_any_way_comes_again_as_it_was() {
    let error = |status: u16, code: &str| Fault::ErrorAfter { status, code: code.to_owned() };
    let faults = [
        Fault::DropAfter,
        Fault::Delay(60_000),
        Fault::NoRequestId,
        error(500, "InternalFailure"),
        error(503, "ServiceUnavailableException"),
        error(504, "GatewayTimeout"),
    ];
    each(faults, |fault| {
        let mut device = device(76);
        device.watch.name = format!("{fault:?}");
        device.start();
        device.run_until(60_000, |device| receipts(device, "sim", Outcome::Acknowledged) > 0);
        device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 2, fault.clone());
        device.run_ms(30_000);
        device.settle(600_000);
        device.check_all_there();
        device.check_every_event_is_somewhere();
        let cloud = device.net.cloud.borrow();
        let lost: Vec<&Receipt> = cloud.receipts.iter().filter(|receipt| receipt.outcome == Outcome::Lost).collect();
        assert_eq!(lost.len(), 2, "{}", device.watch.name);
        assert_eq!(lost[0].sha256, lost[1].sha256, "{}", device.watch.name);
        let (_, more) = device.watch.stored();
        assert_eq!(more, 2 * lost[0].identities.len() as u64, "{}: two more copies of one body", device.watch.name);
    });
}

#[test]
fn a_link_that_changes_between_bodies_repeats_only_what_it_lost() {
    each(0..16_u64, |seed| {
        let mut device = Device::new(80 + seed, "30s", STATE);
        device.net.exporters.borrow_mut().insert("exporter:9100".to_owned(), Exporter::noisy("sim", &[300]));
        let links = [Link::Up(50), Link::BlackHole, Link::Slow(4_000), Link::Refused, Link::Up(900), Link::Up(3_000)];
        let course = (0..30).map(|at| links[((seed * 7 + at * at * 3 + at) % 6) as usize]);
        device.net.next_links.borrow_mut().extend(course);
        device.start();
        device.run_ms(180_000);
        device.net.spare();
        device.settle(3_600_000);
        device.check_server();
        device.check_all_there();
        device.check_every_event_is_somewhere();
    });
}
