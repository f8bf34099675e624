//! URLs: what is taken apart before ureq sees them, and where a redirect leads.

use super::patience::failure;
use crate::env::{NetError, NetErrorKind};
use std::fmt::Write;
use ureq::http::Uri;

/// Longer ones are refused; every server we know refuses them too.
const MAX_URL_BYTES: usize = 8192;

/// An `http` or `https` URL without credentials and fragment.
#[derive(Clone, Debug)]
pub(super) struct Url {
    /// What ureq is given. The host is written as it was: signatures cover `Host`.
    pub uri: Uri,
    pub https: bool,
    /// Without the brackets of an IPv6 address, in lower case.
    pub host: String,
    pub port: u16,
    /// `user:password@` before the host, percent-decoded.
    pub credentials: Option<(String, String)>,
}

impl Url {
    /// Characters that no URL may hold are percent-encoded, as browsers and Go do it.
    pub(super) fn parse(text: &str) -> Result<Self, NetError> {
        let bad = |why: &str| failure(NetErrorKind::Config, format!("URL {:?}: {why}", shown(text)));
        if text.len() > MAX_URL_BYTES {
            return Err(failure(NetErrorKind::Config, format!("URL of {} bytes: too long", text.len())));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("no scheme, such as http://"))?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(bad("neither http nor https")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (userinfo, host_port) = match authority.rsplit_once('@') {
            Some((userinfo, host_port)) => (Some(userinfo), host_port),
            None => (None, authority),
        };
        let credentials = userinfo.map(|text| {
            let (user, password) = text.split_once(':').unwrap_or((text, ""));
            (percent_decoded(user), percent_decoded(password))
        });
        let (host, port) = split_host_port(host_port).ok_or_else(|| bad("no host, or a bad port"))?;
        if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:~".contains(&b)) {
            return Err(bad("a host name holds letters, digits, - and . only"));
        }
        let mut clean = String::with_capacity(text.len() + 8);
        let _ = write!(clean, "{}://{}", if https { "https" } else { "http" }, host_port);
        if !path.starts_with('/') {
            clean.push('/');
        }
        push_encoded(&mut clean, path);
        let uri = Uri::try_from(clean).map_err(|_| bad("not a URL"))?;
        let port = port.unwrap_or(if https { 443 } else { 80 });
        Ok(Self { uri, https, host: host.to_ascii_lowercase(), port, credentials })
    }

    /// Where a `Location` leads from here (RFC 3986, section 5.2).
    pub(super) fn join(&self, location: &str) -> Result<Self, NetError> {
        let location = location.trim();
        let base = &self.uri;
        let scheme = if self.https { "https" } else { "http" };
        let authority = base.authority().map_or("", |a| a.as_str());
        let head = location.split(['/', '?', '#']).next().unwrap_or_default();
        let text = if location.contains("://") && head.ends_with(':') {
            location.to_string()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{authority}{}", without_dots(location))
        } else if location.starts_with('?') {
            format!("{scheme}://{authority}{}{location}", base.path())
        } else if location.is_empty() || location.starts_with('#') {
            format!("{scheme}://{authority}{base_path}", base_path = base.path_and_query().map_or("/", |p| p.as_str()))
        } else {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{}", without_dots(&format!("{folder}/{location}")))
        };
        Self::parse(&text).map_err(|error| failure(NetErrorKind::Protocol, format!("bad redirect: {}", error.text)))
    }

    /// `scheme://host:port`, as it was written.
    pub(super) fn origin(&self) -> String {
        let authority = self.uri.authority().map_or("", |a| a.as_str());
        format!("{}://{authority}", if self.https { "https" } else { "http" })
    }

    /// For people: without credentials and without the query, which may hold a key.
    pub(super) fn shown(&self) -> String {
        format!("{}{}", self.origin(), self.uri.path())
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
pub(super) fn split_host_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None | Some("") => None,
        Some(port) => Some(port.parse().ok().filter(|&port| port != 0)?),
    };
    (!host.is_empty()).then_some((host, port))
}

pub(super) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |i: usize| after.get(i).and_then(|&b| char::from(b).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn push_encoded(out: &mut String, text: &str) {
    for &byte in text.as_bytes() {
        match byte {
            b'!'..=b'~' if !b"\"<>\\^`{|}".contains(&byte) => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

/// Takes `.` and `..` out of a path (RFC 3986, section 5.2.4); the query stays as it is.
fn without_dots(text: &str) -> String {
    let (path, query) = text.split_at(text.find('?').unwrap_or(text.len()));
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        parts.push("");
    }
    format!("/{}{query}", parts.join("/"))
}

/// A URL that was not understood, cut before anything that may be secret.
fn shown(text: &str) -> &str {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match text.rfind('@') {
        Some(at) => &text[at + 1..],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url = Url::parse("HTTP://us%40er:p:w@Host.Example:9100/a b?x={1}#frag").unwrap();
        assert_eq!(url.uri.to_string(), "http://Host.Example:9100/a%20b?x=%7B1%7D");
        assert_eq!((url.host.as_str(), url.port, url.https), ("host.example", 9100, false));
        assert_eq!(url.credentials, Some(("us@er".into(), "p:w".into())));
        assert_eq!(url.shown(), "http://Host.Example:9100/a%20b");
        let url = Url::parse("https://[::1]").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.https), ("::1", 443, true));
        assert_eq!(url.uri.to_string(), "https://[::1]/");
        assert_eq!(Url::parse("http://h?q=1").unwrap().uri.to_string(), "http://h/?q=1");
    }

    #[test]
    fn a_bad_url_is_refused_without_telling_its_secrets() {
        for text in
            ["h/x", "ftp://h/", "http://", "http:///x", "http://h:0/", "http://h:x/", "http://a b/", "http://[::1/"]
        {
            let error = Url::parse(text).unwrap_err();
            assert_eq!(error.kind, NetErrorKind::Config, "{text}");
        }
        let error = Url::parse("http://me:secret@h:99999/?token=hidden").unwrap_err().text;
        assert!(!error.contains("secret") && !error.contains("hidden") && error.contains("h:99999"), "{error}");
    }

    #[test]
    fn redirects_are_resolved_as_rfc_3986_says() {
        let base = Url::parse("https://h:8443/a/b?q").unwrap();
        for (location, want) in [
            ("http://other/x", "http://other/x"),
            ("//other/x", "https://other/x"),
            ("/x?y=1", "https://h:8443/x?y=1"),
            ("x", "https://h:8443/a/x"),
            ("../x/./y", "https://h:8443/x/y"),
            ("../../..", "https://h:8443/"),
            ("?z", "https://h:8443/a/b?z"),
            ("", "https://h:8443/a/b?q"),
            ("x:y", "https://h:8443/a/x:y"),
        ] {
            assert_eq!(base.join(location).unwrap().uri.to_string(), want, "{location}");
        }
        assert_eq!(base.join("ftp://h/").unwrap_err().kind, NetErrorKind::Protocol);
    }
}
