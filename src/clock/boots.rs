//! Boots of the machine, in order, and where a record of one lies in time.

use super::{Device, RELEASE_EPOCH_S, STEP_MS, True};
use miniserde::{Deserialize, Serialize};

/// Boots that are remembered; of older ones it is known only that they lie before these.
const BOOTS_MAX: usize = 64;

/// What is known of one boot of the machine; kept in the state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The boot's id in hex.
    pub id: String,
    /// True minus monotonic time, the best that is known, in milliseconds.
    pub base_ms: i64,
    /// Whether that was confirmed.
    pub confirmed: bool,
    /// The last monotonic time seen.
    pub last_monotonic_ms: u64,
    /// AWS was among those who confirmed it. Files of earlier versions do not say.
    pub by_aws: Option<bool>,
    /// Two answers agreed, or one with NTP. Files of earlier versions do not say.
    pub certain: Option<bool>,
    /// What a single answer told of an unconfirmed base, against the boot's own clock. Files of earlier versions do not say.
    pub told_ms: Option<i64>,
}

impl Boot {
    /// AWS told this boot the time.
    pub fn confirmed_by_aws(&self) -> bool {
        self.confirmed && self.by_aws == Some(true)
    }

    /// Its id; nothing where a file holds nonsense.
    pub(super) fn id(&self) -> Option<[u8; 16]> {
        let mut id = [0; 16];
        let (pairs, rest) = self.id.as_bytes().as_chunks::<2>();
        if pairs.len() != id.len() || !rest.is_empty() {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(pairs) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(id)
    }

    /// Two answers told this boot the time, or one and NTP.
    pub(super) fn is_certain(&self) -> bool {
        self.confirmed && self.certain == Some(true)
    }

    fn last_ms(&self) -> i64 {
        self.base_ms.saturating_add_unsigned(self.last_monotonic_ms)
    }
}

/// A confirmed boot that overlaps with others by more is doubted: clocks since boot drift, by less in a year.
const OVERLAP_MS: i64 = 15 * 60_000;

/// Where a record lies in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// What to add to the times that the device's clock gave, in milliseconds.
    pub delta_ms: i64,
    /// The clock of the record's boot was never confirmed.
    pub estimated: bool,
    /// The latest that the scrape can have been.
    pub latest: True,
}

impl Placement {
    /// Of a boot whose clock is known.
    pub(super) fn known(at: True, wall: Device) -> Self {
        Self { delta_ms: moved_ms(at, wall), estimated: false, latest: at }
    }
}

fn moved_ms(at: True, wall: Device) -> i64 {
    let delta_ms = at.0.saturating_sub(wall.0);
    if delta_ms.unsigned_abs() < STEP_MS.unsigned_abs() { 0 } else { delta_ms }
}

/// Boots, the oldest first; the last is the one that is running.
pub(super) struct Boots(Vec<Boot>);

impl Boots {
    /// Takes over what a file remembers, without what cannot be.
    pub(super) fn new(mut boots: Vec<Boot>, far_ms: i64) -> Self {
        let near = |base_ms: i64| base_ms.unsigned_abs() < far_ms.unsigned_abs();
        let sane = |boot: &Boot| near(boot.base_ms) && near(boot.told_ms.unwrap_or(0)) && boot.last_ms() < far_ms;
        boots.retain(sane);
        boots.drain(..boots.len().saturating_sub(BOOTS_MAX));
        Self(boots)
    }

    pub(super) fn list(&self) -> &[Boot] {
        &self.0
    }

    pub(super) fn get(&self, id: &[u8; 16]) -> Option<&Boot> {
        self.at(id).map(|at| &self.0[at])
    }

    fn at(&self, id: &[u8; 16]) -> Option<usize> {
        self.0.iter().rposition(|boot| is_hex_of(&boot.id, id))
    }

    pub(super) fn remember(&mut self, boot: Boot) {
        match self.0.iter_mut().rfind(|known| known.id == boot.id) {
            // Once confirmed, a boot stays so; later looks may only correct it.
            Some(known) if known.confirmed && !boot.confirmed => known.last_monotonic_ms = boot.last_monotonic_ms,
            Some(known) => *known = boot,
            None => self.0.push(boot),
        }
        self.forget();
    }

    fn forget(&mut self) {
        if self.0.len() > BOOTS_MAX {
            self.0.remove(0);
        }
    }

    pub(super) fn learn(
        &mut self,
        id: &[u8; 16],
        base_ms: i64,
        confirmed_ms: Option<u64>,
        last_monotonic_ms: u64,
        running: &[u8; 16],
    ) {
        let confirmed = confirmed_ms.is_some();
        if let Some(at) = self.at(id) {
            let known = &mut self.0[at];
            // Whoever spoke later knows better: NTP may have been wrong first.
            if confirmed && !known.confirmed || confirmed_ms > Some(known.last_monotonic_ms) {
                (known.base_ms, known.confirmed) = (base_ms, true);
            }
            known.last_monotonic_ms = known.last_monotonic_ms.max(last_monotonic_ms);
            return;
        }
        let boot =
            Boot { id: hex(id), base_ms, confirmed, last_monotonic_ms, by_aws: None, certain: None, told_ms: None };
        // Before this boot, which is the last.
        let at = self.at(running).unwrap_or(self.0.len());
        self.0.insert(at, boot);
        self.forget();
    }

    /// A boot was confirmed, and what is certain does not contradict it: NTP, or a single answer, may have been wrong.
    fn holds(&self, at: usize, now: (i64, bool)) -> bool {
        let boot = &self.0[at];
        let (running_base_ms, certain) = now;
        boot.confirmed
            && (boot.is_certain()
                || !certain
                || boot.last_ms() <= running_base_ms.saturating_add(OVERLAP_MS)
                    && self.0[..at]
                        .iter()
                        .rfind(|before| before.is_certain())
                        .is_none_or(|before| before.last_ms() <= boot.base_ms.saturating_add(OVERLAP_MS)))
    }

    /// The bases that are known without a boot's own clock: of boots that were confirmed, and of those that a single answer told
    /// the time, unless what was confirmed, or told later, contradicts it. In the order of the boots.
    fn known_bases(&self, running: &[u8; 16], now: (i64, bool)) -> [Option<i64>; BOOTS_MAX] {
        let mut bases = [None; BOOTS_MAX];
        let mut not_before_ms = 0;
        for (at, (boot, base_ms)) in self.0.iter().zip(&mut bases).enumerate() {
            if self.holds(at, now) {
                *base_ms = Some(boot.base_ms);
                not_before_ms = boot.last_ms();
            } else {
                *base_ms = boot.told_ms.filter(|told_ms| told_ms.saturating_add(STEP_MS) >= not_before_ms);
            }
        }
        let mut next_ms = now.0;
        for (at, (boot, base_ms)) in self.0.iter().zip(&mut bases).enumerate().rev() {
            if is_hex_of(&boot.id, running) {
                continue;
            }
            let bound_ms = next_ms.saturating_sub_unsigned(boot.last_monotonic_ms);
            *base_ms = base_ms.filter(|base_ms| self.holds(at, now) || *base_ms <= bound_ms.saturating_add(STEP_MS));
            next_ms = base_ms.unwrap_or(bound_ms);
        }
        bases
    }

    /// Places a record of an earlier boot. `running`: this boot, its base, and whether that is certain. A boot that was never
    /// confirmed lies between the last known time before it and the first after it, the boots in order, each as late as it can
    /// be unless its own clock contradicts nothing. One answer is enough to move times: an own clock that nobody confirmed does
    /// not contradict it, that boot's or another's. A clock that is saved over a reboot is wrong in the next boot as well.
    pub(super) fn place(
        &self,
        id: &[u8; 16],
        monotonic_ms: u64,
        wall: Device,
        expired: True,
        (running, running_base_ms, certain): (&[u8; 16], i64, bool),
    ) -> Placement {
        let at = self.at(id);
        let now = (running_base_ms, certain);
        if let Some(boot) = at.filter(|at| self.holds(*at, now)).map(|at| &self.0[at]) {
            return Placement::known(True(boot.base_ms.saturating_add_unsigned(monotonic_ms)), wall);
        }
        let bases = self.known_bases(running, now);
        let known_until_ms = |before: usize| {
            let mut known = self.0.iter().zip(bases).take(before).rev();
            let last = known.find_map(|(boot, base_ms)| Some(base_ms?.saturating_add_unsigned(boot.last_monotonic_ms)));
            last.unwrap_or(0)
        };
        // One that is not remembered lies before all that are.
        let from = at.unwrap_or(0);
        // Backwards from now: `base_ms` is the chosen base of the boot looked at last, `latest_base_ms` the latest it can be.
        let (mut base_ms, mut latest_base_ms) = (running_base_ms, running_base_ms);
        for at in (from..self.0.len()).rev().filter(|at| !is_hex_of(&self.0[*at].id, running)) {
            let boot = &self.0[at];
            let bound_ms = base_ms.saturating_sub_unsigned(boot.last_monotonic_ms);
            latest_base_ms = latest_base_ms.saturating_sub_unsigned(boot.last_monotonic_ms);
            if let Some(known_ms) = bases[at] {
                base_ms = known_ms;
                if boot.is_certain() && self.holds(at, now) {
                    latest_base_ms = base_ms;
                }
                continue;
            }
            let own = boot.base_ms;
            let fits = own.saturating_add(STEP_MS) >= known_until_ms(at) && own <= bound_ms.saturating_add(STEP_MS);
            // A clock from before the release, or one that makes everything of this boot too old to be delivered although it
            // may be younger, says nothing.
            let sensible = own >= RELEASE_EPOCH_S * 1000 && own >= expired.0;
            base_ms = if sensible && fits { own } else { bound_ms };
        }
        let told = at.is_some_and(|at| bases[at].is_some());
        let (placed_ms, latest_ms) = match at {
            Some(_) => {
                let placed_ms = base_ms.saturating_add_unsigned(monotonic_ms);
                (placed_ms.max(known_until_ms(from)), latest_base_ms.saturating_add_unsigned(monotonic_ms))
            }
            // How long that boot was is not known; its own time where it can be.
            None if wall.0 >= RELEASE_EPOCH_S * 1000 && wall.0 >= expired.0 && wall.0 <= base_ms => {
                (wall.0, latest_base_ms)
            }
            None => (base_ms, latest_base_ms),
        };
        let at = True(placed_ms);
        Placement { delta_ms: moved_ms(at, wall), estimated: !told, latest: True(latest_ms.max(placed_ms)) }
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A boot id as text.
pub fn hex(id: &[u8; 16]) -> String {
    id.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn is_hex_of(text: &str, id: &[u8; 16]) -> bool {
    let digits = id.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)]);
    text.len() == 32 && text.bytes().eq(digits)
}
