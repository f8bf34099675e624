//! The simplest clock for tests: right, synchronised, and moved by hand. Tests of several boots and lying clocks have their own
//! (`sim/clock.rs`).

use promwatch::env::Clock;
use std::cell::Cell;

/// Milliseconds since boot; the machine booted at `BOOTED_MS` by the wall clock.
#[derive(Default)]
pub struct Hands<const BOOTED_MS: i64>(pub Cell<u64>);

impl<const BOOTED_MS: i64> Clock for Hands<BOOTED_MS> {
    fn wall_ms(&self) -> i64 {
        BOOTED_MS + self.0.get().cast_signed()
    }
    fn monotonic_ms(&self) -> u64 {
        self.0.get()
    }
    fn boot_id(&self) -> [u8; 16] {
        [1; 16]
    }
    fn synchronised(&self) -> bool {
        true
    }
    fn random(&self) -> u64 {
        4
    }
}
