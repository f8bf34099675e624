//! The other half of `scripts/differential/config`: reads configurations from standard input, each preceded by a line with
//! its length in bytes or named by a line `file PATH`, and says of each whether promwatch takes it and what the jobs come to.
#![allow(clippy::disallowed_methods)]

use promwatch::config::{Severity, prometheus};
use promwatch::env::RealDisk;
use promwatch::model::settings::{Auth, Discovery, HttpClient, RelabelRule, ScrapeJob, Secret};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};

const BASE: &str = "/nonexistent";

fn main() -> std::io::Result<()> {
    let mut input = std::io::stdin().lock();
    let mut output = std::io::stdout().lock();
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        let (dir, text) = match line.trim().strip_prefix("file ") {
            Some(path) => (Path::new(path).parent().unwrap_or(Path::new(BASE)).to_owned(), std::fs::read(path)?),
            None => {
                let mut text = vec![0; line.trim().parse().map_err(std::io::Error::other)?];
                input.read_exact(&mut text)?;
                (PathBuf::from(BASE), text)
            }
        };
        line.clear();
        let text = String::from_utf8_lossy(&text);
        let mut findings = Vec::new();
        let context = prometheus::Context { base_dir: dir, vars: BTreeMap::new() };
        let jobs = prometheus::parse("prometheus.yaml", &text, &context, &RealDisk, &mut findings);
        let errors: Vec<String> = findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .map(|finding| finding.to_string().replace('\n', " "))
            .collect();
        if !errors.is_empty() {
            writeln!(output, "bad\t{}", errors.join(" | "))?;
            continue;
        }
        let jobs: Vec<Value> = jobs.iter().map(job).collect();
        writeln!(output, "ok\t{}", Value::from(jobs))?;
    }
    Ok(())
}

fn job(job: &ScrapeJob) -> Value {
    let limits = job.limits;
    json!({
        "name": job.job_name, "interval": job.interval_ms, "timeout": job.timeout_ms,
        "path": job.metrics_path, "scheme": job.scheme, "params": job.params,
        "honor_labels": job.honor_labels, "honor_timestamps": job.honor_timestamps, "compression": job.compression,
        "legacy": job.legacy_names,
        "limits": [limits.samples, limits.targets, limits.labels, limits.label_name_bytes, limits.label_value_bytes,
            limits.body_bytes],
        "relabel": rules(&job.relabel), "metric_relabel": rules(&job.metric_relabel),
        "http": client(&job.http), "sources": job.discovery.iter().map(source).collect::<Vec<_>>(),
    })
}

fn source(source: &Discovery) -> Value {
    match source {
        Discovery::Static(group) => json!(["static", group.targets, group.labels]),
        Discovery::File { patterns, refresh_ms } => json!(["file", patterns.len(), refresh_ms]),
        Discovery::Http { url, refresh_ms, http } => json!(["http", url, refresh_ms, client(http)]),
        Discovery::Dns { names, kind, port, refresh_ms } => {
            json!(["dns", names, format!("{kind:?}").to_uppercase(), port, refresh_ms])
        }
        _ => Value::Null,
    }
}

fn rules(rules: &[RelabelRule]) -> Value {
    let rule = |rule: &RelabelRule| {
        let action = format!("{:?}", rule.action).to_lowercase();
        let (separator, regex, target) = (&rule.separator, rule.regex.as_str(), &rule.target_label);
        json!([rule.source_labels, separator, regex, rule.modulus, target, rule.replacement, action])
    };
    rules.iter().map(rule).collect()
}

fn client(http: &HttpClient) -> Value {
    let auth = match &http.auth {
        Auth::None => json!(["none"]),
        Auth::Basic { username, password } => json!(["basic", secret(Some(username)), secret(Some(password))]),
        Auth::Header { scheme, credentials } => json!(["header", scheme, secret(Some(credentials))]),
        Auth::OAuth2(o) => json!(["oauth2", o.client_id, secret(Some(&o.client_secret)), o.token_url]),
    };
    let tls = &http.tls;
    let (ca, cert, key) = (secret(tls.ca.as_ref()), secret(tls.cert.as_ref()), secret(tls.key.as_ref()));
    let name = tls.server_name.as_deref().unwrap_or("");
    json!([auth, http.follow_redirects, http.headers.len(), ca, cert, key, name, tls.insecure_skip_verify])
}

fn secret(secret: Option<&Secret>) -> String {
    match secret {
        None => "|".to_owned(),
        Some(Secret::Inline(text)) => format!("{text}|"),
        Some(Secret::File(path)) => format!("|{}", path.strip_prefix(BASE).unwrap_or(path).display()),
    }
}
