//! What YAML 1.1 allows and 1.2 does not, where configurations in the field have it: a bracket's or quote's further lines that
//! are indented too little, and tabs after a colon.
//!
//! ```yaml
//! - targets: [
//!   'localhost:9100'
//!   ]
//! ```
//!
//! The scanner refuses such a line; blanks at its start mean nothing within brackets and quotes, so they are added and the text
//! is scanned again. Positions are given as they were before.

use super::Error;
use std::collections::BTreeMap;

/// More lines than this are not mended: each costs another scan.
const MAX_LINES: usize = 200;
/// The most blanks that a line is given.
const MAX_BLANKS: usize = 200;

/// What has been done to a text.
#[derive(Default)]
pub(super) struct Mended {
    /// Blanks that were put before a line, by its number from 1.
    blanks: BTreeMap<usize, usize>,
    tabs: usize,
}

impl Mended {
    /// The column in the text as it was.
    pub(super) fn column(&self, line: usize, column: usize) -> usize {
        column.saturating_sub(self.blanks.get(&line).copied().unwrap_or(0)).max(1)
    }

    /// The text without the cause of this error of the scanner, if it is one that can be mended.
    pub(super) fn mend(&mut self, text: &str, error: &Error) -> Option<String> {
        match error.text.as_str() {
            "invalid indentation" | "invalid indentation in flow construct" => self.indent(text, error.line),
            "invalid indentation in quoted scalar" => {
                // The error names the first line; the one that is wrong is somewhere below.
                let next = (error.line + 1..).find(|line| !self.blanks.contains_key(line))?;
                self.indent(text, next)
            }
            "':' must be followed by a valid YAML whitespace" => self.replace_tabs(text, error),
            _ => None,
        }
    }

    fn indent(&mut self, text: &str, line: usize) -> Option<String> {
        let margin = |line: &str| line.bytes().take_while(|byte| b" -?".contains(byte)).count();
        let blanks = text.lines().take(line).map(margin).max()? + 1;
        if self.blanks.len() >= MAX_LINES || blanks > MAX_BLANKS || self.blanks.insert(line, blanks).is_some() {
            return None;
        }
        let at = start_of(text, line)?;
        Some([&text[..at], &" ".repeat(blanks), &text[at..]].concat())
    }

    fn replace_tabs(&mut self, text: &str, error: &Error) -> Option<String> {
        self.tabs += 1;
        let start = start_of(text, error.line).filter(|_| self.tabs <= MAX_LINES)?;
        let end = text[start..].char_indices().nth(error.column - 1).map(|(at, _)| start + at)?;
        let blanks = text[start..end].trim_end_matches(['\t', ' ']).len();
        let (before, tabs) = (&text[..start + blanks], &text[start + blanks..end]);
        tabs.contains('\t').then(|| [before, &" ".repeat(tabs.len()), &text[end..]].concat())
    }
}

fn start_of(text: &str, line: usize) -> Option<usize> {
    match line {
        1 => Some(0),
        _ => text.match_indices('\n').nth(line - 2).map(|(at, _)| at + 1),
    }
}
