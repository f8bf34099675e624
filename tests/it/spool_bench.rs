//! What a full spool costs to open and to drain, and a record to append. Prints figures; run it with
//! `cargo test --release --test it spool_bench -- --ignored --nocapture`.

use crate::sim_disk::SimDisk;
use crate::spool::{ack, key, next_batch, settings};
use crate::spool_golden::{again, node_scrapes};
use crate::spool_layouts::Layouts;
use promwatch::env::RealDisk;
use promwatch::model::Event;
use promwatch::spool::{BatchLimits, NewRecord, Spool};
use std::path::Path;
use std::time::Instant;

const MAX_BYTES: u64 = 64 << 20;

#[test]
#[ignore = "takes minutes and writes 64 MiB"]
#[allow(clippy::disallowed_methods)]
fn a_spool_of_64_mib() {
    let state = std::env::temp_dir().join(format!("promwatch-bench-{}", std::process::id()));
    let keys = [key("node"), key("redis")];
    let (mut layouts, mut pages) = (Layouts::default(), Vec::new());
    for (at, (meta, events)) in node_scrapes().into_iter().enumerate() {
        let event = |event: &Event| layouts.event(&keys[at % 2], event.timestamp_ms, false, &event.message());
        pages.push((meta, events.iter().map(event).collect::<Vec<_>>()));
    }
    // An even number, so that each page has its key.
    pages.truncate(pages.len() / 2 * 2);
    let (mut spool, _) = Spool::open(&state, &settings(MAX_BYTES), &RealDisk).expect("opens");
    let (mut records, mut events) = (0_u64, 0_u64);
    let begin = Instant::now();
    while spool.pending().bytes < MAX_BYTES - (2 << 20) {
        let (meta, page) = &pages[records as usize % pages.len()];
        let shift_ms = records as i64 * 60_000;
        let key = &keys[records as usize % 2];
        let page: Vec<Event> = page.iter().map(|event| event.shifted(shift_ms)).collect();
        let new = NewRecord {
            key,
            boot_id: meta.boot_id,
            monotonic_ms: records * 60_000,
            wall_ms: meta.wall_ms + shift_ms,
            clock_confirmed: true,
            events: &page,
        };
        spool.append(&new, &RealDisk).expect("appends");
        (records, events) = (records + 1, events + page.len() as u64);
    }
    let written = begin.elapsed();
    spool.close(&RealDisk).expect("closes");

    let begin = Instant::now();
    let (mut spool, recovery) = Spool::open(&state, &settings(MAX_BYTES), &RealDisk).expect("opens");
    let opened = begin.elapsed();
    assert_eq!((recovery.records, recovery.events, recovery.damaged), (records, events, 0));

    let begin = Instant::now();
    let (mut batches, mut text_bytes) = (0_u64, 0_u64);
    while let Some(batch) = next_batch(&mut spool, BatchLimits::default(), &RealDisk).expect("reads") {
        text_bytes += batch.records.iter().map(|record| record.meta.billed_bytes).sum::<u64>();
        batches += 1;
        ack(&mut spool, &batch, &RealDisk).expect("acknowledges");
    }
    let drained = begin.elapsed();
    assert_eq!(spool.pending().records, 0);
    std::fs::remove_dir_all(&state).expect("removed");
    println!("{records} records, {events} events: written in {written:?}, opened in {opened:?}");
    println!("drained in {drained:?}: {batches} batches, {} MB of events", text_bytes / 1_000_000);
}

/// Appends and syncs `PROMWATCH_RECORDS` scrapes of a node_exporter. Counted under callgrind once with 1 and once with 101, the
/// difference is what a hundred records cost.
#[test]
#[ignore = "counted from outside"]
fn records_of_a_node_exporter() {
    let records = std::env::var("PROMWATCH_RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(101);
    let (scrapes, disk) = (node_scrapes(), SimDisk::new());
    let (mut spool, _) = Spool::open(Path::new("/state"), &settings(8 << 20), &disk).expect("opens");
    for (meta, events) in scrapes[1..].iter().cycle().take(records) {
        spool.append(&again(meta, events), &disk).expect("appends");
        spool.sync(&disk).expect("syncs");
    }
    assert_eq!(spool.pending().records, records as u64);
}
