//! The plan of one target: what its series come to, worked out when they first appear.
//!
//! A page is pushed to it ([`Intake`]): a series once, with its labels, then numbers. Nothing of a page counts before it has
//! ended well: its numbers are staged here, and [`super::commit`] makes events of them.
//!
//! ```text
//! series -> name (exposed, present)      -> field, and its type as long as the families stay
//!        -> set (all other labels)       -> group (set and type): an event, with its layout
//! ```
//!
//! Limits: the bytes that the converter grants, see [`super::PLAN_BYTES_MAX`]; what is over them comes with its labels. A plan
//! that holds mostly series that went is begun anew; baselines do not lie here, so that costs no delta.

use super::commit::give_back;
use super::families::Families;
use super::key::Key;
use super::layouts::Template;
use crate::model::index::{KeyIndex, Keyed, finish};
use crate::model::{
    Intake, LabelValues, Labels, Layout, MetricType, PAGE_BYTES_MAX, Sample, StreamKey, page_too_large,
};
use std::collections::HashMap;
use std::hash::Hasher;
use std::rc::Rc;

/// No number.
pub(super) const NONE: u32 = u32::MAX;
/// In [`Staged::series`]: the number of a sample with its labels, not of a series.
const ODD: u32 = 1 << 31;
/// A plan with more series, or lines of families, than this and twice as many as the last page had is begun anew.
const FORGOTTEN_MIN: usize = 1_024;
/// What the allocator and an index take for an entry, in bytes, roughly.
const ENTRY_BYTES: usize = 56;

const NAME: u8 = 0;
const FIELD: u8 = 1;
const SET: u8 = 2;
const LABEL_NAMES: u8 = 3;

/// A metric's name on the page and after relabelling.
pub(super) struct Name {
    pub exposed: Box<str>,
    pub name: Box<str>,
    /// What it is called in an event.
    pub field: u32,
    /// When `kind` was looked up, see [`Plan::epoch`].
    pub epoch: u32,
    pub kind: Option<MetricType>,
}

/// A label of a set: its name, and its value where that is the target's, which most sets have.
pub(super) struct LabelName {
    pub name: Box<str>,
    constant: Option<Box<str>>,
}

impl LabelName {
    /// The value is the set's own.
    pub(super) fn is_own(&self) -> bool {
        self.constant.is_none()
    }
}

/// The labels of a series but for its metric's name and the type that an event gets.
pub(super) struct Set {
    /// See [`Plan::label_names`].
    pub names: u32,
    /// The values that are its own, and behind them those of the labels that the settings add.
    pub values: Rc<LabelValues>,
    /// Its first group.
    pub group: u32,
}

/// A series.
pub(super) struct Series {
    pub name: u32,
    pub set: u32,
    /// Of its present type; [`NONE`] before the first.
    pub group: u32,
    /// Its baseline.
    pub key: Key,
}

/// One event: the samples of one set and one type.
pub(super) struct Group {
    pub set: u32,
    pub kind: MetricType,
    /// The next group of its set.
    pub next: u32,
    /// Its labels, as baselines know them.
    pub labels: Key,
    pub form: u32,
    pub stream: Rc<StreamKey>,
    /// What it looked like the last time.
    pub template: Option<Rc<Template>>,
    pub layouts: Box<[Rc<Layout>]>,
    /// The scrape that touched it last, and which of its events it became.
    pub scrape: u32,
    pub touch: u32,
}

/// A sample of the page at hand.
#[derive(Clone, Copy)]
pub(super) struct Staged {
    pub series: u32,
    pub value: f64,
}

/// The plan.
#[derive(Default)]
pub(super) struct Plan {
    keyed: Keyed,
    generation: u64,
    /// The target's labels.
    constants: Vec<(Box<str>, Box<str>)>,
    /// What may be used; what is.
    pub bytes_max: usize,
    bytes: usize,
    pub names: Vec<Name>,
    name_index: KeyIndex,
    pub fields: Vec<Box<str>>,
    field_index: KeyIndex,
    /// The order of the fields' names.
    pub ranks: Vec<u32>,
    pub sets: Vec<Set>,
    set_index: KeyIndex,
    /// Lists of label names, each once.
    pub label_names: Vec<Rc<[LabelName]>>,
    label_names_index: KeyIndex,
    pub series: Vec<Series>,
    pub groups: Vec<Group>,
    /// Changes when a type may have.
    pub epoch: u32,
    /// Each HELP, TYPE or UNIT line that was seen: its family and the type that it gives.
    family_lines: Vec<(Box<str>, Option<MetricType>)>,
    /// Those of the page at hand, and of the last one that ended well.
    page_lines: Vec<u32>,
    last_lines: Vec<u32>,
    /// Pages with the same lines in a row.
    same_lines: u32,
    /// Nothing was remembered of families that vanished when types were looked up last.
    was_settled: bool,
    pub staged: Vec<Staged>,
    /// Time stamps of the exposition, by the number of the staged sample.
    pub times: Vec<(u32, i64)>,
    odd: Vec<Sample>,
    odd_bytes: usize,
}

impl Plan {
    pub(super) fn new(generation: u64, target: &Labels) -> Self {
        let constants = target.iter().filter(|(name, _)| !name.starts_with("__"));
        let constants = constants.map(|(name, value)| (name.into(), value.into())).collect();
        Self { generation, constants, ..Self::default() }
    }

    /// One of the same target that knows nothing yet.
    pub(super) fn anew(&mut self, generation: u64) -> Self {
        Self { generation, constants: std::mem::take(&mut self.constants), ..Self::default() }
    }

    /// The memory that it takes, in bytes, roughly.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// It holds mostly series, or lines of families, that the page that ended well just now did not have.
    pub(super) fn is_forgotten(&self) -> bool {
        let mostly = |all: usize, used: usize| all > FORGOTTEN_MIN && all > 2 * used;
        mostly(self.series.len(), self.staged.len()) || mostly(self.family_lines.len(), self.last_lines.len())
    }

    /// Some samples of the page came with their labels.
    pub(super) fn has_odd(&self) -> bool {
        !self.odd.is_empty()
    }

    pub(super) fn account(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Takes back the room for what is staged.
    pub(super) fn rest(&mut self) {
        self.staged.clear();
        self.times.clear();
        give_back(&mut self.staged);
        give_back(&mut self.times);
        self.odd = Vec::new();
        self.odd_bytes = 0;
    }

    /// The types that the page gave, unless nothing can have changed since the last ones were looked up.
    pub(super) fn types(&mut self, succeeded: bool, families: &Families) -> Option<HashMap<Box<str>, MetricType>> {
        let same = succeeded && self.page_lines == self.last_lines;
        self.same_lines = if same { self.same_lines.saturating_add(1) } else { 0 };
        // The second page of the same lines still forgets what the first took over from the page before it, and a family that
        // vanished is forgotten after the last look-up that found it.
        let settled = families.is_settled(self.page_lines.is_empty());
        if self.same_lines >= 2 && settled && std::mem::replace(&mut self.was_settled, settled) {
            return None;
        }
        self.was_settled = settled;
        let mut types = HashMap::new();
        if succeeded {
            for line in &self.page_lines {
                let Some((name, kind)) = self.family_lines.get(*line as usize) else { continue };
                match (types.get_mut(name), kind) {
                    (Some(known), Some(kind)) => *known = *kind,
                    (Some(_), None) => {}
                    (None, kind) => {
                        types.insert(name.clone(), kind.unwrap_or(MetricType::Unknown));
                    }
                }
            }
            std::mem::swap(&mut self.page_lines, &mut self.last_lines);
        }
        self.epoch += 1;
        Some(types)
    }

    /// The labels of a set by name, with the number of each value that is its own.
    pub(super) fn labels_of<'a>(
        names: &'a [LabelName],
        values: &'a LabelValues,
    ) -> impl Iterator<Item = (&'a str, &'a str, Option<u32>)> + Clone {
        let mut next = 0;
        names.iter().map(move |label| match &label.constant {
            Some(value) => (&*label.name, &**value, None),
            None => {
                next += 1;
                (&*label.name, values.get(next - 1), Some(next - 1))
            }
        })
    }

    /// The staged samples with their labels, in the page's order.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let mut times = self.times.iter().peekable();
        (0..)
            .zip(&self.staged)
            .map(|(at, staged)| {
                let timestamp_ms = times.next_if(|(of, _)| *of == at).map(|(_, ms)| *ms);
                if staged.series & ODD != 0 {
                    return self.odd[(staged.series & !ODD) as usize].clone();
                }
                self.labelled(staged, timestamp_ms)
            })
            .collect()
    }

    /// A staged sample of a series, with its labels.
    pub(super) fn labelled(&self, staged: &Staged, timestamp_ms: Option<i64>) -> Sample {
        let series = &self.series[staged.series as usize];
        let (name, set) = (&self.names[series.name as usize], &self.sets[series.set as usize]);
        let names = &self.label_names[set.names as usize];
        let mut pairs: Vec<(&str, &str)> =
            Self::labels_of(names, &set.values).map(|(name, value, _)| (name, value)).collect();
        let at = pairs.partition_point(|(name, _)| *name < "__name__");
        pairs.insert(at, ("__name__", &name.name));
        let exposed_name = (name.exposed != name.name).then(|| name.exposed.clone());
        Sample { labels: Labels::from_sorted(&pairs), value: staged.value, timestamp_ms, exposed_name }
    }

    fn name(&mut self, exposed: &str, name: &str) -> u32 {
        let mut hasher = self.keyed.hasher(NAME);
        hasher.write(&(exposed.len() as u64).to_le_bytes());
        hasher.write(exposed.as_bytes());
        hasher.write(name.as_bytes());
        let key = finish(&hasher);
        if let Some(known) = self.name_index.find(&key) {
            return known;
        }
        let field = self.field(if name == "value" { "prometheus" } else { name });
        self.account(exposed.len() + name.len() + size_of::<Name>() + 2 * ENTRY_BYTES);
        self.names.push(Name { exposed: exposed.into(), name: name.into(), field, epoch: 0, kind: None });
        self.name_index.insert(key)
    }

    fn field(&mut self, text: &str) -> u32 {
        let key = self.keyed.key(FIELD, text.as_bytes());
        if let Some(known) = self.field_index.find(&key) {
            return known;
        }
        self.account(text.len() + ENTRY_BYTES);
        self.fields.push(text.into());
        self.field_index.insert(key)
    }

    /// Puts the fields in the order of their names again, if there are new ones.
    pub(super) fn rank(&mut self) {
        if self.ranks.len() == self.fields.len() {
            return;
        }
        let mut order: Vec<u32> = (0..self.fields.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.fields[*a as usize].cmp(&self.fields[*b as usize]));
        self.ranks.resize(self.fields.len(), 0);
        for (rank, field) in (0..).zip(order) {
            self.ranks[field as usize] = rank;
        }
    }

    fn set(&mut self, labels: &[(&str, &str)]) -> u32 {
        let own = || labels.iter().filter(|(name, _)| *name != "__name__" && *name != super::TYPE_LABEL);
        let constants = &self.constants;
        let is_constant = |name: &str, value: &str| constants.iter().any(|(n, v)| **n == *name && **v == *value);
        let mut hasher = self.keyed.hasher(SET);
        let mut names = self.keyed.hasher(LABEL_NAMES);
        for (name, value) in own() {
            for hasher in [&mut hasher, &mut names] {
                hasher.write(&(name.len() as u64).to_le_bytes());
                hasher.write(name.as_bytes());
            }
            hasher.write(&(value.len() as u64).to_le_bytes());
            hasher.write(value.as_bytes());
            names.write(&[u8::from(is_constant(name, value))]);
        }
        let (key, names) = (finish(&hasher), finish(&names));
        if let Some(known) = self.set_index.find(&key) {
            return known;
        }
        let names = self.label_names_index.find(&names).unwrap_or_else(|| {
            let label = |(name, value): &(&str, &str)| {
                let constant = is_constant(name, value).then(|| Box::from(*value));
                LabelName { name: Box::from(*name), constant }
            };
            let list: Rc<[LabelName]> = own().map(label).collect();
            self.bytes += list.iter().map(|label| label.name.len() + 2 * ENTRY_BYTES).sum::<usize>();
            self.label_names.push(list);
            self.label_names_index.insert(names)
        });
        let values = own().filter(|(name, value)| !is_constant(name, value)).map(|(_, value)| *value);
        let values = Rc::new(LabelValues::of(values));
        self.account(values.memory_bytes() + size_of::<Set>() + size_of::<Group>() + 2 * ENTRY_BYTES);
        self.sets.push(Set { names, values, group: NONE });
        self.set_index.insert(key)
    }

    fn stage(&mut self, series: u32, value: f64, timestamp_ms: Option<i64>) -> Result<(), String> {
        if let Some(ms) = timestamp_ms {
            self.times.push((self.staged.len() as u32, ms));
        }
        self.staged.push(Staged { series, value });
        // What is known of the target and what the page needs beside it are together no more than a page may take.
        let bytes = self.bytes + self.staged.len() * size_of::<Staged>() + self.times.len() * 16 + self.odd_bytes;
        if bytes > PAGE_BYTES_MAX { page_too_large() } else { Ok(()) }
    }
}

impl Intake for Plan {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn begin(&mut self) {
        self.rest();
        self.page_lines.clear();
    }

    fn series(&mut self, labels: &[(&str, &str)], exposed_name: &str) -> Option<u32> {
        if self.bytes >= self.bytes_max || self.series.len() as u32 >= ODD - 1 {
            return None;
        }
        let name = labels.iter().find_map(|(name, value)| (*name == "__name__").then_some(*value)).unwrap_or_default();
        let (name, set) = (self.name(exposed_name, name), self.set(labels));
        self.account(size_of::<Series>());
        self.series.push(Series { name, set, group: NONE, key: [0, 0] });
        Some(self.series.len() as u32 - 1)
    }

    fn sample(&mut self, series: u32, value: f64, timestamp_ms: Option<i64>) -> Result<(), String> {
        self.stage(series, value, timestamp_ms)
    }

    fn odd(
        &mut self,
        labels: &[(&str, &str)],
        exposed_name: &str,
        value: f64,
        timestamp_ms: Option<i64>,
    ) -> Result<(), String> {
        let labels = Labels::from_sorted(labels);
        let exposed_name = (exposed_name != labels.name()).then(|| Box::from(exposed_name));
        self.odd_bytes += size_of::<Sample>() + labels.heap_bytes() + exposed_name.as_deref().map_or(0, str::len) + 16;
        self.odd.push(Sample { labels, value, timestamp_ms, exposed_name });
        self.stage(ODD | (self.odd.len() as u32 - 1), value, None)
    }

    fn family(&mut self, name: &str, kind: Option<MetricType>) -> Result<Option<u32>, String> {
        let bytes = name.len() + ENTRY_BYTES;
        // Without room the line has a number for this page only: the plan is begun anew after it.
        self.account(bytes);
        self.odd_bytes += bytes;
        self.family_lines.push((name.into(), kind));
        let number = self.family_lines.len() as u32 - 1;
        self.page_lines.push(number);
        if self.odd_bytes > PAGE_BYTES_MAX { page_too_large() } else { Ok(Some(number)) }
    }

    fn family_again(&mut self, number: u32) {
        self.page_lines.push(number);
    }
}
