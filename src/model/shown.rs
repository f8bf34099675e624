//! The one door through which other people's text goes to a terminal, the journal or another program.
//!
//! Labels, addresses, stream and file names, pages of exporters and answers of servers are written by others. What moves the
//! cursor, starts a line, turns the direction of writing or cannot be seen is written as `\u001b`, `\n` and the like, which
//! reads the same in a sentence and in a JSON string, where it keeps its meaning.

/// The most of one foreign name (a label, an address, a job) that goes into a message, in bytes. A stream's name is within it.
pub const NAME_BYTES_MAX: usize = 512;
/// The most of a foreign text (an error, a line of a page) that goes into a message, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024;

/// First and last of the characters that are never shown: controls, line and paragraph separator, marks of direction, and
/// Unicode's `Default_Ignorable_Code_Point`, without the variation selectors of emoji. Sorted.
const UNSHOWN: [(u32, u32); 18] = [
    (0x00, 0x1F),
    (0x7F, 0x9F),
    (0xAD, 0xAD),
    (0x34F, 0x34F),
    (0x61C, 0x61C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
];

fn is_unshown(c: char) -> bool {
    !matches!(c, ' '..='~') && UNSHOWN.iter().any(|&(first, last)| (first..=last).contains(&u32::from(c)))
}

/// Appends a text so that it stays on its line and shows all that it holds; what takes more than `bytes_max` is cut, and the
/// cut marked by `…`. Of JSON, which has such characters in its strings only, it leaves JSON of the same content if it is not
/// cut.
pub fn push_shown(out: &mut String, text: &str, bytes_max: usize) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let end = out.len().saturating_add(bytes_max);
    for c in text.chars() {
        // The longest escape has 12 bytes; a cut in its middle would be another text.
        let start = out.len();
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if is_unshown(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str("\\u");
                    for shift in [12, 8, 4, 0] {
                        out.push(char::from(HEX[usize::from(*unit >> shift & 15)]));
                    }
                }
            }
            _ => out.push(c),
        }
        if out.len() > end {
            out.truncate(start);
            out.push('…');
            return;
        }
    }
}

/// The beginning of a foreign text, for a message of ours that goes on after it.
pub fn short(text: &str, bytes_max: usize) -> String {
    let cut = &text[..text.floor_char_boundary(bytes_max)];
    if cut.len() < text.len() { [cut, "…"].concat() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, bytes_max: usize) -> String {
        let mut out = "> ".to_owned();
        push_shown(&mut out, text, bytes_max);
        out.split_off(2)
    }

    #[test]
    fn what_would_forge_a_line_or_hide_text_is_written_out() {
        for (text, want) in [
            ("plain, ünïcödé 漢字 👍\u{fe0f} \\ \"", "plain, ünïcödé 漢字 👍\u{fe0f} \\ \""),
            ("a\nb\rc\td", "a\\nb\\rc\\td"),
            ("\0\u{7}\u{1b}[2J\u{7f}", "\\u0000\\u0007\\u001b[2J\\u007f"),
            ("\u{80}\u{9b}31m\u{9f}", "\\u0080\\u009b31m\\u009f"),
            ("\u{202a}\u{202e}\u{2066}\u{2069}", "\\u202a\\u202e\\u2066\\u2069"),
            ("\u{200e}\u{200f}\u{61c}", "\\u200e\\u200f\\u061c"),
            ("\u{2028}\u{2029}\u{feff}\u{200b}\u{ad}", "\\u2028\\u2029\\ufeff\\u200b\\u00ad"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(shown(text, 1000), want, "{text:?}");
        }
    }

    #[test]
    fn json_stays_json_of_the_same_content() {
        let text: String = (0..0x11_0000).filter_map(char::from_u32).collect();
        let json = serde_json::to_string(&text).unwrap();
        let safe = shown(&json, usize::MAX);
        assert!(!safe.chars().any(is_unshown));
        assert!(serde_json::from_str::<String>(&safe).unwrap() == text);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shown("abcdef", 6), "abcdef");
        assert_eq!(shown("abcdefg", 6), "abcdef…");
        assert_eq!(shown("éééé", 5), "éé…");
        assert_eq!(shown("ab\u{1b}cd", 6), "ab…");
        assert_eq!((short("éé", 4), short("éé", 3)), ("éé".to_owned(), "é…".to_owned()));
    }
}
