//! What the bounds drop, and what is left when the folder is gone.

use super::super::decode::decode_frame;
use super::super::segment::Place;
use super::super::{Abandoned, Loss, LossReason, SpoolError};
use super::Spool;
use crate::env::Disk;
use crate::model::settings::BufferSettings;

impl Spool {
    /// Drops what is too old or over `max_bytes`, oldest first, and tells all that was lost since the last call.
    /// `oldest_ms`: for a boot ([`super::super::Age::boot`]) the time since it below which a scrape is too old; nothing: no
    /// age is known. What could not be read is tried again from here on.
    pub fn enforce_bounds(&mut self, oldest_ms: &dyn Fn(u32) -> Option<u64>, disk: &dyn Disk) -> Vec<Loss> {
        self.look_from = 0;
        for at in 0..self.segments.len() {
            // Disks heal.
            self.segments[at].unreadable &= self.segments[at].keep;
            let segment = &self.segments[at];
            if segment.unreadable || segment.is_settled() || !segment.may_be_old(oldest_ms) {
                continue;
            }
            if self.load_index(at, disk).is_err() {
                self.segments[at].unreadable = true;
                continue;
            }
            for place in self.places(at) {
                if oldest_ms(place.age.boot).is_some_and(|wanted| place.age.monotonic_ms < wanted) {
                    self.lose(at, &place, LossReason::MaxAge);
                }
            }
            if let Some(index) = self.segments[at].index.take() {
                self.segments[at].recount(&index);
                self.segments[at].index = Some(index);
            }
        }
        self.remove_settled(disk);
        self.remove_doomed(disk);
        // An error here comes again, louder, with the next append.
        let _ = self.make_room(0, disk);
        self.losses.take()
    }

    /// What was lost since the last look, by whatever call: to be counted before the next.
    pub fn take_losses(&mut self) -> Vec<Loss> {
        self.losses.take()
    }

    /// Takes over new bounds; they hold from the next [`Self::enforce_bounds`] or append on.
    pub fn reconfigure(&mut self, settings: &BufferSettings) {
        self.max_bytes = settings.max_bytes;
    }

    /// The folder is gone (removed, or something is mounted over it): says what was lost with it and gives back what no sync
    /// had covered yet. Nothing is read or written.
    pub fn abandon(mut self) -> Abandoned {
        let mut records = Vec::new();
        let last = self.segments.len().saturating_sub(1);
        for unsynced in std::mem::take(&mut self.unsynced) {
            let place = unsynced.place;
            let pending = self.segments[last].pending_of(&place);
            let free: Vec<_> = pending.iter().flat_map(|(from, to)| self.pinned.missing(*from, *to)).collect();
            let key = self.streams.key(place.stream);
            if !free.is_empty()
                && let Some(record) = decode_frame(&unsynced.frame, &place, &self.encoder.tables, key)
            {
                free.iter().for_each(|(from, to)| self.segments[last].settle(*from, *to));
                records.push(record.only(&free));
            }
        }
        for at in 0..self.segments.len() {
            self.lose_all(at, LossReason::Damaged);
        }
        Abandoned { losses: self.losses.take(), records, detached: self.detached }
    }

    /// Drops the oldest segments until so many more bytes fit. False: they do not, whatever is dropped.
    pub(super) fn make_room(&mut self, bytes: u64, disk: &dyn Disk) -> Result<bool, SpoolError> {
        let budget = self.max_bytes.saturating_sub(self.kept_bytes).max(self.max_bytes / 4);
        if bytes > budget {
            return Ok(false);
        }
        while self.bytes() + bytes > budget {
            let candidates = &self.segments[..self.segments.len() - usize::from(self.is_written())];
            let Some(at) = candidates.iter().position(|segment| segment.on_disk && !segment.keep) else {
                return Ok(false);
            };
            // What cannot be read is counted by what is known of it.
            let _ = self.load_index(at, disk);
            self.lose_all(at, LossReason::MaxBytes);
            self.remove_settled(disk);
            if !self.doomed.is_empty() {
                return Err(SpoolError::Io(format!("removing from {} fails", self.dir.display())));
            }
        }
        Ok(true)
    }

    /// Gives up all that is pending in a segment.
    fn lose_all(&mut self, at: usize, reason: LossReason) {
        for place in self.places(at) {
            self.lose(at, &place, reason);
        }
        let rest: Vec<_> = self.segments[at].pending.iter().collect();
        if !rest.is_empty() {
            let before = std::mem::take(&mut self.segments[at].parts);
            let events = rest.into_iter().map(|piece| self.give_up(at, piece, reason)).sum();
            self.tell_by_parts(at, &before, events, reason);
        }
    }

    /// The records of a segment whose index is there.
    fn places(&self, at: usize) -> Vec<Place> {
        self.segments[at].index.as_ref().map_or_else(Vec::new, |index| index.records.clone())
    }

    /// The last segment is being written, or in memory only.
    pub(super) fn is_written(&self) -> bool {
        self.file.is_some() || self.is_homeless()
    }
}
