//! What a full spool costs to open and to drain. Prints figures; run it with
//! `cargo test --release --test it spool_bench -- --ignored --nocapture`.

use crate::spool::{ack, key, next_batch, settings};
use crate::spool_golden::golden;
use promwatch::env::RealDisk;
use promwatch::model::Event;
use promwatch::spool::{BatchLimits, NewRecord, Spool, reader};
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

const MAX_BYTES: u64 = 64 << 20;

#[test]
#[ignore = "takes minutes and writes 64 MiB"]
#[allow(clippy::disallowed_methods)]
fn a_spool_of_64_mib() {
    let state = std::env::temp_dir().join(format!("promwatch-bench-{}", std::process::id()));
    let mut pages = Vec::new();
    reader::read(Path::new("/state"), &golden("v1/node"), &mut |record| {
        pages.push((record.meta.clone(), record.events.clone()));
        true
    })
    .expect("reads");
    let keys = [key("node"), key("redis")];
    let (mut spool, _) = Spool::open(&state, &settings(MAX_BYTES), &RealDisk).expect("opens");
    let (mut records, mut events) = (0_u64, 0_u64);
    let begin = Instant::now();
    while spool.pending().bytes < MAX_BYTES - (2 << 20) {
        let (meta, page) = &pages[records as usize % pages.len()];
        let shift_ms = records as i64 * 60_000;
        let key = &keys[records as usize % 2];
        let page: Vec<Event> = page
            .iter()
            .map(|event| {
                Event::text(
                    Rc::clone(key),
                    event.timestamp_ms + shift_ms,
                    false,
                    &event
                        .message()
                        .replace(&event.timestamp_ms.to_string(), &(event.timestamp_ms + shift_ms).to_string()),
                )
            })
            .collect();
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
