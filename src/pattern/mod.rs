//! Regular expressions as the configuration files write them: Go's RE2 syntax, on a small engine.
//!
//! The syntax is read here ([`syntax`]) and written anew for the engine ([`emit`]), so a pattern means what it means to
//! Prometheus and the CloudWatch agent or is refused with the reason. Patterns made of literals, `.*`, `.+`, `x?` and
//! alternatives of these never reach the engine ([`fast`]).
//!
//! Refused though Go has them: Unicode classes (`\pL`, `\p{Greek}`: their tables are too large for this binary), `(?i)` on
//! cased letters beyond ASCII, more than 100 groups inside each other, patterns over 64 KiB, and such as compile to more than
//! 10 MiB.

mod class;
mod emit;
mod fast;
mod syntax;
mod template;
#[cfg(test)]
mod tests;

use fast::{Fast, Matched};
use regex_lite::{Regex, RegexBuilder};
use std::cell::OnceCell;
use std::fmt;
use template::Part;

/// A compiled regular expression.
#[derive(Clone)]
pub struct Pattern {
    source: Box<str>,
    anchored: bool,
    /// The groups' names; group 0 is the whole match.
    groups: Box<[Option<Box<str>>]>,
    fast: Option<Fast>,
    /// Built at once where there is no fast form, else when first needed.
    engine: OnceCell<Regex>,
}

impl Pattern {
    /// Compiles an unanchored search.
    ///
    /// # Errors
    /// The text says what is wrong with the pattern, or which part of Go's syntax is not served here.
    pub fn search(source: &str) -> Result<Self, String> {
        Self::compile(source, false)
    }

    /// Compiles a pattern that must match the whole text, `.` matching a new line too, as in relabelling rules.
    ///
    /// # Errors
    /// As [`Self::search`].
    pub fn anchored(source: &str) -> Result<Self, String> {
        Self::compile(source, true)
    }

    fn compile(source: &str, anchored: bool) -> Result<Self, String> {
        let (engine, syntax) = build(source, anchored)?;
        let fast = Fast::new(&syntax.root);
        let keep = fast.as_ref().is_none_or(|fast| fast.newline_matters);
        Ok(Self {
            source: source.into(),
            anchored,
            groups: syntax.groups.into_boxed_slice(),
            fast,
            engine: if keep { OnceCell::from(engine) } else { OnceCell::new() },
        })
    }

    /// Whether the pattern matches.
    pub fn is_match(&self, text: &str) -> bool {
        match self.fast_for(text) {
            Some(fast) => fast.find(text).is_some(),
            None => self.engine().is_match(text),
        }
    }

    /// The leftmost match with its groups, for [`Captures::expand`]. A text that does not match costs no more than
    /// [`Self::is_match`].
    pub fn captures<'t>(&'t self, text: &'t str) -> Option<Captures<'t>> {
        let found = match self.fast_for(text) {
            Some(fast) => {
                let matched = fast.find(text)?;
                if fast.knows_groups() {
                    Found::Fast(matched, text)
                } else {
                    Found::Engine(self.engine().captures(text)?)
                }
            }
            // Asked for groups the engine allocates before it knows whether there is a match.
            None if !self.engine().is_match(text) => return None,
            None => Found::Engine(self.engine().captures(text)?),
        };
        Some(Captures { groups: &self.groups, found })
    }

    /// Appends the text with every match replaced by the expanded template, and says whether there was one; without one nothing is
    /// appended. (An anchored pattern matches the whole text or not at all, but for oddities such as `a)|(?s:b`.)
    pub fn replace_all(&self, text: &str, template: &str, out: &mut String) -> bool {
        if let Some(fast) = self.fast_for(text) {
            match fast.find(text) {
                None => return false,
                Some(matched) if fast.knows_groups() => {
                    Captures { groups: &self.groups, found: Found::Fast(matched, text) }.expand(template, out);
                    return true;
                }
                Some(_) => {}
            }
        }
        let mut done = None;
        for captures in self.engine().captures_iter(text) {
            let whole = captures.get(0).map_or(0..0, |whole| whole.range());
            out.push_str(&text[done.unwrap_or(0)..whole.start]);
            Captures { groups: &self.groups, found: Found::Engine(captures) }.expand(template, out);
            done = Some(whole.end);
        }
        out.push_str(done.map_or("", |end| &text[end..]));
        done.is_some()
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The same pattern with nothing but the engine: the judge of the fast form in tests and fuzzing.
    #[doc(hidden)]
    #[must_use]
    pub fn without_fast_form(&self) -> Self {
        Self { fast: None, engine: OnceCell::new(), ..self.clone() }
    }

    /// The fast form, unless it cannot judge this text.
    fn fast_for(&self, text: &str) -> Option<&Fast> {
        self.fast.as_ref().filter(|fast| !(fast.newline_matters && text.contains('\n')))
    }

    fn engine(&self) -> &Regex {
        self.engine.get_or_init(|| build(&self.source, self.anchored).expect("it was built once before").0)
    }
}

fn build(source: &str, anchored: bool) -> Result<(Regex, syntax::Syntax), String> {
    // Put together as text, as Prometheus does: `a)|(?s:b` is a good pattern.
    let whole = if anchored { format!("^(?s:{source})$") } else { source.to_owned() };
    let syntax = syntax::parse(&whole)?;
    let engine = RegexBuilder::new(&emit::emit(&syntax.root))
        .nest_limit(1000)
        .build()
        .map_err(|error| format!("the pattern is too large: {error}"))?;
    Ok((engine, syntax))
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

/// A match and its groups.
pub struct Captures<'t> {
    groups: &'t [Option<Box<str>>],
    found: Found<'t>,
}

enum Found<'t> {
    Fast(Matched<'t>, &'t str),
    Engine(regex_lite::Captures<'t>),
}

impl<'t> Captures<'t> {
    /// What a group matched; group 0 is the whole match. Nothing when there is no such group or it took no part.
    pub fn group(&self, index: usize) -> Option<&'t str> {
        match &self.found {
            Found::Fast(_, text) if index == 0 => Some(text),
            Found::Fast(matched, text) => matched.group(index, text),
            Found::Engine(captures) => captures.get(index).map(|group| group.as_str()),
        }
    }

    /// Appends the template with `$1`, `${1}`, `$name` and `${name}` replaced by what the groups matched and `$$` by `$`, by the
    /// rules of Go's `Regexp.Expand`: `$1x` is the group called `1x`; a group that does not exist is empty.
    pub fn expand(&self, template: &str, out: &mut String) {
        let mut rest = template;
        while let Some(part) = template::next_part(&mut rest) {
            out.push_str(match part {
                Part::Text(text) => text,
                Part::Number(index) => self.group(index).unwrap_or(""),
                Part::Name(name) => self.named(name).unwrap_or(""),
            });
        }
        out.push_str(rest);
    }

    /// Several groups may have one name: the first that took part counts.
    fn named(&self, name: &str) -> Option<&'t str> {
        let has_name = |index: &usize| self.groups[*index].as_deref() == Some(name);
        (0..self.groups.len()).filter(has_name).find_map(|index| self.group(index))
    }
}
