//! The rules of the agent JSON, each by an example.

use super::*;
use crate::env::{Access, DiskFile, Entry, Lock, Stamp};
use crate::model::settings::{EmfSettings, Secret};
use std::collections::BTreeMap;

/// Files in memory, to be read only, and those among them that everybody may read.
#[derive(Default)]
pub(crate) struct Files(BTreeMap<PathBuf, Vec<u8>>, Vec<PathBuf>);

impl Files {
    pub(crate) fn with(mut self, path: &str, text: &str) -> Self {
        self.0.insert(path.into(), text.as_bytes().to_vec());
        self
    }

    /// The same for a file that everybody may read.
    pub(crate) fn with_open(mut self, path: &str, text: &str) -> Self {
        self.1.push(path.into());
        self.with(path, text)
    }
}

impl Disk for Files {
    fn read(&self, path: &Path, _: u64) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let names = self.0.keys().filter_map(|path| path.strip_prefix(dir).ok()?.iter().next()?.to_str());
        let mut names: Vec<_> = names.collect();
        names.dedup();
        names.into_iter().map(|name| Ok(Entry { name: name.to_owned(), stamp: self.stat(&dir.join(name))? })).collect()
    }

    fn stat(&self, path: &Path) -> io::Result<Stamp> {
        let is_dir = self.0.keys().any(|file| file != path && file.starts_with(path));
        let there = is_dir || self.0.contains_key(path);
        there.then(|| Stamp { is_dir, ..Stamp::default() }).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn access(&self, path: &Path, _: bool) -> io::Result<Access> {
        let mode = if self.1.iter().any(|open| open == path) { 0o644 } else { 0o600 };
        self.stat(path).map(|stamp| Access { user: 0, mode, is_dir: stamp.is_dir, is_file: !stamp.is_dir })
    }

    fn read_at(&self, _: &Path, _: u64, _: usize) -> io::Result<Vec<u8>> {
        unreachable!("config reads whole files")
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("config writes nothing")
    }
    fn create(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        unreachable!("config writes nothing")
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unreachable!("config writes nothing")
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        unreachable!("config writes nothing")
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("config writes nothing")
    }
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        unreachable!("config asks for no space")
    }
    fn total_bytes(&self, _: &Path) -> io::Result<u64> {
        unreachable!("config asks for no space")
    }
    fn lock(&self, _: &Path) -> io::Result<Option<Lock>> {
        unreachable!("config takes no locks")
    }
}

const YAML: &str = "scrape_configs: [{job_name: node, static_configs: [{targets: ['localhost:9100']}]}]";
const AGENT: &str = "/etc/agent.json";

/// What `load` makes of one agent JSON and some variables.
fn load_json(json: &str, vars: &[(&str, &str)]) -> Loaded {
    load_files(Files::default().with(AGENT, json), &[AGENT], vars)
}

fn load_files(files: Files, config_paths: &[&str], vars: &[(&str, &str)]) -> Loaded {
    let disk = files.with("/prom.yaml", YAML).with("/var/lib/promwatch/x", "").with("/root/.aws/credentials", KEYS);
    let sources = Sources { config_paths: config_paths.iter().map(PathBuf::from).collect(), ..Sources::default() };
    load(&sources, &surroundings(vars), &disk)
}

const KEYS: &str = "[default]\naws_access_key_id = AKID\naws_secret_access_key = hunter2\n";

fn surroundings(vars: &[(&str, &str)]) -> Surroundings {
    Surroundings {
        vars: vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        hostname: "pi4".to_owned(),
        home: "/root".into(),
        machine_id: "0123abcd".to_owned(),
        serial: "10000000deadbeef".to_owned(),
    }
}

/// A whole agent JSON around members of the `prometheus` section.
fn prometheus_json(members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(
        r#"{{"agent": {{"region": "eu-west-1"}}, "promwatch": {{"host_metrics": true}}, "logs": {{"metrics_collected":
        {{"prometheus": {{"log_group_name": "/edge", "prometheus_config_path": "/prom.yaml"{comma}{members}}}}}}}}}"#
    )
}

/// A whole agent JSON with some members of `promwatch`.
fn promwatch_json(members: &str) -> String {
    prometheus_json("").replace("\"host_metrics\": true", members)
}

/// The findings as text, without those of one severity and below.
fn said(loaded: &Loaded, least: Severity) -> Vec<String> {
    loaded.findings.iter().filter(|finding| finding.severity >= least).map(Finding::to_string).collect()
}

#[track_caller]
fn settings(json: &str, vars: &[(&str, &str)]) -> Settings {
    let loaded = load_json(json, vars);
    let said = said(&loaded, Severity::Warning);
    loaded.settings.unwrap_or_else(|| panic!("{said:#?}"))
}

/// Each text must be part of one finding of that severity, and there must be no other.
#[track_caller]
fn expect(loaded: &Loaded, severity: Severity, texts: &[&str]) {
    let said: Vec<_> = loaded.findings.iter().filter(|f| f.severity == severity).map(Finding::to_string).collect();
    let all = texts.iter().all(|text| said.iter().any(|line| line.contains(text)));
    assert!(all && said.len() == texts.len(), "wanted {texts:#?}\ngot {said:#?}");
    assert_eq!(loaded.settings.is_none(), loaded.findings.iter().any(|f| f.severity == Severity::Error));
}

#[test]
fn the_smallest_configuration_has_every_default() {
    let loaded = load_json(&prometheus_json(""), &[]);
    assert_eq!(said(&loaded, Severity::Note), Vec::<String>::new());
    let settings = loaded.settings.unwrap();
    assert_eq!(settings.convert.log_group_name, "/edge");
    assert_eq!(settings.convert.host.as_deref(), Some("pi4"));
    assert_eq!(settings.buffer.state_dir.as_deref(), Some(Path::new("/var/lib/promwatch")));
    assert_eq!(settings.runtime_dir, Path::new("/run/promwatch"));
    assert_eq!(settings.upload.region.as_deref(), Some("eu-west-1"));
    assert_eq!(settings.upload.flush_interval_ms, 5_000);
    assert!(matches!(settings.convert.emf, EmfSettings::Off));
    assert!(describe(&settings).iter().any(|line| line == "log group: /edge"));
}

mod agent_sections;
mod emf_processor;
mod exposure;
mod merging;
mod own_section;
mod way_to_aws;
