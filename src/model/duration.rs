//! Durations and sizes as Prometheus writes them.

/// Milliseconds of a duration such as `15s`, `1h30m` or `500ms`; plain `0` is allowed. Prometheus' `model.ParseDuration`:
/// whole numbers, each unit of `y w d h m s ms` at most once and from the largest to the smallest, 292 years at most.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 365 * 24 * 3_600_000),
        ("w", 7 * 24 * 3_600_000),
        ("d", 24 * 3_600_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    /// Prometheus counts nanoseconds in 63 bits.
    const MAX_MS: u64 = i64::MAX as u64 / 1_000_000;

    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err("the duration is empty".to_owned());
    }
    let wrong = || format!("{text:?} is not a duration");
    let mut rest = text;
    let mut units = &UNITS[..];
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(|byte| !byte.is_ascii_digit()).count();
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() || unit.is_empty() {
            return Err(wrong());
        }
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(format!("{text:?} has the unknown unit {unit:?}"));
        }
        let at = units.iter().position(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        total_ms = number
            .checked_mul(units[at].1)
            .and_then(|ms| total_ms.checked_add(ms))
            .filter(|ms| *ms <= MAX_MS)
            .ok_or_else(|| format!("{text:?} is too long"))?;
        units = &units[at + 1..];
        rest = tail;
    }
    Ok(total_ms)
}

/// A duration as Prometheus writes it (`model.Duration.String`): `15s`, `1h30m`, `2w`; years and weeks only where nothing is left.
pub fn format_duration(ms: u64) -> String {
    const DAY: u64 = 24 * 3_600_000;
    if ms == 0 {
        return "0s".to_owned();
    }
    let (mut text, mut rest) = (String::new(), ms);
    for (unit, size) in
        [("y", 365 * DAY), ("w", 7 * DAY), ("d", DAY), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)]
    {
        let exact = size > DAY;
        if rest >= size && (!exact || rest.is_multiple_of(size)) {
            text.push_str(&(rest / size).to_string());
            text.push_str(unit);
            rest %= size;
        }
    }
    text
}

/// Bytes of a size such as `15MB`, `1.5GiB` or `0`; all units are powers of 1024. The `units.ParseBase2Bytes` that
/// Prometheus uses: `B`, then `KB` to `EB` or `KiB` to `EiB` but not both kinds, upper case, several in a row are added.
/// Negative sizes come out as 0, which is no limit there too.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size");
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let bytes = sum(rest, "iB").or_else(|| sum(rest, "B")).ok_or_else(wrong)?;
    if bytes > 9_223_372_036_854_775_808.0 {
        return Err(format!("{text:?} is too large"));
    }
    Ok(if negative { 0 } else { bytes as u64 })
}

fn sum(mut rest: &str, suffix: &str) -> Option<f64> {
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(|byte| !byte.is_ascii_digit() && *byte != b'.').count();
        let (unit, tail) = tail.split_at(letters);
        // Go reads the digits into 63 bits.
        if number.split('.').any(|digits| digits.len() > 18) {
            return None;
        }
        let number: f64 = number.parse().ok()?;
        let power = match unit.strip_suffix(suffix) {
            _ if unit == "B" => 0,
            Some(prefix) if prefix.len() == 1 => "KMGTPE".find(prefix)? + 1,
            _ => return None,
        };
        total += number * f64::powi(1024.0, power as i32);
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_prometheus_durations() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("0s", Ok(0)),
            ("15s", Ok(15_000)),
            ("1h30m", Ok(5_400_000)),
            ("1d", Ok(86_400_000)),
            ("1y2w3d4h5m6s7ms", Ok(33_019_506_007)),
            ("292y", Ok(292 * 365 * 86_400_000)),
            ("", Err("the duration is empty")),
            ("15", Err("\"15\" is not a duration")),
            ("1.5s", Err("\"1.5s\" has the unknown unit \".\"")),
            ("-1s", Err("\"-1s\" is not a duration")),
            ("1m1h", Err("\"1m1h\" is not a duration")),
            ("1s1s", Err("\"1s1s\" is not a duration")),
            ("5 s", Err("\"5 s\" has the unknown unit \" s\"")),
            ("5sec", Err("\"5sec\" has the unknown unit \"sec\"")),
            ("293y", Err("\"293y\" is too long")),
            ("99999999999999999999s", Err("\"99999999999999999999s\" is not a duration")),
        ] {
            assert_eq!(parse_duration_ms(text), expected.map_err(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn durations_are_written_as_prometheus_writes_them() {
        for text in ["0s", "1ms", "15s", "1m30s", "1h", "90d", "2w", "1y", "366d", "1d1h1m1s1ms", "8d"] {
            assert_eq!(parse_duration_ms(text).map(format_duration).as_deref(), Ok(text));
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, expected) in [
            ("0", Some(0)),
            ("15MB", Some(15 << 20)),
            ("15MiB", Some(15 << 20)),
            ("1.5KB", Some(1536)),
            (".5KB", Some(512)),
            ("1.KB", Some(1024)),
            ("1GB512MB", Some(1536 << 20)),
            ("100B", Some(100)),
            ("-5KB", Some(0)),
            ("+5KB", Some(5120)),
            ("100", None),
            ("", None),
            ("-", None),
            ("1kB", None),
            ("1KB1KiB", None),
            ("KB", None),
            (".KB", None),
            ("1..5KB", None),
            ("1 MB", None),
            ("16EB", None),
        ] {
            assert_eq!(parse_size(text).ok(), expected, "{text:?}");
        }
    }
}
