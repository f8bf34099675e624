//! How single values are written: durations, sizes, `$` expansion, and what a misspelt word was meant to be.

use std::collections::BTreeMap;

/// Reads `30s`, `10m`, `1h30m`, `14d`, `2w`, `500ms` as milliseconds.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    let mut total = 0u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(number.checked_mul(unit)?)?;
    }
    Some(total)
}

/// Writes milliseconds the way [`duration_ms`] reads them, as shortly as possible.
pub(super) fn duration_text(ms: u64) -> String {
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms >= unit && ms.is_multiple_of(unit) {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
}

/// Reads `64MiB`, `64MB`, `512KB`, `1G` as bytes; as in Prometheus every unit is a power of 1024.
pub(super) fn size_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim_start() {
        "" | "B" => 0,
        "K" | "KB" | "KiB" => 10,
        "M" | "MB" | "MiB" => 20,
        "G" | "GB" | "GiB" => 30,
        "T" | "TB" | "TiB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// Writes bytes the way [`size_bytes`] reads them.
pub(super) fn size_text(bytes: u64) -> String {
    for (shift, name) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
            return format!("{}{name}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

/// Replaces `$NAME` and `${NAME}` as Go's `os.Expand` does over the environment; `$$` is `$`.
///
/// The CloudWatch agent's generated YAML goes through this (OpenTelemetry's configuration loader). An unknown name gives
/// nothing; `$` before anything that cannot start a name, and `$` at the end, stay.
pub(super) fn expand(text: &str, vars: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, used) = shell_name(after);
        match name {
            "$" => out.push('$'),
            "" if used == 0 => out.push('$'),
            name => out.push_str(vars.get(name).map_or("", String::as_str)),
        }
        rest = &after[used..];
    }
    out.push_str(rest);
    out
}

/// The name after a `$`, and how much of the text it takes. Names of one special character are Go's and the shell's.
fn shell_name(text: &str) -> (&str, usize) {
    let special = |b: &u8| b"*#$@!?-0123456789".contains(b);
    let bytes = text.as_bytes();
    match bytes {
        [b'{', b, b'}', ..] if special(b) => (&text[1..2], 3),
        [b'{', ..] => match text.find('}') {
            // `${}` and an unclosed `${` vanish.
            Some(1) => ("", 2),
            None => ("", 1),
            Some(end) => (&text[1..end], end + 1),
        },
        [b, ..] if special(b) => (&text[..1], 1),
        _ => {
            let end = bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
            (&text[..end], end)
        }
    }
}

/// The candidate that a misspelt word probably stands for.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word.to_ascii_lowercase(), &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance; words over 64 bytes are not compared.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != y)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in [
            ("30s", Some(30_000)),
            ("10m", Some(600_000)),
            ("14d", Some(1_209_600_000)),
            ("1h30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("2w", Some(1_209_600_000)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("-5s", None),
            ("5y", None),
            ("99999999999999999999s", None),
            ("18446744073709551615w", None),
        ] {
            assert_eq!(duration_ms(text), want, "{text:?}");
        }
        for ms in [0, 1, 999, 1_000, 1_500, 60_000, 90_000, 3_600_000, 1_209_600_000] {
            assert_eq!(duration_ms(&duration_text(ms)), Some(ms));
        }
    }

    #[test]
    fn sizes() {
        for (text, want) in [
            ("64MiB", Some(64 << 20)),
            ("64MB", Some(64 << 20)),
            ("1 KiB", Some(1024)),
            ("12", Some(12)),
            ("12B", Some(12)),
            ("3G", Some(3 << 30)),
            ("", None),
            ("MiB", None),
            ("1.5MiB", None),
            ("64mib", None),
            ("99999999T", Some(99_999_999 << 40)),
            ("99999999999T", None),
        ] {
            assert_eq!(size_bytes(text), want, "{text:?}");
        }
        assert_eq!((size_text(64 << 20), size_text(1500)), ("64MiB".into(), "1500 bytes".into()));
    }

    #[test]
    fn dollars_expand_as_go_does_it() {
        let vars = BTreeMap::from([("B".to_owned(), "bee".to_owned()), ("a.b".to_owned(), "dot".to_owned())]);
        for (text, want) in [
            ("N$A${B}", "Nbee"),
            ("N$A${A}", "N"),
            ("^foo$$", "^foo$"),
            ("^s_${X}plain", "^s_plain"),
            ("^c_bare$|x$y", "^c_bare$|x"),
            ("$$$$B", "$$B"),
            ("$B$", "bee$"),
            ("$", "$"),
            ("$1a$*b$#c$@d$!e$?f$-g", "abcdefg"),
            ("${1}x${$}y", "x$y"),
            ("${}x", "x"),
            ("${B", "B"),
            ("${a.b}", "dot"),
            ("$é$(B)$.", "$é$(B)$."),
            ("no dollar", "no dollar"),
            ("$B_x $B-x", " bee-x"),
        ] {
            assert_eq!(expand(text, &vars), want, "{text:?}");
        }
    }

    #[test]
    fn the_nearest_word_is_near() {
        let keys = ["log_group_name", "cluster_name", "emf_processor"];
        assert_eq!(nearest("log_group", keys), None);
        assert_eq!(nearest("log_groupname", keys), Some("log_group_name"));
        assert_eq!(nearest("emf_procesor", keys), Some("emf_processor"));
        assert_eq!(nearest("Cluster_Name", keys), Some("cluster_name"));
        assert_eq!(nearest("x", keys), None);
    }
}
