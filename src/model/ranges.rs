//! Sets of numbers, kept as ranges: what is settled, what is pending, what a body holds.

/// Disjoint, sorted, never touching ranges `from .. to`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// A set of ranges in any order, overlapping or not.
    pub fn of(mut ranges: Vec<(u64, u64)>) -> Self {
        ranges.sort_unstable();
        let mut set = Self::default();
        ranges.into_iter().for_each(|(from, to)| set.insert(from, to));
        set
    }

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

    /// Takes `from .. to` out.
    pub fn remove(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (start, end) = self.touched(from, to);
        if let Some([(low, _), ..]) = self.0.get(start..end) {
            let (low, high) = (*low, self.0[end - 1].1);
            let left = [(low, from), (to, high)];
            self.0.splice(start..end, left.into_iter().filter(|(from, to)| from < to));
        }
    }

    /// Adds all of another set.
    pub fn add(&mut self, other: &Self) {
        if self.0.last().is_none_or(|last| other.0.first().is_none_or(|first| last.0 <= first.0)) {
            other.iter().for_each(|(from, to)| self.insert(from, to));
        } else {
            *self = Self::of(self.iter().chain(other.iter()).collect());
        }
    }

    /// The number is in it.
    pub fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|range| range.1 <= number);
        self.0.get(at).is_some_and(|range| range.0 <= number)
    }

    /// What of `from .. to` is in it.
    pub fn overlap(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let (start, end) = self.touched(from, to);
        let touched = self.0.get(start..end).unwrap_or_default();
        touched.iter().map(|range| (range.0.max(from), range.1.min(to))).collect()
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

    /// How many numbers of `from .. to` are in it.
    pub fn count(&self, from: u64, to: u64) -> u64 {
        let (start, end) = self.touched(from, to);
        let touched = self.0.get(start..end).unwrap_or_default();
        touched.iter().map(|range| range.1.min(to) - range.0.max(from)).sum()
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// How many numbers are in it.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|range| range.1 - range.0).sum()
    }

    /// The lowest number.
    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|range| range.0)
    }

    /// The number after the highest one.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.1)
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The places of the ranges that have a number of `from .. to`.
    fn touched(&self, from: u64, to: u64) -> (usize, usize) {
        let start = self.0.partition_point(|range| range.1 <= from);
        (start, start + self.0[start..].partition_point(|range| range.0 < to))
    }
}

/// The places of things in the order of their keys, equal ones in the order in which they came. One kind of sorting for
/// all: each costs as much as the rest of this file.
pub fn order_by_key(keys: &mut dyn Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut order: Vec<(u64, u64)> = keys.zip(0..).collect();
    order.sort_unstable();
    order
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
                if random(3) == 0 {
                    ranges.remove(from, from + len);
                    set.retain(|n| !(from..from + len).contains(n));
                } else {
                    ranges.insert(from, from + len);
                    set.extend(from..from + len);
                }
                assert!((0..80).all(|n| ranges.contains(n) == set.contains(&n)));
                assert!(ranges.0.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?}");
                let numbers = |ranges: Vec<(u64, u64)>| ranges.into_iter().flat_map(|(a, b)| a..b).collect::<Vec<_>>();
                assert_eq!(numbers(ranges.missing(5, 70)), (5..70).filter(|n| !set.contains(n)).collect::<Vec<_>>());
                let within: Vec<u64> = (9..40).filter(|n| set.contains(n)).collect();
                assert_eq!(ranges.count(9, 40), within.len() as u64);
                assert_eq!(numbers(ranges.overlap(9, 40)), within);
                assert_eq!((ranges.len(), ranges.first()), (set.len() as u64, set.first().copied()));
                let mut other = Ranges::of(vec![(50, 52), (10, 20), (15, 25)]);
                other.add(&ranges);
                assert!(
                    (0..80)
                        .all(|n| other.contains(n)
                            == (set.contains(&n) || (10..25).contains(&n) || (50..52).contains(&n)))
                );
            }
        }
        let mut all = Ranges::of(vec![(0, u64::MAX)]);
        assert_eq!((all.len(), all.count(3, u64::MAX)), (u64::MAX, u64::MAX - 3));
        all.remove(u64::MAX - 1, u64::MAX);
        assert_eq!(all.end(), u64::MAX - 1);
    }
}
