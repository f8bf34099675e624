//! Sets of numbers, kept as ranges: what is settled, what has been seen.

/// Disjoint, sorted, never touching ranges `from .. to`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `from .. to`.
    pub fn insert(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let start = self.0.partition_point(|range| range.1 < from);
        let end = self.0.partition_point(|range| range.0 <= to);
        let merged = match self.0.get(start..end) {
            Some([first, ..]) => (from.min(first.0), to.max(self.0[end - 1].1)),
            _ => (from, to),
        };
        self.0.splice(start..end, [merged]);
    }

    /// The number is in it.
    pub fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|range| range.1 <= number);
        self.0.get(at).is_some_and(|range| range.0 <= number)
    }

    /// What of `from .. to` is missing.
    pub fn missing(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut missing = Vec::new();
        let mut at = from;
        for range in &self.0[self.0.partition_point(|range| range.1 <= from)..] {
            if range.0 >= to {
                break;
            }
            if range.0 > at {
                missing.push((at, range.0));
            }
            at = at.max(range.1);
        }
        if at < to {
            missing.push((at, to));
        }
        missing
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The number after the highest one.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.1)
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn it_behaves_like_a_set_of_numbers() {
        let mut seed = 1_u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % n
        };
        for _ in 0..300 {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for _ in 0..12 {
                let (from, len) = (random(60), random(8));
                ranges.insert(from, from + len);
                set.extend(from..from + len);
                assert!((0..80).all(|n| ranges.contains(n) == set.contains(&n)));
                assert!(ranges.0.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?}");
                let missing: Vec<u64> = ranges.missing(5, 70).into_iter().flat_map(|(from, to)| from..to).collect();
                assert_eq!(missing, (5..70).filter(|n| !set.contains(n)).collect::<Vec<_>>());
            }
        }
    }
}
