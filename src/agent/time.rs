//! What time it really is, on a machine that may have no clock of its own.
//!
//! The wall clock is believed when the kernel calls it synchronised, or AWS's `Date` agrees with it, or at least when it is
//! not before the release's date and the last time that was believed. Every scrape keeps its boot and monotonic time, so
//! that its wall time can be worked out again once the clock is known:
//!
//! ```text
//!            wall < floor                        Date or kernel
//!  [held] -----------------> [not credible] ----------------------> [confirmed]
//!                                   |   wall steps past the floor        ^
//!                                   '--------> [credible] ---------------'
//! ```
//!
//! Refuses: setting the machine's clock.

use crate::env::{Clock, Env};
use miniserde::{Deserialize, Serialize};

/// No clock from before the release is right: seconds since 1970, `SOURCE_DATE_EPOCH` where the build sets it.
pub const RELEASE_EPOCH_S: i64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => parse_epoch(text),
    None => 1_795_305_600,
};

/// Differences up to this are slewing and delay, not steps, in milliseconds.
const STEP_MS: i64 = 1_000;
/// A `Date` that differs by more than this says that our clock is wrong: AWS refuses signatures 5 minutes off.
const WRONG_MS: i64 = 4 * 60_000;
/// Boots that are remembered; older ones are forgotten, and their events keep the time that they have.
const BOOTS_MAX: usize = 16;

const fn parse_epoch(text: &str) -> i64 {
    let (bytes, mut value, mut at) = (text.as_bytes(), 0_i64, 0);
    while at < bytes.len() {
        assert!(bytes[at].is_ascii_digit(), "SOURCE_DATE_EPOCH is not a number");
        value = value * 10 + (bytes[at] - b'0') as i64;
        at += 1;
    }
    value
}

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

/// What is known of one boot of the machine; kept in the state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The boot's id in hex.
    pub id: String,
    /// Wall time minus monotonic time, the best that is known, in milliseconds.
    pub base_ms: i64,
    /// Whether that was confirmed.
    pub confirmed: bool,
    /// The last monotonic time seen.
    pub last_monotonic_ms: u64,
}

/// Where a record's time comes from, and by how much it has to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// What to add to the times of the record, in milliseconds.
    pub delta_ms: i64,
    /// The clock of the record's boot was never confirmed.
    pub estimated: bool,
}

/// Follows the clock through steps, and remembers boots.
pub struct Timekeeper {
    boot_id: [u8; 16],
    base_ms: i64,
    skew_ms: Option<i64>,
    kernel: bool,
    floor_ms: i64,
    boots: Vec<Boot>,
}

impl Timekeeper {
    /// `boots` and `credible_ms` are what the state directory remembers.
    pub fn new(clock: &dyn Clock, boots: Vec<Boot>, credible_ms: i64) -> Self {
        let mut keeper = Self {
            boot_id: clock.boot_id(),
            base_ms: 0,
            skew_ms: None,
            kernel: false,
            floor_ms: credible_ms.max(RELEASE_EPOCH_S * 1000),
            boots,
        };
        keeper.observe(clock, None);
        keeper
    }

    /// Looks at the clock; `skew_ms` is what AWS's `Date` last said (its time minus ours). Returns the step in
    /// milliseconds when the clock has been set since the last look.
    pub fn observe(&mut self, clock: &dyn Clock, skew_ms: Option<i64>) -> Option<i64> {
        let monotonic_ms = clock.monotonic_ms();
        let base_ms = clock.wall_ms() - monotonic_ms.cast_signed();
        let step_ms = base_ms - self.base_ms;
        let first = self.base_ms == 0;
        self.kernel = clock.synchronised();
        let stepped = step_ms.abs() >= STEP_MS;
        if stepped {
            // A skew that was learnt before the step says nothing of the clock after it.
            self.skew_ms = None;
        }
        self.base_ms = base_ms;
        if let Some(skew_ms) = skew_ms {
            self.skew_ms = Some(skew_ms);
        }
        self.remember(monotonic_ms);
        (stepped && !first).then_some(step_ms)
    }

    /// How far the clock is to be believed.
    pub fn standing(&self, clock: &dyn Clock) -> Standing {
        if self.kernel || self.skew_ms.is_some() {
            Standing::Confirmed
        } else if clock.wall_ms() >= self.floor_ms {
            Standing::Credible
        } else {
            Standing::NotCredible
        }
    }

    /// The best guess at the present time, milliseconds since 1970.
    pub fn now_ms(&self, clock: &dyn Clock) -> i64 {
        self.true_base_ms() + clock.monotonic_ms().cast_signed()
    }

    /// Wall minus monotonic time as it is believed now: what the times of a batch rest on.
    pub fn base_ms(&self) -> i64 {
        self.true_base_ms()
    }

    /// The earliest time that can be true: certificates are judged by it while the clock is not credible.
    pub fn floor_ms(&self) -> i64 {
        self.floor_ms
    }

    /// By how much AWS's clock is ahead of ours, in milliseconds, where it is known.
    pub fn skew_ms(&self) -> Option<i64> {
        self.skew_ms
    }

    /// How to place a record in time.
    pub fn place(&self, boot_id: [u8; 16], monotonic_ms: u64, wall_ms: i64) -> Placement {
        let monotonic_ms = monotonic_ms.cast_signed();
        if boot_id == self.boot_id {
            return moved(self.true_base_ms() + monotonic_ms - wall_ms, false);
        }
        let id = hex(&boot_id);
        let Some(at) = self.boots.iter().position(|boot| boot.id == id) else {
            // Nothing is known of that boot; a time that could be true is left as it is.
            return Placement { delta_ms: 0, estimated: true };
        };
        let boot = &self.boots[at];
        if boot.confirmed {
            return moved(boot.base_ms + monotonic_ms - wall_ms, false);
        }
        // Between the last confirmed time before it and the first after it, the boots in order, each as late as it can be.
        let not_before_ms = self.boots[..at]
            .iter()
            .rev()
            .find(|boot| boot.confirmed)
            .map_or(self.floor_ms.min(RELEASE_EPOCH_S * 1000), |boot| {
                boot.base_ms + boot.last_monotonic_ms.cast_signed()
            });
        let mut base_ms = self.true_base_ms();
        for boot in self.boots[at..].iter().rev().filter(|boot| boot.id != hex(&self.boot_id)) {
            base_ms = if boot.confirmed {
                boot.base_ms
            } else {
                let latest_ms = base_ms - boot.last_monotonic_ms.cast_signed();
                // Its own clock may be right: it is kept where it contradicts nothing.
                if boot.base_ms + STEP_MS >= not_before_ms && boot.base_ms <= latest_ms + STEP_MS {
                    boot.base_ms
                } else {
                    latest_ms
                }
            };
        }
        let placed_ms = (base_ms + monotonic_ms).max(not_before_ms);
        moved(placed_ms - wall_ms, true)
    }

    /// Takes over what the spool's records say of boots that the state file does not know.
    pub fn learn_boots(&mut self, boots: &[crate::spool::Boot]) {
        for boot in boots.iter().filter(|boot| boot.boot_id != self.boot_id) {
            let id = hex(&boot.boot_id);
            let base_ms = |at: crate::spool::Instants| at.wall_ms - at.monotonic_ms.cast_signed();
            match self.boots.iter_mut().find(|known| known.id == id) {
                Some(known) => {
                    known.last_monotonic_ms = known.last_monotonic_ms.max(boot.last.monotonic_ms);
                    if let (false, Some(confirmed)) = (known.confirmed, boot.confirmed) {
                        (known.base_ms, known.confirmed) = (base_ms(confirmed), true);
                    }
                }
                None => {
                    let known = Boot {
                        base_ms: base_ms(boot.confirmed.unwrap_or(boot.last)),
                        confirmed: boot.confirmed.is_some(),
                        last_monotonic_ms: boot.last.monotonic_ms,
                        id,
                    };
                    // Before this boot, which is the last.
                    let at = self.boots.len().saturating_sub(1);
                    self.boots.insert(at, known);
                }
            }
        }
    }

    /// What to keep in the state directory: the boots, and the latest time that was believed.
    pub fn remembered(&mut self, clock: &dyn Clock) -> (Vec<Boot>, i64) {
        self.remember(clock.monotonic_ms());
        if self.standing(clock) == Standing::Confirmed {
            self.floor_ms = self.floor_ms.max(self.now_ms(clock));
        }
        (self.boots.clone(), self.floor_ms)
    }

    /// Wall minus monotonic time, corrected by AWS's `Date` where that says that the clock is wrong.
    fn true_base_ms(&self) -> i64 {
        match self.skew_ms {
            Some(skew_ms) if skew_ms.abs() > WRONG_MS => self.base_ms + skew_ms,
            _ => self.base_ms,
        }
    }

    fn remember(&mut self, monotonic_ms: u64) {
        let id = hex(&self.boot_id);
        let boot = Boot {
            base_ms: self.true_base_ms(),
            confirmed: self.kernel || self.skew_ms.is_some(),
            last_monotonic_ms: monotonic_ms,
            id,
        };
        match self.boots.iter_mut().find(|known| known.id == boot.id) {
            // Once confirmed, a boot stays so; later looks may only correct it.
            Some(known) if known.confirmed && !boot.confirmed => known.last_monotonic_ms = monotonic_ms,
            Some(known) => *known = boot,
            None => self.boots.push(boot),
        }
        if self.boots.len() > BOOTS_MAX {
            self.boots.remove(0);
        }
    }
}

/// Whether the machine's clock may be used for what `env` is asked to do.
pub fn certificate_time(keeper: &Timekeeper, env: Env<'_>) -> crate::env::CertificateTime {
    use crate::env::CertificateTime;
    let now_ms = keeper.now_ms(env.clock);
    let wall_ms = env.clock.wall_ms();
    if now_ms < keeper.floor_ms() {
        CertificateTime::At(keeper.floor_ms().div_euclid(1000))
    } else if (now_ms - wall_ms).abs() > WRONG_MS {
        CertificateTime::At(now_ms.div_euclid(1000))
    } else {
        CertificateTime::Clock
    }
}

fn moved(delta_ms: i64, estimated: bool) -> Placement {
    Placement { delta_ms: if delta_ms.abs() < STEP_MS { 0 } else { delta_ms }, estimated }
}

/// A boot id as text.
pub fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Hands {
        wall_ms: Cell<i64>,
        monotonic_ms: Cell<u64>,
        boot: u8,
        synchronised: Cell<bool>,
    }

    impl Hands {
        fn at(boot: u8, wall_ms: i64) -> Self {
            Self { wall_ms: Cell::new(wall_ms), monotonic_ms: Cell::new(10_000), boot, synchronised: Cell::new(false) }
        }

        fn pass(&self, ms: i64) {
            self.wall_ms.set(self.wall_ms.get() + ms);
            self.monotonic_ms.set(self.monotonic_ms.get() + ms.cast_unsigned());
        }
    }

    impl Clock for Hands {
        fn wall_ms(&self) -> i64 {
            self.wall_ms.get()
        }
        fn monotonic_ms(&self) -> u64 {
            self.monotonic_ms.get()
        }
        fn boot_id(&self) -> [u8; 16] {
            [self.boot; 16]
        }
        fn synchronised(&self) -> bool {
            self.synchronised.get()
        }
        fn random(&self) -> u64 {
            4
        }
    }

    const NOW_MS: i64 = RELEASE_EPOCH_S * 1000 + 86_400_000;

    #[test]
    fn a_step_moves_what_was_scraped_before_it() {
        let clock = Hands::at(1, 5_000);
        let mut keeper = Timekeeper::new(&clock, Vec::new(), 0);
        assert_eq!(keeper.standing(&clock), Standing::NotCredible);
        let (scraped_wall, scraped_monotonic) = (clock.wall_ms(), clock.monotonic_ms());
        clock.pass(60_000);
        clock.wall_ms.set(NOW_MS);
        assert!(keeper.observe(&clock, None).is_some());
        assert_eq!(keeper.standing(&clock), Standing::Credible);
        let placement = keeper.place([1; 16], scraped_monotonic, scraped_wall);
        assert_eq!(scraped_wall + placement.delta_ms, NOW_MS - 60_000);
        assert!(!placement.estimated);
    }

    #[test]
    fn slewing_moves_nothing() {
        let clock = Hands::at(1, NOW_MS);
        let mut keeper = Timekeeper::new(&clock, Vec::new(), 0);
        clock.pass(1000);
        clock.wall_ms.set(clock.wall_ms.get() + 300);
        assert_eq!(keeper.observe(&clock, Some(500)), None);
        assert_eq!(keeper.place([1; 16], 10_000, NOW_MS).delta_ms, 0);
        assert_eq!(keeper.standing(&clock), Standing::Confirmed);
    }

    #[test]
    fn the_date_of_aws_corrects_a_clock_that_nobody_sets() {
        let clock = Hands::at(1, 5_000);
        let mut keeper = Timekeeper::new(&clock, Vec::new(), 0);
        keeper.observe(&clock, Some(NOW_MS - 5_000));
        assert_eq!((keeper.now_ms(&clock), keeper.standing(&clock)), (NOW_MS, Standing::Confirmed));
        assert_eq!(keeper.place([1; 16], 10_000, 5_000).delta_ms, NOW_MS - 5_000);
    }

    #[test]
    fn boots_that_were_never_confirmed_lie_in_order_between_confirmed_times() {
        let first = Hands::at(1, NOW_MS);
        first.synchronised.set(true);
        let mut keeper = Timekeeper::new(&first, Vec::new(), 0);
        let (boots, floor) = keeper.remembered(&first);
        // Two boots without a network: the saved clock shows a time long past.
        let second = Hands::at(2, NOW_MS - 500_000);
        let mut keeper = Timekeeper::new(&second, boots, floor);
        second.pass(100_000);
        let (boots, floor) = keeper.remembered(&second);
        let third = Hands::at(3, NOW_MS - 400_000);
        let mut keeper = Timekeeper::new(&third, boots, floor);
        third.pass(100_000);
        let (boots, floor) = keeper.remembered(&third);
        let fourth = Hands::at(4, NOW_MS + 86_400_000);
        fourth.synchronised.set(true);
        let keeper = Timekeeper::new(&fourth, boots, floor);
        let time = |boot: u8, monotonic: u64, wall: i64| {
            let placement = keeper.place([boot; 16], monotonic, wall);
            assert_eq!(placement.estimated, boot != 1);
            wall + placement.delta_ms
        };
        let times = [
            time(1, 10_000, NOW_MS),
            time(2, 10_000, NOW_MS - 500_000),
            time(2, 110_000, NOW_MS - 400_000),
            time(3, 10_000, NOW_MS - 400_000),
            time(3, 110_000, NOW_MS - 300_000),
        ];
        assert!(times.is_sorted(), "{times:?}");
        assert!(times[0] >= NOW_MS && times[4] <= NOW_MS + 86_400_000, "{times:?}");
    }
}
