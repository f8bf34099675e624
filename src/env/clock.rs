//! Time and chance of the real machine.
#![expect(clippy::disallowed_methods, reason = "the door to time")]

use super::Clock;
use rustix::time::{ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic};
use std::path::Path;

/// systemd-timesyncd makes this file when the clock is synchronised for the first time since boot
/// (systemd-timesyncd.service(8)).
const TIMESYNCD_FLAG: &str = "/run/systemd/timesync/synchronized";

/// The machine's clock and the kernel's random numbers.
#[derive(Clone, Debug)]
pub struct RealClock {
    boot_id: [u8; 16],
}

impl RealClock {
    /// Reads the boot id once; it is all zero where `/proc` does not tell.
    pub fn new() -> Self {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { boot_id: parse_boot_id(&text).unwrap_or_default() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn wall_ms(&self) -> i64 {
        wall_ms()
    }

    fn monotonic_ms(&self) -> u64 {
        boottime_ms()
    }

    fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }

    /// The flag itself, `STA_UNSYNC` of adjtimex(2), cannot be read without `unsafe` or a crate that exists for nothing
    /// else. Two things that follow from a synchronisation can: the file of systemd-timesyncd, and the distance between
    /// TAI and UTC, which the kernel starts at 0 and which chrony, ntpd and linuxptp set once they know the time and a
    /// leap second table is configured (Debian's chrony has one). Never says yes by mistake; may say no by mistake, and then the
    /// `Date` of a server confirms the clock.
    fn synchronised(&self) -> bool {
        if Path::new(TIMESYNCD_FLAG).exists() {
            return true;
        }
        let utc = clock_gettime(ClockId::Realtime);
        match clock_gettime_dynamic(DynamicClockId::Tai) {
            // 10 s is the smallest distance there ever was; less is the time between the two calls.
            Ok(tai) => tai.tv_sec - utc.tv_sec >= 10,
            Err(_) => false,
        }
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        let flags = rustix::rand::GetRandomFlags::NONBLOCK;
        match rustix::rand::getrandom(&mut bytes, flags) {
            Ok(8) => u64::from_le_bytes(bytes),
            // Early in a boot without entropy, or a kernel before 3.17: the clocks differ between devices.
            _ => {
                let now = clock_gettime(ClockId::Monotonic);
                let boot = u64::from_le_bytes(self.boot_id[..8].try_into().unwrap_or_default());
                splitmix(boot ^ (now.tv_nsec as u64) ^ (now.tv_sec as u64).rotate_left(32))
            }
        }
    }
}

/// Wall time, milliseconds since 1970.
pub(crate) fn wall_ms() -> i64 {
    milliseconds(clock_gettime(ClockId::Realtime))
}

/// Milliseconds since boot, time in suspension included.
pub(crate) fn boottime_ms() -> u64 {
    milliseconds(clock_gettime(ClockId::Boottime)).max(0) as u64
}

fn milliseconds(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1000).saturating_add(i64::from(time.tv_nsec as u32) / 1_000_000)
}

/// Spreads a few good bits over all 64 (SplitMix64's finaliser).
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`
fn parse_boot_id(text: &str) -> Option<[u8; 16]> {
    let mut id = [0; 16];
    let mut digits = text.trim().bytes().filter(|&b| b != b'-');
    for byte in &mut id {
        let high = char::from(digits.next()?).to_digit(16)?;
        let low = char::from(digits.next()?).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    digits.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_id_is_sixteen_bytes_of_hex() {
        let want = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(parse_boot_id("12345678-9abc-def0-0102-030405060708\n"), Some(want));
        assert_eq!(parse_boot_id("12345678-9abc-def0-0102-0304050607"), None);
        assert_eq!(parse_boot_id("12345678-9abc-def0-0102-03040506070809"), None);
        assert_eq!(parse_boot_id("not hex"), None);
    }

    #[test]
    fn the_real_clock_tells_the_time_of_this_machine() {
        let clock = RealClock::new();
        assert!(clock.wall_ms() > 1_600_000_000_000);
        let first = clock.monotonic_ms();
        assert!(first > 0 && clock.monotonic_ms() >= first);
        assert_ne!(clock.boot_id(), [0; 16]);
        assert_ne!(clock.random(), clock.random());
        let _ = clock.synchronised();
    }
}
