//! Whole configurations from real files: the golden cases of the CloudWatch agent, and the repository's example.
#![allow(clippy::disallowed_methods)]

use promwatch::config::{Loaded, Severity, Sources, Surroundings, describe, load};
use promwatch::env::RealDisk;
use promwatch::model::settings::EmfSettings;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn load_file(path: PathBuf) -> Loaded {
    let surroundings = Surroundings::gather(BTreeMap::new(), "pi4".to_owned(), &RealDisk);
    load(&Sources { config_paths: vec![path], ..Sources::default() }, &surroundings, &RealDisk)
}

/// What was said beyond the things that only this machine lacks.
fn complaints(loaded: &Loaded) -> Vec<String> {
    let local = ["/agent/credentials", "/promwatch/state_dir"];
    let worth = loaded.findings.iter().filter(|f| f.severity > Severity::Note && !local.contains(&f.key.as_str()));
    worth.map(ToString::to_string).collect()
}

#[test]
fn golden_configurations_load() {
    let scratch = std::env::temp_dir().join(format!("promwatch-configuration-{}", std::process::id()));
    let mut cases = 0;
    for case in fs::read_dir(root().join("tests/golden/cases")).unwrap() {
        let case = case.unwrap();
        let name = case.file_name().into_string().unwrap();
        let dir = scratch.join(&name);
        fs::create_dir_all(&dir).unwrap();
        fs::copy(case.path().join("prometheus.yaml"), dir.join("prom.yaml")).unwrap();
        let json = fs::read_to_string(case.path().join("agent.json")).unwrap();
        let json = json.replace("@DIR@", dir.to_str().unwrap()).replace("@ENDPOINT@", "http://127.0.0.1:1");
        fs::write(dir.join("agent.json"), json).unwrap();

        let loaded = load_file(dir.join("agent.json"));
        let said = complaints(&loaded);
        let wanted = match name.as_str() {
            "emf_a" => "\"Furlongs\" is no unit of CloudWatch",
            "emf_none" => "no usable declaration",
            _ => "",
        };
        assert_eq!(said.len(), usize::from(!wanted.is_empty()), "{name}: {said:#?}");
        assert!(said.concat().contains(wanted), "{name}: {said:#?}");
        let settings = loaded.settings.unwrap();
        assert!(!settings.jobs.is_empty());
        assert_eq!(settings.convert.log_group_name, "/edge/prom");
        assert_eq!(settings.upload.flush_interval_ms, 1_000);
        let declared = match &settings.convert.emf {
            EmfSettings::Declared { declarations, .. } => declarations.len(),
            _ => 0,
        };
        assert_eq!(declared, if name == "emf_a" { 4 } else { 0 }, "{name}");
        cases += 1;
    }
    fs::remove_dir_all(scratch).unwrap();
    assert!(cases >= 10);
}

#[test]
fn the_example_needs_neither_exporter_nor_account() {
    let loaded = load_file(root().join("etc/example/amazon-cloudwatch-agent.json"));
    assert_eq!(complaints(&loaded), [""; 0]);
    let settings = loaded.settings.unwrap();
    assert!(describe(&settings).iter().any(|line| line.starts_with("job host: every 10s")));
    assert!(matches!(&settings.convert.emf, EmfSettings::Declared { declarations, .. } if declarations.len() == 2));
}
