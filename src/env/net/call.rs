//! What the running call and the connections that ureq holds for it tell each other.
//!
//! ureq calls our connector and our transport with arguments of its own; what it cannot carry (limits, the proxy, our errors)
//! lies here, and there is one call at a time.

use super::patience::Patience;
use super::proxy::Proxy;
use crate::env::clock::boottime_ms;
use crate::env::{CertificateTime, Limits, NetError};
use std::borrow::Cow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One request of a call; a redirect or a repetition is another.
#[derive(Debug)]
pub(super) struct Call {
    pub patience: Patience,
    pub certificate_time: CertificateTime,
    pub proxy: Option<Proxy>,
    /// `http://host:port` where the proxy must be told the whole URL.
    pub absolute_form: Option<String>,
    /// A body comes after the head.
    pub body_follows: bool,
    /// Take no connection from the pool: the last one was dead.
    pub only_new_connections: bool,
    /// The connection was made for this request.
    pub new_connection: bool,
    /// When the first byte went out.
    pub started_ms: Option<u64>,
    /// A byte of the request was handed to the kernel.
    pub sent: bool,
    /// A byte of the answer came in.
    pub received: bool,
    /// What went wrong, where ureq's error would say less.
    pub failure: Option<NetError>,
}

impl Call {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            certificate_time: CertificateTime::Clock,
            proxy: None,
            absolute_form: None,
            body_follows: false,
            only_new_connections: false,
            new_connection: false,
            started_ms: None,
            sent: false,
            received: false,
            failure: None,
        }
    }

    /// Keeps the error for the end of the call and gives ureq one to hand through.
    pub(super) fn fail(&mut self, error: NetError) -> ureq::Error {
        self.failure.get_or_insert(error);
        ureq::Error::ConnectionFailed
    }

    /// ureq writes `GET /path`, which is right for the server; a proxy wants `GET http://host/path` (RFC 9112, section 3.2.2).
    pub(super) fn as_it_goes_out<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if self.started_ms.is_some() {
            return Cow::Borrowed(bytes);
        }
        self.started_ms = Some(boottime_ms());
        match (&self.absolute_form, bytes.iter().position(|&byte| byte == b' ')) {
            (Some(origin), Some(space)) => {
                let (method, rest) = bytes.split_at(space + 1);
                Cow::Owned([method, origin.as_bytes(), rest].concat())
            }
            _ => Cow::Borrowed(bytes),
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub stop: Arc<AtomicBool>,
    call: Mutex<Call>,
}

impl Shared {
    pub(super) fn new(stop: Arc<AtomicBool>) -> Self {
        let idle = Patience::new(&stop, Limits { total_ms: 0, stall_ms: 0 });
        Self { stop, call: Mutex::new(Call::new(idle)) }
    }

    /// The running call. A connection holds it while it reads or writes; nothing below that asks for it again.
    pub(super) fn call(&self) -> MutexGuard<'_, Call> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_told_the_whole_url_once() {
        let stop = Arc::new(AtomicBool::new(false));
        let mut call = Call::new(Patience::new(&stop, Limits { total_ms: 1, stall_ms: 1 }));
        call.absolute_form = Some("http://h:1".into());
        assert_eq!(&*call.as_it_goes_out(b"GET /x HTTP/1.1\r\n"), b"GET http://h:1/x HTTP/1.1\r\n");
        assert_eq!(&*call.as_it_goes_out(b"a b\r\n"), b"a b\r\n");
    }
}
