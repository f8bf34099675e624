//! An export file of any bytes: read, and imported twice; the second time takes nothing.
#![no_main]

mod spool_forged;

use promwatch::model::settings::BufferSettings;
use promwatch::spool::{Spool, export};
use spool_forged::STATE;
use spool_forged::sim_disk::SimDisk;
use std::path::Path;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (disk, file) = (SimDisk::new(), Path::new("/stick/events.pwx"));
    disk.put(file, data);
    let mut events = 0;
    let read = export::read(file, &disk, &mut |record| {
        events += record.events.len() as u64;
        true
    });
    let Ok(read) = read else { return };
    assert_eq!(read.events, events);
    let (mut spool, _) = Spool::open(Path::new(STATE), &BufferSettings::default(), &disk).expect("opens");
    let _ = spool.import(file, &disk, &mut |_| ());
    let taken = spool.pending().events;
    assert!(taken <= events);
    if let Ok(again) = spool.import(file, &disk, &mut |_| ()) {
        assert_eq!((again.records, spool.pending().events), (0, taken));
    }
    spool.close(&disk).expect("closes");
    assert_eq!(spool_forged::drain(&disk), taken);
});
