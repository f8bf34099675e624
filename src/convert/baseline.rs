//! What each counter stood at when it was last seen.
//!
//! A baseline costs 40 bytes and one of the hash table's; labels are kept as a 128-bit key only. When the memory that
//! the settings grant is used up, baselines that the last two intervals did not touch go, the oldest first; if there are
//! none, a new series gets no baseline (and so no deltas) rather than pushing out one that is in use.
//!
//! Looking for them costs a walk over the table. One that finds few remembers when there can be more, so that a page of nothing
//! but new series costs one walk, or one for each eighth of the table that becomes free.

use super::key::{Key, KeyMap};
use crate::model::settings::BASELINE_BYTES;

/// What a table slot takes: key, baseline, control byte.
const SLOT_BYTES: u64 = (size_of::<Key>() + size_of::<Baseline>() + 1) as u64;

/// How long a baseline lives at least.
const DAY_S: i64 = 24 * 3600;

/// One counter's last value.
#[derive(Clone, Copy)]
pub(super) struct Baseline {
    pub value: f64,
    /// The exposition's own time stamp, or `NO_TIME`.
    pub own_ms: i64,
    /// When it was last seen, seconds on the monotonic clock; negative for times before this boot.
    pub seen_s: i32,
    /// The number of the scrape that last saw it.
    pub scrape: u32,
}

const NO_TIME: i64 = i64::MIN;

/// What a counter's new value comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// No baseline: nothing to say yet.
    First,
    /// The sample's own time stamp did not advance.
    Stuck,
    /// The series stood on this page before.
    Repeated,
    /// The increase, and the milliseconds over which it came about.
    Delta(f64, u64),
}

/// When a scrape happened.
#[derive(Clone, Copy)]
pub(super) struct ScrapeTime {
    /// Monotonic milliseconds.
    pub monotonic_ms: u64,
    /// The target's interval.
    pub interval_ms: u64,
}

/// All baselines.
pub(super) struct Baselines {
    map: KeyMap<Baseline>,
    max_entries: usize,
    longest_interval_s: i64,
    scrape: u32,
    swept_s: i64,
    /// Before this time no baseline is idle: the last walk took all that were.
    none_idle_before_s: i64,
    /// Baselines that walks have looked at.
    #[cfg(test)]
    visited: u64,
    /// Baselines that went to make room.
    pub evicted: u64,
    /// Series that got none.
    pub refused: u64,
}

impl Baselines {
    pub(super) fn new(max_bytes: u64) -> Self {
        let mut new = Self {
            map: KeyMap::default(),
            max_entries: 0,
            longest_interval_s: 0,
            scrape: 0,
            swept_s: 0,
            none_idle_before_s: i64::MIN,
            #[cfg(test)]
            visited: 0,
            evicted: 0,
            refused: 0,
        };
        new.set_limit(max_bytes);
        new
    }

    /// Sets the memory for the table, 0 for the default.
    pub(super) fn set_limit(&mut self, max_bytes: u64) {
        let bytes = if max_bytes == 0 { BASELINE_BYTES } else { max_bytes };
        // The table's sizes are powers of two and it fills up to seven eighths. While it grows, or is renewed after many
        // removals, there may be one of twice the size.
        let slots = (bytes / SLOT_BYTES / 2).max(8);
        let slots = 1_u64 << slots.ilog2();
        self.max_entries = usize::try_from(slots / 8 * 7).unwrap_or(usize::MAX);
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// The memory that the table takes, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.map.capacity() as u64 * 8 / 7 * SLOT_BYTES
    }

    /// A new scrape begins: duplicates are told by it. Baselines past their life go, once an hour.
    pub(super) fn begin(&mut self, time: ScrapeTime) {
        self.scrape = self.scrape.wrapping_add(1);
        self.longest_interval_s = self.longest_interval_s.max(seconds(time.interval_ms));
        let now_s = seconds(time.monotonic_ms);
        if now_s >= self.swept_s + 3600 {
            self.swept_s = now_s;
            let life_s = DAY_S.max(3 * self.longest_interval_s);
            self.map.retain(|_, baseline| now_s - i64::from(baseline.seen_s) <= life_s);
        }
    }

    /// Compares a finite value with its baseline and moves the baseline.
    pub(super) fn step(&mut self, key: Key, value: f64, own_ms: Option<i64>, time: ScrapeTime) -> Step {
        let now_s = seconds(time.monotonic_ms);
        let next = Baseline {
            value,
            own_ms: own_ms.unwrap_or(NO_TIME),
            seen_s: i32::try_from(now_s).unwrap_or(i32::MAX),
            scrape: self.scrape,
        };
        let Some(baseline) = self.map.get_mut(&key) else {
            if self.map.len() >= self.max_entries && !self.make_room(now_s) {
                self.refused += 1;
                return Step::First;
            }
            self.map.insert(key, next);
            return Step::First;
        };
        let age_s = now_s - i64::from(baseline.seen_s);
        if age_s > DAY_S.max(3 * seconds(time.interval_ms)) {
            *baseline = next;
            return Step::First;
        }
        // From one scrape to the next time has advanced, whatever the wall clock did; an own time stamp must do so itself.
        let span_ms = match own_ms {
            Some(own) if baseline.own_ms != NO_TIME => {
                if own <= baseline.own_ms {
                    // The same sample again keeps its baseline alive. One from the past does not, so that an exporter
                    // whose clock was set back starts anew when the baseline's life is over.
                    if own == baseline.own_ms {
                        baseline.seen_s = next.seen_s;
                    }
                    return Step::Stuck;
                }
                own.saturating_sub(baseline.own_ms).unsigned_abs()
            }
            _ if baseline.scrape == self.scrape => {
                *baseline = next;
                return Step::Repeated;
            }
            _ => age_s.unsigned_abs().saturating_mul(1000),
        };
        let delta = if value >= baseline.value { value - baseline.value } else { value };
        *baseline = next;
        Step::Delta(delta, span_ms)
    }

    /// All baselines, sorted by key.
    pub(super) fn sorted(&self) -> Vec<(Key, Baseline)> {
        let mut all: Vec<(Key, Baseline)> = self.map.iter().map(|(key, baseline)| (*key, *baseline)).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }

    /// Puts in a baseline from before, unless there is a newer one or no room.
    pub(super) fn insert_missing(&mut self, key: Key, baseline: Baseline) -> bool {
        let fits = self.map.len() < self.max_entries && !self.map.contains_key(&key);
        if fits {
            // It may have been left alone for longer than any that a walk saw.
            self.none_idle_before_s = i64::MIN;
            self.map.insert(key, baseline);
        }
        fits
    }

    /// Forgets a series: its value was not a number, which is how an exporter says that it is stale.
    pub(super) fn forget(&mut self, key: Key) {
        self.map.remove(&key);
    }

    /// Evicts an eighth of the table, or as many as have been left alone for two intervals. Says whether there is room.
    fn make_room(&mut self, now_s: i64) -> bool {
        if now_s < self.none_idle_before_s {
            return false;
        }
        #[cfg(test)]
        {
            self.visited += self.map.len() as u64;
        }
        let idle_s = 2 * self.longest_interval_s.max(1);
        // What comes after this walk is at least as young as now.
        let (mut idle, mut oldest_in_use_s) = (Vec::new(), now_s);
        for baseline in self.map.values() {
            if now_s - i64::from(baseline.seen_s) > idle_s {
                idle.push(baseline.seen_s);
            } else {
                oldest_in_use_s = oldest_in_use_s.min(i64::from(baseline.seen_s));
            }
        }
        // A smaller limit may have come with new settings.
        let wanted = self.map.len().saturating_sub(self.max_entries) + (self.max_entries / 8).max(1);
        if idle.len() <= wanted {
            self.none_idle_before_s = oldest_in_use_s + idle_s + 1;
        }
        if idle.is_empty() {
            return false;
        }
        let last = wanted.min(idle.len()) - 1;
        let (_, &mut newest, _) = idle.select_nth_unstable(last);
        let before = self.map.len();
        self.map.retain(|_, baseline| baseline.seen_s > newest);
        self.evicted += (before - self.map.len()) as u64;
        self.map.len() < self.max_entries
    }
}

fn seconds(ms: u64) -> i64 {
    i64::try_from(ms / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: u64 = 7 * 1024;

    /// A table with room for [`ROOM`] baselines.
    fn table() -> Baselines {
        let table = Baselines::new(2 * 8 * 1024 * SLOT_BYTES);
        assert_eq!(table.max_entries as u64, ROOM);
        table
    }

    /// A scrape of the series with these numbers. Gives the baselines that were looked at to make room.
    fn scrape(table: &mut Baselines, series: std::ops::Range<u64>, monotonic_ms: u64) -> u64 {
        let time = ScrapeTime { monotonic_ms, interval_ms: 10_000 };
        let before = table.visited;
        table.begin(time);
        for n in series {
            table.step([n.wrapping_mul(0x9E37_79B9_7F4A_7C15), 0], 1.0, None, time);
        }
        table.visited - before
    }

    #[test]
    fn a_full_table_is_walked_once_and_not_for_each_new_series() {
        let mut table = table();
        assert_eq!(scrape(&mut table, 0..ROOM, 10_000), 0);
        for n in 2..10 {
            let visited = scrape(&mut table, 0..10 * ROOM, n * 10_000);
            assert!(visited <= ROOM, "{visited} for {} series", 10 * ROOM);
        }
        assert_eq!((table.len() as u64, table.evicted, table.refused), (ROOM, 0, 8 * 9 * ROOM));
    }

    #[test]
    fn room_is_made_for_many_series_at_once() {
        let mut table = table();
        // One idle baseline each second: a walk that finds one must not be followed by one for the next series.
        for n in 0..ROOM {
            scrape(&mut table, n..n + 1, 100_000 + n * 1_000);
        }
        let now_ms = 100_000 + ROOM * 1_000;
        let visited = scrape(&mut table, ROOM..3 * ROOM, now_ms);
        assert!(visited <= 10 * ROOM, "{visited}");
        // All but those of the last two intervals went.
        assert_eq!((table.len() as u64, table.evicted), (ROOM, ROOM - 20));
    }

    #[test]
    fn a_baseline_that_becomes_idle_later_makes_room_then() {
        let mut table = table();
        scrape(&mut table, 0..ROOM, 10_000);
        scrape(&mut table, 1..ROOM + 1, 20_000);
        assert_eq!((table.refused, table.evicted), (1, 0));
        scrape(&mut table, 1..ROOM + 1, 30_000);
        assert_eq!((table.refused, table.evicted), (2, 0));
        scrape(&mut table, 1..ROOM + 1, 31_000);
        assert_eq!((table.refused, table.evicted, table.len() as u64), (2, 1, ROOM));
    }

    #[test]
    fn a_table_that_was_all_idle_makes_room_again() {
        let mut table = Baselines::new(1);
        for (n, evicted) in [(0, 0), (1, 7), (2, 14), (3, 21)] {
            scrape(&mut table, n * 7..n * 7 + 7, 100_000 * n);
            assert_eq!((table.evicted, table.refused, table.len()), (evicted, 0, 7));
        }
    }

    #[test]
    fn old_baselines_that_were_loaded_are_found() {
        let mut table = table();
        scrape(&mut table, 0..ROOM + 1, 100_000);
        table.forget([0, 0]);
        assert!(table.insert_missing([9, 8], Baseline { value: 1.0, own_ms: NO_TIME, seen_s: 3, scrape: 0 }));
        scrape(&mut table, ROOM..ROOM + 1, 101_000);
        assert_eq!((table.refused, table.evicted), (1, 1));
    }

    #[test]
    fn a_smaller_limit_is_kept_as_soon_as_baselines_are_idle() {
        let mut table = table();
        scrape(&mut table, 0..ROOM, 100_000);
        table.set_limit(2 * 1024 * SLOT_BYTES);
        // None that is in use goes, and no more come.
        scrape(&mut table, 0..ROOM + 1, 110_000);
        assert_eq!((table.len() as u64, table.refused), (ROOM, 1));
        for n in 0..ROOM {
            scrape(&mut table, n..n + 1, 111_000 + n * 1_000);
        }
        scrape(&mut table, ROOM..ROOM + 1, 111_000 + ROOM * 1_000);
        assert_eq!((table.max_entries, table.len(), table.refused), (896, 896 / 8 * 7 + 1, 1));
    }
}
