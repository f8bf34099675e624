//! The delivery of one batch after the other: what to ask for next, and of whom. What the answers lead to: [`reactions`].

mod reactions;

use super::answer::{Meaning, Rejected, ServiceError};
use super::backoff::{Asked, Backoff, Pace};
use super::batch::{Batch, Broken};
use super::credentials::{Credentials, Keys, LOOK_MS, Ready, Role, sts};
use super::endpoint::{self, Endpoint};
use super::press::Press;
use super::request::{NoAnswer, Wire};
use super::skew::ServiceClock;
use super::status::{Trouble, UploadStatus};
use crate::clock::Heard;
use crate::env::{CertificateTime, Clock, Env, Limits, NetErrorKind, Route};
use crate::model::settings::UploadSettings;
use crate::model::{Event, Marks, StreamKey, json};
use std::collections::BTreeMap;
use std::rc::Rc;

/// How long a stream is remembered after the end of its wait.
const FORGET_HELD_MS: u64 = 600_000;
/// From this skew on, certificates are judged by the service's clock.
const CERTIFICATE_SKEW_MS: u64 = 60_000;
/// So many steps may lead to the next for one batch: a chain of roles, a date, a correction, a group and a stream come to
/// less than half of it. An answer that leads to the same question again must not keep us asking.
const STEPS_MAX: u32 = 24;
/// Without a region or an endpoint nothing changes until the settings do.
const NO_ENDPOINT_MS: u64 = 60_000;

/// What one step came to, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something else had to be done first (a role, a stream, the time): call again at once.
    Progress,
    /// The batch is stored, but for the events that were rejected; those can never be.
    Delivered {
        /// How many, and why.
        rejected: Rejected,
    },
    /// Failed; the batch stays. Nothing is worth trying before [`Shipper::not_before_ms`].
    Wait,
    /// A signal ended it; nothing was learnt, and the batch stays.
    Interrupted,
    /// This stream cannot be written to before this time since boot, in milliseconds; the batch stays. Others can.
    Hold {
        /// When to try again.
        until_ms: u64,
    },
    /// Too large, or something in it is refused: halve it and send the halves. Never said of a single event.
    Split,
    /// The service can never take this batch.
    Drop {
        /// Why, for people.
        reason: String,
    },
}

/// The way to CloudWatch Logs.
pub struct Shipper {
    settings: UploadSettings,
    logs: Result<Endpoint, String>,
    route: Route,
    user_agent: String,
    clock: ServiceClock,
    /// The next request goes over a connection of its own.
    new_connection: bool,
    /// The last request for a batch went out, and nobody knows whether the batch was stored.
    uncertain: bool,
    /// Steps that led to others, without an end.
    steps: u32,
    /// No refused stream is tried again before, on the clock since boot.
    held_turn_ms: u64,
    credentials: Credentials,
    backoff: Backoff,
    held: BTreeMap<Rc<StreamKey>, Backoff>,
    /// Until when, since boot, log groups are not created because that was refused.
    refused_groups: BTreeMap<String, u64>,
    creation: Option<Creation>,
    /// The last stream that was created, and when.
    created: Option<(Rc<StreamKey>, u64)>,
    /// Gzip was not understood: until then, since boot, bodies go as they are.
    /// Makes bodies, and remembers the layouts of the last ones.
    press: Option<Box<Press>>,
    plain_until_ms: u64,
    /// A wrong clock was corrected, and nothing succeeded since.
    clock_corrected: bool,
    ask_date: Option<Endpoint>,
    asked_date_boot_ms: Option<u64>,
    trouble: Option<Trouble>,
    last_error: Option<(String, i64)>,
    delivered_ms: Option<i64>,
}

/// What is created for a batch.
struct Creation {
    key: Rc<StreamKey>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Stream,
    Group,
    StreamOfNewGroup,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    PutLogEvents,
    CreateLogStream,
    CreateLogGroup,
}

impl Operation {
    fn target(self) -> &'static str {
        match self {
            Self::PutLogEvents => "Logs_20140328.PutLogEvents",
            Self::CreateLogStream => "Logs_20140328.CreateLogStream",
            Self::CreateLogGroup => "Logs_20140328.CreateLogGroup",
        }
    }

    fn name(self) -> &'static str {
        &self.target()["Logs_20140328.".len()..]
    }
}

/// What one step works with.
struct Work<'a> {
    batch: &'a Batch,
    limits: Limits,
    certificate_time: CertificateTime,
    env: Env<'a>,
    boot_ms: u64,
}

impl Shipper {
    /// Nothing is read or sent before the first step.
    pub fn new(settings: UploadSettings) -> Self {
        let route = Route {
            tls: settings.tls.clone(),
            proxy: settings.proxy.clone(),
            unix_socket: None,
            // A portal's redirect is not the service.
            follow_redirects: false,
        };
        let own = || format!("promwatch/{} ({})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
        let user_agent = settings.user_agent.clone().filter(|agent| is_header_value(agent)).unwrap_or_else(own);
        Self {
            logs: endpoint::logs(&settings),
            route,
            user_agent,
            clock: ServiceClock::default(),
            new_connection: false,
            uncertain: false,
            steps: 0,
            held_turn_ms: 0,
            credentials: Credentials::new(&settings),
            settings,
            backoff: Backoff::default(),
            held: BTreeMap::new(),
            refused_groups: BTreeMap::new(),
            creation: None,
            created: None,
            plain_until_ms: 0,
            press: None,
            clock_corrected: false,
            ask_date: None,
            asked_date_boot_ms: None,
            trouble: None,
            last_error: None,
            delivered_ms: None,
        }
    }

    /// New settings: every wait ends. The service's time is kept, and so are credentials whose settings are the same.
    pub fn reload(&mut self, settings: UploadSettings) {
        let old = std::mem::replace(self, Self::new(settings));
        self.clock = old.clock;
        self.last_error = old.last_error;
        self.delivered_ms = old.delivered_ms;
        if old.credentials.serves(&self.settings) {
            self.credentials = old.credentials;
        }
    }

    /// Does the next thing for this batch: at most one HTTP exchange within `limits`. `certificate_time` is what certificates are
    /// judged by until an answer has told the time.
    pub fn step(&mut self, batch: &Batch, limits: Limits, certificate_time: CertificateTime, env: Env<'_>) -> Step {
        self.uncertain = false;
        let step = self.next(batch, limits, certificate_time, env);
        self.steps = if step == Step::Progress { self.steps + 1 } else { 0 };
        if self.steps < STEPS_MAX {
            return step;
        }
        self.steps = 0;
        let work = Work { batch, limits, certificate_time, env, boot_ms: env.clock.monotonic_ms() };
        let last = self.last_error.as_ref().map_or("", |(text, _)| text).to_owned();
        self.wait(
            &work,
            Trouble::Refused,
            Pace::Refusal,
            Asked::default(),
            &format!("the answers lead in a circle: {last}"),
        )
    }

    /// Whether the batch of the last step may have been stored although nobody said so: the request went out and no answer, or
    /// none that tells, came back. It must be sent again byte for byte.
    pub fn uncertain(&self) -> bool {
        self.uncertain
    }

    /// What the service's clock showed in the answers since the last call.
    pub fn take_heard(&mut self) -> Vec<Heard> {
        self.clock.take_heard()
    }

    /// The next step does not wait for the end of a pause: for the last try of a clean stop.
    pub fn hurry(&mut self) {
        self.backoff.until_ms = 0;
    }

    /// The next request goes over a connection of its own, so that its `Date` may confirm an earlier one.
    pub fn use_new_connection(&mut self) {
        self.new_connection = true;
    }

    fn next(&mut self, batch: &Batch, limits: Limits, certificate_time: CertificateTime, env: Env<'_>) -> Step {
        match batch.broken {
            Some(Broken::Stream(reason)) => return Step::Drop { reason: reason.to_owned() },
            Some(Broken::Event(reason)) => return split_or_drop(batch, reason),
            None => {}
        }
        let boot_ms = env.clock.monotonic_ms();
        if boot_ms < self.backoff.until_ms {
            return Step::Wait;
        }
        let until_ms = self.held_until_ms(&batch.key);
        if boot_ms < until_ms {
            return Step::Hold { until_ms };
        }
        let logs = match &self.logs {
            Ok(endpoint) => endpoint.clone(),
            Err(text) => {
                let text = text.clone();
                self.backoff.pause(boot_ms, NO_ENDPOINT_MS);
                self.note(Trouble::NoEndpoint, text, env.clock);
                return Step::Wait;
            }
        };
        let work = Work { batch, limits, certificate_time, env, boot_ms };
        if let Some(endpoint) = self.ask_date.take() {
            return self.learn_date(&work, &endpoint);
        }
        self.credentials.look(env, boot_ms);
        match self.credentials.ready(boot_ms, self.clock.now_ms(env.clock)) {
            Ready::Missing(text) => {
                let text = text.to_owned();
                self.backoff.pause(boot_ms, LOOK_MS);
                self.note(Trouble::NoCredentials, text, env.clock);
                Step::Wait
            }
            Ready::Assume { index, role, with } => {
                let (role, with) = (role.clone(), with.clone());
                self.assume(&work, index, &role, &with)
            }
            Ready::Keys(keys) => {
                let keys = keys.clone();
                self.send(&work, &logs, &keys)
            }
        }
    }

    /// Learns the service's time from an answer to nothing, without credentials: for a machine whose clock cannot be right.
    /// The certificate is judged by `certificate_time`; if only its dates stand in the way, by chain and name. Always over a
    /// connection of its own. True when the time was learnt, false when the answer says nothing of it; nothing without an answer.
    pub fn ask_the_time(&mut self, limits: Limits, certificate_time: CertificateTime, env: Env<'_>) -> Option<bool> {
        let endpoint = self.logs.clone().ok()?;
        for certificate_time in [certificate_time, CertificateTime::AnyTime] {
            let wire = Wire {
                route: &self.route,
                user_agent: &self.user_agent,
                region: self.settings.region.as_deref().unwrap_or_default(),
                limits,
                certificate_time,
                new_connection: true,
                env,
            };
            match wire.ask_date(&endpoint, certificate_time, &mut self.clock) {
                Ok(learnt) => return Some(learnt),
                Err(NoAnswer::Net(error)) if error.kind == NetErrorKind::CertificateDates => {}
                Err(NoAnswer::Net(error)) => {
                    self.note(Trouble::Offline, format!("asking for the time: {error}"), env.clock);
                    return None;
                }
                Err(NoAnswer::Unsigned(_)) => return None,
            }
        }
        None
    }

    /// The time that the next request is signed for, milliseconds since 1970.
    pub fn now_ms(&self, clock: &dyn Clock) -> i64 {
        self.clock.now_ms(clock)
    }

    /// Nothing is worth trying before this time since boot, in milliseconds.
    pub fn not_before_ms(&self) -> u64 {
        self.backoff.until_ms
    }

    /// This stream cannot be written to before this time since boot; 0 for one that can.
    pub fn held_until_ms(&self, key: &StreamKey) -> u64 {
        self.held.get(key).map_or(0, |held| held.until_ms)
    }

    /// How far the service's clock is ahead of wall time, once an answer told it.
    pub fn skew_ms(&self, clock: &dyn Clock) -> Option<i64> {
        self.clock.skew_ms(clock)
    }

    /// Makes a body of these events of one stream, each with its marks; compressed as [`Self::compress`] says.
    pub fn batch(&mut self, key: &Rc<StreamKey>, events: Vec<(Event, Marks)>, clock: &dyn Clock) -> Batch {
        let compress = self.compress(clock);
        let press = compress.then(|| self.press.get_or_insert_with(|| Box::new(Press::new())));
        Batch::pressed(key, events, press.map(|press| &mut **press))
    }

    /// Whether bodies should be gzip: as the settings say, unless the service did not understand it of late.
    pub fn compress(&self, clock: &dyn Clock) -> bool {
        self.settings.compress && !self.is_plain(clock.monotonic_ms())
    }

    fn is_plain(&self, boot_ms: u64) -> bool {
        boot_ms < self.plain_until_ms
    }

    /// How the delivery stands.
    pub fn status(&self, clock: &dyn Clock) -> UploadStatus {
        let still = clock.monotonic_ms().saturating_sub(FORGET_HELD_MS);
        let held = self.held.values().filter(|held| held.until_ms > still).count();
        UploadStatus {
            trouble: self.trouble.or((held > 0).then_some(Trouble::StreamRefused)),
            last_error: self.last_error.as_ref().map(|(text, _)| text.clone()),
            last_error_ms: self.last_error.as_ref().map(|(_, at)| *at),
            delivered_ms: self.delivered_ms,
            failures: self.backoff.failures,
            outage_since_boot_ms: self.backoff.since_ms,
            credentials: self.credentials.source(),
            credentials_expire_ms: self.credentials.expires_ms(),
            skew_ms: self.skew_ms(clock),
            held_streams: u32::try_from(held).unwrap_or(u32::MAX),
            endpoint: self.logs.as_ref().ok().map(|endpoint| endpoint.url.clone()),
        }
    }

    /// What a request needs. Certificates are judged by the service's clock where ours is known to be wrong.
    fn wire<'a>(
        clock: &ServiceClock,
        new_connection: bool,
        (settings, route, user_agent): (&'a UploadSettings, &'a Route, &'a str),
        work: &Work<'a>,
    ) -> Wire<'a> {
        let skewed = clock.skew_ms(work.env.clock).is_some_and(|skew| skew.unsigned_abs() > CERTIFICATE_SKEW_MS);
        let certificate_time = if skewed {
            CertificateTime::At(clock.now_ms(work.env.clock).div_euclid(1000))
        } else {
            work.certificate_time
        };
        Wire {
            route,
            user_agent,
            region: settings.region.as_deref().unwrap_or_default(),
            limits: work.limits,
            certificate_time,
            new_connection,
            env: work.env,
        }
    }

    fn learn_date(&mut self, work: &Work<'_>, endpoint: &Endpoint) -> Step {
        let new_connection = std::mem::take(&mut self.new_connection);
        let wire = Self::wire(&self.clock, new_connection, (&self.settings, &self.route, &self.user_agent), work);
        match wire.ask_date(endpoint, CertificateTime::AnyTime, &mut self.clock) {
            Ok(true) => Step::Progress,
            Ok(false) => self.wait(work, Trouble::Offline, Pace::Outage, Asked::default(), "the answer holds no Date"),
            Err(error) => self.no_answer(work, endpoint, "asking for the time", error),
        }
    }

    fn assume(&mut self, work: &Work<'_>, index: usize, role: &Role, with: &Keys) -> Step {
        let what = format!("AssumeRole {}", role.arn);
        let endpoint = match endpoint::sts(&self.settings) {
            Ok(endpoint) => endpoint,
            Err(text) => return self.wait(work, Trouble::NoEndpoint, Pace::Refusal, Asked::default(), &text),
        };
        let body = sts::assume_role_body(role, self.settings.role_session_name.as_deref());
        let new_connection = std::mem::take(&mut self.new_connection);
        let wire = Self::wire(&self.clock, new_connection, (&self.settings, &self.route, &self.user_agent), work);
        let headers = [("content-type", sts::CONTENT_TYPE)];
        let answer = match wire.post(&endpoint, "sts", &headers, body.as_bytes(), with, &mut self.clock) {
            Ok(answer) => answer,
            Err(error) => {
                let old_serve = self.credentials.assume_failed(work.boot_ms, self.clock.now_ms(work.env.clock));
                let step = self.no_answer(work, &endpoint, &what, error);
                // The road to CloudWatch Logs may be open although that to STS is not.
                if old_serve && step == Step::Wait {
                    self.backoff.succeed();
                    return Step::Progress;
                }
                return step;
            }
        };
        if answer.head.status == 200 {
            return match sts::keys(&answer.body) {
                Some(keys) => {
                    self.clock_corrected = false;
                    let now_ms = self.clock.now_ms(work.env.clock);
                    if self.credentials.assumed(index, keys, work.env.clock.monotonic_ms(), now_ms) {
                        return Step::Progress;
                    }
                    let text = format!("{what}: the answer's keys have expired already: is the clock of STS right?");
                    self.wait(work, Trouble::Refused, Pace::Refusal, Asked::default(), &text)
                }
                None => self.wait(work, Trouble::Offline, Pace::Outage, Asked::default(), &not_of_service(&what)),
            };
        }
        let error = ServiceError::from_xml(&answer.head, &answer.body);
        let meaning = error.meaning();
        let text = format!("{what}: {error}");
        if self.correct_clock(work, &answer, meaning) {
            return Step::Progress;
        }
        if self.credentials.assume_failed(work.boot_ms, self.clock.now_ms(work.env.clock)) {
            self.last_error = Some((text, self.clock.now_ms(work.env.clock)));
            return Step::Progress;
        }
        match meaning {
            Meaning::Throttled => self.wait(work, Trouble::Throttled, Pace::Throttle, error.asked, &text),
            Meaning::Unavailable => self.wait(work, Trouble::Offline, Pace::Outage, error.asked, &text),
            Meaning::BadSignature | Meaning::ExpiredToken | Meaning::UnknownKey => self.renew_or_wait(work, &text),
            _ => self.wait(work, Trouble::Refused, Pace::Refusal, error.asked, &text),
        }
    }

    /// PutLogEvents, or what has to be created before.
    fn send(&mut self, work: &Work<'_>, endpoint: &Endpoint, keys: &Keys) -> Step {
        // Another batch came: its own stream is asked first.
        self.creation.take_if(|creation| creation.key != work.batch.key);
        let operation = match self.creation.as_ref().map(|creation| creation.stage) {
            None => Operation::PutLogEvents,
            Some(Stage::Stream | Stage::StreamOfNewGroup) => Operation::CreateLogStream,
            Some(Stage::Group) => Operation::CreateLogGroup,
        };
        let new_connection = std::mem::take(&mut self.new_connection);
        let wire = Self::wire(&self.clock, new_connection, (&self.settings, &self.route, &self.user_agent), work);
        let mut headers = vec![
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", operation.target()),
            // Once required for embedded metrics; the CloudWatch agent still sends it with everything.
            ("x-amzn-logs-format", "json/emf"),
        ];
        let plain;
        let body = if operation != Operation::PutLogEvents {
            plain = creation_body(&work.batch.key, operation);
            &plain
        } else if work.batch.is_gzip() && !self.is_plain(work.boot_ms) {
            headers.push(("content-encoding", "gzip"));
            work.batch.body()
        } else if work.batch.is_gzip() {
            plain = work.batch.plain_body();
            &plain
        } else {
            work.batch.body()
        };
        match wire.post(endpoint, "logs", &headers, body, keys, &mut self.clock) {
            Ok(answer) if answer.head.status == 200 && answer.is_of_service() => {
                self.succeeded(work, operation, &answer)
            }
            Ok(answer) if answer.head.status == 200 => {
                self.uncertain = operation == Operation::PutLogEvents;
                let text = not_of_service(operation.name());
                self.wait(work, Trouble::Offline, Pace::Outage, Asked::default(), &text)
            }
            Ok(answer) => {
                // A server, or a gateway, that failed may have stored it before.
                self.uncertain = operation == Operation::PutLogEvents && answer.head.status >= 500;
                self.refused(work, operation, &answer)
            }
            Err(error) => {
                let sent = matches!(&error, NoAnswer::Net(error) if error.sent);
                self.uncertain = operation == Operation::PutLogEvents && sent;
                self.no_answer(work, endpoint, operation.name(), error)
            }
        }
    }
}

fn not_of_service(what: &str) -> String {
    format!("{what}: 200, but not from AWS (no x-amzn-requestid): a captive portal or a proxy?")
}

fn split_or_drop(batch: &Batch, reason: &str) -> Step {
    if batch.events > 1 { Step::Split } else { Step::Drop { reason: reason.to_owned() } }
}

fn creation_body(key: &StreamKey, operation: Operation) -> Vec<u8> {
    let mut body = b"{\"logGroupName\":\"".to_vec();
    json::push_inside(&mut body, key.group.as_bytes());
    if operation == Operation::CreateLogStream {
        body.extend_from_slice(b"\",\"logStreamName\":\"");
        json::push_inside(&mut body, key.stream.as_bytes());
    }
    body.extend_from_slice(b"\"}");
    body
}

fn is_header_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
