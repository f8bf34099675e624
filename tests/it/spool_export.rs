//! Events on a stick: exported from one spool, imported into another, once.

use crate::sim_disk::{Faults, SimDisk};
use crate::spool::{ack, ack_records, append, bounds, events, key, next_batch, settings};
use promwatch::spool::export::{self, Filter};
use promwatch::spool::{BatchLimits, Outcome, Ranges, Spool, SpoolError};
use std::path::Path;

const FROM: &str = "/device";
const TO: &str = "/office";
const FILE: &str = "/stick/events.pwx";

fn open(state: &str, disk: &SimDisk) -> Spool {
    Spool::open(Path::new(state), &settings(1 << 20), disk).expect("opens").0
}

/// A spool with 40 records of two streams, exported to the file.
fn exported() -> (SimDisk, Spool, export::Exported) {
    let disk = SimDisk::new();
    disk.put(Path::new("/stick/other"), b"");
    let mut spool = open(FROM, &disk);
    for n in 0..40 {
        append(&mut spool, &disk, &key(["node", "redis"][n as usize % 2]), n, 200).expect("appends");
    }
    ack_records(&mut spool, &[0, 200], 200, &disk).expect("acknowledges");
    let mut told = 0;
    let done =
        export::export(Path::new(FROM), Path::new(FILE), &Filter::default(), 7, &disk, &mut |events| told = events)
            .expect("exports");
    assert_eq!((done.records, done.events, told), (38, 38 * 200, 38 * 200));
    assert_eq!(disk.content(Path::new(FILE)).map(|bytes| bytes.len() as u64), Some(done.bytes));
    (disk, spool, done)
}

fn drain(spool: &mut Spool, disk: &SimDisk) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(batch) = next_batch(spool, BatchLimits::default(), disk).expect("reads") {
        for record in &batch.records {
            let n = record.meta.monotonic_ms / 10_000;
            assert_eq!(record.events, events(&key(["node", "redis"][n as usize % 2]), n, 200));
            numbers.push(n);
        }
        ack(spool, &batch, disk).expect("acknowledges");
    }
    numbers.sort_unstable();
    numbers
}

#[test]
fn what_is_exported_is_imported_once() {
    let (disk, mut from, done) = exported();
    let mut seen = Ranges::default();
    let report = export::read(Path::new(FILE), &disk, &mut |record| {
        record.pending.iter().for_each(|(from, to)| seen.insert(from, to));
        true
    })
    .expect("reads");
    assert_eq!((report.records, report.damaged, report.cut), (38, 0, false));
    assert_eq!((seen, Some(report.id)), (done.numbers.clone(), from.id()));
    let again = export::export(Path::new(FROM), Path::new(FILE), &Filter::default(), 7, &disk, &mut |_| ());
    assert!(matches!(again, Err(SpoolError::Io(_))), "an export never replaces a file");

    let mut to = open(TO, &disk);
    let report = to.import(Path::new(FILE), &disk, &mut |_| ()).expect("imports");
    assert_eq!((report.records, report.already), (38, 0));
    assert_eq!(to.import(Path::new(FILE), &disk, &mut |_| ()).expect("imports").records, 0, "pending");
    assert_eq!(drain(&mut to, &disk), (2..40).collect::<Vec<u64>>());
    to.close(&disk).expect("closes");
    let mut to = open(TO, &disk);
    assert_eq!(to.import(Path::new(FILE), &disk, &mut |_| ()).expect("imports").already, 38, "delivered");

    assert_eq!(from.import(Path::new(FILE), &disk, &mut |_| ()).expect("imports").already, 38, "its own");
    let (events, moved) = from.settle(Outcome::Exported, &done.numbers, &disk);
    moved.expect("moves");
    assert_eq!(events, done.events);
    assert_eq!(from.pending().records, 0);
}

#[test]
fn a_filter_chooses_by_stream_and_time() {
    let (disk, ..) = exported();
    let first_ms = 1_763_820_000_000;
    let filter = Filter {
        since_ms: Some(first_ms + 100_000),
        until_ms: Some(first_ms + 200_000),
        group: Some("/edge/prom".into()),
        stream: Some("redis".into()),
    };
    let file = Path::new("/stick/some.pwx");
    let done = export::export(Path::new(FROM), file, &filter, 7, &disk, &mut |_| ()).expect("exports");
    assert!(done.numbers.iter().eq([11, 13, 15, 17, 19].map(|n| (n * 200, n * 200 + 200))));
    let none = Filter { group: Some("/other".into()), ..Filter::default() };
    let file = Path::new("/stick/none.pwx");
    let done = export::export(Path::new(FROM), file, &none, 7, &disk, &mut |_| ()).expect("exports");
    assert_eq!(done.events, 0);
    assert_eq!(export::read(file, &disk, &mut |_| true).expect("reads").records, 0);
}

#[test]
fn an_import_that_is_killed_anywhere_goes_on_and_takes_nothing_twice() {
    let (disk, ..) = exported();
    let reference = disk.fork();
    let begin = reference.operations();
    open(TO, &reference).import(Path::new(FILE), &reference, &mut |_| ()).expect("imports");
    for at in begin..reference.operations() {
        let disk = disk.fork();
        disk.set_faults(Faults { eio_from: Some(at), ..Faults::default() });
        if let Ok((mut spool, _)) = Spool::open(Path::new(TO), &settings(1 << 20), &disk) {
            let _ = spool.import(Path::new(FILE), &disk, &mut |_| ());
        }
        disk.kill();
        disk.set_faults(Faults::default());
        let mut spool = open(TO, &disk);
        spool.import(Path::new(FILE), &disk, &mut |_| ()).expect("imports the rest");
        assert_eq!(drain(&mut spool, &disk), (2..40).collect::<Vec<u64>>(), "killed before operation {at}");
    }
}

#[test]
fn an_export_that_is_interrupted_leaves_no_file_and_can_be_begun_again() {
    let (start, ..) = exported();
    let file = Path::new("/stick/second.pwx");
    let reference = start.fork();
    let begin = reference.operations();
    export::export(Path::new(FROM), file, &Filter::default(), 7, &reference, &mut |_| ()).expect("exports");
    for at in begin..reference.operations() {
        let disk = start.fork();
        disk.set_faults(Faults { eio_from: Some(at), ..Faults::default() });
        let _ = export::export(Path::new(FROM), file, &Filter::default(), 7, &disk, &mut |_| ());
        disk.set_faults(Faults::default());
        disk.for_each_image(&mut |what, image| {
            if image.content(file).is_some() {
                let report = export::read(file, &image, &mut |_| true).expect("reads");
                assert_eq!((report.records, report.cut, report.damaged), (38, false, 0), "{what}");
            } else {
                export::export(Path::new(FROM), file, &Filter::default(), 7, &image, &mut |_| ()).expect("exports");
            }
        });
    }
}

#[test]
fn a_damaged_or_cut_file_gives_what_is_whole() {
    let (disk, ..) = exported();
    let good = disk.content(Path::new(FILE)).expect("content");
    for at in (48..good.len()).step_by(97) {
        disk.damage(Path::new(FILE), |bytes| bytes[at] ^= 0x10);
        let report = export::read(Path::new(FILE), &disk, &mut |_| true).expect("reads");
        assert!(report.records >= 37, "byte {at}: {report:?}");
        assert!(report.damaged > 0 || report.cut, "byte {at}: {report:?}");
        disk.damage(Path::new(FILE), |bytes| bytes.clone_from(&good));
    }
    disk.damage(Path::new(FILE), |bytes| bytes.truncate(good.len() / 2));
    let report = export::read(Path::new(FILE), &disk, &mut |_| true).expect("reads");
    assert!(report.cut && report.records > 5, "{report:?}");
    disk.damage(Path::new(FILE), |bytes| bytes[20] ^= 1);
    assert!(export::read(Path::new(FILE), &disk, &mut |_| true).is_err());
}

#[test]
fn a_full_spool_drops_nothing_for_an_import() {
    let (disk, ..) = exported();
    let mut to = Spool::open(Path::new(TO), &settings(46_000), &disk).expect("opens").0;
    let error = to.import(Path::new(FILE), &disk, &mut |_| ()).expect_err("too much");
    assert!(matches!(error, SpoolError::NoSpace(_)), "{error}");
    let mut numbers = drain(&mut to, &disk);
    assert!(!numbers.is_empty());
    while numbers.len() < 38 {
        let _ = to.import(Path::new(FILE), &disk, &mut |_| ());
        let more = drain(&mut to, &disk);
        assert!(!more.is_empty(), "{numbers:?}");
        numbers.extend(more);
    }
    assert!(bounds(&mut to, &disk).is_empty());
    assert_eq!(numbers, (2..40).collect::<Vec<u64>>());
}
