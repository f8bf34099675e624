//! What must hold after every unit of work, seen from outside: the receipts of CloudWatch Logs against the agent's counts.
//!
//! * produced = delivered + pending + dropped;
//! * delivered is what the answers that reached us acknowledged, no event more and none less;
//! * nothing is dropped for its age, unless the course lets it age;
//! * an event is stored again only if the answer of its last body was lost, or a crash may have lost the note of it: that of one
//!   body for a kill, those of the last [`Watch::cut_window_ms`] for a power cut; each copy is the same, byte for byte, but for its
//!   time where the agent has learnt more of the time since it made the first;
//! * a body whose answer was lost comes again as it was, until it is answered.

use super::net::SimNet;
use crate::cloudwatch::FakeCloudWatch;
use crate::cloudwatch::ledger::{Outcome, Receipt, identity};
use promwatch::agent::Agent;
use promwatch::agent::books::{Counts, DropReason};
use std::collections::{HashMap, HashSet};

/// Reasons that have to do with an event's age.
const AGED: [DropReason; 5] =
    [DropReason::MaxAge, DropReason::Expired, DropReason::TooOld, DropReason::TooNew, DropReason::PastRetention];
/// A body that ran out of time this often may be cut in halves, whether it was too large for the link or stored each time.
const TIMEOUTS_MAX: u64 = 3;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop, and did.
    Stop,
    /// It was gone from one moment to the next; the kernel keeps what was written.
    Kill,
    /// The machine lost its power.
    PowerCut,
}

/// An end that was not clean.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// How it ended.
    pub end: End,
    /// True time.
    pub true_ms: i64,
    /// Receipts until then.
    receipts: usize,
    /// The last receipt whose answer had arrived.
    acknowledged: Option<usize>,
}

/// A body that was sent and not answered, so that nobody knows whether it is stored.
struct Open {
    sha256: String,
    stream: String,
    identities: HashSet<u64>,
    /// The receipt of its first sending.
    receipt: usize,
    /// One of its sendings was stored.
    stored: bool,
    /// Requests that had run out of time before its first sending was seen; some of them may have been for it and never arrived.
    timeouts_before: u64,
}

/// The last stored copy of an event.
#[derive(Clone, Copy)]
struct Copy {
    receipt: usize,
    place: usize,
    copies: u32,
}

/// The watcher. It lives as long as the device, over all lives of the agent.
pub struct Watch {
    /// Said with every complaint.
    pub name: String,
    /// Events have identities: [`Exporter`](super::Exporter) made all of them.
    pub identities: bool,
    /// CloudWatch Logs does what it says: delivered can be compared with what it stored.
    pub honest: bool,
    /// No event gets so old that it may be dropped for it.
    pub nothing_ages: bool,
    /// The counts outlive a clean stop: there is a disk, and it works.
    pub counts_last: bool,
    /// What a power cut may undo of the journal: its sync interval, and what a unit of work takes.
    pub cut_window_ms: i64,
    /// All crashes so far.
    pub crashes: Vec<Crash>,
    looked: usize,
    /// Of this life of the agent.
    acknowledged: u64,
    /// Of all lives.
    acknowledged_ever: u64,
    /// What the counts said when this life began.
    base: u64,
    last_acknowledged: Option<usize>,
    stopped_with: Option<u64>,
    stored: HashMap<String, HashMap<u64, Copy>>,
    open: Vec<Open>,
    /// Requests that had run out of time when the last body of a stream was acknowledged.
    timeouts: HashMap<String, u64>,
    /// What the agent could know of the time, last.
    knowledge: (u8, i64, bool),
    /// Receipts and true time when that changed. A message that is made anew after it may tell another time.
    changes: Vec<(usize, i64)>,
}

impl Watch {
    /// A watcher of a device that has never run.
    pub fn new(name: String, sync_interval_ms: u64) -> Self {
        Self {
            name,
            identities: true,
            honest: true,
            nothing_ages: true,
            counts_last: true,
            cut_window_ms: sync_interval_ms.cast_signed() + 2_500,
            crashes: Vec::new(),
            looked: 0,
            acknowledged: 0,
            acknowledged_ever: 0,
            base: 0,
            last_acknowledged: None,
            stopped_with: None,
            stored: HashMap::new(),
            open: Vec::new(),
            timeouts: HashMap::new(),
            knowledge: (0, 0, false),
            changes: Vec::new(),
        }
    }

    /// What the agent can know of the time, looked at before each unit of work: boot, error of the wall clock, and whether the
    /// kernel or an answer confirmed it to this process.
    pub fn know(&mut self, knowledge: (u8, i64, bool), receipts: usize, true_ms: i64) {
        if std::mem::replace(&mut self.knowledge, knowledge) != knowledge {
            self.changes.push((receipts, true_ms));
        }
    }

    /// The agent has been started. A process counts from what the last one saved: after a clean stop that is all; after a kill it
    /// is as old as the live status file, or where there is none (most simulations) as the state file; after a power cut as
    /// what the disk kept. So each life is compared by the difference since its start, which must be exact whatever it
    /// started from, and the start may only be too low.
    pub fn started(&mut self, agent: &Agent) {
        self.base = agent.counts().0.delivered;
        self.acknowledged = 0;
        self.open.clear();
        assert!(
            self.base <= self.acknowledged_ever,
            "{}: {} delivered at the start, {} were acknowledged ever",
            self.name,
            self.base,
            self.acknowledged_ever
        );
        if let Some(stopped_with) = self.stopped_with.take().filter(|_| self.counts_last) {
            assert_eq!(self.base, stopped_with, "{}: delivered, over a clean stop", self.name);
        }
    }

    /// The agent was stopped in good order. Its spool is closed, so what is pending cannot be asked any more.
    pub fn stopped(&mut self, agent: &Agent, net: &SimNet) {
        self.look_at_receipts(net);
        self.check_delivered(agent);
        self.stopped_with = Some(agent.counts().0.delivered);
    }

    /// The agent is gone.
    pub fn crashed(&mut self, end: End, true_ms: i64, net: &SimNet) {
        self.stopped_with = None;
        self.look_at_receipts(net);
        let acknowledged = self.last_acknowledged;
        self.crashes.push(Crash { end, true_ms, receipts: net.cloud.borrow().receipts.len(), acknowledged });
    }

    /// The last crash was at this true time.
    pub fn died_at(&mut self, true_ms: i64) {
        if let Some(crash) = self.crashes.last_mut() {
            crash.true_ms = true_ms;
        }
    }

    /// A unit of work is over.
    pub fn look(&mut self, agent: &Agent, net: &SimNet) {
        self.look_at_receipts(net);
        let (counts, pending) = agent.counts();
        let name = &self.name;
        assert_eq!(
            counts.produced,
            counts.delivered + pending + counts.dropped_total(),
            "{name}: the books: {counts:?}, {pending} pending"
        );
        self.check_delivered(agent);
    }

    fn check_delivered(&self, agent: &Agent) {
        let (counts, _) = agent.counts();
        let told = if self.honest { self.base + self.acknowledged } else { counts.delivered };
        assert_eq!(
            counts.delivered, told,
            "{}: delivered is not what was acknowledged: {} since the start at {}, {counts:?}",
            self.name, self.acknowledged, self.base
        );
        if self.nothing_ages {
            self.check_nothing_aged(counts);
        }
    }

    fn check_nothing_aged(&self, counts: &Counts) {
        let aged: Vec<_> = counts.dropped.iter().filter(|(reason, _)| AGED.contains(reason)).collect();
        assert!(aged.is_empty(), "{}: dropped for their age, and none is old: {aged:?}", self.name);
    }

    /// How often the event with that identity is stored.
    pub fn copies(&self, stream: &str, identity: u64) -> u32 {
        self.stored.get(stream).and_then(|events| events.get(&identity)).map_or(0, |copy| copy.copies)
    }

    /// Events with an identity that are stored, each once; and how many copies there are beyond the first.
    pub fn stored(&self) -> (u64, u64) {
        let all = || self.stored.values().flat_map(HashMap::values);
        (all().count() as u64, all().map(|copy| u64::from(copy.copies) - 1).sum())
    }

    fn look_at_receipts(&mut self, net: &SimNet) {
        let (cloud, timeouts) = (&*net.cloud.borrow(), net.timeouts.get());
        while let Some(receipt) = cloud.receipts.get(self.looked) {
            let acknowledged = receipt.acknowledged();
            self.acknowledged += acknowledged;
            self.acknowledged_ever += acknowledged;
            if self.identities {
                self.note_copies(receipt, cloud, net);
                self.note_body(receipt, timeouts, cloud);
            }
            if receipt.outcome == Outcome::Acknowledged {
                self.last_acknowledged = Some(self.looked);
                self.timeouts.insert(receipt.stream.clone(), timeouts);
            }
            self.looked += 1;
        }
    }

    fn note_copies(&mut self, receipt: &Receipt, cloud: &FakeCloudWatch, net: &SimNet) {
        if receipt.stored.is_empty() {
            return;
        }
        let mut events = self.stored.remove(&receipt.stream).unwrap_or_default();
        let stored = cloud.events(&receipt.group, &receipt.stream);
        for place in receipt.stored.clone() {
            let message = &stored[place].message;
            let Some(identity) = identity(message) else { continue };
            let copies = match events.get(&identity) {
                None => 1,
                Some(copy) => {
                    let before = &cloud.receipts[copy.receipt];
                    assert!(
                        self.may_come_again(copy.receipt, before),
                        "{}: {identity} of {} was acknowledged by request {} and is stored again by request {}; {:?}{}",
                        self.name,
                        receipt.stream,
                        before.request,
                        receipt.request,
                        self.crashes.last(),
                        last_requests(cloud)
                    );
                    let (first, again) = (&stored[copy.place], &stored[place]);
                    let since_ms = first_sent_ms(before, cloud, net);
                    let changed = self.changes.iter().any(|(_, at_ms)| (since_ms..=receipt.at_ms).contains(at_ms));
                    let same = if !changed {
                        first.message == again.message && first.timestamp_ms == again.timestamp_ms
                    } else {
                        without_times(&first.message) == without_times(&again.message)
                    };
                    assert!(same, "{}: two copies differ: {first:?}, {again:?}", self.name);
                    copy.copies + 1
                }
            };
            events.insert(identity, Copy { receipt: self.looked, place, copies });
        }
        self.stored.insert(receipt.stream.clone(), events);
    }

    /// Whether an event may be sent again that was stored with this receipt.
    fn may_come_again(&self, at: usize, receipt: &Receipt) -> bool {
        receipt.outcome != Outcome::Acknowledged
            || self.crashes.iter().filter(|crash| at < crash.receipts).any(|crash| {
                let in_window = receipt.at_ms >= crash.true_ms - self.cut_window_ms;
                crash.acknowledged == Some(at) || (crash.end == End::PowerCut && in_window)
            })
    }

    /// A lost answer: the same body again, byte for byte, until there is an answer. Two exceptions: after three time-outs it may
    /// be cut in halves; and one that was not stored may be made anew when the agent has learnt more of the time. (It was
    /// signed with a time that the service refuses if it was off by five minutes: then nothing is repeated. The same bytes
    /// would be events of a wrong time for ever, or rejected for it.)
    fn note_body(&mut self, receipt: &Receipt, timeouts: u64, cloud: &FakeCloudWatch) {
        let identities: HashSet<u64> = receipt.identities.iter().flatten().copied().collect();
        let (name, changes) = (&self.name, &self.changes);
        let mut is_new = true;
        self.open.retain_mut(|open| {
            if open.sha256 == receipt.sha256 {
                is_new = false;
                open.stored |= !receipt.stored.is_empty();
                return receipt.outcome == Outcome::Lost;
            }
            if open.stream != receipt.stream || open.identities.is_disjoint(&identities) {
                return true;
            }
            let cut = timeouts - open.timeouts_before >= TIMEOUTS_MAX && identities.is_subset(&open.identities);
            let made_anew = !open.stored && changes.iter().any(|(at, _)| *at > open.receipt);
            assert!(
                cut || made_anew,
                "{name}: request {} to {} holds events of a body whose answer was lost, and is another body{}",
                receipt.request,
                receipt.stream,
                last_requests(cloud)
            );
            false
        });
        if receipt.outcome == Outcome::Lost && is_new {
            let (sha256, stream) = (receipt.sha256.clone(), receipt.stream.clone());
            self.open.push(Open {
                sha256,
                stream,
                identities,
                receipt: self.looked,
                stored: !receipt.stored.is_empty(),
                timeouts_before: self.timeouts.get(&receipt.stream).copied().unwrap_or(0),
            });
        }
    }
}

/// When the body of that receipt was sent for the first time, whether it arrived then or not: it was made before.
fn first_sent_ms(receipt: &Receipt, cloud: &FakeCloudWatch, net: &SimNet) -> i64 {
    let seen = cloud.receipts.iter().filter(|other| other.sha256 == receipt.sha256).map(|other| other.at_ms);
    let unseen = net.unseen.borrow();
    let unseen = unseen.iter().filter(|other| other.sha256 == receipt.sha256).map(|other| other.at_ms);
    seen.chain(unseen).min().unwrap_or(receipt.at_ms)
}

/// The last requests that CloudWatch Logs saw, for a complaint.
fn last_requests(cloud: &FakeCloudWatch) -> String {
    let mut text = String::new();
    for (request, seen) in cloud.log.iter().enumerate().skip(cloud.log.len().saturating_sub(12)) {
        let (action, sha256, code) = (&seen.action, &seen.body_sha256[..8], &seen.code);
        let receipt = cloud.receipts.iter().find(|receipt| receipt.request == request);
        let (outcome, stream) = receipt.map_or((None, ""), |receipt| (Some(receipt.outcome), &receipt.stream));
        let identities = receipt.map_or(&[][..], |receipt| &receipt.identities);
        let ends = (identities.first().copied().flatten(), identities.last().copied().flatten());
        text += &format!(
            "\n    {request} at {}: {action} {stream} {sha256}, {} events {ends:?}: {} {code} {outcome:?}",
            seen.at_ms,
            identities.len(),
            seen.status
        );
    }
    text
}

/// A message without the members that tell its time or how sure that is.
fn without_times(message: &str) -> String {
    let mut value: serde_json::Value = serde_json::from_str(message).expect("events are JSON");
    if let Some(object) = value.as_object_mut() {
        object.remove("Timestamp");
        object.remove("TimestampEstimated");
    }
    value.to_string()
}
