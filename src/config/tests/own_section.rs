//! The `"promwatch"` object.

use super::*;
use crate::model::settings::{Discovery, Expired, Histograms};

#[test]
fn every_key_arrives() {
    let json = promwatch_json(
        r#""state_dir": "/s", "runtime_dir": "/r", "log_stream_name": "{hostname}/{job}", "declared_events_only": true,
        "labels": {"site": "{env:SITE}-{serial}", "id": "{machine_id}"},
        "buffer": {"max_bytes": "8MiB", "max_age": "2d", "sync_interval": 30, "expired": "restamp", "memory_bytes": 1048576},
        "upload": {"backlog_requests_per_second": 0.5, "backlog_bytes_per_second": "16KiB", "jitter": "5m", "compress": false},
        "counters": {"max_gap": "1h", "memory_bytes": "1MiB"},
        "types": {"histograms": "buckets", "untyped": true, "scrape_health": true},
        "scrape": {"bad_lines": "skip"}, "host_metrics": {"interval": "15s", "job_name": "me"},
        "textfile": {"directory": "/var/lib/promwatch", "interval": 5}"#,
    );
    let settings = settings(&json, &[("SITE", "north")]);
    assert_eq!(settings.runtime_dir, Path::new("/r"));
    let buffer = &settings.buffer;
    assert_eq!(buffer.state_dir.as_deref(), Some(Path::new("/s")));
    assert_eq!((buffer.max_bytes, buffer.max_age_ms, buffer.sync_interval_ms), (8 << 20, 172_800_000, 30_000));
    assert_eq!((buffer.expired, buffer.memory_bytes), (Expired::Restamp, 1 << 20));
    let upload = &settings.upload;
    assert_eq!((upload.backlog_requests_per_second, upload.backlog_bytes_per_second), (0.5, 16 << 10));
    assert_eq!((upload.jitter_ms, upload.compress), (300_000, false));
    let convert = &settings.convert;
    assert_eq!(convert.log_stream_name.as_ref().unwrap().0, "pi4/{job}");
    let labels: Vec<_> = convert.labels.iter().map(|(name, value)| (name.as_str(), value.0.as_str())).collect();
    assert_eq!(labels, [("id", "0123abcd"), ("site", "north-10000000deadbeef")]);
    assert_eq!((convert.max_gap_ms, convert.baseline_bytes), (Some(3_600_000), 1 << 20));
    let more = &convert.more;
    assert_eq!(
        (more.histograms, more.untyped, more.scrape_health, more.declared_only),
        (Histograms::Buckets, true, true, true)
    );
    let own: Vec<_> = settings.jobs.iter().rev().take(2).collect();
    assert!(matches!(own[1].discovery[..], [Discovery::Host]) && own[1].skip_bad_lines);
    assert_eq!((own[1].job_name.as_str(), own[1].interval_ms, own[1].timeout_ms), ("me", 15_000, 10_000));
    assert!(matches!(&own[0].discovery[..], [Discovery::Textfile(dir)] if dir == Path::new("/var/lib/promwatch")));
    assert_eq!((own[0].job_name.as_str(), own[0].interval_ms, own[0].timeout_ms), ("textfile", 5_000, 5_000));
    assert!(describe(&settings).iter().any(|line| line.contains("/s, at most 8MiB and 2d, synced within 30s")));
}

#[test]
fn what_is_wrong_is_refused() {
    for (members, wanted) in [
        (r#""bufer": {}"#, r#"/promwatch/bufer: unknown key (did you mean "buffer"?)"#),
        (r#""buffer": {"maxbytes": 1}"#, r#"did you mean "max_bytes"?"#),
        (r#""buffer": {"max_bytes": "1MB", "max_bytes": 1048575}"#, "max_bytes: must be from 1MiB to 1024GiB"),
        (r#""buffer": {"max_bytes": "x"}"#, r#"must be a size such as "64MiB", or a number of bytes"#),
        (r#""buffer": {"max_age": "5 days"}"#, r#"must be a duration such as "30s""#),
        (r#""buffer": {"max_age": "1s"}"#, "must be from 1m to 3650d"),
        (r#""buffer": {"sync_interval": -1}"#, "must be a duration"),
        (r#""buffer": {"expired": "throw"}"#, r#"must be one of "drop", "restamp", "keep""#),
        (r#""upload": {"backlog_requests_per_second": 0}"#, "must be above 0 and at most 5000, is 0"),
        (r#""types": {"histograms": true}"#, r#"must be one of "off", "sum_count", "buckets", "values""#),
        (r#""scrape": {"bad_lines": "ignore"}"#, r#"must be one of "fail", "skip""#),
        (r#""host_metrics": 5"#, "host_metrics: must be an object, is a number"),
        (r#""textfile": {}"#, "/promwatch/textfile: directory is missing"),
        (r#""log_stream_name": "{nodename}""#, "unknown placeholder {nodename} (known: {hostname}, "),
        (r#""log_stream_name": "x{job""#, "a '{' is not closed"),
        (r#""log_stream_name": "a:b{job}""#, "\"a:b{job}\" is no legal log stream name"),
        (r#""log_stream_name": "{env:COLON}""#, "is no legal log stream name"),
        (r#""labels": {"Timestamp": "x"}"#, "/promwatch/labels/Timestamp: an event cannot have a label of that name"),
        (r#""labels": {"__x": "x"}"#, "an event cannot have a label of that name"),
        (r#""labels": {"a": 5}"#, "/promwatch/labels/a: must be a text"),
    ] {
        expect(&load_json(&promwatch_json(members), &[("COLON", "a:b")]), Severity::Error, &[wanted]);
    }
}

#[test]
fn a_placeholder_without_a_value_warns() {
    let json = promwatch_json(r#""labels": {"site": "x{env:SITE}"}"#);
    expect(&load_json(&json, &[]), Severity::Warning, &["/promwatch/labels/site: {env:SITE} is empty on this machine"]);
}

#[test]
fn the_state_directory_comes_from_the_command_line_the_file_systemd_or_the_default() {
    let disk = |json: &str| Files::default().with(AGENT, json).with("/prom.yaml", "scrape_configs: []");
    for (line, members, vars, wanted) in [
        (Some("/l"), r#""state_dir": "/s""#, &[][..], Some("/l")),
        (Some("/l"), r#""state_dir": "none""#, &[], Some("/l")),
        (None, r#""state_dir": "/s""#, &[("STATE_DIRECTORY", "/d")], Some("/s")),
        (None, r#""state_dir": null"#, &[("STATE_DIRECTORY", "/d")], None),
        (None, r#""state_dir": "none""#, &[], None),
        (None, r#""counters": {}"#, &[("STATE_DIRECTORY", "/d:/e"), ("RUNTIME_DIRECTORY", "/t")], Some("/d")),
        (None, r#""counters": {}"#, &[], Some("/var/lib/promwatch")),
    ] {
        let json = promwatch_json(&format!(r#"{members}, "host_metrics": true"#));
        let sources =
            Sources { config_paths: vec![AGENT.into()], state_dir: line.map(PathBuf::from), ..Sources::default() };
        let loaded = load(&sources, &surroundings(vars), &disk(&json));
        let missing = said(&loaded, Severity::Warning)
            .iter()
            .any(|text| text.contains("/promwatch/state_dir: the state directory"));
        assert_eq!(missing, wanted.is_some(), "a missing directory warns");
        let settings = loaded.settings.unwrap();
        assert_eq!(settings.buffer.state_dir.as_deref(), wanted.map(Path::new));
        let runtime = if vars.len() == 2 { "/t" } else { "/run/promwatch" };
        assert_eq!(settings.runtime_dir, Path::new(runtime));
    }
}

#[test]
fn jobs_of_the_same_name_are_refused() {
    let json = promwatch_json(r#""host_metrics": {"job_name": "node"}"#);
    expect(&load_json(&json, &[]), Severity::Error, &["two jobs are called \"node\""]);
}
