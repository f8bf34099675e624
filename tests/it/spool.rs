//! The spool from outside: what goes in comes out, within its bounds, over restarts and faults of the disk.

use crate::sim_disk::{Faults, SimDisk};
use crate::spool_layouts::Layouts;
use promwatch::env::Disk;
use promwatch::model::settings::BufferSettings;
use promwatch::model::{Event, StreamKey};
use promwatch::spool::{
    BatchLimits, LossReason, NewRecord, Outcome, Ranges, Recovery, Spool, SpoolBatch, SpoolError, boot_checksum, reader,
};
use std::path::Path;
use std::rc::Rc;

const STATE: &str = "/var/lib/promwatch";

pub fn settings(max_bytes: u64) -> BufferSettings {
    BufferSettings { max_bytes, ..BufferSettings::default() }
}

pub fn key(stream: &str) -> Rc<StreamKey> {
    Rc::new(StreamKey { group: "/edge/prom".into(), stream: stream.into() })
}

/// Events of one scrape, told apart by `n`, as a small exporter's: layouts with numbers.
pub fn events(key: &Rc<StreamKey>, n: u64, count: usize) -> Vec<Event> {
    let timestamp_ms = 1_763_820_000_000 + n as i64 * 10_000;
    let mut layouts = Layouts::default();
    let message = |at: usize| {
        format!(
            r#"{{"Timestamp":"{timestamp_ms}","Version":"0","cpu":"{at}","host":"pi4","node_load":{n}.{at},"x":{}}}"#,
            n * 1_000_003 % 977
        )
    };
    let event = |at: usize| layouts.event(key, timestamp_ms, at % 7 == 3, &message(at));
    (0..count).map(event).collect()
}

pub fn append(
    spool: &mut Spool,
    disk: &dyn Disk,
    key: &Rc<StreamKey>,
    n: u64,
    count: usize,
) -> Result<u64, SpoolError> {
    let events = events(key, n, count);
    let wall_ms = events[0].timestamp_ms;
    let new =
        NewRecord { key, boot_id: [9; 16], monotonic_ms: n * 10_000, wall_ms, clock_confirmed: true, events: &events };
    spool.append(&new, disk)
}

/// The next batch of any stream and age.
pub fn next_batch(spool: &mut Spool, limits: BatchLimits, disk: &dyn Disk) -> Result<Option<SpoolBatch>, SpoolError> {
    spool.next_batch(&|_| true, &|_| false, limits, disk)
}

/// The numbers of a batch's events.
pub fn numbers(batch: &SpoolBatch) -> Ranges {
    let mut numbers = Ranges::default();
    for record in &batch.records {
        assert_eq!(record.pending.len(), record.events.len() as u64);
        record.pending.iter().for_each(|(from, to)| numbers.insert(from, to));
    }
    numbers
}

/// The whole batch was delivered.
pub fn ack(spool: &mut Spool, batch: &SpoolBatch, disk: &dyn Disk) -> Result<(), SpoolError> {
    let numbers = numbers(batch);
    let (events, written) = spool.settle(Outcome::Delivered, &numbers, disk);
    assert_eq!(events, numbers.len(), "what was given out is pending");
    written
}

/// The records with these numbers and so many events each were delivered.
pub fn ack_records(spool: &mut Spool, sequences: &[u64], events: u64, disk: &dyn Disk) -> Result<(), SpoolError> {
    let mut numbers = Ranges::default();
    sequences.iter().for_each(|sequence| numbers.insert(*sequence, sequence + events));
    spool.settle(Outcome::Delivered, &numbers, disk).1
}

/// Bounds without any age.
pub fn bounds(spool: &mut Spool, disk: &dyn Disk) -> Vec<promwatch::spool::Loss> {
    spool.enforce_bounds(&|_| None, disk)
}

fn open(disk: &SimDisk, max_bytes: u64) -> (Spool, Recovery) {
    Spool::open(Path::new(STATE), &settings(max_bytes), disk).expect("opens")
}

/// Sequence, stream and messages of all that is pending, as `buffer cat` sees it.
fn listed(disk: &SimDisk) -> Vec<(u64, String, Vec<Event>)> {
    let mut records = Vec::new();
    reader::read(Path::new(STATE), disk, &mut |record| {
        records.push((record.meta.sequence, record.meta.key.stream.clone(), record.events.clone()));
        true
    })
    .expect("reads");
    records
}

#[test]
fn nothing_is_written_before_the_first_append() {
    let disk = SimDisk::new();
    let (mut spool, recovery) = open(&disk, 1 << 20);
    assert_eq!(recovery, Recovery::default());
    assert_eq!(next_batch(&mut spool, BatchLimits::default(), &disk).expect("reads"), None);
    assert!(bounds(&mut spool, &disk).is_empty());
    spool.close(&disk).expect("closes");
    assert_eq!(disk.writes_and_syncs(), (0, 0));
}

#[test]
fn what_goes_in_comes_out_in_order_and_byte_by_byte() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 1 << 20);
    let keys = [key("node"), key("redis")];
    for n in 0..400 {
        let sequence = append(&mut spool, &disk, &keys[n as usize % 2], n, 30).expect("appends");
        assert_eq!(sequence, n * 30);
    }
    spool.sync(&disk).expect("syncs");
    assert_eq!((spool.pending().records, spool.pending().events), (400, 12_000));
    let listed = listed(&disk);
    assert_eq!(listed.len(), 400);
    for (n, (sequence, stream, got)) in listed.iter().enumerate() {
        let key = &keys[n % 2];
        assert_eq!((*sequence, stream), (n as u64 * 30, &key.stream));
        assert_eq!(*got, events(key, n as u64, 30));
    }
    // The same after a restart, through batches, the oldest stream first.
    drop(spool);
    let (mut spool, recovery) = open(&disk, 1 << 20);
    assert_eq!((recovery.records, recovery.events, recovery.damaged, recovery.torn), (400, 12_000, 0, 0));
    let limits = BatchLimits { events: 300, ..BatchLimits::default() };
    let mut next = [0, 1];
    while let Some(batch) = next_batch(&mut spool, limits, &disk).expect("reads") {
        assert_eq!(next_batch(&mut spool, limits, &disk).expect("reads"), Some(batch.clone()), "only a look");
        assert!(batch.records.len() <= 10);
        let stream = usize::from(batch.key == keys[1]);
        for record in &batch.records {
            assert_eq!(record.events, events(&keys[stream], next[stream], 30));
            next[stream] += 2;
        }
        ack(&mut spool, &batch, &disk).expect("acknowledges");
    }
    assert_eq!(next, [400, 401]);
    assert_eq!(spool.pending().records, 0);
    assert!(!disk.paths().iter().any(|path| path.to_string_lossy().contains("seg-")), "{:?}", disk.paths());
    assert_eq!(append(&mut spool, &disk, &keys[0], 1, 1).expect("appends"), 12_000, "numbers go on");
    drop(spool);
    assert_eq!(open(&disk, 1 << 20).0.next_sequence(), 12_001);
}

#[test]
fn acknowledged_records_stay_so_over_a_restart() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 1 << 20);
    let key = key("node");
    let sequences: Vec<u64> = (0..10).map(|n| append(&mut spool, &disk, &key, n, 5).expect("appends")).collect();
    ack_records(&mut spool, &sequences[2..5], 5, &disk).expect("acknowledges");
    ack_records(&mut spool, &[sequences[8]], 5, &disk).expect("acknowledges");
    drop(spool); // kill -9
    let (spool, recovery) = open(&disk, 1 << 20);
    assert_eq!((recovery.records, recovery.losses.len()), (6, 0));
    let left: Vec<u64> = listed(&disk).iter().map(|(sequence, ..)| sequence / 5).collect();
    assert_eq!(left, [0, 1, 5, 6, 7, 9]);
    assert_eq!(spool.next_sequence(), 50);
}

#[test]
fn a_lost_journal_costs_duplicates_and_never_an_event() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 1 << 20);
    let key = key("node");
    let sequences: Vec<u64> = (0..10).map(|n| append(&mut spool, &disk, &key, n, 5).expect("appends")).collect();
    spool.sync(&disk).expect("syncs");
    ack_records(&mut spool, &sequences[..9], 5, &disk).expect("acknowledges");
    drop(spool);
    let journal = disk.paths().into_iter().find(|path| path.to_string_lossy().contains("acks-")).expect("a journal");
    disk.damage(&journal, |bytes| bytes.fill(0x41));
    let (spool, recovery) = open(&disk, 1 << 20);
    assert_eq!((recovery.records, recovery.losses.len(), spool.next_sequence()), (10, 0, 50));
}

#[test]
fn the_oldest_segments_go_when_it_is_full_and_every_event_is_counted() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 1 << 20);
    let key = key("node");
    let (mut lost, mut n) = (0, 0);
    while lost < 20_000 {
        append(&mut spool, &disk, &key, n, 100).expect("appends");
        n += 1;
        assert!(disk.used_bytes() <= 1 << 20, "{} bytes", disk.used_bytes());
        for loss in bounds(&mut spool, &disk) {
            assert_eq!((loss.reason, loss.key.as_ref()), (LossReason::MaxBytes, Some(&key)));
            assert_eq!(loss.from_ms, 1_763_820_000_000 + lost as i64 / 100 * 10_000);
            lost += loss.events;
            assert_eq!(loss.to_ms, 1_763_820_000_000 + (lost as i64 / 100 - 1) * 10_000);
        }
        assert_eq!(spool.pending().events + lost, n * 100);
    }
    spool.sync(&disk).expect("syncs");
    drop(spool);
    let (spool, recovery) = open(&disk, 1 << 20);
    assert_eq!((recovery.losses.len(), recovery.events), (0, n * 100 - lost), "a drop is not told twice");
    assert_eq!(spool.next_sequence(), n * 100);
}

#[test]
fn a_damaged_sector_costs_the_records_in_it_and_they_are_counted() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 8 << 20);
    let key = key("node");
    for n in 0..200 {
        append(&mut spool, &disk, &key, n, 100).expect("appends");
    }
    spool.sync(&disk).expect("syncs");
    let segment = disk.paths().into_iter().next().expect("a segment");
    let good = disk.content(&segment).expect("content");
    drop(spool);
    for sector in 0..good.len() / 512 {
        let image = disk.fork();
        image.damage(&segment, |bytes| bytes[sector * 512..(sector + 1) * 512].fill(0xee));
        let (mut spool, recovery) = open(&image, 8 << 20);
        let mut lost: u64 = recovery.losses.iter().map(|loss| loss.events).sum();
        let mut got = 0;
        while let Some(batch) = next_batch(&mut spool, BatchLimits::default(), &image).expect("reads") {
            for record in &batch.records {
                assert_eq!(record.events, events(&key, record.meta.sequence / 100, 100));
                got += 100;
            }
            ack(&mut spool, &batch, &image).expect("acknowledges");
        }
        lost += bounds(&mut spool, &image).iter().map(|loss| loss.events).sum::<u64>();
        assert_eq!(got + lost, 20_000, "sector {sector}");
        // Records are 130 bytes here, so a sector touches at most five of them; shapes are there twice.
        assert!(lost <= 500, "sector {sector}: {lost} events lost");
        assert!(recovery.damaged > 0, "sector {sector}");
    }
}

#[test]
fn a_full_disk_is_said_and_left_alone_until_there_is_room() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 1 << 20);
    let key = key("node");
    disk.set_faults(Faults { capacity: Some(6_000), ..Faults::default() });
    let mut taken = Vec::new();
    for n in 0..40 {
        match append(&mut spool, &disk, &key, n, 40) {
            Ok(_) => taken.push(n),
            Err(error) => assert!(matches!(error, SpoolError::NoSpace(_)), "{error}"),
        }
    }
    assert!(taken.len() > 3 && taken.len() < 40, "{taken:?}");
    spool.sync(&disk).expect("what was taken can be made certain");
    assert!(disk.paths().len() < 5, "{:?}", disk.paths());
    // Acknowledging and removing work on a full disk.
    let batch = next_batch(&mut spool, BatchLimits::default(), &disk).expect("reads").expect("a batch");
    let two: Vec<u64> = batch.records[..2].iter().map(|record| record.meta.sequence).collect();
    let _ = ack_records(&mut spool, &two, 40, &disk);
    disk.set_faults(Faults::default());
    append(&mut spool, &disk, &key, 100, 40).expect("appends again");
    taken.push(100);
    spool.sync(&disk).expect("syncs");
    let got: Vec<Vec<Event>> = listed(&disk).into_iter().map(|(.., events)| events).collect();
    let expected: Vec<Vec<Event>> = taken.iter().map(|n| events(&key, *n, 40)).collect();
    let first = |all: &[Vec<Event>]| all.iter().map(|events| events[0].timestamp_ms).collect::<Vec<_>>();
    assert!(got.ends_with(&expected[2..]), "{:?} of {:?}", first(&got), first(&expected));
    let all: Vec<u64> = spool.streams().iter().map(|stream| stream.records).collect();
    assert_eq!(all, [taken.len() as u64 - 2]);
}

#[test]
fn a_full_disk_is_emptied_by_acknowledging() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 1 << 20);
    let key = key("node");
    let mut n = 0;
    disk.set_faults(Faults { capacity: Some(5_000), ..Faults::default() });
    while append(&mut spool, &disk, &key, n, 40).is_ok() {
        n += 1;
    }
    disk.set_faults(Faults { capacity: Some(disk.used_bytes()), ..Faults::default() });
    let batch = next_batch(&mut spool, BatchLimits::default(), &disk).expect("reads").expect("a batch");
    assert_eq!(batch.records.len() as u64, n);
    let _ = ack(&mut spool, &batch, &disk);
    assert!(disk.used_bytes() < 1_000, "{}", disk.used_bytes());
    drop(spool);
    let (spool, recovery) = open(&disk.fork(), 1 << 20);
    assert_eq!((recovery.records, recovery.losses.len(), spool.next_sequence()), (0, 0, n * 40));
}

#[test]
fn after_a_failed_sync_the_records_are_written_again_elsewhere() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 1 << 20);
    let key = key("node");
    for n in 0..6 {
        append(&mut spool, &disk, &key, n, 40).expect("appends");
    }
    spool.sync(&disk).expect("syncs");
    for n in 6..9 {
        append(&mut spool, &disk, &key, n, 40).expect("appends");
    }
    disk.set_faults(Faults { eio_at: Some(disk.operations()), ..Faults::default() });
    spool.sync(&disk).expect("the second file takes them");
    append(&mut spool, &disk, &key, 9, 40).expect("appends");
    spool.sync(&disk).expect("syncs");
    // Whatever became of the unsynced part of the first file, nothing is missing and nothing is there twice.
    let mut images = 0;
    disk.for_each_image(&mut |what, image| {
        images += 1;
        let got: Vec<Vec<Event>> = listed(&image).into_iter().map(|(.., events)| events).collect();
        let expected: Vec<Vec<Event>> = (0..10).map(|n| events(&key, n, 40)).collect();
        assert!(got == expected, "{what}");
    });
    assert!(images > 5, "{images}");
    let batch = next_batch(&mut spool, BatchLimits::default(), &disk).expect("reads").expect("a batch");
    assert_eq!(batch.records.len(), 10);
}

#[test]
fn while_every_sync_fails_the_records_stay_in_memory_and_can_be_delivered() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 1 << 20);
    let key = key("node");
    for n in 0..3 {
        append(&mut spool, &disk, &key, n, 10).expect("appends");
    }
    disk.set_faults(Faults { eio_from: Some(disk.operations()), ..Faults::default() });
    assert!(matches!(spool.sync(&disk), Err(SpoolError::Io(_))));
    assert!(append(&mut spool, &disk, &key, 3, 10).is_err());
    assert_eq!(spool.pending().records, 3);
    let batch = next_batch(&mut spool, BatchLimits::default(), &disk).expect("from memory").expect("a batch");
    assert_eq!(batch.records[1].events, events(&key, 1, 10));
    let _ = ack_records(&mut spool, &[batch.records[0].meta.sequence], batch.records[0].meta.events.into(), &disk);
    disk.set_faults(Faults::default());
    spool.sync(&disk).expect("heals");
    append(&mut spool, &disk, &key, 4, 10).expect("appends");
    spool.sync(&disk).expect("syncs");
    let numbers: Vec<u64> = listed(&disk).iter().map(|(sequence, ..)| *sequence).collect();
    assert!(numbers.ends_with(&[10, 20, 30]), "{numbers:?}");
}

#[test]
fn a_record_that_never_fits_is_refused_and_nothing_is_dropped_for_it() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 20_000);
    let key = key("node");
    append(&mut spool, &disk, &key, 1, 20).expect("appends");
    let mut state = 1_u64;
    let noise: String = (0..60_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'!' + (state >> 58) as u8)
        })
        .collect();
    let event = Event::text(Rc::clone(&key), 0, false, &noise);
    let events = [event];
    let new =
        NewRecord { key: &key, boot_id: [0; 16], monotonic_ms: 0, wall_ms: 0, clock_confirmed: true, events: &events };
    assert!(matches!(spool.append(&new, &disk), Err(SpoolError::TooLarge)));
    assert!(matches!(spool.append(&NewRecord { events: &[], ..new }, &disk), Err(SpoolError::TooLarge)));
    assert!(bounds(&mut spool, &disk).is_empty());
    append(&mut spool, &disk, &key, 2, 20).expect("goes on");
    assert_eq!((spool.pending().records, listed(&disk).len()), (2, 2));
}

#[test]
fn a_segment_that_cannot_be_read_for_a_while_waits_and_others_go_on() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 16 << 10);
    let key = key("node");
    for n in 0..30 {
        append(&mut spool, &disk, &key, n, 60).expect("appends");
    }
    spool.sync(&disk).expect("syncs");
    drop(spool);
    let (mut spool, recovery) = open(&disk, 16 << 10);
    assert!(spool.pending().segments > 2);
    disk.set_faults(Faults { eio_at: Some(disk.operations()), ..Faults::default() });
    assert!(matches!(next_batch(&mut spool, BatchLimits::default(), &disk), Err(SpoolError::Io(_))));
    let batch = next_batch(&mut spool, BatchLimits::default(), &disk).expect("reads").expect("another segment");
    assert!(batch.records[0].meta.sequence > 0);
    assert_eq!(spool.pending().records, recovery.records, "nothing is given up");
    assert!(bounds(&mut spool, &disk).is_empty());
    let batch = next_batch(&mut spool, BatchLimits::default(), &disk).expect("reads").expect("all");
    assert_eq!(batch.records[0].meta.sequence, 0);
    let mut records = 0;
    while let Some(batch) = next_batch(&mut spool, BatchLimits::default(), &disk).expect("reads") {
        records += batch.records.len() as u64;
        ack(&mut spool, &batch, &disk).expect("acknowledges");
    }
    assert_eq!(records, recovery.records);
}

#[test]
fn whatever_lies_in_the_folder_it_opens() {
    let mut state = 7_u64;
    let mut random = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % n
    };
    let source = SimDisk::new();
    let (mut spool, _) = open(&source, 1 << 20);
    for n in 0..8 {
        append(&mut spool, &source, &key("node"), n, 20).expect("appends");
    }
    ack_records(&mut spool, &[0, 20], 20, &source).expect("acknowledges");
    let good: Vec<Vec<u8>> = source.paths().iter().filter_map(|path| source.content(path)).collect();
    for round in 0..300 {
        let disk = SimDisk::new();
        for name in [
            "seg-0000000000000000.pws",
            "seg-0000000000000050.pws",
            "seg-0000000000000050-01.pws",
            "acks-0000000000000000.pwa",
        ] {
            let mut bytes = good[random(good.len() as u64) as usize].clone();
            for _ in 0..random(4) {
                let at = random(bytes.len() as u64) as usize;
                match random(3) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes[at] = random(256) as u8,
                    _ => bytes.rotate_left(at),
                }
            }
            disk.put(&Path::new(STATE).join("spool").join(name), &bytes);
        }
        let (mut spool, _) = open(&disk, 1 << 20);
        while let Some(batch) = next_batch(&mut spool, BatchLimits::default(), &disk).expect("reads") {
            for record in &batch.records {
                assert_eq!(record.events, events(&key("node"), record.meta.sequence / 20, 20), "round {round}");
            }
            ack(&mut spool, &batch, &disk).expect("acknowledges");
        }
        let sequence = append(&mut spool, &disk, &key("node"), 5, 1).expect("appends");
        spool.close(&disk).expect("closes");
        assert_eq!(listed(&disk).iter().map(|(sequence, ..)| *sequence).collect::<Vec<_>>(), [sequence]);
    }
}

#[test]
fn what_this_boot_scraped_ages_by_the_clock_since_boot_whatever_the_wall_clock_says() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 1 << 20);
    let key = key("node");
    for n in 0..10 {
        let events = events(&key, n, 3);
        let (boot_id, monotonic_ms) = ([if n < 2 { 1 } else { 2 }; 16], 100_000 + n * 10_000);
        let new = NewRecord { key: &key, boot_id, monotonic_ms, wall_ms: -5, clock_confirmed: false, events: &events };
        spool.append(&new, &disk).expect("appends");
    }
    spool.sync(&disk).expect("syncs");
    drop(spool);
    let (mut spool, _) = open(&disk, 1 << 20);
    assert!(bounds(&mut spool, &disk).is_empty(), "no age is known");
    let losses = spool.enforce_bounds(&|boot| (boot == boot_checksum(&[2; 16])).then_some(145_000), &disk);
    assert_eq!((losses.len(), losses[0].events, losses[0].reason), (1, 9, LossReason::MaxAge));
    let left: Vec<u64> = listed(&disk).iter().map(|(sequence, ..)| sequence / 3).collect();
    assert_eq!(left, [0, 1, 5, 6, 7, 8, 9], "two of an earlier boot, and the younger ones of this");
}
