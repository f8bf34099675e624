//! The real [`Net`]: HTTP/1.1 by ureq, over connections that are made here.
//!
//! ureq writes requests, reads heads, undoes chunking and keeps idle connections. Everything that waits is ours, because ureq would
//! start a thread to resolve names, take proxies from the environment and know nothing of a signal to stop:
//!
//! ```text
//! exchange ─► hop (one request; a redirect is the next) ─► ureq ─► RouteConnector: names, race of addresses, proxy, TLS
//!                                                              └─► Link: reads and writes within Patience
//! ```
//!
//! Refuses: HTTP/2, cookies, decoding of bodies, proxies over TLS, SOCKS. Limits: 64 KiB and 128 lines of head, 10 redirects, 16
//! routes with 32 idle connections each, which are closed after 90 s.

mod call;
mod connect;
#[cfg(debug_assertions)]
pub(super) mod fuzzing;
mod link;
mod patience;
mod provider;
mod proxy;
mod secret;
mod tls;
mod unacknowledged;
mod url;

pub(crate) use connect::connect_first;
pub(crate) use patience::{Patience, Waited, failure};

use super::clock::boottime_ms;
use super::dns::{Resolver, ResolverFiles};
use super::{CertificateTime, Exchange, Head, Limits, Net, NetError, NetErrorKind, Record, Request, Route};
use crate::model::settings::DnsKind;
use call::{Call, Shared};
use connect::RouteConnector;
use proxy::{Proxy, basic};
use std::borrow::Cow;
use std::cell::RefCell;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tls::TlsConfigs;
use ureq::config::AutoHeaderValue;
use ureq::http;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as UreqResolver};
use ureq::unversioned::transport::NextTimeout;
use url::Url;

/// As in Go and curl.
const MAX_REDIRECTS: usize = 10;
/// What is read and thrown away of a redirect's body so that its connection can be used again.
const MAX_IGNORED_BODY_BYTES: usize = 64 << 10;
/// Bodies are handed on in pieces of this size.
const PIECE_BYTES: usize = 16 << 10;
const MAX_ROUTES: usize = 16;
const MAX_IDLE_CONNECTIONS: usize = 32;
/// Go's transport closes idle connections after so long too; scrape intervals are mostly shorter, NAT tables seldom are.
const MAX_IDLE_MS: u64 = 90_000;

/// Sockets of the real machine.
pub struct RealNet {
    shared: Arc<Shared>,
    resolver: Arc<Mutex<Resolver>>,
    tls: Arc<Mutex<TlsConfigs>>,
    /// One ureq agent per route, because it keeps its connections by host alone; least recently used first.
    agents: RefCell<Vec<KeptAgent>>,
}

struct KeptAgent {
    route: Route,
    any_time: bool,
    agent: ureq::Agent,
    used_ms: u64,
}

impl RealNet {
    /// `stop` is set by a signal: the running call then ends within about a second.
    pub fn new(stop: Arc<AtomicBool>) -> Self {
        Self::with_files(stop, ResolverFiles::default())
    }

    /// With other files than the system's for names.
    pub fn with_files(stop: Arc<AtomicBool>, files: ResolverFiles) -> Self {
        Self {
            shared: Arc::new(Shared::new(stop)),
            resolver: Arc::new(Mutex::new(Resolver::new(files))),
            tls: Arc::new(Mutex::new(TlsConfigs::new())),
            agents: RefCell::new(Vec::new()),
        }
    }

    fn agent(&self, route: &Route, any_time: bool) -> ureq::Agent {
        let now_ms = boottime_ms();
        let mut agents = self.agents.borrow_mut();
        agents.retain(|kept| now_ms.saturating_sub(kept.used_ms) < MAX_IDLE_MS);
        let same = |kept: &KeptAgent| kept.any_time == any_time && same_way(&kept.route, route);
        let mut kept = match agents.iter().position(same) {
            Some(at) => agents.remove(at),
            None => {
                let connector = RouteConnector {
                    route: route.clone(),
                    shared: Arc::clone(&self.shared),
                    resolver: Arc::clone(&self.resolver),
                    tls: Arc::clone(&self.tls),
                };
                let agent = ureq::Agent::with_parts(agent_config(any_time), connector, NoResolver);
                KeptAgent { route: route.clone(), any_time, agent, used_ms: now_ms }
            }
        };
        kept.used_ms = now_ms;
        let agent = kept.agent.clone();
        if agents.len() >= MAX_ROUTES {
            agents.remove(0);
        }
        agents.push(kept);
        agent
    }

    /// One request and its answer. A connection out of the pool that turns out dead is replaced once, if asking twice does no
    /// harm.
    fn hop(
        &self,
        hop: &Hop<'_>,
        patience: &Patience,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<HopEnd, NetError> {
        let mut only_new_connections = hop.new_connection;
        loop {
            match self.attempt(hop, patience, only_new_connections, on_body) {
                Err(error) if error.kind == NetErrorKind::Broken && !only_new_connections => {
                    let call = self.shared.call();
                    if call.new_connection || call.received || hop.method != "GET" {
                        return Err(error);
                    }
                    only_new_connections = true;
                }
                outcome => return outcome,
            }
        }
    }

    fn attempt(
        &self,
        hop: &Hop<'_>,
        patience: &Patience,
        only_new_connections: bool,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<HopEnd, NetError> {
        patience.check().map_err(|waited| waited.error("before the request"))?;
        let proxy = match &hop.route.unix_socket {
            Some(_) => None,
            None => Proxy::choose(&hop.route.proxy, &hop.url)?,
        };
        let request = hop.to_http(proxy.as_ref().filter(|_| !hop.url.https))?;
        let any_time = hop.certificate_time == CertificateTime::AnyTime;
        let agent = self.agent(&hop.route, any_time);
        {
            let mut call = self.shared.call();
            *call = Call::new(patience.clone());
            call.certificate_time = hop.certificate_time;
            call.absolute_form = proxy.as_ref().filter(|_| !hop.url.https).map(|_| hop.url.origin());
            call.proxy = proxy;
            call.body_follows = !hop.body.is_empty();
            call.only_new_connections = only_new_connections;
        }
        let outcome = if hop.has_body() {
            let (parts, ()) = request.into_parts();
            agent.run(http::Request::from_parts(parts, hop.body))
        } else {
            agent.run(request)
        };
        let response = outcome.map_err(|error| self.error(error, &hop.url))?;
        self.answer(hop, response, on_body)
    }

    fn answer(
        &self,
        hop: &Hop<'_>,
        response: http::Response<ureq::Body>,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<HopEnd, NetError> {
        let (parts, body) = response.into_parts();
        let mut head = Head { status: parts.status.as_u16(), headers: Vec::with_capacity(parts.headers.len()) };
        for (name, value) in &parts.headers {
            head.headers.push((name.as_str().to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        }
        drop(parts);
        let redirect = match (hop.route.follow_redirects, head.status) {
            (true, 301 | 302 | 303 | 307 | 308) => head.header("location").map(str::to_string),
            _ => None,
        };
        let mut reader = body.into_reader();
        let mut piece = vec![0; PIECE_BYTES];
        let mut body_bytes: u64 = 0;
        loop {
            let read = match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => return Err(self.error(ureq::Error::from(error), &hop.url)),
            };
            body_bytes = body_bytes.saturating_add(read as u64);
            if redirect.is_some() {
                if body_bytes > MAX_IGNORED_BODY_BYTES as u64 {
                    break;
                }
                continue;
            }
            if on_body(&head, piece.get(..read).unwrap_or_default()).is_break() {
                let text = format!("the answer of {} was refused", hop.url.shown());
                return Err(NetError { sent: true, ..failure(NetErrorKind::Refused, text) });
            }
        }
        if let Some(location) = redirect {
            return Ok(HopEnd::Redirect { status: head.status, location });
        }
        let (started_ms, new_connection) = {
            let call = self.shared.call();
            (call.started_ms, call.new_connection)
        };
        let duration_ms = started_ms.map_or(0, |started_ms| boottime_ms().saturating_sub(started_ms));
        Ok(HopEnd::Answer(Exchange { head, body_bytes, duration_ms, new_connection }))
    }

    /// Our own error where there is one, ureq's otherwise.
    fn error(&self, error: ureq::Error, url: &Url) -> NetError {
        let mut call = self.shared.call();
        let ours = call.failure.take();
        let sent = call.sent;
        drop(call);
        let error = match ours {
            Some(ours) => ours,
            None => {
                let kind = match &error {
                    ureq::Error::Io(_) => NetErrorKind::Broken,
                    ureq::Error::Http(_) | ureq::Error::BadUri(_) => NetErrorKind::Config,
                    ureq::Error::Timeout(_) => NetErrorKind::Timeout,
                    _ => NetErrorKind::Protocol,
                };
                failure(kind, format!("{}: {error}", url.shown()))
            }
        };
        NetError { sent, ..error }
    }
}

impl Net for RealNet {
    fn exchange(
        &self,
        request: &Request<'_>,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        let patience = Patience::new(&self.shared.stop, request.limits).with_stop_grace(request.stop_grace_ms);
        let mut hop = Hop::first(request)?;
        let mut seen = vec![hop.identity()];
        loop {
            let outcome = self.hop(&hop, &patience, on_body);
            let outcome = outcome.map_err(|error| NetError { sent: error.sent || seen.len() > 1, ..error });
            match outcome? {
                HopEnd::Answer(exchange) => return Ok(exchange),
                HopEnd::Redirect { status, location } => {
                    let next = hop.follow(status, &location);
                    let sent = |error: NetError| NetError { sent: true, ..error };
                    let next = next.map_err(sent)?;
                    let identity = next.identity();
                    let text = if seen.contains(&identity) {
                        format!("redirects in a circle at {}", next.url.shown())
                    } else if seen.len() > MAX_REDIRECTS {
                        format!("more than {MAX_REDIRECTS} redirects, the last to {}", next.url.shown())
                    } else {
                        String::new()
                    };
                    if !text.is_empty() {
                        return Err(sent(failure(NetErrorKind::Protocol, text)));
                    }
                    seen.push(identity);
                    hop = next;
                }
            }
        }
    }

    fn lookup(&self, name: &str, kind: DnsKind, limits: Limits) -> Result<Vec<Record>, NetError> {
        let patience = Patience::new(&self.shared.stop, limits);
        self.resolver.lock().unwrap_or_else(PoisonError::into_inner).lookup(name, kind, &patience)
    }
}

/// Whether connections of one route may serve the other.
fn same_way(a: &Route, b: &Route) -> bool {
    a.tls == b.tls && a.proxy == b.proxy && a.unix_socket == b.unix_socket
}

fn agent_config(any_time: bool) -> ureq::config::Config {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(AutoHeaderValue::None)
        .accept(AutoHeaderValue::None)
        .accept_encoding(AutoHeaderValue::None)
        .max_response_header_size(link::MAX_HEAD_BYTES)
        // A connection that was made without regard to dates serves one request only.
        .max_idle_connections(if any_time { 0 } else { MAX_IDLE_CONNECTIONS })
        .max_idle_connections_per_host(1)
        .max_idle_age(Duration::from_millis(MAX_IDLE_MS))
        .build()
}

/// How one request ended.
enum HopEnd {
    Answer(Exchange),
    Redirect { status: u16, location: String },
}

/// One request on the way to the answer.
struct Hop<'a> {
    method: &'a str,
    url: Url,
    headers: Vec<&'a (String, String)>,
    body: &'a [u8],
    route: Cow<'a, Route>,
    certificate_time: CertificateTime,
    new_connection: bool,
    /// The credentials of the first URL may be shown to this one.
    trusted: bool,
    /// From the first URL.
    credentials: Option<String>,
}

impl<'a> Hop<'a> {
    fn first(request: &Request<'a>) -> Result<Self, NetError> {
        let url = Url::parse(request.url)?;
        let credentials = url.credentials.as_ref().map(|(user, password)| basic(user, password));
        Ok(Self {
            method: request.method,
            url,
            headers: request.headers.iter().collect(),
            body: request.body,
            route: Cow::Borrowed(request.route),
            certificate_time: request.certificate_time,
            new_connection: request.new_connection,
            trusted: true,
            credentials,
        })
    }

    /// What makes two requests of a call the same.
    fn identity(&self) -> String {
        format!("{} {}", self.method, self.url.uri)
    }

    fn has_body(&self) -> bool {
        !self.body.is_empty() || matches!(self.method, "POST" | "PUT")
    }

    /// The next request after a redirect: as Go's client does it, but what proves who we are (credentials, the client's
    /// certificate, headers of the user's own, a body) goes along only to the same scheme, host and port, as in a browser, or
    /// from port 80 of a host to TLS on its port 443. Once lost it stays lost.
    fn follow(&self, status: u16, location: &str) -> Result<Self, NetError> {
        /// What we say in every request: no secret, and the page's format depends on it.
        const HARMLESS: [&str; 6] = [
            "accept",
            "accept-encoding",
            "content-type",
            "user-agent",
            "x-prometheus-scrape-timeout-seconds",
            "x-prometheus-refresh-interval-seconds",
        ];
        let url = self.url.join(location)?;
        let origin = |url: &Url| (url.https, url.port);
        let secured = (origin(&self.url), origin(&url)) == ((false, 80), (true, 443));
        let same = url.host == self.url.host && (origin(&self.url) == origin(&url) || secured);
        let trusted = self.trusted && same;
        let keeps_body = matches!(status, 307 | 308) || !self.has_body();
        if !trusted && keeps_body && !self.body.is_empty() {
            // It may hold a client secret.
            let text = format!("{} sends a request with a body on to {}", self.url.shown(), url.shown());
            return Err(failure(NetErrorKind::Protocol, text));
        }
        let headers = self.headers.iter().copied().filter(|(name, _)| {
            let is = |other: &&str| name.eq_ignore_ascii_case(other);
            let is_content = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("content-"));
            (trusted || HARMLESS.iter().any(is)) && (keeps_body || !is_content) && !is(&"host")
        });
        let mut route = self.route.clone();
        if !trusted && route.tls.cert.is_some() {
            let route = route.to_mut();
            (route.tls.cert, route.tls.key) = (None, None);
        }
        Ok(Self {
            method: if keeps_body { self.method } else { "GET" },
            headers: headers.collect(),
            body: if keeps_body { self.body } else { &[] },
            route,
            certificate_time: self.certificate_time,
            new_connection: self.new_connection,
            trusted,
            credentials: self.credentials.clone().filter(|_| trusted),
            url,
        })
    }

    /// `plain_proxy`: the proxy that reads this request itself.
    fn to_http(&self, plain_proxy: Option<&Proxy>) -> Result<http::Request<()>, NetError> {
        let bad = |what: &str| failure(NetErrorKind::Config, format!("{}: {what} is not valid", self.url.shown()));
        let mut request = http::Request::new(());
        *request.method_mut() = http::Method::from_bytes(self.method.as_bytes()).map_err(|_| bad("the method"))?;
        *request.uri_mut() = self.url.uri.clone();
        let mut add = |name: &str, value: &str, secret: bool| {
            let header =
                http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad(&format!("header name {name:?}")))?;
            let mut value = http::HeaderValue::from_bytes(value.as_bytes())
                .map_err(|_| bad(&format!("the value of header {name}")))?;
            value.set_sensitive(secret);
            request.headers_mut().append(header, value);
            Ok(())
        };
        let mut authorized = false;
        for (name, value) in &self.headers {
            authorized |= name.eq_ignore_ascii_case("authorization");
            add(name, value, true)?;
        }
        if let (Some(credentials), false) = (&self.credentials, authorized) {
            add("authorization", credentials, true)?;
        }
        if let Some(authorization) = plain_proxy.and_then(|proxy| proxy.authorization.as_ref()) {
            add("proxy-authorization", authorization, true)?;
        }
        Ok(request)
    }
}

/// ureq resolves before it looks for a connection that it has already; our connector resolves when it needs to.
#[derive(Debug)]
struct NoResolver;

impl UreqResolver for NoResolver {
    fn resolve(
        &self,
        _: &http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Ok(addresses)
    }
}
