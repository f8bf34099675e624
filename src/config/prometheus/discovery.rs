//! Where a job's targets come from.

use super::exposure;
use super::http;
use super::section::{Reader, Section, join};
use super::url;
use crate::config::Severity;
use crate::env::glob;
use crate::model::settings::{Discovery, DnsKind, TargetGroup};
use std::collections::BTreeMap;

/// The keys of a job that name sources of targets which are served.
pub(super) const KEYS: [&str; 4] = ["static_configs", "file_sd_configs", "http_sd_configs", "dns_sd_configs"];
/// Those that are not: clusters and clouds keep their own lists of targets, and a device at the edge has no account there.
pub(super) const REFUSED: [&str; 28] = [
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "ionos_sd_configs",
    "kubernetes_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "openstack_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
    "vultr_sd_configs",
    "stackit_sd_configs",
    "aws_sd_configs",
    "oci_sd_configs",
];
const MINUTE_MS: u64 = 60_000;

/// Reads the sources that are served. `relabelled`: there are `relabel_configs`, so before them an address may be anything.
pub(super) fn sources(reader: &mut Reader<'_>, job: &Section<'_>, relabelled: bool) -> Vec<Discovery> {
    let mut sources = Vec::new();
    each(reader, job, "static_configs", &[&["targets", "labels"]], |reader, section| {
        sources.push(Discovery::Static(group(reader, section, relabelled)));
    });
    each(reader, job, "file_sd_configs", &[&["files", "refresh_interval"]], |reader, section| {
        sources.extend(files(reader, section));
    });
    each(reader, job, "http_sd_configs", &[&["url", "refresh_interval"], &http::KEYS], |reader, section| {
        sources.extend(page(reader, section));
    });
    each(reader, job, "dns_sd_configs", &[&["names", "refresh_interval", "type", "port"]], |reader, section| {
        sources.extend(names(reader, section));
    });
    sources
}

fn each(
    reader: &mut Reader<'_>,
    job: &Section<'_>,
    key: &str,
    keys: &[&[&str]],
    mut read: impl FnMut(&mut Reader<'_>, &Section<'_>),
) {
    for (at, node) in job.items(reader, key).iter().enumerate() {
        let path = format!("{}[{at}]", job.path_of(key));
        if node.is_null() {
            reader.error(node.position(), &path, "the entry is empty", "remove the `-` or fill the entry in");
        } else if let Some(section) = reader.section(node, path, keys) {
            read(reader, &section);
        }
    }
}

/// Refuses the sources that are not served, by name.
pub(super) fn refuse_others(reader: &mut Reader<'_>, job: &Section<'_>) {
    for key in REFUSED {
        if !job.items(reader, key).is_empty() {
            let name = key.trim_end_matches("_sd_configs");
            let text = format!("{name} service discovery is out of promwatch's scope: it serves single machines");
            let fix = "use static_configs, file_sd_configs, http_sd_configs or dns_sd_configs";
            reader.error(job.key_at(key), &job.path_of(key), text, fix);
        }
    }
}

fn group(reader: &mut Reader<'_>, section: &Section<'_>, relabelled: bool) -> TargetGroup {
    let mut targets = Vec::new();
    for (target, at) in section.texts(reader, "targets").unwrap_or_default() {
        // Prometheus' check for URLs in target groups; addresses of sockets are our own.
        if !relabelled && target.contains('/') && !target.starts_with("unix:/") {
            // A URL may hold a password.
            let shown = if target.contains('@') { "this".to_owned() } else { format!("{target:?}") };
            let fix = "write host:port only; the rest goes to scheme, metrics_path and params";
            reader.error(at, &section.path_of("targets"), format!("{shown} is not a host and port"), fix);
        }
        targets.push(target.to_owned());
    }
    let mut labels = BTreeMap::new();
    for (name, node) in section.map(reader, "labels") {
        let path = join(&section.path_of("labels"), name);
        if name.is_empty() {
            reader.error(node.position(), &path, "a label name must not be empty", "");
        }
        match node.as_str() {
            Some(value) => {
                labels.insert(name.to_owned(), value.to_owned());
            }
            None => reader.wrong_type(node, &path, "text"),
        }
    }
    TargetGroup { targets, labels, source: format!("{}:{}", reader.file, section.position().0) }
}

fn files(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Discovery> {
    let refresh_ms = refresh(reader, section, 5 * MINUTE_MS);
    let path = section.path_of("files");
    let files = section.texts(reader, "files").unwrap_or_default();
    if files.is_empty() {
        reader.error(section.at("files"), &path, "at least one file is needed", "");
        return None;
    }
    let mut patterns = Vec::new();
    for (pattern, at) in files {
        if !is_file_pattern(pattern) {
            let text = format!("{pattern:?} cannot be a file of targets");
            let fix = "it must end in .json, .yml or .yaml, and only its last part may hold a *";
            reader.error(at, &path, text, fix);
            continue;
        }
        let full = reader.join_dir(pattern).to_string_lossy().into_owned();
        if glob(reader.disk, &full).is_ok_and(|found| found.is_empty()) {
            let text = format!("{full} does not exist yet");
            reader.say(Severity::Warning, at, &path, text, "its targets appear when it does");
        }
        patterns.push(full);
    }
    Some(Discovery::File { patterns, refresh_ms })
}

/// `^[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)$`
fn is_file_pattern(pattern: &str) -> bool {
    pattern.rsplit_once('.').is_some_and(|(stem, extension)| {
        matches!(extension, "json" | "yml" | "yaml" | "JSON" | "YML" | "YAML") && star_is_last(stem)
    })
}

/// `^[^*]*(\*[^/]*)?$`: a `*` only in the last part of a path.
pub(super) fn star_is_last(pattern: &str) -> bool {
    pattern.split_once('*').is_none_or(|(_, rest)| !rest.contains('/'))
}

fn page(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Discovery> {
    let refresh_ms = refresh(reader, section, MINUTE_MS);
    let http = Box::new(http::client(reader, section));
    let url = section.text(reader, "url").unwrap_or("");
    let problem = match url::parse(url) {
        _ if url.is_empty() => "the URL is missing",
        Err(text) => text,
        Ok(parts) if parts.scheme != "http" && parts.scheme != "https" => "the URL must start with http:// or https://",
        Ok(parts) if parts.host.is_empty() => "the URL has no host",
        Ok(_) => {
            exposure::list(reader, section, url);
            return Some(Discovery::Http { url: url.to_owned(), refresh_ms, http });
        }
    };
    reader.error(section.at("url"), &section.path_of("url"), problem, "");
    None
}

fn names(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Discovery> {
    let refresh_ms = refresh(reader, section, MINUTE_MS / 2);
    let names: Vec<String> =
        section.texts(reader, "names").unwrap_or_default().into_iter().map(|(name, _)| name.to_owned()).collect();
    if names.is_empty() {
        reader.error(section.at("names"), &section.path_of("names"), "at least one name is needed", "");
    }
    let kind = match section.get("type").map_or(Some("SRV"), |_| section.text(reader, "type"))?.to_uppercase().as_str()
    {
        "SRV" => DnsKind::Srv,
        "A" => DnsKind::A,
        "AAAA" => DnsKind::Aaaa,
        "MX" => DnsKind::Mx,
        "NS" => DnsKind::Ns,
        _ => {
            let text = "there is no such record type here";
            reader.error(section.at("type"), &section.path_of("type"), text, "A, AAAA, SRV, MX or NS");
            return None;
        }
    };
    let port = section.integer(reader, "port");
    if port == 0 && kind != DnsKind::Srv {
        reader.error(section.at("port"), &section.path_of("port"), "all types but SRV need a port", "");
    }
    let port = u16::try_from(port).unwrap_or_else(|_| {
        reader.error(section.at("port"), &section.path_of("port"), "a port is a number from 1 to 65535", "");
        0
    });
    (!names.is_empty()).then_some(Discovery::Dns { names, kind, port, refresh_ms })
}

/// Prometheus accepts 0 here and then dies of it.
fn refresh(reader: &mut Reader<'_>, section: &Section<'_>, default_ms: u64) -> u64 {
    match section.duration(reader, "refresh_interval") {
        Some(0) => {
            let text = "0 would never stop refreshing, so the default is used";
            let key = "refresh_interval";
            reader.say(Severity::Warning, section.at(key), &section.path_of(key), text, "");
            default_ms
        }
        given => given.unwrap_or(default_ms),
    }
}
