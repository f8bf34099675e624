//! `emf_processor`: what the agent's translator and its exporter make of it.
//!
//! Sources: `translator/translate/otel/exporter/awsemf/prometheus.go` of the CloudWatch agent; `config.go` and
//! `metric_declaration.go` of the OpenTelemetry exporter `awsemf`.

use super::files::Documents;
use super::finding::{Finding, Severity};
use super::values::{expand, nearest};
use super::{PROMETHEUS, Surroundings};
use crate::model::settings::{Declaration, EmfSettings};
use crate::pattern::Pattern;
use serde_json::Value;
use std::collections::BTreeMap;

/// The units that CloudWatch knows (API reference, MetricDatum).
const UNITS: &[&str] = &[
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
];

/// A dimension set of more names is dropped by the exporter, before it looks for repeated names.
const MAX_DIMENSIONS: usize = 10;

/// Translates the section, checked already against the schema.
pub(super) fn resolve(documents: &Documents, surroundings: &Surroundings, findings: &mut Vec<Finding>) -> EmfSettings {
    let base = format!("{PROMETHEUS}/emf_processor");
    let Some(section) = documents.get(&base) else { return EmfSettings::Off };
    let mut translation = Translation { documents, vars: &surroundings.vars, findings };
    let namespace = match section.get("metric_namespace").and_then(Value::as_str) {
        // The exporter's word for an empty namespace.
        Some(text) => Some(translation.expand(text)).filter(|t| !t.is_empty()).unwrap_or_else(|| "default".to_owned()),
        None => surroundings.default_namespace().to_owned(),
    };
    let units = translation.units(&base, section);
    let path = format!("{base}/metric_declaration");
    let given: Vec<_> = section.get("metric_declaration").and_then(Value::as_array).into_iter().flatten().collect();
    let mut invalid = 0;
    let mut declarations = Vec::new();
    for (index, declaration) in given.into_iter().enumerate() {
        match translation.declaration(&format!("{path}/{index}"), declaration) {
            Verdict::Kept(declaration) => declarations.push(declaration),
            Verdict::Skipped => {}
            Verdict::Invalid => invalid += 1,
        }
    }
    if documents.flag(&format!("{PROMETHEUS}/disable_metric_extraction")) {
        let text = "has no effect: disable_metric_extraction is on".to_owned();
        findings.push(documents.finding(Severity::Note, &base, text, ""));
        return EmfSettings::Off;
    }
    if !declarations.is_empty() {
        return EmfSettings::Declared { namespace, units, declarations };
    }
    if invalid > 0 {
        let text = "every declaration is invalid: each event becomes a metric with all its labels as dimensions, as in \
                    the CloudWatch agent";
        findings.push(documents.finding(
            Severity::Warning,
            &path,
            text.to_owned(),
            "correct or remove the declarations",
        ));
        return EmfSettings::AllLabels { namespace, units };
    }
    // The translator then puts in a selector that matches nothing.
    let text = "no usable declaration: no metrics are extracted from the events, as in the CloudWatch agent";
    findings.push(documents.finding(Severity::Warning, &path, text.to_owned(), ""));
    EmfSettings::Off
}

enum Verdict {
    Kept(Declaration),
    /// The translator passes it over.
    Skipped,
    /// The exporter drops it, which counts when none is left.
    Invalid,
}

struct Translation<'a> {
    documents: &'a Documents,
    vars: &'a BTreeMap<String, String>,
    findings: &'a mut Vec<Finding>,
}

impl Translation<'_> {
    fn expand(&self, text: &str) -> String {
        expand(text, self.vars)
    }

    fn texts(&self, value: Option<&Value>) -> Option<Vec<String>> {
        let items = value?.as_array()?;
        Some(items.iter().filter_map(Value::as_str).map(|text| self.expand(text)).collect())
    }

    fn warn(&mut self, path: &str, text: String, fix: &str) {
        self.findings.push(self.documents.finding(Severity::Warning, path, text, fix));
    }

    fn units(&mut self, base: &str, section: &Value) -> BTreeMap<String, String> {
        let mut units = BTreeMap::new();
        for (name, unit) in section.get("metric_unit").and_then(Value::as_object).into_iter().flatten() {
            let unit = self.expand(unit.as_str().unwrap_or(""));
            if UNITS.contains(&unit.as_str()) {
                units.insert(self.expand(name), unit);
            } else {
                let near = nearest(&unit, UNITS.iter().copied());
                let fix = near.map_or(String::new(), |near| format!("did you mean {near:?}?"));
                let path = format!("{base}/metric_unit/{name}");
                self.warn(
                    &path,
                    format!("{unit:?} is no unit of CloudWatch: left out, as in the CloudWatch agent"),
                    &fix,
                );
            }
        }
        units
    }

    fn declaration(&mut self, path: &str, given: &Value) -> Verdict {
        let source_labels = self.texts(given.get("source_labels"));
        let selectors = self.texts(given.get("metric_selectors"));
        let (Some(source_labels), Some(selectors)) = (source_labels, selectors) else {
            let text = "skipped, as in the CloudWatch agent: it needs source_labels and metric_selectors";
            self.warn(path, text.to_owned(), "");
            return Verdict::Skipped;
        };
        let dimensions = self.dimensions(path, given);
        let mut metric_selectors = Vec::new();
        for (index, selector) in selectors.iter().enumerate() {
            match Pattern::search(selector) {
                Ok(pattern) => metric_selectors.push(pattern),
                // The agent panics here, again at each start.
                Err(error) => {
                    let path = format!("{path}/metric_selectors/{index}");
                    let text = format!("{selector:?} is no regular expression: {error}");
                    self.findings.push(self.documents.finding(Severity::Error, &path, text, ""));
                }
            }
        }
        let label_matcher = self.expand(given.get("label_matcher").and_then(Value::as_str).unwrap_or(".*"));
        let trouble = match Pattern::search(&label_matcher) {
            _ if source_labels.is_empty() => "source_labels is empty".to_owned(),
            _ if selectors.is_empty() => "metric_selectors is empty".to_owned(),
            _ if label_matcher.is_empty() => "label_matcher is empty (leave it out to match everything)".to_owned(),
            Err(error) => format!("label_matcher {label_matcher:?} is no regular expression: {error}"),
            Ok(label_matcher) => {
                return Verdict::Kept(Declaration { source_labels, label_matcher, metric_selectors, dimensions });
            }
        };
        self.warn(path, format!("dropped, as in the CloudWatch agent: {trouble}"), "");
        Verdict::Invalid
    }

    fn dimensions(&mut self, path: &str, given: &Value) -> Vec<Vec<String>> {
        let mut sets: Vec<Vec<String>> = Vec::new();
        let lists = given.get("dimensions").and_then(Value::as_array);
        if lists.is_none_or(Vec::is_empty) {
            let text = "has no dimensions: its metrics stay in the log and become no CloudWatch metrics".to_owned();
            let fix = "add \"dimensions\": [[\"job\"]] or the like";
            self.findings.push(self.documents.finding(Severity::Note, path, text, fix));
        }
        for (index, list) in lists.into_iter().flatten().enumerate() {
            let path = format!("{path}/dimensions/{index}");
            let mut set = self.texts(Some(list)).unwrap_or_default();
            if set.len() > MAX_DIMENSIONS {
                self.warn(&path, format!("dropped: more than {MAX_DIMENSIONS} dimensions"), "");
                continue;
            }
            set.sort();
            set.dedup();
            if sets.contains(&set) {
                self.warn(&path, "dropped: the same set is there already".to_owned(), "");
            } else {
                sets.push(set);
            }
        }
        sets
    }
}
