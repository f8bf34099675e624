//! JSON text as Go's `encoding/json` writes it, straight into a buffer.

use crate::model::push_integer;
use std::fmt::Write;

/// Appends a string in quotes. Go escapes `<`, `>`, `&`, U+2028 and U+2029 too.
pub(super) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    // Bytes are quicker to look at than characters; 0xE2 begins U+2028, U+2029 and others that stay as they are.
    while let Some(at) = rest.bytes().position(|b| matches!(b, b'"' | b'\\' | b'<' | b'>' | b'&' | 0xE2) || b < b' ') {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = tail.chars();
        match chars.next() {
            Some(c) if c > '\u{7f}' && !matches!(c, '\u{2028}' | '\u{2029}') => out.push(c),
            Some(c) => push_escape(out, c),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

fn push_escape(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        other => {
            out.push_str("\\u");
            for shift in [12, 8, 4, 0] {
                out.push(char::from_digit((other as u32 >> shift) & 0xF, 16).unwrap_or('0'));
            }
        }
    }
}

/// Appends a finite number: the shortest digits that read back as the same value, plain from 1e-6 up to (not
/// including) 1e21, with an exponent beyond.
pub(super) fn push_number(out: &mut String, value: f64) {
    let size = value.abs();
    // Most values are whole; above 2^53 a float does not hold every whole number.
    if size < 9_007_199_254_740_992.0 && value.trunc() == value && (value != 0.0 || value.is_sign_positive()) {
        push_integer(out, value as i64);
        return;
    }
    // Writing to a String cannot fail.
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        let _ = write!(out, "{value}");
        return;
    }
    let start = out.len();
    let _ = write!(out, "{value:e}");
    if let Some(at) = out[start..].find('e') {
        let after = start + at + 1;
        if !out[after..].starts_with('-') {
            out.insert(after, '+');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_like_gos() {
        for (value, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (5.0, "5"),
            (-5.0, "-5"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (9.99e-7, "9.99e-7"),
            (1e-7, "1e-7"),
            (5e-324, "5e-324"),
            (-9_007_199_254_740_991.0, "-9007199254740991"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (1e20, "100000000000000000000"),
            (999_999_999_999_999_868_928.0, "999999999999999900000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (123_456_789_012_345_678.0, "123456789012345680"),
            (33.333333333333336, "33.333333333333336"),
            (1_700_000_000.123, "1700000000.123"),
        ] {
            let mut out = String::new();
            push_number(&mut out, value);
            assert_eq!(out, want);
        }
    }

    #[test]
    fn integers_of_every_length() {
        for value in [0, 7, -7, 10, 1_700_000_000_000, i64::MAX, i64::MIN] {
            let mut out = String::new();
            push_integer(&mut out, value);
            assert_eq!(out, value.to_string());
        }
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        let mut out = String::new();
        push_string(&mut out, "a\"b\\c\nd\re\tf\u{1}g<h>i&j\u{2028}–k\u{7f}é日😀");
        assert_eq!(out, "\"a\\\"b\\\\c\\nd\\re\\tf\\u0001g\\u003ch\\u003ei\\u0026j\\u2028–k\u{7f}é日😀\"");
        let mut out = String::new();
        push_string(&mut out, "");
        assert_eq!(out, "\"\"");
    }
}
