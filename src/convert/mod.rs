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
//! service's 1 MiB, a metric directive by 100 metrics.

mod baseline;
mod emf;
mod event;
mod families;
mod json;
mod key;
mod names;
mod saved;

use crate::model::settings::ConvertSettings;
use crate::model::{Event, MetricType, Page, Report, Sample, Target};
use baseline::{Baselines, ScrapeTime, Step};
use event::{Attributes, Group};
use families::Families;
use key::{Key, KeyMap};
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
    /// Counters whose own time stamp did not advance, or that stand on the page twice.
    pub not_advancing: u64,
    /// Deltas over more than `max_gap`: logged, but without metrics.
    pub long_gap: u64,
    /// Too large for an event of 1 MiB together with their labels.
    pub oversized: u64,
    /// No metric declaration wanted them, and only declared events are sent.
    pub undeclared: u64,
    /// Baselines that were dropped to make room for others.
    pub baselines_evicted: u64,
    /// Counters that got no baseline for want of room.
    pub baselines_refused: u64,
}

/// A member of an event that comes from a sample.
struct Field<'a> {
    name: &'a str,
    value: FieldValue,
}

/// A field's value.
#[derive(Clone, Copy)]
enum FieldValue {
    Number(f64),
}

/// A sample that is going to be a field.
struct Kept {
    group: u32,
    sample: u32,
    value: FieldValue,
}

/// The samples of one event.
struct Gathered {
    first_sample: u32,
    kind: MetricType,
    span_s: Option<u32>,
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
        let present: Vec<Key> = targets.into_iter().map(|target| key::of_target(&target.identity())).collect();
        self.families.retain(|key, _| present.contains(key));
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
        let Page { mut samples, types } = page.unwrap_or_default();
        let scraped = samples.len();
        samples.extend_from_slice(report_samples);

        let mut counts = ConvertCounts::default();
        let target_key = key::of_target(&target.identity());
        let families = self.families.entry(target_key).or_default();
        let time = ScrapeTime { monotonic_ms, interval_ms: target.interval_ms };
        let max_gap_ms =
            self.settings.max_gap_ms.unwrap_or_else(|| DEFAULT_MAX_GAP_MS.max(target.interval_ms.saturating_mul(3)));
        self.baselines.begin(time);

        let mut kept: Vec<Kept> = Vec::new();
        let mut groups: Vec<Gathered> = Vec::new();
        let mut group_of: KeyMap<u32> = KeyMap::default();
        for (at, sample) in samples.iter().enumerate() {
            let reported = at >= scraped;
            let kind = match families.type_of(&types, sample) {
                Some(kind) => kind,
                None if reported && self.settings.more.scrape_health => MetricType::Gauge,
                None if reported => continue,
                None if self.settings.more.untyped => MetricType::Gauge,
                None => {
                    counts.no_type += 1;
                    continue;
                }
            };
            let kind = match kind {
                MetricType::Gauge | MetricType::Counter | MetricType::Summary => kind,
                MetricType::Unknown if self.settings.more.untyped => MetricType::Gauge,
                _ => {
                    counts.unsupported_type += 1;
                    continue;
                }
            };
            let name = sample.labels.name();
            if name.is_empty() {
                counts.no_type += 1;
                continue;
            }
            let labels_key = key::of_labels(&sample.labels, "", kind);
            let (value, span_s) = if is_cumulative(kind, name) {
                let series = key::of_series(target_key, labels_key, name);
                if !sample.value.is_finite() {
                    self.baselines.forget(series);
                    counts.not_finite += 1;
                    continue;
                }
                match self.baselines.step(series, sample.value, sample.timestamp_ms, time) {
                    Step::First => {
                        counts.first_seen += 1;
                        continue;
                    }
                    Step::Stuck => {
                        counts.not_advancing += 1;
                        continue;
                    }
                    Step::Delta(delta, span_ms) if span_ms > max_gap_ms => {
                        counts.long_gap += 1;
                        (delta, Some(u32::try_from(span_ms / 1000).unwrap_or(u32::MAX)))
                    }
                    Step::Delta(delta, _) => (delta, None),
                }
            } else {
                (sample.value, None)
            };
            // A delta of huge values may be infinite too.
            if !value.is_finite() {
                counts.not_finite += 1;
                continue;
            }
            let group_key = [labels_key[0], labels_key[1] ^ span_s.map_or(0, |s| u64::from(s) + 1)];
            let at = at as u32;
            let group = *group_of.entry(group_key).or_insert_with(|| {
                groups.push(Gathered { first_sample: at, kind, span_s });
                (groups.len() - 1) as u32
            });
            kept.push(Kept { group, sample: at, value: FieldValue::Number(value) });
        }
        drop(group_of);
        families.turn_page(types);

        let name_of = |kept: &Kept| field_name(&samples[kept.sample as usize]);
        kept.sort_by(|a, b| a.group.cmp(&b.group).then_with(|| name_of(a).cmp(name_of(b))));
        let mut events = Vec::with_capacity(groups.len());
        let mut fields: Vec<Field<'_>> = Vec::new();
        for run in kept.chunk_by(|a, b| a.group == b.group) {
            fields.clear();
            for kept in run {
                let field = Field { name: name_of(kept), value: kept.value };
                // The sort is stable: of two samples with one name the later one on the page counts.
                match fields.last_mut() {
                    Some(last) if last.name == field.name => *last = field,
                    _ => fields.push(field),
                }
            }
            let gathered = &groups[run[0].group as usize];
            let first = &samples[gathered.first_sample as usize];
            let mut labels = Attributes::of(&first.labels, "", gathered.kind, &self.settings);
            let extra: Vec<String> =
                self.settings.labels.iter().map(|(_, template)| event::expand(&template.0, &labels)).collect();
            for ((name, _), value) in self.settings.labels.iter().zip(&extra) {
                labels.add(name, value);
            }
            let timestamp_ms = first.timestamp_ms.unwrap_or(report.start_ms);
            let group = Group { labels: &labels, fields: &fields, timestamp_ms, span_s: gathered.span_s };
            let written = group.write(&self.settings, &mut self.matcher);
            let lost = written.oversized + if written.undeclared { fields.len() as u64 } else { 0 };
            counts.oversized += written.oversized;
            counts.undeclared += lost - written.oversized;
            counts.converted += fields.len() as u64 - lost;
            if written.messages.is_empty() {
                continue;
            }
            let key = self.keys.of(&self.settings, &labels);
            let own_time = first.timestamp_ms.is_some();
            let event = |message| Event { key: Rc::clone(&key), timestamp_ms, own_time, message };
            events.extend(written.messages.into_iter().map(event));
        }
        counts.baselines_evicted = std::mem::take(&mut self.baselines.evicted);
        counts.baselines_refused = std::mem::take(&mut self.baselines.refused);
        Converted { events, counts }
    }
}

/// Whether a sample is sent as the difference to the one before.
fn is_cumulative(kind: MetricType, name: &str) -> bool {
    match kind {
        MetricType::Counter => true,
        MetricType::Summary => name.ends_with("_count") || name.ends_with("_sum"),
        _ => false,
    }
}

/// A metric's name in an event. The agent's input plug-in calls a metric `value` by its measurement's name.
fn field_name(sample: &Sample) -> &str {
    match sample.labels.name() {
        "value" => "prometheus",
        name => name,
    }
}

#[cfg(test)]
mod tests;
