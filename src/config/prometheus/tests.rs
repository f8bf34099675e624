use super::*;
use crate::env::RealDisk;
use crate::model::settings::{Auth, Discovery, DnsKind, ScrapeProtocol, Secret, TargetGroup};

fn context(vars: &[(&str, &str)]) -> Context {
    let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Context { base_dir: "/nonexistent".into(), vars }
}

fn read(text: &str) -> (Vec<ScrapeJob>, Vec<Finding>) {
    let mut findings = Vec::new();
    let jobs = parse("prometheus.yaml", text, &context(&[]), &RealDisk, &mut findings);
    (jobs, findings)
}

fn errors(text: &str) -> Vec<String> {
    let (_, findings) = read(text);
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| finding.to_string().replace("error: prometheus.yaml:", "")).collect()
}

/// The one job of a configuration without errors.
fn job(lines: &str) -> ScrapeJob {
    let text = format!("scrape_configs:\n- job_name: j\n  {}\n", lines.trim().replace('\n', "\n  "));
    assert_eq!(errors(&text), Vec::<String>::new(), "{text}");
    read(&text).0.remove(0)
}

/// The only error of a job's lines; the first of them is line 3 of the file, indented by two.
fn job_error(lines: &str) -> String {
    let text = format!("scrape_configs:\n- job_name: j\n  {}\n", lines.trim().replace('\n', "\n  "));
    let errors = errors(&text);
    assert_eq!(errors.len(), 1, "{text}{errors:#?}");
    errors[0].replace("scrape_configs[0].", "")
}

#[test]
fn the_smallest_job_has_every_default() {
    let job = job("");
    assert_eq!((job.interval_ms, job.timeout_ms), (60_000, 10_000));
    assert_eq!((job.scheme.as_str(), job.metrics_path.as_str()), ("http", "/metrics"));
    assert!(!job.honor_labels && job.honor_timestamps && job.compression && !job.legacy_names);
    assert!(job.http.follow_redirects && job.http.auth == Auth::None);
    assert_eq!(job.protocols.first(), Some(&ScrapeProtocol::OpenMetrics100));
    assert_eq!((job.protocols.len(), job.fallback_protocol), (4, ScrapeProtocol::Text004));
    assert!(job.discovery.is_empty() && job.relabel.is_empty() && job.metric_relabel.is_empty());
}

#[test]
fn jobs_inherit_what_they_leave_out() {
    let text = "
global: {scrape_interval: 5s, sample_limit: 7, body_size_limit: 1MB, metric_name_validation_scheme: legacy, scrape_protocols: [PrometheusText0.0.4]}
scrape_configs:
- {job_name: a}
- {job_name: b, scrape_interval: 1m, scrape_timeout: 30s, sample_limit: 9, metric_name_validation_scheme: utf8}
- {job_name: c, scrape_interval: 2s}
";
    let (jobs, _) = read(text);
    assert_eq!(errors(text), Vec::<String>::new());
    let times: Vec<_> = jobs.iter().map(|job| (job.interval_ms, job.timeout_ms, job.limits.samples)).collect();
    assert_eq!(times, [(5000, 5000, 7), (60_000, 30_000, 9), (2000, 2000, 7)]);
    assert_eq!(jobs.iter().map(|job| job.legacy_names).collect::<Vec<_>>(), [true, false, true]);
    assert!(jobs.iter().all(|job| job.limits.body_bytes == 1 << 20 && job.protocols == [ScrapeProtocol::Text004]));
}

#[test]
fn one_bad_line_is_one_finding() {
    let mut wrong = Vec::new();
    for (lines, expected) in [
        ("scrape_intervall: 5s", "3:3: scrape_intervall: there is no such key (did you mean `scrape_interval`?)"),
        ("targets: [a]", "3:3: targets: there is no such key (it belongs into an entry of static_configs)"),
        (
            "scrape_interval: 5",
            "3:20: scrape_interval: \"5\" is not a duration (write it as in `30s`, `1m30s`, `500ms`)",
        ),
        (
            "scrape_interval: 5s\nscrape_timeout: 6s",
            "4:19: scrape_timeout: the time-out is longer than the interval (raise scrape_interval or lower scrape_timeout)",
        ),
        ("honor_labels: 'true'", "3:17: honor_labels: must be a boolean, not text (without the quotes)"),
        ("sample_limit: -1", "3:17: sample_limit: must be a number from 0 on"),
        (
            "body_size_limit: 100",
            "3:20: body_size_limit: \"100\" is not a size (write it with a unit, as in `10MB` or `512KiB`)",
        ),
        ("params: {module: http}", "3:20: params.module: must be a list, not text (put it in brackets: `[…]`)"),
        ("metrics_path: [a]", "3:17: metrics_path: must be text, not a list"),
        ("scrape_protocols: []", "3:21: scrape_protocols: the list is empty (leave the key out for the default)"),
        (
            "scrape_protocols: [PrometheusText0.0.5]",
            "3:22: scrape_protocols: there is no protocol \"PrometheusText0.0.5\" (did you mean PrometheusText0.0.4?)",
        ),
        (
            "scrape_protocols: [PrometheusProto]",
            "3:21: scrape_protocols: promwatch speaks text formats only (add PrometheusText0.0.4)",
        ),
        (
            "fallback_scrape_protocol: PrometheusProto",
            "3:29: fallback_scrape_protocol: promwatch does not speak protobuf (PrometheusText0.0.4)",
        ),
        (
            "consul_sd_configs:\n- server: x",
            "3:3: consul_sd_configs: consul service discovery is out of promwatch's scope: it serves single machines \
             (use static_configs, file_sd_configs, http_sd_configs or dns_sd_configs)",
        ),
        (
            "static_configs:\n- targets: ['http://pi:9100/metrics']",
            "4:15: static_configs[0].targets: \"http://pi:9100/metrics\" is not a host and port \
             (write host:port only; the rest goes to scheme, metrics_path and params)",
        ),
        (
            "static_configs:\n- targets: ['http://u:secret@pi']",
            "4:15: static_configs[0].targets: this is not a host and port (write host:port only; the rest goes to scheme, metrics_path and params)",
        ),
        ("static_configs:\n-", "4:4: static_configs[0]: the entry is empty (remove the `-` or fill the entry in)"),
        ("static_configs: {targets: [a]}", "3:19: static_configs: must be a list, not a mapping (start it with `- `)"),
        (
            "file_sd_configs: [{files: [a.txt]}]",
            "3:30: file_sd_configs[0].files: \"a.txt\" cannot be a file of targets (it must end in .json, .yml or .yaml, and only its last part may hold a *)",
        ),
        (
            "http_sd_configs: [{url: 'ftp://x'}]",
            "3:27: http_sd_configs[0].url: the URL must start with http:// or https://",
        ),
        ("dns_sd_configs: [{names: [x], type: A}]", "3:20: dns_sd_configs[0].port: all types but SRV need a port"),
        (
            "dns_sd_configs: [{names: [x], type: TXT}]",
            "3:39: dns_sd_configs[0].type: there is no such record type here (A, AAAA, SRV, MX or NS)",
        ),
        ("tls_config: {cert_file: a}", "3:15: tls_config: a cert needs its key (add key_file)"),
        (
            "tls_config: {min_version: TLS9}",
            "3:29: tls_config.min_version: there is no such TLS version (TLS12 or TLS13)",
        ),
        (
            "tls_config: {max_version: TLS11}",
            "3:29: tls_config.max_version: versions before TLS 1.2 are broken and not spoken here (TLS12 is the lowest)",
        ),
        (
            "basic_auth: {password: a, password_file: b}",
            "3:44: basic_auth.password_file: only one of password and password_file can be in force",
        ),
        (
            "basic_auth: {username_ref: a}",
            "3:30: basic_auth.username_ref: there is no secret manager, neither here nor in Prometheus itself (use username or username_file)",
        ),
        (
            "bearer_token: x\nauthorization: {credentials: y}",
            "3:3: bearer_token: only one of authorization, bearer_token can be in force (keep the one that the exporter expects)",
        ),
        ("authorization: {type: Basic}", "3:25: authorization.type: the type cannot be basic (use basic_auth)"),
        ("oauth2: {client_id: a}", "3:11: oauth2.token_url: oauth2 needs a token_url"),
        ("proxy_url: socks5://x", "3:14: proxy_url: only proxies that speak HTTP are served: http://host:port"),
        ("no_proxy: x", "3:13: no_proxy: this needs proxy_url"),
        (
            "http_headers: {Host: {values: [x]}}",
            "3:24: http_headers.Host: this header is not yours to set (use the key that is made for it)",
        ),
        ("relabel_configs: [{regex: '('}]", ""),
        (
            "relabel_configs: [{action: hashmod, target_label: a}]",
            "3:21: relabel_configs[0].modulus: hashmod needs a modulus over 0",
        ),
        ("relabel_configs: [{regex: a}]", "3:21: relabel_configs[0].target_label: replace needs a target_label"),
        (
            "relabel_configs: [{action: labeldrop, target_label: a}]",
            "3:55: relabel_configs[0].target_label: labeldrop takes regex only",
        ),
        (
            "relabel_configs: [{action: keepequal, target_label: a, regex: b}]",
            "3:65: relabel_configs[0].regex: keepequal takes source_labels and target_label only",
        ),
        (
            "relabel_configs: [{action: labelmap, replacement: l-$1}]",
            "3:53: relabel_configs[0].replacement: \"l-$1\" does not make a label name",
        ),
        (
            "relabel_configs: [{action: kep}]",
            "3:30: relabel_configs[0].action: there is no action \"kep\" (did you mean `keep`?)",
        ),
        (
            "metric_relabel_configs:\n-",
            "4:4: metric_relabel_configs[0]: the rule is empty (remove the `-` or fill the rule in)",
        ),
    ] {
        let error = job_error(lines);
        match expected {
            "" => assert!(error.starts_with("3:29: relabel_configs[0].regex: "), "{error}"),
            _ if error == expected => {}
            _ => wrong.push((lines, error, expected)),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn mistakes_outside_of_jobs_say_where() {
    for (text, expected) in [
        (
            "global:\n  scrape_intervall: 5s\n",
            "2:3: global.scrape_intervall: there is no such key (did you mean `scrape_interval`?)",
        ),
        (
            "scrape_config:\n- job_name: a\n",
            "1:1: scrape_config: there is no such key (did you mean `scrape_configs`?)",
        ),
        ("job_name: a\n", "1:1: job_name: there is no such key (it belongs into an entry of scrape_configs)"),
        (
            "scrape_configs:\n- job_name: a\n- job_name: a\n",
            "3:13: scrape_configs[1].job_name: there is already a job \"a\" at prometheus.yaml:2 (give each job its own name)",
        ),
        ("scrape_configs:\n- scheme: http\n", "2:3: scrape_configs[0].job_name: every job needs a name (add job_name)"),
        ("scrape_configs:\n-\n", "2:2: scrape_configs[0]: the job is empty (remove the `-` or fill the job in)"),
        ("a: 1\na: 2\n", "2:1: the key \"a\" is already given on line 1"),
        (
            "global:\n\tx: 1\n",
            "2:2: tabs disallowed within this context (block indentation) (indent with spaces, not with tabs)",
        ),
        ("- a\n", "1:1: must be a mapping, not a list"),
        ("rule_files: ['a/*/b']\n", "1:14: rule_files: only the last part of a path may hold a *"),
        ("remote_write: [{url: }]\n", "1:20: remote_write[0].url: the URL is missing"),
        (
            "alerting: {alertmanagers: [{api_version: v1}]}\n",
            "1:42: alerting.alertmanagers[0].api_version: there is only v2",
        ),
        (
            "scrape_config_files: ['*/a.yml']\n",
            "1:23: scrape_config_files: \"*/a.yml\": only the last part of a path may hold a *",
        ),
    ] {
        let found = errors(text);
        assert_eq!(found.first().map(String::as_str), Some(expected), "{text}{found:#?}");
        assert_eq!(found.len(), 1, "{text}{found:#?}");
    }
}

#[test]
fn all_mistakes_are_found_at_once() {
    let text =
        "global: {scrape_timeout: 2m, x: 1}\nscrape_configs:\n- {job_name: a, scheme: [], honor_labels: 3}\n- {}\n";
    assert_eq!(errors(text).len(), 5, "{:#?}", errors(text));
}

#[test]
fn no_finding_shows_a_secret() {
    let text = "
scrape_configs:
- job_name: a
  basic_auth: hunter2
- job_name: b
  basic_auth: {username: [hunter2], password: {hunter2: 1}}
- job_name: c
  bearer_token: hunter2
  bearer_token_file: x
  proxy_url: 'socks5://u:hunter2@h'
- job_name: d
  oauth2: {client_id: a, client_secret: hunter2, token_url: 'ftp://u:hunter2@h'}
  http_headers: {Host: {secrets: [hunter2]}, x: hunter2}
- job_name: e
  http_sd_configs: [{url: 'x://u:hunter2@h'}]
  static_configs: [{targets: ['http://u:hunter2@h']}]
  tls_config: {key: hunter2}
";
    let (_, findings) = read(text);
    assert!(findings.len() > 8, "{findings:#?}");
    let texts: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert!(texts.iter().all(|text| !text.contains("hunter2")), "{texts:#?}");
    for text in ["a: !!int hunter2", "a: *hunter2", "a: 'hunter2", "a: [hunter2"] {
        assert!(!errors(text).concat().contains("hunter2"), "{text}");
    }
}

#[test]
fn null_is_the_zero_value_and_not_the_default() {
    for null in ["", "~", "null", "Null", "NULL"] {
        let job = job(&format!("relabel_configs:\n- action: labelkeep\n  source_labels: {null}"));
        assert_eq!(job.relabel.len(), 1, "{null:?} is no list that labelkeep could object to");
    }
    let empty = "relabel_configs: [{action: labelkeep, source_labels: []}]";
    assert!(job_error(empty).contains("labelkeep takes regex only"), "an empty list is one");
    let job = job(
        "honor_timestamps:\nenable_compression: ~\nmetrics_path:\nscrape_interval: null\nrelabel_configs:\nbasic_auth:\nfollow_redirects:",
    );
    assert!(!job.honor_timestamps && !job.compression && !job.http.follow_redirects);
    assert_eq!((job.metrics_path.as_str(), job.interval_ms), ("", 60_000));
    assert_eq!(job.http.auth, Auth::None);
}

#[test]
fn relative_files_start_from_the_folder_of_the_configuration() {
    let text = "basic_auth: {username: u, password_file: p}\ntls_config: {ca_file: /etc/ca.pem}";
    let job = job(text);
    let password = Secret::File("/nonexistent/p".into());
    assert_eq!(job.http.auth, Auth::Basic { username: Secret::Inline("u".into()), password });
    assert_eq!(job.http.tls.ca, Some(Secret::File("/etc/ca.pem".into())));
    let (_, findings) = read(&format!("scrape_configs:\n- job_name: j\n  {}\n", text.replace('\n', "\n  ")));
    assert_eq!(findings.len(), 2);
    assert!(findings.iter().all(|finding| finding.severity == Severity::Warning), "missing files only warn");
}

#[test]
fn sources_of_targets_are_resolved() {
    let job = job("static_configs:
- targets: [a:1, 'unix:/run/x.sock:/m']
  labels: {room: 8}
file_sd_configs: [{files: [t/*.yml]}]
http_sd_configs: [{url: 'http://x/', refresh_interval: 5s, bearer_token: t}]
dns_sd_configs: [{names: [n], type: aaaa, port: 9100}, {names: [s]}]");
    let [
        Discovery::Static(group),
        Discovery::File { patterns, refresh_ms },
        Discovery::Http { http, .. },
        Discovery::Dns { kind, port, .. },
        Discovery::Dns { kind: other, .. },
    ] = &job.discovery[..]
    else {
        panic!("{:#?}", job.discovery)
    };
    let labels = BTreeMap::from([("room".to_owned(), "8".to_owned())]);
    let targets = vec!["a:1".to_owned(), "unix:/run/x.sock:/m".to_owned()];
    assert_eq!(group, &TargetGroup { targets, labels, source: "prometheus.yaml:4".to_owned() });
    assert_eq!((patterns[0].as_str(), *refresh_ms), ("/nonexistent/t/*.yml", 300_000));
    assert!(matches!(&http.auth, Auth::Header { scheme, .. } if scheme == "Bearer"));
    assert_eq!((*kind, *port, *other), (DnsKind::Aaaa, 9100, DnsKind::Srv));
}

#[test]
fn proxies_of_the_environment_are_resolved() {
    let text = "scrape_configs: [{job_name: a, proxy_from_environment: true}]";
    let read = |vars: &[(&str, &str)]| {
        let mut findings = Vec::new();
        let jobs = parse("f", text, &context(vars), &RealDisk, &mut findings);
        (jobs[0].http.proxy.clone(), findings)
    };
    let (proxy, _) =
        read(&[("HTTP_PROXY", ""), ("http_proxy", "p:3128"), ("HTTPS_PROXY", "http://q"), ("no_proxy", "x")]);
    assert_eq!(proxy.http, Some(Secret::Inline("http://p:3128".into())));
    assert_eq!(proxy.https, Some(Secret::Inline("http://q".into())));
    assert_eq!((proxy.no_proxy.as_str(), read(&[]).0.no_proxy.as_str()), ("x", "localhost"));
    assert_eq!(read(&[("HTTP_PROXY", "socks5://p")]).1.len(), 1);
}

#[test]
fn what_has_no_effect_is_noted() {
    let text = "global: {evaluation_interval: 15s, external_labels: {a: b}}\nrule_files: [x]\nalerting: {}\nscrape_configs:\n- {job_name: a, track_timestamps_staleness: true}\n";
    let (_, findings) = read(text);
    let keys: Vec<_> = findings.iter().map(|finding| (finding.severity, finding.key.as_str())).collect();
    assert_eq!(
        keys,
        [
            (Severity::Note, "global.external_labels"),
            (Severity::Note, "global.evaluation_interval"),
            (Severity::Note, "alerting"),
            (Severity::Note, "rule_files"),
            (Severity::Note, "scrape_configs[0].track_timestamps_staleness"),
        ]
    );
}

#[test]
fn merges_share_settings_between_jobs() {
    let text = "
scrape_configs:
- &base {job_name: a, scheme: https, tls_config: {insecure_skip_verify: yes}}
- {<<: *base, job_name: b}
";
    let (jobs, _) = read(text);
    assert_eq!(errors(text), Vec::<String>::new());
    assert!(jobs[1].job_name == "b" && jobs[1].scheme == "https" && jobs[1].http.tls.insecure_skip_verify);
    let twice = errors("scrape_configs:\n- job_name: a\n  params: {x: [a], <<: {x: [b]}}\n");
    assert_eq!(twice, ["3:25: scrape_configs[0].params.x: the key is given twice, once by a merge"]);
}

#[test]
#[allow(clippy::disallowed_methods)]
fn jobs_come_from_other_files_too() {
    let root = std::env::temp_dir().join(format!("promwatch-scrape-config-files-{}", std::process::id()));
    std::fs::create_dir_all(root.join("more")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
    write("more/1.yml", "scrape_configs:\n- job_name: one\n  bearer_token_file: t\n");
    write("more/2.yml", "scrape_configs:\n- job_name: two\n  scrape_timeout: 20s\n");
    let read = |text: &str| {
        let mut findings = Vec::new();
        let context = Context { base_dir: root.clone(), ..context(&[]) };
        let jobs = parse("main.yaml", text, &context, &RealDisk, &mut findings);
        let errors = findings.into_iter().filter(|finding| finding.severity == Severity::Error);
        (jobs, errors.map(|error| error.to_string().replace(&root.display().to_string(), "")).collect::<Vec<_>>())
    };
    let (jobs, errors) = read("scrape_config_files: [more/*.yml]\n");
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(jobs.iter().map(|job| job.job_name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert!(
        matches!(&jobs[0].http.auth, Auth::Header { credentials: Secret::File(file), .. } if *file == root.join("more/t"))
    );

    let (_, errors) =
        read("global: {scrape_interval: 10s}\nscrape_config_files: [more/*.yml]\nscrape_configs: [{job_name: one}]\n");
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(
        errors[0].starts_with("error: /more/1.yml:2:13: scrape_configs[0].job_name: there is already"),
        "{errors:#?}"
    );
    assert!(errors[1].starts_with("error: /more/2.yml:3:19: scrape_configs[0].scrape_timeout: "), "{errors:#?}");
    write("more/2.yml", "global: {}\n");
    assert!(read("scrape_config_files: [more/2.yml]\n").1[0].contains("more/2.yml:1:1: global: there is no such key"));
    std::fs::remove_dir_all(&root).unwrap();
}

#[test]
#[allow(clippy::disallowed_methods)]
fn golden_configurations_load() {
    let cases = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cases");
    let mut count = 0;
    for case in std::fs::read_dir(cases).unwrap() {
        let text = std::fs::read_to_string(case.unwrap().path().join("prometheus.yaml")).unwrap();
        assert_eq!(errors(&text), Vec::<String>::new(), "{text}");
        assert!(!read(&text).0.is_empty());
        count += 1;
    }
    assert!(count >= 10);
}
