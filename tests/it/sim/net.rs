//! The network of a simulated device: exporters, the link, and CloudWatch Logs behind it.

use super::clock::SimClock;
use super::exporter::Exporter;
use super::{ENDPOINT, RIGHT_MS};
use crate::cloudwatch::{Date, FakeAnswer, FakeCloudWatch, Fate, sha256_hex};
use crate::sim_disk::SimDisk;
use promwatch::env::{Exchange, Head, Limits, Net, NetError, NetErrorKind, Record, Request};
use promwatch::model::settings::DnsKind;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::rc::Rc;

/// A kept connection that nobody used for so long is closed by the other side.
const IDLE_MS: u64 = 60_000;

/// The way to CloudWatch Logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Answers after this many milliseconds.
    Up(u64),
    /// Connections are refused at once.
    Refused,
    /// Nothing ever comes back.
    BlackHole,
    /// Bytes per second, up only.
    Slow(u64),
    /// Every connection ends so, at once: a certificate that is refused, a name that has no address.
    Fails(NetErrorKind),
}

/// A body that was sent and never arrived.
pub struct Unseen {
    /// True time.
    pub at_ms: i64,
    /// Its SHA-256.
    pub sha256: String,
}

/// The network: exporters by the host and port of their URL, and CloudWatch Logs with STS.
pub struct SimNet {
    clock: Rc<SimClock>,
    /// CloudWatch Logs.
    pub cloud: RefCell<FakeCloudWatch>,
    /// Exporters.
    pub exporters: RefCell<BTreeMap<String, Exporter>>,
    /// The link.
    pub link: Cell<Link>,
    /// What the link becomes before each of the next requests to CloudWatch Logs: it changes between two bodies.
    pub next_links: RefCell<VecDeque<Link>>,
    /// All requests so far, those to exporters too.
    pub exchanges: Cell<u64>,
    /// When each request to CloudWatch Logs or STS was begun, milliseconds since boot, whether it got there or not.
    pub asked_ms: RefCell<Vec<u64>>,
    /// Requests to CloudWatch Logs that ran out of time.
    pub timeouts: Cell<u64>,
    /// By how much the `Date` of each connection is off, in milliseconds; the last again and again.
    pub date_offsets_ms: RefCell<Vec<i64>>,
    /// Connections to CloudWatch Logs that were made.
    pub connections: Cell<u64>,
    used_ms: Cell<Option<u64>>,
    /// Bodies that were sent and never arrived.
    pub unseen: RefCell<Vec<Unseen>>,
    /// When, by the true clock, an answer with the service's mark and the right time last arrived.
    pub told_ms: Cell<Option<i64>>,
    crash_armed: Cell<bool>,
    /// The disk as it was when the process died in the middle of a request.
    pub frozen: RefCell<Option<SimDisk>>,
    disk: RefCell<SimDisk>,
}

impl SimNet {
    /// A network with one exporter, `exporter:9100`, and a good link.
    pub fn new(clock: Rc<SimClock>, disk: SimDisk) -> Self {
        let exporter = Exporter { stream: "sim".to_owned(), ..Exporter::default() };
        Self {
            clock,
            cloud: RefCell::new(FakeCloudWatch::default()),
            exporters: RefCell::new(BTreeMap::from([("exporter:9100".to_owned(), exporter)])),
            link: Cell::new(Link::Up(40)),
            next_links: RefCell::default(),
            exchanges: Cell::new(0),
            asked_ms: RefCell::default(),
            timeouts: Cell::new(0),
            date_offsets_ms: RefCell::default(),
            connections: Cell::new(0),
            used_ms: Cell::new(None),
            unseen: RefCell::default(),
            told_ms: Cell::new(None),
            crash_armed: Cell::new(false),
            frozen: RefCell::new(None),
            disk: RefCell::new(disk),
        }
    }

    /// The machine has another disk now: one that survived a power cut.
    pub fn put_in(&self, disk: &SimDisk) {
        *self.disk.borrow_mut() = disk.clone();
        self.used_ms.set(None);
    }

    /// The process dies in the middle of the next PutLogEvents: it is stored, and nobody hears of it.
    pub fn crash_in_request(&self) {
        self.crash_armed.set(true);
    }

    /// From now on nothing goes wrong.
    pub fn spare(&self) {
        self.link.set(Link::Up(50));
        self.next_links.borrow_mut().clear();
        self.date_offsets_ms.borrow_mut().clear();
        self.crash_armed.set(false);
        let mut cloud = self.cloud.borrow_mut();
        cloud.faults.clear();
        cloud.date = None;
    }

    fn error(kind: NetErrorKind, text: &str, sent: bool) -> NetError {
        NetError { kind, text: text.to_owned(), sent }
    }

    fn exporter(
        &self,
        host: &str,
        limits: Limits,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        let mut exporters = self.exporters.borrow_mut();
        let Some(exporter) = exporters.get_mut(host).filter(|exporter| !exporter.down) else {
            return Err(Self::error(NetErrorKind::Connect, "connection refused", false));
        };
        if let Some(kind) = exporter.hangs {
            let part = if kind == NetErrorKind::Timeout { 4 } else { 3 };
            self.clock.pass(limits.total_ms.min(limits.stall_ms) / 4 * part);
            return Err(Self::error(kind, "no answer in time", true));
        }
        let (status, content_type, body) = exporter.answer(self.clock.true_ms(), self.clock.boot.get());
        self.clock.pass(exporter.slow_ms.unwrap_or(3));
        let head = Head { status, headers: vec![("content-type".to_owned(), content_type)] };
        for piece in body.chunks(16 << 10) {
            if on_body(&head, piece).is_break() {
                return Err(Self::error(NetErrorKind::Refused, "refused", true));
            }
        }
        Ok(Exchange { head, body_bytes: body.len() as u64, duration_ms: 3, new_connection: true })
    }

    fn cloud(
        &self,
        request: &Request<'_>,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        if let Some(link) = self.next_links.borrow_mut().pop_front() {
            self.link.set(link);
        }
        let begun_ms = self.clock.monotonic_ms.get();
        self.asked_ms.borrow_mut().push(begun_ms);
        let new_connection = request.new_connection
            || self.used_ms.get().is_none_or(|used_ms| begun_ms.saturating_sub(used_ms) > IDLE_MS);
        if new_connection {
            self.connections.set(self.connections.get() + 1);
        }
        let answer = self.over_the_link(request);
        self.used_ms.set(answer.is_ok().then(|| self.clock.monotonic_ms.get()));
        let answer = answer.inspect_err(|error| {
            self.timeouts.set(self.timeouts.get() + u64::from(error.kind == NetErrorKind::Timeout));
        })?;
        self.cloud.borrow_mut().answer_arrived(&answer);
        self.note_time(&answer);
        let head = Head { status: answer.status, headers: answer.headers };
        if on_body(&head, &answer.body).is_break() {
            return Err(Self::error(NetErrorKind::Refused, "refused", true));
        }
        let duration_ms = self.clock.monotonic_ms.get() - begun_ms;
        Ok(Exchange { head, body_bytes: answer.body.len() as u64, duration_ms, new_connection })
    }

    /// The answer, if it comes back.
    fn over_the_link(&self, request: &Request<'_>) -> Result<FakeAnswer, NetError> {
        let timeout = || Err(Self::error(NetErrorKind::Timeout, "no answer in time", true));
        let give_up_ms = request.limits.stall_ms.min(request.limits.total_ms);
        let delay_ms = match self.link.get() {
            Link::Up(ms) => ms,
            Link::Refused => {
                self.clock.pass(1);
                return Err(Self::error(NetErrorKind::Connect, "connection refused", false));
            }
            Link::Fails(kind) => {
                self.clock.pass(1);
                return Err(Self::error(kind, "it failed", false));
            }
            Link::BlackHole => {
                self.lose(request);
                self.clock.pass(give_up_ms);
                return timeout();
            }
            // Kernels swallow a small body at once, so the wait is one long silence: the worst case.
            Link::Slow(bytes_per_second) => request.body.len() as u64 * 1000 / bytes_per_second + 50,
        };
        if delay_ms > give_up_ms {
            self.clock.pass(give_up_ms);
            if matches!(self.link.get(), Link::Slow(_)) {
                // It arrives all the same, later.
                self.answer(request);
            } else {
                self.lose(request);
            }
            return timeout();
        }
        self.clock.pass(delay_ms / 2);
        let answer = self.answer(request);
        if self.crash_armed.get() && request.body.len() > 1 && self.is_put() {
            self.crash_armed.set(false);
            *self.frozen.borrow_mut() = Some(self.disk.borrow().fork());
            return Err(Self::error(NetErrorKind::Broken, "the process is gone", true));
        }
        self.clock.pass(delay_ms - delay_ms / 2);
        match answer.fate {
            Fate::Delayed(ms) => {
                self.clock.pass(ms.min(give_up_ms));
                if ms > give_up_ms { timeout() } else { Ok(answer) }
            }
            Fate::Dropped => Err(Self::error(NetErrorKind::Broken, "the connection broke", true)),
            Fate::Arrives => Ok(answer),
        }
    }

    fn lose(&self, request: &Request<'_>) {
        self.unseen.borrow_mut().push(Unseen { at_ms: self.clock.true_ms(), sha256: sha256_hex(request.body) });
    }

    fn is_put(&self) -> bool {
        self.cloud.borrow().log.last().is_some_and(|seen| seen.action == "PutLogEvents")
    }

    fn answer(&self, request: &Request<'_>) -> FakeAnswer {
        let mut headers = request.headers.to_vec();
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            headers.push(("host".to_owned(), "logs.sim".to_owned()));
        }
        let rest = request.url.split_once("://").map_or(request.url, |(_, rest)| rest);
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        let mut cloud = self.cloud.borrow_mut();
        let offsets = self.date_offsets_ms.borrow();
        if let Some(offset_ms) = offsets.get(self.connections.get() as usize - 1).or(offsets.last()) {
            cloud.date = Some(Date::Off(*offset_ms));
        }
        cloud.handle(request.method, path, &headers, request.body, self.clock.true_ms())
    }

    fn note_time(&self, answer: &FakeAnswer) {
        let header = |name: &str| answer.headers.iter().find_map(|(n, value)| (n == name).then_some(value));
        let date = header("date").and_then(|text| httpdate::parse_http_date(text).ok());
        let since_1970 = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
        let told_ms = since_1970.map_or(0, |since| since.as_millis() as i64);
        // A second for the unit of `Date`, and the way back.
        if header("x-amzn-requestid").is_some() && (told_ms - self.clock.true_ms()).abs() < 10 * RIGHT_MS {
            self.told_ms.set(Some(self.clock.true_ms()));
        }
    }
}

impl Net for SimNet {
    fn exchange(
        &self,
        request: &Request<'_>,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        self.exchanges.set(self.exchanges.get() + 1);
        let rest = request.url.split_once("://").map_or(request.url, |(_, rest)| rest);
        if request.url.starts_with(ENDPOINT) || rest.starts_with("sts.") {
            return self.cloud(request, on_body);
        }
        self.exporter(rest.split('/').next().unwrap_or(rest), request.limits, on_body)
    }

    fn lookup(&self, _name: &str, _kind: DnsKind, _limits: Limits) -> Result<Vec<Record>, NetError> {
        Err(Self::error(NetErrorKind::Resolve, "no name server", false))
    }
}
