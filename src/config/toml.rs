//! The part of TOML that `common-config.toml` is written in: sections, and keys with one value each.
//!
//! Refuses, with line and column, what that flat file has no use for: multi-line strings, lists, inline tables, lists of
//! tables. A whole TOML reader costs 80 kB of a binary that has 2 MB, for seven keys.

/// `section.key`, its value, and its line from 1.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub value: Scalar,
    pub line: usize,
}

#[derive(Debug, PartialEq)]
pub(super) enum Scalar {
    Text(String),
    /// A number, a date, `true` or `false`: nothing that the file needs.
    Other,
}

/// Line and column from 1, and what is wrong. Nothing of the line itself, which may hold a password.
pub(super) type Fault = (usize, usize, &'static str);

/// Reads the whole text.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Fault> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut section = String::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let mut scanner = Scanner { rest: line };
        let fault = |scanner: &Scanner<'_>, text| {
            let column = line[..line.len() - scanner.rest.len()].chars().count() + 1;
            Err((index + 1, column, text))
        };
        scanner.skip_blanks();
        if scanner.at_end() {
            continue;
        }
        if scanner.take('[') {
            match scanner.key() {
                Some(key) => section = key,
                None => return fault(&scanner, "expected a section's name"),
            }
            if !scanner.take(']') {
                return fault(&scanner, "expected ']'");
            }
        } else {
            let Some(key) = scanner.key() else { return fault(&scanner, "expected a key") };
            let key = if section.is_empty() { key } else { format!("{section}.{key}") };
            if !scanner.take('=') {
                return fault(&scanner, "expected '='");
            }
            scanner.skip_blanks();
            if entries.iter().any(|entry| entry.key == key) {
                return fault(&scanner, "the key is there already");
            }
            match scanner.value() {
                Ok(value) => entries.push(Entry { key, value, line: index + 1 }),
                Err(text) => return fault(&scanner, text),
            }
        }
        scanner.skip_blanks();
        if !scanner.at_end() {
            return fault(&scanner, "expected the end of the line");
        }
    }
    Ok(entries)
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn at_end(&self) -> bool {
        self.rest.is_empty() || self.rest.starts_with('#')
    }

    fn take(&mut self, sign: char) -> bool {
        match self.rest.strip_prefix(sign) {
            Some(rest) => self.rest = rest,
            None => return false,
        }
        true
    }

    fn while_(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let (word, rest) = self.rest.split_at(self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    /// One or more names with dots between them, blanks around them.
    fn key(&mut self) -> Option<String> {
        let mut key = String::new();
        loop {
            self.skip_blanks();
            let name = match self.rest.chars().next()? {
                '"' | '\'' => self.text().ok()?,
                _ => self.while_(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_').to_owned(),
            };
            if name.is_empty() {
                return None;
            }
            key.push_str(&name);
            self.skip_blanks();
            if !self.take('.') {
                return Some(key);
            }
            key.push('.');
        }
    }

    fn value(&mut self) -> Result<Scalar, &'static str> {
        match self.rest.chars().next() {
            Some('"' | '\'') => Ok(Scalar::Text(self.text()?)),
            Some('[' | '{') => {
                Err("lists and inline tables are not read here: write one key per line below its section")
            }
            Some(c) if c.is_ascii_digit() || "+-tfin".contains(c) => {
                let word = self.while_(|c| c.is_ascii_alphanumeric() || "+-._:".contains(c));
                let known = ["true", "false", "inf", "nan"].contains(&word.trim_start_matches(['+', '-']))
                    || word.contains(|c: char| c.is_ascii_digit());
                if known { Ok(Scalar::Other) } else { Err("expected a value; texts stand in quotes") }
            }
            _ => Err("expected a value; texts stand in quotes"),
        }
    }

    /// A text in double quotes with escapes, or in single quotes without.
    fn text(&mut self) -> Result<String, &'static str> {
        const UNCLOSED: &str = "the text is not closed";
        if self.rest.starts_with("\"\"\"") || self.rest.starts_with("'''") {
            return Err("multi-line texts are not read here");
        }
        if self.take('\'') {
            let text = self.while_(|c| c != '\'').to_owned();
            return if self.take('\'') { Ok(text) } else { Err(UNCLOSED) };
        }
        self.take('"');
        let mut text = String::new();
        loop {
            text.push_str(self.while_(|c| c != '"' && c != '\\'));
            if self.take('"') {
                return Ok(text);
            }
            if !self.take('\\') {
                return Err(UNCLOSED);
            }
            let escape = self.rest.chars().next().ok_or(UNCLOSED)?;
            self.take(escape);
            text.push(match escape {
                'b' => '\u{8}',
                't' => '\t',
                'n' => '\n',
                'f' => '\u{c}',
                'r' => '\r',
                '"' | '\\' => escape,
                'u' => self.unicode(4)?,
                'U' => self.unicode(8)?,
                _ => return Err("unknown escape"),
            });
        }
    }

    fn unicode(&mut self, digits: usize) -> Result<char, &'static str> {
        let hex = self.rest.get(..digits).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        self.rest = self.rest.get(digits..).unwrap_or("");
        code.ok_or("unknown escape")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_flat_file_has_is_read_as_toml_reads_it() {
        let text = "\u{feff}# comment\n top = 'x' # comment\r\n[ proxy ] # comment\nhttp_proxy=\"a\\\"\\\\\\u00e9#\\t\"\n\
                    \"quoted\" = ''\n\n[a.b]\nc.'d' = 'C:\\x'\nn = -1_000.5\nt = true\nd = 2026-11-22T10:00:00Z\n";
        let entries = parse(text).unwrap();
        let got: Vec<_> = entries
            .iter()
            .map(|entry| match &entry.value {
                Scalar::Text(text) => (entry.key.as_str(), text.as_str(), entry.line),
                Scalar::Other => (entry.key.as_str(), "-", entry.line),
            })
            .collect();
        let wanted = [
            ("top", "x", 2),
            ("proxy.http_proxy", "a\"\\é#\t", 4),
            ("proxy.quoted", "", 5),
            ("a.b.c.d", "C:\\x", 8),
            ("a.b.n", "-", 9),
            ("a.b.t", "-", 10),
            ("a.b.d", "-", 11),
        ];
        assert_eq!(got, wanted);
    }

    #[test]
    fn everything_else_is_refused_with_line_and_column() {
        for (text, line, column, wanted) in [
            ("[x", 1, 3, "expected ']'"),
            ("[]", 1, 2, "section's name"),
            ("[[x]]", 1, 2, "section's name"),
            ("[x] y", 1, 5, "end of the line"),
            ("\n\nx", 3, 2, "expected '='"),
            ("= 1", 1, 1, "expected a key"),
            ("x =", 1, 4, "texts stand in quotes"),
            ("x = http://y", 1, 5, "texts stand in quotes"),
            ("x = truth", 1, 10, "texts stand in quotes"),
            ("x = 'y", 1, 7, "not closed"),
            ("x = \"y\\", 1, 8, "not closed"),
            ("x = \"\\q\"", 1, 8, "unknown escape"),
            ("x = \"\\uD800\"", 1, 12, "unknown escape"),
            ("x = \"\\u12\"", 1, 11, "unknown escape"),
            ("x = \"\"\"y", 1, 5, "multi-line"),
            ("x = [1]", 1, 5, "inline tables"),
            ("x = {}", 1, 5, "inline tables"),
            ("x = 'é' y", 1, 9, "end of the line"),
            ("[a]\nx = 1\nx = 2", 3, 5, "there already"),
            ("a. = 1", 1, 4, "expected a key"),
        ] {
            let (at_line, at_column, error) = parse(text).unwrap_err();
            assert!(
                error.contains(wanted) && (at_line, at_column) == (line, column),
                "{text:?}: {at_line}:{at_column}: {error}"
            );
        }
    }
}
