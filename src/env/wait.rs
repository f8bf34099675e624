//! Signals, and the main loop's sleep that they end.

use super::clock::boottime_ms;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// SIGTERM and SIGINT ask to stop, SIGHUP to read the configuration anew. SIGPIPE is ignored, as Rust's runtime has it: a closed
/// socket or pipe is an error where it is written to.
#[derive(Debug)]
pub struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    /// A byte arrives with every signal, so that one that comes just before the sleep ends it too.
    wake: UnixStream,
}

impl Signals {
    /// From here on the signals do not kill the process. To be called once, early.
    pub fn install() -> io::Result<Self> {
        let (wake, write_end) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let (stop, reload) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for (signal, flag) in [(SIGTERM, &stop), (SIGINT, &stop), (SIGHUP, &reload)] {
            // The flag before the byte: whoever wakes must see it.
            signal_hook::flag::register(signal, Arc::clone(flag))?;
            signal_hook::low_level::pipe::register(signal, write_end.try_clone()?)?;
        }
        Ok(Self { stop, reload, wake })
    }

    /// Set once and for all by SIGTERM or SIGINT; for [`super::RealNet::new`].
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Whether SIGHUP came since the last time this was asked.
    pub fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }

    /// Sleeps so long, or until any of the signals. Returns at once when a signal came since the last sleep.
    pub fn wait_ms(&self, ms: u64) {
        let until_ms = boottime_ms().saturating_add(ms);
        loop {
            let left_ms = until_ms.saturating_sub(boottime_ms());
            let left =
                Timespec { tv_sec: (left_ms / 1000).min(86_400) as _, tv_nsec: (left_ms % 1000 * 1_000_000) as _ };
            match poll(&mut [PollFd::new(&self.wake, PollFlags::IN)], Some(&left)) {
                Ok(0) if left_ms > 0 => {}
                // The byte that the signal left is there now: the next round takes it.
                Err(Errno::INTR) => {}
                _ => break,
            }
        }
        // What is left over is forgotten: the flags say all.
        let mut bytes = [0; 64];
        while matches!((&self.wake).read(&mut bytes), Ok(read) if read == bytes.len()) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_set_their_flags_and_end_the_sleep() {
        let signals = Signals::install().unwrap();
        let started_ms = boottime_ms();
        signals.wait_ms(30);
        assert!(boottime_ms() - started_ms >= 30);

        signal_hook::low_level::raise(SIGHUP).unwrap();
        let started_ms = boottime_ms();
        signals.wait_ms(60_000);
        assert!(boottime_ms() - started_ms < 10_000, "a signal before the sleep ends it");
        assert!(signals.take_reload() && !signals.take_reload());
        assert!(!signals.stop_flag().load(Ordering::Relaxed));

        signal_hook::low_level::raise(SIGTERM).unwrap();
        signals.wait_ms(60_000);
        assert!(signals.stop_flag().load(Ordering::Relaxed));
        let started_ms = boottime_ms();
        signals.wait_ms(20);
        assert!(boottime_ms() - started_ms >= 20, "each signal ends one sleep only");
    }
}
