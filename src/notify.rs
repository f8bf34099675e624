//! Tells systemd how the service is (sd_notify(3)): datagrams to the socket that `NOTIFY_SOCKET` names.
//!
//! Does nothing without that variable. A message that cannot be delivered is lost: systemd's watchdog is the judge.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, or nowhere.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often systemd wants to hear `WATCHDOG=1`, halved as sd_watchdog_enabled(3) advises; milliseconds.
    pub watchdog_ms: Option<u64>,
}

impl Notifier {
    /// From the values of `NOTIFY_SOCKET` (a path, or `@name` for an abstract one) and `WATCHDOG_USEC`.
    pub fn new(notify_socket: Option<&str>, watchdog_usec: Option<&str>) -> Self {
        let address = notify_socket.and_then(|name| match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None => SocketAddr::from_pathname(name).ok(),
        });
        let socket = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        if let Some((socket, _)) = &socket {
            // The loop never waits for a full socket.
            let _ = socket.set_nonblocking(true);
        }
        let watchdog_ms = watchdog_usec.and_then(|usec| usec.parse::<u64>().ok()).map(|usec| (usec / 2000).max(1));
        Self { socket, watchdog_ms }
    }

    /// The service is up.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The loop has done a unit of work.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    /// Asks for a longer watchdog where one unit of work may take `longest_ms`: a scrape with a long time-out is no stuck
    /// loop (WATCHDOG_USEC, sd_notify(3)). Never asks for a shorter one than the unit says.
    pub fn widen_watchdog(&self, longest_ms: u64) {
        if let Some(watchdog_ms) = self.watchdog_ms {
            self.send(&format!("WATCHDOG_USEC={}", watchdog_ms.max(longest_ms).saturating_mul(2_000)));
        }
    }

    /// One line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// A new configuration is being read; [`Self::ready`] ends it. `monotonic_usec` is CLOCK_MONOTONIC, as systemd asks.
    pub fn reloading(&self, monotonic_usec: u64) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={monotonic_usec}"));
    }

    /// The service is going down.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// A unit of work (a clean stop) takes longer than usual: please wait this long.
    pub fn extend_timeout(&self, by: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()));
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}
