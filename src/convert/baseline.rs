//! What each counter stood at when it was last seen.
//!
//! A baseline costs 40 bytes and one of the hash table's; labels are kept as a 128-bit key only. When the memory that
//! the settings grant is used up, baselines that the last two intervals did not touch go, the oldest first; if there are
//! none, a new series gets no baseline (and so no deltas) rather than pushing out one that is in use.

use super::key::{Key, KeyMap};

/// The memory for baselines where the settings say nothing.
const DEFAULT_BYTES: u64 = 16 << 20;

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
            evicted: 0,
            refused: 0,
        };
        new.set_limit(max_bytes);
        new
    }

    /// Sets the memory for the table, 0 for the default.
    pub(super) fn set_limit(&mut self, max_bytes: u64) {
        let bytes = if max_bytes == 0 { DEFAULT_BYTES } else { max_bytes };
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
            self.map.insert(key, baseline);
        }
        fits
    }

    /// Forgets a series: its value was not a number, which is how an exporter says that it is stale.
    pub(super) fn forget(&mut self, key: Key) {
        self.map.remove(&key);
    }

    /// Evicts an eighth of all baselines, or as many as have been left alone for two intervals.
    fn make_room(&mut self, now_s: i64) -> bool {
        let idle_s = 2 * self.longest_interval_s.max(1);
        let mut idle: Vec<i32> =
            self.map.values().map(|b| b.seen_s).filter(|&seen| now_s - i64::from(seen) > idle_s).collect();
        if idle.is_empty() {
            return false;
        }
        let last = (self.max_entries / 8).clamp(1, idle.len()) - 1;
        let (_, &mut oldest_kept, _) = idle.select_nth_unstable(last);
        let before = self.map.len();
        self.map.retain(|_, baseline| baseline.seen_s > oldest_kept);
        self.evicted += (before - self.map.len()) as u64;
        true
    }
}

fn seconds(ms: u64) -> i64 {
    i64::try_from(ms / 1000).unwrap_or(i64::MAX)
}
