//! The other half of `scripts/differential/config`: reads configurations from standard input, each preceded by a line with
//! its length in bytes, and says of each whether promwatch takes it and what the jobs come to.
#![allow(clippy::disallowed_methods)]

use promwatch::config::{Severity, prometheus};
use promwatch::env::RealDisk;
use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};

fn main() -> std::io::Result<()> {
    let mut input = std::io::stdin().lock();
    let mut output = std::io::stdout().lock();
    let context = prometheus::Context { base_dir: "/nonexistent".into(), vars: BTreeMap::new() };
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        let mut text = vec![0; line.trim().parse().map_err(std::io::Error::other)?];
        line.clear();
        input.read_exact(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        let mut findings = Vec::new();
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
        let jobs: Vec<String> = jobs
            .iter()
            .map(|job| {
                let limits = job.limits;
                format!(
                    "{:?} {} {} {:?} {:?} {} {} {} {} {} {} {} {} {} {} {} {}",
                    job.job_name,
                    job.interval_ms,
                    job.timeout_ms,
                    job.metrics_path,
                    job.scheme,
                    job.honor_labels,
                    job.honor_timestamps,
                    job.compression,
                    job.http.follow_redirects,
                    limits.samples,
                    limits.targets,
                    limits.labels,
                    limits.label_name_bytes,
                    limits.label_value_bytes,
                    limits.body_bytes,
                    job.relabel.len(),
                    job.metric_relabel.len()
                )
            })
            .collect();
        writeln!(output, "ok\t{}", jobs.join("; "))?;
    }
    Ok(())
}
