//! Numbers as Go reads and writes them.

use crate::model::{Digits, push_decimal, push_integer};

/// Reads a number as Prometheus does: Go's `strconv.ParseFloat`, without hexadecimal and `_`. Too large is an error.
pub(super) fn parse(bytes: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let value: f64 = text.parse().ok()?;
    let word = bytes.last().is_some_and(u8::is_ascii_alphabetic);
    if value.is_finite() {
        return Some(value);
    }
    match word {
        // Rust reads a sign before NaN, Go does not.
        true if value.is_nan() => (bytes.len() == 3).then_some(f64::from_bits(0x7ff8_0000_0000_0001)),
        true => Some(value),
        false => None,
    }
}

/// Reads the number in a label `le` or `quantile`. There, and only there, Prometheus lets `_` stand between digits (and
/// reads hexadecimal numbers, which are not read here: such a label stays as it is).
pub(super) fn parse_label(text: &str) -> Option<f64> {
    if !text.contains('_') {
        return parse(text.as_bytes());
    }
    let ends_in = |part: &str| part.ends_with(|c: char| c.is_ascii_digit());
    let starts_with = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
    let mut parts = text.split('_').peekable();
    let mut plain = String::new();
    while let Some(part) = parts.next() {
        if parts.peek().is_some_and(|next| !ends_in(part) || !starts_with(next)) {
            return None;
        }
        plain.push_str(part);
    }
    parse(plain.as_bytes())
}

/// Writes a number as OpenMetrics wants it in the labels `le` and `quantile` (`formatOpenMetricsFloat` in
/// protobufparse.go): the shortest digits, a fraction or an exponent always.
pub(super) fn canonical(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return "0.0".to_owned();
    }
    let digits = Digits::of(value);
    let exponent = digits.place - 1;
    let mut text = Vec::new();
    if (-4..6).contains(&exponent) {
        push_decimal(&mut text, value);
        if !text.contains(&b'.') {
            text.extend_from_slice(b".0");
        }
    } else {
        if value < 0.0 {
            text.push(b'-');
        }
        let (first, rest) = digits.as_bytes().split_at(1);
        text.extend_from_slice(first);
        if !rest.is_empty() {
            text.push(b'.');
            text.extend_from_slice(rest);
        }
        text.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        let exponent = exponent.unsigned_abs();
        text.extend_from_slice(if exponent < 10 { b"0" } else { b"" });
        push_integer(&mut text, i64::from(exponent));
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_go_reads() {
        for (text, value) in [
            ("1", 1.0),
            ("+5", 5.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1E3", 1000.0),
            ("-1e-999", -0.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1.7976931348623157e308", f64::MAX),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(value), "{text}");
        }
        assert_eq!(parse(b"nAn").map(f64::to_bits), Some(0x7ff8_0000_0000_0001));
    }

    #[test]
    fn numbers_that_go_refuses() {
        for text in
            ["", ".", "e5", "1e", "0x1p3", "0x10", "1_000", "1e999", "-1e400", "+nan", "-NaN", "infi", "1 ", "\u{661}"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"1\xff"), None);
    }

    #[test]
    fn numbers_in_labels() {
        assert_eq!(parse_label("1_000.5_0"), Some(1000.5));
        for text in ["_1", "1_", "1__0", "1_.5", "1e_5", "_"] {
            assert_eq!(parse_label(text), None, "{text}");
        }
    }

    #[test]
    fn canonical_numbers() {
        for (value, text) in [
            (1.0, "1.0"),
            (0.0, "0.0"),
            (-0.0, "0.0"),
            (-1.0, "-1.0"),
            (0.99, "0.99"),
            (10.0, "10.0"),
            (100_000.0, "100000.0"),
            (1_000_000.0, "1e+06"),
            (123_456_789.0, "1.23456789e+08"),
            (0.0001, "0.0001"),
            (0.000_012, "1.2e-05"),
            (1e300, "1e+300"),
            (-188_250_184_112_920.13, "-1.8825018411292012e+14"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(canonical(value), text);
        }
    }
}
