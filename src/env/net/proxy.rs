//! Which proxy a request goes through.

use super::patience::failure;
use super::secret::reveal;
use super::url::{Url, percent_decoded, split_host_port};
use crate::env::{NetError, NetErrorKind};
use crate::model::settings::ProxySettings;
use base64::Engine;
use std::fmt;
use std::net::IpAddr;

/// A proxy that speaks HTTP.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub host: String,
    pub port: u16,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<String>,
}

/// The credentials stay hidden.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

impl Proxy {
    /// The proxy for this URL, or none. Proxies over TLS (`https://`) and SOCKS are refused: no user of the CloudWatch agent's
    /// `[proxy]` section or of an edge Prometheus was seen with one.
    pub(super) fn choose(settings: &ProxySettings, url: &Url) -> Result<Option<Self>, NetError> {
        let Some(secret) = (if url.https { &settings.https } else { &settings.http }) else { return Ok(None) };
        if is_direct(&settings.no_proxy, &url.host, url.port) {
            return Ok(None);
        }
        let text = reveal(secret, "the proxy's URL")?;
        if text.is_empty() {
            return Ok(None);
        }
        Self::parse(&text).map(Some)
    }

    /// `[http://][user:password@]host[:port]`. No error holds the text: it may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self, NetError> {
        let bad = |why: &str| failure(NetErrorKind::Config, format!("the proxy's URL is no good: {why}"));
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(bad("only http:// proxies are served")),
            None => text,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (userinfo, host_port) = match authority.rsplit_once('@') {
            Some((userinfo, host_port)) => (Some(userinfo), host_port),
            None => (None, authority),
        };
        let (host, port) = split_host_port(host_port).ok_or_else(|| bad("no host, or a bad port"))?;
        let authorization = userinfo.map(|text| {
            let (user, password) = text.split_once(':').unwrap_or((text, ""));
            basic(&percent_decoded(user), &percent_decoded(password))
        });
        Ok(Self { host: host.to_ascii_lowercase(), port: port.unwrap_or(80), authorization })
    }
}

/// The value of an `Authorization` header (RFC 7617).
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// Whether `no_proxy` lists the host, by the rules of golang.org/x/net/http/httpproxy: names with their subdomains, `.name` and
/// `*.name` for subdomains alone, addresses, networks, each with or without a port, `*` for all. With any list at all
/// this machine is reached directly; with none even that goes through the proxy, as Prometheus' `proxy_url` has it.
fn is_direct(no_proxy: &str, host: &str, port: u16) -> bool {
    if no_proxy.trim().is_empty() {
        return false;
    }
    let address: Option<IpAddr> = host.parse().ok().map(|ip: IpAddr| ip.to_canonical());
    if host == "localhost" || address.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    no_proxy.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = entry.split_once('/')
            && let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>())
        {
            return address.is_some_and(|ip| contains(network, bits, ip));
        }
        let (listed, listed_port) = match entry.parse::<IpAddr>() {
            Ok(_) => (entry.as_str(), None),
            Err(_) => match split_host_port(&entry) {
                Some(parts) => parts,
                None => return false,
            },
        };
        if listed_port.is_some_and(|listed| listed != port) {
            return false;
        }
        if let Ok(listed) = listed.parse::<IpAddr>() {
            return address == Some(listed.to_canonical());
        }
        let listed = listed.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(listed);
        match listed.strip_prefix('.') {
            Some(_) => host.ends_with(listed),
            None => host == listed || host.strip_suffix(listed).is_some_and(|head| head.ends_with('.')),
        }
    })
}

fn contains(network: IpAddr, bits: u32, ip: IpAddr) -> bool {
    match (network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(network) & mask == u32::from(ip) & mask
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            u128::from(network) & mask == u128::from(ip) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::settings::Secret;

    #[test]
    fn no_proxy_is_read_as_go_reads_it() {
        for (list, host, port, direct) in [
            ("", "localhost", 80, false),
            ("x", "localhost", 80, true),
            ("x", "127.0.0.1", 80, true),
            ("x", "::1", 80, true),
            ("*", "example.com", 80, true),
            ("example.com", "example.com", 80, true),
            ("example.com", "a.example.com", 80, true),
            ("example.com", "notexample.com", 80, false),
            (".example.com", "example.com", 80, false),
            (".example.com", "a.example.com", 80, true),
            ("*.example.com", "a.example.com", 80, true),
            ("*.example.com", "example.com", 80, false),
            ("example.com:8080", "example.com", 80, false),
            ("example.com:80", "example.com", 80, true),
            ("a, Example.com ,b", "example.com", 443, true),
            ("10.0.0.0/8", "10.1.2.3", 80, true),
            ("10.0.0.0/8", "11.1.2.3", 80, false),
            ("0.0.0.0/0", "11.1.2.3", 80, true),
            ("10.1.2.3", "10.1.2.3", 80, true),
            ("10.1.2.3:81", "10.1.2.3", 80, false),
            ("2001:db8::/32", "2001:db8::1", 80, true),
            ("[2001:db8::1]:80", "2001:db8::1", 80, true),
            ("2001:db8::1", "2001:db8::1", 80, true),
            ("10.0.0.0/8", "example.com", 80, false),
        ] {
            assert_eq!(is_direct(list, host, port), direct, "{list} {host}:{port}");
        }
    }

    #[test]
    fn a_proxy_url_is_taken_apart_and_never_shown() {
        let proxy = Proxy::parse("http://me:p%40ss@Proxy.example:3128/").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 3128));
        assert_eq!(proxy.authorization.as_deref(), Some("Basic bWU6cEBzcw=="));
        assert!(!format!("{proxy:?}").contains("bWU"));
        assert_eq!(Proxy::parse("proxy").unwrap().port, 80);
        for bad in ["https://u:hidden@p", "http://u:hidden@", "http://u:hidden@p:x"] {
            let error = Proxy::parse(bad).unwrap_err();
            assert!(error.kind == NetErrorKind::Config && !error.text.contains("hidden"), "{}", error.text);
        }
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let settings = ProxySettings {
            http: Some(Secret::Inline("http://plain:1".into())),
            https: None,
            no_proxy: "direct".into(),
            connect_headers: vec![],
        };
        let chosen = |url: &str| Proxy::choose(&settings, &Url::parse(url).unwrap()).unwrap();
        assert_eq!(chosen("http://h/").unwrap().host, "plain");
        assert_eq!(chosen("https://h/"), None);
        assert_eq!(chosen("http://direct/"), None);
    }
}
