//! What one answer's `Date` says of the time.

/// `Date` has whole seconds and was written somewhere between sending and receiving: the true minus the monotonic time lies
/// between two bounds, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    earliest_ms: i64,
    latest_ms: i64,
    /// The connection was made for the request: not the one that the answer before came over.
    pub new_connection: bool,
}

/// Bounds this far apart still agree: clocks drift and servers differ.
const SLACK_MS: i64 = 1_000;
/// What `Date` cuts off.
const SECOND_MS: i64 = 1_000;

impl Heard {
    /// A `Date` of that time, in the answer to a request that was sent and answered at these times since boot.
    pub fn between(date_ms: i64, sent_ms: u64, received_ms: u64, new_connection: bool) -> Self {
        Self {
            earliest_ms: date_ms.saturating_sub_unsigned(received_ms.max(sent_ms)),
            latest_ms: date_ms.saturating_add(SECOND_MS).saturating_sub_unsigned(sent_ms),
            new_connection,
        }
    }

    /// As if an answer had said just that.
    pub(super) fn exactly(base_ms: i64) -> Self {
        Self {
            earliest_ms: base_ms.saturating_sub(SECOND_MS),
            latest_ms: base_ms.saturating_add(SECOND_MS),
            new_connection: false,
        }
    }

    /// Whether this can be the base.
    pub(super) fn agrees_with(&self, base_ms: i64) -> bool {
        base_ms >= self.earliest_ms.saturating_sub(SLACK_MS) && base_ms <= self.latest_ms.saturating_add(SLACK_MS)
    }

    /// Whether both can be right.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        self.earliest_ms <= other.latest_ms.saturating_add(SLACK_MS)
            && other.earliest_ms <= self.latest_ms.saturating_add(SLACK_MS)
    }

    /// The base in the middle.
    pub(super) fn middle_ms(&self) -> i64 {
        self.earliest_ms.midpoint(self.latest_ms)
    }

    /// Whether the time that it tells is before that one.
    pub(super) fn is_before(&self, ms: i64, monotonic_ms: u64) -> bool {
        self.latest_ms.saturating_add_unsigned(monotonic_ms) < ms
    }

    /// Keeps what both allow; the newer where they do not touch, since the clock since boot drifts.
    pub(super) fn narrow(&mut self, newer: &Self) {
        let (earliest_ms, latest_ms) = (self.earliest_ms.max(newer.earliest_ms), self.latest_ms.min(newer.latest_ms));
        *self = if earliest_ms <= latest_ms { Self { earliest_ms, latest_ms, ..*self } } else { *newer };
    }
}
