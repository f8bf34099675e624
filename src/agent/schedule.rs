//! When each target is scraped.
//!
//! All targets are due at once when they appear, so that a restart leaves no gap; from the second round on those with the
//! same interval are spread evenly over it. A missed tick is skipped, never queued: a late loop must not make itself later.

use crate::model::Target;
use crate::scrape::ScrapeErrorKind;
use std::collections::HashMap;
use std::rc::Rc;

/// A target that hung this often in a row gets less than its time-out; see [`Schedule::timeout_ms`].
const HUNG_AFTER: u32 = 2;
/// The least that a hung target gets.
const HUNG_TIMEOUT_MS: u64 = 500;
/// Every so many intervals a hung target gets its whole time-out again.
const HUNG_FULL_EVERY: u32 = 10;

/// A target that stays down for the same kind of reason is said to be so again after this long.
const SAID_AGAIN_MS: u64 = 3_600_000;
/// The most log lines about one target in that time: one that comes and goes must not fill the log.
const LINES_OF_TARGET_MAX: u32 = 20;
/// The most log lines about all targets in a minute.
const LINES_A_MINUTE_MAX: u32 = 60;

/// All targets with their due times (monotonic milliseconds).
#[derive(Default)]
pub struct Schedule {
    entries: Vec<Entry>,
    minute: Lines,
}

/// Log lines in a span of time, and those that were left out since the last one.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    since_ms: u64,
    count: u32,
    left_out: u64,
}

impl Lines {
    /// Begins a new span where the last one is over. Whether one more line may be written.
    fn room(&mut self, now_ms: u64, span_ms: u64, most: u32) -> bool {
        if now_ms.saturating_sub(self.since_ms) >= span_ms {
            (self.since_ms, self.count) = (now_ms, 0);
        }
        self.count < most
    }
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
    /// What the log last said of it, and when; nothing while it is up as far as the log knows.
    said: Option<(ScrapeErrorKind, u64)>,
    /// Lines in the log about it this hour; and failures that were not logged.
    lines: Lines,
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

    /// Whether the log is to hear how a scrape ended (`kind`: of its failure): when the target goes down, when the kind of the
    /// error changes, and else once an hour; and when it is up again. Texts vary too easily to be news. Gives the failures since
    /// the last line of the target. Over the bound for all targets a line is left out, and made up for when there is room.
    pub fn is_news(&mut self, index: usize, kind: Option<ScrapeErrorKind>, now_ms: u64) -> Option<u64> {
        let health = &mut self.entries[index].health;
        let news = match (health.said, kind) {
            (Some((said, at_ms)), Some(kind)) => said != kind || now_ms.saturating_sub(at_ms) >= SAID_AGAIN_MS,
            (said, kind) => said.is_some() || kind.is_some(),
        };
        if news && health.lines.room(now_ms, SAID_AGAIN_MS, LINES_OF_TARGET_MAX) {
            if self.minute.room(now_ms, 60_000, LINES_A_MINUTE_MAX) {
                self.minute.count += 1;
                health.lines.count += 1;
                health.said = kind.map(|kind| (kind, now_ms));
                return Some(std::mem::take(&mut health.lines.left_out));
            }
            self.minute.left_out += 1;
        }
        health.lines.left_out += u64::from(kind.is_some());
        None
    }

    /// Lines about targets that were left out in a minute that is over.
    pub fn take_left_out(&mut self, now_ms: u64) -> u64 {
        let over = now_ms.saturating_sub(self.minute.since_ms) >= 60_000;
        if over { std::mem::take(&mut self.minute.left_out) } else { 0 }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::prometheus::{Context, parse};
    use crate::discovery::Discoverer;
    use crate::env::RealDisk;

    fn schedule(targets: usize) -> Schedule {
        let addresses: Vec<String> = (0..targets).map(|at| format!("h:{}", at + 1)).collect();
        let yaml =
            format!("scrape_configs: [{{job_name: a, static_configs: [{{targets: [{}]}}]}}]", addresses.join(", "));
        let context = Context { base_dir: "/".into(), vars: Default::default() };
        let jobs = parse("f", &yaml, &context, &RealDisk, &mut Vec::new());
        let mut schedule = Schedule::default();
        schedule.replace(Discoverer::new(jobs.into_iter().map(Rc::new).collect()).targets(), 0);
        assert_eq!(schedule.entries().len(), targets);
        schedule
    }

    #[test]
    fn an_error_whose_text_varies_is_logged_once_an_hour() {
        use ScrapeErrorKind::{Connect, Parse};
        let mut schedule = schedule(1);
        let mut said = |seconds: u64, kind| schedule.is_news(0, kind, seconds * 1000);
        assert_eq!(said(0, None), None, "a target that is up from the start is no news");
        assert_eq!(said(1, Some(Parse)), Some(0));
        for second in 2..100 {
            assert_eq!(said(second, Some(Parse)), None);
        }
        assert_eq!(said(100, Some(Connect)), Some(98), "another kind");
        assert_eq!(said(101, None), Some(0), "up again");
        assert_eq!(said(102, None), None);
        assert_eq!(said(103, Some(Connect)), Some(0), "down again");
        assert_eq!((103..4000).filter(|second| said(*second, Some(Connect)).is_some()).count(), 1, "an hour later");
    }

    #[test]
    fn a_target_that_comes_and_goes_does_not_fill_the_log() {
        let kinds = [Some(ScrapeErrorKind::Parse), None, Some(ScrapeErrorKind::Connect)];
        let mut schedule = schedule(1);
        let lines = (0..7200_u64).filter(|s| schedule.is_news(0, kinds[*s as usize % 3], s * 1000).is_some()).count();
        assert_eq!(lines, 2 * LINES_OF_TARGET_MAX as usize);
    }

    #[test]
    fn many_targets_that_go_down_together_are_told_over_the_minutes() {
        let down = Some(ScrapeErrorKind::Connect);
        let mut schedule = schedule(100);
        let mut of_second = |second: u64| {
            let lines = (0..100).filter(|at| schedule.is_news(*at, down, second * 1000).is_some()).count();
            (lines, schedule.take_left_out(second * 1000))
        };
        assert_eq!(of_second(0), (60, 0));
        assert_eq!(of_second(59), (0, 0));
        assert_eq!(of_second(60), (40, 0), "the others have their turn");
        assert_eq!(of_second(120), (0, 80));
    }
}
