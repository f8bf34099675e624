//! What time it is, how sure that is, and what a record's time means now: nothing that cannot be undone rests on a time that
//! nobody confirmed.
//!
//! A small machine may have no clock of its own. Its wall clock is believed when the kernel calls it synchronised, or AWS's
//! `Date` agrees with it, or at least when it is not before the release's date and the last time that was believed:
//!
//! ```text
//!           wall < floor                      one answer of AWS, or NTP                two answers, or one and NTP
//!  [held] ------------> [not credible] -------------------------------> [confirmed] ----------------------------> [certain]
//!                            |  wall steps past the floor                    ^   to send, to move times              to drop, to
//!                            '------------------> [credible] ----------------'                                       re-stamp
//! ```
//!
//! A `Date` that contradicts what is believed waits for a second answer over another connection that agrees with it
//! ([`Timekeeper::question`] says that one is wanted). Only a device whose clock cannot be right believes the first at once.
//!
//! Every scrape keeps its boot and the time since that boot, so its time can be worked out again once the clock is known
//! ([`boots`]). Three kinds of time: since boot (`u64`, `monotonic_ms`), of the device's clock ([`Device`]), and [`True`].
//!
//! Refuses: input and output, setting the machine's clock, deciding what is dropped.
//!
//! Limits: 64 boots.

mod boots;
mod heard;

pub use boots::{Boot, Placement, hex};
pub use heard::Heard;

use crate::env::{CertificateTime, Clock};
use boots::Boots;

/// No clock from before the release is right: seconds since 1970, `SOURCE_DATE_EPOCH` where the build sets it.
pub const RELEASE_EPOCH_S: i64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => parse_epoch(text),
    None => 1_795_305_600,
};

/// Differences up to this are slewing and delay, not steps, in milliseconds.
const STEP_MS: i64 = 1_000;
/// Certificates are judged by the believed time instead of the machine's from this difference on, in milliseconds.
const WRONG_MS: i64 = 60_000;
/// AWS refuses signatures that are further off, in milliseconds (SigV4: five minutes, some services fifteen).
pub const SIGNATURE_MS: i64 = 15 * 60_000;
/// A hint from a file that says more than this (the year 2200) is damaged, milliseconds since 1970.
const FAR_MS: i64 = 7_258_118_400_000;

const fn parse_epoch(text: &str) -> i64 {
    let (bytes, mut value, mut at) = (text.as_bytes(), 0_i64, 0);
    while at < bytes.len() {
        assert!(bytes[at].is_ascii_digit(), "SOURCE_DATE_EPOCH is not a number");
        value = value * 10 + (bytes[at] - b'0') as i64;
        at += 1;
    }
    value
}

/// What a device's clock said, milliseconds since 1970. It may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device(pub i64);

/// A time by the clock that was confirmed, or the best guess while none was, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct True(pub i64);

/// How far the clock is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Before the release, or before a time that was believed: nothing is sent with it.
    NotCredible,
    /// Plausible.
    Credible,
    /// The kernel says synchronised, or AWS's `Date` was seen in this boot.
    Confirmed,
}

impl Standing {
    /// The word in the status file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotCredible => "not credible",
            Self::Credible => "credible",
            Self::Confirmed => "confirmed",
        }
    }
}

/// Why AWS should be asked for the time, over a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Nothing can be sent before.
    NoClock,
    /// An answer contradicts the clock, and nothing should be sent by either.
    Contested,
    /// An answer contradicts what was confirmed; what was confirmed goes on meanwhile.
    Doubted,
}

/// Follows the clock through steps, weighs what is heard of the time, and remembers boots.
pub struct Timekeeper {
    boot_id: [u8; 16],
    /// Wall minus monotonic time, as the machine has it now.
    device_base_ms: Option<i64>,
    /// The kernel's flag.
    kernel: bool,
    /// What AWS said of true minus monotonic time and was believed, and over which connection.
    aws: Option<(Heard, u64)>,
    /// The same base as it is used: not every answer moves it.
    aws_base_ms: i64,
    /// Two answers over different connections agreed, or one with NTP.
    certain: bool,
    /// An answer that contradicts what is believed, and over which connection.
    candidate: Option<(Heard, u64)>,
    /// Answers over new connections so far: tells them apart.
    connections: u64,
    floor_ms: i64,
    boots: Boots,
}

impl Timekeeper {
    /// `boots` and `credible_ms` are what the state directory remembers.
    pub fn new(clock: &dyn Clock, boots: Vec<Boot>, credible_ms: i64) -> Self {
        let release_ms = RELEASE_EPOCH_S * 1000;
        let boots = Boots::new(boots, FAR_MS);
        let mut keeper = Self {
            boot_id: clock.boot_id(),
            device_base_ms: None,
            kernel: false,
            aws: None,
            aws_base_ms: 0,
            certain: false,
            candidate: None,
            connections: 0,
            floor_ms: if credible_ms < FAR_MS { credible_ms.max(release_ms) } else { release_ms },
            boots,
        };
        // What an earlier process of this boot learnt from AWS holds on: the clock since boot is the same. So the times of what
        // is sent again after a kill are the same too.
        if let Some(boot) = keeper.boots.get(&keeper.boot_id).filter(|boot| boot.confirmed_by_aws()) {
            keeper.aws_base_ms = boot.base_ms;
            keeper.certain = boot.certain == Some(true);
            keeper.aws = Some((Heard::exactly(boot.base_ms), 0));
        } else if let Some(told_ms) = keeper.boots.get(&keeper.boot_id).and_then(|boot| boot.told_ms) {
            keeper.candidate = Some((Heard::exactly(told_ms), 0));
        }
        keeper.observe(clock);
        keeper
    }

    /// Looks at the clock. Returns the step in milliseconds when it has been set since the last look.
    pub fn observe(&mut self, clock: &dyn Clock) -> Option<i64> {
        let monotonic_ms = clock.monotonic_ms();
        let base_ms = clock.wall_ms().saturating_sub_unsigned(monotonic_ms);
        let step_ms = self.device_base_ms.map_or(0, |before_ms| base_ms.saturating_sub(before_ms));
        let was_synchronised = std::mem::replace(&mut self.kernel, clock.synchronised());
        self.device_base_ms = Some(base_ms);
        let stepped = step_ms.unsigned_abs() >= STEP_MS.unsigned_abs();
        if (stepped || !was_synchronised) && self.kernel {
            self.weigh_ntp();
        }
        if self.kernel && self.aws.is_some_and(|(heard, _)| heard.agrees_with(base_ms)) {
            self.follow_device(base_ms, false);
        }
        self.remember(monotonic_ms);
        stepped.then_some(step_ms)
    }

    /// The kernel's clock was synchronised or set: it confirms or contradicts what AWS said.
    fn weigh_ntp(&mut self) {
        let base_ms = self.device_base_ms.unwrap_or_default();
        if let Some((heard, _)) = &self.aws
            && heard.agrees_with(base_ms)
        {
            self.certain = true;
        }
        if let Some(candidate) = &self.candidate
            && candidate.0.agrees_with(base_ms)
        {
            // Whoever contradicted the old clock agrees with NTP.
            self.aws = Some(*candidate);
            self.aws_base_ms = base_ms;
            self.certain = true;
            self.candidate = None;
        }
    }

    /// Takes what an answer of AWS said of the time. True when the times of what waits have moved by it.
    pub fn hear(&mut self, heard: Heard, clock: &dyn Clock) -> bool {
        if heard.is_before(RELEASE_EPOCH_S * 1000, clock.monotonic_ms()) {
            // No clock of AWS shows a time before the release; nor is another answer of such a server worth waiting for.
            self.candidate = None;
            return false;
        }
        self.connections += u64::from(heard.new_connection);
        let connection = self.connections;
        let before_ms = self.base_ms();
        if self.contradicts(&heard, clock) {
            match self.candidate {
                Some((first, other)) if other != connection && first.agrees(&heard) => {
                    self.believe(heard, connection);
                    self.certain = true;
                }
                _ if self.standing(clock) == Standing::NotCredible => self.believe(heard, connection),
                // The same connection says it again: no news.
                Some((first, other)) if other == connection && first.agrees(&heard) => {}
                _ => self.candidate = Some((heard, connection)),
            }
        } else {
            let device_ms = self.device_base_ms.unwrap_or_default();
            let ntp = self.kernel && heard.agrees_with(device_ms);
            self.certain |= ntp || self.aws.is_some_and(|(_, other)| other != connection);
            self.candidate = None;
            match &mut self.aws {
                Some((known, _)) if !ntp => known.narrow(&heard),
                _ => {
                    let first = self.aws.is_none();
                    self.aws = Some((heard, connection));
                    self.follow_device(device_ms, first);
                }
            }
        }
        self.remember(clock.monotonic_ms());
        (self.base_ms() - before_ms).abs() >= STEP_MS
    }

    /// What a single answer told of the base, against a clock that nobody confirmed. Not believed yet; but should this boot end
    /// here, it is the best that is known of it.
    pub fn told_ms(&self) -> Option<i64> {
        let confirmed = self.kernel || self.aws.is_some();
        self.candidate.filter(|_| !confirmed).map(|(heard, _)| heard.middle_ms())
    }

    /// The second answer that [`Timekeeper::question`] wanted came and said nothing of the time. One is enough to send and to move
    /// times, unless it contradicts what was confirmed.
    pub fn answered_in_vain(&mut self, clock: &dyn Clock) {
        if self.standing(clock) != Standing::Confirmed
            && let Some((heard, connection)) = self.candidate
        {
            self.believe(heard, connection);
            self.remember(clock.monotonic_ms());
        }
    }

    /// NTP keeps the machine's clock finer than a `Date` tells. But what was sent has its times, and a copy of it must have the
    /// same: less than a step moves nothing.
    fn follow_device(&mut self, device_ms: i64, at_once: bool) {
        if at_once || device_ms.saturating_sub(self.aws_base_ms).unsigned_abs() >= STEP_MS.unsigned_abs() {
            self.aws_base_ms = device_ms;
        }
    }

    fn believe(&mut self, heard: Heard, connection: u64) {
        // The machine's own clock where it is right: it is finer than a `Date`, and nothing has to move.
        let device_ms = self.device_base_ms.unwrap_or_default();
        self.aws_base_ms = if heard.agrees_with(device_ms) { device_ms } else { heard.middle_ms() };
        self.aws = Some((heard, connection));
        self.certain = false;
        self.candidate = None;
    }

    fn contradicts(&self, heard: &Heard, clock: &dyn Clock) -> bool {
        let believed = self.standing(clock) != Standing::NotCredible;
        !believed || !heard.agrees_with(self.base_ms())
    }

    /// How far the clock is to be believed.
    pub fn standing(&self, clock: &dyn Clock) -> Standing {
        if self.kernel || self.aws.is_some() {
            Standing::Confirmed
        } else if clock.wall_ms() >= self.floor_ms {
            Standing::Credible
        } else {
            Standing::NotCredible
        }
    }

    /// Whether what cannot be undone may rest on the time.
    pub fn is_certain(&self) -> bool {
        self.certain
    }

    /// What AWS should be asked for, if anything.
    pub fn question(&self, clock: &dyn Clock) -> Option<Question> {
        match self.standing(clock) {
            Standing::NotCredible => Some(Question::NoClock),
            Standing::Credible => self.candidate.map(|_| Question::Contested),
            Standing::Confirmed => self.candidate.map(|_| Question::Doubted),
        }
    }

    /// The best guess at the present time.
    pub fn now(&self, clock: &dyn Clock) -> True {
        self.true_of(clock.monotonic_ms())
    }

    /// The time at so many milliseconds since this boot, as it is believed now.
    pub fn true_of(&self, monotonic_ms: u64) -> True {
        True(self.base_ms().saturating_add_unsigned(monotonic_ms))
    }

    /// True minus monotonic time as it is believed now: what the times of a body rest on.
    pub fn base_ms(&self) -> i64 {
        let device_ms = self.device_base_ms.unwrap_or_default();
        if self.aws.is_some() { self.aws_base_ms } else { device_ms }
    }

    /// By how much the believed time is ahead of the machine's clock, milliseconds, once AWS told it.
    pub fn skew_ms(&self) -> Option<i64> {
        self.aws.map(|_| self.base_ms() - self.device_base_ms.unwrap_or_default())
    }

    /// The time that certificates are judged by.
    pub fn certificate_time(&self, clock: &dyn Clock) -> CertificateTime {
        let now_ms = self.now(clock).0;
        if now_ms < self.floor_ms && self.standing(clock) != Standing::Confirmed {
            CertificateTime::At(self.floor_ms.div_euclid(1000))
        } else if (now_ms - clock.wall_ms()).abs() > WRONG_MS {
            CertificateTime::At(now_ms.div_euclid(1000))
        } else {
            CertificateTime::Clock
        }
    }

    /// How to place a record in time. `expired`: what is older can be delivered no more; a boot that was never confirmed is not
    /// placed before it as long as it may be later.
    pub fn place(&self, boot_id: &[u8; 16], monotonic_ms: u64, wall: Device, expired: True) -> Placement {
        if *boot_id == self.boot_id {
            return Placement::known(self.true_of(monotonic_ms), wall);
        }
        self.boots.place(boot_id, monotonic_ms, wall, expired, (&self.boot_id, self.base_ms(), self.certain))
    }

    /// The time since boot below which a scrape of that boot is older than `max_age_ms`. Nothing: its age is not known well
    /// enough to drop anything for it. Within this boot no clock is needed for that; between boots both must be confirmed.
    pub fn oldest_ms(&self, boot_id: &[u8; 16], max_age_ms: u64, clock: &dyn Clock) -> Option<u64> {
        let now_ms = clock.monotonic_ms();
        if *boot_id == self.boot_id {
            return now_ms.checked_sub(max_age_ms);
        }
        let boot = self.boots.get(boot_id).filter(|_| self.certain && self.is_sure_of(boot_id))?;
        let oldest_ms = self.now(clock).0.saturating_sub_unsigned(max_age_ms).saturating_sub(boot.base_ms);
        u64::try_from(oldest_ms).ok()
    }

    /// The boot is known.
    pub fn remembers(&self, boot_id: &[u8; 16]) -> bool {
        self.boots.get(boot_id).is_some()
    }

    /// The times of this boot's scrapes are sure enough to drop something for them, if the present time is.
    pub fn is_sure_of(&self, boot_id: &[u8; 16]) -> bool {
        *boot_id == self.boot_id || self.boots.get(boot_id).is_some_and(Boot::is_certain)
    }

    /// Takes over what records on disk say of a boot that the state file knows less of: its base by the last of them whose
    /// clock was confirmed, and that one's monotonic time, or by the last of all. To be called in the order of the boots.
    pub fn learn_boot(&mut self, boot_id: &[u8; 16], base_ms: i64, confirmed_ms: Option<u64>, last_monotonic_ms: u64) {
        if *boot_id != self.boot_id {
            self.boots.learn(boot_id, base_ms, confirmed_ms, last_monotonic_ms, &self.boot_id);
        }
    }

    /// The ids of all boots that are known.
    pub fn boot_ids(&self) -> impl Iterator<Item = [u8; 16]> {
        self.boots.list().iter().filter_map(Boot::id)
    }

    /// Earlier boots among these whose clock nobody ever confirmed.
    pub fn never_confirmed<'a>(&self, boots: impl Iterator<Item = &'a [u8; 16]>) -> u64 {
        let unknown = |id: &&[u8; 16]| **id != self.boot_id && !self.boots.get(id).is_some_and(|boot| boot.confirmed);
        boots.filter(unknown).count() as u64
    }

    /// What to keep in the state directory: the boots, and the latest time that was believed.
    pub fn remembered(&mut self, clock: &dyn Clock) -> (Vec<Boot>, i64) {
        self.remember(clock.monotonic_ms());
        if self.standing(clock) == Standing::Confirmed {
            let now_ms = self.now(clock).0;
            // A floor that was wrong is corrected only by a time that is certain.
            self.floor_ms = if self.certain { now_ms } else { self.floor_ms.max(now_ms) };
            self.floor_ms = self.floor_ms.max(RELEASE_EPOCH_S * 1000);
        }
        (self.boots.list().to_vec(), self.floor_ms)
    }

    fn remember(&mut self, monotonic_ms: u64) {
        let boot = Boot {
            id: hex(&self.boot_id),
            base_ms: self.base_ms(),
            confirmed: self.kernel || self.aws.is_some(),
            last_monotonic_ms: monotonic_ms,
            by_aws: Some(self.aws.is_some()),
            certain: Some(self.certain),
            told_ms: self.told_ms(),
        };
        self.boots.remember(boot);
    }
}

#[cfg(test)]
mod tests;
