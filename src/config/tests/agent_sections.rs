//! `agent` and `logs`: what the schema refuses, what has no effect, what is not served.

use super::*;

#[test]
fn what_the_schema_refuses_is_refused_with_path_and_reason() {
    for (members, wanted) in [
        (r#""log_group_nam": "/x""#, r#"prometheus/log_group_nam: unknown key (did you mean "log_group_name"?)"#),
        (
            r#""log_stream_name": "x""#,
            "prometheus/log_stream_name: unknown key (it belongs at /promwatch/log_stream_name)",
        ),
        (r#""zzz": 1"#, "unknown key (known keys: log_group_name, prometheus_config_path, "),
        (r#""cluster_name": 5"#, "prometheus/cluster_name: must be a text, is a number"),
        (r#""cluster_name": null"#, "prometheus/cluster_name: must be a text, is null"),
        (r#""disable_metric_extraction": "yes""#, "must be true or false, is a text"),
        (r#""emf_processor": []"#, "emf_processor: must be an object, is a list"),
        (r#""emf_processor": {"metric_unit": []}"#, "metric_unit: must be an object, is a list"),
        (r#""emf_processor": {"metric_unit": {"a/b": ""}}"#, "metric_unit/a~1b: must have 1 to 256 characters, has 0"),
        (r#""emf_processor": {"metric_declaration": {}}"#, "metric_declaration: must be a list, is an object"),
        (
            r#""emf_processor": {"metric_declaration": [{"dimensions": ["job"]}]}"#,
            "dimensions/0: must be a list, is a text",
        ),
        (r#""emf_processor": {"metric_declaration": [{"source_label": []}]}"#, r#"did you mean "source_labels"?"#),
        (r#""emf_processor": {"metric_declarations": []}"#, r#"did you mean "metric_declaration"?"#),
        (r#""ecs_service_discovery": {"sd_frequenzy": "1m"}"#, r#"did you mean "sd_frequency"?"#),
    ] {
        let loaded = load_json(&prometheus_json(members), &[]);
        expect(&loaded, Severity::Error, &[wanted]);
    }
    for (agent, wanted) in [
        (r#""region": """#, "/agent/region: must have 1 to 64 characters, has 0"),
        (r#""region": "eu west""#, r#""eu west" is no region"#),
        (r#""debug": 1"#, "/agent/debug: must be true or false, is a number"),
        (r#""metrics_collection_interval": 0"#, "must be from 1 to 172800, is 0"),
        (r#""metrics_collection_interval": 1.5"#, "must be a whole number, is a number"),
        (
            r#""credentials": {"role_arn": "arn:short"}"#,
            "/agent/credentials/role_arn: must have 20 to 2048 characters, has 9",
        ),
        (r#""credentials": {"role": "x"}"#, "/agent/credentials/role: unknown key"),
        (r#""hostname": false"#, "/agent/hostname: must be a text"),
        (r#""user_agent": "fleet\r\nX: y""#, "/agent/user_agent: must be printable ASCII"),
    ] {
        let json = prometheus_json("").replace(r#""region": "eu-west-1""#, agent);
        expect(&load_json(&json, &[("AWS_REGION", "eu-west-1")]), Severity::Error, &[wanted]);
    }
    for (logs, wanted) in [
        (r#""force_flush_interval": 172801"#, "must be from 1 to 172800"),
        (r#""endpoint_override": "a:b""#, "/logs/endpoint_override: must have 4 to 2048 characters"),
        (r#""log_stream_name": """#, "must have 1 to 512 characters"),
        (r#""retention_in_days": 5"#, "set it on the log group"),
        (r#""prometheus": {}"#, "/logs/prometheus: unknown key (it belongs at /logs/metrics_collected/prometheus)"),
        (r#""logs_collected": 5"#, "/logs/logs_collected: must be an object"),
    ] {
        let json = prometheus_json("").replace(r#""logs": {"#, &format!(r#""logs": {{{logs},"#));
        expect(&load_json(&json, &[]), Severity::Error, &[wanted]);
    }
}

#[test]
fn every_problem_is_reported_not_only_the_first() {
    let json = r#"{"agent": {"region": 5, "debug": "x"}, "promwatch": {"bufer": {}, "state_dir": 7},
        "logs": {"metrics_collected": {"prometheus": {"prometheus_config_path": "/nowhere.yaml",
        "emf_processor": {"metric_declaration": [{"source_labels": ["job"], "metric_selectors": ["("]}]}}}}}"#;
    let loaded = load_json(json, &[("AWS_REGION", "eu-west-1")]);
    let wanted = [
        "/agent/region: must be a text",
        "/agent/debug",
        r#"/promwatch/bufer: unknown key (did you mean "buffer"?)"#,
        "/promwatch/state_dir: must be a text or null",
        "the log group's name is missing",
        "the Prometheus file /nowhere.yaml",
        "metric_selectors/0: \"(\" is no regular expression",
    ];
    expect(&loaded, Severity::Error, &wanted);
}

#[test]
fn texts_are_measured_in_characters() {
    let json = |length| {
        let group = "é".repeat(length);
        prometheus_json("").replace(r#""logs": {"#, &format!(r#""logs": {{"log_stream_name": "{group}","#))
    };
    expect(&load_json(&json(512), &[]), Severity::Error, &[]);
    expect(&load_json(&json(513), &[]), Severity::Error, &["has 513"]);
}

#[test]
fn keys_that_can_mean_nothing_here_get_one_note_each() {
    let agent = r#""region": "eu-west-1", "metrics_collection_interval": 60.0, "logfile": "", "run_as_user": "x",
        "usage_data": true, "usage_metadata": ["x"], "internal": true, "mode": "onPrem", "service.name": "x", "deployment.environment": "x",
        "collection_jitter": 1, "flush_interval": 1, "flush_jitter": 1, "metric_batch_size": 1, "metric_buffer_limit": 1,
        "precision": "", "round_interval": true, "logtarget": "x""#;
    let json = prometheus_json(
        r#""emf_processor": {"metric_declaration_dedup": true, "metric_declaration": [
        {"source_labels": ["job"], "metric_selectors": ["."], "dimensions": [["job"]], "label_separator": ";"}]}"#,
    );
    let json = json.replace(r#""region": "eu-west-1""#, agent);
    let json = json.replace(
        r#""logs": {"#,
        r#""logs": {"log_stream_name": "x", "concurrency": 1, "service.name": "x", "deployment.environment": "x","#,
    );
    let loaded = load_json(&json, &[]);
    assert_eq!(said(&loaded, Severity::Warning), Vec::<String>::new());
    assert_eq!(loaded.findings.len(), 17 + 2 + 4);
    assert!(loaded.findings.iter().all(|finding| finding.text.starts_with("has no effect: ")));
}

#[test]
fn sections_that_are_not_served_get_one_warning_each_and_the_rest_runs() {
    let json = prometheus_json(r#""ecs_service_discovery": {"sd_frequency": "1m"}"#)
        .replace(
            r#""logs": {"#,
            r#""metrics": {"metrics_collected": {}}, "traces": {}, "opentelemetry": {}, "logs": {
            "logs_collected": {"files": {}},"#,
        )
        .replace(
            r#""metrics_collected":
        {"#,
            r#""metrics_collected": {"emf": {}, "kubernetes": {}, "application_signals": {}, "otlp": [],"#,
        );
    let loaded = load_json(&json, &[]);
    let wanted = [
        "/metrics: not served",
        "/traces: not served",
        "/opentelemetry: not served",
        "/logs/logs_collected: not served",
        "metrics_collected/emf: not served",
        "metrics_collected/kubernetes: not served",
        "metrics_collected/application_signals: not served",
        "metrics_collected/otlp: not served",
        "ecs_service_discovery: not served",
    ];
    expect(&loaded, Severity::Warning, &wanted);
    assert!(loaded.settings.is_some());
}

#[test]
fn a_prometheus_section_under_metrics_is_told_where_it_belongs() {
    let json = r#"{"metrics": {"metrics_collected": {"prometheus": {}}}}"#;
    let loaded = load_json(json, &[]);
    assert!(
        said(&loaded, Severity::Warning)
            .iter()
            .any(|line| line.contains("stands under logs.metrics_collected.prometheus"))
    );
    expect(&loaded, Severity::Error, &["nothing to scrape: there is no logs.metrics_collected.prometheus"]);
}

#[test]
fn jobs_without_any_target_are_nothing_to_scrape() {
    let json = prometheus_json("").replace("/prom.yaml", "/idle.yaml").replace("\"host_metrics\": true", "");
    let idle = "scrape_configs: [{job_name: a}, {job_name: b, static_configs: [{targets: []}]}]";
    let found = "scrape_configs: [{job_name: a}, {job_name: b, file_sd_configs: [{files: [/t.json]}]}]";
    let loaded = |yaml: &str| load_files(Files::default().with(AGENT, &json).with("/idle.yaml", yaml), &[AGENT], &[]);
    expect(&loaded(idle), Severity::Error, &["nothing to scrape: no job has a target"]);
    expect(&loaded(found), Severity::Error, &[]);
}

#[test]
fn unknown_keys_where_the_schema_allows_them_only_warn() {
    let json = prometheus_json("").replace(r#""logs": {"#, r#""promwach": {}, "logs": {"#);
    let json = json.replace(r#""region""#, r#""regoin": "x", "region""#);
    let wanted = [r#"/promwach: unknown key, ignored (did you mean "promwatch"?)"#, "/agent/regoin"];
    expect(&load_json(&json, &[]), Severity::Warning, &wanted);
}

#[test]
fn logs_without_a_source_is_refused() {
    let loaded = load_json(r#"{"logs": {}, "promwatch": {"host_metrics": true}}"#, &[]);
    expect(
        &loaded,
        Severity::Error,
        &["neither metrics_collected nor logs_collected", "the log group's name is missing"],
    );
}

#[test]
fn group_names_are_judged_after_expansion_and_patterns() {
    for (name, wanted) in [
        ("/edge/prom", None),
        ("/edge/{JobName}-{ClusterName}.{TaskId}#x_y", None),
        ("/edge/$SITE", None),
        ("", Some("the log group's name is missing")),
        ("$NOTHING", Some("the log group's name is missing")),
        ("/edge/{hostname}", Some("a placeholder that the CloudWatch agent does not replace here")),
        ("/edge/{instance_id}", Some("placeholder")),
        ("/edge prom", Some("no legal log group name: ' '")),
        ("/edge/é", Some("no legal log group name: 'é'")),
        ("/edge:x", Some("no legal log group name: ':'")),
        ("aws/edge", Some("reserved")),
        ("/aws/edge", None),
    ] {
        let json = prometheus_json("").replace("\"/edge\"", &format!("{name:?}"));
        let loaded = load_json(&json, &[("SITE", "north")]);
        expect(&loaded, Severity::Error, wanted.as_slice());
        if let Some(settings) = loaded.settings {
            assert_eq!(settings.convert.log_group_name, name.replace("$SITE", "north"));
        }
    }
    let long = prometheus_json("").replace("/edge\"", &format!("{}\"", "x".repeat(513)));
    expect(&load_json(&long, &[]), Severity::Error, &["has 513 characters"]);
}

#[test]
fn the_host_label_follows_hostname_omit_hostname_and_container() {
    for (agent, vars, wanted) in [
        ("", &[][..], Some("pi4")),
        (r#","hostname": "other""#, &[], Some("other")),
        (r#","hostname": """#, &[], Some("pi4")),
        (r#","omit_hostname": true"#, &[], None),
        ("", &[("RUN_IN_CONTAINER", "True")], None),
        (r#","omit_hostname": false"#, &[("RUN_IN_CONTAINER", "True")], Some("pi4")),
    ] {
        let json = prometheus_json("").replace(r#""eu-west-1""#, &format!(r#""eu-west-1"{agent}"#));
        assert_eq!(settings(&json, vars).convert.host.as_deref(), wanted, "{agent}");
    }
}

#[test]
fn the_log_level_comes_from_the_command_line_the_environment_or_the_agent_section() {
    for (agent, vars, wanted) in [
        ("", &[][..], LogLevel::Info),
        (r#","debug": true, "quiet": true"#, &[], LogLevel::Debug),
        (r#","quiet": true"#, &[], LogLevel::Error),
        (r#","aws_sdk_log_level": "LogDebugWithSigning|LogDebugWithRequestRetries""#, &[], LogLevel::Debug),
        (r#","debug": true"#, &[("CWAGENT_LOG_LEVEL", "WARN")], LogLevel::Warn),
    ] {
        let json = prometheus_json("").replace(r#""eu-west-1""#, &format!(r#""eu-west-1"{agent}"#));
        assert_eq!(settings(&json, vars).log_level, wanted, "{agent}");
    }
}

#[test]
fn the_prometheus_file_is_found_as_the_agent_finds_it() {
    let yaml = "scrape_configs: [{job_name: x, static_configs: [{targets: ['h:1']}]}]";
    let with = |place: &str| prometheus_json("").replace("/prom.yaml", place).replace("true", "false");
    for (place, vars, wanted) in [
        ("file:/prom.yaml", &[][..], None),
        ("env:YAML", &[("YAML", yaml)], None),
        ("env:YAML", &[], Some("the environment has no variable YAML")),
        ("/gone.yaml", &[], Some("prometheus_config_path: the Prometheus file /gone.yaml: ")),
        // Beside the JSON file, when the working directory has none.
        ("beside.yaml", &[], None),
    ] {
        let files = Files::default().with(AGENT, &with(place)).with("/etc/beside.yaml", yaml);
        expect(&load_files(files, &[AGENT], vars), Severity::Error, wanted.as_slice());
    }
    let default = prometheus_json("").replace(r#""prometheus_config_path": "/prom.yaml""#, r#""cluster_name": """#);
    let loaded = load_json(&default.replace("true", "false"), &[]);
    expect(&loaded, Severity::Error, &["the Prometheus file /etc/cwagentconfig/prometheus.yaml: "]);
    // With jobs of its own, promwatch can do without one that nobody named.
    assert_eq!(settings(&default, &[]).jobs.len(), 1);
}

#[test]
fn time_outs_that_fill_the_interval_warn() {
    for (timeout, wanted) in
        [("10s", None), ("11s", Some("the time-outs of 6 targets add up to 110 % of their interval"))]
    {
        let yaml = format!(
            "scrape_configs: [{{job_name: x, scrape_interval: 1m, scrape_timeout: {timeout}, static_configs: [{{targets: ['a:1',
             'b:1', 'c:1', 'd:1', 'e:1', 'f:1']}}]}}]"
        );
        let json = prometheus_json("").replace("/prom.yaml", "/six.yaml");
        let loaded = load_files(Files::default().with(AGENT, &json).with("/six.yaml", &yaml), &[AGENT], &[]);
        expect(&loaded, Severity::Warning, wanted.as_slice());
    }
}
