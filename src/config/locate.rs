//! Where in a JSON text a value stands: serde keeps no positions, and people look for lines.

/// Line and column, from 1, of the key that leads to a value (or of a list's item), by JSON pointer. The text must be the
/// valid JSON that has the value; of a key that is there twice the last counts, as it does for serde.
pub(super) fn locate(text: &str, pointer: &str) -> Option<(usize, usize)> {
    let mut cursor = Cursor { text, at: 0 };
    let mut found = cursor.blanks();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let (position, value) = cursor.child(&step)?;
        found = position;
        cursor.at = value;
    }
    let before = text.get(..found)?;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes white space and what stands between values; where the next thing begins.
    fn blanks(&mut self) -> usize {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace() || b == b',' || b == b':') {
            self.at += 1;
        }
        self.at
    }

    /// Passes a value; where it ended.
    fn skip(&mut self) -> usize {
        let mut depth = 0usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => self.skip_text(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                _ => self.at += 1,
            }
            // A number or a word goes on until something ends it.
            let inside = matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.');
            let goes_on = inside && self.peek().is_some_and(|b| !b",]}".contains(&b) && !b.is_ascii_whitespace());
            if depth == 0 && !goes_on {
                break;
            }
        }
        self.at
    }

    fn skip_text(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
    }

    /// Where a member's key (or a list's item) and its value begin, in the value that begins here.
    fn child(&mut self, step: &str) -> Option<(usize, usize)> {
        let object = self.peek()? == b'{';
        self.at += 1;
        let mut found = None;
        for index in 0usize.. {
            let start = self.blanks();
            if matches!(self.peek()?, b'}' | b']') {
                break;
            }
            let matches = if object {
                let end = self.skip();
                serde_json::from_str::<String>(self.text.get(start..end)?).is_ok_and(|key| key == step)
            } else {
                step.parse() == Ok(index)
            };
            let value = if object { self.blanks() } else { start };
            if matches {
                found = Some((start, value));
            }
            self.skip();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_items_are_found_where_they_stand() {
        let text = "{\n  \"a\": {\"x\\\"}\": [1, \"]\\\\\", {\"deep\": true}],\n    \"é~/\": -1.5e3 , \"z\":null},\n\"b\":[[],{}],\t\"a2\" :\n7}";
        for (pointer, want) in [
            ("", Some((1, 1))),
            ("/a", Some((2, 3))),
            ("/a/x\"}", Some((2, 9))),
            ("/a/x\"}/0", Some((2, 18))),
            ("/a/x\"}/1", Some((2, 21))),
            ("/a/x\"}/2/deep", Some((2, 29))),
            ("/a/é~0~1", Some((3, 5))),
            ("/a/z", Some((3, 21))),
            ("/b/1", Some((4, 9))),
            ("/a2", Some((4, 14))),
            ("/c", None),
            ("/a2/x", None),
            ("/b/2", None),
        ] {
            assert_eq!(locate(text, pointer), want, "{pointer}");
        }
        assert_eq!(locate("{\"a\":1,\n\"a\":2}", "/a"), Some((2, 1)));
        for broken in ["", "{", "{\"a", "{\"a\":", "[[", "x"] {
            assert_eq!(locate(broken, "/a/b"), None, "{broken}");
        }
    }
}
