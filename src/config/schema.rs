//! Which keys the agent JSON may have, what their values may be, and what becomes of them.
//!
//! The tables follow `translator/config/schema.json` of the CloudWatch agent for its sections, and are ours for
//! `"promwatch"`. The walk reports every problem, not only the first, and says once for each key that means nothing here
//! why that is so.

use super::files::Documents;
use super::finding::{Finding, Severity};
use super::values::{duration_text, nearest, size_text};
use crate::model::{parse_duration_ms, parse_size, push_decimal};
use serde_json::Value;

/// What a value may be.
pub(super) enum Kind {
    /// Anything: the section is not ours.
    Any,
    /// `true` or `false`.
    Bool,
    /// A text of so many characters.
    Text(usize, usize),
    /// A text or null.
    TextOrNull,
    /// An IAM role's ARN, or `${NAME}`.
    RoleArn,
    /// A whole number in a range.
    Whole(i64, i64),
    /// A number above 0 up to a limit.
    Rate(f64),
    /// A duration (`30s`, or a number of seconds) in a range of milliseconds.
    Duration(u64, u64),
    /// A size (`64MiB`, or a number of bytes) in a range.
    Size(u64, u64),
    /// One of some words.
    Word(&'static [&'static str]),
    /// A list.
    List(&'static Kind),
    /// An object with any keys.
    Map(&'static Kind),
    /// An object with known keys.
    Object(&'static [Key], Others),
    /// `true`, `false` or an object.
    BoolOr(&'static Kind),
}

/// What is said about keys that are not in the table.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Others {
    /// An error, as in the agent's schema.
    Refused,
    /// A warning: the agent's schema lets them pass and nothing reads them.
    Ignored,
}

/// One key of an object.
pub(super) struct Key {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub kind: Kind,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a key.
pub(super) enum Fate {
    /// It is obeyed.
    Obeyed,
    /// It can mean nothing here: one note.
    Meaningless(&'static str),
    /// It asks for something that promwatch does not do: one warning.
    Unserved(&'static str),
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, fate: Fate::Obeyed }
}

const fn note(name: &'static str, kind: Kind, why: &'static str) -> Key {
    Key { name, kind, fate: Fate::Meaningless(why) }
}

const fn unserved(name: &'static str, kind: Kind, what: &'static str) -> Key {
    Key { name, kind, fate: Fate::Unserved(what) }
}

const TEXT: Kind = Kind::Text(0, usize::MAX);
const OBJECT: Kind = Kind::Map(&Kind::Any);
const SECONDS: Kind = Kind::Whole(1, 172_800);
const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
const YEAR: u64 = 365 * DAY;
const ENTITY: &str = "names an entity of Application Signals, which promwatch does not report";
const TELEGRAF: &str = "tunes a part of the CloudWatch agent that promwatch does not have";

/// The whole file.
pub(super) static ROOT: &[Key] = &[
    key("agent", Kind::Object(AGENT, Others::Ignored)),
    key("logs", Kind::Object(LOGS, Others::Refused)),
    key("promwatch", Kind::Object(PROMWATCH, Others::Refused)),
    unserved("metrics", OBJECT, "promwatch collects no host metrics for CloudWatch Metrics"),
    unserved("traces", OBJECT, "promwatch collects no traces"),
    unserved("opentelemetry", OBJECT, "promwatch has no OpenTelemetry pipelines"),
    unserved("profiles", OBJECT, "promwatch collects no profiles"),
    unserved("csm", OBJECT, "client-side monitoring is not served"),
];

const AGENT: &[Key] = &[
    key("region", Kind::Text(1, 64)),
    key("credentials", CREDENTIALS),
    key("debug", Kind::Bool),
    key("quiet", Kind::Bool),
    key("aws_sdk_log_level", TEXT),
    key("user_agent", TEXT),
    key("hostname", TEXT),
    key("omit_hostname", Kind::Bool),
    key("use_dualstack_endpoint", Kind::Bool),
    note("metrics_collection_interval", SECONDS, "the Prometheus file's scrape_interval counts, as in the agent"),
    note("logfile", Kind::Text(0, 4096), "promwatch logs to standard error, so to the journal under systemd"),
    note("run_as_user", TEXT, "the service manager decides who promwatch runs as (User= of the unit)"),
    note("usage_data", Kind::Bool, "promwatch sends no usage data"),
    note("usage_metadata", Kind::Any, "promwatch sends no usage data"),
    note("mode", TEXT, "promwatch works the same everywhere"),
    unserved("opamp", Kind::Any, "promwatch is not managed over OpAMP"),
    note("internal", Kind::Bool, "a switch of the agent's makers"),
    note("service.name", Kind::Text(1, 255), ENTITY),
    note("deployment.environment", Kind::Text(1, 259), ENTITY),
    note("collection_jitter", Kind::Any, TELEGRAF),
    note("flush_interval", Kind::Any, TELEGRAF),
    note("flush_jitter", Kind::Any, TELEGRAF),
    note("metric_batch_size", Kind::Any, TELEGRAF),
    note("metric_buffer_limit", Kind::Any, TELEGRAF),
    note("precision", Kind::Any, TELEGRAF),
    note("round_interval", Kind::Any, TELEGRAF),
    note("logtarget", Kind::Any, TELEGRAF),
];

const CREDENTIALS: Kind = Kind::Object(&[key("role_arn", Kind::RoleArn)], Others::Refused);

const LOGS: &[Key] = &[
    key("metrics_collected", Kind::Object(METRICS_COLLECTED, Others::Ignored)),
    key("force_flush_interval", SECONDS),
    key("endpoint_override", Kind::Text(4, 2048)),
    key("credentials", CREDENTIALS),
    note(
        "log_stream_name",
        Kind::Text(1, 512),
        "it names the streams of log files; Prometheus events go to the stream named after their job, as in the agent; \
         promwatch.log_stream_name changes that",
    ),
    note("concurrency", Kind::Whole(1, i64::MAX), "it is for log files, which promwatch does not collect"),
    note("service.name", Kind::Text(1, 255), ENTITY),
    note("deployment.environment", Kind::Text(1, 259), ENTITY),
    unserved("logs_collected", OBJECT, "promwatch tails no log files"),
];

const METRICS_COLLECTED: &[Key] = &[
    key("prometheus", Kind::Object(PROMETHEUS, Others::Refused)),
    unserved("emf", OBJECT, "promwatch has no listener for embedded metric format"),
    unserved("structuredlog", OBJECT, "promwatch has no listener for embedded metric format"),
    unserved("kubernetes", OBJECT, "Container Insights is not served"),
    unserved("ecs", OBJECT, "Container Insights is not served"),
    unserved("app_signals", OBJECT, "Application Signals is not served"),
    unserved("application_signals", OBJECT, "Application Signals is not served"),
    unserved("otlp", Kind::Any, "promwatch has no OTLP listener"),
];

const PROMETHEUS: &[Key] = &[
    key("log_group_name", TEXT),
    key("prometheus_config_path", TEXT),
    key("cluster_name", TEXT),
    key("disable_metric_extraction", Kind::Bool),
    key("emf_processor", Kind::Object(EMF_PROCESSOR, Others::Refused)),
    unserved(
        "ecs_service_discovery",
        Kind::Object(ECS_SERVICE_DISCOVERY, Others::Refused),
        "promwatch does not discover ECS tasks",
    ),
];

const ECS_SERVICE_DISCOVERY: &[Key] = &[
    key("docker_label", OBJECT),
    key("task_definition_list", Kind::List(&OBJECT)),
    key("service_name_list_for_tasks", Kind::List(&OBJECT)),
    key("sd_cluster_region", TEXT),
    key("sd_frequency", TEXT),
    key("sd_result_file", TEXT),
    key("sd_target_cluster", TEXT),
];

const EMF_PROCESSOR: &[Key] = &[
    key("metric_namespace", TEXT),
    key("metric_unit", Kind::Map(&Kind::Text(1, 256))),
    key("metric_declaration", Kind::List(&Kind::Object(METRIC_DECLARATION, Others::Refused))),
    note("metric_declaration_dedup", Kind::Bool, "repeated declarations are always merged, as in today's agent"),
];

const METRIC_DECLARATION: &[Key] = &[
    key("source_labels", Kind::List(&TEXT)),
    key("label_matcher", TEXT),
    key("metric_selectors", Kind::List(&TEXT)),
    key("dimensions", Kind::List(&Kind::List(&TEXT))),
    note("label_separator", TEXT, "label values are always joined by ';', as in today's agent"),
];

const PROMWATCH: &[Key] = &[
    key("state_dir", Kind::TextOrNull),
    key("runtime_dir", Kind::Text(1, 4096)),
    key("log_stream_name", Kind::Text(1, 512)),
    key("labels", Kind::Map(&Kind::Text(1, 4096))),
    key("declared_events_only", Kind::Bool),
    key("buffer", Kind::Object(BUFFER, Others::Refused)),
    key("upload", Kind::Object(UPLOAD, Others::Refused)),
    key("counters", Kind::Object(COUNTERS, Others::Refused)),
    key("types", Kind::Object(TYPES, Others::Refused)),
    key("scrape", Kind::Object(&[key("bad_lines", Kind::Word(&["fail", "skip"]))], Others::Refused)),
    key("host_metrics", Kind::BoolOr(&Kind::Object(HOST_METRICS, Others::Refused))),
    key("textfile", Kind::Object(TEXTFILE, Others::Refused)),
];

const BUFFER: &[Key] = &[
    key("max_bytes", Kind::Size(1 << 20, 1 << 40)),
    key("max_age", Kind::Duration(MINUTE, 10 * YEAR)),
    key("sync_interval", Kind::Duration(0, DAY)),
    key("expired", Kind::Word(&["drop", "restamp", "keep"])),
    key("memory_bytes", Kind::Size(64 << 10, 1 << 30)),
];

const UPLOAD: &[Key] = &[
    key("backlog_requests_per_second", Kind::Rate(5_000.0)),
    key("backlog_bytes_per_second", Kind::Size(1 << 10, 1 << 40)),
    key("jitter", Kind::Duration(0, DAY)),
    key("compress", Kind::Bool),
];

const COUNTERS: &[Key] =
    &[key("max_gap", Kind::Duration(1_000, YEAR)), key("memory_bytes", Kind::Size(64 << 10, 1 << 30))];

const TYPES: &[Key] = &[
    key("histograms", Kind::Word(&["off", "sum_count", "buckets", "values"])),
    key("untyped", Kind::Bool),
    key("scrape_health", Kind::Bool),
];

const HOST_METRICS: &[Key] = &[key("interval", Kind::Duration(1_000, DAY)), key("job_name", Kind::Text(1, 512))];

const TEXTFILE: &[Key] = &[
    key("directory", Kind::Text(1, 4096)),
    key("interval", Kind::Duration(1_000, DAY)),
    key("job_name", Kind::Text(1, 512)),
];

/// Checks the merged configuration against the tables.
pub(super) fn check(documents: &Documents, findings: &mut Vec<Finding>) {
    let mut walk = Walk { documents, findings };
    walk.object("", &documents.merged, ROOT, Others::Ignored);
    if let Some(logs) = documents.get("/logs").and_then(Value::as_object)
        && !logs.contains_key("metrics_collected")
        && !logs.contains_key("logs_collected")
    {
        let fix = "add logs.metrics_collected.prometheus";
        walk.say(Severity::Error, "/logs", "neither metrics_collected nor logs_collected is there".to_owned(), fix);
    }
}

struct Walk<'a> {
    documents: &'a Documents,
    findings: &'a mut Vec<Finding>,
}

impl Walk<'_> {
    fn value(&mut self, path: &str, value: &Value, kind: &Kind) {
        let trouble = match kind {
            Kind::Object(keys, others) => return self.object(path, value, keys, *others),
            Kind::BoolOr(kind) if !value.is_boolean() => return self.value(path, value, kind),
            Kind::List(kind) => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.value(&format!("{path}/{index}"), item, kind);
                }
                wrong_type(value.is_array(), "a list", value)
            }
            Kind::Map(kind) => {
                for (name, item) in value.as_object().into_iter().flatten() {
                    self.value(&format!("{path}/{}", escape(name)), item, kind);
                }
                wrong_type(value.is_object(), "an object", value)
            }
            scalar => scalar_trouble(scalar, value),
        };
        if let Some(trouble) = trouble {
            self.say(Severity::Error, path, trouble, "");
        }
    }

    fn object(&mut self, path: &str, value: &Value, keys: &[Key], others: Others) {
        let Some(object) = value.as_object() else {
            let trouble = wrong_type(false, "an object", value).unwrap_or_default();
            return self.say(Severity::Error, path, trouble, "");
        };
        for (name, value) in object {
            let path = format!("{path}/{}", escape(name));
            let Some(key) = keys.iter().find(|key| key.name == name) else {
                self.unknown(&path, name, keys, others);
                continue;
            };
            self.value(&path, value, &key.kind);
            match key.fate {
                Fate::Obeyed => {}
                Fate::Meaningless(why) => self.say(Severity::Note, &path, format!("has no effect: {why}"), ""),
                Fate::Unserved(what) => {
                    let prometheus = name == "metrics" && value.pointer("/metrics_collected/prometheus").is_some();
                    let fix = if prometheus {
                        "the Prometheus pipeline that promwatch serves stands under logs.metrics_collected.prometheus"
                    } else {
                        "keep the CloudWatch agent for this section, or remove it"
                    };
                    self.say(Severity::Warning, &path, format!("not served: {what}; the rest runs"), fix);
                }
            }
        }
    }

    fn unknown(&mut self, path: &str, name: &str, keys: &[Key], others: Others) {
        let fix = if let Some(home) = home_of(path, name) {
            format!("it belongs at {home}")
        } else if let Some(near) = nearest(name, keys.iter().map(|key| key.name)) {
            format!("did you mean {near:?}?")
        } else if others == Others::Refused {
            let names: Vec<_> = keys.iter().map(|key| key.name).collect();
            format!("known keys: {}", names.join(", "))
        } else {
            String::new()
        };
        let (severity, text) = match others {
            Others::Refused => (Severity::Error, "unknown key"),
            Others::Ignored => (Severity::Warning, "unknown key, ignored"),
        };
        self.say(severity, path, text.to_owned(), &fix);
    }

    fn say(&mut self, severity: Severity, path: &str, text: String, fix: &str) {
        self.findings.push(self.documents.finding(severity, path, text, fix));
    }
}

/// Where a key would be right that was put in a wrong place.
fn home_of(path: &str, name: &str) -> Option<&'static str> {
    let home = match name {
        "log_stream_name" => "/promwatch/log_stream_name",
        "prometheus" => "/logs/metrics_collected/prometheus",
        "emf_processor" => "/logs/metrics_collected/prometheus/emf_processor",
        "log_group_name" => "/logs/metrics_collected/prometheus/log_group_name",
        "prometheus_config_path" => "/logs/metrics_collected/prometheus/prometheus_config_path",
        "metric_declaration" => "/logs/metrics_collected/prometheus/emf_processor/metric_declaration",
        "metric_namespace" => "/logs/metrics_collected/prometheus/emf_processor/metric_namespace",
        "metric_unit" => "/logs/metrics_collected/prometheus/emf_processor/metric_unit",
        "metrics_collected" => "/logs/metrics_collected",
        "endpoint_override" => "/logs/endpoint_override",
        "force_flush_interval" => "/logs/force_flush_interval",
        "region" => "/agent/region",
        "hostname" => "/agent/hostname",
        "debug" => "/agent/debug",
        "state_dir" => "/promwatch/state_dir",
        "buffer" => "/promwatch/buffer",
        "retention_in_days" => return Some("a log file's entry; promwatch sets no retention: set it on the log group"),
        _ => return None,
    };
    (home != path).then_some(home)
}

/// A finite number, by the digits that all numbers are written with: the standard library's way takes 8 kB.
pub(super) fn number_text(number: f64) -> String {
    let mut text = Vec::new();
    push_decimal(&mut text, number);
    String::from_utf8_lossy(&text).into_owned()
}

fn wrong_type(right: bool, want: &str, value: &Value) -> Option<String> {
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    (!right).then(|| format!("must be {want}, is {is}"))
}

fn scalar_trouble(kind: &Kind, value: &Value) -> Option<String> {
    match kind {
        Kind::Bool | Kind::BoolOr(_) => wrong_type(value.is_boolean(), "true or false", value),
        Kind::TextOrNull => wrong_type(value.is_string() || value.is_null(), "a text or null", value),
        Kind::Text(min, max) => match value.as_str() {
            None => wrong_type(false, "a text", value),
            Some(text) => length_trouble(text, *min, *max),
        },
        Kind::RoleArn => match value.as_str() {
            None => wrong_type(false, "a text", value),
            Some(text) if text.starts_with("${") && text.ends_with('}') => None,
            Some(text) => length_trouble(text, 20, 2048),
        },
        Kind::Whole(min, max) => match whole(value) {
            None => wrong_type(false, "a whole number", value),
            Some(n) => (n < *min || n > *max).then(|| format!("must be from {min} to {max}, is {n}")),
        },
        Kind::Rate(max) => match value.as_f64() {
            None => wrong_type(false, "a number", value),
            Some(n) => (n <= 0.0 || n > *max)
                .then(|| format!("must be above 0 and at most {}, is {}", number_text(*max), number_text(n))),
        },
        Kind::Duration(min, max) => match duration_of(value) {
            None => Some("must be a duration such as \"30s\", \"10m\", \"14d\", or a number of seconds".to_owned()),
            Some(ms) => (ms < *min || ms > *max)
                .then(|| format!("must be from {} to {}", duration_text(*min), duration_text(*max))),
        },
        Kind::Size(min, max) => match size_of(value) {
            None => Some("must be a size such as \"64MiB\", or a number of bytes".to_owned()),
            Some(n) => {
                (n < *min || n > *max).then(|| format!("must be from {} to {}", size_text(*min), size_text(*max)))
            }
        },
        Kind::Word(words) => {
            let right = value.as_str().is_some_and(|text| words.contains(&text));
            (!right).then(|| format!("must be one of \"{}\"", words.join("\", \"")))
        }
        Kind::Any | Kind::List(_) | Kind::Map(_) | Kind::Object(..) => None,
    }
}

fn length_trouble(text: &str, min: usize, max: usize) -> Option<String> {
    let length = text.chars().count();
    (length < min || length > max).then(|| format!("must have {min} to {max} characters, has {length}"))
}

/// A whole number; `60.0` is one too, as in JSON schema.
pub(super) fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15).map(|n| n as i64))
}

/// A duration in milliseconds: a text, or a number of seconds.
pub(super) fn duration_of(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => parse_duration_ms(text).ok(),
        value => value.as_f64().filter(|s| (0.0..=1e12).contains(s)).map(|s| (s * 1_000.0).round() as u64),
    }
}

/// A size in bytes: a text, or a number.
pub(super) fn size_of(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => parse_size(text).ok(),
        value => whole(value).and_then(|n| u64::try_from(n).ok()),
    }
}

/// A key as a step of a JSON pointer (RFC 6901).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key of the tables stands in the documentation, in code quotes: the agent's with what becomes of it,
    /// promwatch's own (with the name of its object) with its meaning.
    #[test]
    fn every_key_is_documented() {
        fn visit(keys: &'static [Key], prefix: &str, own: bool, missing: &mut Vec<String>) {
            let page = if own {
                include_str!("../../docs/configuration.md")
            } else {
                include_str!("../../docs/cwa-compatibility.md")
            };
            for key in keys {
                let name = format!("{prefix}{}", key.name);
                let inner = match &key.kind {
                    Kind::Object(keys, _) | Kind::List(Kind::Object(keys, _)) | Kind::BoolOr(Kind::Object(keys, _)) => {
                        keys
                    }
                    _ => &[][..],
                };
                let own = own || name == "promwatch";
                if !page.contains(&format!("`{name}`")) && (!own || inner.is_empty()) {
                    missing.push(name.clone());
                }
                let prefix = if own && name != "promwatch" { format!("{name}.") } else { String::new() };
                if key.name != "ecs_service_discovery" {
                    visit(inner, &prefix, own, missing);
                }
            }
        }
        let mut missing = Vec::new();
        visit(ROOT, "", false, &mut missing);
        assert_eq!(missing, [""; 0]);
    }
}
