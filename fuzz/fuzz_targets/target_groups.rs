//! A list of targets from a file or a server, as JSON and as YAML. What JSON gave means the same when it is written again, in both.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promwatch::discovery::fuzzing::{from_json, from_yaml};
use promwatch::model::settings::TargetGroup;

fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        _ => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

fn written(groups: &[TargetGroup]) -> String {
    let group = |group: &TargetGroup| {
        let targets: Vec<String> = group.targets.iter().map(|target| quoted(target)).collect();
        let labels: Vec<String> = group.labels.iter().map(|(n, v)| format!("{}: {}", quoted(n), quoted(v))).collect();
        format!("{{\"targets\": [{}], \"labels\": {{{}}}}}", targets.join(", "), labels.join(", "))
    };
    format!("[{}]", groups.iter().map(group).collect::<Vec<_>>().join(", "))
}

fuzz_target!(|data: &[u8]| {
    let (json, yaml) = (from_json(data), from_yaml(data));
    for groups in [&json, &yaml].into_iter().flatten() {
        assert!(groups.iter().all(|group| group.labels.keys().all(|name| !name.is_empty())));
        let text = written(groups);
        assert_eq!(from_json(text.as_bytes()).as_ref(), Ok(groups), "{text}");
        // YAML has no surrogate pairs and, as go-yaml, merges the key `<<`.
        let plain = |text: &str| text.chars().all(|c| (' '..='~').contains(&c)) && text != "<<";
        let all_plain = |group: &TargetGroup| {
            group.targets.iter().all(|t| plain(t)) && group.labels.iter().all(|(n, v)| plain(n) && plain(v))
        };
        if groups.iter().all(all_plain) {
            assert_eq!(from_yaml(text.as_bytes()).as_ref(), Ok(groups), "{text}");
        }
    }
    for error in [json.err(), yaml.err()].into_iter().flatten() {
        assert!(!error.is_empty() && error.len() <= 400 + 8 * data.len());
    }
});
