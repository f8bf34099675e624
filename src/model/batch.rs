//! What CloudWatch Logs takes in one PutLogEvents request.
//!
//! The rules, from the API reference of PutLogEvents (2026) unless something else is said:
//!
//! | | |
//! | --- | --- |
//! | an event | its message in UTF-8 and [`Event::OVERHEAD_BYTES`], [`EVENT_BYTES_MAX`] together (since April 2025) |
//! | a batch's bytes | the sum of its events', 1,048,576 |
//! | a batch's events | 10,000 |
//! | a batch's span | "cannot span more than 24 hours"; whether 24 hours exactly are taken is not known, so it is less |
//!
//! A batch that breaks one of them is refused as a whole. Everybody who puts events together asks [`Fill`].

use super::Event;

/// The most that one event may count ([`Event::billed_bytes`]).
pub const EVENT_BYTES_MAX: usize = 1_048_576;

/// What later marks may add to a finished message, in bytes: the original time of an event that is given a new one, the
/// word that its time is an estimate, and more digits in its `Timestamp` than it was made with. Whoever makes an event
/// leaves that much room below [`EVENT_BYTES_MAX`].
pub const MARKS_BYTES_MAX: usize = "\"OriginalTimestamp\":\"\",".len()
    + "\"TimestampEstimated\":\"true\",".len()
    // The longest integer as the original time, and as the new time in the place of the shortest.
    + "-9223372036854775808".len()
    + "-9223372036854775808".len()
    - "0".len();

/// Limits on one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// The sum of the events' [`Event::billed_bytes`].
    pub billed_bytes: u64,
    /// Events.
    pub events: u32,
    /// From the oldest event's time to the newest's, milliseconds; this much is still allowed.
    pub span_ms: u64,
}

impl BatchLimits {
    /// The limits of the API.
    pub const API: Self = Self { billed_bytes: 1_048_576, events: 10_000, span_ms: 24 * 3_600_000 - 1 };
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self::API
    }
}

/// A batch as it fills up; each event costs the same, however many there are.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    limits: BatchLimits,
    events: u32,
    billed_bytes: u64,
    first_ms: i64,
    last_ms: i64,
}

impl Fill {
    /// An empty batch.
    pub const fn new(limits: BatchLimits) -> Self {
        Self { limits, events: 0, billed_bytes: 0, first_ms: i64::MAX, last_ms: i64::MIN }
    }

    /// Takes an event of any time, which counts `billed_bytes`, if it fits; says whether it did. An empty batch takes every
    /// event, so that one which is too large for the API is not waited for for ever: it is refused, and dropped, by itself.
    pub fn take(&mut self, timestamp_ms: i64, billed_bytes: u64) -> bool {
        let billed_bytes = self.billed_bytes.saturating_add(billed_bytes);
        let first_ms = self.first_ms.min(timestamp_ms);
        let last_ms = self.last_ms.max(timestamp_ms);
        let fits = billed_bytes <= self.limits.billed_bytes
            && self.events < self.limits.events
            && last_ms.abs_diff(first_ms) <= self.limits.span_ms;
        if self.events > 0 && !fits {
            return false;
        }
        *self = Self { limits: self.limits, events: self.events + 1, billed_bytes, first_ms, last_ms };
        true
    }

    /// Events so far.
    pub const fn events(&self) -> u32 {
        self.events
    }

    /// What they count against the limit.
    pub const fn billed_bytes(&self) -> u64 {
        self.billed_bytes
    }

    /// The oldest event's time, milliseconds since 1970; `i64::MAX` while there is none.
    pub const fn first_ms(&self) -> i64 {
        self.first_ms
    }

    /// The newest event's time, milliseconds since 1970; `i64::MIN` while there is none.
    pub const fn last_ms(&self) -> i64 {
        self.last_ms
    }
}

/// How many of these events, from the first on, make one batch; at least one if there is one.
pub fn fits<'a>(events: impl IntoIterator<Item = &'a Event>, limits: BatchLimits) -> usize {
    let mut fill = Fill::new(limits);
    events.into_iter().take_while(|event| fill.take(event.timestamp_ms, event.billed_bytes() as u64)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many events of these times and bytes are taken before the first that is not.
    fn taken(events: &[(i64, u64)], limits: BatchLimits) -> usize {
        let mut fill = Fill::new(limits);
        events.iter().take_while(|(timestamp_ms, billed_bytes)| fill.take(*timestamp_ms, *billed_bytes)).count()
    }

    #[test]
    fn a_batch_spans_less_than_24_hours_in_whatever_order_its_events_come() {
        let day = 86_400_000;
        for (times, count) in [
            (&[0, day - 1, day][..], 2),
            (&[day, 1, 0], 2),
            (&[5, 5 - day + 1, 6, 5], 2),
            (&[i64::MIN, i64::MAX], 1),
            (&[i64::MAX, i64::MIN, 0], 1),
        ] {
            let events: Vec<(i64, u64)> = times.iter().map(|time| (*time, 27)).collect();
            assert_eq!(taken(&events, BatchLimits::API), count, "{times:?}");
        }
    }

    #[test]
    fn bytes_and_number_end_a_batch_and_an_empty_one_takes_anything() {
        assert_eq!(taken(&[(0, 1_048_000), (0, 576), (0, 1)], BatchLimits::API), 2);
        assert_eq!(taken(&vec![(0, 27); 10_001], BatchLimits::API), 10_000);
        assert_eq!(taken(&[(0, u64::MAX), (0, u64::MAX)], BatchLimits::API), 1);
        let none = BatchLimits { billed_bytes: 0, events: 0, span_ms: 0 };
        assert_eq!(taken(&[(0, 27), (0, 27)], none), 1);
    }

    #[test]
    fn a_fill_knows_what_it_took_and_nothing_of_what_it_refused() {
        let mut fill = Fill::new(BatchLimits::API);
        assert!(fill.take(7, 100) && fill.take(3, 50));
        assert!(!fill.take(86_400_003, 1));
        assert_eq!((fill.events(), fill.billed_bytes(), fill.first_ms(), fill.last_ms()), (2, 150, 3, 7));
    }
}
