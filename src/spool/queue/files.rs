//! The spool's files: making, ending, writing again, dropping and removing segments.

use super::super::journal;
use super::super::segment::{self, Index, Segment};
use super::super::survey::add_loss;
use super::super::wire::{self, SegmentHeader, Settled};
use super::super::{Loss, LossReason, SpoolError};
use super::{SEGMENT_BYTES_MAX, Spool};
use crate::env::Disk;
use std::io;
use std::path::{Path, PathBuf};
impl Spool {
    pub(super) fn error(&self, what: &str, error: &io::Error) -> SpoolError {
        SpoolError::from_io(&format!("{what} {}", self.dir.display()), error)
    }

    pub(super) fn segment_bytes_max(&self) -> u64 {
        (self.max_bytes / 8).min(SEGMENT_BYTES_MAX)
    }

    /// Bytes of everything that may be removed.
    pub(super) fn bytes(&self) -> u64 {
        let segments: u64 = self.segments.iter().filter(|segment| !segment.keep).map(|segment| segment.bytes).sum();
        segments + self.journal.bytes() + self.doomed.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    pub(super) fn kept_bytes(&self) -> u64 {
        self.segments.iter().filter(|segment| segment.keep).map(|segment| segment.bytes).sum()
    }

    /// Makes a file for the segment that begins with a number, and puts it into the list; returns its header.
    pub(super) fn make_segment(
        &mut self,
        first: u64,
        now_ms: i64,
        bytes: u64,
        disk: &dyn Disk,
    ) -> Result<Vec<u8>, SpoolError> {
        let id = self.id.unwrap_or_default();
        let attempt =
            self.create_file(first, bytes, disk).map_err(|error| self.error("making a segment in", &error))?;
        let header = SegmentHeader {
            id,
            first,
            unused_from: self.unused_from.min(first),
            settled_below: self.floor().min(first),
            created_ms: now_ms,
        };
        self.segments.push(Segment { first, attempt, on_disk: true, ..Segment::default() });
        Ok(header.encode())
    }

    pub(super) fn create_file(&mut self, first: u64, bytes: u64, disk: &dyn Disk) -> io::Result<u8> {
        // Some file systems say 0 for "unknown"; a full one says so when it is written to.
        if disk.free_bytes(&self.dir).is_ok_and(|free| (1..bytes).contains(&free)) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        for attempt in 0..=u8::MAX {
            let path = self.dir.join(segment::name(first, attempt));
            let mut created = disk.create(&path);
            if created.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                self.make_folder(disk)?;
                created = disk.create(&path);
            }
            match created {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => {
                    self.file = Some(file);
                    if !self.folders_unsynced.contains(&self.dir) {
                        self.folders_unsynced.push(self.dir.clone());
                    }
                    return Ok(attempt);
                }
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists))
    }

    /// Makes the spool's folder and those above it, and notes which folders got a new name.
    pub(super) fn make_folder(&mut self, disk: &dyn Disk) -> io::Result<()> {
        disk.create_dir(&self.dir)?;
        self.folders_unsynced = self.folders();
        Ok(())
    }

    /// Ours last, and all above it: any of them may be as new.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = self.dir.ancestors().map(Path::to_path_buf).collect();
        folders.reverse();
        folders
    }

    pub(super) fn append_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        self.file_unsynced = true;
        file.append(bytes)
    }

    pub(super) fn sync_file(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file
            && self.file_unsynced
        {
            file.sync()?;
        }
        self.file_unsynced = false;
        Ok(())
    }

    /// A process that was killed may have left in the kernel's memory what no sync of ours would cover.
    pub(super) fn sync_inherited(&mut self, journals: &[u64], disk: &dyn Disk) {
        let segment = self.segments.iter().rev().find(|segment| !segment.keep).map(Segment::name);
        let names =
            segment.into_iter().chain(journals.last().map(|number| journal::name(journal::ACKNOWLEDGED, *number)));
        for name in names {
            if let Err(error) = disk.sync_file(&self.dir.join(&name)) {
                log::warn!("{}: what the last process wrote may not survive a power cut: {error}", self.dir.display());
            }
            self.folders_unsynced = self.folders();
        }
        // What fails here is tried again with the next sync.
        let _ = self.sync_folders(disk);
    }

    pub(super) fn sync_folders(&mut self, disk: &dyn Disk) -> Result<(), SpoolError> {
        while let Some(folder) = self.folders_unsynced.last() {
            match disk.sync_dir(folder) {
                // A folder above ours that we may not open is another's to sync.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && *folder != self.dir => {}
                synced => {
                    synced.map_err(|error| SpoolError::from_io(&format!("syncing {}", folder.display()), &error))?;
                }
            }
            self.folders_unsynced.pop();
        }
        Ok(())
    }

    /// The next append makes a new segment.
    pub(super) fn leave_segment(&mut self) {
        self.file = None;
        self.file_unsynced = false;
        self.encoder.restart();
    }

    /// An append failed: a part of it may be in the file, or templates in memory that are not in the file, so nothing may
    /// follow there.
    pub(super) fn end_segment(&mut self, disk: &dyn Disk) {
        if self.file.is_none() {
            self.encoder.restart();
        } else if self.segments.last().is_some_and(|segment| segment.index.is_none()) {
            // A new file without a record.
            self.drop_last_file(disk);
            self.leave_segment();
        } else if self.sync_file().is_ok() && self.sync_folders(disk).is_ok() {
            self.unsynced.clear();
            self.leave_segment();
            if let Some(segment) = self.segments.last_mut() {
                segment.bytes = disk.stat(&self.dir.join(segment.name())).map_or(segment.bytes, |stamp| stamp.len);
            }
        } else {
            self.become_homeless(disk);
        }
    }

    pub(super) fn drop_last_file(&mut self, disk: &dyn Disk) {
        if let Some(segment) = self.segments.pop() {
            self.file = None;
            self.remove_file(segment.name(), segment.bytes, disk);
        }
    }

    /// The last segment's records are in memory only.
    pub(super) fn is_homeless(&self) -> bool {
        self.segments.last().is_some_and(|segment| !segment.on_disk)
    }

    /// A sync failed: the records that it should have covered move to a segment that is not on disk yet.
    pub(super) fn become_homeless(&mut self, disk: &dyn Disk) {
        self.file = None;
        self.file_unsynced = false;
        let Some(first) = self.unsynced.first().map(|unsynced| unsynced.place.sequence) else {
            self.encoder.restart();
            return;
        };
        let mut new = Segment { first, index: Some(Index::default()), ..Segment::default() };
        if let Some(old) = self.segments.last_mut() {
            for unsynced in &self.unsynced {
                let place = unsynced.place;
                old.shadowed.insert(place.sequence, place.end());
                if !self.settled.contains(place.sequence) {
                    old.subtract(&place);
                    new.add(&place);
                }
            }
            if let Some(index) = &mut old.index {
                let moved = index.records.split_off(index.records.len().saturating_sub(self.unsynced.len()));
                new.index = Some(Index { records: moved, shapes: Vec::new() });
            }
            if old.index.as_ref().is_some_and(|index| index.records.is_empty()) {
                self.drop_last_file(disk);
            }
        }
        self.segments.push(new);
    }

    /// Writes the records that are in memory only to a new segment, under their numbers and with all their templates.
    pub(super) fn find_home(&mut self, disk: &dyn Disk) -> Result<(), SpoolError> {
        let Some(homeless) = self.segments.pop() else { return Ok(()) };
        self.unsynced.retain(|unsynced| !self.settled.contains(unsynced.place.sequence));
        let Some(first) = self.unsynced.first().map(|unsynced| unsynced.place.sequence) else {
            self.encoder.restart();
            return Ok(());
        };
        let mut out = Vec::new();
        let header_bytes = wire::SEGMENT_HEADER_BYTES as u64;
        let shape = self.encoder.all_templates(first, header_bytes);
        out.extend_from_slice(&shape);
        let mut index = Index::default();
        if !shape.is_empty() {
            index.shapes.push((header_bytes as u32, shape.len() as u32));
        }
        for unsynced in &mut self.unsynced {
            unsynced.place.at = header_bytes as u32 + out.len() as u32;
            out.extend_from_slice(&unsynced.frame);
            index.records.push(unsynced.place);
        }
        let header = match self.make_segment(first, homeless.ages_ms.unwrap_or_default(), out.len() as u64, disk) {
            Ok(header) => header,
            Err(error) => {
                self.segments.push(homeless);
                return Err(error);
            }
        };
        let written = self.append_bytes(&[header, out].concat());
        if let Err(error) = written {
            self.drop_last_file(disk);
            self.file_unsynced = false;
            self.segments.push(homeless);
            return Err(self.error("writing to", &error));
        }
        if let Some(segment) = self.segments.last_mut() {
            (segment.parts, segment.ages_ms, segment.boots) = (homeless.parts, homeless.ages_ms, homeless.boots);
            segment.bytes = index.records.last().map_or(0, |place| u64::from(place.at) + u64::from(place.bytes));
            segment.index = Some(index);
        }
        Ok(())
    }

    /// Drops the oldest segments until so many more bytes fit. False: they do not, whatever is dropped.
    pub(super) fn make_room(&mut self, bytes: u64, disk: &dyn Disk) -> Result<bool, SpoolError> {
        let budget = self.max_bytes.saturating_sub(self.kept_bytes()).max(self.max_bytes / 4);
        if bytes > budget {
            return Ok(false);
        }
        while self.bytes() + bytes > budget {
            let written = usize::from(self.file.is_some() || self.is_homeless());
            let candidates = &self.segments[..self.segments.len() - written];
            let Some(at) = candidates.iter().position(|segment| segment.on_disk && !segment.keep) else {
                return Ok(false);
            };
            self.drop_segment(at, disk);
            if !self.doomed.is_empty() {
                return Err(SpoolError::Io(format!("removing from {} fails", self.dir.display())));
            }
        }
        Ok(true)
    }

    pub(super) fn drop_segment(&mut self, at: usize, disk: &dyn Disk) {
        if self.load_index(at, disk).is_ok() {
            for place in self.pending_places(at, |_| true) {
                self.lose(at, &place, LossReason::MaxBytes);
            }
        }
        // What could not be read is counted from what was known of it.
        for part in std::mem::take(&mut self.segments[at].parts) {
            let key = Some(self.streams.key(part.stream));
            let (events, from_ms, to_ms) = (part.events, part.first_ms, part.last_ms);
            add_loss(&mut self.losses, Loss { reason: LossReason::MaxBytes, key, events, from_ms, to_ms });
        }
        let next = self.segments.get(at + 1).map_or(self.next, |segment| segment.first);
        let lowest = self.segments[at].first;
        if at == 0 && lowest < next {
            self.settle(Settled::MaxBytes, lowest, next);
        }
        self.remove_settled(disk);
    }

    /// Removes the files of segments in which nothing is pending. The journal is made durable first, so that nobody takes
    /// what was delivered for lost; on a full disk the files go first, so that the journal can be written.
    pub(super) fn remove_settled(&mut self, disk: &dyn Disk) {
        if !self.segments.iter().any(|segment| segment.is_settled() && !segment.keep) {
            let _ = self.write_journal(disk);
            return;
        }
        self.journal.restate();
        let _ = self.write_journal(disk).and_then(|()| self.journal.sync(&self.dir, disk));
        let mut at = 0;
        while at < self.segments.len() {
            if !self.segments[at].is_settled() || self.segments[at].keep {
                at += 1;
                continue;
            }
            if at + 1 == self.segments.len() {
                self.leave_segment();
                self.unsynced.clear();
            }
            let segment = self.segments.remove(at);
            if segment.on_disk {
                self.remove_file(segment.name(), segment.bytes, disk);
            }
        }
        if self.segments.is_empty() {
            self.encoder.rest();
            self.reading = None;
        }
        let floor = self.floor();
        self.settled.insert(0, floor);
        if self.journal.is_waiting() {
            let _ = self.write_journal(disk);
        }
    }

    pub(super) fn remove_file(&mut self, name: String, bytes: u64, disk: &dyn Disk) {
        match disk.remove(&self.dir.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.doomed.push((name, bytes)),
            _ => {}
        }
    }

    pub(super) fn remove_doomed(&mut self, disk: &dyn Disk) {
        for (name, bytes) in std::mem::take(&mut self.doomed) {
            self.remove_file(name, bytes, disk);
        }
    }

    /// Everything below is settled.
    pub(super) fn floor(&self) -> u64 {
        self.segments.iter().map(|segment| segment.first).min().unwrap_or(self.next)
    }
}
