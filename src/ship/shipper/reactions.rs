//! What each answer, and each lack of one, makes the sender do: the table of errors.

use super::{Creation, FORGET_HELD_MS, Operation, Shipper, Stage, Step, Work, split_or_drop};
use crate::env::{Clock, NetErrorKind};
use crate::model::StreamKey;
use crate::ship::answer::{Meaning, ServiceError, rejected};
use crate::ship::backoff::{Asked, Pace};
use crate::ship::endpoint::Endpoint;
use crate::ship::request::{Answer, NoAnswer};
use crate::ship::status::Trouble;
use std::rc::Rc;

/// A stream that was created is given so long to appear before it is created again.
const CREATION_MS: u64 = 5_000;
/// How long a log group that may not be created is not tried again.
const GROUP_REFUSED_MS: u64 = 60_000;
/// Streams and groups that are remembered for their refusals.
const MAX_HELD: usize = 1_000;
/// The time between two tries of refused streams: 60 requests a minute, and what it takes to create one.
const HELD_TURN_MS: u64 = 1_000;
/// How long bodies go as they are after gzip was not understood.
const PLAIN_MS: u64 = 600_000;
/// Statuses that something other than the service answers when gzip breaks it.
const CHOKED: [u16; 4] = [400, 415, 500, 501];
/// A limit on bodies below this is not one that splitting or dropping can meet.
const LEAST_LIMIT_BYTES: u64 = 16 << 10;
/// `Date` is asked for without credentials at most so often.
const ASK_DATE_MS: u64 = 60_000;

impl Shipper {
    pub(super) fn succeeded(&mut self, work: &Work<'_>, operation: Operation, answer: &Answer) -> Step {
        self.backoff.succeed();
        self.clock_corrected = false;
        self.trouble = None;
        match operation {
            Operation::PutLogEvents => {
                if self.held.remove(&work.batch.key).is_some() {
                    log::info!("the stream {} takes events again", work.batch.key.stream);
                }
                self.delivered_ms = Some(self.clock.now_ms(work.env.clock));
                Step::Delivered { rejected: rejected(&answer.body, work.batch.events) }
            }
            Operation::CreateLogStream => self.created_stream(work),
            Operation::CreateLogGroup => self.next_stage(work, Stage::StreamOfNewGroup),
        }
    }

    fn created_stream(&mut self, work: &Work<'_>) -> Step {
        self.creation = None;
        self.created = Some((Rc::clone(&work.batch.key), work.boot_ms));
        Step::Progress
    }

    fn next_stage(&mut self, work: &Work<'_>, stage: Stage) -> Step {
        self.creation = Some(Creation { key: Rc::clone(&work.batch.key), stage });
        Step::Progress
    }

    /// The service, or somebody in between, refused the request.
    pub(super) fn refused(&mut self, work: &Work<'_>, operation: Operation, answer: &Answer) -> Step {
        let error = ServiceError::from_json(&answer.head, &answer.body);
        let meaning = error.meaning();
        let text = format!("{}: {error}", operation.name());
        if self.correct_clock(work, answer, meaning) {
            return Step::Progress;
        }
        let is_put = operation == Operation::PutLogEvents;
        let was_gzip = is_put && work.batch.is_gzip() && !self.is_plain(work.boot_ms);
        match meaning {
            Meaning::Throttled => self.wait(work, Trouble::Throttled, Pace::Throttle, error.asked, &text),
            Meaning::Unavailable if is_put && !answer.is_of_service() && CHOKED.contains(&error.status) => {
                // A gateway or an emulator that gzip may have broken; if it was not gzip, the next try has it again.
                self.plain_until_ms = if was_gzip { work.boot_ms.saturating_add(PLAIN_MS) } else { 0 };
                self.wait(work, Trouble::Offline, Pace::Outage, error.asked, &text)
            }
            Meaning::Unavailable => self.wait(work, Trouble::Offline, Pace::Outage, error.asked, &text),
            Meaning::NotFound => self.missing(work, operation, text),
            Meaning::AlreadyExists if operation == Operation::CreateLogStream => self.created_stream(work),
            Meaning::AlreadyExists if operation == Operation::CreateLogGroup => {
                self.next_stage(work, Stage::StreamOfNewGroup)
            }
            Meaning::BadName => {
                self.note_error(text.clone(), work.env.clock);
                Step::Drop { reason: text }
            }
            // Something in between that refuses even this much refuses everything.
            Meaning::TooLarge if is_put && work.batch.events == 1 && work.batch.body_bytes() < LEAST_LIMIT_BYTES => {
                self.wait(work, Trouble::Refused, Pace::Refusal, error.asked, &text)
            }
            Meaning::BadBatch | Meaning::TooLarge if is_put => {
                self.note_error(text.clone(), work.env.clock);
                split_or_drop(work.batch, &text)
            }
            Meaning::BadEncoding if was_gzip => {
                self.plain_until_ms = work.boot_ms.saturating_add(PLAIN_MS);
                self.note_error(text, work.env.clock);
                Step::Progress
            }
            Meaning::BadEncoding => {
                // It was not gzip then.
                self.plain_until_ms = 0;
                self.wait(work, Trouble::Refused, Pace::Refusal, error.asked, &text)
            }
            Meaning::BadSignature | Meaning::ExpiredToken | Meaning::UnknownKey => self.renew_or_wait(work, &text),
            Meaning::Denied => self.hold(work, operation, text),
            _ if !is_put => self.hold(work, operation, text),
            _ => self.wait(work, Trouble::Refused, Pace::Refusal, error.asked, &text),
        }
    }

    /// The stream or its group is not there.
    fn missing(&mut self, work: &Work<'_>, operation: Operation, text: String) -> Step {
        let key = &work.batch.key;
        let stage = self.creation.as_ref().map(|creation| creation.stage);
        match operation {
            Operation::PutLogEvents => {
                let just_created = self
                    .created
                    .as_ref()
                    .is_some_and(|(created, at)| created == key && work.boot_ms.saturating_sub(*at) < CREATION_MS);
                if just_created { self.hold(work, operation, text) } else { self.next_stage(work, Stage::Stream) }
            }
            Operation::CreateLogStream if stage == Some(Stage::Stream) => {
                if self.refused_groups.get(&key.group).is_some_and(|until| work.boot_ms < *until) {
                    return self.hold(work, operation, text);
                }
                self.next_stage(work, Stage::Group)
            }
            _ => self.hold(work, operation, text),
        }
    }

    /// Only this stream waits.
    fn hold(&mut self, work: &Work<'_>, operation: Operation, text: String) -> Step {
        self.creation = None;
        if operation == Operation::CreateLogGroup {
            if self.refused_groups.len() >= MAX_HELD {
                self.refused_groups.clear();
            }
            let until_ms = work.boot_ms.saturating_add(GROUP_REFUSED_MS);
            self.refused_groups.insert(work.batch.key.group.clone(), until_ms);
        }
        // Nobody came back for these: their jobs are gone, or their backlog is.
        self.held.retain(|_, held| work.boot_ms < held.until_ms.saturating_add(FORGET_HELD_MS));
        if self.held.len() >= MAX_HELD
            && let Some(next) = self.held.iter().min_by_key(|(_, held)| held.until_ms).map(|(key, _)| Rc::clone(key))
        {
            // Forgetting costs a request, not an event; but whoever is forgotten asks again at once.
            self.held.remove(&next);
            self.backoff.pause(work.boot_ms, HELD_TURN_MS);
        }
        if !self.held.contains_key(&work.batch.key) {
            let StreamKey { group, stream } = &*work.batch.key;
            log::warn!("the events for the stream {stream} of {group} wait: {text}");
        }
        let held = self.held.entry(Rc::clone(&work.batch.key)).or_default();
        held.fail(work.boot_ms, Pace::Refusal, Asked::default(), work.env.clock.random());
        // However many are refused, they are tried again one after the other.
        held.until_ms = held.until_ms.max(self.held_turn_ms);
        let until_ms = held.until_ms;
        self.held_turn_ms = until_ms.saturating_add(HELD_TURN_MS);
        // The service answered, so the road is open.
        if self.held.len() < MAX_HELD {
            self.backoff.succeed();
        }
        self.trouble = None;
        self.note_error(text, work.env.clock);
        Step::Hold { until_ms }
    }

    /// Whether the refusal is put down to a wrong clock, which is corrected now. Only once until something succeeds, so that
    /// a server with a wild clock cannot keep us busy.
    pub(super) fn correct_clock(&mut self, work: &Work<'_>, answer: &Answer, meaning: Meaning) -> bool {
        let may_be_clock = matches!(meaning, Meaning::BadSignature | Meaning::Denied);
        let correct = may_be_clock
            && !self.clock_corrected
            && answer.is_of_service()
            && self.clock.explains_refusal(answer.signed_ms, work.env.clock);
        self.clock_corrected |= correct;
        correct
    }

    pub(super) fn renew_or_wait(&mut self, work: &Work<'_>, text: &str) -> Step {
        if self.credentials.renew(work.env, work.boot_ms) {
            self.note_error(text.to_owned(), work.env.clock);
            return Step::Progress;
        }
        self.wait(work, Trouble::Refused, Pace::Refusal, Asked::default(), text)
    }

    pub(super) fn no_answer(&mut self, work: &Work<'_>, endpoint: &Endpoint, what: &str, error: NoAnswer) -> Step {
        let error = match error {
            NoAnswer::Net(error) => error,
            NoAnswer::Unsigned(text) => {
                return self.wait(work, Trouble::Refused, Pace::Refusal, Asked::default(), &format!("{what}: {text}"));
            }
        };
        let text = format!("{what}: {error}");
        let trouble = match error.kind {
            // The process is about to stop: this says nothing about the link.
            NetErrorKind::Stopped => return Step::Interrupted,
            NetErrorKind::CertificateDates if self.may_ask_date(work.boot_ms) => {
                self.asked_date_boot_ms = Some(work.boot_ms);
                self.ask_date = Some(endpoint.clone());
                self.note_error(text, work.env.clock);
                return Step::Progress;
            }
            NetErrorKind::Timeout => Trouble::TimedOut,
            _ => Trouble::Offline,
        };
        self.wait(work, trouble, Pace::Outage, Asked::default(), &text)
    }

    fn may_ask_date(&self, boot_ms: u64) -> bool {
        self.asked_date_boot_ms.is_none_or(|at| boot_ms.saturating_sub(at) >= ASK_DATE_MS)
    }

    /// Everything waits.
    pub(super) fn wait(&mut self, work: &Work<'_>, trouble: Trouble, pace: Pace, asked: Asked, text: &str) -> Step {
        self.clock_corrected = false;
        // The exchange took its time; the wait starts now.
        self.backoff.fail(work.env.clock.monotonic_ms(), pace, asked, work.env.clock.random());
        self.note(trouble, text.to_owned(), work.env.clock);
        Step::Wait
    }

    pub(super) fn note(&mut self, trouble: Trouble, text: String, clock: &dyn Clock) {
        self.trouble = Some(trouble);
        self.note_error(text, clock);
    }

    fn note_error(&mut self, text: String, clock: &dyn Clock) {
        self.last_error = Some((text, self.clock.now_ms(clock)));
    }
}
