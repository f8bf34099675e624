//! Several files: which are read, in which order, and what they may not disagree on.

use super::*;

const D: &str = "/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.d/";
const LEGACY: &str = "/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.json";

#[test]
fn the_agents_own_places_are_read_when_none_is_named() {
    let files = Files::default()
        .with(LEGACY, r#"{"agent": {"region": "eu-west-1"}}"#)
        .with(&format!("{D}file_a"), &prometheus_json("").replace(r#""agent": {"region": "eu-west-1"},"#, ""))
        .with(&format!("{D}sub/b.conf"), r#"{"agent": {"hostname": "deep"}}"#)
        .with(&format!("{D}otel.yaml"), "not json")
        .with(&format!("{D}new.tmp"), "not json");
    let loaded = load_files(files, &[], &[]);
    expect(&loaded, Severity::Error, &[]);
    assert_eq!(loaded.settings.unwrap().convert.host.as_deref(), Some("deep"));
    let wanted = [format!("{D}file_a"), format!("{D}sub/b.conf"), LEGACY.to_owned(), "/prom.yaml".to_owned()];
    assert_eq!(loaded.files, wanted.map(PathBuf::from));
}

#[test]
fn nothing_to_read_is_an_error_that_names_the_place() {
    expect(
        &load_files(Files::default(), &[], &[]),
        Severity::Error,
        &["amazon-cloudwatch-agent.json: no configuration found"],
    );
    expect(&load_files(Files::default(), &["/x.json"], &[]), Severity::Error, &["error: /x.json: cannot be read"]);
    let files = Files::default().with("/d/otel.yaml", "");
    expect(&load_files(files, &["/d"], &[]), Severity::Error, &["error: /d: no configuration found"]);
}

#[test]
fn a_container_reads_its_folder_and_else_a_variable() {
    let container = ("RUN_IN_CONTAINER", "True");
    let json = prometheus_json("");
    let loaded = load_files(Files::default().with("/etc/cwagentconfig/a", &json), &[], &[container]);
    expect(&loaded, Severity::Error, &[]);
    let loaded = load_files(Files::default(), &[], &[container, ("CW_CONFIG_CONTENT", &json)]);
    expect(&loaded, Severity::Error, &[]);
    expect(
        &load_files(Files::default(), &[], &[("CW_CONFIG_CONTENT", &json)]),
        Severity::Error,
        &["no configuration found"],
    );
    let loaded = load_files(Files::default(), &[], &[container, ("CW_CONFIG_CONTENT", "{")]);
    expect(&loaded, Severity::Error, &["CW_CONFIG_CONTENT:1:1: not valid JSON: EOF while parsing an object"]);
}

#[test]
fn bad_json_is_shown_by_line_and_column() {
    for (text, wanted) in [
        ("{\n  \"agent\": {},\n}", "/etc/agent.json:3:1: not valid JSON: trailing comma"),
        ("", "/etc/agent.json:1:1: not valid JSON: EOF while parsing a value"),
        ("{\"a\": \"b\nc\"}", "/etc/agent.json:2:1: not valid JSON: control character"),
        ("[]", "must hold one JSON object"),
        ("{} x", "not valid JSON: trailing characters"),
    ] {
        expect(&load_json(text, &[]), Severity::Error, &[wanted]);
    }
    let loaded = load_files(Files::default().with("/p.yaml", "a: b"), &["/p.yaml"], &[]);
    expect(&loaded, Severity::Error, &["named in the agent's JSON, by prometheus_config_path"]);
}

#[test]
fn a_good_file_is_still_checked_beside_a_bad_one() {
    let files = Files::default().with("/c/a.json", r#"{"agent": {"debug": 1}}"#).with("/c/b.json", "{");
    let loaded = load_files(files, &["/c"], &[]);
    let wanted = ["/c/a.json:1:12: /agent/debug", "/c/b.json:1:1: not valid JSON", "nothing to scrape"];
    expect(&loaded, Severity::Error, &wanted);
}

#[test]
fn sections_merge_key_by_key_and_must_not_disagree() {
    let base = prometheus_json("");
    for (other, wanted) in [
        (r#"{"agent": {"region": "eu-west-1", "debug": true}}"#, None),
        (
            r#"{"agent": {"region": "us-east-1"}}"#,
            Some(
                "/c/b.json:1:12: /agent/region: Different values are specified for region: another one is in /c/a.json",
            ),
        ),
        (r#"{"logs": {"metrics_collected": {"prometheus": {"cluster_name": "x"}}}}"#, None),
        (r#"{"logs": {"metrics_collected": {"prometheus": {"log_group_name": "/edge"}}}}"#, None),
        (
            r#"{"logs": {"metrics_collected": {"prometheus": {"log_group_name": "/other"}}}}"#,
            Some(
                "/logs/metrics_collected/prometheus/log_group_name: Different values are specified for log_group_name",
            ),
        ),
        (r#"{"promwatch": {"buffer": {"max_age": "1d"}}}"#, None),
        (
            r#"{"promwatch": {"host_metrics": {"interval": 5}}}"#,
            Some("Different values are specified for host_metrics"),
        ),
        (r#"{"metrics": {"a": 1}, "own": 1, "agentx": 1}"#, None),
        (r#"{"agent": 5}"#, Some("/agent: Different values are specified for agent")),
    ] {
        let other = [other, r#"{"metrics": {"a": 2}, "own": 2, "agentx": 2}"#];
        let files = Files::default().with("/c/a.json", &base).with("/c/b.json", other[0]).with("/c/c.json", other[1]);
        expect(&load_files(files, &["/c"], &[]), Severity::Error, wanted.as_slice());
    }
}

#[test]
fn declarations_are_not_merged_deeply() {
    let emf = |unit: &str| prometheus_json(&format!(r#""emf_processor": {{"metric_unit": {{"a": "{unit}"}}}}"#));
    let load = |unit: &str| {
        let files = Files::default().with("/c/a.json", &emf("Count")).with("/c/b.json", &emf(unit));
        load_files(files, &["/c"], &[])
    };
    expect(&load("Count"), Severity::Error, &[]);
    expect(&load("Bytes"), Severity::Error, &["Different values are specified for emf_processor"]);
}

#[test]
fn findings_name_the_file_that_holds_the_key() {
    let files =
        Files::default().with("/c/a.json", &prometheus_json("")).with("/c/b.json", r#"{"agent": {"debug": 1}}"#);
    expect(&load_files(files, &["/c"], &[]), Severity::Error, &["error: /c/b.json:1:12: /agent/debug: "]);
}

#[test]
fn config_may_be_given_several_times() {
    let files = Files::default()
        .with("/a.json", &prometheus_json(""))
        .with("/d/b.json", r#"{"agent": {"hostname": "second"}}"#)
        .with("/d/c.txt", r#"{"agent": {"quiet": true}}"#);
    let settings = load_files(files, &["/d", "/a.json", "/a.json"], &[]).settings.unwrap();
    assert_eq!(settings.convert.host.as_deref(), Some("second"));
    assert_eq!(settings.log_level, LogLevel::Error);
}
