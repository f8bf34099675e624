//! Every event is in the books: damage of any segment, numbers that stand twice, room made under a body in flight, hints
//! that were made up, and how many steps it takes with many streams.

use crate::sim_disk::SimDisk;
use crate::spool::{ack, ack_records, append, bounds, events, key, next_batch, numbers, settings};
use crate::spool_golden::golden;
use promwatch::env::Disk as _;
use promwatch::spool::export::{self, Filter};
use promwatch::spool::{BatchLimits, Loss, LossReason, Outcome, Ranges, Recovery, Spool, reader};
use std::path::{Path, PathBuf};

const STATE: &str = "/state";

fn open(disk: &SimDisk, max_bytes: u64) -> (Spool, Recovery) {
    Spool::open(Path::new(STATE), &settings(max_bytes), disk).expect("opens")
}

fn total(losses: &[Loss]) -> u64 {
    losses.iter().map(|loss| loss.events).sum()
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|path| path.to_string_lossy().contains("seg-")).collect()
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(bytes).to_le_bytes()
}

/// Everything that can be delivered is; how many events.
fn drain(spool: &mut Spool, disk: &SimDisk) -> u64 {
    let mut events = 0;
    while let Some(batch) = next_batch(spool, BatchLimits::default(), disk).expect("reads") {
        events += numbers(&batch).len();
        ack(spool, &batch, disk).expect("acknowledges");
    }
    events
}

/// `count` records of 60 events each, in several segments of one process.
fn filled(disk: &SimDisk, count: u64) {
    let (mut spool, _) = open(disk, 64 << 10);
    for n in 0..count {
        append(&mut spool, disk, &key(["node", "redis"][n as usize % 2]), n, 60).expect("appends");
    }
    spool.sync(disk).expect("syncs");
}

/// The header that the first versions wrote: all since the process began seems unused.
fn make_old(disk: &SimDisk, unused_from: u64) {
    for path in segments(disk) {
        disk.damage(&path, |bytes| {
            bytes[40..48].copy_from_slice(&unused_from.to_le_bytes());
            bytes[64..72].fill(0);
            let sum = checksum(&bytes[..76]);
            bytes[76..80].copy_from_slice(&sum);
        });
    }
}

#[test]
fn damage_of_any_segment_of_a_process_is_counted() {
    for old in [false, true] {
        let start = SimDisk::new();
        filled(&start, 200);
        if old {
            make_old(&start, 0);
        }
        let all = segments(&start);
        assert!(all.len() > 4, "{}", all.len());
        for path in &all[..all.len() - 1] {
            let disk = start.fork();
            disk.damage(path, |bytes| bytes[1024..1536].fill(0xee));
            let (mut spool, recovery) = open(&disk, 64 << 10);
            let got = drain(&mut spool, &disk);
            let lost = total(&recovery.losses) + total(&bounds(&mut spool, &disk));
            assert!(lost > 0 && got + lost == 12_000, "{}, old {old}: {got} and {lost}", path.display());

            let disk = start.fork();
            disk.remove(path).expect("removed");
            let (mut spool, recovery) = open(&disk, 64 << 10);
            let lost = total(&recovery.losses);
            assert!(recovery.losses.iter().all(|loss| loss.reason == LossReason::Damaged && loss.key.is_some()));
            assert!(lost > 0 && recovery.events + lost == 12_000, "{}, old {old}: {lost}", path.display());
            assert_eq!(drain(&mut spool, &disk) + lost, 12_000);
            spool.close(&disk).expect("closes");
            assert_eq!(open(&disk, 64 << 10).1, Recovery::default(), "it is told once");
        }
    }
}

#[test]
fn the_first_segment_is_counted_where_the_journal_says_that_nothing_was_settled() {
    let disk = SimDisk::new();
    // What a power cut may leave of the first file: it is removed, and a journal without entries is begun for that.
    disk.put(&Path::new(STATE).join("spool/seg-0000000000000000.pws"), b"");
    filled(&disk, 200);
    let journal = disk.paths().into_iter().find(|path| path.to_string_lossy().contains("acks-")).expect("a journal");
    assert_eq!(disk.content(&journal).map(|bytes| bytes.len()), Some(48));
    disk.remove(&segments(&disk)[0]).expect("removed");
    let (_, recovery) = open(&disk, 64 << 10);
    assert!(recovery.events < 12_000 && recovery.events + total(&recovery.losses) == 12_000, "{recovery:?}");
}

#[test]
fn a_lost_segment_beside_numbers_that_were_jumped_over_is_counted() {
    for old in [false, true] {
        let start = golden("v2/newer");
        let before = open(&start, 64 << 10).1.events;
        filled(&start, 200);
        let ours: Vec<PathBuf> =
            segments(&start).into_iter().filter(|path| !golden("v2/newer").paths().contains(path)).collect();
        if old {
            for path in &ours {
                start.damage(path, |bytes| {
                    bytes[64..72].fill(0);
                    let sum = checksum(&bytes[..76]);
                    bytes[76..80].copy_from_slice(&sum);
                });
            }
        }
        assert_eq!(open(&start.fork(), 64 << 10).1.losses, []);
        for path in &ours[..ours.len() - 1] {
            let disk = start.fork();
            disk.remove(path).expect("removed");
            let (_, recovery) = open(&disk, 64 << 10);
            let lost = total(&recovery.losses);
            assert!(lost > 0 && recovery.events + lost == 12_000 + before, "{}, old {old}: {lost}", path.display());
        }
    }
}

#[test]
fn what_rots_or_vanishes_under_a_running_process_is_counted_and_not_pending_for_ever() {
    let start = SimDisk::new();
    filled(&start, 200);
    for (at, path) in segments(&start).iter().enumerate() {
        for vanish in [false, true] {
            let disk = start.fork();
            let (mut spool, recovery) = open(&disk, 64 << 10);
            assert_eq!(recovery.events, 12_000);
            if vanish {
                disk.remove(path).expect("removed");
            } else {
                disk.damage(path, |bytes| {
                    bytes[1_000 + at * 90..1_500 + at * 90].iter_mut().for_each(|byte| *byte ^= 0x77)
                });
            }
            let got = drain(&mut spool, &disk);
            let losses = bounds(&mut spool, &disk);
            assert!(losses.iter().all(|loss| loss.reason == LossReason::Damaged && loss.key.is_some()));
            assert!(got < 12_000 && got + total(&losses) == 12_000, "{}: {got}, {losses:?}", path.display());
            assert_eq!(spool.pending().events, 0);
            drop(spool);
            assert_eq!(open(&disk, 64 << 10).1.losses, [], "it is told once");
        }
    }
}

/// The frames of a segment's bytes: offset and length.
fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut found) = (80, Vec::new());
    while at < bytes.len() {
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let body = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().expect("4")) as usize;
        let len = 88 + u16_at(at + 80) + u16_at(at + 82) + 4 + body;
        if bytes[at + 5] == 1 {
            found.push((at, len));
        }
        at += len;
    }
    found
}

#[test]
fn numbers_that_stand_twice_in_a_segment_are_delivered_once() {
    let start = SimDisk::new();
    let (mut spool, _) = open(&start, 1 << 20);
    for n in 0..6 {
        append(&mut spool, &start, &key("node"), n, 10).expect("appends");
    }
    spool.sync(&start).expect("syncs");
    drop(spool);
    let path = segments(&start).remove(0);
    let good = start.content(&path).expect("content");
    for (at, len) in frames(&good) {
        for shift in [0_u64, 3, 7] {
            let disk = start.fork();
            let mut copy = good[at..at + len].to_vec();
            let sequence = u64::from_le_bytes(copy[16..24].try_into().expect("8")) + shift;
            copy[16..24].copy_from_slice(&sequence.to_le_bytes());
            let names = 88 + usize::from(copy[80]) + usize::from(copy[82]);
            let sum = checksum(&copy[..names]);
            copy[names..names + 4].copy_from_slice(&sum);
            disk.damage(&path, |bytes| bytes.extend_from_slice(&copy));
            let all = 60 + (sequence + 10).saturating_sub(60);
            let listed = reader::read(Path::new(STATE), &disk, &mut |_| true).expect("reads").events;
            let (mut spool, recovery) = open(&disk, 1 << 20);
            let got = drain(&mut spool, &disk);
            assert_eq!((listed, recovery.events, got), (all, all, all), "a copy of {sequence} shifted by {shift}");
            assert_eq!((spool.pending().events, bounds(&mut spool, &disk)), (0, vec![]));
        }
    }
}

#[test]
fn room_is_made_under_a_body_in_flight_and_nothing_is_dropped_and_delivered() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 64 << 10);
    let key = key("node");
    for n in 0..80 {
        append(&mut spool, &disk, &key, n, 100).expect("appends");
    }
    // The oldest record is delivered in part; the rest of it and the next ones are in flight.
    let mut part = Ranges::default();
    part.insert(0, 30);
    assert_eq!(spool.settle(Outcome::Delivered, &part, &disk).0, 30);
    let limits = BatchLimits { events: 250, ..BatchLimits::default() };
    let batch = next_batch(&mut spool, limits, &disk).expect("reads").expect("a batch");
    let flying = numbers(&batch);
    assert_eq!(flying.iter().collect::<Vec<_>>(), [(30, 200)]);
    assert_eq!(batch.records[0].events, events(&key, 0, 100)[30..]);
    spool.pin(flying.clone());
    let (mut n, mut lost) = (80, 0);
    while lost == 0 {
        append(&mut spool, &disk, &key, n, 100).expect("appends");
        n += 1;
        lost = total(&spool.take_losses());
    }
    assert_eq!(spool.take_detached(), flying);
    assert_eq!(spool.pending().events + lost + 30 + 170, n * 100, "{lost} lost");
    // Killed now, they are lost and told; answered, they are not.
    let (_, recovery) = open(&disk.fork(), 64 << 10);
    assert_eq!((total(&recovery.losses), recovery.events), (170, spool.pending().events));
    assert_eq!(spool.settle(Outcome::Delivered, &flying, &disk).0, 0, "they were not pending here any more");
    spool.sync(&disk).expect("syncs");
    let (_, recovery) = open(&disk.fork(), 64 << 10);
    assert_eq!((recovery.losses, recovery.events), (vec![], spool.pending().events));
}

#[test]
fn hints_near_the_end_of_numbers_hide_nothing_and_lead_nobody_astray() {
    let start = SimDisk::new();
    filled(&start, 100);
    let id = start.content(&segments(&start)[0]).expect("content")[16..32].to_vec();
    let entry = |from: u64, to: u64| {
        let mut entry = [&[1, 0, 0, 0][..], &from.to_le_bytes(), &to.to_le_bytes()].concat();
        let sum = checksum(&[&id[..], &entry].concat());
        entry.extend_from_slice(&sum);
        [vec![0; 48], entry].concat()
    };
    let spool = |name: &str| Path::new(STATE).join("spool").join(name);
    for journal in [(0, u64::MAX), (0, 1 << 62), (0, 1 << 56), (10, 1 << 50), (6_100, 1 << 62), (1 << 61, 1 << 62)] {
        for name in ["acks-ffffffffffffffff.pwa", "acks-0000000000000009.pwa"] {
            for segment in ["seg-ffffffffffffffff.pws", "seg-ffffffffffffffff-ff.pws", "seg-3fffffffffffffff.pws", ""] {
                let disk = start.fork();
                disk.put(&spool(name), &entry(journal.0, journal.1));
                if !segment.is_empty() {
                    disk.put(&spool(segment), b"");
                }
                let (mut spool, recovery) = open(&disk, 64 << 10);
                assert_eq!((recovery.events, recovery.losses), (6_000, vec![]), "{journal:?} {segment}");
                for n in 0..3 {
                    let sequence = append(&mut spool, &disk, &key("node"), n, 10).expect("appends");
                    assert_eq!(sequence, 6_000 + n * 10, "{journal:?} {segment}");
                }
                spool.close(&disk).expect("closes");
                let (mut spool, recovery) = open(&disk, 64 << 10);
                assert_eq!((recovery.events, recovery.losses), (6_030, vec![]), "{journal:?} {segment}");
                assert_eq!(drain(&mut spool, &disk), 6_030);
            }
        }
    }
}

#[test]
fn a_journal_of_many_ranges_is_not_written_anew_at_every_answer() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 16 << 20);
    for n in 0..2 {
        append(&mut spool, &disk, &key("node"), n, 10_000).expect("appends");
    }
    spool.sync(&disk).expect("syncs");
    for at in 0..6_000 {
        ack_records(&mut spool, &[at * 2], 1, &disk).expect("acknowledges");
    }
    let each = disk.written_bytes() / 6_000;
    assert!(each < 200, "{each} bytes are written for an answer");
}

#[test]
fn a_record_that_is_delivered_in_part_is_exported_dropped_and_listed_in_part() {
    let disk = SimDisk::new();
    disk.put(Path::new("/stick/other"), b"");
    let (mut spool, _) = open(&disk, 1 << 20);
    let key = key("node");
    for n in 0..3 {
        append(&mut spool, &disk, &key, n, 50).expect("appends");
    }
    let mut part = Ranges::default();
    [(0, 10), (20, 30), (60, 65)].into_iter().for_each(|(from, to)| part.insert(from, to));
    assert_eq!(spool.settle(Outcome::Delivered, &part, &disk).0, 25);
    assert_eq!(spool.settle(Outcome::Delivered, &part, &disk).0, 0);
    assert_eq!((spool.pending().events, spool.pending().records), (125, 3));
    spool.sync(&disk).expect("syncs");
    let report = reader::read(Path::new(STATE), &disk, &mut |record| {
        assert_eq!(record.events.len() as u64, record.pending.len());
        true
    });
    assert_eq!(report.expect("reads").events, 125);
    let file = Path::new("/stick/events.pwx");
    let exported = export::export(Path::new(STATE), file, &Filter::default(), 7, &disk, &mut |_| ()).expect("exports");
    assert_eq!((exported.events, exported.records), (125, 5));
    let mut seen = Ranges::default();
    export::read(file, &disk, &mut |record| {
        for ((from, to), all) in record.pending.iter().zip([&record.events]) {
            seen.insert(from, to);
            let n = from / 50;
            assert_eq!(*all, events(&key, n, 50)[(from - n * 50) as usize..(to - n * 50) as usize]);
        }
        true
    })
    .expect("reads");
    assert_eq!(seen, exported.numbers);
    // Imported elsewhere beside a whole copy of the first export: nothing comes twice.
    let mut to = Spool::open(Path::new("/other"), &settings(1 << 20), &disk).expect("opens").0;
    assert_eq!(to.import(file, &disk, &mut |_| ()).expect("imports").events, 125);
    assert_eq!((to.pending().events, to.pending().records), (125, 5));
    assert_eq!(to.import(file, &disk, &mut |_| ()).expect("imports").records, 0);
    assert_eq!(to.pending().events, 125);
    // What was exported goes; what was delivered before is not taken in again by its own spool.
    assert_eq!(spool.settle(Outcome::Exported, &exported.numbers, &disk).0, 125);
    assert_eq!(spool.pending().events, 0);
    assert_eq!(spool.import(file, &disk, &mut |_| ()).expect("imports").records, 5, "moved away, and back");
    assert_eq!(spool.pending().events, 125);
}

#[test]
fn a_large_record_is_read_once_for_all_bodies_that_are_cut_from_it() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 8 << 20);
    append(&mut spool, &disk, &key("node"), 1, 5_000).expect("appends");
    spool.close(&disk).expect("closes");
    let (mut spool, _) = open(&disk, 8 << 20);
    let mut bodies = 0;
    let mut reads = Vec::new();
    loop {
        let before = disk.operations();
        let Some(batch) = next_batch(&mut spool, BatchLimits { billed_bytes: 4_000, ..BatchLimits::default() }, &disk)
            .expect("reads")
        else {
            break;
        };
        reads.push(disk.operations() - before);
        let (from, _) = numbers(&batch).iter().next().expect("numbers");
        let mut body = Ranges::default();
        body.insert(from, from + 250);
        assert_eq!(spool.settle(Outcome::Delivered, &body, &disk).0, 250);
        bodies += 1;
    }
    assert_eq!(bodies, 20);
    assert!(reads[1..].iter().all(|reads| *reads == 0), "{reads:?}");
}

/// Bounded by bytes alone a stream's backlog of held records must not be read again and again.
#[cfg(debug_assertions)]
#[test]
fn opening_and_draining_take_steps_in_proportion_to_the_streams() {
    use promwatch::spool::steps;
    let cost = |streams: u64| {
        let disk = SimDisk::new();
        let (mut spool, _) = open(&disk, 64 << 20);
        for n in 0..streams * 3 {
            append(&mut spool, &disk, &key(&format!("stream {}", n % streams)), n, 1).expect("appends");
        }
        spool.close(&disk).expect("closes");
        let before = steps();
        let (mut spool, recovery) = open(&disk, 64 << 20);
        assert_eq!(recovery.events, streams * 3);
        let opened = steps() - before;
        let before = (steps(), disk.operations());
        let mut asked = std::cell::Cell::new(0_u64);
        let mut bodies = 0;
        loop {
            let may_send = |_: &promwatch::model::StreamKey| {
                asked.set(asked.get() + 1);
                true
            };
            let batch = spool.next_batch(&may_send, &|_| false, BatchLimits::default(), &disk).expect("reads");
            let Some(batch) = batch else { break };
            bodies += 1;
            ack(&mut spool, &batch, &disk).expect("acknowledges");
        }
        assert_eq!(spool.pending().events, 0);
        assert!(bodies <= streams * 3);
        (opened, steps() - before.0, disk.operations() - before.1, *asked.get_mut())
    };
    let (small, large) = (cost(1_000), cost(4_000));
    println!("steps to open and to drain, operations, questions: {small:?} with 1,000 streams, {large:?} with 4,000");
    for (small, large) in [(small.0, large.0), (small.1, large.1), (small.2, large.2)] {
        assert!(large <= small * 6, "{small} and {large}");
    }
    assert!(small.3 <= 3 * 1_000 && large.3 <= 3 * 4_000);
}

#[cfg(debug_assertions)]
#[test]
fn names_of_streams_that_are_gone_are_forgotten() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 64 << 10);
    for n in 0..5_000 {
        append(&mut spool, &disk, &key(&format!("stream {n}")), n, 1).expect("appends");
    }
    let pending = spool.pending().records;
    assert!(pending < 1_000 && (spool.known_streams() as u64) < 3 * pending + 100, "{}", spool.known_streams());
    assert_eq!(drain(&mut spool, &disk), pending);
}

#[test]
fn of_a_folder_that_is_gone_what_was_not_synced_comes_back_and_the_rest_is_counted() {
    let disk = SimDisk::new();
    filled(&disk, 100);
    let (mut spool, _) = open(&disk, 64 << 10);
    let batch = next_batch(&mut spool, BatchLimits::default(), &disk).expect("reads").expect("a batch");
    let flying = numbers(&batch);
    spool.pin(flying.clone());
    for n in 100..103 {
        append(&mut spool, &disk, &key("node"), n, 60).expect("appends");
    }
    let mut part = Ranges::default();
    part.insert(6_005, 6_010);
    spool.settle(Outcome::Delivered, &part, &disk).1.expect("writes");
    disk.paths().iter().for_each(|path| disk.remove(path).expect("removed"));
    let abandoned = spool.abandon();
    assert_eq!(abandoned.detached, flying);
    assert_eq!(total(&abandoned.losses), 6_000 - flying.len());
    assert!(abandoned.losses.iter().all(|loss| loss.reason == LossReason::Damaged && loss.key.is_some()));
    let back: Vec<usize> = abandoned.records.iter().map(|record| record.events.len()).collect();
    assert_eq!(back, [55, 60, 60]);
    assert_eq!(abandoned.records[1].events, events(&key("node"), 101, 60));
    assert_eq!(abandoned.records[0].pending.iter().collect::<Vec<_>>(), [(6_000, 6_005), (6_010, 6_060)]);
}

#[test]
fn held_and_left_out_records_cost_no_reading_and_keep_nobody_waiting() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, 256 << 10);
    for n in 0..1_200 {
        append(&mut spool, &disk, &key(if n < 1_199 { "held" } else { "node" }), n, 200).expect("appends");
    }
    spool.close(&disk).expect("closes");
    let (mut spool, _) = open(&disk, 256 << 10);
    assert!(spool.pending().segments > 4 && spool.pending().records == 1_200);
    let before = disk.operations();
    let batch = spool
        .next_batch(&|key| key.stream != "held", &|_| false, BatchLimits::default(), &disk)
        .expect("reads")
        .expect("the last record");
    assert_eq!((batch.key.stream.as_str(), batch.records.len()), ("node", 1));
    assert!(disk.operations() - before <= 4, "{}", disk.operations() - before);
    let before = disk.operations();
    let old = |age: &promwatch::spool::Age| age.last_ms < 1_763_820_000_000 + 1_198 * 10_000;
    let batch = spool.next_batch(&|_| true, &old, BatchLimits::default(), &disk).expect("reads").expect("a young one");
    assert_eq!(batch.records[0].meta.sequence, 1_198 * 200);
    assert!(disk.operations() - before <= 4, "{}", disk.operations() - before);
}
