//! The agent JSON and `common-config.toml`, before and after the first NUL byte: settings, or an error that says where.
#![no_main]

mod world;

use libfuzzer_sys::fuzz_target;
use promwatch::config::{Severity, Sources, Surroundings, describe, load};
use world::World;

const PASSWORD: &str = "hunter2hunter2";
const YAML: &[u8] = b"scrape_configs: [{job_name: node, static_configs: [{targets: ['localhost:9100']}]}]";

fuzz_target!(|text: &str| {
    // The fuzzer has seen what it is compared with: a key may well be shown that is called like the password.
    if text.contains(PASSWORD) {
        return;
    }
    let (json, toml) = text.split_once('\0').unwrap_or((text, ""));
    // Behind what there is, so that the password is a value whatever stands before it.
    let secret = format!("{toml}\n[proxy]\nhttp_proxy = \"http://u:{PASSWORD}@h{}\n", json.len());
    for toml in [toml, &secret] {
        let world = World::default()
            .with("/etc/agent.json", json.as_bytes())
            .with("/etc/common-config.toml", toml.as_bytes())
            .with("/etc/prometheus.yaml", YAML);
        let sources = Sources {
            config_paths: vec!["/etc/agent.json".into()],
            common_config: Some("/etc/common-config.toml".into()),
            ..Sources::default()
        };
        let loaded = load(&sources, &Surroundings { hostname: "pi".to_owned(), ..Surroundings::default() }, &world);
        let wrong = loaded.findings.iter().any(|finding| finding.severity == Severity::Error);
        assert_eq!(loaded.settings.is_none(), wrong, "settings, or an error");
        for finding in &loaded.findings {
            assert!(finding.position.is_none_or(|(line, column)| line > 0 && column > 0), "{finding}");
            assert!(!finding.text.is_empty() && !finding.file.is_empty(), "{finding:?}");
            assert!(!finding.to_string().contains(PASSWORD), "{finding}");
        }
        for line in loaded.settings.iter().flat_map(describe) {
            assert!(!line.contains(PASSWORD), "{line}");
        }
    }
});
