//! The Prometheus configuration: what the file of `prometheus_config_path` says, as settings.
//!
//! Obeys Prometheus 3.0.1, whose code the CloudWatch agent runs: keys, types, defaults, what excludes what, and what null
//! means are those of its `config/config.go`, `discovery/*` and `model/relabel`, and of prometheus/common 0.62. Unlike there
//! all mistakes are reported at once, each with line, column and key.
//!
//! Refuses, always by name and with the reason: service discovery of clusters and clouds, scraping by protobuf alone,
//! proxies that do not speak HTTP, secret managers, TLS before 1.2 as the highest version. `docs/prometheus-configuration.md`
//! lists every key. Missing files are warnings: they may appear before they are needed.
//!
//! Limits: those of [`crate::yaml`] for each file, [`MAX_FILES`] files by `scrape_config_files`, 500 findings.

mod discovery;
mod exposure;
mod global;
mod http;
mod job;
mod relabel;
mod section;
mod server;
mod url;

use super::{Finding, Severity};
use crate::env::{Disk, glob};
use crate::model::settings::ScrapeJob;
use crate::yaml::{self, Node};
use global::Global;
use section::{Position, Reader};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The most files that `scrape_config_files` may name.
pub const MAX_FILES: usize = 1000;

/// What a Prometheus file depends on beside its text.
#[derive(Clone)]
pub struct Context {
    /// The folder that relative paths in the file start from.
    pub base_dir: PathBuf,
    /// The environment, for `proxy_from_environment`.
    pub vars: BTreeMap<String, String>,
}

/// Reads a configuration and the files that its `scrape_config_files` names. Jobs with errors of their own may be left out
/// or incomplete: any finding with [`Severity::Error`] means that the whole must not be used.
pub fn parse(
    file: &str,
    text: &str,
    context: &Context,
    disk: &dyn Disk,
    findings: &mut Vec<Finding>,
) -> Vec<ScrapeJob> {
    let mut reader = Reader { file, dir: &context.base_dir, context, disk, findings };
    let mut jobs = Jobs::default();
    let Some(root) = root(&mut reader, text) else {
        reader.say(Severity::Note, (1, 1), "", "the file is empty", "add scrape_configs");
        return Vec::new();
    };
    let own = ["global", "scrape_configs", "scrape_config_files"];
    let Some(top) = reader.section(&root, String::new(), &[&own, &server::KEYS]) else { return Vec::new() };
    let global = global::read(&mut reader, &top);
    server::check(&mut reader, &top);
    jobs.read(&mut reader, &top, &global);
    for (pattern, at) in top.texts(&mut reader, "scrape_config_files").unwrap_or_default() {
        jobs.read_files(&mut reader, pattern, at, &global);
    }
    // No more than a note: promwatch may have jobs of its own, and who has none at all hears of it as an error.
    if jobs.names.is_empty() {
        reader.say(Severity::Note, top.position(), "", "no job is configured here", "");
    }
    jobs.jobs
}

/// The content of a file's first document.
fn root(reader: &mut Reader<'_>, text: &str) -> Option<Node> {
    match yaml::parse(text) {
        Ok(document) => {
            if let Some(line) = document.ignored_from {
                let text = "from here on nothing is read, as in Prometheus: the file's first document ends before";
                reader.say(Severity::Warning, (line, 1), "", text, "look for a stray --- or wrong indentation");
            }
            document.root
        }
        Err(error) => {
            let tab =
                text.lines().nth(error.line - 1).is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'));
            let fix = if tab { "indent with spaces, not with tabs" } else { "" };
            reader.error((error.line, error.column), "", error.text, fix);
            // An empty mapping, so that nobody calls the file empty.
            yaml::parse("{}").ok().and_then(|document| document.root)
        }
    }
}

/// The jobs of all files, and where each name was first seen.
#[derive(Default)]
struct Jobs {
    jobs: Vec<ScrapeJob>,
    names: BTreeMap<String, String>,
    files: usize,
}

impl Jobs {
    fn read(&mut self, reader: &mut Reader<'_>, top: &section::Section<'_>, global: &Global) {
        for (at, node) in top.items(reader, "scrape_configs").iter().enumerate() {
            let path = format!("scrape_configs[{at}]");
            let Some(job) = job::read(reader, node, path.clone(), global) else { continue };
            let at = node.get("job_name").unwrap_or(node).position();
            let place = format!("{}:{}", reader.file, at.0);
            if let Some(first) = self.names.get(&job.job_name) {
                let text = format!("there is already a job {:?} at {first}", job.job_name);
                reader.error(at, &section::join(&path, "job_name"), text, "give each job its own name");
            } else {
                self.names.insert(job.job_name.clone(), place);
            }
            self.jobs.push(job);
        }
    }

    fn read_files(&mut self, reader: &mut Reader<'_>, pattern: &str, at: Position, global: &Global) {
        let key = "scrape_config_files";
        if !discovery::star_is_last(pattern) {
            reader.error(at, key, format!("{pattern:?}: only the last part of a path may hold a *"), "");
            return;
        }
        let files = match glob(reader.disk, &reader.join_dir(pattern).to_string_lossy()) {
            Ok(files) => files,
            Err(text) => return reader.error(at, key, text, ""),
        };
        if files.is_empty() {
            reader.say(Severity::Warning, at, key, format!("{pattern:?} stands for no file"), "");
        }
        for path in files {
            self.files += 1;
            if self.files > MAX_FILES {
                return reader.error(at, key, format!("more than {MAX_FILES} files"), "");
            }
            let name = path.to_string_lossy();
            let bytes = reader.disk.read(&path, yaml::MAX_TEXT_BYTES as u64).map_err(|error| error.to_string());
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()));
            let text = match text {
                Ok(text) => text,
                Err(text) => {
                    reader.error(at, key, format!("{name}: {text}"), "");
                    continue;
                }
            };
            let mut reader = Reader {
                file: &name,
                dir: path.parent().unwrap_or(reader.dir),
                context: reader.context,
                disk: reader.disk,
                findings: reader.findings,
            };
            let Some(root) = root(&mut reader, &text) else { continue };
            if let Some(top) = reader.section(&root, String::new(), &[&["scrape_configs"]]) {
                self.read(&mut reader, &top, global);
            }
        }
    }
}

/// Where a key belongs that was found elsewhere.
fn home_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "targets" | "labels" => "into an entry of static_configs",
        "files" => "into an entry of file_sd_configs",
        "names" => "into an entry of dns_sd_configs",
        "url" | "refresh_interval" => "into an entry of a service discovery",
        "source_labels" | "target_label" | "regex" | "replacement" | "modulus" | "separator" | "action" => {
            "into an entry of relabel_configs or metric_relabel_configs"
        }
        "username" | "password" | "username_file" | "password_file" => "under basic_auth",
        "credentials" | "credentials_file" => "under authorization",
        "ca_file" | "cert_file" | "key_file" | "insecure_skip_verify" | "server_name" => "under tls_config",
        "external_labels" => "under global",
        key if job::KEYS.contains(&key) || discovery::KEYS.contains(&key) || http::KEYS.contains(&key) => {
            "into an entry of scrape_configs"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
