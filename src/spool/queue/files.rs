//! The spool's files: making, ending, writing again, dropping and removing segments.

use super::super::SpoolError;
use super::super::journal;
use super::super::segment::{self, Index, Segment};
use super::super::wire::{self, SegmentHeader};
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
        debug_assert_eq!(self.segment_bytes, super::bytes_of(&self.segments, false));
        self.segment_bytes + self.journal.bytes() + self.doomed.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    /// The last segment has so many bytes.
    fn resize_last(&mut self, bytes: u64) {
        if let Some(segment) = self.segments.last_mut() {
            self.segment_bytes = self.segment_bytes - segment.bytes + bytes;
            segment.bytes = bytes;
        }
    }

    /// Everything that was appended is certain, or elsewhere.
    pub(super) fn forget_frames(&mut self) {
        self.unsynced.clear();
        self.unsynced_bytes = 0;
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
        if self.journal.is_missing() {
            // Without a journal a program of version 1 would not know whose segments of version 2 are, and go on under another id.
            self.journal.restate();
            let _ = self.write_journal(disk);
        }
        let (unused_from, unused_to) = if self.unused.0 < self.unused.1 { self.unused } else { (first, first) };
        let settled_below = self.floor().min(first);
        let header = SegmentHeader { id, first, unused_from, unused_to, settled_below, created_ms: now_ms };
        self.in_order &= self.segments.last().is_none_or(|last| last.first.max(last.pending.end()) <= first);
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
        // The last one that was made for certain, and whatever made-up or damaged ones come after it by name.
        let first = self.segments.iter().rfind(|segment| segment.is_own).map_or(0, |segment| segment.first);
        let names = self.segments.iter().filter(|segment| segment.first >= first && !segment.keep).map(Segment::name);
        let names: Vec<String> =
            names.chain(journals.iter().map(|number| journal::name(journal::ACKNOWLEDGED, *number))).collect();
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

    /// An append failed: a part of it may be in the file, or layouts in memory that are not in the file, so nothing may
    /// follow there.
    pub(super) fn end_segment(&mut self, disk: &dyn Disk) {
        if self.file.is_none() {
            self.encoder.restart();
        } else if self.segments.last().is_some_and(|segment| segment.index.is_none()) {
            // A new file without a record.
            self.drop_last_file(disk);
            self.leave_segment();
        } else if self.sync_file().is_ok() && self.sync_folders(disk).is_ok() {
            self.forget_frames();
            self.leave_segment();
            if let Some(segment) = self.segments.last()
                && let Ok(stamp) = disk.stat(&self.dir.join(segment.name()))
            {
                self.resize_last(stamp.len);
            }
        } else {
            self.become_homeless(disk);
        }
    }

    pub(super) fn drop_last_file(&mut self, disk: &dyn Disk) {
        if let Some(segment) = self.segments.pop() {
            self.file = None;
            self.segment_bytes -= segment.bytes;
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
        let mut new = Segment { first, ..Segment::default() };
        if let Some(old) = self.segments.last_mut() {
            let mut index = old.index.take().unwrap_or_default();
            let stay = index.records.partition_point(|place| place.from < first);
            let moved = Index::new(index.records.split_off(stay), Vec::new());
            for (from, to) in old.pending.overlap(first, u64::MAX) {
                old.pending.remove(from, to);
                old.events -= to - from;
                new.pending.insert(from, to);
                new.events += to - from;
            }
            new.recount(&moved);
            new.index = Some(moved);
            let empty = index.records.is_empty();
            let index = Index::new(index.records, index.shapes);
            old.recount(&index);
            old.index = Some(index);
            if empty {
                self.drop_last_file(disk);
            }
        }
        self.segments.push(new);
    }

    /// Writes the records that are in memory only to a new segment, under their numbers and with all their layouts.
    pub(super) fn find_home(&mut self, disk: &dyn Disk) -> Result<(), SpoolError> {
        let Some(homeless) = self.segments.pop() else { return Ok(()) };
        self.unsynced.retain(|unsynced| !homeless.pending_of(&unsynced.place).is_empty());
        self.unsynced_bytes = self.unsynced.iter().map(|unsynced| unsynced.frame.len()).sum();
        let Some(first) = self.unsynced.first().map(|unsynced| unsynced.place.sequence) else {
            self.encoder.restart();
            return Ok(());
        };
        let mut out = Vec::new();
        let header_bytes = wire::SEGMENT_HEADER_BYTES as u64;
        let shape = self.encoder.all_layouts(first, header_bytes);
        out.extend_from_slice(&shape);
        let mut index = Index::default();
        if !shape.is_empty() {
            index.shapes.push((header_bytes as u32, shape.len() as u32));
        }
        let created_ms = self.unsynced.first().map_or(0, |unsynced| unsynced.place.age.first_ms);
        for unsynced in &mut self.unsynced {
            unsynced.place.at = header_bytes as u32 + out.len() as u32;
            out.extend_from_slice(&unsynced.frame);
            index.push(unsynced.place);
        }
        let header = match self.make_segment(first, created_ms, out.len() as u64, disk) {
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
        let bytes = index.records.last().map_or(0, |place| u64::from(place.at) + u64::from(place.bytes));
        if let Some(made) = self.segments.pop() {
            let Segment { first, attempt, on_disk, bytes, .. } = made;
            self.segments.push(Segment { first, attempt, on_disk, bytes, index: Some(index), ..homeless });
        }
        self.resize_last(bytes);
        Ok(())
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
                self.forget_frames();
            }
            let segment = self.segments.remove(at);
            self.segment_bytes -= segment.bytes;
            self.look_from -= usize::from(at < self.look_from);
            if segment.on_disk {
                self.remove_file(segment.name(), segment.bytes, disk);
            }
        }
        if self.segments.is_empty() {
            self.encoder.rest();
            self.decoded = None;
        }
        self.forget_streams();
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
        let lowest = self.segments.iter().map(Segment::lowest).chain(self.afloat.first()).min();
        lowest.map_or(self.next, |lowest| lowest.min(self.next))
    }

    /// Forgets the names of streams that nothing refers to any more, once they are more than the others.
    pub(super) fn forget_streams(&mut self) {
        if self.streams.len() <= self.streams_max {
            return;
        }
        let mut used = vec![false; self.streams.len()];
        for segment in &mut self.segments {
            segment.mark_streams(&mut used);
        }
        for unsynced in &self.unsynced {
            used[unsynced.place.stream as usize] = true;
        }
        let live = used.iter().filter(|used| **used).count();
        self.streams_max = 2 * live + 64;
        if live == self.streams.len() {
            return;
        }
        let numbers = self.streams.keep(&used);
        self.segments.iter_mut().for_each(|segment| segment.renumber(&numbers));
        self.unsynced.iter_mut().for_each(|unsynced| unsynced.place.stream = numbers[unsynced.place.stream as usize]);
    }
}
