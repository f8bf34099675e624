//! From the scanner's events to the tree.

use super::mend::Mended;
use super::{Document, Entry, Error, Kind, MAX_DEPTH, MAX_TEXT_BYTES, MAX_TREE_BYTES, Node, Scalar};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use std::borrow::Cow;
use std::collections::BTreeMap;

pub(super) fn document(text: &str) -> Result<Document, Error> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Error { line: 1, column: 1, text: format!("the file is longer than {MAX_TEXT_BYTES} bytes") });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    refuse_control_characters(text)?;
    let mut mended = Mended::default();
    let mut text = Cow::Borrowed(text);
    loop {
        let error = match scan(&text, &mended) {
            Ok(document) => return Ok(document),
            Err(Failure::Tree(error)) => return Err(error),
            Err(Failure::Scanner(error)) => error,
        };
        match mended.mend(&text, &error) {
            Some(better) => text = Cow::Owned(better),
            None => return Err(Error { column: mended.column(error.line, error.column), ..error }),
        }
    }
}

enum Failure {
    /// Its place is that in the mended text.
    Scanner(Error),
    /// Its place is that in the text as it was.
    Tree(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Tree(error)
    }
}

/// Scans the text as it is; only the positions of nodes are those from before it was mended.
fn scan(text: &str, mended: &Mended) -> Result<Document, Failure> {
    let mut builder = Builder::new(mended);
    let mut documents = 0;
    let mut ignored_from = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            // What comes after the first document is not even read.
            // Content that cannot belong to the first document: go-yaml does not look at it.
            Err(error) if builder.root.is_some() && error.info().contains("<document start>") => {
                ignored_from = Some(error.marker().line());
                break;
            }
            Err(error) => return Err(Failure::Scanner(fail(*error.marker(), error.info().to_owned()))),
        };
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents == 2 {
                    ignored_from = Some(span.start.line());
                    break;
                }
            }
            Event::SequenceStart(anchor, _) => builder.open(Kind::Sequence(Vec::new()), anchor, span)?,
            Event::MappingStart(anchor, _) => builder.open(Kind::Mapping(Vec::new()), anchor, span)?,
            Event::SequenceEnd | Event::MappingEnd => builder.close()?,
            Event::Scalar(text, style, anchor, tag) => {
                builder.scalar(&text, style == ScalarStyle::Plain, tag.as_deref(), anchor, span)?;
            }
            Event::Alias(anchor) => builder.alias(anchor, span)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }
    Ok(Document { root: builder.root, ignored_from })
}

/// The scanner takes a NUL for the end of the text; YAML 1.1 has no place for it or its like anyway.
fn refuse_control_characters(text: &str) -> Result<(), Error> {
    let allowed = |c: char| match c {
        '\t' | '\n' | '\r' | '\u{85}' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        c => !c.is_control(),
    };
    let Some(at) = text.find(|c| !allowed(c)) else { return Ok(()) };
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    Err(Error {
        line: text[..at].matches('\n').count() + 1,
        column: text[line_start..at].chars().count() + 1,
        text: "control characters are not allowed".to_owned(),
    })
}

fn fail(at: Marker, text: String) -> Error {
    Error { line: at.line().max(1), column: at.col() + 1, text }
}

struct Builder<'m> {
    mended: &'m Mended,
    open: Vec<Open>,
    /// Copies of what had an anchor; nothing while the node is still open.
    anchors: BTreeMap<usize, Option<Node>>,
    tree_bytes: usize,
    root: Option<Node>,
}

/// A list or mapping whose end has not come.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<Key>,
}

struct Key {
    text: String,
    line: u32,
    column: u32,
    merge: bool,
}

impl<'m> Builder<'m> {
    fn new(mended: &'m Mended) -> Self {
        Self { mended, open: Vec::new(), anchors: BTreeMap::new(), tree_bytes: 0, root: None }
    }

    fn node(&self, span: Span, kind: Kind) -> Node {
        // The text's length is limited, so lines and columns fit.
        let (line, column) = (span.start.line(), span.start.col() + 1);
        Node { line: line as u32, column: self.mended.column(line, column) as u32, kind }
    }

    /// An error of the tree, at its place in the text as it was.
    fn fail(&self, at: Marker, text: String) -> Error {
        let error = fail(at, text);
        Error { column: self.mended.column(error.line, error.column), ..error }
    }

    fn open(&mut self, kind: Kind, anchor: usize, span: Span) -> Result<(), Error> {
        if self.open.len() >= MAX_DEPTH {
            return Err(self.fail(span.start, format!("more than {MAX_DEPTH} levels")));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
        let node = self.node(span, kind);
        self.open.push(Open { node, anchor, key: None });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        let Some(Open { node, anchor, .. }) = self.open.pop() else { return Ok(()) };
        if let Kind::Mapping(entries) = &node.kind {
            refuse_repeated_keys(entries)?;
        }
        self.finish(node, anchor, false)
    }

    fn scalar(&mut self, text: &str, plain: bool, tag: Option<&Tag>, anchor: usize, span: Span) -> Result<(), Error> {
        let tag = tag.map(|tag| format!("{}{}", tag.handle, tag.suffix));
        let scalar = Scalar::new(text, plain, tag.as_deref())
            .map_err(|tag| self.fail(span.start, format!("this is not of the type {tag}")))?;
        let merge = text == "<<" && (plain || tag.as_deref() == Some("tag:yaml.org,2002:merge"));
        let node = self.node(span, Kind::Scalar(scalar));
        self.finish(node, anchor, merge)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Error> {
        let node = match self.anchors.get(&anchor) {
            Some(Some(node)) => node,
            Some(None) => {
                return Err(self.fail(span.start, "this alias stands for a value that contains itself".to_owned()));
            }
            None => return Err(self.fail(span.start, "this alias has no anchor".to_owned())),
        };
        if self.open.len() + height(node) > MAX_DEPTH {
            return Err(self.fail(span.start, format!("more than {MAX_DEPTH} levels, aliases expanded")));
        }
        let bytes = size(node);
        self.tree_bytes = self.tree_bytes.saturating_add(bytes);
        self.check_size((span.start.line(), span.start.col() + 1))?;
        let node = self.anchors.get(&anchor).cloned().flatten().expect("looked up above");
        self.tree_bytes -= own_size(&node); // `finish` counts the node itself
        self.finish(node, 0, false)
    }

    /// Puts a finished node where it belongs.
    fn finish(&mut self, node: Node, anchor: usize, merge: bool) -> Result<(), Error> {
        let start = node.position();
        self.tree_bytes = self.tree_bytes.saturating_add(own_size(&node));
        if anchor != 0 {
            self.tree_bytes = self.tree_bytes.saturating_add(size(&node));
        }
        self.check_size(start)?;
        if anchor != 0 {
            self.anchors.insert(anchor, Some(node.clone()));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut parent.node.kind {
            Kind::Sequence(items) => items.push(node),
            Kind::Mapping(entries) => match parent.key.take() {
                None => {
                    let Some(text) = node.as_str() else {
                        let text = format!("a key must be plain text, not {}", node.describe());
                        return Err(Error { line: start.0, column: start.1, text });
                    };
                    let text = text.to_owned();
                    parent.key = Some(Key { text, line: node.line, column: node.column, merge });
                }
                Some(key) if key.merge => merge_into(entries, node)?,
                Some(Key { text, line, column, .. }) => {
                    entries.push(Entry { key: text, line, column, merged: false, value: node });
                }
            },
            Kind::Scalar(_) => unreachable!("only lists and mappings are opened"),
        }
        Ok(())
    }

    fn check_size(&self, (line, column): (usize, usize)) -> Result<(), Error> {
        if self.tree_bytes <= MAX_TREE_BYTES {
            return Ok(());
        }
        let text = format!("the file is too large: over {MAX_TREE_BYTES} bytes with its aliases expanded");
        Err(Error { line, column, text })
    }
}

/// Of several mappings the first wins, so it is applied last.
fn merge_into(entries: &mut Vec<Entry>, value: Node) -> Result<(), Error> {
    let (line, column) = value.position();
    let wrong = || Error { line, column, text: "`<<` takes a mapping or a list of mappings".to_owned() };
    let merge = |merged: Vec<Entry>, entries: &mut Vec<Entry>| {
        entries.extend(merged.into_iter().map(|entry| Entry { merged: true, ..entry }));
    };
    match value.kind {
        Kind::Mapping(merged) => merge(merged, entries),
        Kind::Sequence(items) => {
            for item in items.into_iter().rev() {
                let Kind::Mapping(merged) = item.kind else { return Err(wrong()) };
                merge(merged, entries);
            }
        }
        Kind::Scalar(_) => return Err(wrong()),
    }
    Ok(())
}

fn refuse_repeated_keys(entries: &[Entry]) -> Result<(), Error> {
    let mut own: Vec<&Entry> = entries.iter().filter(|entry| !entry.merged).collect();
    own.sort_by(|a, b| a.key.cmp(&b.key)); // stable: the file's order among equals
    match own.windows(2).find(|pair| pair[0].key == pair[1].key) {
        None => Ok(()),
        Some(pair) => Err(Error {
            line: pair[1].line as usize,
            column: pair[1].column as usize,
            text: format!("the key {:?} is already given on line {}", pair[1].key, pair[0].line),
        }),
    }
}

fn own_size(node: &Node) -> usize {
    size_of::<Node>()
        + match &node.kind {
            Kind::Scalar(scalar) => scalar.len(),
            Kind::Sequence(_) => 0,
            Kind::Mapping(entries) => entries.iter().map(|entry| size_of::<Entry>() + entry.key.len()).sum(),
        }
}

fn size(node: &Node) -> usize {
    let below: usize = match &node.kind {
        Kind::Scalar(_) => 0,
        Kind::Sequence(items) => items.iter().map(size).sum(),
        Kind::Mapping(entries) => entries.iter().map(|entry| size(&entry.value)).sum(),
    };
    own_size(node).saturating_add(below)
}

fn height(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar(_) => 0,
        Kind::Sequence(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Kind::Mapping(entries) => 1 + entries.iter().map(|entry| height(&entry.value)).max().unwrap_or(0),
    }
}
