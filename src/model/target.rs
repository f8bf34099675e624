//! What is scraped.

use super::Labels;
use super::settings::ScrapeJob;
use std::path::PathBuf;
use std::rc::Rc;

/// One thing to scrape, relabelled and ready.
#[derive(Clone, Debug)]
pub struct Target {
    /// The job it belongs to.
    pub job: Rc<ScrapeJob>,
    /// The labels that its samples get: `job`, `instance` and the rest, none that starts with `__`.
    pub labels: Labels,
    /// Where its page comes from.
    pub endpoint: Endpoint,
    /// The interval, after `__scrape_interval__`.
    pub interval_ms: u64,
    /// The time-out, after `__scrape_timeout__`.
    pub timeout_ms: u64,
    /// Why it must not be scraped: its job has more targets than `target_limit`. Every scrape of it fails with this text, and
    /// `up` is 0.
    pub refused: Option<Rc<str>>,
}

impl Target {
    /// What tells this target from every other, and is the same after a restart and in every version: saved counters are
    /// found again by it.
    ///
    /// Encoding, version 1: the endpoint, then for each label, in the order of their names, a space, the name, `=`, the value.
    /// An endpoint is one of
    ///
    /// ```text
    /// Http { url: TEXT, unix_socket: None }    Http { url: TEXT, unix_socket: Some(TEXT) }    Host    Textfile(TEXT)
    /// ```
    ///
    /// A value is a TEXT: in quotes, with `\"`, `\\`, `\t`, `\n`, `\r`, `\0` for these characters, `\u{1f}` (hexadecimal, no
    /// leading zeros) for other control characters of ASCII, and all else as it is. A name that is empty, or holds a space, `=`, or anything that a TEXT
    /// escapes, is a TEXT too. So two targets never come to the same bytes. Another version of the encoding would start with
    /// a digit.
    pub fn identity(&self) -> String {
        let mut out = String::new();
        match &self.endpoint {
            Endpoint::Http { url, unix_socket } => {
                out.push_str("Http { url: ");
                push_text(&mut out, url);
                out.push_str(", unix_socket: ");
                match unix_socket {
                    None => out.push_str("None"),
                    Some(path) => {
                        out.push_str("Some(");
                        push_text(&mut out, &path.to_string_lossy());
                        out.push(')');
                    }
                }
                out.push_str(" }");
            }
            Endpoint::Host => out.push_str("Host"),
            Endpoint::Textfile(path) => {
                out.push_str("Textfile(");
                // Paths come from configurations and lists, which are UTF-8.
                push_text(&mut out, &path.to_string_lossy());
                out.push(')');
            }
        }
        for (name, value) in &self.labels {
            out.push(' ');
            let start = out.len();
            push_text(&mut out, name);
            // Two quotes more and nothing escaped: it cannot be taken for anything but a name.
            if !name.is_empty() && out.len() - start == name.len() + 2 && !name.contains([' ', '=']) {
                out.truncate(start);
                out.push_str(name);
            }
            out.push('=');
            push_text(&mut out, value);
        }
        out
    }

    /// The label `instance`, for messages.
    pub fn instance(&self) -> &str {
        self.labels.get("instance").unwrap_or("")
    }
}

/// Where a target's page comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An exporter.
    Http {
        /// The whole URL, parameters included.
        url: String,
        /// Its socket, for a unix-socket target.
        unix_socket: Option<PathBuf>,
    },
    /// This machine's own figures.
    Host,
    /// A folder of `*.prom` files.
    Textfile(PathBuf),
}

/// A text as [`Target::identity`] writes it.
fn push_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            '\u{7f}' | '\0'..' ' => {
                out.push_str("\\u{");
                if c >= '\u{10}' {
                    out.push(if c == '\u{7f}' { '7' } else { '1' });
                }
                out.push(char::from(b"0123456789abcdef"[c as usize & 15]));
                out.push('}');
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_written_as_saved_counters_know_it() {
        // What the first version took from the compiler; these characters have been the same in all of its versions.
        let plain: String = (0..0x80).filter_map(char::from_u32).chain("äß€温🦀".chars()).collect();
        let mut out = String::new();
        push_text(&mut out, &plain);
        assert_eq!(out, format!("{plain:?}"));
    }
}
