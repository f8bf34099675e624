//! What the targets that forge a file of a spool share: it is listed, opened, drained, appended to and opened again.

#[path = "../../tests/it/sim_disk.rs"]
pub mod sim_disk;

use promwatch::model::settings::BufferSettings;
use promwatch::model::{Event, StreamKey};
use promwatch::spool::{BatchLimits, NewRecord, Outcome, Ranges, Spool, reader};
use sim_disk::SimDisk;
use std::path::Path;
use std::rc::Rc;

pub const STATE: &str = "/state";

/// The folder's files with their contents, whatever those are.
#[allow(dead_code)] // not by every target
pub fn check(files: &[(&str, &[u8])]) {
    let disk = SimDisk::new();
    for (name, bytes) in files {
        disk.put(&Path::new(STATE).join("spool").join(name), bytes);
    }
    let mut listed = 0;
    let report = reader::read(Path::new(STATE), &disk, &mut |record| {
        listed += record.events.len() as u64;
        true
    });
    let report = report.expect("reads");
    assert_eq!(report.events, listed);
    drain(&disk);
    // Whatever lies there, new events find a place and are there after a restart.
    append(&disk);
    let again = drain(&disk);
    // The files of two spools in one folder may come one after the other; all else comes once.
    assert!(again == 1 || again > 1 && report.unreadable > 0, "{again}");
    assert_eq!(drain(&disk), 0);
}

/// Opens, delivers everything, and holds the sums against each other; how many events left.
pub fn drain(disk: &SimDisk) -> u64 {
    let (mut spool, recovery) = Spool::open(Path::new(STATE), &BufferSettings::default(), disk).expect("opens");
    let (mut left, mut given) = (0, Ranges::default());
    assert_eq!(spool.pending().events, recovery.events);
    while let Some(batch) = spool.next_batch(&|_| true, &|_| false, BatchLimits::default(), disk).expect("reads") {
        let mut numbers = Ranges::default();
        for record in &batch.records {
            assert_eq!(record.pending.len(), record.events.len() as u64);
            for (from, to) in record.pending.iter() {
                assert_eq!(given.count(from, to), 0, "given out twice");
                given.insert(from, to);
                numbers.insert(from, to);
            }
        }
        let (events, settled) = spool.settle(Outcome::Delivered, &numbers, disk);
        settled.expect("is written");
        assert_eq!(events, numbers.len());
        left += events;
    }
    let lost: u64 = spool.enforce_bounds(&|_| None, disk).iter().map(|loss| loss.events).sum();
    assert_eq!((spool.pending().events, left + lost), (0, recovery.events));
    left
}

fn append(disk: &SimDisk) {
    let (mut spool, _) = Spool::open(Path::new(STATE), &BufferSettings::default(), disk).expect("opens");
    let key = Rc::new(StreamKey { group: "g".into(), stream: "s".into() });
    let event = Event::text(Rc::clone(&key), 1, false, "{}");
    let events = [event];
    let new = NewRecord { key: &key, boot_id: [1; 16], monotonic_ms: 1, wall_ms: 1, clock_confirmed: true, events: &events };
    let before = spool.pending().events;
    spool.append(&new, disk).expect("appends");
    assert_eq!(spool.pending().events, before + 1);
    spool.close(disk).expect("closes");
}
