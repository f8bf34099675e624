//! Which JSON files there are, their reading, and the merge of several into one, all as in the CloudWatch agent
//! (`translator/cmdutil/translatorutil.go`, `translator/jsonconfig`).

use super::finding::{Finding, Severity};
use super::locate::locate;
use super::{Sources, Surroundings};
use crate::env::Disk;
use serde_json::{Map, Value};
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.json";
const FOLDER: &str = "/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.d";
const CONTAINER_FOLDER: &str = "/etc/cwagentconfig";
const CONTENT_VARIABLE: &str = "CW_CONFIG_CONTENT";

const MAX_FILE_BYTES: u64 = 4 << 20;
const MAX_FILES: usize = 256;
/// A folder may hold links to itself.
const MAX_DEPTH: usize = 8;

/// Sections whose keys are merged one by one; everything below must be equal wherever it is given.
const MERGED: &[&str] =
    &["/agent", "/logs", "/logs/metrics_collected", "/logs/metrics_collected/prometheus", "/promwatch"];

/// Sections that the agent merges by rules of their own and nothing here reads: the first file's stand.
const UNREAD: &[&str] =
    &["/metrics", "/traces", "/opentelemetry", "/csm", "/logs/logs_collected", "/agent/usage_metadata"];

/// The sections that are read.
const READ: &[&str] = &["agent", "logs", "promwatch"];

/// One configuration file.
pub(super) struct Document {
    /// Its path, or the name of the variable that holds it.
    pub file: String,
    text: String,
    value: Value,
}

/// The configuration files, each on its own and merged.
pub(super) struct Documents {
    /// In the order of the merge.
    pub each: Vec<Document>,
    /// All of them together.
    pub merged: Value,
}

impl Documents {
    /// A value of the merged configuration, by JSON pointer.
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        self.merged.pointer(path)
    }

    /// A text.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.as_str()
    }

    /// True only if the value is `true`.
    pub(super) fn flag(&self, path: &str) -> bool {
        self.get(path) == Some(&Value::Bool(true))
    }

    /// The file that has the value, or the nearest thing above it.
    pub(super) fn file_of(&self, path: &str) -> &str {
        self.holder(path).map_or("", |(document, _)| &document.file)
    }

    /// Something to say about the value at a path.
    pub(super) fn finding(&self, severity: Severity, path: &str, text: String, fix: &str) -> Finding {
        let holder = self.holder(path);
        let position = holder.and_then(|(document, there)| locate(&document.text, there));
        let file = holder.map_or(String::new(), |(document, _)| document.file.clone());
        Finding { severity, file, position, key: path.to_owned(), text, fix: fix.to_owned() }
    }

    /// The first file that has the path, or the longest part of it, and that part.
    fn holder<'a>(&self, path: &'a str) -> Option<(&Document, &'a str)> {
        let mut path = path;
        loop {
            if let Some(document) = self.each.iter().find(|document| document.value.pointer(path).is_some()) {
                return Some((document, path));
            }
            path = &path[..path.rfind('/')?];
        }
    }
}

/// Finds, reads and merges the files. Nothing when there is none that can be read; `findings` then say why.
pub(super) fn read(
    sources: &Sources,
    surroundings: &Surroundings,
    disk: &dyn Disk,
    findings: &mut Vec<Finding>,
) -> Option<Documents> {
    let mut search = Search { disk, paths: Vec::new(), findings };
    let container = surroundings.in_container();
    if sources.config_paths.is_empty() {
        let places: &[&str] = if container { &[CONTAINER_FOLDER, FILE, FOLDER] } else { &[FILE, FOLDER] };
        for place in places {
            search.add(Path::new(place), 0, Missing::Skipped);
        }
    }
    for path in &sources.config_paths {
        search.add(path, 0, Missing::Error);
    }
    let mut paths = search.paths;
    // The agent merges in the order of the names.
    paths.sort();
    paths.dedup();
    let mut each = Vec::new();
    for path in &paths {
        let file = path.display().to_string();
        let fault = match disk.read(path, MAX_FILE_BYTES) {
            Ok(bytes) => match parse(&file, &bytes) {
                Ok(document) => {
                    each.push(document);
                    continue;
                }
                Err(finding) => *finding,
            },
            Err(error) => fault(&file, format!("cannot be read: {error}"), ""),
        };
        findings.push(fault);
    }
    if paths.is_empty()
        && container
        && sources.config_paths.is_empty()
        && let Some(content) = surroundings.vars.get(CONTENT_VARIABLE)
    {
        match parse(CONTENT_VARIABLE, content.as_bytes()) {
            Ok(document) => each.push(document),
            Err(finding) => findings.push(*finding),
        }
    }
    if each.is_empty() {
        if findings.iter().all(|finding| finding.severity < Severity::Error) {
            let fix = "give one with --config, or put the CloudWatch agent's file where the agent has it";
            let place = sources.config_paths.first().map_or(FILE.into(), |path| path.display().to_string());
            findings.push(fault(&place, "no configuration found".to_owned(), fix));
        }
        return None;
    }
    let merged = merge(&each, findings);
    Some(Documents { each, merged })
}

#[derive(Clone, Copy, PartialEq)]
enum Missing {
    Error,
    Skipped,
}

struct Search<'a> {
    disk: &'a dyn Disk,
    paths: Vec<PathBuf>,
    findings: &'a mut Vec<Finding>,
}

impl Search<'_> {
    /// A file is taken whatever its name; of a folder all files but `*.yaml` (the agent's own OpenTelemetry files, and
    /// the Prometheus file in containers) and `*.tmp` (not yet accepted by `amazon-cloudwatch-agent-ctl`).
    fn add(&mut self, path: &Path, depth: usize, missing: Missing) {
        let stamp = match self.disk.stat(path) {
            Ok(stamp) => stamp,
            Err(error) if missing == Missing::Skipped && error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.fail(path, format!("cannot be read: {error}")),
        };
        if !stamp.is_dir {
            return self.paths.push(path.to_owned());
        }
        let entries = match self.disk.list(path) {
            Ok(entries) => entries,
            Err(error) => return self.fail(path, format!("cannot be listed: {error}")),
        };
        for entry in entries {
            if self.paths.len() >= MAX_FILES {
                return self.fail(path, format!("more than {MAX_FILES} files"));
            }
            let path = path.join(&entry.name);
            let skipped = path.extension().is_some_and(|end| end == "yaml" || end == "tmp");
            if entry.stamp.is_dir && depth < MAX_DEPTH {
                self.add(&path, depth + 1, Missing::Skipped);
            } else if !entry.stamp.is_dir && !skipped {
                self.paths.push(path);
            }
        }
    }

    fn fail(&mut self, path: &Path, text: String) {
        self.findings.push(fault(&path.display().to_string(), text, ""));
    }
}

fn fault(file: &str, text: String, fix: &str) -> Finding {
    let (file, fix) = (file.to_owned(), fix.to_owned());
    Finding { severity: Severity::Error, file, position: None, key: String::new(), text, fix }
}

fn parse(file: &str, bytes: &[u8]) -> Result<Document, Box<Finding>> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) if value.is_object() => {
            Ok(Document { file: file.to_owned(), text: String::from_utf8_lossy(bytes).into_owned(), value })
        }
        Ok(_) => Err(Box::new(fault(file, "must hold one JSON object".to_owned(), ""))),
        Err(error) => {
            let place = format!(" at line {} column {}", error.line(), error.column());
            let text = error.to_string().replace(&place, "");
            let fix = match Path::new(file).extension().and_then(|end| end.to_str()) {
                Some("json") => "",
                Some("yaml" | "yml") => "the Prometheus file is named in the agent's JSON, by prometheus_config_path",
                _ => "of a folder every file but *.yaml and *.tmp is read as JSON, as in the CloudWatch agent",
            };
            // An error at the end of a line is at column 0 of the next one to serde_json.
            let position = Some((error.line(), error.column().max(1)));
            Err(Box::new(Finding { position, ..fault(file, format!("not valid JSON: {text}"), fix) }))
        }
    }
}

fn merge(each: &[Document], findings: &mut Vec<Finding>) -> Value {
    let mut merged = Value::Object(Map::new());
    for (index, document) in each.iter().enumerate() {
        merge_object("", &mut merged, &document.value, &mut |path, key| {
            let other = each[..index].iter().find(|other| other.value.pointer(path).is_some());
            let other = other.map_or("", |other| &other.file);
            let text = format!("Different values are specified for {key}: another one is in {other}");
            let position = locate(&document.text, path);
            let finding = fault(&document.file, text, "keep it in one of the files, or make both equal");
            findings.push(Finding { key: path.to_owned(), position, ..finding });
        });
    }
    merged
}

fn merge_object(path: &str, into: &mut Value, from: &Value, conflict: &mut dyn FnMut(&str, &str)) {
    let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) else { return };
    for (key, value) in from {
        let path = format!("{path}/{key}");
        match into.get_mut(key) {
            None => {
                into.insert(key.clone(), value.clone());
            }
            Some(there) if same(there, value) || UNREAD.contains(&path.as_str()) => {}
            Some(there)
                if there.is_object()
                    && value.is_object()
                    && (MERGED.contains(&path.as_str()) || path.starts_with("/promwatch/")) =>
            {
                merge_object(&path, there, value, conflict);
            }
            Some(_) if path.starts_with("/logs/metrics_collected/") && !path.contains("/prometheus") => {}
            // The agent knows nothing of other sections: whatever they hold, they vanish.
            Some(_) if !path.split('/').nth(1).is_some_and(|section| READ.contains(&section)) => {}
            Some(_) => conflict(&path, key),
        }
    }
}

/// Equal as the agent sees it, for which every number is a float.
fn same(a: &Value, b: &Value) -> bool {
    a == b || a.is_number() && b.is_number() && a.as_f64() == b.as_f64()
}
