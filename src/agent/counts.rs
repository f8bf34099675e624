//! Where every event went: produced = delivered + pending + dropped, at any moment and over restarts.

use std::collections::BTreeMap;

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
    /// Counts events as dropped.
    pub fn drop_events(&mut self, reason: DropReason, events: u64) {
        if events > 0 {
            *self.dropped.entry(reason).or_default() += events;
        }
    }

    /// All that was dropped.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// What is neither delivered nor dropped must be pending.
    pub fn pending(&self) -> u64 {
        self.produced.saturating_sub(self.delivered + self.dropped_total())
    }

    /// After a restart the disk says what is pending; what was only in memory was never certain and is not counted.
    pub fn settle(&mut self, pending: u64) {
        self.produced = self.delivered + self.dropped_total() + pending;
    }
}
