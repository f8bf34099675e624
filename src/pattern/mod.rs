//! Regular expressions as the configuration files write them: Go's RE2 syntax, on a small engine.

use std::fmt;

/// A compiled regular expression.
#[derive(Clone)]
pub struct Pattern {
    source: String,
    regex: regex_lite::Regex,
}

impl Pattern {
    /// Compiles an unanchored search.
    ///
    /// # Errors
    /// The text says what is wrong with the pattern, or which part of Go's syntax this engine does not have.
    pub fn search(source: &str) -> Result<Self, String> {
        let regex = regex_lite::Regex::new(source).map_err(|error| error.to_string())?;
        Ok(Self { source: source.to_owned(), regex })
    }

    /// Compiles a pattern that must match the whole text, `.` matching a new line too, as in relabelling rules.
    ///
    /// # Errors
    /// As [`Self::search`].
    pub fn anchored(source: &str) -> Result<Self, String> {
        let regex = regex_lite::Regex::new(&format!("^(?s:{source})$")).map_err(|error| error.to_string())?;
        Ok(Self { source: source.to_owned(), regex })
    }

    /// Whether the pattern matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The leftmost match with its groups, for [`Captures::expand`].
    pub fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        self.regex.captures(text).map(Captures)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

/// A match and its groups.
pub struct Captures<'t>(regex_lite::Captures<'t>);

impl Captures<'_> {
    /// Appends the template with `$1`, `${1}`, `$name`, `${name}` replaced by what the groups matched, `$$` by `$`.
    pub fn expand(&self, template: &str, out: &mut String) {
        self.0.expand(template, out);
    }
}
