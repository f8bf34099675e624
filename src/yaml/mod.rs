//! YAML as the program's two readers need it: a tree that knows where everything stood.
//!
//! The `saphyr-parser` crate scans; this room builds the tree and gives scalars the types that go-yaml v2 gives them, the
//! reader of Prometheus: bare `yes` and `on` are booleans, quoted `"true"` is text, `0x10`, `1_000` and `0o17` are numbers.
//! Like there, only the first document of a file is read, a key that is given twice is an error, and `<<` merges mappings.
//!
//! Refuses: meaning (which keys exist is the callers' affair), writing, keys that are not scalars, `!!binary`.
//!
//! Limits, so that a hostile or mistaken file costs bounded memory: [`MAX_TEXT_BYTES`] of text, [`MAX_DEPTH`] levels, and
//! [`MAX_TREE_BYTES`] for the tree with all aliases expanded (an anchor's copy counts too).

mod build;
mod mend;
mod scalar;

use std::fmt;

pub use scalar::{Scalar, Value};

/// The longest text that is read.
pub const MAX_TEXT_BYTES: usize = 2 << 20;
/// The largest tree, aliases expanded; each node counts its size and its text.
pub const MAX_TREE_BYTES: usize = 16 << 20;
/// The deepest nesting, aliases expanded.
pub const MAX_DEPTH: usize = 64;

/// The first document of a file.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Its content; nothing for an empty file.
    pub root: Option<Node>,
    /// The line from which nothing is read: a second document, or what cannot belong to the first one.
    pub ignored_from: Option<usize>,
}

/// A value and where it stands. What came through an alias or a merge stands where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    line: u32,
    column: u32,
    /// What it is.
    pub kind: Kind,
}

/// The three kinds of nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Text, number, boolean or null.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order of the file; merged ones stand where their `<<` stood.
    Mapping(Vec<Entry>),
}

/// A key of a mapping and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key as written; empty for a null key.
    pub key: String,
    line: u32,
    column: u32,
    /// It came through `<<`.
    pub merged: bool,
    /// The value.
    pub value: Node,
}

/// Why a text is not a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.text)
    }
}

impl std::error::Error for Error {}

/// Reads the first document of a text.
///
/// # Errors
/// The first place that is not YAML, that names a key twice, or that passes a limit of this room.
pub fn parse(text: &str) -> Result<Document, Error> {
    build::document(text)
}

impl Node {
    /// Line and column, from 1.
    pub fn position(&self) -> (usize, usize) {
        (self.line as usize, self.column as usize)
    }

    /// The typed value of a scalar; nothing for lists and mappings.
    pub fn value(&self) -> Option<Value<'_>> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar.value()),
            _ => None,
        }
    }

    /// Whether it stands for nothing at all: left empty, `~` or `null`. go-yaml hands `Null` and `NULL` on to types that
    /// read themselves (durations, actions, sections), for which it is an empty text; their [`Self::value`] is null too.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(scalar) if scalar.is_nothing())
    }

    /// A scalar as text, whatever its type: `8080`, `yes` and `1.0` are what was written, null is empty.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar.as_str()),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self.value()? {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// A number without sign; a fraction is cut off, as go-yaml does.
    pub fn as_u64(&self) -> Option<u64> {
        match self.value()? {
            Value::Int(value) => u64::try_from(value).ok(),
            Value::Uint(value) => Some(value),
            Value::Float(value) if (0.0..=18_446_744_073_709_551_616.0).contains(&value) => Some(value as u64),
            _ => None,
        }
    }

    /// A whole number; a fraction is cut off, as go-yaml does.
    pub fn as_i64(&self) -> Option<i64> {
        const LIMIT: f64 = 9_223_372_036_854_775_808.0;
        match self.value()? {
            Value::Int(value) => Some(value),
            Value::Uint(value) => i64::try_from(value).ok(),
            Value::Float(value) if (-LIMIT..LIMIT).contains(&value) => Some(value as i64),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn as_sequence(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a mapping.
    pub fn as_mapping(&self) -> Option<&[Entry]> {
        match &self.kind {
            Kind::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    /// A mapping's value for a key: the last one given, so a `<<` after a key wins over it, as in go-yaml.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_mapping()?.iter().rev().find_map(|entry| (entry.key == key).then_some(&entry.value))
    }

    /// What it is, for messages.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "a mapping",
            Kind::Scalar(scalar) => match scalar.value() {
                Value::Null => "nothing",
                Value::Bool(_) => "a boolean",
                Value::Int(_) | Value::Uint(_) | Value::Float(_) => "a number",
                Value::Text(_) => "text",
            },
        }
    }
}

impl Entry {
    /// The key's line and column, from 1.
    pub fn position(&self) -> (usize, usize) {
        (self.line as usize, self.column as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(text: &str) -> Node {
        parse(text).expect(text).root.expect(text)
    }

    fn error(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn everything_has_a_position() {
        let tree = root("a:\n  - b: 1\n    c: x\n");
        let entry = &tree.as_mapping().unwrap()[0];
        assert_eq!((entry.position(), entry.value.position()), ((1, 1), (2, 3)));
        let item = &entry.value.as_sequence().unwrap()[0].as_mapping().unwrap()[1];
        assert_eq!((item.key.as_str(), item.position(), item.value.position()), ("c", (3, 5), (3, 8)));
    }

    #[test]
    fn only_the_first_document_is_read() {
        let document = parse("a: 1\n---\nb: [\n").unwrap();
        assert_eq!(document.ignored_from, Some(2));
        assert_eq!(document.root.unwrap().get("a").and_then(Node::as_u64), Some(1));
        for empty in ["", "\n", "# nothing\n"] {
            assert!(parse(empty).unwrap().root.is_none(), "{empty:?}");
        }
        assert_eq!(parse("a: 1\n...\n").unwrap().ignored_from, None);
        assert_eq!(parse(" a: 1\nb: 2\n").unwrap().ignored_from, Some(2));
    }

    #[test]
    fn a_key_given_twice_is_an_error() {
        assert_eq!(error("a: 1\nb: 2\na: 3\n"), "line 3, column 1: the key \"a\" is already given on line 1");
        assert_eq!(error("x: {a: 1, 'a': 2}"), "line 1, column 11: the key \"a\" is already given on line 1");
    }

    #[test]
    fn merges_are_entries_like_any_other() {
        let tree = root("b: &b {x: 1, y: 2}\nc:\n  <<: *b\n  y: 3\nd:\n  <<: [{x: 4}, *b]\n");
        let c = tree.get("c").unwrap();
        assert_eq!((c.get("x").unwrap().as_u64(), c.get("y").unwrap().as_u64()), (Some(1), Some(3)));
        assert_eq!(c.as_mapping().unwrap().iter().filter(|entry| entry.merged).count(), 2);
        assert_eq!(tree.get("d").unwrap().get("x").unwrap().as_u64(), Some(4));
        assert_eq!(error("a:\n  <<: 1\n"), "line 2, column 7: `<<` takes a mapping or a list of mappings");
        assert_eq!(root("'<<': 1").get("<<").unwrap().as_u64(), Some(1));
    }

    #[test]
    fn brackets_quotes_and_tabs_may_be_laid_out_as_in_yaml_1_1() {
        let tree = root("- targets: [\n  a:1,\n 'b',\n]\n  labels:\t{\nx: y}\n- \"a\nb\"\n");
        let items = tree.as_sequence().unwrap();
        let targets = items[0].get("targets").unwrap().as_sequence().unwrap();
        let texts: Vec<_> = targets.iter().map(|node| (node.as_str().unwrap(), node.position())).collect();
        assert_eq!(texts, [("a:1", (2, 3)), ("b", (3, 2))]);
        let x = &items[0].get("labels").unwrap().as_mapping().unwrap()[0];
        assert_eq!((x.key.as_str(), x.position(), items[1].as_str()), ("x", (6, 1), Some("a b")));
        assert_eq!(error("- a: [\nx: y,\n*z]\n"), "line 3, column 1: while parsing node, found unknown anchor");
        assert!(error(&format!("- a: [\n{}]", "x,\n".repeat(5000))).contains("invalid indentation"));
    }

    #[test]
    fn aliases_expand_within_a_limit() {
        let tree = root("a: &a [1, 2]\nb: *a\n");
        assert_eq!(tree.get("a"), tree.get("b"));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..10 {
            let previous = format!("*a{}", i - 1);
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", [previous.as_str(); 10].join(", ")));
        }
        assert!(error(&bomb).contains("too large"), "{}", error(&bomb));
        assert!(error("a: &a [*a]").contains("contains itself"));
        assert!(error("a: *b").contains("unknown anchor"));
    }

    #[test]
    fn depth_is_limited_through_aliases_too() {
        assert!(error(&"[".repeat(100)).contains("levels"));
        let mut chain = "a0: &a0 [[[[[[[[[[x]]]]]]]]]]\n".to_owned();
        for i in 1..8 {
            chain.push_str(&format!("a{i}: &a{i} [[[[[[[[[[*a{}]]]]]]]]]]\n", i - 1));
        }
        assert!(error(&chain).contains("levels"));
    }

    #[test]
    fn what_is_not_yaml_says_where() {
        for (text, place) in [
            ("a: [1\nb: 2\n", "line 2"),
            ("a:\n\tb: 1\n", "line 2"),
            ("a: \u{0}\n", "line 1, column 4"),
            ("a: 'x\n", "line "),
            ("? [a]\n: b\n", "line 1, column 3: a key must be"),
            ("a: !!int x\n", "line 1, column 4: this is not of the type !!int"),
        ] {
            assert!(error(text).contains(place), "{text:?}: {}", error(text));
        }
    }
}
