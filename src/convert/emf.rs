//! Which metrics of an event CloudWatch extracts: the metric declarations.

use super::event::Attributes;
use crate::model::settings::{Declaration, EmfSettings};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// How many metric names the selectors' verdicts are kept for.
const MAX_KEPT_NAMES: usize = 20_000;

/// One metric directive of an event.
#[derive(Debug, PartialEq)]
pub(super) struct Measurement<'a> {
    /// The dimension sets.
    pub dimensions: Vec<Vec<&'a str>>,
    /// The metrics, as indexes of the event's fields.
    pub fields: Vec<usize>,
}

/// Applies `metric_declaration`s.
#[derive(Default)]
pub(super) struct Matcher {
    /// Metric name -> the declarations of which a selector matches it.
    selected: HashMap<Box<str>, Rc<[usize]>>,
}

impl Matcher {
    /// Sorts an event's fields into measurements; a field that no measurement holds is logged only.
    ///
    /// As in the agent's exporter (`metric_translator.go`, `groupedMetricToCWMeasurementsWithFilters`): fields that the
    /// same declarations select share a measurement, which has the dimension sets of all of them, without repetition,
    /// that the labels can fill.
    pub(super) fn measurements<'a>(
        &mut self,
        settings: &'a EmfSettings,
        labels: &Attributes<'a>,
        fields: &[&str],
    ) -> Vec<Measurement<'a>> {
        let declarations = match settings {
            EmfSettings::Off => return Vec::new(),
            EmfSettings::AllLabels { .. } => {
                let dimensions = vec![labels.iter().map(|(name, _)| name).collect()];
                return vec![Measurement { dimensions, fields: (0..fields.len()).collect() }];
            }
            EmfSettings::Declared { declarations, .. } => declarations,
        };
        let matched = self.matched(settings, labels);
        if matched.is_empty() {
            return Vec::new();
        }
        let mut groups: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        for (field, name) in fields.iter().enumerate() {
            let selected = self.selected_by(declarations, name);
            let both: Vec<usize> = selected.iter().copied().filter(|at| matched.binary_search(at).is_ok()).collect();
            if !both.is_empty() {
                groups.entry(both).or_default().push(field);
            }
        }
        let mut measurements: Vec<Measurement<'a>> = groups
            .into_iter()
            .map(|(group, fields)| Measurement { dimensions: dimensions(declarations, &group, labels), fields })
            .filter(|measurement| !measurement.dimensions.is_empty())
            .collect();
        measurements.sort_by_key(|measurement| measurement.fields[0]);
        measurements
    }

    /// The declarations that match an event's labels, whatever its fields are.
    pub(super) fn matched(&self, settings: &EmfSettings, labels: &Attributes<'_>) -> Vec<usize> {
        match settings {
            EmfSettings::Declared { declarations, .. } => {
                (0..declarations.len()).filter(|&at| matches_labels(&declarations[at], labels)).collect()
            }
            EmfSettings::Off | EmfSettings::AllLabels { .. } => Vec::new(),
        }
    }

    /// Forgets all verdicts: the declarations changed.
    pub(super) fn clear(&mut self) {
        self.selected.clear();
    }

    fn selected_by(&mut self, declarations: &[Declaration], name: &str) -> Rc<[usize]> {
        if let Some(selected) = self.selected.get(name) {
            return Rc::clone(selected);
        }
        let selects = |declaration: &Declaration| declaration.metric_selectors.iter().any(|s| s.is_match(name));
        let selected: Rc<[usize]> = (0..declarations.len()).filter(|&at| selects(&declarations[at])).collect();
        if self.selected.len() >= MAX_KEPT_NAMES {
            self.selected.clear();
        }
        self.selected.insert(name.into(), Rc::clone(&selected));
        selected
    }
}

fn matches_labels(declaration: &Declaration, labels: &Attributes<'_>) -> bool {
    let mut joined = String::new();
    for (at, name) in declaration.source_labels.iter().enumerate() {
        if at > 0 {
            joined.push(';');
        }
        joined.push_str(labels.get(name).unwrap_or(""));
    }
    declaration.label_matcher.is_match(&joined)
}

fn dimensions<'a>(declarations: &'a [Declaration], group: &[usize], labels: &Attributes<'_>) -> Vec<Vec<&'a str>> {
    let mut sets: Vec<Vec<&'a str>> = Vec::new();
    for set in group.iter().flat_map(|&at| &declarations[at].dimensions) {
        if set.iter().all(|name| labels.get(name).is_some()) {
            let set: Vec<&str> = set.iter().map(String::as_str).collect();
            if !sets.contains(&set) {
                sets.push(set);
            }
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Pattern;

    fn declaration(source: &[&str], matcher: &str, selectors: &[&str], dimensions: &[&[&str]]) -> Declaration {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Declaration {
            source_labels: own(source),
            label_matcher: Pattern::search(matcher).unwrap(),
            metric_selectors: selectors.iter().map(|text| Pattern::search(text).unwrap()).collect(),
            dimensions: dimensions.iter().map(|set| own(set)).collect(),
        }
    }

    fn settings(declarations: Vec<Declaration>) -> EmfSettings {
        EmfSettings::Declared { namespace: "N".to_owned(), units: BTreeMap::new(), declarations }
    }

    fn labels() -> Attributes<'static> {
        let mut labels = Attributes::default();
        for (name, value) in [("job", "node"), ("host", "pi"), ("device", "eth0")] {
            labels.set(name, value);
        }
        labels
    }

    #[test]
    fn fields_with_the_same_declarations_share_a_measurement() {
        let settings = settings(vec![
            declaration(&["job"], "^node$", &["^a$", "b"], &[&["host", "job"], &["job"], &["nosuch"]]),
            declaration(&["nosuch", "job"], "^;no", &["b", "c"], &[&["job"], &["device"]]),
            declaration(&["job"], "^redis$", &["."], &[&["job"]]),
            declaration(&["job"], ".", &["d"], &[&["nosuch"]]),
        ]);
        let found = Matcher::default().measurements(&settings, &labels(), &["a", "b1", "b2", "c", "d", "e"]);
        let want = [
            (vec![vec!["host", "job"], vec!["job"]], vec![0]),
            (vec![vec!["host", "job"], vec!["job"], vec!["device"]], vec![1, 2]),
            (vec![vec!["job"], vec!["device"]], vec![3]),
        ];
        let found: Vec<_> = found.into_iter().map(|m| (m.dimensions, m.fields)).collect();
        assert_eq!(found, want);
    }

    #[test]
    fn without_any_valid_declaration_all_labels_are_one_dimension_set() {
        let settings = EmfSettings::AllLabels { namespace: "N".to_owned(), units: BTreeMap::new() };
        let found = Matcher::default().measurements(&settings, &labels(), &["a", "b"]);
        assert_eq!(found, [Measurement { dimensions: vec![vec!["device", "host", "job"]], fields: vec![0, 1] }]);
        assert!(Matcher::default().measurements(&EmfSettings::Off, &labels(), &["a"]).is_empty());
    }
}
