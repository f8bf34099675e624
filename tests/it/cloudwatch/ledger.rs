//! What became of every PutLogEvents request that reached the stand-in: which events it brought, which were stored, and
//! whether the sender ever heard of it.
//!
//! The stand-in knows the first two. Whether an answer arrived only the network knows: it says so with
//! [`FakeCloudWatch::answer_arrived`], and until then an answer counts as lost.

use super::{FakeAnswer, FakeCloudWatch, FakeRequest};
use std::io::Read;
use std::ops::Range;

/// Identities are counted in steps of this from one scrape to the next: `scrape * STEP + index`.
pub const STEP: u64 = 10_000;

/// One PutLogEvents request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its place in [`FakeCloudWatch::log`].
    pub request: usize,
    /// By the true clock, milliseconds since 1970.
    pub at_ms: i64,
    /// The log group.
    pub group: String,
    /// The log stream.
    pub stream: String,
    /// SHA-256 of the body as it came.
    pub sha256: String,
    /// Of every event in it, in order; see [`identity`].
    pub identities: Vec<Option<u64>>,
    /// How many of them are markers of a loss, which no count knows.
    pub markers: u64,
    /// Events that were refused one by one (`rejectedLogEventsInfo`).
    pub rejected: u64,
    /// The places in the stream at which it was stored; empty when it was not.
    pub stored: Range<usize>,
    /// What the sender knows of it.
    pub outcome: Outcome,
}

/// What the sender of a request knows of its fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing for certain: no answer came, or one that proves nothing (5xx, 200 without the service's mark). The body may be
    /// stored or not.
    Lost,
    /// The service said that it is stored.
    Acknowledged,
    /// Whoever answered said that it is not stored.
    Refused,
}

impl Receipt {
    /// Events that count as delivered once the answer has arrived.
    pub fn acknowledged(&self) -> u64 {
        let events = self.identities.len() as u64 - self.markers;
        if self.outcome == Outcome::Acknowledged { events.saturating_sub(self.rejected) } else { 0 }
    }
}

/// What storing a body came to, on its way into the receipt.
pub(super) struct Filed {
    pub(super) group: String,
    pub(super) stream: String,
    pub(super) messages: Messages,
    pub(super) rejected: u64,
    pub(super) stored: Range<usize>,
}

/// What a receipt keeps of messages.
#[derive(Default)]
pub(super) struct Messages {
    pub(super) identities: Vec<Option<u64>>,
    pub(super) markers: u64,
}

impl Messages {
    pub(super) fn of<'a>(messages: impl Iterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        for message in messages {
            all.identities.push(identity(message));
            all.markers += u64::from(is_marker(message));
        }
        all
    }
}

/// The identity that a simulated exporter gave to an event: the value of `sim_id`, or `g` times [`STEP`]. Unique in a stream.
pub fn identity(message: &str) -> Option<u64> {
    let number = |name: &str| {
        let (_, rest) = message.split_once(name)?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest[..digits].parse::<u64>().ok()
    };
    number("\"sim_id\":").or_else(|| number("\"g\":").map(|scrape| scrape * STEP))
}

/// Whether it is the marker of a loss.
pub fn is_marker(message: &str) -> bool {
    message.contains("\"promwatch\":\"lost\"")
}

impl FakeCloudWatch {
    /// The answer to the request that was handled last has reached the client, whole.
    pub fn answer_arrived(&mut self, answer: &FakeAnswer) {
        let request = self.log.len() - 1;
        self.log[request].arrived = true;
        let Some(receipt) = self.receipts.last_mut().filter(|receipt| receipt.request == request) else { return };
        let of_service = answer.headers.iter().any(|(name, _)| name == "x-amzn-requestid");
        receipt.outcome = match answer.status {
            200 if of_service => Outcome::Acknowledged,
            200 => Outcome::Lost,
            // Something in between that may have choked on gzip: the sender may try the same events without.
            500 | 501 if !of_service => Outcome::Refused,
            500.. => Outcome::Lost,
            _ => Outcome::Refused,
        };
    }

    pub(super) fn write_receipt(&mut self, request: &FakeRequest<'_>, true_ms: i64) {
        let filed = self.filed.take().unwrap_or_else(|| leniently(request));
        self.receipts.push(Receipt {
            request: self.log.len() - 1,
            at_ms: true_ms,
            group: filed.group,
            stream: filed.stream,
            sha256: self.log.last().map(|seen| seen.body_sha256.clone()).unwrap_or_default(),
            identities: filed.messages.identities,
            markers: filed.messages.markers,
            rejected: filed.rejected,
            stored: filed.stored,
            outcome: Outcome::Lost,
        });
    }
}

/// What a body that was not looked at holds.
fn leniently(request: &FakeRequest<'_>) -> Filed {
    let mut body = Vec::new();
    if request.header("content-encoding") == Some("gzip") {
        let _ = flate2::read::GzDecoder::new(request.body).take(64 << 20).read_to_end(&mut body);
    } else {
        body.extend_from_slice(request.body);
    }
    let input: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
    let events = input["logEvents"].as_array().map_or(&[][..], Vec::as_slice);
    Filed {
        group: text("logGroupName"),
        stream: text("logStreamName"),
        messages: Messages::of(events.iter().filter_map(|event| event["message"].as_str())),
        rejected: 0,
        stored: 0..0,
    }
}

#[test]
fn an_event_is_known_by_its_number_and_a_marker_by_its_word() {
    assert_eq!(identity(r#"{"Timestamp":"1","sim_id":120007,"i":"7"}"#), Some(120_007));
    assert_eq!(identity(r#"{"g":12}"#), Some(120_000));
    assert_eq!(identity(r#"{"c_total":10}"#), None);
    assert!(is_marker(r#"{"promwatch":"lost","count":1}"#) && !is_marker(r#"{"a":"promwatch"}"#));
}
