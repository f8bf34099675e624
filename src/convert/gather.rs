//! Samples become fields, and fields with the same labels come together in a group: one event.

use super::baseline::{Baselines, ScrapeTime, Step};
use super::histogram::{Distribution, Histogram};
use super::key::{self, Key, KeyMap};
use super::{ConvertCounts, families};
use crate::model::settings::{ConvertSettings, Histograms};
use crate::model::{MetricType, Sample};

/// A value of a field.
#[derive(Clone, Copy)]
pub(super) enum FieldValue {
    Number(f64),
    /// An index of [`Gathering::distributions`].
    Distribution(u32),
}

/// A sample that is going to be a field.
pub(super) struct Kept {
    pub group: u32,
    pub sample: u32,
    pub value: FieldValue,
}

impl Kept {
    /// The field's name. The agent's input plug-in calls a metric `value` by its measurement's name.
    pub(super) fn name<'a>(&self, samples: &'a [Sample]) -> &'a str {
        let name = samples[self.sample as usize].labels.name();
        let name = match self.value {
            FieldValue::Number(_) => name,
            FieldValue::Distribution(_) => families::without_suffix(name),
        };
        if name == "value" { "prometheus" } else { name }
    }
}

/// What the fields of one event have in common.
pub(super) struct GroupHead {
    /// Its labels and its time are the group's, as in the agent.
    pub first_sample: u32,
    pub kind: MetricType,
    /// The label that is not part of the event: `le`, where buckets become a distribution.
    pub left_out: &'static str,
    /// Seconds, where deltas span more than `max_gap`.
    pub span_s: Option<u32>,
}

/// The samples of one scrape on their way.
pub(super) struct Gathering<'a> {
    pub settings: &'a ConvertSettings,
    pub target: Key,
    pub time: ScrapeTime,
    pub max_gap_ms: u64,
    pub counts: ConvertCounts,
    pub kept: Vec<Kept>,
    pub groups: Vec<GroupHead>,
    pub distributions: Vec<Distribution>,
    group_of: KeyMap<u32>,
    histograms: Vec<Histogram>,
    histogram_of: KeyMap<u32>,
}

impl<'a> Gathering<'a> {
    pub(super) fn new(settings: &'a ConvertSettings, target: Key, time: ScrapeTime, max_gap_ms: u64) -> Self {
        Self {
            settings,
            target,
            time,
            max_gap_ms,
            counts: ConvertCounts::default(),
            kept: Vec::new(),
            groups: Vec::new(),
            distributions: Vec::new(),
            group_of: KeyMap::default(),
            histograms: Vec::new(),
            histogram_of: KeyMap::default(),
        }
    }

    /// Takes one sample whose family has the type `kind`.
    pub(super) fn add(&mut self, at: u32, sample: &Sample, kind: MetricType, baselines: &mut Baselines) {
        let name = sample.labels.name();
        let (kind, cumulative) = match kind {
            _ if name.is_empty() => {
                self.counts.no_type += 1;
                return;
            }
            MetricType::Gauge => (kind, false),
            MetricType::Counter => (kind, true),
            MetricType::Summary => (kind, name.ends_with("_count") || name.ends_with("_sum")),
            MetricType::Unknown if self.settings.more.untyped => (MetricType::Gauge, false),
            MetricType::Histogram if self.wants_histogram_part(name) => {
                if self.settings.more.histograms == Histograms::Values {
                    self.add_to_histogram(at, sample, baselines);
                    return;
                }
                (kind, true)
            }
            _ => {
                self.counts.unsupported_type += 1;
                return;
            }
        };
        let labels = key::of_labels(&sample.labels, "", kind);
        let (value, span_ms) = if cumulative {
            match self.delta(labels, sample, baselines) {
                Some(delta) => delta,
                None => return,
            }
        } else {
            (sample.value, 0)
        };
        // A delta of huge values may be infinite too.
        if !value.is_finite() {
            self.counts.not_finite += 1;
            return;
        }
        let group = self.group(labels, at, kind, "", span_ms, 1);
        self.kept.push(Kept { group, sample: at, value: FieldValue::Number(value) });
    }

    /// Turns the histograms that were gathered into fields.
    pub(super) fn finish(&mut self) {
        self.histogram_of = KeyMap::default();
        for histogram in std::mem::take(&mut self.histograms) {
            let Some(distribution) = histogram.distribution() else { continue };
            let samples = u64::from(histogram.samples);
            let at = histogram.first_sample;
            let group = self.group(histogram.labels, at, MetricType::Histogram, "le", histogram.span_ms, samples);
            let value = FieldValue::Distribution(self.distributions.len() as u32);
            self.distributions.push(distribution);
            self.kept.push(Kept { group, sample: at, value });
        }
        self.group_of = KeyMap::default();
    }

    fn wants_histogram_part(&self, name: &str) -> bool {
        let total = name.ends_with("_count") || name.ends_with("_sum");
        match self.settings.more.histograms {
            Histograms::Drop => false,
            Histograms::CountAndSum => total,
            Histograms::Buckets | Histograms::Values => total || name.ends_with("_bucket"),
        }
    }

    /// A cumulative sample's increase and the milliseconds that it took.
    fn delta(&mut self, labels: Key, sample: &Sample, baselines: &mut Baselines) -> Option<(f64, u64)> {
        let series = key::of_series(self.target, labels, sample.labels.name());
        if !sample.value.is_finite() {
            baselines.forget(series);
            self.counts.not_finite += 1;
            return None;
        }
        match baselines.step(series, sample.value, sample.timestamp_ms, self.time) {
            Step::First => self.counts.first_seen += 1,
            Step::Stuck => self.counts.not_advancing += 1,
            Step::Repeated => {
                self.counts.repeated += 1;
                return Some((sample.value, 0));
            }
            Step::Delta(delta, span_ms) => return Some((delta, span_ms)),
        }
        None
    }

    fn add_to_histogram(&mut self, at: u32, sample: &Sample, baselines: &mut Baselines) {
        let name = sample.labels.name();
        let full = key::of_labels(&sample.labels, "", MetricType::Histogram);
        let delta = self.delta(full, sample, baselines);
        let labels = key::of_labels(&sample.labels, "le", MetricType::Histogram);
        let identity = key::of_series(self.target, labels, families::without_suffix(name));
        let index = *self.histogram_of.entry(identity).or_insert_with(|| {
            self.histograms.push(Histogram::new(labels, at));
            (self.histograms.len() - 1) as u32
        });
        self.histograms[index as usize].add(name, sample.labels.get("le"), delta);
    }

    /// The group of these labels; samples whose deltas span too long a time get groups of their own.
    fn group(
        &mut self,
        labels: Key,
        at: u32,
        kind: MetricType,
        left_out: &'static str,
        span_ms: u64,
        samples: u64,
    ) -> u32 {
        let span_s = (span_ms > self.max_gap_ms).then(|| u32::try_from(span_ms / 1000).unwrap_or(u32::MAX));
        if span_s.is_some() {
            self.counts.long_gap += samples;
        }
        let group_key = [labels[0], labels[1] ^ span_s.map_or(0, |s| u64::from(s) + 1)];
        *self.group_of.entry(group_key).or_insert_with(|| {
            self.groups.push(GroupHead { first_sample: at, kind, left_out, span_s });
            (self.groups.len() - 1) as u32
        })
    }
}
