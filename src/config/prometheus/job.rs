//! One entry of `scrape_configs`.

use super::global::{self, Global};
use super::section::{Reader, Section, join};
use super::{discovery, exposure, http, relabel};
use crate::config::Severity;
use crate::model::settings::{ScrapeJob, ScrapeLimits};
use crate::yaml::Node;
use std::collections::BTreeMap;

/// The keys of a job beside those of its HTTP client, its sources of targets and its limits.
pub(super) const KEYS: [&str; 22] = [
    "job_name",
    "scrape_interval",
    "scrape_timeout",
    "scheme",
    "metrics_path",
    "params",
    "honor_labels",
    "honor_timestamps",
    "track_timestamps_staleness",
    "scrape_protocols",
    "fallback_scrape_protocol",
    "metric_name_validation_scheme",
    "enable_compression",
    "body_size_limit",
    "relabel_configs",
    "metric_relabel_configs",
    "scrape_failure_log_file",
    "keep_dropped_targets",
    "always_scrape_classic_histograms",
    "convert_classic_histograms_to_nhcb",
    "native_histogram_bucket_limit",
    "native_histogram_min_bucket_factor",
];

/// Reads a job. It is nothing when it cannot even be told from the others.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, path: String, global: &Global) -> Option<ScrapeJob> {
    if node.is_null() {
        reader.error(node.position(), &path, "the job is empty", "remove the `-` or fill the job in");
        return None;
    }
    let job = reader.section(
        node,
        path,
        &[&KEYS, &http::KEYS, &discovery::KEYS, &global::LIMIT_KEYS, &discovery::REFUSED],
    )?;
    let job_name = job.filled(reader, "job_name");
    if job_name.is_none() && job.get("job_name").is_none_or(|node| node.as_str().is_some()) {
        reader.error(job.at("job_name"), &job.path_of("job_name"), "every job needs a name", "add job_name");
    }
    let interval_ms = job.duration(reader, "scrape_interval").filter(|ms| *ms > 0).unwrap_or(global.interval_ms);
    let mut timeout_ms = job.duration(reader, "scrape_timeout").unwrap_or(0);
    if timeout_ms > interval_ms {
        global::timeout_over_interval(reader, &job);
    }
    if timeout_ms == 0 {
        timeout_ms = global.timeout_ms.min(interval_ms);
    }
    let relabel = relabel::rules(reader, &job, "relabel_configs");
    let relabelled = job.get("relabel_configs").and_then(Node::as_sequence).is_some_and(|rules| !rules.is_empty());
    without_effect(reader, &job);
    discovery::refuse_others(reader, &job);
    let scheme = job.text(reader, "scheme").unwrap_or("http");
    if !matches!(scheme, "http" | "https") {
        let text = "only http and https are spoken";
        let fix = "targets fail unless relabelling sets __scheme__";
        reader.say(Severity::Warning, job.at("scheme"), &job.path_of("scheme"), text, fix);
    }
    let settings = ScrapeJob {
        interval_ms,
        timeout_ms,
        scheme: scheme.to_owned(),
        metrics_path: job.text(reader, "metrics_path").unwrap_or("/metrics").to_owned(),
        params: params(reader, &job),
        honor_labels: job.flag(reader, "honor_labels", false),
        honor_timestamps: job.flag(reader, "honor_timestamps", true),
        protocols: global::protocols(reader, &job).unwrap_or_else(|| global.protocols.clone()),
        fallback_protocol: global::fallback(reader, &job),
        legacy_names: legacy_names(reader, &job, global),
        compression: job.flag(reader, "enable_compression", true),
        skip_bad_lines: false, // the agent's JSON decides
        limits: inherit(global::limits(reader, &job), global.limits),
        http: http::client(reader, &job),
        metric_relabel: relabel::rules(reader, &job, "metric_relabel_configs"),
        discovery: discovery::sources(reader, &job, relabelled),
        relabel,
        job_name: job_name?.to_owned(),
    };
    exposure::job(reader, &job, &settings);
    Some(settings)
}

/// What a job leaves at 0, the global section decides.
fn inherit(job: ScrapeLimits, global: ScrapeLimits) -> ScrapeLimits {
    let or = |own: u64, inherited: u64| if own == 0 { inherited } else { own };
    ScrapeLimits {
        samples: or(job.samples, global.samples),
        labels: or(job.labels, global.labels),
        label_name_bytes: or(job.label_name_bytes, global.label_name_bytes),
        label_value_bytes: or(job.label_value_bytes, global.label_value_bytes),
        targets: or(job.targets, global.targets),
        body_bytes: or(job.body_bytes, global.body_bytes),
    }
}

/// Prometheus does not check a job's own value: all but `legacy` means UTF-8.
fn legacy_names(reader: &mut Reader<'_>, job: &Section<'_>, global: &Global) -> bool {
    let key = "metric_name_validation_scheme";
    let Some(scheme) = job.filled(reader, key) else { return global.legacy_names };
    if !matches!(scheme, "utf8" | "legacy") {
        let text = format!("there is no scheme {scheme:?}; Prometheus takes it for utf8, and so does promwatch");
        reader.say(Severity::Warning, job.at(key), &job.path_of(key), text, "utf8 or legacy");
    }
    scheme == "legacy"
}

fn params(reader: &mut Reader<'_>, job: &Section<'_>) -> BTreeMap<String, Vec<String>> {
    let mut params = BTreeMap::new();
    for (name, node) in job.map(reader, "params") {
        let values = reader.texts(node, &join(&job.path_of("params"), name));
        params.insert(name.to_owned(), values.into_iter().map(|(value, _)| value.to_owned()).collect());
    }
    params
}

/// Keys that are checked and then change nothing.
fn without_effect(reader: &mut Reader<'_>, job: &Section<'_>) {
    const HISTOGRAMS: &str = "promwatch has no native histograms";
    job.flag(reader, "track_timestamps_staleness", false);
    job.flag(reader, "always_scrape_classic_histograms", false);
    job.flag(reader, "convert_classic_histograms_to_nhcb", false);
    job.count(reader, "native_histogram_bucket_limit");
    job.check_float(reader, "native_histogram_min_bucket_factor");
    job.count(reader, "keep_dropped_targets");
    job.text(reader, "scrape_failure_log_file");
    for (key, text) in [
        ("track_timestamps_staleness", "there are no staleness markers in CloudWatch Logs"),
        ("always_scrape_classic_histograms", HISTOGRAMS),
        ("convert_classic_histograms_to_nhcb", HISTOGRAMS),
        ("native_histogram_bucket_limit", HISTOGRAMS),
        ("native_histogram_min_bucket_factor", HISTOGRAMS),
        ("keep_dropped_targets", "dropped targets are not kept"),
        ("scrape_failure_log_file", "failures go to promwatch's own log and to `promwatch status`"),
    ] {
        if job.given(key).is_some() {
            let text = format!("no effect: {text}");
            reader.say(Severity::Note, job.key_at(key), &job.path_of(key), text, "");
        }
    }
}
