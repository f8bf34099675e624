//! Which texts are URLs, as Go's `net/url` decides it.

use std::net::Ipv6Addr;

/// The parts that a caller looks at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    /// Lower case; empty for a relative URL.
    pub(super) scheme: String,
    /// With the port, without user and password.
    pub(super) host: &'a str,
}

/// Splits a URL. The error never quotes it: it may hold a password.
pub(super) fn parse(text: &str) -> Result<Url<'_>, &'static str> {
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7F) {
        return Err("a URL must not hold control characters");
    }
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (scheme, rest) = split_scheme(text)?;
    check_escapes(fragment)?;
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    let url = |host| Url { scheme: scheme.to_ascii_lowercase(), host };
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            return Ok(url("")); // opaque, as in `mailto:someone`
        }
        if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
            return Err("the URL lacks its scheme, such as http://");
        }
    }
    let (host, path) = match rest.strip_prefix("//") {
        Some(rest) if !scheme.is_empty() || !rest.starts_with('/') => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (check_authority(authority)?, path)
        }
        _ => ("", rest),
    };
    check_escapes(path)?;
    Ok(url(host))
}

fn split_scheme(text: &str) -> Result<(&str, &str), &'static str> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("the URL lacks its scheme, such as http://"),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn check_authority(authority: &str) -> Result<&str, &'static str> {
    let host = match authority.rsplit_once('@') {
        None => authority,
        Some((user, host)) => {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
            if !user.bytes().all(allowed) {
                return Err("user and password in a URL must be percent-encoded");
            }
            check_escapes(user)?;
            host
        }
    };
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.rsplit_once(']').ok_or("the URL's host lacks its `]`")?,
        None => host.split_at(host.rfind(':').unwrap_or(host.len())),
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    if port.len() > 1 && digits.len() == port.len() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("the URL's port is not a number");
    }
    if !host.starts_with('[') && name.contains(['[', ']']) {
        return Err("only IPv6 addresses stand in brackets in a URL");
    }
    let allowed = |byte: u8| byte >= 0x80 || byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"%".contains(&byte);
    if !name.bytes().all(allowed) {
        return Err("the URL's host has characters that no host has");
    }
    let address = name.split('%').next().unwrap_or_default();
    if host.starts_with('[') && address.parse::<Ipv6Addr>().is_err() {
        return Err("the URL's brackets hold no IPv6 address");
    }
    // Only characters beyond ASCII may be escaped in a host.
    for (at, _) in name.match_indices('%') {
        let escaped = name.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let zone = host.starts_with('[') && escaped == Some(b'%');
        if escaped.is_none_or(|byte| byte < 0x80) && !zone {
            return Err("the URL's host has an escape that no host has");
        }
    }
    Ok(host)
}

fn check_escapes(text: &str) -> Result<(), &'static str> {
    let is_hex = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    if text.match_indices('%').all(|(at, _)| is_hex(at + 1) && is_hex(at + 2)) {
        return Ok(());
    }
    Err("the URL has a `%` that starts no escape")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_split_as_in_go() {
        for (text, scheme, host) in [
            ("http://a:80/b?c#d", "http", "a:80"),
            ("HTTPS://u:p@[::1]:443/", "https", "[::1]:443"),
            ("http://", "http", ""),
            ("http:///x", "http", ""),
            ("a.b:80", "a.b", ""),
            ("invalid", "", ""),
            ("", "", ""),
            ("//host/x", "", "host"),
            ("http://a:/", "http", "a:"),
        ] {
            assert_eq!(parse(text), Ok(Url { scheme: scheme.to_owned(), host }), "{text:?}");
        }
        for text in
            [":80", "1.2.3.4:80", "http://a b", "http://a:x", "http://a/%zz", "http://[::1", "http://a\n", "http://%41"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
