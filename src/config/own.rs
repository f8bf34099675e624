//! The `"promwatch"` object: what the CloudWatch agent has no key for, and ignores.

use super::files::Documents;
use super::finding::{Finding, Severity};
use super::schema::{duration_of, size_of};
use super::{Sources, Surroundings, set};
use crate::env::Disk;
use crate::model::settings::{
    BufferSettings, ConvertSettings, Discovery, Expired, Histograms, HttpClient, ScrapeJob, ScrapeLimits,
    ScrapeProtocol, Template,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const STATE_DIR: &str = "/var/lib/promwatch";
const RUNTIME_DIR: &str = "/run/promwatch";
const INTERVAL_MS: u64 = 60_000;

const HOST: &str = "/promwatch/host_metrics";
const TEXTFILE: &str = "/promwatch/textfile";

/// CreateLogStream, API reference.
const MAX_STREAM_NAME: usize = 512;

/// Fields that an event has anyway: a label of that name would be lost.
const RESERVED: &[&str] = &["Timestamp", "Version", "CloudWatchMetrics"];

/// `"buffer"` and the state directory: `--state-dir`, `state_dir`, systemd's `STATE_DIRECTORY`, `/var/lib/promwatch`.
pub(super) fn buffer(
    documents: &Documents,
    sources: &Sources,
    surroundings: &Surroundings,
    disk: &dyn Disk,
    findings: &mut Vec<Finding>,
) -> BufferSettings {
    const PATH: &str = "/promwatch/state_dir";
    let state_dir = match (&sources.state_dir, documents.get(PATH).map(|value| value.as_str().unwrap_or("none"))) {
        (Some(dir), _) => Some(dir.clone()),
        (None, Some("none" | "")) => None,
        (None, Some(dir)) => Some(PathBuf::from(dir)),
        (None, None) => Some(surroundings.directory("STATE_DIRECTORY").unwrap_or_else(|| STATE_DIR.into())),
    };
    match &state_dir {
        None => {
            let text = "no state directory: what cannot be delivered waits in memory and is lost at the end";
            findings.push(documents.finding(Severity::Note, PATH, text.to_owned(), ""));
        }
        Some(dir) => {
            let text = match disk.stat(dir) {
                Ok(stamp) if stamp.is_dir => None,
                Ok(_) => Some(format!("the state directory {} is a file", dir.display())),
                Err(error) => Some(format!("the state directory {}: {error}; run makes it if it can", dir.display())),
            };
            let fix = "systemd's StateDirectory=promwatch makes it; or name another one";
            findings.extend(text.map(|text| documents.finding(Severity::Warning, PATH, text, fix)));
        }
    }
    let mut buffer = BufferSettings { state_dir, ..BufferSettings::default() };
    set(&mut buffer.max_bytes, documents, "/promwatch/buffer/max_bytes", size_of);
    set(&mut buffer.max_age_ms, documents, "/promwatch/buffer/max_age", duration_of);
    set(&mut buffer.sync_interval_ms, documents, "/promwatch/buffer/sync_interval", duration_of);
    set(&mut buffer.memory_bytes, documents, "/promwatch/buffer/memory_bytes", size_of);
    buffer.expired = match documents.text("/promwatch/buffer/expired") {
        Some("restamp") => Expired::Restamp,
        Some("keep") => Expired::Keep,
        _ => Expired::Drop,
    };
    buffer
}

/// Where the live status file lies: `runtime_dir`, systemd's `RUNTIME_DIRECTORY`, `/run/promwatch`.
pub(super) fn runtime_dir(documents: &Documents, surroundings: &Surroundings) -> PathBuf {
    let given = documents.text("/promwatch/runtime_dir").map(PathBuf::from);
    given.or_else(|| surroundings.directory("RUNTIME_DIRECTORY")).unwrap_or_else(|| RUNTIME_DIR.into())
}

/// The parts of the conversion that the agent does not have.
pub(super) fn convert(
    settings: &mut ConvertSettings,
    documents: &Documents,
    surroundings: &Surroundings,
    findings: &mut Vec<Finding>,
) {
    settings.more.histograms = match documents.text("/promwatch/types/histograms") {
        Some("sum_count") => Histograms::CountAndSum,
        Some("buckets") => Histograms::Buckets,
        Some("values") => Histograms::Values,
        _ => Histograms::Drop,
    };
    settings.more.untyped = documents.flag("/promwatch/types/untyped");
    settings.more.scrape_health = documents.flag("/promwatch/types/scrape_health");
    settings.more.declared_only = documents.flag("/promwatch/declared_events_only");
    settings.max_gap_ms = documents.get("/promwatch/counters/max_gap").and_then(duration_of);
    set(&mut settings.baseline_bytes, documents, "/promwatch/counters/memory_bytes", size_of);

    let mut names = Names { documents, surroundings, findings };
    const STREAM: &str = "/promwatch/log_stream_name";
    if let Some(text) = documents.text(STREAM) {
        let name = names.resolve(STREAM, text);
        let fixed = name.replace("{job}", "").replace("{instance}", "");
        if fixed.contains([':', '*']) || name.is_empty() || fixed.chars().count() > MAX_STREAM_NAME {
            let text = format!(
                "{name:?} is no legal log stream name: 1 to {MAX_STREAM_NAME} characters, none of them ':' or '*'"
            );
            names.say(Severity::Error, STREAM, text, "");
        }
        settings.log_stream_name = Some(Template(name));
    }
    let labels = documents.get("/promwatch/labels").and_then(|labels| labels.as_object());
    for (name, value) in labels.into_iter().flatten() {
        let path = format!("/promwatch/labels/{name}");
        if name.is_empty() || name.starts_with("__") || RESERVED.contains(&name.as_str()) {
            names.say(Severity::Error, &path, "an event cannot have a label of that name".to_owned(), "");
        }
        let value = names.resolve(&path, value.as_str().unwrap_or(""));
        settings.labels.push((name.clone(), Template(value)));
    }
}

/// Whether there is anything to do without a Prometheus file.
pub(super) fn has_jobs(documents: &Documents) -> bool {
    wants_host_metrics(documents) || documents.get(TEXTFILE).is_some()
}

fn wants_host_metrics(documents: &Documents) -> bool {
    documents.get(HOST).is_some_and(|value| value.is_object() || value.as_bool() == Some(true))
}

/// Jobs whose targets are not exporters: this machine's own figures, and a folder of `*.prom` files.
pub(super) fn jobs(documents: &Documents, disk: &dyn Disk, findings: &mut Vec<Finding>) -> Vec<ScrapeJob> {
    let mut jobs = Vec::new();
    let job = |path: &str, name: &str, discovery| {
        let mut job = plain_job(documents.text(&format!("{path}/job_name")).unwrap_or(name), discovery);
        set(&mut job.interval_ms, documents, &format!("{path}/interval"), duration_of);
        job.timeout_ms = job.timeout_ms.min(job.interval_ms);
        job
    };
    if wants_host_metrics(documents) {
        jobs.push(job(HOST, "host", Discovery::Host));
    }
    if documents.get(TEXTFILE).is_some() {
        match documents.text(&format!("{TEXTFILE}/directory")) {
            None => {
                let text = "directory is missing".to_owned();
                findings.push(documents.finding(
                    Severity::Error,
                    TEXTFILE,
                    text,
                    "name the folder of the *.prom files",
                ));
            }
            Some(directory) => {
                if let Err(error) = disk.stat(Path::new(directory)) {
                    let path = format!("{TEXTFILE}/directory");
                    findings.push(documents.finding(Severity::Warning, &path, format!("{directory}: {error}"), ""));
                }
                jobs.push(job(TEXTFILE, "textfile", Discovery::Textfile(directory.into())));
            }
        }
    }
    jobs
}

fn plain_job(job_name: &str, discovery: Discovery) -> ScrapeJob {
    ScrapeJob {
        job_name: job_name.to_owned(),
        interval_ms: INTERVAL_MS,
        timeout_ms: 10_000,
        scheme: "http".to_owned(),
        metrics_path: "/metrics".to_owned(),
        params: BTreeMap::new(),
        honor_labels: false,
        honor_timestamps: true,
        protocols: vec![ScrapeProtocol::Text004],
        fallback_protocol: ScrapeProtocol::Text004,
        legacy_names: false,
        compression: false,
        skip_bad_lines: false,
        limits: ScrapeLimits::default(),
        http: HttpClient::default(),
        relabel: Vec::new(),
        metric_relabel: Vec::new(),
        discovery: vec![discovery],
    }
}

struct Names<'a> {
    documents: &'a Documents,
    surroundings: &'a Surroundings,
    findings: &'a mut Vec<Finding>,
}

impl Names<'_> {
    /// Fills in what is known at start; `{job}` and `{instance}` stay.
    fn resolve(&mut self, path: &str, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            out.push_str(&rest[..start]);
            let Some(end) = rest[start..].find('}') else {
                self.say(Severity::Error, path, "a '{' is not closed".to_owned(), "");
                return out;
            };
            let placeholder = &rest[start..=start + end];
            rest = &rest[start + placeholder.len()..];
            match self.placeholder(path, placeholder) {
                Some(value) => out.push_str(&value),
                None => out.push_str(placeholder),
            }
        }
        out + rest
    }

    fn placeholder(&mut self, path: &str, placeholder: &str) -> Option<String> {
        let name = &placeholder[1..placeholder.len() - 1];
        let value = match name {
            "job" | "instance" => return None,
            "hostname" => self.surroundings.host_of(self.documents),
            "machine_id" => self.surroundings.machine_id.clone(),
            "serial" => self.surroundings.serial.clone(),
            _ => match name.strip_prefix("env:") {
                Some(name) => self.surroundings.vars.get(name).cloned().unwrap_or_default(),
                None => {
                    let fix = "known: {hostname}, {machine_id}, {serial}, {env:NAME}, {job}, {instance}";
                    self.say(Severity::Error, path, format!("unknown placeholder {placeholder}"), fix);
                    return None;
                }
            },
        };
        if value.is_empty() {
            self.say(Severity::Warning, path, format!("{placeholder} is empty on this machine"), "");
        }
        Some(value)
    }

    fn say(&mut self, severity: Severity, path: &str, text: String, fix: &str) {
        self.findings.push(self.documents.finding(severity, path, text, fix));
    }
}
