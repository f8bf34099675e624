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
        let mut said = complaints(&loaded);
        // Six and more exporters every two seconds.
        said.retain(|line| !line.contains("time-outs"));
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

/// Whatever stands in the files, loading ends with settings or with an error that says why.
#[test]
fn damaged_files_are_findings_not_panics() {
    let scratch = std::env::temp_dir().join(format!("promwatch-damaged-{}", std::process::id()));
    fs::create_dir_all(&scratch).unwrap();
    let case = root().join("tests/golden/cases/emf_a");
    let json = fs::read(case.join("agent.json")).unwrap();
    let yaml = fs::read(case.join("prometheus.yaml")).unwrap();
    let own = fs::read(root().join("etc/example/amazon-cloudwatch-agent.json")).unwrap();
    let common = b"[credentials]\nshared_credential_file = \"/x\"\n[proxy]\nhttp_proxy = 'http://p:1'\n".to_vec();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut good = 0;
    for round in 0..600 {
        let mut files = [json.clone(), yaml.clone(), own.clone(), common.clone()];
        let damaged = &mut files[round % 4];
        for _ in 0..=random(3) {
            let at = random(damaged.len());
            match random(4) {
                0 => damaged[at] = b"{}[]\",:0-x'#\n \xff"[random(14)],
                1 => drop(damaged.drain(at..(at + random(20)).min(damaged.len()))),
                2 => damaged.insert(at, b"{[\"\\$-:0"[random(8)]),
                _ => {
                    let copy = damaged[at..(at + random(40)).min(damaged.len())].to_vec();
                    damaged.splice(at..at, copy);
                }
            }
        }
        let [json, yaml, own, common] = files;
        let text =
            String::from_utf8_lossy(&json).replace("@DIR@/prom.yaml", "p.yaml").replace("@ENDPOINT@", "http://h");
        for (name, bytes) in [("a.json", text.as_bytes()), ("p.yaml", &yaml), ("own.json", &own), ("c.toml", &common)] {
            fs::write(scratch.join(name), bytes).unwrap();
        }
        for file in ["a.json", "own.json"] {
            let sources = Sources {
                config_paths: vec![scratch.join(file)],
                common_config: Some(scratch.join("c.toml")),
                ..Sources::default()
            };
            let loaded = load(&sources, &Surroundings::default(), &RealDisk);
            let errors = loaded.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
            assert_eq!(loaded.settings.is_none(), errors > 0);
            good += usize::from(errors == 0);
        }
    }
    fs::remove_dir_all(scratch).unwrap();
    assert!(good > 100, "the damage should not always be fatal");
}
