//! What is in force, for `promwatch check`.

use super::schema::number_text;
use super::values::{duration_text, size_text};
use crate::model::settings::{Discovery, EmfSettings, Expired, Histograms, ProxySettings, ScrapeJob, Settings};

/// One line per thing that a user may want to see confirmed. No secret is in it.
pub fn describe(settings: &Settings) -> Vec<String> {
    let mut lines: Vec<String> = settings.jobs.iter().map(job).collect();
    let convert = &settings.convert;
    lines.push(format!("log group: {}", convert.log_group_name));
    let stream = convert.log_stream_name.as_ref().map_or("{job}", |template| template.0.as_str());
    lines.push(format!("log stream: {stream}"));
    lines.push(format!("label host: {}", convert.host.as_deref().unwrap_or("none")));
    for (name, value) in &convert.labels {
        lines.push(format!("label {name}: {}", value.0));
    }
    lines.push(match &convert.emf {
        EmfSettings::Off => "CloudWatch metrics: none (no metric_declaration in force)".to_owned(),
        EmfSettings::Declared { namespace, declarations, .. } => {
            format!("CloudWatch metrics: {} declarations, namespace {namespace}", declarations.len())
        }
        EmfSettings::AllLabels { namespace, .. } => {
            format!("CloudWatch metrics: every metric with all labels as dimensions, namespace {namespace}")
        }
    });
    lines.push(types(settings));
    let max_gap = convert.max_gap_ms.map_or("the longer of 15m and three intervals".to_owned(), duration_text);
    lines.push(format!("counters: max_gap {max_gap}, memory {}", size_text(convert.baseline_bytes)));

    let buffer = &settings.buffer;
    let place = buffer.state_dir.as_ref().map_or("memory only".to_owned(), |dir| dir.display().to_string());
    let expired = match buffer.expired {
        Expired::Drop => "dropped",
        Expired::Restamp => "sent with a new time",
        Expired::Keep => "kept for export",
    };
    lines.push(format!(
        "buffer: {place}, at most {} and {}, synced within {}, over 14 days old: {expired}; {} in memory",
        size_text(buffer.max_bytes),
        duration_text(buffer.max_age_ms),
        duration_text(buffer.sync_interval_ms),
        size_text(buffer.memory_bytes),
    ));
    lines.push(format!("status file: {}", settings.runtime_dir.display()));

    let upload = &settings.upload;
    lines.push(format!("region: {}", upload.region.as_deref().unwrap_or("unknown")));
    let mut endpoint = upload.endpoint.clone().unwrap_or_else(|| "the region's".to_owned());
    for (on, name) in [(upload.dualstack, "dual stack"), (upload.fips, "FIPS")] {
        if on {
            endpoint.push_str(", ");
            endpoint.push_str(name);
        }
    }
    lines.push(format!("endpoint: {endpoint}"));
    lines.push(format!("role: {}", upload.role_arn.as_deref().unwrap_or("none, the base credentials' own")));
    let credentials = &upload.credentials;
    let profile = credentials.profile.as_deref().or(credentials.env_profile.as_deref());
    lines.push(format!(
        "credentials: profile {}, files {} and {}{}",
        profile.unwrap_or("AmazonCloudWatchAgent or default"),
        credentials.credentials_file.display(),
        credentials.config_file.display(),
        if credentials.env_key_id.is_some() { ", keys in the environment" } else { "" },
    ));
    let ProxySettings { http, https, .. } = &upload.proxy;
    lines.push(format!("proxy: {}", if http.is_some() || https.is_some() { "yes" } else { "none" }));
    lines.push(format!(
        "upload: live events wait at most {}; backlog at most {} requests and {} a second, spread over {}; gzip {}",
        duration_text(upload.flush_interval_ms),
        number_text(upload.backlog_requests_per_second),
        size_text(upload.backlog_bytes_per_second),
        duration_text(upload.jitter_ms),
        if upload.compress { "on" } else { "off" },
    ));
    lines
}

fn job(job: &ScrapeJob) -> String {
    let targets: usize = job
        .discovery
        .iter()
        .map(|discovery| match discovery {
            Discovery::Static(group) => group.targets.len(),
            _ => 0,
        })
        .sum();
    let mut what = Vec::new();
    if targets > 0 {
        what.push(format!("static targets: {targets}"));
    }
    for discovery in &job.discovery {
        what.push(match discovery {
            Discovery::Static(_) => continue,
            Discovery::File { patterns, .. } => format!("files {}", patterns.join(" ")),
            Discovery::Http { .. } => "targets over HTTP".to_owned(),
            Discovery::Dns { names, .. } => format!("DNS names {}", names.join(" ")),
            Discovery::Host => "this machine's figures".to_owned(),
            Discovery::Textfile(folder) => format!("*.prom in {}", folder.display()),
        });
    }
    let (interval, timeout) = (duration_text(job.interval_ms), duration_text(job.timeout_ms));
    format!("job {}: every {interval}, time-out {timeout}, {}", job.job_name, what.join(", "))
}

fn types(settings: &Settings) -> String {
    let more = &settings.convert.more;
    let mut line = "types: counters, gauges, summaries".to_owned();
    line.push_str(match more.histograms {
        Histograms::Drop => "",
        Histograms::CountAndSum => ", histograms (count and sum)",
        Histograms::Buckets => ", histograms (buckets)",
        Histograms::Values => ", histograms (values)",
    });
    for (on, name) in [
        (more.untyped, ", untyped metrics as gauges"),
        (more.scrape_health, ", up and scrape_*"),
        (more.declared_only, "; only events with a declared metric"),
    ] {
        if on {
            line.push_str(name);
        }
    }
    line
}
