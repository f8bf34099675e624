//! `global`, and the keys that a job may set for itself.

use super::section::{Reader, Section, join};
use crate::config::Severity;
use crate::model::settings::{ScrapeLimits, ScrapeProtocol};

const KEYS: [&str; 8] = [
    "scrape_interval",
    "scrape_timeout",
    "scrape_protocols",
    "external_labels",
    "scrape_failure_log_file",
    "keep_dropped_targets",
    "metric_name_validation_scheme",
    "body_size_limit",
];
/// The limits of a scrape but for `body_size_limit`.
pub(super) const LIMIT_KEYS: [&str; 5] =
    ["sample_limit", "target_limit", "label_limit", "label_name_length_limit", "label_value_length_limit"];
/// What only a server that evaluates rules and answers queries can use.
const SERVER_KEYS: [&str; 3] = ["evaluation_interval", "rule_query_offset", "query_log_file"];

/// What jobs inherit.
pub(super) struct Global {
    pub(super) interval_ms: u64,
    pub(super) timeout_ms: u64,
    pub(super) protocols: Vec<ScrapeProtocol>,
    pub(super) limits: ScrapeLimits,
    pub(super) legacy_names: bool,
}

impl Default for Global {
    fn default() -> Self {
        use ScrapeProtocol::*;
        Self {
            interval_ms: 60_000,
            timeout_ms: 10_000,
            protocols: vec![OpenMetrics100, OpenMetrics001, Text100, Text004],
            limits: ScrapeLimits::default(),
            legacy_names: false,
        }
    }
}

/// Reads `global`.
pub(super) fn read(reader: &mut Reader<'_>, top: &Section<'_>) -> Global {
    let default = Global::default();
    let Some(section) = top.child(reader, "global", &[&KEYS, &LIMIT_KEYS, &SERVER_KEYS]) else { return default };
    let interval_ms = section.duration(reader, "scrape_interval").filter(|ms| *ms > 0).unwrap_or(default.interval_ms);
    let mut timeout_ms = section.duration(reader, "scrape_timeout").unwrap_or(0);
    if timeout_ms > interval_ms {
        timeout_over_interval(reader, &section);
    }
    if timeout_ms == 0 {
        timeout_ms = default.timeout_ms.min(interval_ms);
    }
    let protocols = protocols(reader, &section).unwrap_or(default.protocols);
    external_labels(reader, &section);
    server_keys(reader, &section);
    section.count(reader, "keep_dropped_targets");
    section.text(reader, "scrape_failure_log_file");
    let scheme = section.text(reader, "metric_name_validation_scheme").unwrap_or("");
    if !matches!(scheme, "" | "utf8" | "legacy") {
        let key = "metric_name_validation_scheme";
        reader.error(section.at(key), &section.path_of(key), "there is no such scheme", "utf8 or legacy");
    }
    Global { interval_ms, timeout_ms, protocols, limits: limits(reader, &section), legacy_names: scheme == "legacy" }
}

pub(super) fn timeout_over_interval(reader: &mut Reader<'_>, section: &Section<'_>) {
    let text = "the time-out is longer than the interval";
    let fix = "raise scrape_interval or lower scrape_timeout";
    reader.error(section.at("scrape_timeout"), &section.path_of("scrape_timeout"), text, fix);
}

/// The limits that a section sets; 0 where it does not.
pub(super) fn limits(reader: &mut Reader<'_>, section: &Section<'_>) -> ScrapeLimits {
    ScrapeLimits {
        samples: section.count(reader, "sample_limit"),
        labels: section.count(reader, "label_limit"),
        label_name_bytes: section.count(reader, "label_name_length_limit"),
        label_value_bytes: section.count(reader, "label_value_length_limit"),
        targets: section.count(reader, "target_limit"),
        body_bytes: section.size(reader, "body_size_limit"),
    }
}

/// `scrape_protocols`; nothing when the section leaves them to its parent.
pub(super) fn protocols(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Vec<ScrapeProtocol>> {
    let path = section.path_of("scrape_protocols");
    let at = section.at("scrape_protocols");
    let names = section.texts(reader, "scrape_protocols")?;
    let mut seen: Vec<String> = Vec::new();
    let mut protocols = Vec::new();
    for (name, at) in &names {
        let folded = name.to_lowercase();
        if seen.contains(&folded) {
            reader.error(*at, &path, format!("{name:?} is given twice"), "");
        }
        seen.push(folded);
        match protocol(name) {
            Some(Some(protocol)) => protocols.push(protocol),
            Some(None) => {
                let text = "promwatch does not speak protobuf and never asks for it";
                reader.say(Severity::Note, *at, &path, text, "exporters answer in the next format of the list");
            }
            None => unknown_protocol(reader, name, *at, &path),
        }
    }
    if names.is_empty() {
        reader.error(at, &path, "the list is empty", "leave the key out for the default");
    } else if protocols.is_empty() && names.iter().all(|(name, _)| *name == "PrometheusProto") {
        reader.error(at, &path, "promwatch speaks text formats only", "add PrometheusText0.0.4");
    }
    Some(protocols)
}

/// `fallback_scrape_protocol`; the CloudWatch agent sets text 0.0.4 where nothing is given.
pub(super) fn fallback(reader: &mut Reader<'_>, job: &Section<'_>) -> ScrapeProtocol {
    let key = "fallback_scrape_protocol";
    let Some(name) = job.filled(reader, key) else { return ScrapeProtocol::Text004 };
    match protocol(name) {
        Some(Some(protocol)) => return protocol,
        Some(None) => {
            reader.error(job.at(key), &job.path_of(key), "promwatch does not speak protobuf", "PrometheusText0.0.4");
        }
        None => unknown_protocol(reader, name, job.at(key), &job.path_of(key)),
    }
    ScrapeProtocol::Text004
}

fn protocol(name: &str) -> Option<Option<ScrapeProtocol>> {
    Some(match name {
        "OpenMetricsText1.0.0" => Some(ScrapeProtocol::OpenMetrics100),
        "OpenMetricsText0.0.1" => Some(ScrapeProtocol::OpenMetrics001),
        "PrometheusText1.0.0" => Some(ScrapeProtocol::Text100),
        "PrometheusText0.0.4" => Some(ScrapeProtocol::Text004),
        "PrometheusProto" => None,
        _ => return None,
    })
}

fn unknown_protocol(reader: &mut Reader<'_>, name: &str, at: (usize, usize), path: &str) {
    const NAMES: [&str; 4] =
        ["OpenMetricsText1.0.0", "OpenMetricsText0.0.1", "PrometheusText1.0.0", "PrometheusText0.0.4"];
    let nearest = crate::config::values::nearest(name, NAMES).map(|name| format!("did you mean {name}?"));
    let fix = nearest.unwrap_or_else(|| format!("one of {}", NAMES.join(", ")));
    reader.error(at, path, format!("there is no protocol {name:?}"), &fix);
}

/// Checked as Prometheus does it, then left aside: in the CloudWatch agent too they never reach an event.
fn external_labels(reader: &mut Reader<'_>, section: &Section<'_>) {
    let labels = section.map(reader, "external_labels");
    let path = section.path_of("external_labels");
    for (name, node) in &labels {
        let path = join(&path, name);
        if name.is_empty() {
            reader.error(node.position(), &path, "a label name must not be empty", "");
        }
        if node.as_str().is_none() {
            reader.wrong_type(node, &path, "text");
        }
    }
    if !labels.is_empty() {
        let text = "external labels do not reach the events, as in the CloudWatch agent";
        let fix = "to add labels to every event, use \"promwatch\": {\"labels\"} in the agent's JSON";
        reader.say(Severity::Note, section.key_at("external_labels"), &path, text, fix);
    }
}

fn server_keys(reader: &mut Reader<'_>, section: &Section<'_>) {
    section.duration(reader, "evaluation_interval");
    section.duration(reader, "rule_query_offset");
    section.text(reader, "query_log_file");
    let given: Vec<&str> = SERVER_KEYS.into_iter().filter(|key| section.get(key).is_some()).collect();
    if let Some(first) = given.first() {
        let text = format!("only a Prometheus server uses {}", given.join(", "));
        reader.say(Severity::Note, section.key_at(first), &section.path_of(first), text, "");
    }
}
