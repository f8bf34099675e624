//! Numbers as text, without the formatting machinery.

/// Above this a float does not hold every whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The most bytes that [`push_decimal`] writes: sign, 17 digits, point, and either 21 places or an exponent.
pub const DECIMAL_BYTES_MAX: usize = 26;

/// Appends a whole number in decimal digits.
pub fn push_integer(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.extend_from_slice(&digits[at..]);
}

/// How many bytes [`push_integer`] appends.
pub fn integer_bytes(value: i64) -> usize {
    let digits = value.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1);
    digits + usize::from(value < 0)
}

/// A float that is a whole number which it holds exactly; not minus zero, which is written `-0`.
fn whole(value: f64) -> Option<i64> {
    let is_whole = value.abs() < WHOLE_MAX && value.trunc() == value && (value != 0.0 || value.is_sign_positive());
    is_whole.then_some(value as i64)
}

/// Appends a finite number as Go's `encoding/json` does: the shortest digits that read back as the same value, plain from
/// 1e-6 up to (not including) 1e21, with an exponent beyond.
pub fn push_decimal(out: &mut Vec<u8>, value: f64) {
    match whole(value) {
        // Most values are whole.
        Some(whole) => push_integer(out, whole),
        None => push_shortest(out, value),
    }
}

/// How many bytes [`push_decimal`] appends.
pub fn decimal_bytes(value: f64) -> usize {
    match whole(value) {
        Some(whole) => integer_bytes(whole),
        None => few_decimals_bytes(value).unwrap_or_else(|| {
            let mut text = Vec::with_capacity(DECIMAL_BYTES_MAX);
            push_shortest(&mut text, value);
            text.len()
        }),
    }
}

/// How long a number with at most nine decimals is as text, without making it. Of up to 15 digits no two decimals are the same
/// float, so the first that gives the number back is the shortest.
fn few_decimals_bytes(value: f64) -> Option<usize> {
    let size = value.abs();
    if size < 1e-6 {
        return None;
    }
    for (decimals, power) in (1..).zip([1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9]) {
        let scaled = size * power;
        if scaled >= 1e15 {
            return None;
        }
        let digits = (scaled + 0.5) as i64;
        if digits as f64 / power == size {
            return Some(integer_bytes(digits).max(decimals + 1) + 1 + usize::from(value.is_sign_negative()));
        }
    }
    None
}

/// The shortest digits of a finite number that read back as the same value, whatever its sign: without zeros at either end, none
/// for zero. Of two texts that lie equally near the even one, as in Go.
pub struct Digits {
    digits: [u8; 40],
    count: usize,
    /// Where the point stands, counted from the first digit.
    pub place: i32,
}

impl Digits {
    /// The digits of this number.
    pub fn of(value: f64) -> Self {
        let mut buffer = zmij::Buffer::new();
        let printed = buffer.format_finite(value.abs()).as_bytes();
        let (mantissa, exponent) = match printed.iter().position(|byte| *byte == b'e') {
            Some(at) => {
                (&printed[..at], std::str::from_utf8(&printed[at + 1..]).ok().and_then(|text| text.parse().ok()))
            }
            None => (printed, Some(0)),
        };
        let exponent: i32 = exponent.unwrap_or(0);
        let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
        let (mut digits, mut count, mut place) = ([0_u8; 40], 0, point as i32 + exponent);
        for byte in mantissa.iter().filter(|byte| **byte != b'.').take(digits.len()) {
            if count == 0 && *byte == b'0' {
                place -= 1;
                continue;
            }
            digits[count] = *byte;
            count += 1;
        }
        while count > 0 && digits[count - 1] == b'0' {
            count -= 1;
        }
        Self { digits, count, place }
    }

    /// As ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[..self.count]
    }
}

/// Lays the digits out as Go does.
fn push_shortest(out: &mut Vec<u8>, value: f64) {
    let all = Digits::of(value);
    let (digits, count, place) = (all.as_bytes(), all.count, all.place);
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if digits.is_empty() {
        out.push(b'0');
        return;
    }
    match place {
        -5..=0 => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + place.unsigned_abs() as usize, b'0');
            out.extend_from_slice(digits);
        }
        1..=21 => {
            let whole = place as usize;
            out.extend_from_slice(&digits[..whole.min(count)]);
            if whole < count {
                out.push(b'.');
                out.extend_from_slice(&digits[whole..]);
            } else {
                out.resize(out.len() + (whole - count), b'0');
            }
        }
        _ => {
            out.push(digits[0]);
            if count > 1 {
                out.push(b'.');
                out.extend_from_slice(&digits[1..]);
            }
            out.extend_from_slice(if place > 0 { b"e+" } else { b"e-" });
            push_integer(out, i64::from((place - 1).abs()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(value: f64) -> String {
        let mut out = Vec::new();
        push_decimal(&mut out, value);
        assert_eq!(out.len(), decimal_bytes(value), "{value}");
        assert!(out.len() <= DECIMAL_BYTES_MAX);
        String::from_utf8(out).unwrap()
    }

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
            (-1.25e-10, "-1.25e-10"),
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
            (1_244_858_547_775_687.2, "1244858547775687.2"),
        ] {
            assert_eq!(decimal(value), want);
        }
    }

    #[test]
    fn any_number_reads_back_and_is_as_short_as_can_be() {
        let mut state = 7_u64;
        for _ in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let wild = f64::from_bits(state ^ (state >> 29));
            let tame = (state >> 40) as f64 / 1000.0;
            for value in [wild, tame, -tame * 1e-8].into_iter().filter(|value| value.is_finite()) {
                let text = decimal(value);
                assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
                // Of two texts that lie equally near Go takes the even one, the standard library the larger.
                if (1e-6..1e21).contains(&value.abs()) {
                    assert_eq!(text.len(), value.to_string().len());
                }
            }
        }
    }

    #[test]
    fn integers_of_every_length() {
        for value in [0, 7, -7, 10, 99, 100, 1_700_000_000_000, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            push_integer(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
            assert_eq!(integer_bytes(value), value.to_string().len());
        }
    }
}
