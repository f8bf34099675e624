//! Samples become log events, as in the Amazon CloudWatch agent.
//!
//! ```text
//! page -> type -> filter -> delta of counters -> group by label set -> labels added -> metric declarations -> JSON
//! ```
//!
//! What each step does is the agent's (`plugins/inputs/prometheus`, and its fork of `awsemfexporter`); where we differ on
//! purpose, `docs/cwa-compatibility.md` says so with an example. State that outlives a scrape: the counters' baselines
//! ([`baseline`]), the types that a target's last pages gave ([`families`]), verdicts of metric selectors ([`emf`]).
//!
//! Refuses: HTTP, files and clocks; times are passed in. Limits: baselines by bytes, families by count, an event by the
//! service's 1 MiB with room for later marks, a metric directive by 100 metrics.

mod baseline;
mod commit;
mod emf;
mod event;
mod families;
mod gather;
mod histogram;
mod key;
mod layouts;
mod names;
mod plain;
mod plan;
mod saved;

use crate::model::settings::ConvertSettings;
use crate::model::{Event, Intake, MetricType, Sample, Target};
use baseline::Baselines;
use commit::Scratch;
use families::Families;
use gather::FieldValue;
use key::KeyMap;
use layouts::Layouts;
use plan::Plan;
use std::collections::HashMap;

pub use saved::{LoadError, Moment};

/// The label that carries a metric's type in every event.
const TYPE_LABEL: &str = "prom_metric_type";

/// The least `max_gap` where the settings give none.
const DEFAULT_MAX_GAP_MS: u64 = 15 * 60_000;

/// The memory for the plans of all targets, in bytes, roughly.
const PLAN_BYTES_MAX: usize = 24 << 20;
/// A target whose plan found no room takes the plain way for so many scrapes; then it is tried again.
const PLAIN_SCRAPES: u32 = 256;

/// Turns scrapes into events.
pub struct Converter {
    settings: ConvertSettings,
    baselines: Baselines,
    targets: KeyMap<TargetState>,
    scratch: Scratch,
    generation: u64,
    matcher: emf::Matcher,
    keys: names::Keys,
}

/// What one scrape came to.
#[derive(Debug, Default)]
pub struct Converted {
    /// The events, in the order in which their label sets first appear on the page.
    pub events: Vec<Event>,
    /// What did not become an event, and why.
    pub counts: ConvertCounts,
}

/// What did not become part of an event, by reason; samples unless something else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConvertCounts {
    /// In events.
    pub converted: u64,
    /// Of a type that is not sent: histogram, untyped, info, state set.
    pub unsupported_type: u64,
    /// Without any metadata.
    pub no_type: u64,
    /// NaN or infinite.
    pub not_finite: u64,
    /// Counters that have no baseline yet.
    pub first_seen: u64,
    /// Counters whose own time stamp did not advance.
    pub not_advancing: u64,
    /// Counters that stood on the page before, most often because a relabelling rule dropped the label that told them
    /// apart: the last one's total is sent instead of an increase, as in the agent. They count as converted too.
    pub repeated: u64,
    /// Deltas over more than `max_gap`: logged, but without metrics.
    pub long_gap: u64,
    /// Too large for an event together with their labels.
    pub oversized: u64,
    /// No metric declaration wanted them, and only declared events are sent.
    pub undeclared: u64,
    /// Baselines that were dropped to make room for others.
    pub baselines_evicted: u64,
    /// Counters that got no baseline for want of room.
    pub baselines_refused: u64,
}

impl ConvertCounts {
    fn add(&mut self, more: &Self) {
        self.converted += more.converted;
        self.unsupported_type += more.unsupported_type;
        self.no_type += more.no_type;
        self.not_finite += more.not_finite;
        self.first_seen += more.first_seen;
        self.not_advancing += more.not_advancing;
        self.repeated += more.repeated;
        self.long_gap += more.long_gap;
        self.oversized += more.oversized;
        self.undeclared += more.undeclared;
        self.baselines_evicted += more.baselines_evicted;
        self.baselines_refused += more.baselines_refused;
    }
}

/// A member of an event that comes from a sample.
#[derive(Clone, Copy)]
struct Field<'a> {
    name: &'a str,
    value: FieldValue,
}

impl Converter {
    /// A converter without any baseline.
    pub fn new(settings: ConvertSettings) -> Self {
        Self {
            baselines: Baselines::new(settings.baseline_bytes),
            settings,
            targets: KeyMap::default(),
            scratch: Scratch::default(),
            generation: 0,
            matcher: emf::Matcher::default(),
            keys: names::Keys::default(),
        }
    }

    /// Takes new settings; baselines stay.
    pub fn reconfigure(&mut self, settings: ConvertSettings) {
        self.baselines.set_limit(settings.baseline_bytes);
        self.matcher.clear();
        self.settings = settings;
        let generation = self.next_generation();
        self.targets.values_mut().for_each(|state| state.renew(generation));
    }

    /// Forgets the metadata and the plans of targets other than these. Baselines stay until they are a day old: targets come back.
    pub fn forget_missing<'a>(&mut self, targets: impl IntoIterator<Item = &'a Target>) {
        let mut known = std::mem::take(&mut self.targets);
        for target in targets {
            let key = key::of_target(&target.identity());
            if let Some(state) = known.remove(&key) {
                self.targets.insert(key, state);
            }
        }
        self.keys.sweep();
    }

    /// The counters' baselines as bytes with a checksum, for a clean stop.
    pub fn save_baselines(&self, now: Moment) -> Vec<u8> {
        saved::save(&self.baselines, now)
    }

    /// Takes back what [`Self::save_baselines`] gave, and says how many baselines that made.
    ///
    /// The caller must see to it that the same bytes are never loaded twice, nor after a stop that was not clean: deltas
    /// that were sent meanwhile would be sent again.
    ///
    /// # Errors
    /// The bytes are damaged or of a newer version; nothing was loaded.
    pub fn load_baselines(&mut self, bytes: &[u8], now: Moment) -> Result<usize, LoadError> {
        saved::load(&mut self.baselines, bytes, now)
    }

    /// How many baselines there are, and the bytes that they take.
    pub fn baselines(&self) -> (usize, u64) {
        (self.baselines.len(), self.baselines.bytes())
    }

    /// Takes a scrape of this target that begins: push the page to it, then call [`Converter::finish`].
    pub fn intake(&mut self, target: &Target) -> &mut dyn Intake {
        let key = key::of_target(&target.identity());
        let generation = self.next_generation();
        let all: usize = self.targets.values().map(TargetState::memory_bytes).sum();
        let state = self.targets.entry(key).or_insert_with(|| TargetState::new(generation, target));
        let others = all.saturating_sub(state.memory_bytes());
        state.plan.bytes_max = if state.plain_scrapes > 0 { 0 } else { PLAN_BYTES_MAX.saturating_sub(others) };
        &mut state.plan
    }

    fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    fn max_gap_ms(&self, target: &Target) -> u64 {
        let default_ms = DEFAULT_MAX_GAP_MS.max(target.interval_ms.saturating_mul(3));
        self.settings.max_gap_ms.unwrap_or(default_ms)
    }
}

/// What is kept of one target.
struct TargetState {
    families: Families,
    plan: Plan,
    layouts: Layouts,
    /// Counts scrapes, to tell what the present one touched.
    scrape: u32,
    /// The numbers of `up` and its like, by name.
    reports: Vec<(Box<str>, u32)>,
    /// So many scrapes more take the plain way, for want of room.
    plain_scrapes: u32,
}

impl TargetState {
    fn new(generation: u64, target: &Target) -> Self {
        Self {
            families: Families::default(),
            plan: Plan::new(generation, &target.labels),
            layouts: Layouts::default(),
            scrape: 0,
            reports: Vec::new(),
            plain_scrapes: 0,
        }
    }

    fn memory_bytes(&self) -> usize {
        self.plan.memory_bytes() + self.layouts.memory_bytes()
    }

    /// The plan and all that hangs on it begin anew; what the families' types are stays.
    fn renew(&mut self, generation: u64) {
        (self.plan, self.layouts) = (self.plan.anew(generation), Layouts::default());
        self.reports.clear();
    }

    fn renew_if_wasted(&mut self, generation: u64, succeeded: bool, found_no_room: bool) {
        let had_room = self.plan.bytes_max > 0;
        self.plain_scrapes = self.plain_scrapes.saturating_sub(1);
        let overflowed = had_room && (found_no_room || self.plan.has_odd());
        if overflowed {
            self.plain_scrapes = PLAIN_SCRAPES;
        }
        // A target that is down for a while comes back with the same series.
        if overflowed || (succeeded && self.plan.is_forgotten()) {
            self.renew(generation);
        }
    }

    /// Stages `up` or one of its like, where the settings ask for it or the page gives its name a type, as in the agent.
    fn push_report_sample(&mut self, sample: &Sample, types: Option<&HashMap<Box<str>, MetricType>>, health: bool) {
        let name = sample.labels.name();
        let none = HashMap::new();
        if !health && self.families.type_of(types.unwrap_or(&none), name, name).is_none() {
            return;
        }
        let known = self.reports.iter().find(|(known, _)| &**known == name).map(|(_, number)| *number);
        let number = known.or_else(|| {
            let labels: Vec<(&str, &str)> = sample.labels.iter().collect();
            let number = self.plan.series(&labels, name)?;
            self.reports.push((name.into(), number));
            Some(number)
        });
        // A handful of samples is never too large for a page.
        let _ = match number {
            Some(number) => self.plan.sample(number, sample.value, sample.timestamp_ms),
            None => {
                let labels: Vec<(&str, &str)> = sample.labels.iter().collect();
                self.plan.odd(&labels, name, sample.value, sample.timestamp_ms)
            }
        };
    }
}

#[cfg(test)]
pub(crate) mod tests;
