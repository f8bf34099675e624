//! A page that has ended well becomes events: types, deltas, groups, layouts and their numbers.
//!
//! The same rules as the plain way's ([`super::plain`]), which stays for what is new or odd, and judges this one in the tests.
//! Here each sample costs a few look-ups in arrays; text is made for no event that looks as it did before.

use super::baseline::{ScrapeTime, Step};
use super::event::Group as Written;
use super::families::Families;
use super::gather::{FieldValue, Gathering};
use super::key::{self, Key, KeyMap};
use super::layouts::{self, Layouts};
use super::plan::{Group, NONE, Plan};
use super::{ConvertCounts, Converted, Converter, Field, Target, TargetState};
use crate::model::settings::{ConvertSettings, Histograms};
use crate::model::{Event, Labels, MetricType, Page, Report, Sample};
use std::collections::HashMap;
use std::rc::Rc;

/// What is used again by every commit, so that a steady page allocates nothing here.
#[derive(Default)]
pub(super) struct Scratch {
    kept: Vec<Kept>,
    touches: Vec<Touch>,
    spans: KeyMap<u32>,
    ordered: Vec<(u32, f64)>,
    run: Vec<(u32, f64)>,
    fields: Vec<u32>,
}

/// A sample that is going to be a field.
#[derive(Clone, Copy)]
struct Kept {
    touch: u32,
    field: u32,
    value: f64,
}

/// An event, or several, of this scrape.
struct Touch {
    group: u32,
    /// Seconds, where deltas span more than `max_gap`.
    span_s: Option<u32>,
    /// The first sample's own time.
    own_ms: Option<i64>,
    /// Its samples: how many, then the place behind the last of them.
    end: u32,
    becomes: Becomes,
}

#[derive(Clone, Copy)]
enum Becomes {
    Nothing,
    /// Events of its group's layouts, with numbers from this one on.
    Layouts(u32),
    /// These of the events that were written for this scrape alone.
    Texts(u32, u32),
}

/// The room for one list that is kept from scrape to scrape, in bytes.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// Lets go of a list that is larger than what is kept.
pub(super) fn give_back<T>(list: &mut Vec<T>) {
    if list.capacity() * size_of::<T>() > SCRATCH_BYTES_MAX {
        *list = Vec::new();
    }
}

/// What is done with samples of a name and a type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    NoType,
    Unsupported,
    Value,
    Delta,
    /// It becomes a part of a distribution.
    Distribution,
}

fn action(name: &str, kind: MetricType, settings: &ConvertSettings) -> (Action, MetricType) {
    let total = name.ends_with("_count") || name.ends_with("_sum");
    match (kind, settings.more.histograms) {
        _ if name.is_empty() => (Action::NoType, kind),
        (MetricType::Gauge, _) => (Action::Value, kind),
        (MetricType::Counter, _) => (Action::Delta, kind),
        (MetricType::Summary, _) => (if total { Action::Delta } else { Action::Value }, kind),
        (MetricType::Unknown, _) if settings.more.untyped => (Action::Value, MetricType::Gauge),
        (MetricType::Histogram, Histograms::CountAndSum) if total => (Action::Delta, kind),
        (MetricType::Histogram, Histograms::Buckets) if total || name.ends_with("_bucket") => (Action::Delta, kind),
        (MetricType::Histogram, Histograms::Values) if total || name.ends_with("_bucket") => {
            (Action::Distribution, kind)
        }
        _ => (Action::Unsupported, kind),
    }
}

impl Converter {
    /// Converts what was pushed to [`Converter::intake`] since the scrape of this target began; nothing of it counts unless the
    /// scrape `succeeded`. The rest is as for [`Converter::convert`].
    pub fn finish(
        &mut self,
        target: &Target,
        report: &Report,
        succeeded: bool,
        report_samples: &[Sample],
        monotonic_ms: u64,
    ) -> Converted {
        let target_key = key::of_target(&target.identity());
        let generation = self.next_generation();
        let mut state = self.targets.remove(&target_key).unwrap_or_else(|| TargetState::new(generation, target));
        let found_no_room = state.plan.has_odd();
        if !succeeded {
            state.plan.rest();
        }
        let types = state.plan.types(succeeded, &state.families);
        let page_samples = state.plan.staged.len();
        let health = self.settings.more.scrape_health;
        for sample in report_samples {
            state.push_report_sample(sample, types.as_ref(), health);
        }
        let converted = if state.plan.has_odd() {
            let samples = state.plan.samples();
            let (page, report_samples) = samples.split_at(page_samples);
            let page = Page { samples: page.to_vec(), types: types.unwrap_or_else(|| state.families.last()) };
            let page = if succeeded { Some(page) } else { None };
            self.convert_plainly(&mut state.families, target, target_key, report, page, report_samples, monotonic_ms)
        } else {
            let converted =
                self.commit(&mut state, types.as_ref(), target, target_key, report, page_samples, monotonic_ms);
            if let Some(types) = types.filter(|_| succeeded) {
                state.families.turn_page(types);
            }
            converted
        };
        state.renew_if_wasted(generation, succeeded, found_no_room);
        self.scratch.rest();
        state.plan.rest();
        self.targets.insert(target_key, state);
        converted
    }

    #[allow(clippy::too_many_arguments)] // a scrape, and where it belongs
    fn commit(
        &mut self,
        state: &mut TargetState,
        types: Option<&HashMap<Box<str>, MetricType>>,
        target: &Target,
        target_key: Key,
        report: &Report,
        page_samples: usize,
        monotonic_ms: u64,
    ) -> Converted {
        let time = ScrapeTime { monotonic_ms, interval_ms: target.interval_ms };
        let max_gap_ms = self.max_gap_ms(target);
        self.baselines.begin(time);
        self.keys.begin();
        state.scrape = state.scrape.wrapping_add(1).max(1);
        let mut commit = Commit {
            settings: &self.settings,
            scratch: &mut self.scratch,
            plan: &mut state.plan,
            layouts: &mut state.layouts,
            families: &state.families,
            scrape: state.scrape,
            counts: ConvertCounts::default(),
        };
        commit.scratch.clear();
        let empty = HashMap::new();
        let types = types.unwrap_or(&empty);
        let mut distributions: Vec<Sample> = Vec::new();
        let mut times = std::mem::take(&mut commit.plan.times);
        let mut next_time = times.iter().peekable();
        for at in 0..commit.plan.staged.len() {
            let staged = commit.plan.staged[at];
            let own_ms = next_time.next_if(|(of, _)| *of as usize == at).map(|(_, ms)| *ms);
            let (name, known) = commit.kind(staged.series, types);
            let untyped = if at < page_samples { commit.settings.more.untyped } else { true };
            let Some(kind) = known.or(untyped.then_some(MetricType::Gauge)) else {
                commit.counts.no_type += 1;
                continue;
            };
            let (action, kind) = action(&commit.plan.names[name as usize].name, kind, commit.settings);
            let mut placed = (NONE, [0, 0]);
            if matches!(action, Action::Value | Action::Delta) {
                placed = commit.group_of(staged.series, kind, target_key, &self.matcher, &mut self.keys);
            }
            let (value, span_ms) = match action {
                Action::NoType => {
                    commit.counts.no_type += 1;
                    continue;
                }
                Action::Unsupported => {
                    commit.counts.unsupported_type += 1;
                    continue;
                }
                Action::Distribution => {
                    distributions.push(commit.plan.labelled(&staged, own_ms));
                    continue;
                }
                Action::Value => (staged.value, 0),
                Action::Delta => {
                    let key = placed.1;
                    if !staged.value.is_finite() {
                        self.baselines.forget(key);
                        commit.counts.not_finite += 1;
                        continue;
                    }
                    match self.baselines.step(key, staged.value, own_ms, time) {
                        Step::First => {
                            commit.counts.first_seen += 1;
                            continue;
                        }
                        Step::Stuck => {
                            commit.counts.not_advancing += 1;
                            continue;
                        }
                        Step::Repeated => {
                            commit.counts.repeated += 1;
                            (staged.value, 0)
                        }
                        Step::Delta(delta, span_ms) => (delta, span_ms),
                    }
                }
            };
            // A delta of huge values may be infinite too.
            if !value.is_finite() {
                commit.counts.not_finite += 1;
                continue;
            }
            let group = placed.0;
            let span_s = (span_ms > max_gap_ms).then(|| u32::try_from(span_ms / 1000).unwrap_or(u32::MAX));
            commit.counts.long_gap += u64::from(span_s.is_some());
            let touch = commit.touch(group, span_s, own_ms);
            let field = commit.plan.names[name as usize].field;
            commit.scratch.touches[touch as usize].end += 1;
            commit.scratch.kept.push(Kept { touch, field, value });
        }
        times.clear();
        commit.plan.times = times;
        let mut events = commit.events(report.start_ms, &mut self.matcher);
        let mut counts = commit.counts;
        if !distributions.is_empty() {
            // Their groups come behind all others, as in the plain way.
            let mut gathering = Gathering::new(&self.settings, target_key, time, max_gap_ms);
            for (at, sample) in (0..).zip(&distributions) {
                gathering.add(at, sample, MetricType::Histogram, &mut self.baselines);
            }
            gathering.finish();
            let Gathering { groups, kept, distributions: found, counts: more, .. } = gathering;
            let mut converted = Converted { events: Vec::new(), counts: more };
            self.write(&distributions, &groups, kept, &found, report.start_ms, &mut converted);
            events.append(&mut converted.events);
            counts.add(&converted.counts);
        }
        counts.baselines_evicted = std::mem::take(&mut self.baselines.evicted);
        counts.baselines_refused = std::mem::take(&mut self.baselines.refused);
        Converted { events, counts }
    }
}

/// A commit going on.
struct Commit<'a> {
    settings: &'a ConvertSettings,
    scratch: &'a mut Scratch,
    plan: &'a mut Plan,
    layouts: &'a mut Layouts,
    families: &'a Families,
    scrape: u32,
    counts: ConvertCounts,
}

impl Scratch {
    /// Gives back what only a very large page needs.
    fn rest(&mut self) {
        give_back(&mut self.kept);
        give_back(&mut self.touches);
        give_back(&mut self.ordered);
    }

    fn clear(&mut self) {
        self.kept.clear();
        self.touches.clear();
        self.spans.clear();
    }
}

impl Commit<'_> {
    /// The number of a series' name, and the type that this name has now.
    fn kind(&mut self, series: u32, types: &HashMap<Box<str>, MetricType>) -> (u32, Option<MetricType>) {
        let number = self.plan.series[series as usize].name;
        let epoch = self.plan.epoch;
        let name = &mut self.plan.names[number as usize];
        if name.epoch != epoch {
            name.kind = self.families.type_of(types, &name.exposed, &name.name);
            name.epoch = epoch;
        }
        (number, name.kind)
    }

    /// The group that a series belongs to while it has this type, and its baseline's key.
    fn group_of(
        &mut self,
        series: u32,
        kind: MetricType,
        target: Key,
        matcher: &super::emf::Matcher,
        keys: &mut super::names::Keys,
    ) -> (u32, Key) {
        let known = &self.plan.series[series as usize];
        if let Some(group) = self.plan.groups.get(known.group as usize)
            && group.kind == kind
        {
            return (known.group, known.key);
        }
        let (set, name) = (known.set, known.name);
        let mut group = self.plan.sets[set as usize].group;
        while group != NONE && self.plan.groups[group as usize].kind != kind {
            group = self.plan.groups[group as usize].next;
        }
        if group == NONE {
            group = self.new_group(set, kind, matcher, keys);
        }
        let key = key::of_series(target, self.plan.groups[group as usize].labels, &self.plan.names[name as usize].name);
        let known = &mut self.plan.series[series as usize];
        (known.group, known.key) = (group, key);
        (group, key)
    }

    fn new_group(
        &mut self,
        set: u32,
        kind: MetricType,
        matcher: &super::emf::Matcher,
        keys: &mut super::names::Keys,
    ) -> u32 {
        let number = self.plan.groups.len() as u32;
        let of = &mut self.plan.sets[set as usize];
        let names = Rc::clone(&self.plan.label_names[of.names as usize]);
        if let Some(values) = layouts::with_added(&names, &of.values, self.settings) {
            of.values = Rc::new(values);
        }
        let own: Vec<(&str, &str)> =
            Plan::labels_of(&names, &of.values).map(|(name, value, _)| (name, value)).collect();
        let labels = key::of_labels(&Labels::from_sorted(&own), "", kind);
        let found = self.layouts.form((of.names, &names), &of.values, kind, self.settings, matcher, keys);
        let group = Group {
            set,
            kind,
            next: of.group,
            labels,
            form: found.form,
            stream: found.stream,
            template: None,
            layouts: Box::default(),
            scrape: 0,
            touch: 0,
        };
        of.group = number;
        self.plan.groups.push(group);
        number
    }

    /// The event that a sample of this group belongs to; samples whose deltas span too long a time get events of their own.
    fn touch(&mut self, group: u32, span_s: Option<u32>, own_ms: Option<i64>) -> u32 {
        let next = self.scratch.touches.len() as u32;
        let known = match span_s {
            None => {
                let group = &mut self.plan.groups[group as usize];
                if group.scrape == self.scrape {
                    return group.touch;
                }
                (group.scrape, group.touch) = (self.scrape, next);
                next
            }
            Some(span_s) => *self.scratch.spans.entry([u64::from(group), u64::from(span_s)]).or_insert(next),
        };
        if known == next {
            let becomes = Becomes::Nothing;
            self.scratch.touches.push(Touch { group, span_s, own_ms, end: 0, becomes });
        }
        known
    }

    fn events(&mut self, start_ms: i64, matcher: &mut super::emf::Matcher) -> Vec<Event> {
        self.plan.rank();
        self.put_in_order();
        let mut numbers: Vec<f64> = Vec::with_capacity(self.scratch.kept.len());
        let mut texts: Vec<Event> = Vec::new();
        let mut start = 0;
        let mut count = 0;
        for at in 0..self.scratch.touches.len() {
            let end = self.scratch.touches[at].end as usize;
            self.take_run(start, end);
            start = end;
            let becomes = self.becomes(at, start_ms, &mut numbers, &mut texts, matcher);
            count += match becomes {
                Becomes::Nothing => 0,
                Becomes::Layouts(_) => self.plan.groups[self.scratch.touches[at].group as usize].layouts.len(),
                Becomes::Texts(from, to) => (to - from) as usize,
            };
            self.scratch.touches[at].becomes = becomes;
        }
        let numbers = Rc::new(numbers);
        let mut events = Vec::with_capacity(count);
        for touch in &self.scratch.touches {
            match touch.becomes {
                Becomes::Nothing => {}
                Becomes::Texts(from, to) => events.extend_from_slice(&texts[from as usize..to as usize]),
                Becomes::Layouts(mut first) => {
                    for layout in &self.plan.groups[touch.group as usize].layouts {
                        let own_time = touch.own_ms.is_some();
                        let time_ms = touch.own_ms.unwrap_or(start_ms);
                        events.push(Event::new(Rc::clone(layout), Rc::clone(&numbers), first, own_time, time_ms));
                        first += layout.shape.numbers();
                    }
                }
            }
        }
        events
    }

    /// Puts the samples event by event, and in the page's order within each.
    fn put_in_order(&mut self) {
        let Scratch { kept, touches, ordered, .. } = &mut *self.scratch;
        let mut begin = 0;
        for touch in touches.iter_mut() {
            let count = touch.end;
            touch.end = begin;
            begin += count;
        }
        ordered.clear();
        ordered.resize(kept.len(), (0, 0.0));
        for sample in kept.iter() {
            let place = &mut touches[sample.touch as usize].end;
            ordered[*place as usize] = (sample.field, sample.value);
            *place += 1;
        }
    }

    /// Takes out the fields of one event in the order of their names. Of two samples with one name the later one on the page
    /// counts.
    fn take_run(&mut self, start: usize, end: usize) {
        let (ranks, Scratch { ordered, run, fields, .. }) = (&self.plan.ranks, &mut *self.scratch);
        run.clear();
        run.extend_from_slice(&ordered[start..end]);
        let rank = |entry: &(u32, f64)| ranks[entry.0 as usize];
        if !run.is_sorted_by(|a, b| rank(a) < rank(b)) {
            run.sort_by_key(rank);
            run.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                if same {
                    kept.1 = later.1;
                }
                same
            });
        }
        fields.clear();
        fields.extend(run.iter().map(|(field, _)| *field));
    }

    /// What the fields that were taken out become.
    fn becomes(
        &mut self,
        touch: usize,
        start_ms: i64,
        numbers: &mut Vec<f64>,
        texts: &mut Vec<Event>,
        matcher: &mut super::emf::Matcher,
    ) -> Becomes {
        let Touch { group, span_s, own_ms, .. } = self.scratch.touches[touch];
        if span_s.is_none() {
            let known = &self.plan.groups[group as usize];
            let fields = &self.scratch.fields;
            let same = known.template.as_ref().is_some_and(|template| *template.fields == **fields);
            if !same {
                let template = self.layouts.template(known.form, fields, self.plan, self.settings, matcher);
                let values = Rc::clone(&self.plan.sets[known.set as usize].values);
                let layouts = template.layouts(&known.stream, &values);
                let group = &mut self.plan.groups[group as usize];
                group.template = layouts.is_some().then_some(template);
                group.layouts = layouts.unwrap_or_default();
            }
            if let Some(template) = &self.plan.groups[group as usize].template {
                let count = self.scratch.run.len() as u64;
                if template.undeclared {
                    self.counts.undeclared += count;
                    return Becomes::Nothing;
                }
                self.counts.converted += count;
                let first = numbers.len() as u32;
                for part in &template.parts {
                    numbers.extend(part.holes.iter().map(|field| self.scratch.run[*field as usize].1));
                }
                return Becomes::Layouts(first);
            }
        }
        self.written(group, span_s, own_ms, start_ms, texts, matcher)
    }

    /// Writes the fields that were taken out as events of this scrape alone.
    fn written(
        &mut self,
        group: u32,
        span_s: Option<u32>,
        own_ms: Option<i64>,
        start_ms: i64,
        texts: &mut Vec<Event>,
        matcher: &mut super::emf::Matcher,
    ) -> Becomes {
        let group = &self.plan.groups[group as usize];
        let set = &self.plan.sets[group.set as usize];
        let names = &self.plan.label_names[set.names as usize];
        let (labels, _) = layouts::attributes(names, &set.values, group.kind, self.settings);
        let run = &self.scratch.run;
        let fields: Vec<Field<'_>> = run
            .iter()
            .map(|(field, value)| Field { name: &self.plan.fields[*field as usize], value: FieldValue::Number(*value) })
            .collect();
        let timestamp_ms = own_ms.unwrap_or(start_ms);
        let labels = labels.without_holes();
        let written =
            Written { labels: &labels, fields: &fields, distributions: &[], timestamp_ms: Some(timestamp_ms), span_s };
        let outcome = written.write(self.settings, matcher);
        outcome.count(fields.len(), &mut self.counts);
        let from = texts.len() as u32;
        texts.extend(outcome.into_events(Rc::clone(&group.stream), own_ms.is_some(), timestamp_ms));
        Becomes::Texts(from, texts.len() as u32)
    }
}
