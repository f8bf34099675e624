//! File name patterns, as Go's `path/filepath` has them: `*`, `?`, `[a-z]`, `[^a-z]` and `\` within one part of a path.

use super::Disk;
use std::path::PathBuf;

/// The most files that one pattern may stand for; a mistaken pattern must not take all memory.
const MAX_FILES: usize = 10_000;

/// The files and folders that a pattern stands for, in the order of their names. What cannot be read has no files, as in Go.
///
/// # Errors
/// The pattern is malformed.
pub fn glob(disk: &dyn Disk, pattern: &str) -> Result<Vec<PathBuf>, String> {
    if matches(pattern.as_bytes(), b"").is_none() {
        return Err(format!("{pattern:?} is not a file name pattern"));
    }
    let mut found = vec![PathBuf::from(if pattern.starts_with('/') { "/" } else { "" })];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        if !part.contains(['*', '?', '[', '\\']) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = Vec::new();
        for dir in found {
            let here = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir.clone() };
            let names = disk.list(&here).unwrap_or_default().into_iter().map(|entry| entry.name);
            let names = names.filter(|name| matches(part.as_bytes(), name.as_bytes()) == Some(true));
            next.extend(names.map(|name| dir.join(name)).take(MAX_FILES - next.len().min(MAX_FILES)));
        }
        found = next;
    }
    found.retain(|path| disk.stat(path).is_ok());
    Ok(found)
}

/// Whether a name fits one part of a pattern; nothing when the pattern is malformed. Works on bytes but for `?` and classes.
fn matches(pattern: &[u8], name: &[u8]) -> Option<bool> {
    // Where the last `*` stood and what it has eaten so far: on a mismatch it eats one byte more.
    let mut retry: Option<(usize, usize)> = None;
    let (mut p, mut n) = (0, 0);
    loop {
        if p == pattern.len() && n == name.len() {
            return Some(true);
        }
        if p < pattern.len() && pattern[p] == b'*' {
            p += 1;
            retry = Some((p, n));
            continue;
        }
        let (used, eaten) = if p < pattern.len() { one(&pattern[p..], &name[n..])? } else { (0, None) };
        if let Some(eaten) = eaten.filter(|_| p < pattern.len()) {
            (p, n) = (p + used, n + eaten);
            continue;
        }
        match retry {
            Some((star, eaten)) if eaten < name.len() => {
                retry = Some((star, eaten + 1));
                (p, n) = (star, eaten + 1);
            }
            _ => {
                // The rest of the pattern must still be well formed.
                while p < pattern.len() {
                    p += if pattern[p] == b'*' { 1 } else { one(&pattern[p..], b"")?.0 };
                }
                return Some(false);
            }
        }
    }
}

/// One element of a pattern other than `*`: its length, and how many bytes of the name it takes if it fits.
fn one(pattern: &[u8], name: &[u8]) -> Option<(usize, Option<usize>)> {
    let (c, len) = first_char(name);
    match *pattern.first()? {
        b'?' => Some((1, c.map(|_| len))),
        b'[' => {
            let mut at = 1;
            let negated = pattern.get(at) == Some(&b'^');
            at += usize::from(negated);
            let (mut fits, mut ranges) = (false, 0);
            while pattern.get(at) != Some(&b']') || ranges == 0 {
                let low = class_char(pattern, &mut at)?;
                let mut high = low;
                if pattern.get(at) == Some(&b'-') {
                    at += 1;
                    high = class_char(pattern, &mut at)?;
                }
                fits |= c.is_some_and(|c| low <= c && c <= high);
                ranges += 1;
            }
            Some((at + 1, c.filter(|_| fits != negated).map(|_| len)))
        }
        b'\\' => {
            let literal = *pattern.get(1)?;
            Some((2, (name.first() == Some(&literal)).then_some(1)))
        }
        literal => Some((1, (name.first() == Some(&literal)).then_some(1))),
    }
}

/// A character within `[…]`.
fn class_char(pattern: &[u8], at: &mut usize) -> Option<char> {
    match pattern.get(*at)? {
        b'-' | b']' => return None,
        b'\\' => *at += 1,
        _ => {}
    }
    let (c, len) = first_char(pattern.get(*at..)?);
    *at += len;
    // Something must follow: the end of the class at least.
    pattern.get(*at)?;
    c
}

fn first_char(bytes: &[u8]) -> (Option<char>, usize) {
    let len = match bytes.first() {
        None => return (None, 0),
        Some(0xF0..) => 4,
        Some(0xE0..) => 3,
        Some(0xC0..) => 2,
        Some(_) => 1,
    };
    let c = bytes.get(..len).and_then(|bytes| std::str::from_utf8(bytes).ok()).and_then(|text| text.chars().next());
    (c, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::RealDisk;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, name, expected) in [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "a", Some(true)),
            ("a*b*c", "aXbYc", Some(true)),
            ("a*b*c", "aXbY", Some(false)),
            ("*.yml", ".yml", Some(true)),
            ("*x", "xxx", Some(true)),
            ("a?c", "aäc", Some(true)),
            ("a?c", "ac", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[^b-d]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            ("[\\]a]", "]", Some(true)),
            ("[\\-x]", "-", Some(true)),
            ("[x-]", "x", None),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("[^]", "a", None),
            ("a[", "a", None),
            ("a[", "ab", None),
            ("[a-", "", None),
            ("a\\*b", "a*b", Some(true)),
            ("a\\", "a", None),
            ("*x", "", Some(false)),
            ("", "", Some(true)),
            ("", "x", Some(false)),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern:?} {name:?}");
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn files_are_found_in_order() {
        let root = std::env::temp_dir().join(format!("promwatch-glob-{}", std::process::id()));
        for path in ["b/2.yml", "b/1.yml", "b/1.json", "c/1.yml"] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), "").unwrap();
        }
        let found = |pattern: &str| -> Vec<String> {
            let full = format!("{}/{pattern}", root.display());
            let found = glob(&RealDisk, &full).unwrap();
            found.iter().map(|path| path.strip_prefix(&root).unwrap().display().to_string()).collect()
        };
        assert_eq!(found("b/*.yml"), ["b/1.yml", "b/2.yml"]);
        assert_eq!(found("[bc]/1.y?l"), ["b/1.yml", "c/1.yml"]);
        assert_eq!(found("b/1.json"), ["b/1.json"]);
        assert!(found("nowhere/*").is_empty() && found("b/none.yml").is_empty());
        assert!(glob(&RealDisk, "[").is_err());
        std::fs::remove_dir_all(&root).unwrap();
    }
}
