//! The keys that Prometheus calls `http_config`: who we say we are, TLS, proxy. Rules and words: `config/http_config.go` and
//! `config/headers.go` of prometheus/common.

use super::section::{Reader, Section, join};
use super::url;
use crate::config::Severity;
use crate::model::settings::{Auth, HttpClient, OAuth2, ProxySettings, Secret, TlsSettings};

/// The keys of an HTTP client; a scrape job and `http_sd_configs` have them among their own.
pub(super) const KEYS: [&str; 13] = [
    "basic_auth",
    "authorization",
    "oauth2",
    "bearer_token",
    "bearer_token_file",
    "tls_config",
    "follow_redirects",
    "enable_http2",
    "proxy_url",
    "no_proxy",
    "proxy_from_environment",
    "proxy_connect_header",
    "http_headers",
];
const OAUTH2_KEYS: [&str; 12] = [
    "client_id",
    "client_secret",
    "client_secret_file",
    "client_secret_ref",
    "scopes",
    "token_url",
    "endpoint_params",
    "tls_config",
    "proxy_url",
    "no_proxy",
    "proxy_from_environment",
    "proxy_connect_header",
];
const TLS_KEYS: [&str; 13] = [
    "ca",
    "cert",
    "key",
    "ca_file",
    "cert_file",
    "key_file",
    "ca_ref",
    "cert_ref",
    "key_ref",
    "server_name",
    "insecure_skip_verify",
    "min_version",
    "max_version",
];
/// Headers that are not the user's to set.
const RESERVED_HEADERS: [&str; 18] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// Reads the HTTP client's keys of a section.
pub(super) fn client(reader: &mut Reader<'_>, section: &Section<'_>) -> HttpClient {
    section.flag(reader, "enable_http2", true); // checked; we speak HTTP/1.1, which every server does
    HttpClient {
        auth: auth(reader, section),
        headers: headers(reader, section),
        tls: tls(reader, section),
        proxy: proxy(reader, section),
        follow_redirects: section.flag(reader, "follow_redirects", true),
    }
}

fn auth(reader: &mut Reader<'_>, section: &Section<'_>) -> Auth {
    let basic = section.child(
        reader,
        "basic_auth",
        &[&["username", "username_file", "username_ref", "password", "password_file", "password_ref"]],
    );
    let header =
        section.child(reader, "authorization", &[&["type", "credentials", "credentials_file", "credentials_ref"]]);
    let oauth2 = section.child(reader, "oauth2", &[&OAUTH2_KEYS]);
    let bearer = secret(reader, section, "bearer_token", "bearer_token_file", "");

    let given: Vec<&str> = [
        ("basic_auth", basic.is_some()),
        ("authorization", header.is_some()),
        ("oauth2", oauth2.is_some()),
        ("bearer_token", bearer.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect();
    if let [_, .., last] = given[..] {
        let text = format!("only one of {} can be in force", given.join(", "));
        let key = if last == "bearer_token" && section.given(last).is_none() { "bearer_token_file" } else { last };
        reader.error(section.key_at(key), &section.path_of(key), text, "keep the one that the exporter expects");
    }
    // All are read, so that all are checked.
    let basic = basic.map(|basic| Auth::Basic {
        username: secret(reader, &basic, "username", "username_file", "username_ref").unwrap_or_else(empty),
        password: secret(reader, &basic, "password", "password_file", "password_ref").unwrap_or_else(empty),
    });
    let header = header.map(|header| {
        let scheme = header.text(reader, "type").unwrap_or("").trim();
        if scheme.eq_ignore_ascii_case("basic") {
            reader.error(header.at("type"), &header.path_of("type"), "the type cannot be basic", "use basic_auth");
        }
        let scheme = if scheme.is_empty() { "Bearer" } else { scheme };
        let credentials = secret(reader, &header, "credentials", "credentials_file", "credentials_ref");
        Auth::Header { scheme: scheme.to_owned(), credentials: credentials.unwrap_or_else(empty) }
    });
    let oauth2 = oauth2.map(|section| Auth::OAuth2(Box::new(self::oauth2(reader, &section))));
    let bearer = bearer.map(|credentials| Auth::Header { scheme: "Bearer".to_owned(), credentials });
    basic.or(header).or(oauth2).or(bearer).unwrap_or(Auth::None)
}

fn empty() -> Secret {
    Secret::Inline(String::new())
}

fn oauth2(reader: &mut Reader<'_>, section: &Section<'_>) -> OAuth2 {
    for key in ["client_id", "token_url"] {
        if section.filled(reader, key).is_none() {
            reader.error(section.at(key), &section.path_of(key), format!("oauth2 needs a {key}"), "");
        }
    }
    let token_url = section.text(reader, "token_url").unwrap_or("");
    if !token_url.is_empty() && !url::parse(token_url).is_ok_and(|url| url.scheme.starts_with("http")) {
        let text = "this is not an HTTP URL, so every request for a token will fail";
        reader.say(Severity::Warning, section.at("token_url"), &section.path_of("token_url"), text, "");
    }
    let scopes = section.texts(reader, "scopes").unwrap_or_default();
    OAuth2 {
        client_id: section.text(reader, "client_id").unwrap_or("").to_owned(),
        client_secret: secret(reader, section, "client_secret", "client_secret_file", "client_secret_ref")
            .unwrap_or_else(empty),
        token_url: token_url.to_owned(),
        scopes: scopes.into_iter().map(|(scope, _)| scope.to_owned()).collect(),
        endpoint_params: section.text_map(reader, "endpoint_params"),
        tls: tls(reader, section),
        proxy: proxy(reader, section),
    }
}

/// A secret that is given itself, in a file, or (which does not exist here) by a secret manager.
fn secret(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    inline_key: &str,
    file_key: &str,
    ref_key: &str,
) -> Option<Secret> {
    let inline = section.filled(reader, inline_key);
    let file = section.filled(reader, file_key);
    if !ref_key.is_empty() && section.filled(reader, ref_key).is_some() {
        let text = "there is no secret manager, neither here nor in Prometheus itself";
        reader.error(section.at(ref_key), &section.path_of(ref_key), text, &format!("use {inline_key} or {file_key}"));
    }
    if inline.is_some() && file.is_some() {
        let text = format!("only one of {inline_key} and {file_key} can be in force");
        reader.error(section.at(file_key), &section.path_of(file_key), text, "");
    }
    let file = file.map(|path| Secret::File(reader.file_path(path, section.at(file_key), &section.path_of(file_key))));
    inline.map(|text| Secret::Inline(text.to_owned())).or(file)
}

/// Reads `tls_config`.
pub(super) fn tls(reader: &mut Reader<'_>, section: &Section<'_>) -> TlsSettings {
    let Some(section) = section.child(reader, "tls_config", &[&TLS_KEYS]) else { return TlsSettings::default() };
    let ca = secret(reader, &section, "ca", "ca_file", "ca_ref");
    let cert = secret(reader, &section, "cert", "cert_file", "cert_ref");
    let key = secret(reader, &section, "key", "key_file", "key_ref");
    for (missing, given) in [("key", "cert"), ("cert", "key")] {
        let is_given = |name: &str| {
            [name.to_owned(), format!("{name}_file"), format!("{name}_ref")]
                .iter()
                .any(|key| section.filled_quietly(key))
        };
        if is_given(given) && !is_given(missing) {
            let text = format!("a {given} needs its {missing}");
            reader.error(section.position(), &section.path, text, &format!("add {missing}_file"));
        }
    }
    TlsSettings {
        ca,
        cert,
        key,
        server_name: section.filled(reader, "server_name").map(str::to_owned),
        insecure_skip_verify: section.flag(reader, "insecure_skip_verify", false),
        min_version: version(reader, &section, "min_version"),
        max_version: version(reader, &section, "max_version"),
    }
}

fn version(reader: &mut Reader<'_>, section: &Section<'_>, key: &str) -> Option<u8> {
    let name = section.text(reader, key)?;
    section.given(key)?;
    match name {
        "TLS13" => Some(13),
        "TLS12" => Some(12),
        "TLS11" | "TLS10" if key == "min_version" => {
            let text = "versions before TLS 1.2 are not spoken, so this comes to TLS12";
            reader.say(Severity::Note, section.at(key), &section.path_of(key), text, "");
            Some(12)
        }
        "TLS11" | "TLS10" => {
            let text = "versions before TLS 1.2 are broken and not spoken here";
            reader.error(section.at(key), &section.path_of(key), text, "TLS12 is the lowest");
            None
        }
        _ => {
            reader.error(section.at(key), &section.path_of(key), "there is no such TLS version", "TLS12 or TLS13");
            None
        }
    }
}

/// Reads `proxy_url` and the keys that go with it.
fn proxy(reader: &mut Reader<'_>, section: &Section<'_>) -> ProxySettings {
    let url = section.text(reader, "proxy_url");
    let given = section.given("proxy_url").is_some();
    let no_proxy = section.text(reader, "no_proxy").unwrap_or("");
    let from_environment = section.flag(reader, "proxy_from_environment", false);
    let connect_headers = connect_headers(reader, section);

    let url = url.filter(|url| !url.is_empty());
    let mut refuse = |key: &str, text: &str| reader.error(section.at(key), &section.path_of(key), text, "");
    if section.get("proxy_connect_header").and_then(|node| node.as_mapping()).is_some_and(|map| !map.is_empty())
        && !from_environment
        && url.is_none()
    {
        refuse("proxy_connect_header", "this needs proxy_url or proxy_from_environment");
    }
    if from_environment && url.is_some() {
        refuse("proxy_url", "proxy_from_environment and proxy_url exclude each other");
    }
    if !no_proxy.is_empty() && from_environment {
        refuse("no_proxy", "proxy_from_environment brings its own NO_PROXY");
    } else if !no_proxy.is_empty() && !given {
        refuse("no_proxy", "this needs proxy_url");
    }
    if from_environment {
        return ProxySettings { connect_headers, ..from_vars(reader, section) };
    }
    let url = url.and_then(|url| checked_proxy(reader, section, "proxy_url", url));
    let url = url.map(|url| Secret::Inline(url.to_owned()));
    ProxySettings { http: url.clone(), https: url, no_proxy: no_proxy.to_owned(), connect_headers }
}

fn connect_headers(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    let path = section.path_of("proxy_connect_header");
    for (name, node) in section.map(reader, "proxy_connect_header") {
        for (value, _) in reader.texts(node, &join(&path, name)) {
            headers.push((name.to_owned(), Secret::Inline(value.to_owned())));
        }
    }
    headers
}

/// The environment's proxies, by the names and the order of Go's `httpproxy.FromEnvironment`.
fn from_vars(reader: &mut Reader<'_>, section: &Section<'_>) -> ProxySettings {
    let vars = &reader.context.vars;
    let var = |upper: &str| {
        let found = [upper.to_owned(), upper.to_ascii_lowercase()];
        found.iter().find_map(|name| vars.get(name).filter(|value| !value.is_empty())).cloned()
    };
    let mut secret = |upper: &str| {
        let text = var(upper)?;
        let text = if text.contains("://") { text } else { format!("http://{text}") };
        checked_proxy(reader, section, "proxy_from_environment", &text)?;
        Some(Secret::Inline(text))
    };
    ProxySettings {
        http: secret("HTTP_PROXY"),
        https: secret("HTTPS_PROXY"),
        // Go never takes the environment's proxies to reach this machine itself.
        no_proxy: var("NO_PROXY").unwrap_or_else(|| "localhost".to_owned()),
        connect_headers: Vec::new(),
    }
}

fn checked_proxy<'u>(reader: &mut Reader<'_>, section: &Section<'_>, key: &str, url: &'u str) -> Option<&'u str> {
    let problem = match url::parse(url) {
        Err(text) => text,
        Ok(parts) if parts.scheme != "http" => "only proxies that speak HTTP are served: http://host:port",
        Ok(parts) if parts.host.is_empty() => "the proxy's URL has no host",
        Ok(_) => return Some(url),
    };
    reader.error(section.at(key), &section.path_of(key), problem, "");
    None
}

fn headers(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    for (name, node) in section.map(reader, "http_headers") {
        let path = join(&section.path_of("http_headers"), name);
        if RESERVED_HEADERS.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            reader.error(node.position(), &path, "this header is not yours to set", "use the key that is made for it");
        } else if !is_token(name) {
            let text = "this is no header name, so every request will fail";
            reader.say(Severity::Warning, node.position(), &path, text, "");
        }
        let Some(section) = reader.section(node, path, &[&["values", "secrets", "files"]]) else { continue };
        for key in ["values", "secrets"] {
            for (value, _) in section.texts(reader, key).unwrap_or_default() {
                headers.push((name.to_owned(), Secret::Inline(value.to_owned())));
            }
        }
        for (file, at) in section.texts(reader, "files").unwrap_or_default() {
            headers.push((name.to_owned(), Secret::File(reader.file_path(file, at, &section.path_of("files")))));
        }
    }
    headers
}

/// RFC 9110's token.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Refuses the headers that a server section must not set.
pub(super) fn refuse_reserved(reader: &mut Reader<'_>, section: &Section<'_>) {
    for (name, node) in section.map(reader, "headers") {
        if RESERVED_HEADERS
            .iter()
            .any(|reserved| name.eq_ignore_ascii_case(reserved) && *reserved != "x-prometheus-scrape-timeout-seconds")
        {
            let path = join(&section.path_of("headers"), name);
            reader.error(node.position(), &path, "this header is not yours to set", "");
        }
    }
}
