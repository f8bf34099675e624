//! The series table of one target: which lines of its pages are known, and what was found out about each.
//!
//! A page changes in its numbers, seldom in its series. What a line's series comes to (its labels, merged, relabelled and
//! checked) depends on its bytes alone while the job and the target's labels stay, so it is worked out once. A line that is
//! known is most often the one that followed the last time: then it costs one hash and one comparison.
//!
//! Limits: [`TABLE_BYTES_MAX`]; what is over it goes through the parser each time. A table of mostly forgotten lines is begun
//! anew.

use crate::model::MetricType;
use crate::model::index::{Key, KeyIndex, Keyed};

/// The memory for the lines of one target, in bytes: about 250,000.
const TABLE_BYTES_MAX: usize = 8 << 20;
/// A table with more lines than this and twice as many as the last page had is begun anew.
const FORGOTTEN_MIN: usize = 1_024;

/// What is known of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Relabelling drops its series.
    Dropped,
    /// The number of its series.
    Series(u32),
    /// The number of its family's line, and the type that it gives.
    Family(u32, Option<MetricType>),
}

/// The lines of one target's pages.
#[derive(Default)]
pub struct SeriesTable {
    keyed: Keyed,
    /// What the numbers of series and families mean, see [`crate::model::Intake::generation`].
    generation: u64,
    index: KeyIndex,
    verdicts: Vec<Verdict>,
    /// The line that followed the last one that was found.
    next: u32,
    /// Lines of this page that were found or noted.
    used: usize,
}

impl SeriesTable {
    /// A page begins.
    pub(super) fn begin(&mut self, generation: u64) {
        let forgotten = self.index.len() > FORGOTTEN_MIN && self.index.len() > 2 * self.used;
        if self.generation != generation || (forgotten && self.used > 0) {
            *self = Self { generation, ..Self::default() };
        }
        (self.next, self.used) = (0, 0);
    }

    /// The key of a line's bytes. `kind` tells apart what the same bytes may mean.
    pub(super) fn key(&self, kind: u8, raw: &[u8]) -> Key {
        self.keyed.key(kind, raw)
    }

    /// What is known of a line.
    pub(super) fn find(&mut self, key: &Key) -> Option<Verdict> {
        let number = if self.index.is(self.next, key) { self.next } else { self.index.find(key)? };
        self.next = number + 1;
        self.used += 1;
        self.verdicts.get(number as usize).copied()
    }

    /// Notes a line that is not known.
    pub(super) fn note(&mut self, key: Key, verdict: Verdict) {
        if self.memory_bytes() < TABLE_BYTES_MAX {
            self.next = self.index.insert(key) + 1;
            self.verdicts.push(verdict);
            self.used += 1;
        }
    }

    fn memory_bytes(&self) -> usize {
        self.index.memory_bytes() + self.verdicts.capacity() * size_of::<Verdict>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_forgotten_lines_or_of_another_meaning_is_begun_anew() {
        let mut table = SeriesTable::default();
        let key = |table: &SeriesTable, n: u32| table.key(0, &n.to_le_bytes());
        table.begin(1);
        for n in 0..2_000 {
            let key = key(&table, n);
            assert_eq!(table.find(&key), None);
            table.note(key, Verdict::Series(n));
        }
        table.begin(1);
        for n in (0..1_000).chain([1_999]) {
            let key = key(&table, n);
            assert_eq!(table.find(&key), Some(Verdict::Series(n)));
        }
        table.begin(1);
        let first = key(&table, 0);
        assert_eq!(table.find(&first), Some(Verdict::Series(0)));
        table.begin(1);
        assert_eq!(table.find(&first), None, "one line of 2,000 was used");
        table.note(first, Verdict::Dropped);
        table.begin(2);
        let first = key(&table, 0);
        assert_eq!(table.find(&first), None);
    }

    #[test]
    fn a_table_is_bounded_in_bytes() {
        let mut table = SeriesTable::default();
        table.begin(0);
        for n in 0..1_000_000_u32 {
            table.note([u64::from(n), 1], Verdict::Dropped);
        }
        assert!(table.memory_bytes() <= 2 * TABLE_BYTES_MAX, "{}", table.memory_bytes());
    }
}
