//! The acknowledgement journal: which numbers are settled. A hint: lost, it costs duplicates, never an event.

use super::wire::{
    ENTRY_BYTES, FileStart, JOURNAL_HEADER_BYTES, JournalHeader, Settled, SpoolId, decode_entry, encode_entry,
};
use crate::env::{Disk, DiskFile};
use crate::model::Ranges;
use std::io;
use std::path::Path;

/// A journal that grew by this length, and by as much as it began with, is replaced by a new one.
const JOURNAL_BYTES_MAX: u64 = 64 << 10;
/// The longest journal that is read; ours never come near.
pub const READ_BYTES_MAX: u64 = 16 << 20;

/// How the names of acknowledgement journals begin.
pub const ACKNOWLEDGED: &str = "acks-";

/// A journal's name.
pub fn name(prefix: &str, number: u64) -> String {
    format!("{prefix}{number:016x}.pwa")
}

/// Higher numbers are nobody's; what is in such a journal is read all the same.
const NUMBER_MAX: u64 = 1 << 56;

/// The number after those that were found.
pub fn next_number(numbers: &[u64]) -> u64 {
    numbers.iter().filter(|number| **number < NUMBER_MAX).max().map_or(0, |number| number + 1)
}

/// A journal's number, from its name.
pub fn parse_name(prefix: &str, name: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(".pwa")?;
    (digits.len() == 16 && !digits.contains('+')).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// What a journal's bytes are.
pub enum Read {
    /// The numbers it settles; entries of other spools and damaged ones are left out. And whether there are none of those.
    Settled(Ranges, bool),
    /// A later version's.
    Newer,
}

/// Reads a journal. `id`: the spool's, where a segment told it; otherwise the journal's own header is believed.
pub fn read(bytes: &[u8], id: Option<SpoolId>) -> (Read, Option<SpoolId>) {
    let own = match JournalHeader::decode(bytes) {
        FileStart::Newer => return (Read::Newer, None),
        FileStart::Known(header) => Some(header.id),
        FileStart::Damaged => None,
    };
    let (mut settled, mut whole) = (Vec::new(), own.is_some());
    if let Some(id) = id.or(own) {
        let entries = bytes.get(JOURNAL_HEADER_BYTES..).unwrap_or_default();
        for entry in entries.chunks(ENTRY_BYTES) {
            match entry.as_array().and_then(|entry| decode_entry(&id, entry)) {
                Some(range) => settled.push(range),
                None => whole = false,
            }
        }
    }
    (Read::Settled(Ranges::of(settled), whole), own)
}

/// The journal that is being written.
#[derive(Default)]
pub struct Journal {
    prefix: String,
    /// The next journal's number.
    next: u64,
    /// Older journals, removed when the present one is durable.
    old: Vec<u64>,
    file: Option<Box<dyn DiskFile>>,
    number: u64,
    bytes: u64,
    /// What the present file began with.
    restated_bytes: u64,
    waiting: Vec<(Settled, u64, u64)>,
    unsynced: bool,
    name_unsynced: bool,
    restate: bool,
}

impl Journal {
    /// The journal that follows those that were found; none is made before something is to be written.
    pub fn after(prefix: &str, next: u64, old: Vec<u64>) -> Self {
        Self { prefix: prefix.to_owned(), next, old, ..Self::default() }
    }

    /// Bytes of the present file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Notes that numbers are settled; [`Journal::write`] writes it down.
    pub fn note(&mut self, kind: Settled, from: u64, to: u64) {
        match self.waiting.last_mut() {
            Some((last, _, end)) if *last == kind && *end == from => *end = to,
            _ => self.waiting.push((kind, from, to)),
        }
    }

    /// The next write begins a file if none is being written: what older journals say may not be durable.
    pub fn restate(&mut self) {
        self.restate = self.file.is_none();
    }

    /// There is none on disk.
    pub fn is_missing(&self) -> bool {
        self.file.is_none() && self.old.is_empty()
    }

    /// Something is noted that is not written.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes what was noted, in one write. A new file begins with everything that is settled.
    pub fn write(&mut self, dir: &Path, id: &SpoolId, settled: &Ranges, disk: &dyn Disk) -> io::Result<()> {
        if self.waiting.is_empty() && !self.restate {
            return Ok(());
        }
        if self.bytes > JOURNAL_BYTES_MAX + 2 * self.restated_bytes {
            self.leave();
        }
        let mut out = Vec::new();
        let fresh = self.file.is_none();
        if fresh {
            self.number = self.next;
            self.next += 1;
            self.file = Some(disk.create(&dir.join(name(&self.prefix, self.number)))?);
            self.bytes = 0;
            self.name_unsynced = true;
            out = JournalHeader { id: *id, number: self.number }.encode();
            for (from, to) in settled.iter() {
                out.extend_from_slice(&encode_entry(id, Settled::Merged, from, to));
            }
            self.restated_bytes = out.len() as u64;
        }
        for (kind, from, to) in &self.waiting {
            out.extend_from_slice(&encode_entry(id, *kind, *from, *to));
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        self.unsynced = true;
        match file.append(&out) {
            Ok(()) => {
                self.bytes += out.len() as u64;
                self.waiting.clear();
                self.restate = false;
                Ok(())
            }
            Err(error) => {
                // Entries are found by their place, so nothing may follow a part of one.
                self.leave();
                if fresh && disk.remove(&dir.join(name(&self.prefix, self.number))).is_ok() {
                    self.old.pop();
                }
                Err(error)
            }
        }
    }

    /// Makes what was written durable; then the older journals are not needed any more.
    pub fn sync(&mut self, dir: &Path, disk: &dyn Disk) -> io::Result<()> {
        if self.unsynced
            && let Some(file) = &mut self.file
        {
            if let Err(error) = file.sync() {
                self.leave();
                return Err(error);
            }
            self.unsynced = false;
        }
        if self.name_unsynced && self.file.is_some() {
            disk.sync_dir(dir)?;
            self.name_unsynced = false;
        }
        if self.file.is_some() {
            self.old.retain(|number| match disk.remove(&dir.join(name(&self.prefix, *number))) {
                Ok(()) => false,
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            });
        }
        Ok(())
    }

    /// The next write begins a new file, which says everything again.
    fn leave(&mut self) {
        if self.file.take().is_some() {
            self.old.push(self.number);
        }
        (self.bytes, self.unsynced) = (0, false);
    }
}
