//! Character classes as sets of ranges.

/// A set of characters: ranges of code points, both ends included, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Class(Vec<(u32, u32)>);

const LAST: u32 = char::MAX as u32;
const KELVIN: u32 = 0x212A;
const LONG_S: u32 = 0x17F;
/// No character above this one has a counterpart in another case.
const LAST_CASED: u32 = 0x1E943;

impl Class {
    pub(super) fn add(&mut self, low: u32, high: u32) {
        self.0.push((low, high));
    }

    pub(super) fn add_class(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Adds a range and, with `fold`, its counterparts in the other case.
    ///
    /// # Errors
    /// The text names the first letter beyond ASCII whose counterparts only Unicode's tables know.
    pub(super) fn add_folded(&mut self, low: u32, high: u32, fold: bool) -> Result<(), String> {
        self.add(low, high);
        if !fold {
            return Ok(());
        }
        for (from, to, by) in [(0x41, 0x5A, 0x20), (0x61, 0x7A, -0x20)] {
            let (from, to): (u32, u32) = (low.max(from), high.min(to));
            if from <= to {
                self.add(from.wrapping_add_signed(by), to.wrapping_add_signed(by));
            }
        }
        // The two letters beyond ASCII that are the same as an ASCII letter.
        for (letter, foreign) in [('k', KELVIN), ('s', LONG_S)] {
            let (lower, upper) = (letter as u32, letter.to_ascii_uppercase() as u32);
            let has = |code| low <= code && code <= high;
            if has(lower) || has(upper) || has(foreign) {
                for code in [lower, upper, foreign] {
                    self.add(code, code);
                }
            }
        }
        if low <= 0x80 && high >= LAST_CASED {
            return Ok(());
        }
        // Without the tables a class such as (?i)[à-ö] would silently miss letters.
        let cased = |c: &char| {
            (c.to_lowercase().ne([*c]) || c.to_uppercase().ne([*c])) && ![KELVIN, LONG_S].contains(&(*c as u32))
        };
        match (low.max(0x80)..=high.min(LAST_CASED)).filter_map(char::from_u32).find(cased) {
            Some(c) => Err(format!("(?i) works on ASCII letters only, not on `{c}`: spell both cases out, as in [éÉ]")),
            None => Ok(()),
        }
    }

    /// Everything that is not in the class.
    #[must_use]
    pub(super) fn negated(&self) -> Self {
        let mut next = 0;
        let mut out = Self::default();
        for (low, high) in self.sorted() {
            if next < low {
                out.add(next, low - 1);
            }
            next = high + 1;
        }
        if next <= LAST {
            out.add(next, LAST);
        }
        out
    }

    /// The ranges sorted and merged, as characters: surrogates, which no text holds, are left out.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (char, char)> {
        self.sorted().into_iter().filter_map(|(low, high)| {
            let low = if (0xD800..=0xDFFF).contains(&low) { 0xE000 } else { low };
            let high = if (0xD800..=0xDFFF).contains(&high) { 0xD7FF } else { high };
            (low <= high).then_some((char::from_u32(low)?, char::from_u32(high)?))
        })
    }

    fn sorted(&self) -> Vec<(u32, u32)> {
        let mut ranges = self.0.clone();
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let merged = next.0 <= kept.1.saturating_add(1);
            if merged {
                kept.1 = kept.1.max(next.1);
            }
            merged
        });
        ranges
    }

    /// `\d`, `\s`, `\w` and their negations, by their letter. `\s` has no vertical tab.
    pub(super) fn perl(letter: char, fold: bool) -> Option<Self> {
        let ranges = match letter.to_ascii_lowercase() {
            'd' => "09",
            's' => "\t\n\x0C\r  ",
            'w' => "09AZ__az",
            _ => return None,
        };
        Some(Self::group(ranges, letter.is_ascii_uppercase(), fold))
    }

    /// `[:alpha:]` and its like, by the name between the colons, `^` included.
    pub(super) fn posix(name: &str, fold: bool) -> Option<Self> {
        let ranges = match name.strip_prefix('^').unwrap_or(name) {
            "alnum" => "09AZaz",
            "alpha" => "AZaz",
            "ascii" => "\0\x7F",
            "blank" => "\t\t  ",
            "cntrl" => "\0\x1F\x7F\x7F",
            "digit" => "09",
            "graph" => "!~",
            "lower" => "az",
            "print" => " ~",
            "punct" => "!/:@[`{~",
            "space" => "\t\r  ",
            "upper" => "AZ",
            "word" => "09AZ__az",
            "xdigit" => "09AFaf",
            _ => return None,
        };
        Some(Self::group(ranges, name.starts_with('^'), fold))
    }

    /// A class from pairs of ASCII characters; case folding comes before negation.
    fn group(pairs: &str, negate: bool, fold: bool) -> Self {
        let mut class = Self::default();
        for pair in pairs.as_bytes().chunks_exact(2) {
            class.add_folded(pair[0].into(), pair[1].into(), fold).expect("groups are ASCII");
        }
        if negate { class.negated() } else { class }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(class: &Class) -> String {
        class.ranges().flat_map(|(low, high)| [low, high]).collect()
    }

    #[test]
    fn negation_merges_and_skips_surrogates() {
        let mut class = Class::default();
        for (low, high) in [(0x62, 0x63), (0, 0x61), (0x64, 0xD900), (0xDF00, LAST)] {
            class.add(low, high);
        }
        assert_eq!(text(&class.negated()), "");
        assert_eq!(text(&class), "\0\u{D7FF}\u{E000}\u{10FFFF}");
    }

    #[test]
    fn folding_knows_kelvin_and_long_s_and_refuses_other_letters() {
        assert_eq!(text(&Class::posix("lower", true).unwrap_or_default()), "AZazſſ\u{212A}\u{212A}");
        assert!(!text(&Class::perl('W', true).unwrap_or_default()).contains('ſ'));
        assert!(Class::default().add_folded(0xE0, 0xF6, true).unwrap_err().contains('à'));
        assert_eq!(Class::default().add_folded('中' as u32, '中' as u32, true), Ok(()));
    }
}
