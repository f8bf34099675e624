//! How long a call may still wait: for its deadline, for the next byte, and for a signal that asks the process to stop.

use crate::env::clock::boottime_ms;
use crate::env::{Limits, NetError, NetErrorKind, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// No wait is longer than this before the stop flag is looked at again. A signal ends a wait at once where it arrives at
/// this thread; the slices are for one that came just before.
const SLICE_MS: u64 = 500;

/// The limits of one call, and what is left of them.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    stop: Arc<AtomicBool>,
    /// When this call first saw the stop flag, on the clock of [`boottime_ms`].
    stop_seen_ms: Arc<OnceLock<u64>>,
    /// On the clock of [`boottime_ms`].
    pub(crate) deadline_ms: u64,
    stall_ms: u64,
    /// A call that runs when the stop flag is raised may still end by itself for so long: a request whose answer is on its
    /// way would otherwise be sent a second time after the restart.
    stop_grace_ms: u64,
}

impl Patience {
    pub(crate) fn new(stop: &Arc<AtomicBool>, limits: Limits) -> Self {
        let deadline_ms = boottime_ms().saturating_add(limits.total_ms);
        Self {
            stop: Arc::clone(stop),
            stop_seen_ms: Arc::default(),
            deadline_ms,
            stall_ms: limits.stall_ms,
            stop_grace_ms: Request::STOP_GRACE_MS,
        }
    }

    /// The same call with another time after the stop flag.
    pub(crate) fn with_stop_grace(self, stop_grace_ms: u64) -> Self {
        Self { stop_grace_ms, ..self }
    }

    /// The same call with an earlier deadline: at most `ms` from now.
    pub(crate) fn at_most(&self, ms: u64) -> Self {
        let deadline_ms = self.deadline_ms.min(boottime_ms().saturating_add(ms));
        Self { deadline_ms, ..self.clone() }
    }

    /// The longest wait for one byte.
    pub(crate) fn stall_ms(&self) -> u64 {
        self.stall_ms
    }

    /// The longest wait for one byte over a connection that stands. Once the process is to stop nobody else is kept waiting: what
    /// was sent is given its whole time.
    pub(crate) fn silence_ms(&self) -> u64 {
        if self.grace_ms().is_some() { self.stall_ms.max(self.stop_grace_ms) } else { self.stall_ms }
    }

    /// When the call has to end, on the clock of [`boottime_ms`].
    fn end_ms(&self) -> u64 {
        self.grace_ms().map_or(self.deadline_ms, |grace_ms| self.deadline_ms.max(boottime_ms() + grace_ms))
    }

    pub(crate) fn left_ms(&self) -> u64 {
        self.end_ms().saturating_sub(boottime_ms())
    }

    /// What is left of the time after the stop flag, once it is raised.
    fn grace_ms(&self) -> Option<u64> {
        if !self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let seen_ms = *self.stop_seen_ms.get_or_init(boottime_ms);
        Some((seen_ms + self.stop_grace_ms).saturating_sub(boottime_ms()))
    }

    /// Fails when there is no time left or the process is to stop.
    pub(crate) fn check(&self) -> Result<(), Waited> {
        if self.grace_ms() == Some(0) {
            return Err(Waited::Stopped);
        }
        if self.left_ms() == 0 { Err(Waited::TooLong) } else { Ok(()) }
    }

    /// Waits until one of the files is ready or `ms` have passed, whichever comes first; `Ok(false)` is the latter.
    pub(crate) fn wait_at_most(&self, files: &mut [PollFd<'_>], ms: u64) -> Result<bool, Waited> {
        let until_ms = boottime_ms().saturating_add(ms);
        loop {
            self.check()?;
            let left_ms = until_ms.min(self.end_ms()).saturating_sub(boottime_ms());
            let slice_ms = left_ms.min(self.grace_ms().unwrap_or(SLICE_MS));
            let slice = Timespec { tv_sec: 0, tv_nsec: (slice_ms * 1_000_000) as _ };
            match poll(files, Some(&slice)) {
                Ok(0) if boottime_ms() >= until_ms => return Ok(false),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                // Out of kernel memory, nothing else is possible here: as good as nothing happening.
                Err(_) => return Err(Waited::TooLong),
            }
        }
    }

    /// Waits until the file is ready; a wait longer than the stall limit is too long.
    pub(crate) fn wait(&self, file: impl AsFd, events: PollFlags) -> Result<(), Waited> {
        let mut files = [PollFd::from_borrowed_fd(file.as_fd(), events)];
        let mut ready = self.wait_at_most(&mut files, self.stall_ms)?;
        if !ready && let Some(grace_ms) = self.grace_ms() {
            // The process is about to stop and nobody else is kept waiting: what was sent is given its whole time.
            ready = self.wait_at_most(&mut files, grace_ms)?;
        }
        if ready { Ok(()) } else { Err(Waited::TooLong) }
    }
}

/// Why a wait ended without its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The deadline or the stall limit.
    TooLong,
    /// The stop flag.
    Stopped,
}

impl Waited {
    /// `during` completes "timed out ...", for instance "connecting to 10.0.0.1:80".
    pub(crate) fn error(self, during: &str) -> NetError {
        match self {
            Self::TooLong => failure(NetErrorKind::Timeout, format!("timed out {during}")),
            Self::Stopped => failure(NetErrorKind::Stopped, format!("stopped {during}")),
        }
    }
}

/// An error of which `sent` is filled in later, where it is known.
pub(crate) fn failure(kind: NetErrorKind, text: impl Into<String>) -> NetError {
    NetError { kind, text: text.into(), sent: false }
}
