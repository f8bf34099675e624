//! How single values are written: durations, sizes, `$` expansion, and what a misspelt word was meant to be; which addresses are
//! this machine's, and which files are open to others.

use crate::env::Disk;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

/// Writes milliseconds as they are read, in the largest unit that fits.
pub(super) fn duration_text(ms: u64) -> String {
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms >= unit && ms.is_multiple_of(unit) {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
}

/// Writes bytes as they are read.
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

/// What is said of a configuration file that is [`open_to_others`].
pub(super) const OPEN_SECRETS: &str = "this file holds secrets, and other users of the machine can read it";
/// What to do about it.
pub(super) const OPEN_FILE_FIX: &str = "give it to the user that promwatch runs as, and chmod 600";

/// Whether its group or everybody may read a file that holds secrets.
pub(super) fn open_to_others(disk: &dyn Disk, path: &Path) -> bool {
    disk.access(path, true).is_ok_and(|access| access.mode & 0o044 != 0)
}

/// The host, with its port, that a URL leads to without TLS, if it is another machine.
pub(super) fn plain_host(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    (scheme.eq_ignore_ascii_case("http") && !is_this_machine(host)).then_some(host)
}

/// Whether an address (a host, with a port or without, or a Unix socket) never leaves this machine.
pub(super) fn is_this_machine(address: &str) -> bool {
    let host = match address.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None if address.matches(':').count() == 1 => address.split(':').next().unwrap_or(""),
        None => address,
    };
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let ip = host.parse::<IpAddr>().map(|ip| ip.to_canonical());
    address.starts_with("unix:/")
        || name == "localhost"
        || name.ends_with(".localhost")
        || ip.is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
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
    use crate::model::parse_duration_ms;

    #[test]
    fn durations_and_sizes_are_written_as_they_are_read() {
        for ms in [0, 1, 999, 1_000, 1_500, 60_000, 90_000, 3_600_000, 1_209_600_000] {
            assert_eq!(parse_duration_ms(&duration_text(ms)), Ok(ms));
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
    fn this_machine_is_known_by_its_addresses() {
        for here in [
            "localhost",
            "LOCALHOST:80",
            "a.localhost:1",
            "127.0.0.1",
            "127.8.9.1:9100",
            "[::1]:9100",
            "::1",
            "0.0.0.0:1",
            "[::ffff:127.0.0.1]:1",
            "unix:/run/a.sock",
            "localhost.:1",
        ] {
            assert!(is_this_machine(here), "{here}");
        }
        for there in
            ["", "pi", "pi:1", "10.0.0.1", "[fe80::1]:1", "fe80::1", "localhost.example:1", "128.0.0.1:1", "unix:x"]
        {
            assert!(!is_this_machine(there), "{there}");
        }
        assert_eq!(plain_host("HTTP://u:p@pi:8080/x@y"), Some("pi:8080"));
        for url in ["https://pi", "http://[::1]:1/x", "http://u@localhost", "pi:80"] {
            assert_eq!(plain_host(url), None, "{url}");
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
