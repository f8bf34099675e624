//! Reads Go's RE2 syntax (`regexp/syntax`, flags `Perl`) into a tree. Nothing is left to the engine's own reading of it.

use super::class::Class;

/// Groups inside groups; Go allows 1000, an engine that recurses on a small stack should not.
const MAX_NESTING: usize = 100;
/// The longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 64 << 10;
/// Go's limit on `{n,m}`, nested ones multiplied.
const MAX_REPEAT: u32 = 1000;

/// A pattern, read.
pub(super) struct Syntax {
    pub(super) root: Node,
    /// The groups' names; group 0 is the whole match.
    pub(super) groups: Vec<Option<Box<str>>>,
}

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Char(char),
    Class(Class),
    /// `.`, which matches a new line or not.
    Any {
        newline: bool,
    },
    Look(Look),
    Repeat {
        node: Box<Node>,
        min: u32,
        max: Option<u32>,
        greedy: bool,
        /// Written with braces.
        counted: bool,
    },
    Group(usize, Box<Node>),
    Concat(Vec<Node>),
    Alternate(Vec<Node>),
}

/// A condition on a place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    TextStart,
    TextEnd,
    LineStart,
    LineEnd,
    WordBoundary,
    NoWordBoundary,
}

#[derive(Clone, Copy, Default)]
struct Flags {
    fold: bool,
    multi_line: bool,
    dot_newline: bool,
    ungreedy: bool,
}

/// An open group, or the whole pattern.
#[derive(Default)]
struct Frame {
    /// The flags to go back to when it closes.
    flags: Flags,
    group: Option<usize>,
    alternatives: Vec<Node>,
    items: Vec<Node>,
}

impl Frame {
    fn close(mut self) -> Node {
        let last = concat(self.items);
        let node = if self.alternatives.is_empty() {
            last
        } else {
            self.alternatives.push(last);
            Node::Alternate(self.alternatives)
        };
        match self.group {
            Some(index) => Node::Group(index, Box::new(node)),
            None => node,
        }
    }
}

fn concat(mut items: Vec<Node>) -> Node {
    match items.pop() {
        Some(only) if items.is_empty() => only,
        last => {
            items.extend(last);
            Node::Concat(items)
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    flags: Flags,
    frames: Vec<Frame>,
    top: Frame,
    groups: Vec<Option<Box<str>>>,
    /// The last thing read was a repetition.
    repeated: bool,
}

/// Reads a pattern.
///
/// # Errors
/// The text says what Go would say, or which part of its syntax is not served here.
pub(super) fn parse(source: &str) -> Result<Syntax, String> {
    if source.len() > MAX_PATTERN_BYTES {
        return Err(format!("the pattern is longer than {MAX_PATTERN_BYTES} bytes"));
    }
    let mut parser = Parser {
        rest: source,
        flags: Flags::default(),
        frames: Vec::new(),
        top: Frame::default(),
        groups: vec![None],
        repeated: false,
    };
    while let Some(c) = parser.next() {
        parser.item(c)?;
    }
    if !parser.frames.is_empty() {
        return Err("missing closing )".to_owned());
    }
    Ok(Syntax { root: parser.top.close(), groups: parser.groups })
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn eat(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn item(&mut self, c: char) -> Result<(), String> {
        let repeated = std::mem::take(&mut self.repeated);
        match c {
            '(' if self.eat("?") => return self.flags_or_group(),
            '(' => return self.open(Some(None)),
            ')' => return self.close(),
            '|' => {
                let items = std::mem::take(&mut self.top.items);
                self.top.alternatives.push(concat(items));
            }
            '^' => self.look(if self.flags.multi_line { Look::LineStart } else { Look::TextStart }),
            '$' => self.look(if self.flags.multi_line { Look::LineEnd } else { Look::TextEnd }),
            '.' => self.top.items.push(Node::Any { newline: self.flags.dot_newline }),
            '[' => {
                let class = self.class()?;
                self.top.items.push(Node::Class(class));
            }
            '*' => return self.repeat(0, None, false, repeated),
            '+' => return self.repeat(1, None, false, repeated),
            '?' => return self.repeat(0, Some(1), false, repeated),
            '{' => {
                // Braces that do not count are ordinary characters.
                if let Some((min, max)) = self.braces() {
                    return match (min, max) {
                        (Some(min), max)
                            if min <= MAX_REPEAT && max.is_none_or(|max| min <= max && max <= MAX_REPEAT) =>
                        {
                            self.repeat(min, max, true, repeated)
                        }
                        _ => {
                            Err(format!("invalid repeat count: the largest is {MAX_REPEAT}, and {{n,m}} needs n <= m"))
                        }
                    };
                }
                self.top.items.push(Node::Char('{'));
            }
            '\\' => return self.escape(),
            c => return self.literal(c.into()),
        }
        Ok(())
    }

    fn look(&mut self, look: Look) {
        self.top.items.push(Node::Look(look));
    }

    fn literal(&mut self, code: u32) -> Result<(), String> {
        let node = match char::from_u32(code) {
            Some(c) if !self.flags.fold => Node::Char(c),
            _ => {
                let mut class = Class::default();
                class.add_folded(code, code, self.flags.fold)?;
                Node::Class(class)
            }
        };
        self.top.items.push(node);
        Ok(())
    }

    /// Opens a group: not capturing, capturing, or with a name.
    fn open(&mut self, capture: Option<Option<Box<str>>>) -> Result<(), String> {
        if self.frames.len() >= MAX_NESTING {
            return Err(format!("more than {MAX_NESTING} groups inside each other"));
        }
        let group = capture.map(|name| {
            self.groups.push(name);
            self.groups.len() - 1
        });
        let frame = Frame { flags: self.flags, group, ..Frame::default() };
        self.frames.push(std::mem::replace(&mut self.top, frame));
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let outer = self.frames.pop().ok_or("unexpected )")?;
        let inner = std::mem::replace(&mut self.top, outer);
        self.flags = inner.flags;
        self.top.items.push(inner.close());
        Ok(())
    }

    /// After `(?`: a name, or flags that end with `)` or open a group with `:`.
    fn flags_or_group(&mut self) -> Result<(), String> {
        if self.eat("P<") || self.eat("<") {
            let (name, rest) = self.rest.split_once('>').unwrap_or_default();
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err("invalid named capture: write (?P<name>...), name of letters, digits and _".to_owned());
            }
            self.rest = rest;
            return self.open(Some(Some(name.into())));
        }
        let (mut flags, mut on, mut seen) = (self.flags, true, false);
        while let Some(c) = self.next() {
            match c {
                'i' => flags.fold = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_newline = on,
                'U' => flags.ungreedy = on,
                '-' if on => (on, seen) = (false, false),
                ':' | ')' if on || seen => {
                    if c == ':' {
                        self.open(None)?;
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            seen |= c != '-';
        }
        Err("invalid or unsupported Perl syntax after `(?`: Go knows the flags i, m, s, U and no look-around"
            .to_owned())
    }

    /// After `{`: the counts, if they are some. A number that is too large is none.
    fn braces(&mut self) -> Option<(Option<u32>, Option<u32>)> {
        let (inside, rest) = self.rest.split_once('}')?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().unwrap_or(u32::MAX))
        };
        let (min, max) = match inside.split_once(',') {
            None => (number(inside)?, Some(number(inside)?)),
            Some((min, "")) => (number(min)?, None),
            Some((min, max)) => (number(min)?, Some(number(max)?)),
        };
        self.rest = rest;
        Some((Some(min), max))
    }

    fn repeat(&mut self, min: u32, max: Option<u32>, counted: bool, repeated: bool) -> Result<(), String> {
        let lazy = self.eat("?");
        if repeated {
            return Err("invalid nested repetition operator: put the inner one into (?:...)".to_owned());
        }
        let node = self.top.items.pop().ok_or("missing argument to repetition operator")?;
        if chain(&node) > MAX_NESTING {
            return Err(format!("more than {MAX_NESTING} repetitions of each other"));
        }
        let node = Node::Repeat { node: Box::new(node), min, max, greedy: lazy == self.flags.ungreedy, counted };
        if counted && (min >= 2 || max.is_some_and(|max| max >= 2)) && !repeats_fit(&node, MAX_REPEAT) {
            return Err(format!("invalid repeat count: nested repetitions come to more than {MAX_REPEAT}"));
        }
        self.top.items.push(node);
        self.repeated = true;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let at = self.rest;
        match self.next().ok_or("trailing backslash at end of expression")? {
            'A' => self.look(Look::TextStart),
            'z' => self.look(Look::TextEnd),
            'b' => self.look(Look::WordBoundary),
            'B' => self.look(Look::NoWordBoundary),
            'Q' => {
                let (quoted, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                self.rest = rest;
                for c in quoted.chars() {
                    self.literal(c.into())?;
                }
            }
            c => {
                if let Some(class) = Class::perl(c, self.flags.fold) {
                    self.top.items.push(Node::Class(class));
                } else {
                    self.rest = at;
                    let code = self.escaped_char()?;
                    self.literal(code)?;
                }
            }
        }
        Ok(())
    }

    /// After `\`: one character.
    fn escaped_char(&mut self) -> Result<u32, String> {
        let c = self.next().ok_or("trailing backslash at end of expression")?;
        let octal = |text: &str| text.bytes().take(2).take_while(|b| (b'0'..=b'7').contains(b)).count();
        Ok(match c {
            'a' => 0x07,
            'f' => 0x0C,
            'n' => 0x0A,
            'r' => 0x0D,
            't' => 0x09,
            'v' => 0x0B,
            '0'..='7' if c == '0' || octal(self.rest) > 0 => {
                let (digits, rest) = self.rest.split_at(octal(self.rest));
                self.rest = rest;
                digits.bytes().fold(c as u32 - 0x30, |code, digit| code * 8 + u32::from(digit - b'0'))
            }
            '1'..='9' => return Err(format!("invalid escape sequence `\\{c}`: RE2 has no back-references")),
            'x' => {
                return self
                    .hex()
                    .ok_or_else(|| "invalid escape sequence `\\x`: write \\x7F or \\x{10FFFF}".to_owned());
            }
            'p' | 'P' => {
                return Err(format!(
                    "Unicode classes such as \\{c}{{L}} are not served here (their tables are too large): write a class such as [A-Za-z]"
                ));
            }
            'C' => return Err("invalid escape sequence `\\C`: single bytes cannot be matched".to_owned()),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c as u32,
            c => return Err(format!("invalid escape sequence `\\{c}`")),
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = if self.eat("{") {
            let (digits, rest) = self.rest.split_once('}')?;
            self.rest = rest;
            digits
        } else {
            let (digits, rest) = self.rest.split_at_checked(2)?;
            self.rest = rest;
            digits
        };
        let digits = (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit())).then_some(digits)?;
        let digits = digits.trim_start_matches('0');
        let code = if digits.is_empty() { 0 } else { u32::from_str_radix(digits, 16).ok()? };
        (code <= char::MAX as u32).then_some(code)
    }

    /// After `[`.
    fn class(&mut self) -> Result<Class, String> {
        let fold = self.flags.fold;
        let negate = self.eat("^");
        let (mut class, mut first) = (Class::default(), true);
        while first || !self.rest.starts_with(']') {
            first = false;
            if let Some((name, rest)) = self.rest.strip_prefix("[:").and_then(|rest| rest.split_once(":]")) {
                let posix = Class::posix(name, fold).ok_or_else(|| format!("invalid character class `[:{name}:]`"))?;
                class.add_class(&posix);
                self.rest = rest;
                continue;
            }
            let perl = self.rest.strip_prefix('\\').and_then(|rest| rest.chars().next());
            if let Some(perl) = perl.and_then(|letter| Class::perl(letter, fold)) {
                class.add_class(&perl);
                self.rest = &self.rest[2..];
                continue;
            }
            let low = self.class_char()?;
            let mut high = low;
            if self.rest.len() >= 2 && self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.eat("-");
                high = self.class_char()?;
                if high < low {
                    return Err("invalid character class range: its end comes before its start".to_owned());
                }
            }
            class.add_folded(low, high, fold)?;
        }
        self.eat("]");
        Ok(if negate { class.negated() } else { class })
    }

    fn class_char(&mut self) -> Result<u32, String> {
        match self.next().ok_or("missing closing ]")? {
            '\\' => self.escaped_char(),
            c => Ok(c.into()),
        }
    }
}

/// How many repetitions repeat each other directly, as `a*(?i)*` can without any group.
fn chain(node: &Node) -> usize {
    let (mut node, mut length) = (node, 0);
    while let Node::Repeat { node: inner, .. } = node {
        (node, length) = (inner, length + 1);
    }
    length
}

/// Go's limit: the product of nested counts.
fn repeats_fit(node: &Node, limit: u32) -> bool {
    match node {
        Node::Repeat { node, min, max, counted: true, .. } => match max.unwrap_or(*min) {
            _ if *max == Some(0) => true,
            count if count > limit => false,
            0 => repeats_fit(node, limit),
            count => repeats_fit(node, limit / count),
        },
        Node::Repeat { node, .. } | Node::Group(_, node) => repeats_fit(node, limit),
        Node::Concat(nodes) | Node::Alternate(nodes) => nodes.iter().all(|node| repeats_fit(node, limit)),
        Node::Char(_) | Node::Class(_) | Node::Any { .. } | Node::Look(_) => true,
    }
}
