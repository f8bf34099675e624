//! One group of samples as one or more events: the shapes that their text has.

use super::Field;
use super::emf::{Matcher, Measurement};
use super::gather::FieldValue;
use super::histogram::Distribution;
use crate::model::batch::{EVENT_BYTES_MAX, MARKS_BYTES_MAX};
use crate::model::settings::{ConvertSettings, EmfSettings};
use crate::model::{
    Event, Form, LabelValues, Labels, Layout, MetricType, Shape, ShapeBuilder, StreamKey, integer_bytes, json,
    push_decimal, push_integer,
};
use std::rc::Rc;

/// The longest message: an event's limit without what the service and later marks add to it.
const MESSAGE_BYTES_MAX: usize = EVENT_BYTES_MAX - Event::OVERHEAD_BYTES - MARKS_BYTES_MAX;

/// The most metric definitions in one directive (Embedded Metric Format, specification).
const MAX_DIRECTIVE_METRICS: usize = 100;

/// The member that says over how many seconds the deltas of an event came about, where that is over `max_gap`.
pub(super) const SPAN_FIELD: &str = "DeltaSpanSeconds";

/// An event's labels: borrowed text, sorted by name.
#[derive(Default)]
pub(super) struct Attributes<'a> {
    pairs: Vec<Attribute<'a>>,
}

/// One of them.
#[derive(Clone, Copy)]
struct Attribute<'a> {
    name: &'a str,
    value: &'a str,
    /// The number of the layout's label value that it is; without one the value is part of the shape.
    hole: Option<u32>,
}

impl<'a> Attributes<'a> {
    /// The labels of a sample with its type, `ClusterName`, `JobName` and `host` as the agent adds them.
    pub(super) fn of(labels: &'a Labels, left_out: &str, kind: MetricType, settings: &'a ConvertSettings) -> Self {
        let own = labels.iter().filter(|(name, _)| *name != "__name__" && *name != left_out);
        Self::with(own.map(|(name, value)| (name, value, None)), kind, settings)
    }

    /// The same of labels that are sorted by name, each with the number of its hole.
    pub(super) fn with(
        own: impl Iterator<Item = (&'a str, &'a str, Option<u32>)>,
        kind: MetricType,
        settings: &'a ConvertSettings,
    ) -> Self {
        let mut all = Self { pairs: own.map(|(name, value, hole)| Attribute { name, value, hole }).collect() };
        all.set(super::TYPE_LABEL, kind.as_str());
        if let Some(cluster) = &settings.cluster_name {
            all.add("ClusterName", cluster, None);
        }
        if all.get("job").is_none() {
            all.set("JobName", "default");
        }
        if let Some(host) = &settings.host {
            all.add("host", host, None);
        }
        all
    }

    /// The value of a label.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.position(name).ok().map(|at| self.pairs[at].value)
    }

    /// Sets a label.
    pub(super) fn set(&mut self, name: &'a str, value: &'a str) {
        let new = Attribute { name, value, hole: None };
        match self.position(name) {
            Ok(at) => self.pairs[at] = new,
            Err(at) => self.pairs.insert(at, new),
        }
    }

    /// Sets a label that is missing; an empty value is no label. Says whether it did.
    pub(super) fn add(&mut self, name: &'a str, value: &'a str, hole: Option<u32>) -> bool {
        match self.position(name) {
            Err(at) if !value.is_empty() => {
                self.pairs.insert(at, Attribute { name, value, hole });
                true
            }
            _ => false,
        }
    }

    /// The same with every value a part of the text.
    pub(super) fn without_holes(mut self) -> Self {
        self.pairs.iter_mut().for_each(|pair| pair.hole = None);
        self
    }

    /// Names and values, sorted bytewise by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.pairs.iter().map(|pair| (pair.name, pair.value))
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.pairs.binary_search_by(|pair| pair.name.cmp(name))
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
    /// The time, where the events are made for one scrape: then the numbers are part of their text, and what is too long is cut.
    /// Without it numbers are holes, for use by many scrapes.
    pub timestamp_ms: Option<i64>,
    /// Seconds, where the deltas span more than `max_gap`: such an event is logged without metrics.
    pub span_s: Option<u32>,
}

/// One event of a group.
pub(super) struct Written {
    pub shape: Shape,
    /// The field of each number in the shape.
    pub holes: Vec<u32>,
}

/// What became of a group.
#[derive(Default)]
pub(super) struct Outcome {
    pub written: Vec<Written>,
    /// Fields that are too large for an event of their own.
    pub oversized: u64,
    /// No declaration wanted it, and only declared events are.
    pub undeclared: bool,
}

impl Outcome {
    /// Counts what became of a group of so many fields.
    pub(super) fn count(&self, fields: usize, counts: &mut super::ConvertCounts) {
        let lost = self.oversized + if self.undeclared { fields as u64 } else { 0 };
        counts.oversized += self.oversized;
        counts.undeclared += lost - self.oversized;
        counts.converted += fields as u64 - lost;
    }

    /// Events that were written for one scrape: of no labels and no numbers, their text has all.
    pub(super) fn into_events(
        self,
        key: Rc<StreamKey>,
        own_time: bool,
        timestamp_ms: i64,
    ) -> impl Iterator<Item = Event> {
        let (no_labels, no_numbers) = (Rc::new(LabelValues::default()), Rc::new(Vec::new()));
        self.written.into_iter().map(move |written| {
            let layout = Layout::new(Rc::clone(&key), Rc::new(written.shape), Rc::clone(&no_labels));
            Event::new(Rc::new(layout), Rc::clone(&no_numbers), 0, own_time, timestamp_ms)
        })
    }
}

/// Whether an event of so many bytes, its numbers and its time aside, is short enough whatever those are.
pub(super) fn always_fits(text_bytes: usize, numbers: usize) -> bool {
    text_bytes + numbers * crate::model::DECIMAL_BYTES_MAX + integer_bytes(i64::MIN) <= MESSAGE_BYTES_MAX
}

impl Group<'_> {
    /// The group's events.
    pub(super) fn write(&self, settings: &ConvertSettings, matcher: &mut Matcher) -> Outcome {
        let names: Vec<&str> = self.fields.iter().map(|field| field.name).collect();
        let mut measurements = matcher.measurements(&settings.emf, self.labels, &names);
        let mut outcome = Outcome::default();
        if measurements.is_empty() && settings.more.declared_only {
            outcome.undeclared = true;
            return outcome;
        }
        if self.span_s.is_some() {
            measurements.clear();
        }
        let all: Vec<usize> = (0..self.fields.len()).collect();
        let most = measurements.iter().map(|m| m.fields.len()).max().unwrap_or(0);
        if most <= MAX_DIRECTIVE_METRICS {
            self.write_piece(settings, &measurements, &all, &mut outcome);
            return outcome;
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
            self.write_piece(settings, &here, &piece, &mut outcome);
        }
        outcome
    }

    /// Writes some of the fields (indexes, ascending) as one event, halved again and again until it fits. The measurements
    /// hold fields of the piece only.
    fn write_piece(
        &self,
        settings: &ConvertSettings,
        measurements: &[Measurement<'_>],
        piece: &[usize],
        outcome: &mut Outcome,
    ) {
        let mut out = Writing::default();
        self.write_message(settings, measurements, piece, &mut out);
        let fits = self.timestamp_ms.is_none_or(|ms| out.shape.text().len() + integer_bytes(ms) <= MESSAGE_BYTES_MAX);
        if fits {
            let shape = out.shape.build(self.timestamp_ms.is_some());
            outcome.written.push(Written { shape, holes: out.holes });
        } else if piece.len() <= 1 {
            outcome.oversized += 1;
        } else {
            let (left, right) = piece.split_at(piece.len() / 2);
            let middle = |fields: &[usize]| fields.partition_point(|field| *field < right[0]);
            let here = parts(measurements, |fields| &fields[..middle(fields)]);
            self.write_piece(settings, &here, left, outcome);
            let here = parts(measurements, |fields| &fields[middle(fields)..]);
            self.write_piece(settings, &here, right, outcome);
        }
    }

    fn write_message(&self, settings: &ConvertSettings, here: &[Measurement<'_>], piece: &[usize], out: &mut Writing) {
        let mut declared: Vec<usize> = here.iter().flat_map(|m| m.fields.iter().copied()).collect();
        declared.sort_unstable();
        #[cfg(test)]
        tests::WRITTEN.set(tests::WRITTEN.get() + declared.len());

        // Later overrides earlier: labels, metrics, the event's own members.
        let mut members: Vec<(&str, Member)> = Vec::with_capacity(self.labels.pairs.len() + 4);
        members.extend(self.labels.pairs.iter().map(|pair| (pair.name, Member::Label(pair.value, pair.hole))));
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
        out.shape.text().push(b'{');
        for &field in piece {
            let name = self.fields[field].name;
            while let Some((name, member)) = members.next_if(|member| member.0 < name) {
                self.push_member(out, name, member, settings, here);
            }
            match members.next_if(|member| member.0 == name) {
                None | Some((_, Member::Label(..))) if declared.binary_search(&field).is_ok() => after.push(field),
                None | Some((_, Member::Label(..))) => self.push_field(out, field),
                Some((name, own)) => self.push_member(out, name, own, settings, here),
            }
        }
        for (name, member) in members {
            self.push_member(out, name, member, settings, here);
        }
        for field in after {
            self.push_field(out, field);
        }
        out.shape.text().push(b'}');
    }

    fn push_member(
        &self,
        out: &mut Writing,
        name: &str,
        member: Member<'_>,
        settings: &ConvertSettings,
        measurements: &[Measurement<'_>],
    ) {
        if let Member::Measurements = member {
            // `Timestamp` always follows, so the comma that goes with this member stands behind it.
            out.comma();
            let from = out.shape.text().len();
            out.name(name);
            self.push_measurements(out.shape.text(), &settings.emf, measurements);
            out.shape.text().push(b',');
            out.shape.metrics_from(from);
            out.has_comma = true;
            return;
        }
        out.comma();
        out.name(name);
        match member {
            Member::Label(value, None) => json::push_string(out.shape.text(), value),
            Member::Label(_, Some(hole)) => out.quoted(|shape| shape.label(hole)),
            Member::Version => out.shape.text().extend_from_slice(b"\"0\""),
            Member::Timestamp => out.quoted(ShapeBuilder::time),
            Member::Span(seconds) => push_integer(out.shape.text(), i64::from(seconds)),
            Member::Measurements => {}
        }
    }

    fn push_field(&self, out: &mut Writing, field: usize) {
        let Field { name, value } = self.fields[field];
        out.comma();
        out.name(name);
        match value {
            FieldValue::Number(_) if self.timestamp_ms.is_none() => {
                out.holes.push(field as u32);
                out.shape.number(Form::Decimal);
            }
            FieldValue::Number(number) => push_decimal(out.shape.text(), number),
            FieldValue::Distribution(at) => self.distributions[at as usize].write(out.shape.text()),
        }
    }

    fn push_measurements(&self, out: &mut Vec<u8>, emf: &EmfSettings, measurements: &[Measurement<'_>]) {
        let (namespace, units) = match emf {
            EmfSettings::Off => return,
            EmfSettings::Declared { namespace, units, .. } | EmfSettings::AllLabels { namespace, units } => {
                (namespace, units)
            }
        };
        out.push(b'[');
        for (at, measurement) in measurements.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"Namespace\":");
            json::push_string(out, namespace);
            out.extend_from_slice(b",\"Dimensions\":[");
            for (at, set) in measurement.dimensions.iter().enumerate() {
                out.extend_from_slice(if at > 0 { b",[" } else { b"[" });
                for (at, name) in set.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    json::push_string(out, name);
                }
                out.push(b']');
            }
            out.extend_from_slice(b"],\"Metrics\":[");
            for (at, field) in measurement.fields.iter().enumerate() {
                let name = self.fields[*field].name;
                out.extend_from_slice(if at > 0 { b",{\"Name\":" } else { b"{\"Name\":" });
                json::push_string(out, name);
                out.extend_from_slice(b",\"Unit\":");
                json::push_string(out, units.get(name).map_or("", String::as_str));
                out.extend_from_slice(b",\"StorageResolution\":60}");
            }
            out.extend_from_slice(b"]}");
        }
        out.push(b']');
    }
}

/// A message on its way.
#[derive(Default)]
struct Writing {
    shape: ShapeBuilder,
    holes: Vec<u32>,
    /// A member stands before the next one.
    has_member: bool,
    /// And its comma too.
    has_comma: bool,
}

impl Writing {
    fn comma(&mut self) {
        if self.has_member && !self.has_comma {
            self.shape.text().push(b',');
        }
        (self.has_member, self.has_comma) = (true, false);
    }

    fn name(&mut self, name: &str) {
        json::push_string(self.shape.text(), name);
        self.shape.text().push(b':');
    }

    fn quoted(&mut self, hole: impl FnOnce(&mut ShapeBuilder)) {
        self.shape.text().push(b'"');
        hole(&mut self.shape);
        self.shape.text().push(b'"');
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
    Label(&'a str, Option<u32>),
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
        let group = Group { labels: &labels, fields: &fields, distributions: &[], timestamp_ms: Some(1), span_s: None };
        let settings = ConvertSettings {
            emf: EmfSettings::AllLabels { namespace: "N".to_owned(), units: Default::default() },
            ..ConvertSettings::default()
        };
        let outcome = group.write(&settings, &mut Matcher::default());
        assert_eq!(outcome.written.len(), 200);
        assert_eq!(WRITTEN.get(), fields.len());
    }
}
