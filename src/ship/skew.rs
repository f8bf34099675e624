//! What the service's clock shows, learnt from the `Date` of its answers.
//!
//! The algorithm is the one the AWS SDKs share (their `clock-skew-test-cases.json` is the test). Ours keeps the difference to
//! the time since boot instead of wall time, so that a step of the wall clock does not spoil what was learnt.

use crate::env::{Clock, Head};
use std::time::UNIX_EPOCH;

/// From this error of the signing time on, a refused signature is put down to the clock.
const REFUSED_FOR_SKEW_MS: u64 = 4 * 60_000;
/// An exchange that took longer says too little about the time.
const TRUSTED_EXCHANGE_MS: u64 = 15 * 60_000;

/// The service's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServiceClock {
    /// Service time minus time since boot, once an answer told it.
    ahead_of_boot_ms: Option<i64>,
}

impl ServiceClock {
    /// The time by the service's clock, or wall time until an answer told better.
    pub(super) fn now_ms(&self, clock: &dyn Clock) -> i64 {
        match self.ahead_of_boot_ms {
            Some(ahead) => ahead.saturating_add_unsigned(clock.monotonic_ms()),
            None => clock.wall_ms(),
        }
    }

    /// How far the service's clock is ahead of wall time.
    pub(super) fn skew_ms(&self, clock: &dyn Clock) -> Option<i64> {
        self.ahead_of_boot_ms?;
        Some(self.now_ms(clock).saturating_sub(clock.wall_ms()))
    }

    /// Takes the time from an answer to a request that was sent and answered at these times since boot. Answers from a cache,
    /// without `Date`, or after too long teach nothing.
    pub(super) fn learn(&mut self, head: &Head, sent_ms: u64, received_ms: u64) -> bool {
        let took_ms = received_ms.saturating_sub(sent_ms);
        if head.header("age").is_some() || took_ms > TRUSTED_EXCHANGE_MS {
            return false;
        }
        let date = head.header("date").and_then(|text| httpdate::parse_http_date(text).ok());
        let Some(since_1970) = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()) else { return false };
        let Ok(service_ms) = i64::try_from(since_1970.as_millis()) else { return false };
        self.ahead_of_boot_ms = Some(service_ms.saturating_sub_unsigned(sent_ms.saturating_add(took_ms / 2)));
        true
    }

    /// Whether a request signed for `signed_ms` was off by enough to be refused for it.
    pub(super) fn explains_refusal(&self, signed_ms: i64, clock: &dyn Clock) -> bool {
        self.ahead_of_boot_ms.is_some() && self.now_ms(clock).abs_diff(signed_ms) > REFUSED_FOR_SKEW_MS
    }
}
