//! How long to wait after a failure.

/// The longest wait while an outage is young, in milliseconds.
const YOUNG_CAP_MS: u64 = 10_000;
/// The longest wait afterwards.
const OLD_CAP_MS: u64 = 60_000;
/// How long an outage is young.
const YOUNG_MS: u64 = 600_000;
/// The longest wait of our own when the service asks for fewer requests, as in the SDKs.
const THROTTLE_CAP_MS: u64 = 20_000;
/// How far over our own wait `x-amz-retry-after` may go, as in the SDKs.
const RETRY_AFTER_SLACK_MS: u64 = 5_000;

/// What a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// The link or the service is down.
    Outage,
    /// The service asks for fewer requests.
    Throttle,
    /// The request was refused and time alone does not help: a person has to act.
    Refusal,
}

/// What the other side asked us to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// `x-amz-retry-after`, milliseconds.
    pub(super) aws_ms: Option<u64>,
    /// `Retry-After`, milliseconds.
    pub(super) http_ms: Option<u64>,
}

/// Failures in a row, and the end of the wait after the last one. Times are since boot, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    /// Failures in a row.
    pub(super) failures: u32,
    /// When the first of them was.
    pub(super) since_ms: Option<u64>,
    /// Nothing is tried before.
    pub(super) until_ms: u64,
}

impl Backoff {
    /// Works again.
    pub(super) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// Failed: waits between half and all of a span that doubles with each failure.
    pub(super) fn fail(&mut self, now_ms: u64, pace: Pace, asked: Asked, random: u64) {
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        let cap_ms = if now_ms.saturating_sub(since_ms) < YOUNG_MS { YOUNG_CAP_MS } else { OLD_CAP_MS };
        let (first_ms, own_cap_ms) = match pace {
            Pace::Outage => (1_000, cap_ms),
            Pace::Throttle => (1_000, THROTTLE_CAP_MS),
            Pace::Refusal => (5_000, cap_ms),
        };
        let span_ms = (first_ms << self.failures.min(10)).min(own_cap_ms);
        let mut wait_ms = span_ms / 2 + random % (span_ms / 2 + 1);
        if let Some(ms) = asked.aws_ms {
            wait_ms = wait_ms.max(ms.min(wait_ms + RETRY_AFTER_SLACK_MS));
        }
        if let Some(ms) = asked.http_ms {
            // A gateway may ask for an hour; the link may be back in a minute.
            wait_ms = wait_ms.max(ms.min(own_cap_ms));
        }
        self.failures = self.failures.saturating_add(1);
        self.until_ms = now_ms.saturating_add(wait_ms);
    }

    /// Waits this long, without counting a failure of the other side.
    pub(super) fn pause(&mut self, now_ms: u64, wait_ms: u64) {
        self.since_ms.get_or_insert(now_ms);
        self.until_ms = now_ms.saturating_add(wait_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits of an outage that never ends, with the least and the most random.
    fn waits(pace: Pace, asked: Asked, random: u64, total_ms: u64) -> Vec<u64> {
        let (mut backoff, mut now_ms, mut waits) = (Backoff::default(), 5_000, Vec::new());
        while now_ms < total_ms {
            backoff.fail(now_ms, pace, asked, random);
            waits.push(backoff.until_ms - now_ms);
            now_ms = backoff.until_ms;
        }
        waits
    }

    #[test]
    fn an_outage_is_tried_every_ten_seconds_and_after_ten_minutes_every_minute() {
        for random in [0, 3, u64::MAX, 123_456_789] {
            let early = waits(Pace::Outage, Asked::default(), random, 600_000);
            assert!(early[0] <= 1_000 && early.iter().all(|ms| *ms <= 10_000), "{early:?}");
            let late = waits(Pace::Outage, Asked::default(), random, 7_200_000);
            assert!(late.iter().all(|ms| *ms <= 60_000) && late.last().is_some_and(|ms| *ms >= 30_000));
            assert!(
                waits(Pace::Refusal, Asked::default(), random, 600_000).iter().all(|ms| (2_500..=10_000).contains(ms))
            );
        }
    }

    #[test]
    fn the_service_may_ask_for_more_within_bounds() {
        let asked = |aws_ms, http_ms| Asked { aws_ms, http_ms };
        assert_eq!(waits(Pace::Throttle, asked(Some(1_500), None), 0, 5_001), [1_500]);
        assert_eq!(waits(Pace::Throttle, asked(Some(3_600_000), None), 0, 5_001), [5_500]);
        assert_eq!(waits(Pace::Throttle, asked(Some(10), None), 0, 5_001), [500]);
        assert_eq!(waits(Pace::Outage, asked(None, Some(3_600_000)), 0, 5_001), [10_000]);
        assert!(waits(Pace::Throttle, Asked::default(), u64::MAX, 3_600_000).iter().all(|ms| *ms <= 20_000));
    }
}
