//! Numbers of records: each against a reference, in as few bytes as can be.
//!
//! Most are decimals with few digits and lie near the one before, so what is written is the difference of two mantissas. The
//! quotient of a mantissa below 2^53 and a power of ten up to 10^22 as floats is the float nearest to that decimal, because both
//! are exact and IEEE 754 rounds a division once; so it is the same on every processor.

use super::varint::{self, Reader};

/// Above this a float does not hold every whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// The most decimals: the highest power of ten that a float holds exactly.
const DECIMALS_MAX: u8 = 22;

const SAME: u8 = 0;
const DIFFERENCE: u8 = 1;
const BITS: u8 = 2;
const PLAIN: u8 = 3;

const POWERS: [f64; DECIMALS_MAX as usize + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// A number that others are written against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Number {
    /// Of the float.
    pub bits: u64,
    /// 0 where the number is no decimal.
    mantissa: i64,
    /// The same.
    decimals: u8,
}

impl Number {
    /// What numbers without a reference are written against.
    pub const NONE: Self = Self { bits: 0, mantissa: 0, decimals: 0 };

    fn of_bits(bits: u64) -> Self {
        Self { bits, ..Self::NONE }
    }

    /// Appends the value of this number without a reference and returns its code.
    pub fn put_alone(&self, values: &mut Vec<u8>) -> u8 {
        // A whole zero is decimal, bits without a mantissa are not.
        if self.mantissa == 0 && self.bits != 0 {
            values.extend_from_slice(&self.bits.to_le_bytes());
            return BITS;
        }
        varint::put_signed(values, self.mantissa);
        PLAIN + self.decimals
    }

    fn decimal(mantissa: i64, decimals: u8) -> Option<Self> {
        let power = POWERS.get(usize::from(decimals))?;
        Some(Self { bits: (mantissa as f64 / power).to_bits(), mantissa, decimals })
    }
}

/// The mantissa of a number with so many decimals; nothing where it is no such.
#[inline]
fn mantissa(value: f64, decimals: u8) -> Option<i64> {
    let power = POWERS[usize::from(decimals)];
    let scaled = value * power;
    if scaled.abs() >= WHOLE_MAX {
        return None;
    }
    let nearest = (scaled + 0.5_f64.copysign(scaled)) as i64;
    ((nearest as f64 / power).to_bits() == value.to_bits()).then_some(nearest)
}

/// Appends the value of a number and returns its code.
pub fn put(values: &mut Vec<u8>, value: f64, integer: bool, before: &mut Number) -> u8 {
    let bits = value.to_bits();
    if bits == before.bits {
        return SAME;
    }
    if integer {
        varint::put_signed(values, bits.wrapping_sub(before.bits).cast_signed());
        *before = Number::of_bits(bits);
        return DIFFERENCE;
    }
    if let Some(mantissa) = mantissa(value, before.decimals) {
        varint::put_signed(values, mantissa.wrapping_sub(before.mantissa));
        *before = Number { bits, mantissa, decimals: before.decimals };
        return DIFFERENCE;
    }
    put_first(values, value, integer, before)
}

/// The same for a number without reference; `before` becomes it.
pub fn put_first(values: &mut Vec<u8>, value: f64, integer: bool, before: &mut Number) -> u8 {
    let bits = value.to_bits();
    *before = Number::of_bits(bits);
    for (decimals, power) in (0..).zip(POWERS) {
        if integer || (value * power).abs() >= WHOLE_MAX {
            break;
        }
        if let Some(mantissa) = mantissa(value, decimals) {
            varint::put_signed(values, mantissa);
            *before = Number { bits, mantissa, decimals };
            return PLAIN + decimals;
        }
    }
    values.extend_from_slice(&bits.to_le_bytes());
    BITS
}

/// Reads the number with this code; nothing where there is no such.
pub fn take(values: &mut Reader<'_>, code: u8, integer: bool, before: Number) -> Option<Number> {
    match code {
        SAME => Some(before),
        DIFFERENCE if integer => Some(Number::of_bits(before.bits.wrapping_add(values.signed()?.cast_unsigned()))),
        DIFFERENCE => Number::decimal(before.mantissa.wrapping_add(values.signed()?), before.decimals),
        BITS => Some(Number::of_bits(u64::from_le_bytes(values.take(8)?.try_into().ok()?))),
        PLAIN.. if !integer => Number::decimal(values.signed()?, code - PLAIN),
        _ => None,
    }
}

/// Reads a number of a layout: it has no reference, and whether it is an integer is not known yet.
pub fn take_first(values: &mut Reader<'_>, code: u8) -> Option<Number> {
    if code == DIFFERENCE { None } else { take(values, code, false, Number::NONE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes numbers one after the other and reads them back; how many bytes they took with their codes.
    fn round_trip(numbers: &[f64], integer: bool) -> usize {
        let (mut codes, mut values, mut before) = (Vec::new(), Vec::new(), Number::NONE);
        for number in numbers {
            codes.push(put(&mut values, *number, integer, &mut before));
            assert_eq!(before.bits, number.to_bits());
        }
        let (mut reader, mut before) = (Reader::new(&values), Number::NONE);
        for (code, number) in codes.iter().zip(numbers) {
            before = take(&mut reader, *code, integer, before).expect("a number");
            assert_eq!(before.bits, number.to_bits(), "{number}");
            let (mut alone, mut known) = (Vec::new(), Number::NONE);
            let code = put_first(&mut alone, *number, integer, &mut known);
            let mut reader = Reader::new(&alone);
            assert_eq!(take_first(&mut reader, code), Some(known));
            assert!(reader.is_empty());
            alone.clear();
            let code = known.put_alone(&mut alone);
            assert_eq!(take_first(&mut Reader::new(&alone), code), Some(known));
        }
        assert!(reader.is_empty());
        codes.len() + values.len()
    }

    #[test]
    fn any_number_comes_back_with_all_its_bits() {
        let odd =
            [0.0, -0.0, 5e-324, f64::MAX, f64::MIN, 1e22, 1e23, 0.1 + 0.2, 9_007_199_254_740_993.0, -1.5e-7, 1e-22];
        round_trip(&odd, false);
        round_trip(&odd, true);
        let integers = [0, 1, u64::MAX, 1 << 63, i64::MAX as u64].map(f64::from_bits);
        round_trip(&integers, true);
        let mut state = 7_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let wild = f64::from_bits(state ^ (state >> 29));
            let tame = (state >> 44) as f64 / POWERS[(state % 12) as usize];
            round_trip(&[wild, tame, -tame, tame * 3.0, wild, wild + 1.0], false);
        }
    }

    #[test]
    fn numbers_near_the_one_before_take_two_bytes() {
        assert_eq!(round_trip(&[1.5, 1.6, 1.5, 1.5, 2.0], false), 2 + 2 + 2 + 1 + 2);
        assert_eq!(round_trip(&[1_000_000.0, 1_000_001.0, 1_000_000.0], false), 4 + 2 + 2);
        assert_eq!(round_trip(&[0.0], false), 1);
        // No decimal: as it is, and the next one has no digits to hold on to.
        assert_eq!(round_trip(&[0.1 + 0.2, 7.0], false), 9 + 2);
    }

    #[test]
    fn codes_that_do_not_exist_are_refused() {
        let some = [1; 16];
        for (code, integer) in [(PLAIN + DECIMALS_MAX + 1, false), (255, false), (PLAIN, true)] {
            assert_eq!(take(&mut Reader::new(&some), code, integer, Number::NONE), None, "{code}");
        }
        assert_eq!(take_first(&mut Reader::new(&some), DIFFERENCE), None);
        assert_eq!(take(&mut Reader::new(&some[..7]), BITS, false, Number::NONE), None);
    }
}
