//! Lines whose series is known already: found by their bytes, without reading names and labels again.
//!
//! A line is cut behind its last brace, or else at its first blank. That is where the series ends, or the bytes before the
//! cut are none that were ever noted: only those of whole lines are, whose series ended there when the parser read them. So
//! `x{a="}"} 1` is found, and an exemplar, which has a brace of its own, goes through the parser each time.

use super::cursor::is_name_start;
use super::{Format, MAX_ENTRY_BYTES, number};
use std::io::BufRead;

/// The most digits that a float holds in any case.
const EXACT_DIGITS: usize = 15;

/// A line that may be known.
pub(super) struct Line<'a> {
    /// What it is known by: its series, or the whole of a line with metadata.
    pub raw: &'a [u8],
    /// What follows a series.
    pub tail: &'a [u8],
    /// It has metadata.
    pub is_metadata: bool,
    /// All of it, its end too.
    pub bytes: usize,
}

/// The next line, if it is there as a whole.
pub(super) fn next(rest: &[u8], format: Format) -> Option<Line<'_>> {
    let end = line_end(&rest[..rest.len().min(MAX_ENTRY_BYTES)])?;
    let line = &rest[..end];
    match line.first()? {
        b'#' => {
            // OpenMetrics looks at the byte behind the line, too.
            let is_told = format == Format::Text || rest.get(end + 1).is_some_and(|byte| *byte != 0);
            is_told.then_some(Line { raw: line, tail: &[], is_metadata: true, bytes: end + 1 })
        }
        byte if is_name_start(*byte) || *byte == b'{' => {
            let (raw, tail) = line.split_at(cut(line)?);
            Some(Line { raw, tail, is_metadata: false, bytes: end + 1 })
        }
        _ => None,
    }
}

/// Where the first line ends. The standard library looks at words, not at bytes, and lends that search here only.
pub(super) fn line_end(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    // Bytes in memory can be read without fail.
    let read = rest.skip_until(b'\n').unwrap_or_default();
    read.checked_sub(1).filter(|end| bytes[*end] == b'\n')
}

/// Where a line's series ends.
pub(super) fn cut(line: &[u8]) -> Option<usize> {
    let brace = line.iter().rposition(|byte| *byte == b'}');
    brace.map(|at| at + 1).or_else(|| line.iter().position(|byte| is_blank(*byte)))
}

/// The value and the time stamp behind a series; nothing where the parser must look at them.
pub(super) fn value_and_time(tail: &[u8], format: Format) -> Option<(f64, Option<i64>)> {
    match format {
        Format::Text => {
            let (word, rest) = word(tail);
            let value = value(word)?;
            let (word, rest) = self::word(rest);
            if word.is_empty() {
                return Some((value, None));
            }
            let time = whole(word)?;
            rest.iter().all(|byte| is_blank(*byte)).then_some((value, Some(time)))
        }
        Format::OpenMetrics => {
            let rest = tail.strip_prefix(b" ")?;
            let Some(space) = rest.iter().position(|byte| *byte == b' ') else { return Some((value(rest)?, None)) };
            let seconds = number::parse(&rest[space + 1..]).filter(|seconds| seconds.is_finite())?;
            Some((value(&rest[..space])?, Some((seconds * 1000.0) as i64)))
        }
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The next word, behind blanks, and what follows it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let start = text.iter().position(|byte| !is_blank(*byte)).unwrap_or(text.len());
    let text = &text[start..];
    let end = text.iter().position(|byte| is_blank(*byte)).unwrap_or(text.len());
    text.split_at(end)
}

/// Digits alone, few enough to be taken without a look at overflow.
fn whole(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// A number. Most are short and plain, and need no more than a division that is exact.
fn value(word: &[u8]) -> Option<f64> {
    const POWERS: [f64; EXACT_DIGITS + 1] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (mut mantissa, mut digits, mut decimals) = (0_u64, 0, None);
    for byte in word {
        match byte {
            b'0'..=b'9' if digits < EXACT_DIGITS => {
                mantissa = mantissa * 10 + u64::from(byte - b'0');
                digits += 1;
                decimals = decimals.map(|count| count + 1);
            }
            b'.' if decimals.is_none() => decimals = Some(0_usize),
            _ => return number::parse(word),
        }
    }
    match decimals {
        _ if digits == 0 => number::parse(word),
        None | Some(0) => Some(mantissa as f64),
        // Both are whole numbers that a float holds exactly, so the quotient is the nearest float.
        Some(count) => Some(mantissa as f64 / POWERS[count]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_that_the_parser_reads() {
        let mut state = 3_u64;
        let mut texts: Vec<String> =
            ["", ".", "5.", ".5", "1e3", "-1", "+Inf", "NaN", "0.1", "00.10", "1.2.3", "123456789012345.6", "-0"]
                .map(str::to_owned)
                .to_vec();
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (whole, decimals) = (state >> 34, (state >> 20) % 10_000_000);
            texts.push(format!("{whole}.{decimals}"));
            texts.push(format!("{}", f64::from_bits(state)));
        }
        for text in texts {
            let (ours, theirs) = (value(text.as_bytes()), number::parse(text.as_bytes()));
            assert_eq!(ours.map(f64::to_bits), theirs.map(f64::to_bits), "{text}");
        }
    }

    #[test]
    fn a_line_is_cut_where_its_series_ends() {
        for (line, raw, tail) in [
            ("x 1\n", "x", " 1"),
            ("x{a=\"}\"} 1\nrest", "x{a=\"}\"}", " 1"),
            ("x {a=\"b\"}\t1 2\n", "x {a=\"b\"}", "\t1 2"),
            ("{\"utf8 name\",a=\"b\"} 1\n", "{\"utf8 name\",a=\"b\"}", " 1"),
        ] {
            let found = next(line.as_bytes(), Format::Text).unwrap();
            assert_eq!((found.raw, found.tail), (raw.as_bytes(), tail.as_bytes()));
        }
        for line in ["x 1", " x 1\n", "x\n", "\n", "5 1\n"] {
            assert!(next(line.as_bytes(), Format::Text).is_none(), "{line:?}");
        }
    }

    #[test]
    fn what_follows_is_a_value_and_perhaps_a_time() {
        let text = |tail: &str| value_and_time(tail.as_bytes(), Format::Text);
        assert_eq!(text(" 1"), Some((1.0, None)));
        assert_eq!(text("\t 1.5  1700 "), Some((1.5, Some(1700))));
        for tail in ["", " ", " x", " 1 -5", " 1 5.0", " 1 5 6", " 1{", " 1\0"] {
            assert_eq!(text(tail), None, "{tail:?}");
        }
        let open = |tail: &str| value_and_time(tail.as_bytes(), Format::OpenMetrics);
        assert_eq!(open(" 1"), Some((1.0, None)));
        assert_eq!(open(" 1 2.5"), Some((1.0, Some(2500))));
        for tail in ["1", "  1", " 1 ", " 1  2", " 1 2 ", " 1 NaN", " 1 2 # {} 3"] {
            assert_eq!(open(tail), None, "{tail:?}");
        }
    }
}
