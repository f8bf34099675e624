//! Layouts of groups: what events of one kind look like, made once and found again by which fields they have.
//!
//! A form is what groups share beside their fields: the names of their labels, their type, the labels that the settings added,
//! the declarations that match. A template is a form with fields: the shapes of its events. Limits: [`TEMPLATE_BYTES_MAX`]; what is
//! over it makes all of them be looked for anew, but for those that groups have.

use super::emf::Matcher;
use super::event::{Attributes, Group, always_fits};
use super::gather::FieldValue;
use super::plan::{LabelName, Plan};
use super::{Field, event};
use crate::model::index::{KeyIndex, Keyed, finish};
use crate::model::settings::ConvertSettings;
use crate::model::{LabelValues, Layout, MetricType, Shape, StreamKey};
use std::hash::Hasher;
use std::rc::Rc;

/// The memory for templates of one target, in bytes.
const TEMPLATE_BYTES_MAX: usize = 4 << 20;

/// What groups share beside their fields.
pub(super) struct Form {
    /// See [`Plan::label_names`].
    names: u32,
    kind: MetricType,
    /// A group that has this form; its label values stand for those of all.
    labels: Rc<LabelValues>,
}

/// What events with these fields look like.
pub(super) struct Template {
    /// In the order of their names.
    pub fields: Box<[u32]>,
    pub parts: Box<[Part]>,
    /// No declaration wants it, and only declared events are sent.
    pub undeclared: bool,
}

/// One event of it; there are several where one would have too many metrics.
pub(super) struct Part {
    pub shape: Rc<Shape>,
    /// The field of each number.
    pub holes: Box<[u32]>,
}

/// The forms and templates of one target.
#[derive(Default)]
pub(super) struct Layouts {
    keyed: Keyed,
    forms: Vec<Form>,
    index: KeyIndex,
    template_index: KeyIndex,
    templates: Vec<Rc<Template>>,
    bytes: usize,
}

/// What is found out about a new group.
pub(super) struct Found {
    pub form: u32,
    pub stream: Rc<StreamKey>,
}

impl Layouts {
    /// The memory that they take, in bytes, roughly.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes + self.forms.len() * 96
    }

    /// The form of a new group with these labels, and where its events go.
    pub(super) fn form(
        &mut self,
        names: (u32, &[LabelName]),
        labels: &Rc<LabelValues>,
        kind: MetricType,
        settings: &ConvertSettings,
        matcher: &Matcher,
        keys: &mut super::names::Keys,
    ) -> Found {
        let (attributes, added) = attributes(names.1, labels, kind, settings);
        let mut hasher = self.keyed.hasher(0);
        hasher.write(&names.0.to_le_bytes());
        hasher.write(kind.as_str().as_bytes());
        added.iter().for_each(|added| hasher.write(&[u8::from(*added)]));
        for matched in matcher.matched(&settings.emf, &attributes) {
            hasher.write(&(matched as u64).to_le_bytes());
        }
        let key = finish(&hasher);
        let form = self.index.find(&key).unwrap_or_else(|| {
            self.forms.push(Form { names: names.0, kind, labels: Rc::clone(labels) });
            self.index.insert(key)
        });
        Found { form, stream: keys.of(settings, &attributes) }
    }

    /// The template of a form with these fields, in the order of their names. Nothing: such an event may be too long, and has to be
    /// looked at each time.
    pub(super) fn template(
        &mut self,
        form: u32,
        fields: &[u32],
        plan: &Plan,
        settings: &ConvertSettings,
        matcher: &mut Matcher,
    ) -> Rc<Template> {
        let mut hasher = self.keyed.hasher(1);
        hasher.write(&form.to_le_bytes());
        fields.iter().for_each(|field| hasher.write(&field.to_le_bytes()));
        let key = finish(&hasher);
        if let Some(known) = self.template_index.find(&key) {
            return Rc::clone(&self.templates[known as usize]);
        }
        if self.bytes > TEMPLATE_BYTES_MAX {
            // Groups keep theirs; what they look like now is found again when it changes.
            self.template_index.clear();
            self.templates.clear();
            self.bytes = 0;
        }
        let Form { names, kind, labels } = &self.forms[form as usize];
        let (attributes, _) = attributes(&plan.label_names[*names as usize], labels, *kind, settings);
        let named: Vec<Field<'_>> = fields
            .iter()
            .map(|field| Field { name: &plan.fields[*field as usize], value: FieldValue::Number(0.0) })
            .collect();
        let group = Group { labels: &attributes, fields: &named, distributions: &[], timestamp_ms: None, span_s: None };
        let outcome = group.write(settings, matcher);
        let parts = outcome
            .written
            .into_iter()
            .map(|written| Part { shape: Rc::new(written.shape), holes: written.holes.into() })
            .collect();
        let template = Rc::new(Template { fields: fields.into(), parts, undeclared: outcome.undeclared });
        self.bytes += template.memory_bytes();
        self.template_index.insert(key);
        self.templates.push(Rc::clone(&template));
        template
    }
}

impl Template {
    fn memory_bytes(&self) -> usize {
        let part = |part: &Part| part.shape.memory_bytes() + part.holes.len() * 4 + 64;
        size_of::<Self>() + self.fields.len() * 4 + self.parts.iter().map(part).sum::<usize>() + 96
    }

    /// The layouts of a group of this template. Nothing: its events may be too long.
    pub(super) fn layouts(&self, stream: &Rc<StreamKey>, labels: &Rc<LabelValues>) -> Option<Box<[Rc<Layout>]>> {
        let layout = |part: &Part| {
            let layout = Layout::new(Rc::clone(stream), Rc::clone(&part.shape), Rc::clone(labels));
            always_fits(layout.text_bytes() as usize, part.holes.len()).then(|| Rc::new(layout))
        };
        self.parts.iter().map(layout).collect()
    }
}

/// The labels of a group as its events have them, with the numbers of the values that are its own; and which of the labels that
/// the settings add were added.
pub(super) fn attributes<'a>(
    names: &'a [LabelName],
    labels: &'a LabelValues,
    kind: MetricType,
    settings: &'a ConvertSettings,
) -> (Attributes<'a>, Vec<bool>) {
    let mut attributes = Attributes::with(Plan::labels_of(names, labels), kind, settings);
    let mut added = Vec::new();
    for (number, (name, _)) in (own_count(names) as u32..).zip(&settings.labels) {
        added.push(attributes.add(name, labels.get(number), Some(number)));
    }
    (attributes, added)
}

fn own_count(names: &[LabelName]) -> usize {
    names.iter().filter(|label| label.is_own()).count()
}

/// The values of a set with those of the labels that the settings add.
pub(super) fn with_added(names: &[LabelName], own: &LabelValues, settings: &ConvertSettings) -> Option<LabelValues> {
    if settings.labels.is_empty() || own.len() > own_count(names) {
        return None;
    }
    // The type plays no part in what a template is filled with.
    let attributes = Attributes::with(Plan::labels_of(names, own), MetricType::Gauge, settings);
    let added: Vec<String> =
        settings.labels.iter().map(|(_, template)| event::expand(&template.0, &attributes)).collect();
    Some(LabelValues::of(own.iter().chain(added.iter().map(String::as_str))))
}
