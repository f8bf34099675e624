//! Baselines as bytes, to outlive a clean stop.
//!
//! ```text
//! "PWBL" | version u32 = 1 | boot id [16] | wall clock ms i64 | monotonic s i64 | count u64
//! per baseline: key 2 x u64 | value f64 | own time stamp ms i64 (i64::MIN: none) | seconds since it was seen u32
//! CRC-32C of all that u32
//! ```
//!
//! Little-endian and fixed widths, the same on 32 and 64 bits. Sorted by key, so equal tables give equal bytes.
//!
//! A key is [`super::key::of_series`] of [`crate::model::Target::identity`], the labels' bytes and the name, all of which are the same in every
//! version; `tests/baselines_golden` holds a file that must be readable for ever.
//!
//! Whoever keeps the bytes must use them once only: a table that is older than a delta which was sent counts it twice.

use super::baseline::{Baseline, Baselines};
use crc::{CRC_32_ISCSI, Crc};
use std::fmt;

const MAGIC: &[u8; 4] = b"PWBL";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 36;
const CRC_BYTES: usize = 4;

static CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// An instant on every scale that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Wall time, milliseconds since 1970.
    pub wall_ms: i64,
    /// Milliseconds since boot.
    pub monotonic_ms: u64,
    /// The boot that those count from.
    pub boot_id: [u8; 16],
}

/// Why saved baselines are of no use. Nothing was loaded; counters start anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// Cut, changed, or something else.
    Damaged,
    /// Written by a version that knows more.
    Newer(u32),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("the saved counter baselines are damaged"),
            Self::Newer(version) => {
                write!(f, "the saved counter baselines have format {version}, this version knows {VERSION}")
            }
        }
    }
}

impl std::error::Error for LoadError {}

pub(super) fn save(baselines: &Baselines, now: Moment) -> Vec<u8> {
    let entries = baselines.sorted();
    let mut out = Vec::with_capacity(HEADER_BYTES + entries.len() * ENTRY_BYTES + CRC_BYTES);
    let now_s = seconds(now.monotonic_ms);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&now.boot_id);
    out.extend_from_slice(&now.wall_ms.to_le_bytes());
    out.extend_from_slice(&now_s.to_le_bytes());
    out.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    for (key, baseline) in entries {
        let age_s = u32::try_from((now_s - i64::from(baseline.seen_s)).max(0)).unwrap_or(u32::MAX);
        out.extend_from_slice(&key[0].to_le_bytes());
        out.extend_from_slice(&key[1].to_le_bytes());
        out.extend_from_slice(&baseline.value.to_le_bytes());
        out.extend_from_slice(&baseline.own_ms.to_le_bytes());
        out.extend_from_slice(&age_s.to_le_bytes());
    }
    let checksum = CRC32C.checksum(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

pub(super) fn load(baselines: &mut Baselines, bytes: &[u8], now: Moment) -> Result<usize, LoadError> {
    let body_len = bytes.len().checked_sub(CRC_BYTES).filter(|len| *len >= HEADER_BYTES).ok_or(LoadError::Damaged)?;
    let (body, checksum) = bytes.split_at(body_len);
    let mut fields = Fields(body);
    if fields.take::<4>()? != *MAGIC {
        return Err(LoadError::Damaged);
    }
    let version = u32::from_le_bytes(fields.take()?);
    if version > VERSION {
        return Err(LoadError::Newer(version));
    }
    if *checksum != CRC32C.checksum(body).to_le_bytes() {
        return Err(LoadError::Damaged);
    }
    let boot_id: [u8; 16] = fields.take()?;
    let wall_ms = i64::from_le_bytes(fields.take()?);
    let monotonic_s = i64::from_le_bytes(fields.take()?);
    let count = u64::from_le_bytes(fields.take()?);
    if count.checked_mul(ENTRY_BYTES as u64) != Some(fields.0.len() as u64) {
        return Err(LoadError::Damaged);
    }
    let now_s = seconds(now.monotonic_ms);
    // Across a reboot only the wall clock can tell how long we were away; one that went back tells nothing.
    let away_s = if boot_id == now.boot_id {
        now_s.saturating_sub(monotonic_s)
    } else {
        now.wall_ms.saturating_sub(wall_ms) / 1000
    }
    .max(0);
    let mut loaded = 0;
    while !fields.0.is_empty() {
        let key = [u64::from_le_bytes(fields.take()?), u64::from_le_bytes(fields.take()?)];
        let value = f64::from_le_bytes(fields.take()?);
        let own_ms = i64::from_le_bytes(fields.take()?);
        let age_s = i64::from(u32::from_le_bytes(fields.take()?));
        let seen_s = i32::try_from(now_s.saturating_sub(away_s).saturating_sub(age_s)).unwrap_or(i32::MIN);
        loaded += usize::from(baselines.insert_missing(key, Baseline { value, own_ms, seen_s, scrape: 0 }));
    }
    Ok(loaded)
}

fn seconds(ms: u64) -> i64 {
    i64::try_from(ms / 1000).unwrap_or(i64::MAX)
}

/// Reads one fixed-width field after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(LoadError::Damaged)?;
        self.0 = rest;
        Ok(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::super::baseline::{ScrapeTime, Step};
    use super::*;

    const AT: Moment = Moment { wall_ms: 1_700_000_000_000, monotonic_ms: 5_000_000, boot_id: [1; 16] };

    fn time(monotonic_ms: u64) -> ScrapeTime {
        ScrapeTime { monotonic_ms, interval_ms: 60_000 }
    }

    fn table() -> Baselines {
        let mut baselines = Baselines::new(0);
        baselines.begin(time(4_990_000));
        baselines.step([1, 2], 100.0, None, time(4_990_000));
        baselines.step([3, 4], 0.5, Some(77_000), time(4_990_000));
        baselines
    }

    fn step_after_load(now: Moment) -> Step {
        let mut again = Baselines::new(0);
        assert_eq!(load(&mut again, &save(&table(), AT), now), Ok(2));
        again.begin(time(now.monotonic_ms));
        assert_eq!(again.step([3, 4], 2.0, Some(78_000), time(now.monotonic_ms)), Step::Delta(1.5, 1000));
        again.step([1, 2], 130.0, None, time(now.monotonic_ms))
    }

    #[test]
    fn deltas_go_on_after_a_restart_and_know_how_long_it_took() {
        let same_boot = Moment { wall_ms: 0, monotonic_ms: 5_020_000, ..AT };
        assert_eq!(step_after_load(same_boot), Step::Delta(30.0, 30_000));
        let next_boot = Moment { wall_ms: AT.wall_ms + 3_600_000, monotonic_ms: 9_000, boot_id: [2; 16] };
        assert_eq!(step_after_load(next_boot), Step::Delta(30.0, 3_610_000));
        let clock_went_back = Moment { wall_ms: 0, ..next_boot };
        assert_eq!(step_after_load(clock_went_back), Step::Delta(30.0, 10_000));
    }

    #[test]
    fn any_time_in_a_sound_file_is_borne() {
        for (at, bytes) in [(32, i64::MIN.to_le_bytes()), (32, i64::MAX.to_le_bytes()), (24, i64::MIN.to_le_bytes())] {
            let mut saved = save(&table(), AT);
            saved[at..at + 8].copy_from_slice(&bytes);
            saved[HEADER_BYTES + ENTRY_BYTES - 4..HEADER_BYTES + ENTRY_BYTES].copy_from_slice(&u32::MAX.to_le_bytes());
            let body_len = saved.len() - CRC_BYTES;
            let checksum = CRC32C.checksum(&saved[..body_len]).to_le_bytes();
            saved[body_len..].copy_from_slice(&checksum);
            for boot_id in [AT.boot_id, [2; 16]] {
                assert_eq!(load(&mut Baselines::new(0), &saved, Moment { boot_id, ..AT }), Ok(2));
            }
        }
    }

    #[test]
    fn a_baseline_that_is_too_old_by_now_is_none() {
        let mut again = Baselines::new(0);
        let later = Moment { wall_ms: AT.wall_ms + 25 * 3_600_000, monotonic_ms: 9_000, boot_id: [2; 16] };
        load(&mut again, &save(&table(), AT), later).unwrap();
        again.begin(time(9_000));
        assert_eq!(again.step([1, 2], 130.0, None, time(9_000)), Step::First);
    }

    #[test]
    fn every_damage_is_noticed_and_loads_nothing() {
        let good = save(&table(), AT);
        for at in 0..good.len() {
            let mut again = Baselines::new(0);
            assert!(load(&mut again, &good[..at], AT).is_err(), "cut at {at}");
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(load(&mut again, &bad, AT).is_err(), "changed at {at}");
            assert_eq!(again.len(), 0);
        }
        let mut newer = good;
        newer[4] = 9;
        assert_eq!(load(&mut Baselines::new(0), &newer, AT), Err(LoadError::Newer(9)));
    }

    #[test]
    fn the_bytes_of_this_version_stay_readable() {
        let mut one = Baselines::new(0);
        one.begin(time(4_990_000));
        one.step([1, 2], 100.0, None, time(4_990_000));
        let bytes: String = save(&one, AT).iter().map(|byte| format!("{byte:02x}")).collect();
        let want = concat!(
            "5057424c",
            "01000000",
            "01010101010101010101010101010101",
            "0068e5cf8b010000",
            "8813000000000000",
            "0100000000000000",
            "0100000000000000",
            "0200000000000000",
            "0000000000005940",
            "0000000000000080",
            "0a000000",
            "b37288b3",
        );
        assert_eq!(bytes, want);
    }
}
