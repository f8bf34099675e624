//! Rules about the sources themselves.

#![allow(clippy::disallowed_methods)] // reads the sources

use std::fs;
use std::path::{Path, PathBuf};

/// Who may use whom. Rooms that are not listed for a room must not be named in it.
const TABLE: &[(&str, &[&str])] = &[
    ("model", &["pattern"]),
    ("pattern", &[]),
    ("yaml", &[]),
    ("profile", &[]),
    ("gzip", &[]),
    ("deflate", &[]),
    ("env", &["model"]),
    ("clock", &["env"]),
    ("config", &["model", "pattern", "env", "yaml", "profile"]),
    ("relabel", &["model", "pattern"]),
    ("discovery", &["model", "pattern", "env", "relabel", "yaml"]),
    ("scrape", &["model", "pattern", "env", "relabel", "gzip"]),
    ("convert", &["model", "pattern"]),
    ("host", &["model", "env"]),
    ("spool", &["model", "env", "deflate"]),
    ("ship", &["model", "env", "clock", "profile", "gzip", "deflate"]),
    (
        "agent",
        &["model", "pattern", "env", "clock", "discovery", "relabel", "scrape", "convert", "host", "spool", "ship"],
    ),
    ("notify", &[]),
    ("logger", &["model"]),
];

/// The user's side may use everything.
const ABOVE: &[&str] = &["cli", "main", "lib"];

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn room(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("a source");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn rooms_use_each_other_one_way() {
    let mut wrong = Vec::new();
    for path in sources() {
        let room = room(&path);
        if ABOVE.contains(&room.as_str()) {
            continue;
        }
        let (_, allowed) =
            TABLE.iter().find(|(name, _)| *name == room).unwrap_or_else(|| panic!("{room} is not in the table"));
        let text = fs::read_to_string(&path).expect("a source");
        // Tests in a room may reach further.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for part in line.split("crate::").skip(1) {
                let used: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let is_room = TABLE.iter().any(|(name, _)| *name == used) || ABOVE.contains(&used.as_str());
                if is_room && used != room && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{}:{}: {room} uses {used}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_has_no_circle() {
    // Taken in the order of the data's way each room may only use those that need nothing of it.
    fn reaches(from: &str, to: &str) -> bool {
        let allowed = TABLE.iter().find(|(name, _)| *name == from).map_or(&[][..], |(_, allowed)| allowed);
        allowed.iter().any(|next| *next == to || reaches(next, to))
    }
    for (name, _) in TABLE {
        assert!(!reaches(name, name), "{name} reaches itself");
    }
}

#[test]
fn rooms_say_what_they_are_for() {
    for path in sources() {
        let text = fs::read_to_string(&path).expect("a source");
        if path.ends_with("tests.rs") {
            continue;
        }
        assert!(text.starts_with("//!"), "{} does not say what it is for", path.display());
        assert!(!text.contains("room under construction"), "{}", path.display());
    }
}

#[test]
fn nothing_is_left_undone() {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("dbg", "!("),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    for path in sources() {
        let text = fs::read_to_string(&path).expect("a source");
        for word in words {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
}

/// Others choose names and texts in what is printed: it goes through the doors of `cli/mod.rs` that escape it.
#[test]
fn nothing_is_printed_past_the_door() {
    for path in sources() {
        let text = fs::read_to_string(&path).expect("a source");
        for (number, line) in text.lines().enumerate() {
            let prints = line.contains("println!(") || line.contains("print!(") || line.contains("io::stdout()");
            let door = path.ends_with("cli/mod.rs");
            assert!(!prints || door, "{}:{}: use cli's Lines, say or json_line", path.display(), number + 1);
        }
    }
}

#[test]
fn files_stay_readable() {
    for path in sources() {
        let lines = fs::read_to_string(&path).expect("a source").lines().count();
        assert!(lines <= 900, "{} has {lines} lines", path.display());
    }
}
