//! The door to sockets and names.

use crate::model::settings::{DnsKind, ProxySettings, TlsSettings};
use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Requests over HTTP/1.1 and questions to the name servers. No call outlives its [`Limits`], and a signal to stop ends it.
pub trait Net {
    /// Sends one request and hands the body of the answer to `on_body` piece by piece, undecoded (`Content-Encoding` is the
    /// caller's). Any status is an answer, not an error. `Break` ends the exchange with [`NetErrorKind::Refused`].
    fn exchange(
        &self,
        request: &Request<'_>,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError>;

    /// Asks the system's name servers (`/etc/resolv.conf`; not `/etc/hosts`). No such name is an empty answer.
    fn lookup(&self, name: &str, kind: DnsKind, limits: Limits) -> Result<Vec<Record>, NetError>;
}

/// One HTTP request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// `GET`, `POST` or `PUT`.
    pub method: &'a str,
    /// `http://…` or `https://…`.
    pub url: &'a str,
    /// Headers in order; `Host` and `Content-Length` are added where they are missing.
    pub headers: &'a [(String, String)],
    /// The body; empty for none.
    pub body: &'a [u8],
    /// How to get there. Connections are kept and used again for an equal route and host.
    pub route: &'a Route,
    /// How long it may take.
    pub limits: Limits,
    /// The time that certificates are judged by.
    pub certificate_time: CertificateTime,
    /// Take no connection that was kept: what is asked must not come from where the last answer came from.
    pub new_connection: bool,
    /// How long the call may go on after a signal to stop, milliseconds.
    pub stop_grace_ms: u64,
}

impl Request<'_> {
    /// What a call may take after a signal to stop where nobody needs its end: an answer that is on its way still arrives.
    pub const STOP_GRACE_MS: u64 = 1_000;
}

/// How a host is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Certificates and versions.
    pub tls: TlsSettings,
    /// The proxy, if any.
    pub proxy: ProxySettings,
    /// Connect to this socket instead of the URL's host.
    pub unix_socket: Option<PathBuf>,
    /// Follow up to 10 redirects; otherwise they are answers like any other.
    pub follow_redirects: bool,
}

/// How long a call may take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The whole call, name resolution, connection and redirects included.
    pub total_ms: u64,
    /// The longest time in which no byte moves in either direction.
    pub stall_ms: u64,
}

/// The time that certificates are judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateTime {
    /// Wall time.
    #[default]
    Clock,
    /// This time, seconds since 1970.
    At(i64),
    /// Chain and name only: for a request without credentials that learns the time from `Date`.
    AnyTime,
}

/// Status line and headers of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values; at most 64 KiB in all.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of that name (given in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|(n, value)| (n == name).then_some(value.as_str()))
    }
}

/// How a successful exchange went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// The answer's head.
    pub head: Head,
    /// Bytes of the answer's body.
    pub body_bytes: u64,
    /// From the first byte to the last, in milliseconds.
    pub duration_ms: u64,
    /// The connection was made for this request.
    pub new_connection: bool,
}

/// An answer of the name servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// An address for A and AAAA, the target's name without the final dot otherwise.
    pub target: String,
    /// The port of an SRV record, 0 otherwise.
    pub port: u16,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetError {
    /// What the caller can do about it.
    pub kind: NetErrorKind,
    /// For people: what failed and with whom. Holds no credentials.
    pub text: String,
    /// Part of the request may have reached the other side.
    pub sent: bool,
}

/// What a failed call means to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetErrorKind {
    /// The name has no address, or no name server answered.
    Resolve,
    /// Nobody listens there, or there is no way there.
    Connect,
    /// Out of time; see [`Limits`].
    Timeout,
    /// The certificate was refused and not for its dates alone, or TLS failed otherwise.
    Tls,
    /// The certificate is good but for its dates: the clock may be wrong.
    CertificateDates,
    /// The connection broke.
    Broken,
    /// The answer is not HTTP, or over the limits on heads and redirects.
    Protocol,
    /// `on_body` said `Break`.
    Refused,
    /// The URL, a certificate file or a proxy setting is no good.
    Config,
    /// A signal asked the process to stop.
    Stopped,
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for NetError {}
