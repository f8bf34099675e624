//! Typed access to the tree: whatever does not fit becomes a finding, and reading goes on.

use super::Context;
use crate::config::{Finding, Severity};
use crate::env::Disk;
use crate::model::{parse_duration_ms, parse_size};
use crate::yaml::{Entry, Node, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// More findings than this help nobody.
const MAX_FINDINGS: usize = 500;

/// Line and column, from 1.
pub(super) type Position = (usize, usize);

/// What all parts of one file's reading share.
pub(super) struct Reader<'a> {
    pub(super) file: &'a str,
    /// The folder that the file's relative paths start from.
    pub(super) dir: &'a Path,
    pub(super) context: &'a Context,
    pub(super) disk: &'a dyn Disk,
    pub(super) findings: &'a mut Vec<Finding>,
}

/// A mapping with a fixed set of keys.
pub(super) struct Section<'n> {
    node: &'n Node,
    pub(super) path: String,
}

impl Reader<'_> {
    /// Adds a finding; `fix` may be empty. Neither text may hold a value that can be a secret.
    pub(super) fn say(&mut self, severity: Severity, at: Position, key: &str, text: impl Into<String>, fix: &str) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding {
                severity,
                file: self.file.to_owned(),
                position: Some(at),
                key: key.to_owned(),
                text: text.into(),
                fix: fix.to_owned(),
            });
        }
    }

    /// [`Self::say`] with [`Severity::Error`].
    pub(super) fn error(&mut self, at: Position, key: &str, text: impl Into<String>, fix: &str) {
        self.say(Severity::Error, at, key, text, fix);
    }

    /// Opens a mapping and refuses the keys that it does not have.
    pub(super) fn section<'n>(&mut self, node: &'n Node, path: String, keys: &[&[&str]]) -> Option<Section<'n>> {
        if node.as_mapping().is_none() && node.value() != Some(Value::Null) {
            self.error(node.position(), &path, format!("must be a mapping, not {}", node.describe()), "");
            return None;
        }
        let section = Section { node, path };
        for entry in section.entries() {
            if !keys.iter().any(|keys| keys.contains(&entry.key.as_str())) {
                self.unknown_key(entry, &section.path, keys);
            }
        }
        Some(section)
    }

    fn unknown_key(&mut self, entry: &Entry, path: &str, keys: &[&[&str]]) {
        if self.findings.len() >= MAX_FINDINGS {
            return; // looking for what was meant costs time
        }
        let nearest = crate::config::values::nearest(&entry.key, keys.iter().flat_map(|keys| keys.iter().copied()));
        let fix = match nearest {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => super::home_of(&entry.key).map(|home| format!("it belongs {home}")).unwrap_or_default(),
        };
        self.error(entry.position(), &join(path, &entry.key), "there is no such key", &fix);
    }

    /// The entries of a mapping whose keys the user chooses; a key that a merge repeats is an error there.
    pub(super) fn map<'n>(&mut self, node: &'n Node, path: &str) -> Vec<(&'n str, &'n Node)> {
        let Some(entries) = node.as_mapping() else {
            if node.value() != Some(Value::Null) {
                self.error(node.position(), path, format!("must be a mapping, not {}", node.describe()), "");
            }
            return Vec::new();
        };
        let mut seen = BTreeMap::new();
        for entry in entries {
            if seen.insert(entry.key.as_str(), &entry.value).is_some() {
                self.error(entry.position(), &join(path, &entry.key), "the key is given twice, once by a merge", "");
            }
        }
        entries.iter().map(|entry| (entry.key.as_str(), &entry.value)).collect()
    }

    /// A list of scalars as text; the parts that are not are left out.
    pub(super) fn texts<'n>(&mut self, node: &'n Node, path: &str) -> Vec<(&'n str, Position)> {
        let mut texts = Vec::new();
        for (at, item) in self.items(node, path).iter().enumerate() {
            match item.as_str() {
                Some(text) => texts.push((text, item.position())),
                None => self.wrong_type(item, &format!("{path}[{at}]"), "text"),
            }
        }
        texts
    }

    /// The items of a list; null is an empty one.
    pub(super) fn items<'n>(&mut self, node: &'n Node, path: &str) -> &'n [Node] {
        match node.as_sequence() {
            Some(items) => items,
            None => {
                if node.value() != Some(Value::Null) {
                    let fix =
                        if node.as_str().is_some() { "put it in brackets: `[…]`" } else { "start it with `- `" };
                    self.error(node.position(), path, format!("must be a list, not {}", node.describe()), fix);
                }
                &[]
            }
        }
    }

    pub(super) fn wrong_type(&mut self, node: &Node, path: &str, wanted: &str) {
        self.error(node.position(), path, format!("must be {wanted}, not {}", node.describe()), "");
    }

    /// A path as Prometheus understands it: relative ones start from the file's folder.
    pub(super) fn join_dir(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    /// A file that must be there when it is used; now its absence is only worth a warning.
    pub(super) fn file_path(&mut self, path: &str, at: Position, key: &str) -> PathBuf {
        let full = self.join_dir(path);
        if let Err(error) = self.disk.stat(&full) {
            let text = format!("{}: {error}", full.display());
            self.say(Severity::Warning, at, key, text, "it must be readable when it is used");
        }
        full
    }
}

impl<'n> Section<'n> {
    pub(super) fn entries(&self) -> &'n [Entry] {
        self.node.as_mapping().unwrap_or_default()
    }

    /// Where the section stands.
    pub(super) fn position(&self) -> Position {
        self.node.position()
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.node.get(key)
    }

    /// The value of a key unless it is null.
    pub(super) fn given(&self, key: &str) -> Option<&'n Node> {
        self.get(key).filter(|node| !node.is_null())
    }

    /// Where a key stands itself, or else the section.
    pub(super) fn key_at(&self, key: &str) -> Position {
        let entry = self.entries().iter().rev().find(|entry| entry.key == key);
        entry.map_or(self.position(), Entry::position)
    }

    /// Where a key's value stands, or else the section.
    pub(super) fn at(&self, key: &str) -> Position {
        self.get(key).map_or(self.position(), Node::position)
    }

    /// Whether a key holds a text that is not empty, without a finding.
    pub(super) fn filled_quietly(&self, key: &str) -> bool {
        self.get(key).and_then(Node::as_str).is_some_and(|text| !text.is_empty())
    }

    /// The key's whole path.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// A scalar as text; null is empty.
    pub(super) fn text(&self, reader: &mut Reader<'_>, key: &str) -> Option<&'n str> {
        let node = self.get(key)?;
        if node.as_str().is_none() {
            reader.wrong_type(node, &self.path_of(key), "text");
        }
        node.as_str()
    }

    /// A scalar as text, where empty is as good as nothing.
    pub(super) fn filled(&self, reader: &mut Reader<'_>, key: &str) -> Option<&'n str> {
        self.text(reader, key).filter(|text| !text.is_empty())
    }

    /// A boolean; null is false.
    pub(super) fn flag(&self, reader: &mut Reader<'_>, key: &str, default: bool) -> bool {
        let Some(node) = self.get(key) else { return default };
        if node.value() == Some(Value::Null) {
            return false;
        }
        node.as_bool().unwrap_or_else(|| {
            let fix = match node.as_str() {
                Some("true" | "false" | "yes" | "no" | "on" | "off") => "without the quotes",
                _ => "write true or false",
            };
            let text = format!("must be a boolean, not {}", node.describe());
            reader.error(node.position(), &self.path_of(key), text, fix);
            default
        })
    }

    /// A number without sign; null and a missing key are 0.
    pub(super) fn count(&self, reader: &mut Reader<'_>, key: &str) -> u64 {
        self.number(reader, key, "a number from 0 on", Node::as_u64)
    }

    /// A number without fraction; null and a missing key are 0.
    pub(super) fn integer(&self, reader: &mut Reader<'_>, key: &str) -> i64 {
        self.number(reader, key, "a whole number", Node::as_i64)
    }

    fn number<T: Default>(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        wanted: &str,
        read: impl Fn(&Node) -> Option<T>,
    ) -> T {
        let Some(node) = self.get(key).filter(|node| node.value() != Some(Value::Null)) else { return T::default() };
        read(node).unwrap_or_else(|| {
            let text = match node.describe() {
                "a number" => format!("must be {wanted}"),
                other => format!("must be {wanted}, not {other}"),
            };
            reader.error(node.position(), &self.path_of(key), text, "");
            T::default()
        })
    }

    /// Checks that the value is a number.
    pub(super) fn check_float(&self, reader: &mut Reader<'_>, key: &str) {
        let fits = |node: &Node| matches!(node.value(), Some(Value::Int(_) | Value::Uint(_) | Value::Float(_)));
        self.number(reader, key, "a number", |node| fits(node).then_some(0_u8));
    }

    /// A duration in milliseconds; null is 0.
    pub(super) fn duration(&self, reader: &mut Reader<'_>, key: &str) -> Option<u64> {
        let text = self.text(reader, key)?;
        if self.given(key).is_none() {
            return Some(0);
        }
        match parse_duration_ms(text) {
            Ok(ms) => Some(ms),
            Err(text) => {
                reader.error(self.at(key), &self.path_of(key), text, "write it as in `30s`, `1m30s`, `500ms`");
                None
            }
        }
    }

    /// A size in bytes; null and a missing key are 0.
    pub(super) fn size(&self, reader: &mut Reader<'_>, key: &str) -> u64 {
        let Some(text) = self.text(reader, key) else { return 0 };
        if self.get(key).is_none_or(|node| node.value() == Some(Value::Null)) {
            return 0;
        }
        parse_size(text).unwrap_or_else(|text| {
            reader.error(self.at(key), &self.path_of(key), text, "write it with a unit, as in `10MB` or `512KiB`");
            0
        })
    }

    /// A list of texts; nothing when the key is missing or null.
    pub(super) fn texts(&self, reader: &mut Reader<'_>, key: &str) -> Option<Vec<(&'n str, Position)>> {
        self.given(key).map(|node| reader.texts(node, &self.path_of(key)))
    }

    /// A list's items; none when the key is missing or null.
    pub(super) fn items(&self, reader: &mut Reader<'_>, key: &str) -> &'n [Node] {
        self.get(key).map_or(&[], |node| reader.items(node, &self.path_of(key)))
    }

    /// The entries of a mapping whose keys the user chooses.
    pub(super) fn map(&self, reader: &mut Reader<'_>, key: &str) -> Vec<(&'n str, &'n Node)> {
        self.get(key).map_or_else(Vec::new, |node| reader.map(node, &self.path_of(key)))
    }

    /// A mapping of texts.
    pub(super) fn text_map(&self, reader: &mut Reader<'_>, key: &str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (name, node) in self.map(reader, key) {
            match node.as_str() {
                Some(text) => {
                    texts.insert(name.to_owned(), text.to_owned());
                }
                None => reader.wrong_type(node, &join(&self.path_of(key), name), "text"),
            }
        }
        texts
    }

    /// A section below this one; nothing when the key is missing or null.
    pub(super) fn child(&self, reader: &mut Reader<'_>, key: &str, keys: &[&[&str]]) -> Option<Section<'n>> {
        self.given(key).and_then(|node| reader.section(node, self.path_of(key), keys))
    }
}

/// The path of a key below another.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
