//! A strict stand-in for CloudWatch Logs and STS, so that a wrong client fails.
//!
//! It enforces the services' rules itself and shares no code with `ship`: the signature is derived anew (with ring, from
//! the SigV4 documentation), then come limits, order, span, names, existence and ages. It is a pure function of its
//! state, the request and the given time, so the same value serves the whole-agent simulation (behind a made-up
//! network) and, in [`server`], the real binary over TCP.
//!
//! Refuses: leniency. What AWS only frowns upon (a signed `user-agent`, an unknown member) is an error here.
#![allow(dead_code)] // not every test needs every switch

mod answer;
pub mod ledger;
mod logs;
pub mod server;
mod signature;
mod sts;

pub use answer::{FakeAnswer, Fate};
pub use signature::sha256_hex;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// 1 MiB: a batch, and since 2025 a single event (PutLogEvents, API reference).
pub const MAX_BATCH_BYTES: usize = 1_048_576;
/// Events in a batch.
pub const MAX_BATCH_EVENTS: usize = 10_000;
/// What each event counts besides its message.
pub const EVENT_OVERHEAD_BYTES: usize = 26;
/// Milliseconds in a day.
pub const DAY_MS: i64 = 86_400_000;

/// The stand-in's whole state; tests set and read it as they like.
pub struct FakeCloudWatch {
    /// The region that signatures must name.
    pub region: String,
    /// Keys that are valid.
    pub keys: Vec<FakeKey>,
    /// Log groups by name.
    pub groups: BTreeMap<String, FakeGroup>,
    /// The server's clock is this far ahead of the time that `handle` is given.
    pub clock_offset_ms: i64,
    /// Actions that answer AccessDeniedException (`CreateLogGroup`, `AssumeRole` …).
    pub denied: BTreeSet<String>,
    /// Log streams that the policy forbids to write to.
    pub denied_streams: BTreeSet<String>,
    /// What befalls the next requests, first come first served; see [`FakeCloudWatch::fail`].
    pub faults: VecDeque<PlannedFault>,
    /// Refuse `Content-Encoding: gzip` as some emulators do.
    pub refuse_gzip: bool,
    /// How long AssumeRole's credentials live when the caller does not say.
    pub role_lifetime_ms: i64,
    /// AssumeRole answers 200 with keys that expired this long ago, in milliseconds.
    pub roles_expired_ms: Option<i64>,
    /// Roles that may be assumed, and the external identifier they ask for.
    pub roles: BTreeMap<String, Option<String>>,
    /// The `Date` of every answer, where it is not the server's time.
    pub date: Option<Date>,
    /// Every request, in order.
    pub log: Vec<Seen>,
    /// Every PutLogEvents among them; see [`ledger`].
    pub receipts: Vec<ledger::Receipt>,
    /// Rules that a right client never breaks, each with the request's number. Tests assert that it is empty.
    pub violations: Vec<String>,
    issued: u64,
    filed: Option<ledger::Filed>,
}

/// An access key that is valid, from AssumeRole or given by the test.
#[derive(Clone, Debug, Default)]
pub struct FakeKey {
    /// Access key.
    pub id: String,
    /// Secret key.
    pub secret: String,
    /// Session token that must come along.
    pub token: Option<String>,
    /// From then on ExpiredTokenException.
    pub expires_ms: Option<i64>,
}

/// A log group.
#[derive(Clone, Debug, Default)]
pub struct FakeGroup {
    /// `retentionInDays`.
    pub retention_days: Option<i64>,
    /// Events by stream, in the order they were stored.
    pub streams: BTreeMap<String, Vec<Stored>>,
}

/// A stored log event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its time.
    pub timestamp_ms: i64,
    /// Its text.
    pub message: String,
    /// The server's time when it came.
    pub ingested_ms: i64,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `PutLogEvents`, `CreateLogStream`, `CreateLogGroup`, `AssumeRole`, or what was asked for instead.
    pub action: String,
    /// The server's time.
    pub at_ms: i64,
    /// The answer's status, 0 when the connection was dropped.
    pub status: u16,
    /// The error code of the answer, empty on success.
    pub code: String,
    /// The access key that signed it.
    pub key_id: String,
    /// Bytes of the body as sent.
    pub body_bytes: usize,
    /// The body's SHA-256 as hex: equal retries are equal here.
    pub body_sha256: String,
    /// Events in it (PutLogEvents).
    pub events: usize,
    /// The answer reached the client; said by the network, see [`FakeCloudWatch::answer_arrived`].
    pub arrived: bool,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `ThrottlingException`, with `x-amz-retry-after` in milliseconds where given.
    Throttle(Option<u64>),
    /// This error, and nothing is done.
    Error {
        /// Status.
        status: u16,
        /// `__type`.
        code: String,
        /// `message`.
        message: String,
    },
    /// The connection breaks before the request is looked at.
    DropBefore,
    /// The request is carried out, then the connection breaks: a lost acknowledgement.
    DropAfter,
    /// The request is carried out, then an error says that it was not.
    ErrorAfter {
        /// Status.
        status: u16,
        /// `__type`.
        code: String,
    },
    /// The request is carried out, and the answer has this `Date`.
    Date(Date),
    /// The request is carried out, and the answer lacks the service's mark.
    NoRequestId,
    /// The service says this, with its mark, and does nothing.
    Says {
        /// Status.
        status: u16,
        /// The whole body.
        body: String,
    },
    /// The answer comes this much later, in milliseconds.
    Delay(u64),
    /// A portal answers 200 with a page of its own.
    CaptivePortal,
    /// A plain status with a body that is not JSON, as a gateway gives it.
    Gateway(u16),
}

/// What an answer's `Date` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Date {
    /// The server's time and so much more, in milliseconds.
    Off(i64),
    /// This time, milliseconds since 1970.
    At(i64),
    /// This text.
    Text(String),
    /// There is none.
    Missing,
}

impl Date {
    fn header(&self, now_ms: i64) -> Option<String> {
        let at = |ms| Some(httpdate::fmt_http_date(server_time(ms)));
        match self {
            Self::Off(ms) => at(now_ms + ms),
            Self::At(ms) => at(*ms),
            Self::Text(text) => Some(text.clone()),
            Self::Missing => None,
        }
    }
}

/// A fault that waits for its request.
#[derive(Clone, Debug)]
pub struct PlannedFault {
    /// Only requests of this action; nothing: any.
    pub action: Option<String>,
    /// How many requests are still to be hit; `u32::MAX`: all.
    pub left: u32,
    /// What happens to them.
    pub fault: Fault,
}

impl Default for FakeCloudWatch {
    fn default() -> Self {
        Self {
            region: "eu-central-1".to_owned(),
            keys: vec![FakeKey {
                id: "AKIDEXAMPLE".to_owned(),
                secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
                ..FakeKey::default()
            }],
            groups: BTreeMap::new(),
            clock_offset_ms: 0,
            denied: BTreeSet::new(),
            denied_streams: BTreeSet::new(),
            faults: VecDeque::new(),
            refuse_gzip: false,
            role_lifetime_ms: 3_600_000,
            roles_expired_ms: None,
            roles: BTreeMap::new(),
            date: None,
            log: Vec::new(),
            receipts: Vec::new(),
            violations: Vec::new(),
            issued: 0,
            filed: None,
        }
    }
}

impl FakeCloudWatch {
    /// The next `count` requests (of that action, if one is given) suffer this.
    pub fn fail(&mut self, action: Option<&str>, count: u32, fault: Fault) {
        self.faults.push_back(PlannedFault { action: action.map(str::to_owned), left: count, fault });
    }

    /// Makes a group with its streams.
    pub fn create(&mut self, group: &str, streams: &[&str]) {
        let group = self.groups.entry(group.to_owned()).or_default();
        for stream in streams {
            group.streams.entry((*stream).to_owned()).or_default();
        }
    }

    /// All stored events of a stream, empty where there is none.
    pub fn events(&self, group: &str, stream: &str) -> &[Stored] {
        self.groups.get(group).and_then(|g| g.streams.get(stream)).map_or(&[], Vec::as_slice)
    }

    /// Every stored message of every stream, with group and stream, in the order of storage per stream.
    pub fn all_events(&self) -> impl Iterator<Item = (&str, &str, &Stored)> {
        self.groups.iter().flat_map(|(group, g)| {
            g.streams.iter().flat_map(move |(stream, events)| {
                events.iter().map(move |event| (group.as_str(), stream.as_str(), event))
            })
        })
    }

    /// The actions asked for so far, in order.
    pub fn actions(&self) -> Vec<&str> {
        self.log.iter().map(|seen| seen.action.as_str()).collect()
    }

    /// Answers one request. `headers` in any case; `now_ms` is the true time.
    pub fn handle(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
        now_ms: i64,
    ) -> FakeAnswer {
        let (true_ms, now_ms) = (now_ms, now_ms + self.clock_offset_ms);
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
        let request = FakeRequest { method, path, headers: &headers, body, now_ms };
        let action = request.action();
        self.log.push(Seen {
            action: action.clone(),
            at_ms: now_ms,
            status: 0,
            code: String::new(),
            key_id: String::new(),
            body_bytes: body.len(),
            body_sha256: signature::sha256_hex(body),
            events: 0,
            arrived: false,
            headers: headers.clone(),
        });
        let fault = self.next_fault(&action);
        let mut date = self.date.clone().unwrap_or(Date::Off(0));
        self.filed = None;
        let mut answer = match fault {
            Some(Fault::DropBefore) => FakeAnswer::dropped(),
            Some(Fault::DropAfter) => {
                self.serve(&request, &action);
                FakeAnswer::dropped()
            }
            Some(Fault::ErrorAfter { status, code }) => {
                self.serve(&request, &action);
                request.error(status, &code, "something failed, but not the storing")
            }
            Some(Fault::Date(wrong)) => {
                date = wrong;
                self.serve(&request, &action)
            }
            Some(Fault::NoRequestId) => {
                let mut answer = self.serve(&request, &action);
                answer.headers.retain(|(name, _)| name != "x-amzn-requestid");
                answer
            }
            Some(Fault::Says { status, body }) => {
                let id = self.next_id();
                FakeAnswer { status, ..FakeAnswer::ok(id, "application/x-amz-json-1.1", body) }
            }
            Some(Fault::Delay(ms)) => {
                let mut answer = self.serve(&request, &action);
                answer.fate = Fate::Delayed(ms);
                answer
            }
            Some(Fault::Throttle(after)) => {
                let mut answer = request.error(400, "ThrottlingException", "Rate exceeded");
                if let Some(ms) = after {
                    answer.headers.push(("x-amz-retry-after".to_owned(), ms.to_string()));
                }
                answer
            }
            Some(Fault::Error { status, code, message }) => request.error(status, &code, &message),
            Some(Fault::CaptivePortal) => FakeAnswer {
                status: 200,
                headers: vec![("content-type".to_owned(), "text/html".to_owned())],
                body: b"<html>Please log in</html>".to_vec(),
                ..FakeAnswer::default()
            },
            Some(Fault::Gateway(status)) => FakeAnswer {
                status,
                headers: vec![("content-type".to_owned(), "text/html".to_owned())],
                body: b"<html>upstream</html>".to_vec(),
                ..FakeAnswer::default()
            },
            None => self.serve(&request, &action),
        };
        if answer.status != 0
            && let Some(date) = date.header(now_ms)
        {
            answer.headers.push(("date".to_owned(), date));
        }
        if action == "PutLogEvents" {
            self.write_receipt(&request, true_ms);
        }
        if let Some(seen) = self.log.last_mut() {
            seen.status = answer.status;
            seen.code.clone_from(&answer.code);
        }
        answer
    }

    fn next_fault(&mut self, action: &str) -> Option<Fault> {
        let at =
            self.faults.iter().position(|planned| planned.action.as_deref().is_none_or(|wanted| wanted == action))?;
        let planned = &mut self.faults[at];
        let fault = planned.fault.clone();
        // `u32::MAX` is for ever.
        if planned.left != u32::MAX {
            planned.left -= 1;
        }
        if planned.left == 0 {
            self.faults.remove(at);
        }
        Some(fault)
    }

    fn serve(&mut self, request: &FakeRequest<'_>, action: &str) -> FakeAnswer {
        let key_id = match signature::verify(self, request) {
            Ok(key_id) => key_id,
            Err(answer) => return answer,
        };
        if let Some(seen) = self.log.last_mut() {
            seen.key_id = key_id;
        }
        if self.denied.contains(action) {
            let text = format!("User: arn:aws:iam::123456789012:user/edge is not authorized to perform: logs:{action}");
            return if request.is_sts() {
                request.error(403, "AccessDenied", &text)
            } else {
                request.error(400, "AccessDeniedException", &text)
            };
        }
        if request.is_sts() { sts::serve(self, request) } else { logs::serve(self, request, action) }
    }

    /// A rule that no right client breaks was broken.
    fn violation(&mut self, text: &str) {
        self.violations.push(format!("request {}: {text}", self.log.len()));
    }

    /// A new identifier, never twice the same.
    fn next_id(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }
}

/// What one request brings.
struct FakeRequest<'a> {
    method: &'a str,
    path: &'a str,
    headers: &'a [(String, String)],
    body: &'a [u8],
    /// By the server's clock.
    now_ms: i64,
}

impl FakeRequest<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|(n, value)| (n == name).then_some(value.as_str()))
    }

    fn is_sts(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
    }

    fn action(&self) -> String {
        if self.is_sts() {
            return sts::parameters(self.body).remove("Action").unwrap_or_default();
        }
        self.header("x-amz-target").and_then(|t| t.strip_prefix("Logs_20140328.")).unwrap_or("?").to_owned()
    }

    fn error(&self, status: u16, code: &str, message: &str) -> FakeAnswer {
        if self.is_sts() {
            FakeAnswer::xml_error(status, code, message)
        } else {
            FakeAnswer::json_error(status, code, message)
        }
    }
}

fn server_time(ms: i64) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
