//! The clock of a simulated device, what sets it, and the truth about it.

use promwatch::env::Clock;
use std::cell::Cell;

/// The true time at which every simulation begins.
pub const BEGIN_MS: i64 = 1_795_400_000_000;
/// A day.
pub const DAY_MS: i64 = 86_400_000;
/// An hour.
pub const HOUR_MS: i64 = 3_600_000;
/// Wall clocks that are off by less are right.
pub const RIGHT_MS: i64 = 1_000;

/// A clock whose hands the test moves.
pub struct SimClock {
    /// True time minus monotonic time.
    pub true_base_ms: Cell<i64>,
    /// What the wall clock says minus true time.
    pub wall_error_ms: Cell<i64>,
    /// Monotonic time of this boot.
    pub monotonic_ms: Cell<u64>,
    /// The boot's number.
    pub boot: Cell<u8>,
    /// The kernel's flag.
    pub synchronised: Cell<bool>,
    seed: Cell<u64>,
}

/// What the wall clock says when the machine comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootClock {
    /// There is no clock at all: 1970.
    Epoch,
    /// The time was saved at the end of the last boot, and stood still while the machine was off.
    Saved,
    /// Ahead by so much.
    Ahead(i64),
    /// Behind by so much.
    Behind(i64),
    /// A clock with a battery.
    Exact,
}

impl SimClock {
    /// The first boot, a second old, with a right clock that nobody has confirmed.
    pub fn new(seed: u64) -> Self {
        Self {
            true_base_ms: Cell::new(BEGIN_MS - 1_000),
            wall_error_ms: Cell::new(0),
            monotonic_ms: Cell::new(1_000),
            boot: Cell::new(1),
            synchronised: Cell::new(false),
            seed: Cell::new(seed),
        }
    }

    /// Time passes.
    pub fn pass(&self, ms: u64) {
        self.monotonic_ms.set(self.monotonic_ms.get() + ms);
    }

    /// True time.
    pub fn true_ms(&self) -> i64 {
        self.true_base_ms.get() + self.monotonic_ms.get().cast_signed()
    }

    /// The next boot, after the machine was off for so long. What the wall clock says and whether it is synchronised stays
    /// as it is: see [`Self::wake`].
    pub fn boot_again(&self, off_ms: i64) {
        self.true_base_ms.set(self.true_ms() + off_ms);
        self.boot.set(self.boot.get() + 1);
        // Booting takes two seconds.
        self.monotonic_ms.set(2_000);
    }

    /// The next boot with a clock of its own.
    pub fn wake(&self, off_ms: i64, clock: BootClock) {
        let saved_ms = self.wall_error_ms.get() - off_ms;
        self.boot_again(off_ms);
        self.synchronised.set(false);
        self.wall_error_ms.set(match clock {
            BootClock::Epoch => -self.true_ms(),
            BootClock::Saved => saved_ms,
            BootClock::Ahead(ms) => ms,
            BootClock::Behind(ms) => -ms,
            BootClock::Exact => 0,
        });
    }

    /// NTP sets the clock, off by so much, and the kernel calls it synchronised.
    pub fn set_by_ntp(&self, error_ms: i64) {
        self.wall_error_ms.set(error_ms);
        self.synchronised.set(true);
    }

    /// Whether the wall clock is right.
    pub fn is_right(&self) -> bool {
        self.wall_error_ms.get().abs() < RIGHT_MS
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> i64 {
        self.true_ms() + self.wall_error_ms.get()
    }
    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.get()
    }
    fn boot_id(&self) -> [u8; 16] {
        [self.boot.get(); 16]
    }
    fn synchronised(&self) -> bool {
        self.synchronised.get()
    }
    fn random(&self) -> u64 {
        // splitmix64
        let seed = self.seed.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.seed.set(seed);
        let mut mixed = seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
