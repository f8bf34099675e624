//! From a URL to a connection: proxy or not, names, the race of addresses, Unix sockets, CONNECT, TLS.

use super::call::Shared;
use super::link::Link;
use super::patience::{Patience, failure};
use super::proxy::Proxy;
use super::secret::reveal;
use super::tls::TlsConfigs;
use crate::env::clock::boottime_ms;
use crate::env::dns::Resolver;
use crate::env::{NetError, NetErrorKind, Route};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, sockopt};
use std::fmt;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use ureq::http::Uri;
use ureq::unversioned::transport::{ConnectionDetails, Connector};

/// How long one address may take before the next one is tried beside it (RFC 8305, section 5).
const NEXT_ADDRESS_MS: u64 = 250;
/// So many addresses of a name are tried at most.
const MAX_ADDRESSES: usize = 8;

/// Makes the connections of one route.
pub(super) struct RouteConnector {
    pub route: Route,
    pub shared: Arc<Shared>,
    pub resolver: Arc<Mutex<Resolver>>,
    pub tls: Arc<Mutex<TlsConfigs>>,
}

impl Connector for RouteConnector {
    type Out = Link;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Link>, ureq::Error> {
        match self.link(details.uri, details.needs_tls()) {
            Ok(link) => Ok(Some(link)),
            Err(error) => Err(self.shared.call().fail(error)),
        }
    }
}

impl RouteConnector {
    fn link(&self, uri: &Uri, https: bool) -> Result<Link, NetError> {
        let (patience, proxy, certificate_time) = {
            let mut call = self.shared.call();
            call.new_connection = true;
            call.only_new_connections = false;
            (call.patience.clone(), call.proxy.clone(), call.certificate_time)
        };
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = &*host.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let link = match (&self.route.unix_socket, &proxy) {
            (Some(path), _) => {
                let peer = path.display().to_string();
                Link::plain(connect_unix(path, &patience)?, Arc::clone(&self.shared), peer)
            }
            (None, None) => self.link_to(host, port, &patience)?,
            (None, Some(proxy)) => {
                let link = self.link_to(&proxy.host, proxy.port, &patience)?;
                if https {
                    self.tunnel(&link, proxy, host, port, &patience)?;
                }
                link
            }
        };
        if !https {
            return Ok(link);
        }
        let name = self.route.tls.server_name.as_deref().unwrap_or(host);
        let tls = {
            let mut configs = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
            configs.connection(&self.route.tls, certificate_time, name)?
        };
        link.secure(tls, &patience)
    }

    /// Until the connection stands nothing has moved: silent name servers and a silent host share one stall limit, so that a
    /// link which is down costs that once.
    fn link_to(&self, host: &str, port: u16, patience: &Patience) -> Result<Link, NetError> {
        let (started_ms, stall_ms) = (boottime_ms(), patience.stall_ms());
        let quick = patience.at_most(stall_ms);
        let addresses = self.resolver.lock().unwrap_or_else(PoisonError::into_inner).addresses(host, &quick)?;
        let spent_ms = boottime_ms() - started_ms;
        let quick = patience.at_most(stall_ms.saturating_sub(spent_ms).max(stall_ms / 2));
        let (socket, address) = connect_any(&addresses, port, &quick).map_err(|mut error| {
            if host.parse::<IpAddr>().is_err() {
                let _ = write!(error.text, " ({host})");
            }
            error
        })?;
        self.resolver.lock().unwrap_or_else(PoisonError::into_inner).prefer(host, address.ip());
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        let peer = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Ok(Link::plain(socket, Arc::clone(&self.shared), peer))
    }

    /// Asks the proxy for a tunnel (RFC 9110, section 9.3.6).
    fn tunnel(&self, link: &Link, proxy: &Proxy, host: &str, port: u16, patience: &Patience) -> Result<(), NetError> {
        let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(value) = &proxy.authorization {
            let _ = write!(head, "Proxy-Authorization: {value}\r\n");
        }
        for (name, value) in &self.route.proxy.connect_headers {
            let value = reveal(value, "proxy_connect_header")?;
            if name.is_empty()
                || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
                || value.contains(['\r', '\n'])
            {
                return Err(failure(NetErrorKind::Config, format!("proxy_connect_header {name:?} is not a header")));
            }
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        let during = format!("asking the proxy {}:{} for {target}", proxy.host, proxy.port);
        link.send_raw(head.as_bytes(), patience, &during)?;
        let answer = link.read_head_raw(patience, &during)?;
        let line = String::from_utf8_lossy(answer.split(|&byte| byte == b'\r').next().unwrap_or_default()).into_owned();
        let status =
            line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|text| text.parse::<u16>().ok());
        let said = |kind, what: &str| Err(failure(kind, format!("{what} {during}")));
        match status {
            Some(200..=299) => Ok(()),
            Some(407) => said(NetErrorKind::Config, "the credentials were refused (407)"),
            Some(status) => said(NetErrorKind::Connect, &format!("refused with status {status}")),
            None => said(NetErrorKind::Protocol, "the answer was not HTTP"),
        }
    }
}

impl fmt::Debug for RouteConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RouteConnector")
    }
}

/// Connects to the first address that answers. The next one is tried as soon as one fails, or beside it after a quarter second;
/// none is given up before the deadline.
pub(crate) fn connect_any(
    addresses: &[IpAddr],
    port: u16,
    patience: &Patience,
) -> Result<(OwnedFd, SocketAddr), NetError> {
    let mut waiting = addresses.iter().take(MAX_ADDRESSES).map(|&ip| SocketAddr::new(ip, port));
    connect_first(&mut waiting, patience)
}

/// As [`connect_any`], for complete socket addresses.
pub(crate) fn connect_first(
    waiting: &mut dyn Iterator<Item = SocketAddr>,
    patience: &Patience,
) -> Result<(OwnedFd, SocketAddr), NetError> {
    let mut trying: Vec<(OwnedFd, SocketAddr)> = Vec::new();
    let mut last: Option<(SocketAddr, Errno)> = None;
    let mut first = None;
    let started_ms = boottime_ms();
    let stall_ms = patience.stall_ms();
    loop {
        if let Some(address) = waiting.next() {
            first.get_or_insert(address);
            match start(address) {
                Ok(socket) => trying.push((socket, address)),
                Err(error) => {
                    last = Some((address, error));
                    continue;
                }
            }
        } else if trying.is_empty() {
            return Err(match last {
                Some((address, error)) => {
                    failure(NetErrorKind::Connect, format!("connecting to {address}: {}", std::io::Error::from(error)))
                }
                None => failure(NetErrorKind::Resolve, "no address"),
            });
        }
        // Until one is connected, the time for the next address has come, or all have failed.
        let next_ms = boottime_ms().saturating_add(NEXT_ADDRESS_MS);
        loop {
            let now_ms = boottime_ms();
            let pause_ms = match waiting.size_hint().1 {
                Some(0) => started_ms.saturating_add(stall_ms).saturating_sub(now_ms),
                _ => next_ms.saturating_sub(now_ms),
            };
            let mut files: Vec<_> = trying.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::OUT)).collect();
            let ready = patience.wait_at_most(&mut files, pause_ms);
            let ready = match ready {
                Ok(false) if waiting.size_hint().1 == Some(0) => Err(super::patience::Waited::TooLong),
                other => other,
            };
            let ready = ready.map_err(|waited| match first {
                Some(address) => waited.error(&format!("connecting to {address}")),
                None => waited.error("connecting"),
            })?;
            if !ready {
                break;
            }
            let done: Vec<bool> = files.iter().map(|file| !file.revents().is_empty()).collect();
            drop(files);
            let mut still = Vec::with_capacity(trying.len());
            let mut failed = false;
            for ((socket, address), done) in trying.drain(..).zip(done) {
                if !done {
                    still.push((socket, address));
                    continue;
                }
                match sockopt::socket_error(&socket) {
                    Ok(Ok(())) => return Ok((socket, address)),
                    Ok(Err(error)) | Err(error) => {
                        last = Some((address, error));
                        failed = true;
                    }
                }
            }
            trying = still;
            if failed {
                break;
            }
        }
    }
}

fn start(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) | Err(Errno::INTR) => Ok(socket),
        Err(error) => Err(error),
    }
}

fn connect_unix(path: &Path, patience: &Patience) -> Result<OwnedFd, NetError> {
    let failed = |error: Errno| {
        let error = std::io::Error::from(error);
        failure(NetErrorKind::Connect, format!("connecting to {}: {error}", path.display()))
    };
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
    let started_ms = boottime_ms();
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            // The queue of the listener is full; there is no event to wait for.
            Err(Errno::AGAIN) | Err(Errno::INTR) => {
                let during = format!("connecting to {}", path.display());
                if boottime_ms().saturating_sub(started_ms) >= patience.stall_ms() {
                    return Err(super::patience::Waited::TooLong.error(&during));
                }
                patience.wait_at_most(&mut [], 20).map_err(|waited| waited.error(&during))?;
            }
            Err(error) => return Err(failed(error)),
        }
    }
}
