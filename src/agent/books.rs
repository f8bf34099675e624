//! The one bookkeeper. Where every event went: produced = delivered + pending + dropped, at any moment and over restarts.
//!
//! Counts are taken from sets of event numbers as they are settled, in this one place. What is pending is not kept here: the
//! lane, the spool and the body that is being sent are asked ([`super::Agent::counts`]).
//!
//! Over restarts: a clean stop leaves the counts in the state directory; after a kill they go on from the live status file,
//! at most five seconds old; after a power cut, from what the state directory remembered last. Both files are hints: absurd
//! ones are begun anew. What was in memory when a process was killed was never certain and is in none of the numbers.

use super::state::{Loss, State};
use super::status::Status;
use crate::model::StreamKey;
use std::collections::BTreeMap;

/// Losses (streams times reasons) that are told one by one; beyond that they are only counted.
const LOSSES_MAX: usize = 1_000;
/// No device counts so far; a file that says so is damaged, and sums below cannot overflow.
const COUNT_MAX: u64 = 1 << 56;

/// Why events were dropped: the keys of `dropped` in the status file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// The buffer was over `max_bytes`.
    MaxBytes,
    /// Older than `max_age`.
    MaxAge,
    /// Memory was over `memory_bytes` and there was no disk to go to.
    MemoryFull,
    /// Older than CloudWatch Logs takes (14 days), by our own look at the clock.
    Expired,
    /// CloudWatch Logs: `tooOldLogEventEndIndex`.
    TooOld,
    /// CloudWatch Logs: `tooNewLogEventStartIndex`.
    TooNew,
    /// CloudWatch Logs: `expiredLogEventEndIndex`, older than the group's retention.
    PastRetention,
    /// CloudWatch Logs will never take it.
    Refused,
    /// A record on disk was damaged.
    Damaged,
    /// Removed by `buffer drop`.
    Removed,
    /// Moved to a file by `buffer export --move`.
    Exported,
}

impl DropReason {
    const ALL: [Self; 11] = [
        Self::MaxBytes,
        Self::MaxAge,
        Self::MemoryFull,
        Self::Expired,
        Self::TooOld,
        Self::TooNew,
        Self::PastRetention,
        Self::Refused,
        Self::Damaged,
        Self::Removed,
        Self::Exported,
    ];

    /// The word in the status file and in marker events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxBytes => "max_bytes",
            Self::MaxAge => "max_age",
            Self::MemoryFull => "memory_full",
            Self::Expired => "expired",
            Self::TooOld => "too_old",
            Self::TooNew => "too_new",
            Self::PastRetention => "past_retention",
            Self::Refused => "refused",
            Self::Damaged => "damaged",
            Self::Removed => "removed",
            Self::Exported => "exported",
        }
    }

    /// The reason with that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// Counts of events since the state directory was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that conversion made, marker events not among them.
    pub produced: u64,
    /// Events that CloudWatch Logs accepted.
    pub delivered: u64,
    /// Events that were dropped, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

impl Counts {
    /// All that was dropped.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// None of them has gone back.
    fn is_newer_than(&self, before: &Self) -> bool {
        self.produced >= before.produced
            && self.delivered >= before.delivered
            && before.dropped.iter().all(|(reason, n)| self.dropped.get(reason) >= Some(n))
    }

    fn from_words<'a>(
        produced: u64,
        delivered: u64,
        dropped: impl Iterator<Item = (&'a String, &'a u64)>,
    ) -> Option<Self> {
        let mut counts = Self { produced, delivered, ..Self::default() };
        for (word, events) in dropped {
            let reason = DropReason::from_word(word).unwrap_or(DropReason::Removed);
            let sum = counts.dropped.entry(reason).or_default();
            *sum = sum.checked_add(*events).filter(|sum| *sum < COUNT_MAX)?;
        }
        let sane = produced < COUNT_MAX && delivered < COUNT_MAX;
        sane.then_some(counts)
    }
}

/// The counts, and the losses that no marker event has told yet.
#[derive(Clone, Debug, Default)]
pub struct Books {
    counts: Counts,
    losses: Vec<Loss>,
    /// So many of the first losses are being told, one of a stream at most: they stay as they are.
    telling: usize,
}

impl Books {
    /// Goes on from what the last process left: the state file, or its live status file where that is newer. Says what was
    /// of no use.
    pub fn open(state: &State, status: Option<&Status>) -> (Self, Option<&'static str>) {
        let kept = Counts::from_words(state.produced, state.delivered, state.dropped.iter());
        let trouble = kept.is_none().then_some("its counts cannot be, they begin anew");
        let mut counts = kept.unwrap_or_default();
        // The status file lies in memory and may be another state directory's.
        let live = status.filter(|status| state.id.is_some() && status.state_id == state.id).and_then(|status| {
            let events = &status.events;
            Counts::from_words(events.produced, events.delivered, events.dropped.iter())
        });
        if let Some(live) = live.filter(|live| live.is_newer_than(&counts)) {
            counts = live;
        }
        let mut losses = state.losses.clone();
        losses.retain(|loss| loss.count < COUNT_MAX);
        losses.truncate(LOSSES_MAX);
        (Self { counts, losses, telling: 0 }, trouble)
    }

    /// The counts.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Losses that wait for their marker events and are not being told.
    pub fn untold(&self) -> &[Loss] {
        &self.losses[self.telling..]
    }

    /// Conversion made so many events.
    pub fn produced(&mut self, events: u64) {
        self.counts.produced += events;
    }

    /// CloudWatch Logs took so many.
    pub fn delivered(&mut self, events: u64) {
        self.counts.delivered += events;
    }

    /// Counts events as dropped and remembers them for a marker event in their stream, where it is known.
    pub fn lost(&mut self, reason: DropReason, key: Option<&StreamKey>, events: u64, (from_ms, to_ms): (i64, i64)) {
        if events == 0 {
            return;
        }
        *self.counts.dropped.entry(reason).or_default() += events;
        let Some(key) = key else { return };
        let word = reason.as_str();
        let full = self.losses.len() >= LOSSES_MAX;
        let mut open = self.losses[self.telling..].iter_mut();
        match open.find(|loss| loss.group == key.group && loss.stream == key.stream && loss.reason == word) {
            Some(loss) => {
                loss.count += events;
                loss.from_ms = loss.from_ms.min(from_ms);
                loss.to_ms = loss.to_ms.max(to_ms);
            }
            None if full => {}
            None => self.losses.push(Loss {
                group: key.group.clone(),
                stream: key.stream.clone(),
                reason: word.to_owned(),
                count: events,
                from_ms,
                to_ms,
            }),
        }
    }

    /// The same for what the spool lost.
    pub fn lost_by_spool(&mut self, loss: &crate::spool::Loss) {
        let reason = DropReason::from_word(loss.reason.as_str()).unwrap_or(DropReason::Damaged);
        log::warn!("{} buffered events are lost: {}", loss.events, reason.as_str());
        self.lost(reason, loss.key.as_deref(), loss.events, (loss.from_ms, loss.to_ms));
    }

    /// This one of [`Books::untold`] is told next: it stays as it is until [`Books::told`] or [`Books::not_told`].
    pub fn tell(&mut self, at: usize) -> &Loss {
        let first = self.telling;
        self.losses.swap(first, first + at);
        self.telling += 1;
        &self.losses[first]
    }

    /// The stream's marker event was taken, or will never be.
    pub fn told(&mut self, key: &StreamKey) {
        if let Some(at) = self.not_told(key) {
            self.losses.remove(at);
        }
    }

    /// It is told another time. Says where it is now.
    pub fn not_told(&mut self, key: &StreamKey) -> Option<usize> {
        let told = &self.losses[..self.telling];
        let at = told.iter().position(|loss| loss.group == key.group && loss.stream == key.stream)?;
        self.telling -= 1;
        self.losses.swap(at, self.telling);
        Some(self.telling)
    }

    /// After a restart the disk says what is pending.
    pub fn settle(&mut self, pending: u64) {
        self.counts.produced = self.counts.delivered + self.counts.dropped_total() + pending;
    }

    /// By how much the books are off; 0 but for a fault of ours.
    pub fn off_by(&self, pending: u64) -> i64 {
        let known = self.counts.delivered + self.counts.dropped_total() + pending;
        self.counts.produced.cast_signed() - known.cast_signed()
    }

    /// Puts counts and losses into the state.
    pub fn keep_in(&self, state: &mut State) {
        state.produced = self.counts.produced;
        state.delivered = self.counts.delivered;
        state.dropped = self.counts.dropped.iter().map(|(reason, n)| (reason.as_str().to_owned(), *n)).collect();
        state.losses.clone_from(&self.losses);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::status::EventCounts;

    fn state(produced: u64, delivered: u64) -> State {
        State { id: Some("a".into()), produced, delivered, ..State::default() }
    }

    fn status(id: &str, produced: u64, delivered: u64) -> Status {
        let events = EventCounts { produced, delivered, ..EventCounts::default() };
        Status { state_id: Some(id.into()), events, ..Status::default() }
    }

    #[test]
    fn counts_go_on_from_the_newer_of_both_files() {
        let delivered = |state: &State, status: Option<&Status>| Books::open(state, status).0.counts().delivered;
        assert_eq!(delivered(&state(10, 5), None), 5);
        assert_eq!(delivered(&state(10, 5), Some(&status("a", 500, 499))), 499);
        assert_eq!(delivered(&state(10, 5), Some(&status("a", 9, 4))), 5, "an older file");
        assert_eq!(delivered(&state(10, 5), Some(&status("b", 500, 499))), 5, "another state directory's file");
    }

    #[test]
    fn counts_that_cannot_be_begin_anew() {
        for bad in [u64::MAX, u64::MAX - 1, COUNT_MAX] {
            for state in
                [state(bad, 0), state(0, bad), State { dropped: [("max_age".into(), bad)].into(), ..state(1, 1) }]
            {
                let (mut books, trouble) = Books::open(&state, None);
                assert!(trouble.is_some());
                books.settle(7);
                assert_eq!((books.counts().produced, books.off_by(7)), (7, 0));
            }
            let (books, _) = Books::open(&state(10, 5), Some(&status("a", bad, bad)));
            assert_eq!(books.counts().delivered, 5);
        }
        let unknown = [("x".into(), COUNT_MAX - 1), ("y".into(), COUNT_MAX - 1)].into();
        assert!(Books::open(&State { dropped: unknown, ..state(1, 1) }, None).1.is_some());
    }

    #[test]
    fn a_loss_that_is_being_told_does_not_grow() {
        let key = StreamKey { group: "g".into(), stream: "s".into() };
        let mut books = Books::default();
        books.lost(DropReason::MaxAge, Some(&key), 2, (1, 2));
        books.tell(0);
        books.lost(DropReason::MaxAge, Some(&key), 3, (3, 4));
        books.told(&key);
        assert_eq!(books.untold().iter().map(|loss| loss.count).collect::<Vec<_>>(), [3]);
        assert_eq!(books.counts().dropped_total(), 5);
    }

    #[test]
    fn two_streams_are_told_at_once_and_each_of_its_own() {
        let key = |stream: &str| StreamKey { group: "g".into(), stream: stream.into() };
        let mut books = Books::default();
        for (stream, count) in [("a", 1), ("b", 2), ("c", 3)] {
            books.lost(DropReason::MaxAge, Some(&key(stream)), count, (0, 0));
        }
        let counts = |books: &Books| books.untold().iter().map(|loss| loss.count).collect::<Vec<_>>();
        // The first one's body waits for its stream; another is told meanwhile.
        assert_eq!(books.tell(0).count, 1);
        assert_eq!(books.tell(1).count, 3);
        books.lost(DropReason::MaxAge, Some(&key("a")), 4, (0, 0));
        books.told(&key("c"));
        assert_eq!(counts(&books), [2, 4], "what is being told does not grow, and the other waits on");
        assert!(books.not_told(&key("b")).is_none(), "it is not being told");
        assert!(books.not_told(&key("a")).is_some());
        assert_eq!(books.tell(0).count, 1);
        books.told(&key("a"));
        assert_eq!(counts(&books), [2, 4]);
    }
}
