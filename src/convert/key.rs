//! 128-bit names for label sets and series, so that none of their text is kept.

use crate::model::{Labels, MetricType};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::{BuildHasher, Hasher, RandomState};

/// A label set or a series, hashed.
///
/// SipHash-1-3 with 128 bits out: two of a million series coincide with a chance of about 1 in 10^27. Its key is fixed,
/// because baselines must be found again after a restart; an exporter that managed to forge a coincidence would only
/// falsify figures that it could have falsified on its page.
pub(super) type Key = [u64; 2];

/// A hash map over [`Key`]s.
pub(super) type KeyMap<V> = std::collections::HashMap<Key, V, Seed>;

/// A secret of each map: the key of [`Key`]s is known, so an exporter could work out series that all fall into one slot of
/// a table which took a part of them as it is.
#[derive(Clone, Copy)]
pub(super) struct Seed(u64);

impl Default for Seed {
    fn default() -> Self {
        Self(RandomState::new().build_hasher().finish() | 1)
    }
}

impl BuildHasher for Seed {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher { state: self.0, seed: self.0 }
    }
}

/// Folds the parts of a key, which are spread well already, with the seed.
pub(super) struct KeyHasher {
    state: u64,
    seed: u64,
}

impl Hasher for KeyHasher {
    /// splitmix64's last steps: keys in even distances leave states in even distances, whatever the seed.
    fn finish(&self) -> u64 {
        let mut hash = self.state;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        hash ^ (hash >> 31)
    }

    fn write_u64(&mut self, part: u64) {
        let product = u128::from(self.state ^ part) * u128::from(self.seed);
        self.state = (product >> 64) as u64 ^ product as u64;
    }

    fn write_usize(&mut self, _length: usize) {}

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut part = [0; 8];
            part[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(part));
        }
    }
}

/// A target's identity.
pub(super) fn of_target(identity: &str) -> Key {
    let mut hasher = SipHasher13::new();
    hasher.write(identity.as_bytes());
    finish(&hasher)
}

/// A sample's labels but for the metric's name and one left out (`le` of a bucket), with the type that it gets.
pub(super) fn of_labels(labels: &Labels, left_out: &str, kind: MetricType) -> Key {
    let mut hasher = SipHasher13::new();
    labels.pack_without(&["__name__", super::TYPE_LABEL, left_out], &mut |piece| hasher.write(piece));
    hasher.write(kind.as_str().as_bytes());
    finish(&hasher)
}

/// A series: target, labels, metric name.
pub(super) fn of_series(target: Key, labels: Key, name: &str) -> Key {
    let mut hasher = SipHasher13::new_with_keys(target[0], target[1]);
    hasher.write(&labels[0].to_le_bytes());
    hasher.write(&labels[1].to_le_bytes());
    hasher.write(name.as_bytes());
    finish(&hasher)
}

fn finish(hasher: &SipHasher13) -> Key {
    let hash = hasher.finish128();
    [hash.h1, hash.h2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_same_in_every_version() {
        // Saved baselines are found by these numbers after an upgrade.
        let labels = Labels::from_pairs([("__name__", "c_total"), ("job", "node"), ("prom_metric_type", "x")]);
        let key = of_series(of_target("t"), of_labels(&labels, "", MetricType::Counter), "c_total");
        assert_eq!(key, [8_420_049_856_747_158_537, 255_672_646_321_403_880]);
    }

    #[test]
    fn keys_that_were_made_to_collide_are_spread_by_the_seed() {
        // Their halves cancel each other out, or differ in high bits only.
        for key in [(|n| [n, n]) as fn(u64) -> Key, |n| [n << 40, n << 40 ^ 7], |n| [0, n << 32]] {
            let seed = Seed::default();
            let slots: std::collections::BTreeSet<u64> = (1..=4_096).map(|n| seed.hash_one(key(n)) & 0xfff).collect();
            assert!(slots.len() > 2_000, "{} of 4096 slots", slots.len());
        }
    }

    #[test]
    fn name_type_and_left_out_labels_do_not_count_and_all_else_does() {
        let key =
            |pairs: &[(&str, &str)]| of_labels(&Labels::from_pairs(pairs.iter().copied()), "le", MetricType::Gauge);
        let base = key(&[("__name__", "a"), ("job", "j")]);
        assert_eq!(base, key(&[("__name__", "b"), ("job", "j"), ("le", "1"), ("prom_metric_type", "x")]));
        assert_ne!(base, key(&[("job", "k")]));
        assert_ne!(key(&[("ab", "c")]), key(&[("a", "bc")]));
        let labels = Labels::from_pairs([("job", "j")]);
        assert_ne!(base, of_labels(&labels, "le", MetricType::Counter));
    }
}
