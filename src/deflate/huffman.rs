//! Prefix codes from counts (RFC 1951, section 3.2.2): lengths within a limit, and the codes that follow from them.
//!
//! Lengths are Huffman's. Where one is over the limit it is cut, and the shortest change that makes the code complete again is
//! made at the bottom of the tree; that is not always the best code of the limited ones, and is nearly never needed.
//! A code is always complete and has two symbols at least, which every inflater takes.

/// The most symbols of a code: two more than are used, which the fixed code has.
pub(super) const SYMBOLS_MAX: usize = 288;
/// The longest code of literals, lengths and distances.
pub(super) const BITS_MAX: usize = 15;

/// Sets each symbol's length in bits from how often it comes, 0 for one that never does; none is over `limit`.
///
/// The counts' sum is under 2^32, and 2^`limit` is at least the number of symbols.
pub(super) fn lengths(counts: &[u32], limit: usize, lengths: &mut [u8]) {
    // Symbols by count, then by number: equal counts give equal codes.
    let mut sorted = [0u64; SYMBOLS_MAX];
    let mut used = 0;
    for (symbol, &count) in counts.iter().enumerate() {
        lengths[symbol] = 0;
        if count > 0 {
            sorted[used] = u64::from(count) << 16 | symbol as u64;
            used += 1;
        }
    }
    // The first ones that never come make up the number.
    for (symbol, &count) in counts.iter().enumerate() {
        if used < 2 && count == 0 {
            sorted[used] = symbol as u64;
            used += 1;
        }
    }
    let sorted = &mut sorted[..used];
    sorted.sort_unstable();

    let mut of_length = tree(sorted, limit);
    complete(&mut of_length, limit);
    // The rarest symbols have the longest codes.
    let mut length = limit;
    for entry in sorted.iter() {
        while of_length[length] == 0 {
            length -= 1;
        }
        of_length[length] -= 1;
        lengths[(entry & 0xffff) as usize] = length as u8;
    }
}

/// How many leaves there are at each depth of Huffman's tree, those under `limit` counted at it.
fn tree(sorted: &[u64], limit: usize) -> [u32; BITS_MAX + 1] {
    // Nodes in the order in which they are made, which is that of their weights.
    let mut weight = [0u32; SYMBOLS_MAX];
    let mut parent = [0u16; SYMBOLS_MAX];
    let mut leaf_parent = [0u16; SYMBOLS_MAX];
    let (mut leaf, mut node) = (0, 0);
    for made in 0..sorted.len() - 1 {
        for _ in 0..2 {
            let of_leaf = sorted.get(leaf).map(|entry| (entry >> 16) as u32);
            weight[made] += match of_leaf {
                Some(of_leaf) if node >= made || of_leaf <= weight[node] => {
                    leaf_parent[leaf] = made as u16;
                    leaf += 1;
                    of_leaf
                }
                _ => {
                    parent[node] = made as u16;
                    node += 1;
                    weight[node - 1]
                }
            };
        }
    }
    // From the root, which was made last, down.
    let root = sorted.len() - 2;
    let mut depth = [0u16; SYMBOLS_MAX];
    for node in (0..root).rev() {
        depth[node] = depth[parent[node] as usize] + 1;
    }
    let mut of_length = [0; BITS_MAX + 1];
    for leaf in 0..sorted.len() {
        of_length[limit.min(depth[leaf_parent[leaf] as usize] as usize + 1)] += 1;
    }
    of_length
}

/// Makes a code complete of which leaves were moved up to the limit.
fn complete(of_length: &mut [u32; BITS_MAX + 1], limit: usize) {
    let mut taken: u32 = (1..=limit).map(|length| of_length[length] << (limit - length)).sum();
    while taken > 1 << limit {
        // A leaf above the limit becomes a node with itself and one from the limit as leaves.
        let above = (1..limit).rev().find(|&length| of_length[length] > 0).unwrap_or(1);
        of_length[above] -= 1;
        of_length[above + 1] += 2;
        of_length[limit] -= 1;
        taken -= 1;
    }
}

/// The code of each symbol as it is written: the first bit lowest.
pub(super) fn codes(lengths: &[u8], codes: &mut [u16]) {
    let mut next = [0u16; BITS_MAX + 2];
    for &length in lengths {
        next[usize::from(length) + 1] += u16::from(length > 0);
    }
    // next[n + 1] holds how many codes have n bits.
    let mut first = 0u16;
    for entry in &mut next[1..=BITS_MAX] {
        first = (first + *entry) << 1;
        *entry = first;
    }
    for (code, &length) in codes.iter_mut().zip(lengths) {
        *code = 0;
        if length > 0 {
            let value = &mut next[usize::from(length)];
            *code = value.reverse_bits() >> (16 - u16::from(length));
            *value = value.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths, and how much of all codes they take: 2^15 for a complete code.
    fn of(counts: &[u32], limit: usize) -> (Vec<u8>, u32) {
        let mut lengths_of = vec![0; counts.len()];
        lengths(counts, limit, &mut lengths_of);
        assert!(lengths_of.iter().all(|&length| usize::from(length) <= limit));
        assert!(counts.iter().zip(&lengths_of).all(|(&count, &length)| count == 0 || length > 0));
        let taken = lengths_of.iter().filter(|length| **length > 0).map(|length| 1 << (15 - length)).sum();
        (lengths_of, taken)
    }

    #[test]
    fn lengths_are_those_of_huffman() {
        assert_eq!(of(&[5, 9, 12, 13, 16, 45], 15), (vec![4, 4, 3, 3, 3, 1], 1 << 15));
        assert_eq!(of(&[1, 1, 1, 1], 15), (vec![2, 2, 2, 2], 1 << 15));
        assert_eq!(of(&[3, 0, 0, 3], 15), (vec![1, 0, 0, 1], 1 << 15));
    }

    #[test]
    fn a_code_has_two_symbols_at_least() {
        assert_eq!(of(&[0, 0, 0], 15), (vec![1, 1, 0], 1 << 15));
        assert_eq!(of(&[0, 0, 7], 15), (vec![1, 0, 1], 1 << 15));
        assert_eq!(of(&[7, 0, 0], 15), (vec![1, 1, 0], 1 << 15));
    }

    #[test]
    fn a_skewed_code_is_cut_at_the_limit_and_complete() {
        let mut fibonacci = vec![1, 1];
        for at in 2..40 {
            fibonacci.push(fibonacci[at - 1] + fibonacci[at - 2]);
        }
        for limit in [7, 9, 15] {
            let (lengths, taken) = of(&fibonacci[..30], limit);
            assert_eq!(taken, 1 << 15);
            assert_eq!(usize::from(lengths[0]), limit);
            assert!(lengths.is_sorted_by(|a, b| a >= b));
        }
        let (_, taken) = of(&vec![1; 286], 9);
        assert_eq!(taken, 1 << 15);
    }

    #[test]
    fn random_counts_make_complete_codes_that_no_two_symbols_can_swap() {
        let mut seed = 3u64;
        for _ in 0..2000 {
            let mut random = |below: u64| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 33) % below
            };
            let (symbols, limit) = if random(2) == 0 { (2 + random(284), 15) } else { (2 + random(17), 7) };
            let counts: Vec<u32> = (0..symbols).map(|_| (1u32 << random(20)) >> random(20)).collect();
            let (lengths, taken) = of(&counts, limit);
            assert_eq!(taken, 1 << 15);
            for (a, b) in counts.iter().zip(&lengths).zip(counts[1..].iter().zip(&lengths[1..])) {
                assert!(a.0 == b.0 || a.1 == b.1 || *b.1 == 0 || *a.1 == 0 || (a.0 < b.0) == (a.1 > b.1));
            }
        }
    }

    #[test]
    fn codes_are_those_of_the_standard() {
        // The example of section 3.2.2: A to H.
        let lengths = [3, 3, 3, 3, 3, 2, 4, 4];
        let mut found = [0; 8];
        codes(&lengths, &mut found);
        let wanted = [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111u16];
        for ((found, wanted), length) in found.iter().zip(wanted).zip(lengths) {
            assert_eq!(*found, wanted.reverse_bits() >> (16 - length));
        }
    }
}
