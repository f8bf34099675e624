//! When each target is scraped.
//!
//! All targets are due at once when they appear, so that a restart leaves no gap; from the second round on those with the
//! same interval are spread evenly over it. A missed tick is skipped, never queued: a late loop must not make itself later.

use crate::model::Target;
use std::collections::HashMap;
use std::rc::Rc;

/// A target that hung this often in a row gets less than its time-out; see [`Schedule::timeout_ms`].
const HUNG_AFTER: u32 = 2;
/// The least that a hung target gets.
const HUNG_TIMEOUT_MS: u64 = 500;
/// Every so many intervals a hung target gets its whole time-out again.
const HUNG_FULL_EVERY: u32 = 10;

/// All targets with their due times (monotonic milliseconds).
#[derive(Default)]
pub struct Schedule {
    entries: Vec<Entry>,
}

/// One target and what is known of its scrapes.
pub struct Entry {
    /// The target.
    pub target: Rc<Target>,
    /// [`Target::identity`], made once.
    pub identity: String,
    /// When it is due next.
    pub due_ms: u64,
    /// Failed scrapes in a row that took half of their time-out or more.
    pub hung: u32,
    /// For `status`.
    pub health: Health,
    first_round: bool,
    phase_ms: u64,
}

/// What `status` tells of a target.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Whether the last scrape succeeded; nothing before the first.
    pub up: Option<bool>,
    /// Scrapes so far.
    pub scrapes: u64,
    /// Failed scrapes so far.
    pub failures: u64,
    /// Wall time of the last scrape.
    pub last_scrape_ms: i64,
    /// Its duration.
    pub last_duration_ms: u64,
    /// Samples it gave.
    pub last_samples: u64,
    /// The last error and when it was; it stays after the target has recovered.
    pub last_error: Option<(i64, String)>,
    /// Bad lines that were skipped.
    pub lines_skipped: u64,
    /// Lines, files and samples that the last scrape left out although it succeeded; a few of them, with their places.
    pub problems: Vec<String>,
    /// Failures by kind, for the counters in `status`.
    pub failures_by_kind: std::collections::BTreeMap<&'static str, u64>,
}

impl Schedule {
    /// Takes over a new set of targets; those that stay keep their due times.
    pub fn replace(&mut self, targets: &[Rc<Target>], now_ms: u64) {
        let mut old: HashMap<String, Entry> =
            self.entries.drain(..).map(|entry| (entry.identity.clone(), entry)).collect();
        let mut of_interval: HashMap<u64, u64> = HashMap::new();
        for target in targets {
            *of_interval.entry(target.interval_ms).or_default() += 1;
        }
        let mut seen: HashMap<u64, u64> = HashMap::new();
        for target in targets {
            let index = seen.entry(target.interval_ms).or_default();
            let phase_ms = target.interval_ms * *index / of_interval[&target.interval_ms];
            *index += 1;
            let identity = target.identity();
            let entry = match old.remove(&identity) {
                Some(entry) if entry.target.interval_ms == target.interval_ms => {
                    Entry { target: Rc::clone(target), ..entry }
                }
                kept => Entry {
                    target: Rc::clone(target),
                    identity,
                    due_ms: now_ms,
                    hung: 0,
                    health: kept.map(|entry| entry.health).unwrap_or_default(),
                    first_round: true,
                    phase_ms,
                },
            };
            self.entries.push(entry);
        }
    }

    /// All targets.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at a place that [`Self::most_overdue`] gave.
    pub fn entry_mut(&mut self, index: usize) -> &mut Entry {
        &mut self.entries[index]
    }

    /// When the next scrape is due.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.entries.iter().map(|entry| entry.due_ms).min()
    }

    /// The target that has waited longest past its due time.
    pub fn most_overdue(&self, now_ms: u64) -> Option<usize> {
        let (index, entry) = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.due_ms)?;
        (entry.due_ms <= now_ms).then_some(index)
    }

    /// How long this scrape may take. A target that hangs again and again gets only what is left until another one is
    /// due, never under 500 ms, and its full time-out every tenth interval, so that it can show that it has recovered.
    pub fn timeout_ms(&self, index: usize, now_ms: u64) -> u64 {
        let entry = &self.entries[index];
        let full_ms = entry.target.timeout_ms;
        if entry.hung < HUNG_AFTER || entry.hung.is_multiple_of(HUNG_FULL_EVERY) {
            return full_ms;
        }
        let others = self.entries.iter().enumerate().filter(|(other, _)| *other != index);
        let next_due_ms = others.map(|(_, other)| other.due_ms).min().unwrap_or(u64::MAX);
        full_ms.min(next_due_ms.saturating_sub(now_ms).max(HUNG_TIMEOUT_MS))
    }

    /// Sets the next due time after a scrape that began at `started_ms` and ended at `now_ms`.
    pub fn done(&mut self, index: usize, started_ms: u64, now_ms: u64) {
        let entry = &mut self.entries[index];
        let interval_ms = entry.target.interval_ms.max(1);
        if entry.first_round {
            entry.first_round = false;
            // Into its place in the interval, half an interval to one and a half after the first scrape.
            let gap_ms = if entry.phase_ms * 2 >= interval_ms { entry.phase_ms } else { interval_ms + entry.phase_ms };
            entry.due_ms = started_ms + gap_ms;
        } else {
            entry.due_ms += interval_ms;
        }
        if entry.due_ms <= now_ms {
            let missed = (now_ms - entry.due_ms) / interval_ms + 1;
            entry.due_ms += missed * interval_ms;
        }
    }
}
