//! What a job's HTTP client shows to people whom it should not: warnings, never errors, because it works as written.
//!
//! Secrets that other users of the machine can read, credentials that go to another machine unencrypted, certificates that
//! nobody checks. This machine itself is no danger. Sections without effect are not looked at.

use super::section::{Position, Reader, Section, join};
use super::url;
use crate::config::Severity;
use crate::config::values::{OPEN_FILE_FIX, OPEN_SECRETS, is_this_machine, open_to_others, plain_host};
use crate::model::settings::{Discovery, ScrapeJob};
use crate::yaml::Node;
use std::path::Path;

/// Where secrets stand: the section below the client's own, and the key, which with `_file` names a file.
const SECRETS: [(&str, &str); 5] = [
    ("", "bearer_token"),
    ("basic_auth", "password"),
    ("authorization", "credentials"),
    ("oauth2", "client_secret"),
    ("tls_config", "key"),
];
const CREDENTIALS: [&str; 5] = ["basic_auth", "authorization", "oauth2", "bearer_token", "bearer_token_file"];
const USE_HTTPS: &str = "use https, or a network that nobody else is in";

/// Looks at a job's client. Where rules choose the address, or the targets come from elsewhere, it is not known yet where it goes.
pub(super) fn job(reader: &mut Reader<'_>, section: &Section<'_>, job: &ScrapeJob) {
    let chosen = job.relabel.iter().any(|rule| matches!(rule.target_label.as_str(), "__address__" | "__scheme__"));
    let (mut plain, mut count, mut distant) = (None, 0, chosen);
    for discovery in &job.discovery {
        match discovery {
            Discovery::Static(group) => {
                let scheme = group.labels.get("__scheme__").unwrap_or(&job.scheme);
                for target in group.targets.iter().filter(|target| !is_this_machine(target)) {
                    distant = true;
                    if scheme == "http" && !chosen {
                        count += 1;
                        plain.get_or_insert(target);
                    }
                }
            }
            Discovery::Host | Discovery::Textfile(_) => {}
            _ => distant = true,
        }
    }
    let plain = plain.map(|target| match count {
        1 => target.clone(),
        _ => format!("{target} and {} others", count - 1),
    });
    client(reader, section, plain.as_deref(), distant);
}

/// Looks at the client of a list over HTTP.
pub(super) fn list(reader: &mut Reader<'_>, section: &Section<'_>, address: &str) {
    let plain = plain_host(address);
    let distant = plain.is_some() || url::parse(address).is_ok_and(|url| !is_this_machine(url.host));
    if !client(reader, section, plain, distant)
        && let Some(host) = plain
    {
        let text = format!("the list of targets comes unencrypted from {host}: it can be changed on the way");
        warn(reader, section.at("url"), &section.path_of("url"), text, USE_HTTPS);
    }
}

/// `plain`: where the client speaks HTTP without TLS to, on another machine. `distant`: it may speak to another machine. Says
/// whether it has warned of credentials that go there.
fn client(reader: &mut Reader<'_>, section: &Section<'_>, plain: Option<&str>, distant: bool) -> bool {
    if !section.path.starts_with("scrape_configs[") {
        return false;
    }
    for (parent, key) in SECRETS {
        let node = |key: &str| if parent.is_empty() { section.get(key) } else { section.get(parent)?.get(key) };
        let path = if parent.is_empty() { section.path_of(key) } else { join(&section.path_of(parent), key) };
        secret(reader, node(key), node(&format!("{key}_file")), &path);
    }
    let mut credentials = CREDENTIALS.into_iter().find(|key| section.given(key).is_some());
    for entry in section.get("http_headers").and_then(Node::as_mapping).unwrap_or_default() {
        let path = join(&section.path_of("http_headers"), &entry.key);
        let list = |key: &str| entry.value.get(key).and_then(Node::as_sequence).unwrap_or_default();
        for node in list("secrets") {
            secret(reader, Some(node), None, &path);
        }
        for node in list("files") {
            secret(reader, None, Some(node), &path);
        }
        if !(list("secrets").is_empty() && list("files").is_empty()) {
            credentials = credentials.or(Some("http_headers"));
        }
    }
    if let Some(oauth2) = section.get("oauth2") {
        let path = section.path_of("oauth2");
        let tls = |key: &str| oauth2.get("tls_config")?.get(key);
        secret(reader, tls("key"), tls("key_file"), &join(&path, "tls_config.key"));
        let token_url = oauth2.get("token_url").and_then(|node| Some((node, plain_host(node.as_str()?)?)));
        if let Some((node, host)) = token_url {
            let text = format!("the client secret goes unencrypted to {host}");
            warn(reader, node.position(), &join(&path, "token_url"), text, USE_HTTPS);
        }
        let far = |url: &str| url::parse(url).is_ok_and(|url| !is_this_machine(url.host));
        let distant = oauth2.get("token_url").and_then(Node::as_str).is_some_and(far);
        skips(reader, oauth2.get("tls_config").filter(|_| distant), &join(&path, "tls_config"));
        proxy(reader, oauth2.get("proxy_url"), &join(&path, "proxy_url"));
    }
    skips(reader, section.get("tls_config").filter(|_| distant), &section.path_of("tls_config"));
    proxy(reader, section.get("proxy_url"), &section.path_of("proxy_url"));
    let (Some(host), Some(key)) = (plain, credentials) else { return false };
    let text = format!("the credentials go unencrypted to {host}");
    warn(reader, section.key_at(key), &section.path_of(key), text, USE_HTTPS);
    true
}

fn skips(reader: &mut Reader<'_>, tls: Option<&Node>, path: &str) {
    const KEY: &str = "insecure_skip_verify";
    if let Some(node) = tls.and_then(|tls| tls.get(KEY)).filter(|node| node.as_bool() == Some(true)) {
        let text = "any certificate is accepted: whoever is in the way can answer instead, and hears the credentials";
        let fix = "give the server's certificate as ca_file, and server_name where the names differ";
        warn(reader, node.position(), &join(path, KEY), text.to_owned(), fix);
    }
}

fn proxy(reader: &mut Reader<'_>, node: Option<&Node>, path: &str) {
    let Some((node, text)) = node.and_then(|node| Some((node, node.as_str()?))) else { return };
    if text.contains('@') {
        secret(reader, Some(node), None, path);
        if let Some(host) = plain_host(text) {
            let text = format!("the proxy's user and password go unencrypted to {host}");
            warn(reader, node.position(), path, text, "use a proxy on this machine or one without a password");
        }
    }
}

/// A secret in the file at hand, of which one warning is enough, or in a file of its own.
fn secret(reader: &mut Reader<'_>, inline: Option<&Node>, file: Option<&Node>, path: &str) {
    if let Some(node) = inline.filter(|node| node.as_str().is_some_and(|text| !text.is_empty()))
        && open_to_others(reader.disk, Path::new(reader.file))
        && !reader.findings.iter().any(|finding| finding.file == reader.file && finding.text == OPEN_SECRETS)
    {
        warn(reader, node.position(), path, OPEN_SECRETS.to_owned(), OPEN_FILE_FIX);
    }
    if let Some((node, file)) = file.and_then(|node| Some((node, node.as_str()?))) {
        let full = reader.join_dir(file);
        if !file.is_empty() && open_to_others(reader.disk, &full) {
            let text = format!("other users of the machine can read the secret in {}", full.display());
            let path = if path.contains("http_headers") { path.to_owned() } else { [path, "_file"].concat() };
            warn(reader, node.position(), &path, text, OPEN_FILE_FIX);
        }
    }
}

/// Once per place: an anchor may stand in many jobs.
fn warn(reader: &mut Reader<'_>, at: Position, key: &str, text: String, fix: &str) {
    let said = |finding: &crate::config::Finding| {
        finding.position == Some(at) && finding.text == text && finding.file == reader.file
    };
    if !reader.findings.iter().any(said) {
        reader.say(Severity::Warning, at, key, text, fix);
    }
}
