//! The two configuration files: the CloudWatch agent's JSON (several files merged, checked against its schema) and the
//! Prometheus YAML that it names; beside them `common-config.toml`, the environment and the AWS profile files.
//!
//! Files in, [`Settings`] out, and every problem that was found on the way, never only the first. Refuses: defaults hidden
//! elsewhere; obeying half of a key: what is not served is refused or warned of by name.
//!
//! ```text
//! files ──> schema ──> emf, upload, own, prometheus ──> Settings, or findings that say why not
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `files` | finding, reading and merging the JSON files |
//! | `locate` | lines and columns of JSON values |
//! | `schema` | which keys there are, their values, what becomes of each |
//! | `values` | durations, sizes, `$` expansion |
//! | `emf` | `emf_processor` |
//! | `upload` | region, endpoint, credentials, proxy, certificates |
//! | `common_config`, `toml` | `common-config.toml` |
//! | `own` | the `"promwatch"` object |
//! | `surroundings` | the environment and the machine's names |
//! | `prometheus` | the Prometheus YAML |

mod common_config;
mod describe;
mod emf;
mod files;
mod finding;
mod locate;
mod own;
pub mod prometheus;
mod schema;
mod surroundings;
mod toml;
mod upload;
mod values;

pub use describe::describe;
pub use finding::{Finding, Severity};
pub use surroundings::Surroundings;

use crate::env::Disk;
use crate::model::settings::{BASELINE_BYTES, ConvertSettings, Discovery, LogLevel, ScrapeJob, Settings};
use files::Documents;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};

const PROMETHEUS: &str = "/logs/metrics_collected/prometheus";

/// Where the agent looks for the Prometheus file, on hosts too.
const PROMETHEUS_FILE: &str = "/etc/cwagentconfig/prometheus.yaml";

const MAX_PROMETHEUS_BYTES: u64 = 4 << 20;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`: files or folders. Empty: the CloudWatch agent's own places.
    pub config_paths: Vec<PathBuf>,
    /// `--common-config`; it must exist when it is given.
    pub common_config: Option<PathBuf>,
    /// `--state-dir`; wins over the configuration.
    pub state_dir: Option<PathBuf>,
    /// `--log-level`; wins over the configuration.
    pub log_level: Option<LogLevel>,
}

/// What came of it.
#[derive(Debug)]
pub struct Loaded {
    /// What to obey; nothing when there is an error among the findings.
    pub settings: Option<Settings>,
    /// Everything worth saying, in the order in which it was found.
    pub findings: Vec<Finding>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

/// Reads, checks and resolves the whole configuration. Writes nothing.
pub fn load(sources: &Sources, surroundings: &Surroundings, disk: &dyn Disk) -> Loaded {
    let mut findings = Vec::new();
    let mut files = Vec::new();
    let common = common_config::read(sources.common_config.as_deref(), disk, &mut findings);
    if !common.file.is_empty() {
        files.push(PathBuf::from(&common.file));
    }
    let mut settings = None;
    if let Some(documents) = files::read(sources, surroundings, disk, &mut findings) {
        files.extend(documents.each.iter().map(|document| PathBuf::from(&document.file)));
        schema::check(&documents, &mut findings);
        settings = Some(Settings {
            buffer: own::buffer(&documents, sources, surroundings, disk, &mut findings),
            runtime_dir: own::runtime_dir(&documents, surroundings),
            log_level: log_level(&documents, sources, surroundings),
            convert: convert(&documents, surroundings, &mut findings),
            upload: upload::resolve(&documents, &common, surroundings, disk, &mut findings),
            jobs: jobs(&documents, &common, surroundings, disk, &mut findings, &mut files),
        });
    }
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        settings = None;
    }
    Loaded { settings, findings, files }
}

/// Takes over a value that is there and well formed; the schema's check has spoken about the others.
fn set<T>(slot: &mut T, documents: &Documents, path: &str, read: impl Fn(&Value) -> Option<T>) {
    if let Some(value) = documents.get(path).and_then(read) {
        *slot = value;
    }
}

fn log_level(documents: &Documents, sources: &Sources, surroundings: &Surroundings) -> LogLevel {
    // `amazon-cloudwatch-agent-ctl -a set-log-level` comes down to this variable.
    let variable = match surroundings.var("CWAGENT_LOG_LEVEL").unwrap_or("") {
        "DEBUG" => Some(LogLevel::Debug),
        "INFO" => Some(LogLevel::Info),
        "WARN" => Some(LogLevel::Warn),
        "ERROR" | "OFF" => Some(LogLevel::Error),
        _ => None,
    };
    let requests = documents.text("/agent/aws_sdk_log_level").is_some_and(|text| text.contains("LogDebug"));
    sources.log_level.or(variable).unwrap_or(if documents.flag("/agent/debug") || requests {
        LogLevel::Debug
    } else if documents.flag("/agent/quiet") {
        LogLevel::Error
    } else {
        LogLevel::Info
    })
}

fn convert(documents: &Documents, surroundings: &Surroundings, findings: &mut Vec<Finding>) -> ConvertSettings {
    let omit_host = match documents.get("/agent/omit_hostname") {
        Some(omit) => omit == &Value::Bool(true),
        None => surroundings.in_container(),
    };
    let cluster = documents.text(&format!("{PROMETHEUS}/cluster_name"));
    let mut settings = ConvertSettings {
        log_group_name: log_group_name(documents, surroundings, findings),
        host: (!omit_host).then(|| surroundings.host_of(documents)).filter(|host| !host.is_empty()),
        cluster_name: cluster.filter(|name| !name.is_empty()).map(str::to_owned),
        emf: emf::resolve(documents, surroundings, findings),
        baseline_bytes: BASELINE_BYTES,
        ..ConvertSettings::default()
    };
    own::convert(&mut settings, documents, surroundings, findings);
    settings
}

/// `log_group_name`: the agent takes a name that CloudWatch refuses and then loses every event.
fn log_group_name(documents: &Documents, surroundings: &Surroundings, findings: &mut Vec<Finding>) -> String {
    /// What the exporter replaces by an event's labels.
    const PATTERNS: [&str; 8] = [
        "{ClusterName}",
        "{TaskId}",
        "{NodeName}",
        "{PodName}",
        "{ServiceName}",
        "{ContainerInstanceId}",
        "{TaskDefinitionFamily}",
        "{JobName}",
    ];
    let path = format!("{PROMETHEUS}/log_group_name");
    let mut fail = |text: String, fix: &str| findings.push(documents.finding(Severity::Error, &path, text, fix));
    let name = values::expand(documents.text(&path).unwrap_or(""), &surroundings.vars);
    if name.is_empty() {
        if documents.get(PROMETHEUS).is_none() && !own::has_jobs(documents) {
            return name; // "nothing to scrape" says it all
        }
        fail("the log group's name is missing".to_owned(), "add \"log_group_name\": \"/edge/prometheus\" or the like");
        return name;
    }
    // A label that an event lacks becomes `undefined`.
    let filled = PATTERNS.iter().fold(name.clone(), |name, pattern| name.replace(pattern, "undefined"));
    let wrong = filled.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-/#".contains(*c));
    if filled.contains('{') {
        let fix = format!("known: {}; or write the name out", PATTERNS.join(", "));
        fail(format!("{name:?} has a placeholder that the CloudWatch agent does not replace here"), &fix);
    } else if let Some(wrong) = wrong {
        fail(format!("{name:?} is no legal log group name: {wrong:?}"), "letters, digits, '_', '-', '/', '.', '#'");
    } else if filled.len() > 512 {
        fail(format!("the name has {} characters", filled.len()), "at most 512");
    } else if filled.starts_with("aws/") {
        fail(format!("{name:?}: names that start with aws/ are reserved"), "");
    }
    name
}

fn jobs(
    documents: &Documents,
    common: &common_config::CommonConfig,
    surroundings: &Surroundings,
    disk: &dyn Disk,
    findings: &mut Vec<Finding>,
    files: &mut Vec<PathBuf>,
) -> Vec<ScrapeJob> {
    let own = own::jobs(documents, disk, findings);
    let mut jobs = Vec::new();
    let errors = |findings: &[Finding]| findings.iter().filter(|f| f.severity == Severity::Error).count();
    let errors_before = errors(findings);
    if let Some(file) = prometheus_file(documents, surroundings, disk, !own.is_empty(), findings) {
        let context = prometheus::Context {
            base_dir: file.path.parent().map(Path::to_owned).unwrap_or_default(),
            vars: common.proxied(&surroundings.vars),
        };
        jobs = prometheus::parse(&file.path.display().to_string(), &file.text, &context, disk, findings);
        files.push(file.path);
    }
    for job in own {
        if jobs.iter().any(|other| other.job_name == job.job_name) {
            let text = format!("two jobs are called {:?}", job.job_name);
            findings.push(documents.finding(Severity::Error, "/promwatch", text, "set a job_name of its own"));
        }
        jobs.push(job);
    }
    let skip = documents.text("/promwatch/scrape/bad_lines") == Some("skip");
    jobs.iter_mut().for_each(|job| job.skip_bad_lines = skip);
    let has_target = |discovery: &Discovery| !matches!(discovery, Discovery::Static(group) if group.targets.is_empty());
    let some = jobs.iter().flat_map(|job| &job.discovery).any(has_target);
    if !some && errors(findings) == errors_before {
        let text = match documents.get(PROMETHEUS) {
            _ if !jobs.is_empty() => "nothing to scrape: no job has a target, nor a way to find one",
            None => "nothing to scrape: there is no logs.metrics_collected.prometheus",
            Some(_) => "nothing to scrape: no job in the Prometheus file, no host_metrics, no textfile",
        };
        let fix = "add scrape_configs to the Prometheus file, or \"promwatch\": {\"host_metrics\": true}";
        findings.push(documents.finding(Severity::Error, PROMETHEUS, text.to_owned(), fix));
    }
    warn_of_long_rounds(&jobs, documents, findings);
    jobs
}

/// One loop scrapes one target after the other: hanging targets delay the others if their time-outs fill the interval.
fn warn_of_long_rounds(jobs: &[ScrapeJob], documents: &Documents, findings: &mut Vec<Finding>) {
    let mut targets = 0;
    let mut percent = 0;
    for job in jobs {
        for discovery in &job.discovery {
            if let Discovery::Static(group) = discovery {
                let count = group.targets.len() as u64;
                targets += count;
                percent += count.saturating_mul(job.timeout_ms).saturating_mul(100) / job.interval_ms.max(1);
            }
        }
    }
    if percent > 100 {
        let text = format!(
            "the time-outs of {targets} targets add up to {percent} % of their interval: while many hang, others are late"
        );
        let fix = "shorten scrape_timeout, or share the targets with a second instance that has its own state_dir";
        findings.push(documents.finding(Severity::Warning, PROMETHEUS, text, fix));
    }
}

struct PrometheusFile {
    path: PathBuf,
    text: String,
}

/// The Prometheus file, by the agent's rules; unlike there, one that is missing is said to be, unless only promwatch's own
/// jobs are wanted.
fn prometheus_file(
    documents: &Documents,
    surroundings: &Surroundings,
    disk: &dyn Disk,
    dispensable: bool,
    findings: &mut Vec<Finding>,
) -> Option<PrometheusFile> {
    documents.get(PROMETHEUS)?;
    let key = format!("{PROMETHEUS}/prometheus_config_path");
    let given = documents.text(&key);
    let mut fail = |text: String, fix: &str| findings.push(documents.finding(Severity::Error, &key, text, fix));
    let place = given.unwrap_or(PROMETHEUS_FILE);
    if let Some(name) = place.strip_prefix("env:") {
        // The agent writes the content to a file first; nothing is written here.
        let text = surroundings.vars.get(name).cloned();
        if text.is_none() {
            fail(format!("the environment has no variable {name}"), "");
        }
        return Some(PrometheusFile { path: place.into(), text: text? });
    }
    let path = Path::new(place.strip_prefix("file:").unwrap_or(place));
    let beside = Path::new(documents.file_of(&key)).with_file_name(path);
    let mut read = disk.read(path, MAX_PROMETHEUS_BYTES);
    let mut path = path.to_owned();
    if path.is_relative() && matches!(&read, Err(error) if error.kind() == io::ErrorKind::NotFound) {
        // Relative to the working directory as in the agent, else to the JSON file.
        read = disk.read(&beside, MAX_PROMETHEUS_BYTES);
        path = beside;
    }
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if given.is_none() && dispensable && error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            fail(format!("the Prometheus file {}: {error}", path.display()), "put it there, or name another one");
            return None;
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => Some(PrometheusFile { path, text }),
        Err(_) => {
            fail(format!("the Prometheus file {} is not UTF-8", path.display()), "");
            None
        }
    }
}

#[cfg(test)]
mod tests;
