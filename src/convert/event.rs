//! One group of samples as the JSON text of one or more events.

use super::emf::{Matcher, Measurement};
use super::gather::FieldValue;
use super::histogram::Distribution;
use super::{Field, json};
use crate::model::batch::{EVENT_BYTES_MAX, MARKS_BYTES_MAX};
use crate::model::settings::{ConvertSettings, EmfSettings};
use crate::model::{Event, Labels, MetricType, push_integer};

/// The longest message: an event's limit without what the service and later marks add to it.
const MESSAGE_BYTES_MAX: usize = EVENT_BYTES_MAX - Event::OVERHEAD_BYTES - MARKS_BYTES_MAX;

/// The most metric definitions in one directive (Embedded Metric Format, specification).
const MAX_DIRECTIVE_METRICS: usize = 100;

/// The member that says over how many seconds the deltas of an event came about, where that is over `max_gap`.
pub(super) const SPAN_FIELD: &str = "DeltaSpanSeconds";

/// An event's labels: borrowed text, sorted by name.
#[derive(Default)]
pub(super) struct Attributes<'a> {
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Attributes<'a> {
    /// The labels of a sample with its type, `ClusterName`, `JobName` and `host` as the agent adds them.
    pub(super) fn of(labels: &'a Labels, left_out: &str, kind: MetricType, settings: &'a ConvertSettings) -> Self {
        let pairs = labels.iter().filter(|(name, _)| *name != "__name__" && *name != left_out).collect();
        let mut all = Self { pairs };
        all.set(super::TYPE_LABEL, kind.as_str());
        if let Some(cluster) = &settings.cluster_name {
            all.add("ClusterName", cluster);
        }
        if all.get("job").is_none() {
            all.set("JobName", "default");
        }
        if let Some(host) = &settings.host {
            all.add("host", host);
        }
        all
    }

    /// The value of a label.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.position(name).ok().map(|at| self.pairs[at].1)
    }

    /// Sets a label.
    pub(super) fn set(&mut self, name: &'a str, value: &'a str) {
        match self.position(name) {
            Ok(at) => self.pairs[at].1 = value,
            Err(at) => self.pairs.insert(at, (name, value)),
        }
    }

    /// Sets a label that is missing; an empty value is no label.
    pub(super) fn add(&mut self, name: &'a str, value: &'a str) {
        match self.position(name) {
            Err(at) if !value.is_empty() => self.pairs.insert(at, (name, value)),
            _ => {}
        }
    }

    /// Names and values, sorted bytewise by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.pairs.iter().copied()
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.pairs.binary_search_by(|(n, _)| (*n).cmp(name))
    }
}

/// A template with `{job}` and `{instance}` filled in; a missing label gives nothing.
pub(super) fn expand(template: &str, labels: &Attributes<'_>) -> String {
    let mut text = template.to_owned();
    for (placeholder, name) in [("{job}", "job"), ("{instance}", "instance")] {
        if text.contains(placeholder) {
            text = text.replace(placeholder, labels.get(name).unwrap_or(""));
        }
    }
    text
}

/// What makes up one event, or several where one would be too large.
pub(super) struct Group<'a> {
    pub labels: &'a Attributes<'a>,
    /// Sorted by name, without repetition.
    pub fields: &'a [Field<'a>],
    /// What fields with a distribution refer to.
    pub distributions: &'a [Distribution],
    pub timestamp_ms: i64,
    /// Seconds, where the deltas span more than `max_gap`: such an event is logged without metrics.
    pub span_s: Option<u32>,
}

/// What became of a group.
#[derive(Default)]
pub(super) struct Written {
    pub messages: Vec<String>,
    /// Fields that are too large for an event of their own.
    pub oversized: u64,
    /// No declaration wanted it, and only declared events are.
    pub undeclared: bool,
}

impl Group<'_> {
    /// The group's messages.
    ///
    /// `scratch` is where a message grows, so that it is allocated once and at its size.
    pub(super) fn write(&self, settings: &ConvertSettings, matcher: &mut Matcher, scratch: &mut String) -> Written {
        let names: Vec<&str> = self.fields.iter().map(|field| field.name).collect();
        let mut measurements = matcher.measurements(&settings.emf, self.labels, &names);
        let mut written = Written::default();
        if measurements.is_empty() && settings.more.declared_only {
            written.undeclared = true;
            return written;
        }
        if self.span_s.is_some() {
            measurements.clear();
        }
        let all: Vec<usize> = (0..self.fields.len()).collect();
        let most = measurements.iter().map(|m| m.fields.len()).max().unwrap_or(0);
        if most <= MAX_DIRECTIVE_METRICS {
            self.write_piece(settings, &measurements, &all, scratch, &mut written);
            return written;
        }
        let mut late: Vec<usize> =
            measurements.iter().flat_map(|m| m.fields.iter().skip(MAX_DIRECTIVE_METRICS)).copied().collect();
        late.sort_unstable();
        let mut piece = all;
        piece.retain(|field| late.binary_search(field).is_err());
        for start in (0..most).step_by(MAX_DIRECTIVE_METRICS) {
            let here = parts(&measurements, |fields| {
                let end = fields.len().min(start + MAX_DIRECTIVE_METRICS);
                &fields[start.min(end)..end]
            });
            if start > 0 {
                piece = here.iter().flat_map(|m| m.fields.iter().copied()).collect();
                piece.sort_unstable();
            }
            self.write_piece(settings, &here, &piece, scratch, &mut written);
        }
        written
    }

    /// Writes some of the fields (indexes, ascending) as one event, halved again and again until it fits. The measurements
    /// hold fields of the piece only.
    fn write_piece(
        &self,
        settings: &ConvertSettings,
        measurements: &[Measurement<'_>],
        piece: &[usize],
        scratch: &mut String,
        written: &mut Written,
    ) {
        scratch.clear();
        self.write_message(settings, measurements, piece, scratch);
        if scratch.len() <= MESSAGE_BYTES_MAX {
            written.messages.push(scratch.as_str().to_owned());
        } else if piece.len() <= 1 {
            written.oversized += 1;
        } else {
            let (left, right) = piece.split_at(piece.len() / 2);
            let middle = |fields: &[usize]| fields.partition_point(|field| *field < right[0]);
            let here = parts(measurements, |fields| &fields[..middle(fields)]);
            self.write_piece(settings, &here, left, scratch, written);
            let here = parts(measurements, |fields| &fields[middle(fields)..]);
            self.write_piece(settings, &here, right, scratch, written);
        }
    }

    fn write_message(&self, settings: &ConvertSettings, here: &[Measurement<'_>], piece: &[usize], out: &mut String) {
        let mut declared: Vec<usize> = here.iter().flat_map(|m| m.fields.iter().copied()).collect();
        declared.sort_unstable();
        #[cfg(test)]
        tests::WRITTEN.set(tests::WRITTEN.get() + declared.len());

        // Later overrides earlier: labels, metrics, the event's own members.
        let mut members: Vec<(&str, Member)> = Vec::with_capacity(self.labels.pairs.len() + 4);
        members.extend(self.labels.iter().map(|(name, value)| (name, Member::Label(value))));
        set(&mut members, "Version", Member::Version);
        set(&mut members, "Timestamp", Member::Timestamp);
        if !here.is_empty() {
            set(&mut members, "CloudWatchMetrics", Member::Measurements);
        }
        if let Some(span) = self.span_s {
            set(&mut members, SPAN_FIELD, Member::Span(span));
        }

        let mut after: Vec<usize> = Vec::new();
        let mut members = members.into_iter().peekable();
        out.push('{');
        for &field in piece {
            let name = self.fields[field].name;
            while let Some((name, member)) = members.next_if(|member| member.0 < name) {
                self.push_member(out, name, member, settings, here);
            }
            match members.next_if(|member| member.0 == name) {
                None | Some((_, Member::Label(_))) if declared.binary_search(&field).is_ok() => after.push(field),
                None | Some((_, Member::Label(_))) => self.push_field(out, field),
                Some((name, own)) => self.push_member(out, name, own, settings, here),
            }
        }
        for (name, member) in members {
            self.push_member(out, name, member, settings, here);
        }
        for field in after {
            self.push_field(out, field);
        }
        out.push('}');
    }

    fn push_member(
        &self,
        out: &mut String,
        name: &str,
        member: Member<'_>,
        settings: &ConvertSettings,
        measurements: &[Measurement<'_>],
    ) {
        push_name(out, name);
        match member {
            Member::Label(value) => json::push_string(out, value),
            Member::Version => out.push_str("\"0\""),
            Member::Timestamp => {
                out.push('"');
                push_integer(out, self.timestamp_ms);
                out.push('"');
            }
            Member::Measurements => self.push_measurements(out, &settings.emf, measurements),
            Member::Span(seconds) => push_integer(out, i64::from(seconds)),
        }
    }

    fn push_field(&self, out: &mut String, field: usize) {
        let Field { name, value } = self.fields[field];
        push_name(out, name);
        match value {
            FieldValue::Number(number) => json::push_number(out, number),
            FieldValue::Distribution(at) => self.distributions[at as usize].write(out),
        }
    }

    fn push_measurements(&self, out: &mut String, emf: &EmfSettings, measurements: &[Measurement<'_>]) {
        let (namespace, units) = match emf {
            EmfSettings::Off => return,
            EmfSettings::Declared { namespace, units, .. } | EmfSettings::AllLabels { namespace, units } => {
                (namespace, units)
            }
        };
        out.push('[');
        for (at, measurement) in measurements.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str("{\"Namespace\":");
            json::push_string(out, namespace);
            out.push_str(",\"Dimensions\":[");
            for (at, set) in measurement.dimensions.iter().enumerate() {
                out.push_str(if at > 0 { ",[" } else { "[" });
                for (at, name) in set.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    json::push_string(out, name);
                }
                out.push(']');
            }
            out.push_str("],\"Metrics\":[");
            for (at, field) in measurement.fields.iter().enumerate() {
                let name = self.fields[*field].name;
                out.push_str(if at > 0 { ",{\"Name\":" } else { "{\"Name\":" });
                json::push_string(out, name);
                out.push_str(",\"Unit\":");
                json::push_string(out, units.get(name).map_or("", String::as_str));
                out.push_str(",\"StorageResolution\":60}");
            }
            out.push_str("]}");
        }
        out.push(']');
    }
}

/// A part of each measurement's fields; measurements without any are left out.
fn parts<'a>(measurements: &[Measurement<'a>], part: impl Fn(&[usize]) -> &[usize]) -> Vec<Measurement<'a>> {
    let part = |m: &Measurement<'a>| {
        let fields = part(&m.fields);
        (!fields.is_empty()).then(|| Measurement { dimensions: m.dimensions.clone(), fields: fields.to_vec() })
    };
    measurements.iter().filter_map(part).collect()
}

/// A member that is not a metric.
#[derive(Clone, Copy)]
enum Member<'a> {
    Label(&'a str),
    Version,
    Timestamp,
    Measurements,
    Span(u32),
}

/// Puts a member in its place, or in the place of the one of its name.
fn set<'a>(members: &mut Vec<(&'a str, Member<'a>)>, name: &'a str, member: Member<'a>) {
    match members.binary_search_by(|(other, _)| (*other).cmp(name)) {
        Ok(at) => members[at].1 = member,
        Err(at) => members.insert(at, (name, member)),
    }
}

fn push_name(out: &mut String, name: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    json::push_string(out, name);
    out.push(':');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// How many metric definitions were put into messages, those that were thrown away included.
        pub(super) static WRITTEN: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn an_event_of_very_many_metrics_is_cut_without_looking_at_all_of_them_for_each_piece() {
        let names: Vec<String> = (0..20_000).map(|n| format!("metric_{n:05}")).collect();
        let field = |name| Field { name, value: FieldValue::Number(1.0) };
        let fields: Vec<Field<'_>> = names.iter().map(|name| field(name)).collect();
        let mut labels = Attributes::default();
        labels.set("job", "node");
        let group = Group { labels: &labels, fields: &fields, distributions: &[], timestamp_ms: 1, span_s: None };
        let settings = ConvertSettings {
            emf: EmfSettings::AllLabels { namespace: "N".to_owned(), units: Default::default() },
            ..ConvertSettings::default()
        };
        let written = group.write(&settings, &mut Matcher::default(), &mut String::new());
        assert_eq!(written.messages.len(), 200);
        assert_eq!(WRITTEN.get(), fields.len());
    }
}
