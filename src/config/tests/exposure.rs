//! What others could read or change: secrets in open files, plain HTTP to other machines, certificates that nobody checks.

use super::*;

const COMMON: &str = "/common.toml";

/// The warnings of an agent JSON with one Prometheus file.
#[track_caller]
fn warnings(files: Files, json: &str, vars: &[(&str, &str)]) -> Vec<String> {
    let disk = files.with("/var/lib/promwatch/x", "").with(AGENT, json);
    let common_config = disk.stat(Path::new(COMMON)).is_ok().then(|| PathBuf::from(COMMON));
    let sources = Sources { config_paths: vec![AGENT.into()], common_config, ..Sources::default() };
    let loaded = load(&sources, &surroundings(vars), &disk);
    assert!(loaded.settings.is_some(), "{:#?}", said(&loaded, Severity::Error));
    let said = said(&loaded, Severity::Warning);
    assert!(!said.concat().contains("hunter2"), "{said:#?}");
    said
}

fn files(yaml: &str) -> Files {
    Files::default().with("/root/.aws/credentials", KEYS).with("/prom.yaml", yaml)
}

/// The warnings about a Prometheus file, without file and fix; every file that is named here can be read by all.
#[track_caller]
fn of_yaml(yaml: &str) -> Vec<String> {
    let files = files(YAML).with_open("/open", "hunter2").with_open("/prom.yaml", yaml).with("/closed", "hunter2");
    let said = warnings(files, &prometheus_json(""), &[]);
    let short =
        |line: &String| line.strip_prefix("warning: /prom.yaml:").unwrap().rsplit_once(" (").unwrap().0.to_owned();
    said.iter().map(short).collect()
}

fn of_job(lines: &str) -> Vec<String> {
    let yaml = format!("scrape_configs:\n- job_name: j\n  {}\n", lines.trim().replace('\n', "\n  "));
    of_yaml(&yaml).iter().map(|line| line.replace("scrape_configs[0].", "")).collect()
}

#[test]
fn secrets_in_open_files_are_warned_of() {
    for (lines, want) in [
        (
            "bearer_token_file: /open",
            "3:22: bearer_token_file: other users of the machine can read the secret in /open",
        ),
        ("basic_auth: {username: u, password_file: /open}", "3:44: basic_auth.password_file: other users"),
        ("authorization: {credentials_file: /open}", "3:37: authorization.credentials_file: other users"),
        ("tls_config: {cert: c, key_file: /open}", "tls_config.key_file: other users"),
        (
            "oauth2: {client_id: c, token_url: 'https://t', client_secret_file: /open}",
            "oauth2.client_secret_file: other",
        ),
        (
            "oauth2: {client_id: c, token_url: 'https://t', tls_config: {cert: c, key_file: /open}}",
            "oauth2.tls_config.key_file: other",
        ),
        ("http_headers: {X-Key: {files: [/open]}}", "http_headers.X-Key: other users"),
        ("bearer_token: hunter2", "3:17: bearer_token: this file holds secrets"),
        ("basic_auth: {username: u, password: hunter2}", "basic_auth.password: this file holds secrets"),
        ("http_headers: {X-Key: {secrets: [hunter2]}}", "http_headers.X-Key: this file holds secrets"),
        ("proxy_url: 'http://u:hunter2@127.0.0.1'", "proxy_url: this file holds secrets"),
    ] {
        let lines = format!("{lines}\nstatic_configs: [{{targets: ['localhost:1']}}]");
        let said = of_job(&lines);
        assert!(said.len() == 1 && said[0].contains(want), "{lines}\n{said:#?}");
    }
    for lines in [
        "bearer_token_file: /closed",
        "basic_auth: {username_file: /open, password_file: /closed}",
        "tls_config: {ca_file: /open, cert_file: /open, key_file: /closed}",
        "http_headers: {X-Key: {values: [v]}}",
    ] {
        assert_eq!(of_job(&format!("{lines}\nstatic_configs: [{{targets: ['localhost:1']}}]")), [""; 0], "{lines}");
    }
    // One warning for a file is enough, and sections without effect are not looked at.
    let two = "scrape_configs:
- {job_name: a, bearer_token: hunter2, static_configs: [{targets: ['localhost:1']}]}
- {job_name: b, bearer_token: hunter2, static_configs: [{targets: ['localhost:1']}]}
remote_write: [{url: 'http://far/', bearer_token_file: /open, tls_config: {insecure_skip_verify: true}}]";
    assert_eq!(of_yaml(two).len(), 1);
}

#[test]
fn credentials_that_go_unencrypted_to_another_machine_are_warned_of() {
    let auth = "bearer_token_file: /closed\n";
    for (lines, want) in [
        (
            "static_configs: [{targets: ['localhost:1', 'pi:9100', '10.0.0.1:1']}]",
            "3:3: bearer_token_file: the credentials go unencrypted to pi:9100 and 1 others",
        ),
        ("static_configs: [{targets: ['pi:1'], labels: {__scheme__: http}}]\nscheme: https", "to pi:1"),
        (
            "http_sd_configs: [{url: 'http://pi:8/list', bearer_token_file: /closed}]",
            "4:47: http_sd_configs[0].bearer_token_file: the credentials go unencrypted to pi:8",
        ),
        (
            "http_sd_configs: [{url: 'http://u:hunter2@pi:8/list'}]",
            "4:27: http_sd_configs[0].url: the list of targets comes unencrypted from pi:8",
        ),
        (
            "proxy_url: 'http://u:hunter2@pi'\nstatic_configs: [{targets: ['localhost:1']}]",
            "4:14: proxy_url: the proxy's user and password go unencrypted to pi",
        ),
    ] {
        let said = of_job(&format!("{auth}{lines}"));
        assert!(said.iter().any(|line| line.contains(want)), "{lines}\n{said:#?}");
        assert!(said.len() <= 2, "{said:#?}");
    }
    let said = of_job(
        "oauth2: {client_id: c, token_url: 'http://t/', client_secret_file: /closed}\nstatic_configs: [{targets: ['localhost:1']}]",
    );
    assert!(
        said.len() == 1 && said[0].contains("oauth2.token_url: the client secret goes unencrypted to t"),
        "{said:#?}"
    );
    for lines in [
        "static_configs: [{targets: ['localhost:1', '127.9.9.9:1', '[::1]:1', 'unix:/run/a.sock']}]",
        "static_configs: [{targets: ['pi:1']}]\nscheme: https",
        "static_configs: [{targets: ['pi:1'], labels: {__scheme__: https}}]",
        // Rules choose the address: it is not known.
        "static_configs: [{targets: ['pi:1']}]\nrelabel_configs: [{target_label: __address__, replacement: 'localhost:1'}]",
        "http_sd_configs: [{url: 'https://pi:8/list', bearer_token_file: /closed}, {url: 'http://localhost/'}]",
        "proxy_url: 'http://pi:3128'\nstatic_configs: [{targets: ['localhost:1']}]",
    ] {
        assert_eq!(of_job(&format!("{auth}{lines}")), [""; 0], "{lines}");
    }
    assert_eq!(of_job("static_configs: [{targets: ['pi:1']}]"), [""; 0], "a page is no secret");
}

#[test]
fn certificates_that_nobody_checks_are_warned_of_once_per_place() {
    let said = of_job("scheme: https\ntls_config: {insecure_skip_verify: true}\nstatic_configs: [{targets: ['pi:1']}]");
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].starts_with("4:38: tls_config.insecure_skip_verify: any certificate is accepted"), "{said:#?}");
    for lines in [
        "tls_config: {insecure_skip_verify: false}\nstatic_configs: [{targets: ['pi:1']}]",
        "tls_config: {insecure_skip_verify: true}\nstatic_configs: [{targets: ['localhost:1']}]",
    ] {
        assert_eq!(of_job(lines), [""; 0], "{lines}");
    }
    let anchored = "scrape_configs:
- {job_name: a, tls_config: &tls {insecure_skip_verify: true}, static_configs: [{targets: ['pi:1']}]}
- {job_name: b, tls_config: *tls, http_sd_configs: [{url: 'https://pi/', tls_config: *tls}]}";
    assert_eq!(of_yaml(anchored).len(), 1);
}

#[test]
fn the_way_to_aws_is_looked_at_too() {
    let override_with = |url: &str| {
        prometheus_json("")
            .replace("\"metrics_collected\"", &format!("\"endpoint_override\": \"{url}\", \"metrics_collected\""))
    };
    let said = warnings(files(YAML), &override_with("http://10.0.0.1:5000"), &[]);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].starts_with("warning: /etc/agent.json:1:"), "{said:#?}");
    assert!(said[0].contains("/logs/endpoint_override: events go unencrypted to 10.0.0.1:5000"), "{said:#?}");
    for url in ["http://127.0.0.1:1", "http://localhost", "http://[::1]:1", "https://far", "far:443"] {
        assert_eq!(warnings(files(YAML), &override_with(url), &[]), [""; 0], "{url}");
    }
    let json = prometheus_json("");
    let said = warnings(files(YAML), &json, &[("AWS_ENDPOINT_URL", "http://far")]);
    assert!(said.len() == 1 && said[0].starts_with("warning: AWS_ENDPOINT_URL: credentials come"), "{said:#?}");
    let said = warnings(files(YAML), &json, &[("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "http://far")]);
    assert!(
        said.len() == 1 && said[0].starts_with("warning: AWS_ENDPOINT_URL_CLOUDWATCH_LOGS: events go"),
        "{said:#?}"
    );
    let said = warnings(files(YAML), &json, &[("HTTPS_PROXY", "http://u:hunter2@p:1")]);
    assert!(said.len() == 1 && said[0].contains("HTTPS_PROXY: proxy.https_proxy: the proxy's user"), "{said:#?}");

    let open = || Files::default().with("/prom.yaml", YAML).with_open("/root/.aws/credentials", KEYS);
    let said = warnings(open(), &json, &[]);
    assert!(said.len() == 1, "{said:#?}");
    assert!(said[0].starts_with("warning: /root/.aws/credentials:3:1: aws_secret_access_key: this file"), "{said:#?}");
    assert!(said[0].ends_with("(give it to the user that promwatch runs as, and chmod 600)"), "{said:#?}");
    let common = "[proxy]\nhttp_proxy = 'http://u:hunter2@127.0.0.1:1'\nhttps_proxy = 'http://u:hunter2@localhost'\n";
    let said = warnings(files(YAML).with_open(COMMON, common), &json, &[]);
    assert!(said.len() == 1 && said[0].contains("/common.toml: proxy.http_proxy: this file holds"), "{said:#?}");
    let files = files(YAML).with_open(AGENT, "");
    let said = warnings(files, &override_with("https://u:hunter2@far"), &[]);
    assert!(said.len() == 1 && said[0].contains("/logs/endpoint_override: this file holds secrets"), "{said:#?}");
}
