//! What must hold at the end of a course, when the link is up, the clock is right and nothing waits any more.

use super::clock::RIGHT_MS;
use super::device::Device;
use super::exporter::Exporter;
use super::truth::Boot;
use super::{GROUP, Watch};
use crate::cloudwatch::ledger::{Outcome, Receipt, STEP, identity};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Until then (milliseconds) after its scrape an event may be in memory only: `sync_interval` (5 s), two seconds more, and
/// half a second for the unit of work.
pub const AT_RISK_MS: i64 = 7_500;

/// A stored event, the first copy of it.
struct Placed {
    time_ms: i64,
    estimated: bool,
    receipt: usize,
}

impl Device {
    /// All events of scrapes that were certain are there: those that no crash followed within [`AT_RISK_MS`].
    pub fn check_all_there(&self) {
        for exporter in self.net.exporters.borrow().values() {
            for (index, time_ms) in exporter.times_ms.iter().enumerate() {
                let mut crashes = self.watch.crashes.iter();
                if crashes.any(|crash| (0..=AT_RISK_MS).contains(&(crash.true_ms - time_ms))) {
                    continue;
                }
                let scrape = index as u64 + 1;
                let missing: Vec<u64> = exporter
                    .identities(scrape)
                    .filter(|identity| self.watch.copies(&exporter.stream, *identity) == 0)
                    .collect();
                assert!(
                    missing.is_empty(),
                    "{}: {} events of scrape {scrape} of {} at {time_ms} are lost, {} first; crashes {:?}",
                    self.watch.name,
                    missing.len(),
                    exporter.stream,
                    missing[0],
                    self.watch.crashes
                );
            }
        }
    }

    /// Every event that was made is stored, or counted as dropped, or waits. For courses without crashes, of pages without
    /// counters.
    pub fn check_every_event_is_somewhere(&self) {
        let made: u64 = self.net.exporters.borrow().values().map(Exporter::events).sum();
        let (counts, pending) = self.agent.as_ref().expect("the agent runs").counts();
        let name = &self.watch.name;
        assert_eq!(counts.produced, made, "{name}: produced is what the exporters gave: {counts:?}");
        let (stored, _) = self.watch.stored();
        assert_eq!(
            made,
            stored + counts.dropped_total() + pending,
            "{name}: {stored} are stored, {counts:?}, {pending}"
        );
    }

    /// The markers in CloudWatch Logs tell of as many lost events as the counts.
    pub fn check_markers(&self) {
        let mut told: BTreeMap<String, u64> = BTreeMap::new();
        let mut seen = std::collections::BTreeSet::new();
        for (_, stream, event) in self.net.cloud.borrow().all_events() {
            // A marker whose answer was lost is there twice, as any event.
            if !seen.insert((stream.to_owned(), event.timestamp_ms, event.message.clone())) {
                continue;
            }
            let value: serde_json::Value = serde_json::from_str(&event.message).expect("events are JSON");
            if value["promwatch"] == "lost" {
                *told.entry(value["reason"].as_str().unwrap_or("?").to_owned()).or_default() +=
                    value["count"].as_u64().unwrap_or(0);
            }
        }
        let (counts, _) = self.agent.as_ref().expect("the agent runs").counts();
        let counted: BTreeMap<String, u64> =
            counts.dropped.iter().map(|(reason, events)| (reason.as_str().to_owned(), *events)).collect();
        assert_eq!(told, counted, "{}: markers and counts", self.watch.name);
    }

    /// Every event has the right time, as far as anybody could know it:
    ///
    /// * of a boot whose clock was confirmed (see [`Boot::confirmed`]): at most two intervals off;
    /// * of one whose clock never was: between the last confirmed boot before and the first after, in the order of the scrapes,
    ///   and marked as estimated.
    ///
    /// Excused is what was sent before anybody could know better, which is: an event in a body that was sent for the first time
    /// when the boot that sent it was not confirmed yet (its own answer may have confirmed it) and that was not refused then,
    /// whether that request was stored or a later one with the very same body or a half of it; and all events of a boot that only a lying kernel ever confirmed, with the order of others
    /// against them. A boot that was confirmed less than [`AT_RISK_MS`] before a crash may be known as confirmed or not.
    pub fn check_times(&self, interval_ms: i64) {
        for exporter in self.net.exporters.borrow().values().filter(|exporter| !exporter.stream.is_empty()) {
            self.check_times_of(exporter, interval_ms);
        }
    }

    fn check_times_of(&self, exporter: &Exporter, interval_ms: i64) {
        let cloud = self.net.cloud.borrow();
        let excused = self.excused(&cloud.receipts);
        let lied_to = |boot: &Boot| boot.confirmed.is_none() && boot.misled;
        let anybody_lied_to = self.truth.boots.iter().any(lied_to);
        let mut latest_estimate_ms = i64::MIN;
        for (identity, placed) in first_copies(&cloud.receipts, cloud.events(GROUP, &exporter.stream), exporter) {
            let scrape = (identity / STEP) as usize - 1;
            let (true_ms, boot) = (exporter.times_ms[scrape], self.truth.boot(exporter.boots[scrape]));
            if excused.contains(&placed.receipt) || lied_to(&boot) || self.may_be_forgotten(&boot) {
                continue;
            }
            let name = &self.watch.name;
            let error_ms = placed.time_ms - true_ms;
            if boot.confirmed.is_some() {
                assert!(
                    error_ms.abs() <= 2 * interval_ms + RIGHT_MS,
                    "{name}: {identity} of {} is {error_ms} ms off, of a confirmed boot: {boot:?}",
                    exporter.stream
                );
            } else if !anybody_lied_to {
                let (from_ms, to_ms) = self.neighbours(&boot);
                let slack_ms = 2 * interval_ms + RIGHT_MS;
                let inside = placed.time_ms >= from_ms - slack_ms && placed.time_ms <= to_ms + slack_ms;
                assert!(
                    inside,
                    "{name}: {identity} of {boot:?} at {} is not between its neighbours {from_ms} and {to_ms}; {:?}",
                    placed.time_ms, self.truth.boots
                );
                assert!(
                    placed.time_ms >= latest_estimate_ms,
                    "{name}: {identity} at {} is before {latest_estimate_ms}: out of order",
                    placed.time_ms
                );
                assert!(placed.estimated, "{name}: {identity}, of a boot that nobody confirmed, is not marked");
                latest_estimate_ms = placed.time_ms;
            }
        }
    }

    /// Nothing may have been written since the confirmation.
    fn may_be_forgotten(&self, boot: &Boot) -> bool {
        let since_ms = |true_ms: i64| true_ms - boot.confirmed_ms;
        let mut crashes = self.watch.crashes.iter();
        boot.confirmed.is_some() && crashes.any(|crash| (0..=AT_RISK_MS).contains(&since_ms(crash.true_ms)))
    }

    /// The last confirmed time before a boot, and the first after it.
    fn neighbours(&self, boot: &Boot) -> (i64, i64) {
        let known = |other: &&Boot| other.confirmed.is_some() && !self.may_be_forgotten(other);
        let confirmed = || self.truth.boots.iter().filter(known);
        let before = confirmed().rfind(|other| other.number < boot.number).map_or(0, |other| other.to_ms);
        let after = confirmed().find(|other| other.number > boot.number).map_or(i64::MAX / 2, |other| other.from_ms);
        (before, after)
    }

    /// The receipts that [`Self::check_times`] excuses.
    fn excused(&self, receipts: &[Receipt]) -> HashSet<usize> {
        let boot_at = |at_ms: i64| self.truth.boots.iter().rfind(|boot| boot.from_ms <= at_ms);
        let unconfirmed = |at_ms: i64, receipts: usize| {
            boot_at(at_ms).is_some_and(|boot| boot.confirmed.is_none_or(|confirmed| receipts < confirmed))
        };
        // Bodies that never arrived are sent again as they were, too. They have no receipt, and no answer of their own.
        let unseen = self.net.unseen.borrow();
        let early = unseen.iter().filter(|unseen| {
            boot_at(unseen.at_ms).is_some_and(|boot| boot.confirmed.is_none() || unseen.at_ms < boot.confirmed_ms)
        });
        let mut bodies: HashSet<&str> = early.map(|unseen| unseen.sha256.as_str()).collect();
        // A half of a body that timed out three times keeps its times: the whole may be stored.
        let mut wholes: Vec<(&str, HashSet<Option<u64>>)> = Vec::new();
        let mut excused = HashSet::new();
        for (at, receipt) in receipts.iter().enumerate().filter(|(_, receipt)| receipt.outcome != Outcome::Refused) {
            let is_half = wholes.iter().any(|(stream, events)| {
                *stream == receipt.stream
                    && receipt.identities.len() < events.len()
                    && receipt.identities.iter().all(|identity| events.contains(identity))
            });
            if is_half || unconfirmed(receipt.at_ms, at) || bodies.contains(receipt.sha256.as_str()) {
                bodies.insert(&receipt.sha256);
                excused.insert(at);
                if receipt.outcome == Outcome::Lost {
                    wholes.push((&receipt.stream, receipt.identities.iter().copied().collect()));
                }
            }
        }
        excused
    }

    /// Values of the gauge `g` that CloudWatch Logs holds for the stream `sim`, with how often each is there and its time.
    pub fn stored_gauges(&self) -> BTreeMap<u64, Vec<i64>> {
        let cloud = self.net.cloud.borrow();
        let mut gauges: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        for event in cloud.events(GROUP, "sim") {
            let value: serde_json::Value = serde_json::from_str(&event.message).expect("events are JSON");
            if let Some(number) = value["g"].as_f64() {
                assert_eq!(value["Timestamp"], event.timestamp_ms.to_string(), "both times agree");
                gauges.entry(number as u64).or_default().push(event.timestamp_ms);
            }
        }
        gauges
    }

    /// The sum of the deltas of `c_total` that CloudWatch Logs holds, each scrape's once.
    pub fn stored_counter_sum(&self) -> f64 {
        let cloud = self.net.cloud.borrow();
        let mut seen: BTreeMap<i64, f64> = BTreeMap::new();
        for event in cloud.events(GROUP, "sim") {
            let value: serde_json::Value = serde_json::from_str(&event.message).expect("events are JSON");
            if let Some(number) = value["c_total"].as_f64() {
                seen.insert(event.timestamp_ms, number);
            }
        }
        seen.values().sum()
    }

    /// True times of the scrapes of the first exporter.
    pub fn scrape_times(&self) -> Vec<i64> {
        self.net.exporters.borrow()["exporter:9100"].times_ms.clone()
    }

    /// The strict server never had to complain.
    pub fn check_server(&self) {
        let cloud = self.net.cloud.borrow();
        assert!(cloud.violations.is_empty(), "{}: {:#?}", self.watch.name, cloud.violations);
    }
}

/// The first copy of every event of an exporter, by identity.
fn first_copies(
    receipts: &[Receipt],
    stored: &[crate::cloudwatch::Stored],
    exporter: &Exporter,
) -> BTreeMap<u64, Placed> {
    let mut first: HashMap<u64, Placed> = HashMap::new();
    for (at, receipt) in receipts.iter().enumerate().filter(|(_, receipt)| receipt.stream == exporter.stream) {
        for event in &stored[receipt.stored.clone()] {
            let Some(identity) = identity(&event.message) else { continue };
            first.entry(identity).or_insert_with(|| Placed {
                time_ms: event.timestamp_ms,
                estimated: event.message.contains("TimestampEstimated"),
                receipt: at,
            });
        }
    }
    first.into_iter().collect()
}

/// Runs every case to its end and then tells of all that failed, not of the first alone.
pub fn each<T>(cases: impl IntoIterator<Item = T>, run: impl Fn(&T)) {
    let mut failures = Vec::new();
    let mut all = 0;
    for case in cases {
        all += 1;
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&case)));
        if let Err(panic) = result {
            let text = panic.downcast_ref::<String>().cloned();
            failures
                .push(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default());
        }
    }
    assert!(failures.is_empty(), "{} of {all} cases failed:\n{}", failures.len(), failures.join("\n"));
}

impl Watch {
    /// The copies beyond the first that were ever stored are none.
    pub fn check_nothing_twice(&self) {
        let (_, more) = self.stored();
        assert_eq!(more, 0, "{}: events are there twice", self.name);
    }
}
