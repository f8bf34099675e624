//! The sections that only a Prometheus server has a use for: checked for their keys and types, then left aside.
//!
//! Checked as in Prometheus: which keys there are, their types, what excludes what, relabelling rules, HTTP clients. Not
//! checked: what lies within `sigv4`, `azuread`, `google_iam` and an Alertmanager's own service discovery.

use super::section::{Reader, Section};
use super::{discovery, http, relabel, url};
use crate::config::Severity;
use crate::yaml::Node;

/// The sections' names.
pub(super) const KEYS: [&str; 8] =
    ["runtime", "alerting", "rule_files", "storage", "tracing", "remote_write", "remote_read", "otlp"];
const QUEUE_COUNTS: [&str; 4] = ["capacity", "max_shards", "min_shards", "max_samples_per_send"];
const QUEUE_DURATIONS: [&str; 4] = ["batch_send_deadline", "min_backoff", "max_backoff", "sample_age_limit"];
const CLOUD_AUTH: [&str; 3] = ["sigv4", "azuread", "google_iam"];

/// Checks them all, and says once per section that it has no effect.
pub(super) fn check(reader: &mut Reader<'_>, top: &Section<'_>) {
    for key in KEYS {
        if top.given(key).is_some() {
            let text = "accepted without effect: only a Prometheus server uses this section";
            reader.say(Severity::Note, top.key_at(key), key, text, "");
        }
    }
    if let Some(runtime) = top.child(reader, "runtime", &[&["gogc"]]) {
        runtime.integer(reader, "gogc");
    }
    rule_files(reader, top);
    alerting(reader, top);
    storage(reader, top);
    tracing(reader, top);
    remotes(reader, top, "remote_write", remote_write);
    remotes(reader, top, "remote_read", remote_read);
    otlp(reader, top);
}

fn rule_files(reader: &mut Reader<'_>, top: &Section<'_>) {
    for (pattern, at) in top.texts(reader, "rule_files").unwrap_or_default() {
        if !discovery::star_is_last(pattern) {
            reader.error(at, "rule_files", "only the last part of a path may hold a *", "");
        }
    }
}

fn alerting(reader: &mut Reader<'_>, top: &Section<'_>) {
    const OWN: [&str; 7] =
        ["scheme", "path_prefix", "timeout", "api_version", "relabel_configs", "alert_relabel_configs", "sigv4"];
    let Some(section) = top.child(reader, "alerting", &[&["alert_relabel_configs", "alertmanagers"]]) else { return };
    relabel::rules(reader, &section, "alert_relabel_configs");
    for (at, node) in section.items(reader, "alertmanagers").iter().enumerate() {
        if node.is_null() {
            continue; // Prometheus lets it pass
        }
        let path = format!("alerting.alertmanagers[{at}]");
        let keys: &[&[&str]] = &[&OWN, &http::KEYS, &discovery::KEYS, &discovery::REFUSED];
        let Some(manager) = reader.section(node, path, keys) else { continue };
        http::client(reader, &manager);
        if manager.given("sigv4").is_some() {
            exclude(reader, &manager, &["basic_auth", "authorization", "oauth2", "sigv4"]);
        }
        let rules = relabel::rules(reader, &manager, "relabel_configs");
        relabel::rules(reader, &manager, "alert_relabel_configs");
        discovery::sources(reader, &manager, !rules.is_empty());
        for key in ["scheme", "path_prefix"] {
            manager.text(reader, key);
        }
        manager.duration(reader, "timeout");
        if let Some(version) = manager.given("api_version").and_then(|_| manager.text(reader, "api_version"))
            && version != "v2"
        {
            reader.error(manager.at("api_version"), &manager.path_of("api_version"), "there is only v2", "");
        }
    }
}

fn storage(reader: &mut Reader<'_>, top: &Section<'_>) {
    let Some(section) = top.child(reader, "storage", &[&["tsdb", "exemplars"]]) else { return };
    if let Some(tsdb) = section.child(reader, "tsdb", &[&["out_of_order_time_window"]]) {
        tsdb.duration(reader, "out_of_order_time_window");
    }
    if let Some(exemplars) = section.child(reader, "exemplars", &[&["max_exemplars"]]) {
        exemplars.integer(reader, "max_exemplars");
    }
}

fn tracing(reader: &mut Reader<'_>, top: &Section<'_>) {
    const KEYS: [&str; 8] =
        ["client_type", "endpoint", "sampling_fraction", "insecure", "tls_config", "headers", "compression", "timeout"];
    let Some(section) = top.child(reader, "tracing", &[&KEYS]) else { return };
    one_of(reader, &section, "client_type", &["http", "grpc"]);
    if section.filled(reader, "endpoint").is_none() {
        reader.error(section.at("endpoint"), "tracing.endpoint", "tracing needs an endpoint", "");
    }
    section.check_float(reader, "sampling_fraction");
    section.flag(reader, "insecure", false);
    http::tls(reader, &section);
    section.text_map(reader, "headers");
    http::refuse_reserved(reader, &section);
    if section.filled(reader, "compression").is_some() {
        one_of(reader, &section, "compression", &["gzip"]);
    }
    section.duration(reader, "timeout");
}

fn otlp(reader: &mut Reader<'_>, top: &Section<'_>) {
    const STRATEGIES: [&str; 2] = ["NoUTF8EscapingWithSuffixes", "UnderscoreEscapingWithSuffixes"];
    let Some(section) = top.child(reader, "otlp", &[&["promote_resource_attributes", "translation_strategy"]]) else {
        return;
    };
    let mut seen = Vec::new();
    for (attribute, at) in section.texts(reader, "promote_resource_attributes").unwrap_or_default() {
        let attribute = attribute.trim();
        if attribute.is_empty() || seen.contains(&attribute) {
            let text = "an attribute is empty or given twice";
            reader.error(at, "otlp.promote_resource_attributes", text, "");
        }
        seen.push(attribute);
    }
    if section.filled(reader, "translation_strategy").is_some() {
        one_of(reader, &section, "translation_strategy", &STRATEGIES);
        let legacy = top.get("global").and_then(|global| global.get("metric_name_validation_scheme"));
        if legacy.and_then(Node::as_str) == Some("legacy")
            && section.text(reader, "translation_strategy") == Some(STRATEGIES[0])
        {
            let at = section.at("translation_strategy");
            reader.error(at, "otlp.translation_strategy", "this does not go with legacy names", "");
        }
    }
}

fn remotes(
    reader: &mut Reader<'_>,
    top: &Section<'_>,
    key: &'static str,
    check: fn(&mut Reader<'_>, &Node, String) -> Option<String>,
) {
    let mut names = Vec::new();
    for (at, node) in top.items(reader, key).iter().enumerate() {
        let path = format!("{key}[{at}]");
        if node.is_null() {
            reader.error(node.position(), &path, "the entry is empty", "remove the `-` or fill the entry in");
            continue;
        }
        if let Some(name) = check(reader, node, path.clone()).filter(|name| !name.is_empty()) {
            if names.contains(&name) {
                reader.error(node.position(), &path, format!("the name {name:?} is given twice"), "");
            }
            names.push(name);
        }
    }
}

fn remote_write(reader: &mut Reader<'_>, node: &Node, path: String) -> Option<String> {
    const KEYS: [&str; 10] = [
        "url",
        "remote_timeout",
        "headers",
        "write_relabel_configs",
        "name",
        "send_exemplars",
        "send_native_histograms",
        "protobuf_message",
        "queue_config",
        "metadata_config",
    ];
    let section = reader.section(node, path, &[&KEYS, &http::KEYS, &CLOUD_AUTH])?;
    remote(reader, &section);
    relabel::rules(reader, &section, "write_relabel_configs");
    section.flag(reader, "send_exemplars", false);
    section.flag(reader, "send_native_histograms", false);
    if section.get("protobuf_message").is_some_and(Node::is_null) {
        let key = "protobuf_message";
        reader.error(section.at(key), &section.path_of(key), "the message is empty", "leave the key out");
    } else {
        let known = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"];
        one_of(reader, &section, "protobuf_message", &known);
    }
    if let Some(queue) =
        section.child(reader, "queue_config", &[&QUEUE_COUNTS, &QUEUE_DURATIONS, &["retry_on_http_429"]])
    {
        for key in QUEUE_COUNTS {
            queue.integer(reader, key);
        }
        for key in QUEUE_DURATIONS {
            queue.duration(reader, key);
        }
        queue.flag(reader, "retry_on_http_429", false);
    }
    if let Some(metadata) =
        section.child(reader, "metadata_config", &[&["send", "send_interval", "max_samples_per_send"]])
    {
        metadata.flag(reader, "send", true);
        metadata.duration(reader, "send_interval");
        metadata.integer(reader, "max_samples_per_send");
    }
    exclude(reader, &section, &["basic_auth", "authorization", "oauth2", "sigv4", "azuread", "google_iam"]);
    section.text(reader, "name").map(str::to_owned)
}

fn remote_read(reader: &mut Reader<'_>, node: &Node, path: String) -> Option<String> {
    const KEYS: [&str; 8] = [
        "url",
        "remote_timeout",
        "chunked_read_limit",
        "headers",
        "read_recent",
        "name",
        "required_matchers",
        "filter_external_labels",
    ];
    let section = reader.section(node, path, &[&KEYS, &http::KEYS])?;
    remote(reader, &section);
    section.count(reader, "chunked_read_limit");
    section.flag(reader, "read_recent", false);
    section.flag(reader, "filter_external_labels", true);
    section.text_map(reader, "required_matchers");
    section.text(reader, "name").map(str::to_owned)
}

/// What both kinds of remotes have.
fn remote(reader: &mut Reader<'_>, section: &Section<'_>) {
    let text = section.text(reader, "url");
    if section.given("url").is_none() {
        reader.error(section.at("url"), &section.path_of("url"), "the URL is missing", "");
    } else if let Some(Err(problem)) = text.map(url::parse) {
        reader.error(section.at("url"), &section.path_of("url"), problem, "");
    }
    section.duration(reader, "remote_timeout");
    section.text_map(reader, "headers");
    http::refuse_reserved(reader, section);
    http::client(reader, section);
}

fn one_of(reader: &mut Reader<'_>, section: &Section<'_>, key: &str, known: &[&str]) {
    if let Some(text) = section.text(reader, key)
        && section.given(key).is_some()
        && !known.contains(&text)
    {
        let fix = format!("one of {}", known.join(", "));
        reader.error(section.at(key), &section.path_of(key), format!("{text:?} is not known"), &fix);
    }
}

fn exclude(reader: &mut Reader<'_>, section: &Section<'_>, keys: &[&str]) {
    let given: Vec<&str> = keys.iter().copied().filter(|key| section.given(key).is_some()).collect();
    if let [_, .., last] = given[..] {
        let text = format!("only one of {} can be in force", given.join(", "));
        reader.error(section.key_at(last), &section.path_of(last), text, "");
    }
}
