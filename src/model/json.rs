//! JSON strings: which bytes are escaped, and how. The one place for it.
//!
//! Two writers need it: a message's own strings, which look as Go's `encoding/json` writes them (the agent's events are
//! its output), and a request body, in which the whole message is a string once more.

/// Must be escaped in every JSON string (RFC 8259, section 7).
const ALWAYS: u8 = 1;
/// Go escapes it too, for HTML's sake; 0xE2 begins U+2028 and U+2029, which it also escapes, and others that stay.
const IN_GO: u8 = 2;

static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        classes[byte] = ALWAYS;
        byte += 1;
    }
    classes[b'"' as usize] = ALWAYS;
    classes[b'\\' as usize] = ALWAYS;
    classes[b'<' as usize] = IN_GO;
    classes[b'>' as usize] = IN_GO;
    classes[b'&' as usize] = IN_GO;
    classes[0xE2] = IN_GO;
    classes
};

fn first_of(bytes: &[u8], classes: u8) -> Option<usize> {
    bytes.iter().position(|byte| CLASSES[usize::from(*byte)] & classes != 0)
}

/// Whether a text stands in JSON as it is, however often it is put into a string.
pub fn is_plain(text: &str) -> bool {
    first_of(text.as_bytes(), ALWAYS | IN_GO).is_none()
}

/// Appends what stands between the quotes of a string, as Go's `encoding/json` writes it.
pub fn push_text(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    while let Some(at) = first_of(rest.as_bytes(), ALWAYS | IN_GO) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut chars = tail.chars();
        match chars.next() {
            Some(c) if c > '\u{7f}' && !matches!(c, '\u{2028}' | '\u{2029}') => {
                out.extend_from_slice(&tail.as_bytes()[..c.len_utf8()]);
            }
            Some('\u{8}') => out.extend_from_slice(b"\\b"),
            Some('\u{c}') => out.extend_from_slice(b"\\f"),
            Some(c) => push_escape(out, c),
            None => {}
        }
        rest = chars.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Appends a string in quotes, as Go's `encoding/json` writes it.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_text(out, text);
    out.push(b'"');
}

/// Appends text as it stands inside a string of a request body: what must be escaped is, and nothing else.
pub fn push_inside(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = first_of(rest, ALWAYS) {
        out.extend_from_slice(&rest[..at]);
        push_escape(out, char::from(rest[at]));
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn push_escape(out: &mut Vec<u8>, c: char) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match c {
        '"' | '\\' => c as u8,
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        other => {
            out.extend_from_slice(b"\\u");
            out.extend([12, 8, 4, 0].map(|shift| HEX[(other as usize >> shift) & 15]));
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_does() {
        let mut out = Vec::new();
        push_string(&mut out, "a\"b\\c\nd\re\tf\u{1}g<h>i&j\u{2028}–k\u{7f}é日😀\u{8}\u{c}");
        let want = "\"a\\\"b\\\\c\\nd\\re\\tf\\u0001g\\u003ch\\u003ei\\u0026j\\u2028–k\u{7f}é日😀\\b\\f\"";
        assert_eq!(String::from_utf8(out).unwrap(), want);
        let mut out = Vec::new();
        push_string(&mut out, "");
        assert_eq!(out, b"\"\"");
    }

    #[test]
    fn a_body_reads_back_whatever_its_strings_hold() {
        let all: String = (0..0x250).filter_map(char::from_u32).chain("\"\\ \u{2028}🦀<&>".chars()).collect();
        let mut out = b"\"".to_vec();
        push_inside(&mut out, all.as_bytes());
        out.push(b'"');
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), all);
        assert!(is_plain("é日") && is_plain("") && !is_plain("a<b") && !is_plain("\t") && !is_plain("\u{2028}"));
    }
}
