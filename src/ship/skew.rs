//! What the service's clock shows, learnt from the `Date` of its answers: the time that signatures are made for.
//!
//! A signature for a wrong time is refused, which does no harm, so the last answer is believed here. What events are moved
//! by and what is dropped for its age asks for more ([`crate::clock`]); it is handed every `Date` as evidence.
//! The algorithm is the one the AWS SDKs share (their `clock-skew-test-cases.json` is the test). Ours keeps the difference to
//! the time since boot instead of wall time, so that a step of the wall clock does not spoil what was learnt.

use crate::clock::Heard;
use crate::env::{Clock, Head};
use std::time::UNIX_EPOCH;

/// From this error of the signing time on, a refused signature is put down to the clock.
const REFUSED_FOR_SKEW_MS: u64 = 4 * 60_000;
/// An exchange that took longer says too little about the time.
const TRUSTED_EXCHANGE_MS: u64 = 15 * 60_000;

/// The service's clock.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceClock {
    /// Service time minus time since boot, once an answer told it.
    ahead_of_boot_ms: Option<i64>,
    /// What answers said since the last [`ServiceClock::take_heard`].
    heard: Vec<Heard>,
}

/// More answers than one step can bring.
const HEARD_MAX: usize = 8;

impl ServiceClock {
    /// The evidence of all answers since the last call.
    pub(super) fn take_heard(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.heard)
    }

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
    pub(super) fn learn(&mut self, head: &Head, sent_ms: u64, received_ms: u64, new_connection: bool) -> bool {
        let took_ms = received_ms.saturating_sub(sent_ms);
        if head.header("age").is_some() || took_ms > TRUSTED_EXCHANGE_MS {
            return false;
        }
        let date = head.header("date").and_then(|text| httpdate::parse_http_date(text).ok());
        let Some(since_1970) = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()) else { return false };
        let Ok(service_ms) = i64::try_from(since_1970.as_millis()) else { return false };
        if self.heard.len() < HEARD_MAX {
            self.heard.push(Heard::between(service_ms, sent_ms, received_ms, new_connection));
        }
        self.ahead_of_boot_ms = Some(service_ms.saturating_sub_unsigned(sent_ms.saturating_add(took_ms / 2)));
        true
    }

    /// Whether a request signed for `signed_ms` was off by enough to be refused for it.
    pub(super) fn explains_refusal(&self, signed_ms: i64, clock: &dyn Clock) -> bool {
        self.ahead_of_boot_ms.is_some() && self.now_ms(clock).abs_diff(signed_ms) > REFUSED_FOR_SKEW_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::cell::Cell;

    /// A machine that booted at `BOOTED_MS` by its own clock.
    struct Machine {
        boot_ms: Cell<u64>,
        wall_step_ms: Cell<i64>,
    }

    const BOOTED_MS: i64 = 1_700_000_000_000;

    impl Clock for Machine {
        fn wall_ms(&self) -> i64 {
            BOOTED_MS + self.boot_ms.get() as i64 + self.wall_step_ms.get()
        }
        fn monotonic_ms(&self) -> u64 {
            self.boot_ms.get()
        }
        fn boot_id(&self) -> [u8; 16] {
            [0; 16]
        }
        fn synchronised(&self) -> bool {
            false
        }
        fn random(&self) -> u64 {
            0
        }
    }

    fn machine() -> Machine {
        Machine { boot_ms: Cell::new(1000), wall_step_ms: Cell::new(0) }
    }

    fn ms(value: &Value) -> i64 {
        let time = aws_smithy_types::DateTime::from_str(
            value.as_str().unwrap(),
            aws_smithy_types::date_time::Format::DateTime,
        );
        time.unwrap().to_millis().unwrap()
    }

    /// The cases that all AWS SDKs share: what is signed, what is learnt, and what is tried again.
    #[test]
    fn the_skew_is_learnt_as_the_sdks_learn_it() {
        let cases: Value =
            serde_json::from_str(include_str!("../../tests/vectors/clock-skew-test-cases.json")).unwrap();
        let tests = cases["tests"].as_array().unwrap();
        assert_eq!(tests.len(), 10);
        for test in tests {
            let machine = machine();
            let set = |wall_ms: i64| machine.boot_ms.set((wall_ms - BOOTED_MS) as u64);
            let mut service = ServiceClock::default();
            let name = test["description"].as_str().unwrap();
            for operation in test["operations"].as_array().unwrap() {
                let initial = operation["initialClientSkew"].as_i64().unwrap();
                if service.skew_ms(&machine).unwrap_or(0) != initial * 1000 {
                    service.ahead_of_boot_ms = Some(BOOTED_MS + initial * 1000);
                }
                let attempts = operation["attempts"].as_array().unwrap();
                for (index, attempt) in attempts.iter().enumerate() {
                    set(ms(&attempt["clientTimeAtSend"]));
                    let (sent_ms, signed_ms) = (machine.monotonic_ms(), service.now_ms(&machine));
                    assert_eq!(signed_ms, ms(&attempt["expectedSigningTime"]), "{name}");
                    set(ms(&attempt["clientTimeAtReceive"]));
                    let headers = attempt["response"]["headers"].as_object().unwrap();
                    let headers =
                        headers.iter().map(|(n, v)| (n.to_lowercase(), v.as_str().unwrap().to_owned())).collect();
                    let learnt = service.learn(&Head { status: 0, headers }, sent_ms, machine.monotonic_ms(), false);
                    if let Some(code) = attempt["response"]["errorCode"].as_str() {
                        assert!(["InvalidSignatureException", "RequestTimeTooSkewed"].contains(&code), "{name}");
                        let again = learnt && service.explains_refusal(signed_ms, &machine);
                        let budget = operation["maxAttempts"].as_u64().is_none_or(|max| index as u64 + 1 < max);
                        assert_eq!(again && budget, index + 1 < attempts.len(), "{name}");
                    }
                }
                let expected = operation["expectedClientSkew"].as_i64().unwrap() * 1000;
                assert_eq!(service.skew_ms(&machine).unwrap_or(0), expected, "{name}");
            }
        }
    }

    #[test]
    fn a_step_of_the_wall_clock_does_not_spoil_what_was_learnt() {
        let (machine, mut service) = (machine(), ServiceClock::default());
        let date = [("date".to_owned(), "Thu, 01 Jan 2026 00:00:00 GMT".to_owned())].to_vec();
        assert!(service.learn(&Head { status: 200, headers: date }, 900, 1100, true));
        let true_ms = service.now_ms(&machine);
        assert_eq!(true_ms, 1_767_225_600_000);
        machine.wall_step_ms.set(86_400_000);
        assert_eq!(service.now_ms(&machine), true_ms);
        assert_eq!(service.skew_ms(&machine), Some(true_ms - machine.wall_ms()));
    }
}
