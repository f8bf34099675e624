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
mod emf;
mod event;
mod families;
mod gather;
mod histogram;
mod key;
mod names;
mod saved;

use crate::model::settings::ConvertSettings;
use crate::model::{Event, LabelValues, Layout, MetricType, Page, Report, Sample, Target};
use baseline::{Baselines, ScrapeTime};
use event::{Attributes, Group};
use families::Families;
use gather::{FieldValue, Gathering, GroupHead, Kept};
use histogram::Distribution;
use key::KeyMap;
use std::rc::Rc;

pub use saved::{LoadError, Moment};

/// The label that carries a metric's type in every event.
const TYPE_LABEL: &str = "prom_metric_type";

/// The least `max_gap` where the settings give none.
const DEFAULT_MAX_GAP_MS: u64 = 15 * 60_000;

/// Turns scrapes into events.
pub struct Converter {
    settings: ConvertSettings,
    baselines: Baselines,
    families: KeyMap<Families>,
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
            families: KeyMap::default(),
            matcher: emf::Matcher::default(),
            keys: names::Keys::default(),
        }
    }

    /// Takes new settings; baselines stay.
    pub fn reconfigure(&mut self, settings: ConvertSettings) {
        self.baselines.set_limit(settings.baseline_bytes);
        self.matcher.clear();
        self.settings = settings;
    }

    /// Forgets the metadata of targets other than these. Baselines stay until they are a day old: targets come back.
    pub fn forget_missing<'a>(&mut self, targets: impl IntoIterator<Item = &'a Target>) {
        let mut known = std::mem::take(&mut self.families);
        for target in targets {
            let key = key::of_target(&target.identity());
            if let Some(families) = known.remove(&key) {
                self.families.insert(key, families);
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

    /// Converts one scrape of one target.
    ///
    /// `page` is missing for a scrape that failed: it costs no baseline. `report_samples` (`up`, `scrape_*`) become
    /// events where the settings ask for them or the page gives their names a type. `monotonic_ms` orders scrapes and
    /// ages baselines whatever the wall clock does; it never goes back.
    pub fn convert(
        &mut self,
        target: &Target,
        report: &Report,
        page: Option<Page>,
        report_samples: &[Sample],
        monotonic_ms: u64,
    ) -> Converted {
        let succeeded = page.is_some();
        let Page { mut samples, types } = page.unwrap_or_default();
        let scraped = samples.len();
        let target_key = key::of_target(&target.identity());
        let families = self.families.entry(target_key).or_default();
        // The agent sends them where the page gives one of their names a type.
        let health = self.settings.more.scrape_health;
        let wanted = |sample: &&Sample| {
            let name = sample.labels.name();
            health || families.type_of(&types, name, name).is_some()
        };
        samples.extend(report_samples.iter().filter(wanted).cloned());

        let time = ScrapeTime { monotonic_ms, interval_ms: target.interval_ms };
        let default_gap_ms = DEFAULT_MAX_GAP_MS.max(target.interval_ms.saturating_mul(3));
        let max_gap_ms = self.settings.max_gap_ms.unwrap_or(default_gap_ms);
        let mut gathering = Gathering::new(&self.settings, target_key, time, max_gap_ms);
        self.baselines.begin(time);
        self.keys.begin();
        let mut last = ("", "", None);
        for (at, sample) in samples.iter().enumerate() {
            let gauge = if at >= scraped { health } else { self.settings.more.untyped };
            // A family's samples follow one another.
            let names = (sample.exposed_name(), sample.labels.name());
            if (last.0, last.1) != names {
                last = (names.0, names.1, families.type_of(&types, names.0, names.1));
            }
            match last.2.or(gauge.then_some(MetricType::Gauge)) {
                Some(kind) => gathering.add(at as u32, sample, kind, &mut self.baselines),
                None => gathering.counts.no_type += 1,
            }
        }
        if succeeded {
            families.turn_page(types);
        }
        gathering.finish();
        let Gathering { groups, kept, distributions, mut counts, .. } = gathering;
        counts.baselines_evicted = std::mem::take(&mut self.baselines.evicted);
        counts.baselines_refused = std::mem::take(&mut self.baselines.refused);
        let mut converted = Converted { events: Vec::with_capacity(groups.len()), counts };
        self.write(&samples, &groups, kept, &distributions, report.start_ms, &mut converted);
        converted
    }

    /// Writes the groups' events.
    fn write(
        &mut self,
        samples: &[Sample],
        groups: &[GroupHead],
        mut kept: Vec<Kept>,
        distributions: &[Distribution],
        start_ms: i64,
        converted: &mut Converted,
    ) {
        kept.sort_by_key(|kept| kept.group);
        let Converted { events, counts } = converted;
        let (no_labels, no_numbers) = (Rc::new(LabelValues::default()), Rc::new(Vec::new()));
        let mut fields: Vec<Field<'_>> = Vec::new();
        for run in kept.chunk_by(|a, b| a.group == b.group) {
            fields.clear();
            fields.extend(run.iter().map(|kept| Field { name: kept.name(samples), value: kept.value }));
            // A stable sort: of two samples with one name the later one on the page counts.
            fields.sort_by_key(|field| field.name);
            fields.dedup_by(|later, kept| {
                let same = later.name == kept.name;
                if same {
                    kept.value = later.value;
                }
                same
            });
            let head = &groups[run[0].group as usize];
            let first = &samples[head.first_sample as usize];
            let mut labels = Attributes::of(&first.labels, head.left_out, head.kind, &self.settings);
            let extra: Vec<String> =
                self.settings.labels.iter().map(|(_, template)| event::expand(&template.0, &labels)).collect();
            for ((name, _), value) in self.settings.labels.iter().zip(&extra) {
                labels.add(name, value, None);
            }
            let timestamp_ms = first.timestamp_ms.unwrap_or(start_ms);
            let group = Group {
                labels: &labels,
                fields: &fields,
                distributions,
                timestamp_ms: Some(timestamp_ms),
                span_s: head.span_s,
            };
            let outcome = group.write(&self.settings, &mut self.matcher);
            let lost = outcome.oversized + if outcome.undeclared { fields.len() as u64 } else { 0 };
            counts.oversized += outcome.oversized;
            counts.undeclared += lost - outcome.oversized;
            counts.converted += fields.len() as u64 - lost;
            if outcome.written.is_empty() {
                continue;
            }
            let key = self.keys.of(&self.settings, &labels);
            let own_time = first.timestamp_ms.is_some();
            events.extend(outcome.written.into_iter().map(|written| {
                let layout = Layout::new(Rc::clone(&key), Rc::new(written.shape), Rc::clone(&no_labels));
                Event { layout: Rc::new(layout), numbers: Rc::clone(&no_numbers), first: 0, own_time, timestamp_ms }
            }));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
