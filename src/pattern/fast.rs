//! Patterns that need no engine: literals with `.*` and `.+` between them, and alternatives of such.
//!
//! ```text
//! ^(?:up|node_.+_total)$   =  "up"  or  "node_" … at least 1 … "_total"
//! foo                      =  "" … "foo" … ""
//! ```

use super::syntax::{Look, Node};

/// The most alternatives, once `(a|b)(c|d)` is multiplied out.
const MAX_SHAPES: usize = 1024;
/// The most bytes of literals in all alternatives, multiplied out.
const MAX_LITERAL_BYTES: usize = 64 << 10;

/// A pattern as a list of alternatives.
#[derive(Clone, Debug)]
pub(super) struct Fast {
    /// In the order of preference; sorted by `head` when all are plain texts.
    shapes: Vec<Shape>,
    all_exact: bool,
    /// Some gap does not match a new line: on a text with one the engine must judge.
    pub(super) newline_matters: bool,
}

/// One alternative, anchored at both ends: a literal, then gaps with a literal behind each.
#[derive(Clone, Debug, Default, PartialEq)]
struct Shape {
    head: Box<str>,
    tail: Vec<Piece>,
    /// Where each group lies; nothing when that takes an engine.
    groups: Option<Vec<GroupPlace>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Piece {
    /// The fewest characters that the gap before the literal takes.
    gap: usize,
    literal: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct GroupPlace {
    index: usize,
    start: Place,
    end: Place,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    FromStart(usize),
    FromEnd(usize),
}

impl Place {
    fn of(self, text: &str) -> usize {
        match self {
            Self::FromStart(at) => at,
            Self::FromEnd(back) => text.len() - back,
        }
    }
}

/// The alternative that matched a text.
#[derive(Clone, Copy)]
pub(super) struct Matched<'p>(&'p Shape);

impl Matched<'_> {
    /// What a group took. Only of a pattern whose [`Fast::knows_groups`].
    pub(super) fn group<'t>(&self, index: usize, text: &'t str) -> Option<&'t str> {
        let place = self.0.groups.as_ref()?.iter().rev().find(|place| place.index == index)?;
        text.get(place.start.of(text)..place.end.of(text))
    }
}

impl Fast {
    /// The fast form of a pattern, if it has one.
    pub(super) fn new(root: &Node) -> Option<Self> {
        let mut expansion = Expansion { lists: vec![Vec::new()], ambiguous: false };
        expansion.append_node(root)?;
        let mut newline_matters = false;
        let mut shapes = Vec::with_capacity(expansion.lists.len());
        let mut bytes = 0;
        for list in expansion.lists {
            let mut shape = Shape::new(list, &mut newline_matters)?;
            if expansion.ambiguous {
                shape.groups = None;
            }
            bytes += shape.head.len() + shape.tail.iter().map(|piece| piece.literal.len()).sum::<usize>();
            if bytes > MAX_LITERAL_BYTES {
                return None;
            }
            shapes.push(shape);
        }
        let all_exact = shapes.iter().all(|shape| shape.tail.is_empty());
        if all_exact {
            // Of two alternatives with one text the first is preferred: the sort is stable, and dedup keeps the first.
            shapes.sort_by(|a, b| a.head.cmp(&b.head));
            shapes.dedup_by(|next, kept| next.head == kept.head);
        }
        Some(Self { shapes, all_exact, newline_matters })
    }

    /// Whether every alternative knows where its groups lie.
    pub(super) fn knows_groups(&self) -> bool {
        self.shapes.iter().all(|shape| shape.groups.is_some())
    }

    /// The preferred alternative that matches the text.
    pub(super) fn find(&self, text: &str) -> Option<Matched<'_>> {
        let shape = if self.all_exact {
            let at = self.shapes.binary_search_by(|shape| (*shape.head).cmp(text)).ok()?;
            self.shapes.get(at)
        } else {
            self.shapes.iter().find(|shape| shape.matches(text))
        };
        shape.map(Matched)
    }
}

/// A step of one alternative.
#[derive(Clone, PartialEq)]
enum Step {
    Text(String),
    Gap { min: usize, newline: bool },
    Start,
    End,
    Open,
    Close(usize),
}

/// A pattern multiplied out.
struct Expansion {
    lists: Vec<Vec<Step>>,
    /// There are alternatives behind a gap: which of them the engine prefers hangs on how much the gap takes.
    ambiguous: bool,
}

impl Expansion {
    /// Appends a node to every alternative so far, multiplying them where the node has alternatives itself.
    fn append_node(&mut self, node: &Node) -> Option<()> {
        match node {
            Node::Char(c) => {
                for list in &mut self.lists {
                    match list.last_mut() {
                        Some(Step::Text(text)) => text.push(*c),
                        _ => list.push(Step::Text((*c).into())),
                    }
                }
            }
            Node::Look(Look::TextStart) => self.append(&Step::Start),
            Node::Look(Look::TextEnd) => self.append(&Step::End),
            Node::Repeat { node, min: min @ (0 | 1), max: None, .. } => match **node {
                Node::Any { newline } => self.append(&Step::Gap { min: *min as usize, newline }),
                _ => return None,
            },
            Node::Group(index, node) => {
                self.append(&Step::Open);
                self.append_node(node)?;
                self.append(&Step::Close(*index));
            }
            Node::Concat(nodes) => {
                for node in nodes {
                    self.append_node(node)?;
                }
            }
            Node::Alternate(nodes) => self.multiply(nodes)?,
            Node::Repeat { node, min: 0, max: Some(1), greedy, .. } => {
                let (node, empty) = ((**node).clone(), Node::Concat(Vec::new()));
                self.multiply(&if *greedy { [node, empty] } else { [empty, node] })?;
            }
            Node::Class(_) | Node::Any { .. } | Node::Look(_) | Node::Repeat { .. } => return None,
        }
        Some(())
    }

    fn append(&mut self, step: &Step) {
        for list in &mut self.lists {
            list.push(step.clone());
        }
    }

    fn multiply(&mut self, nodes: &[Node]) -> Option<()> {
        let is_gap = |step: &Step| matches!(step, Step::Gap { .. });
        let (mut all, mut steps) = (Vec::new(), 0);
        for list in std::mem::take(&mut self.lists) {
            self.ambiguous |= list.iter().any(is_gap);
            for node in nodes {
                let mut branch = Self { lists: vec![list.clone()], ambiguous: false };
                branch.append_node(node)?;
                self.ambiguous |= branch.ambiguous;
                steps += branch.lists.iter().map(Vec::len).sum::<usize>();
                all.append(&mut branch.lists);
                if all.len() > MAX_SHAPES || steps > 8 * MAX_SHAPES {
                    return None;
                }
            }
        }
        self.lists = all;
        Some(())
    }
}

impl Shape {
    fn new(mut steps: Vec<Step>, newline_matters: &mut bool) -> Option<Self> {
        let is_mark = |step: &Step| matches!(step, Step::Open | Step::Close(_));
        let (anchored_start, anchored_end) = (steps.contains(&Step::Start), steps.contains(&Step::End));
        let anchored = anchored_start && anchored_end;
        if !anchored {
            // The leftmost match is not the whole text: where groups lie is the engine's business.
            steps.retain(|step| !is_mark(step));
        }
        let takes_nothing = |step: Option<&Step>| matches!(step, Some(Step::Gap { min: 0, .. }));
        while !anchored_start && takes_nothing(steps.first()) {
            steps.remove(0);
        }
        while !anchored_end && takes_nothing(steps.last()) {
            steps.pop();
        }

        let mut builder = Builder::default();
        if !anchored_start {
            builder.gap(0);
        }
        let mut ended = false;
        for step in steps {
            match step {
                // Anchors in the middle of a pattern are the engine's business.
                Step::Start if !ended && builder.tail.is_empty() && builder.head.is_empty() => {}
                Step::Start => return None,
                Step::End => ended = true,
                Step::Text(_) | Step::Gap { .. } if ended => return None,
                Step::Text(text) => builder.literal().push_str(&text),
                Step::Gap { min, newline } => {
                    *newline_matters |= !newline;
                    builder.gap(min);
                }
                Step::Open => builder.open(),
                Step::Close(index) => builder.close(index),
            }
        }
        if !anchored_end {
            builder.gap(0);
        }
        Some(builder.finish(anchored))
    }

    fn matches(&self, text: &str) -> bool {
        let Some(mut rest) = text.strip_prefix(&*self.head) else { return false };
        let Some((last, middle)) = self.tail.split_last() else { return rest.is_empty() };
        // The earliest place for each literal leaves the most for the following ones.
        for piece in middle {
            let found =
                skip(rest, piece.gap).and_then(|rest| Some(&rest[rest.find(&*piece.literal)? + piece.literal.len()..]));
            let Some(after) = found else { return false };
            rest = after;
        }
        skip(rest, last.gap).is_some_and(|rest| rest.ends_with(&*last.literal))
    }
}

fn skip(text: &str, chars: usize) -> Option<&str> {
    let mut rest = text.chars();
    for _ in 0..chars {
        rest.next()?;
    }
    Some(rest.as_str())
}

/// A place in a shape: how many gaps lie before it, and how many bytes of literal since.
type Mark = (usize, usize);

/// Builds a [`Shape`] step by step.
#[derive(Default)]
struct Builder {
    head: String,
    tail: Vec<(usize, String)>,
    /// Where the groups that are still open start.
    opened: Vec<Mark>,
    /// Group, start and end.
    groups: Vec<(usize, Mark, Mark)>,
}

impl Builder {
    fn literal(&mut self) -> &mut String {
        self.tail.last_mut().map_or(&mut self.head, |(_, literal)| literal)
    }

    fn gap(&mut self, min: usize) {
        self.tail.push((min, String::new()));
    }

    fn here(&mut self) -> Mark {
        (self.tail.len(), self.literal().len())
    }

    fn open(&mut self) {
        let here = self.here();
        self.opened.push(here);
    }

    fn close(&mut self, index: usize) {
        let here = self.here();
        if let Some(start) = self.opened.pop() {
            self.groups.push((index, start, here));
        }
    }

    fn finish(self, anchored: bool) -> Shape {
        // With one gap it is plain what the gap takes, greedy or not.
        let groups = (anchored && (self.groups.is_empty() || self.tail.len() <= 1)).then(|| {
            let last = self.tail.last().map_or(0, |(_, literal)| literal.len());
            let place = |(gaps, bytes): Mark| {
                if gaps == 0 { Place::FromStart(bytes) } else { Place::FromEnd(last - bytes) }
            };
            let place = |&(index, start, end): &_| GroupPlace { index, start: place(start), end: place(end) };
            self.groups.iter().map(place).collect()
        });
        // Gaps with nothing between them are one.
        let mut tail: Vec<Piece> = Vec::new();
        for (gap, literal) in self.tail {
            match tail.last_mut() {
                Some(last) if last.literal.is_empty() => {
                    last.gap += gap;
                    last.literal = literal.into();
                }
                _ => tail.push(Piece { gap, literal: literal.into() }),
            }
        }
        Shape { head: self.head.into(), tail, groups }
    }
}
