//! What patterns mean, and the fast form held against the engine.

use super::*;

fn groups(pattern: &Pattern, text: &str) -> Option<Vec<Option<String>>> {
    let captures = pattern.captures(text)?;
    Some((0..pattern.groups.len()).map(|index| captures.group(index).map(str::to_owned)).collect())
}

#[test]
fn patterns_of_literals_and_gaps_never_reach_the_engine() {
    let anchored = [
        "",
        "up",
        "a|b|c",
        "(a|b)",
        "(?:up|node_.+)",
        ".*",
        ".+",
        "(.*)",
        "node_.*",
        "https?",
        "(.+)_total",
        "a.*b.*c",
    ];
    for source in anchored {
        let pattern = Pattern::anchored(source).unwrap();
        assert!(pattern.fast.as_ref().is_some_and(|fast| !fast.newline_matters), "{source}");
        pattern.is_match("node_cpu\nup");
        assert!(pattern.engine.get().is_none(), "{source}");
    }
    for source in
        ["", "up", "^foo$", "^foo", "foo$", "^a|b$", "^(a|b)$", ".*", "^foo.*", ".*foo", "^$", r"\Aup\z", r"\Qa.b\E"]
    {
        let pattern = Pattern::search(source).unwrap();
        pattern.is_match("node_cpu\nup");
        assert!(pattern.engine.get().is_none(), "{source}");
    }
    for source in ["^a.*b$", "^.+$"] {
        let pattern = Pattern::search(source).unwrap();
        assert!(pattern.fast.is_some(), "{source}");
    }
    for source in ["[a-z]", "a+", "(?i)a", r"\w", "a{2}", "(?m)^a", r"a\b", ".", "a^b", "a$b"] {
        assert!(Pattern::search(source).unwrap().fast.is_none(), "{source}");
    }
}

#[test]
fn fast_form_and_engine_agree() {
    let mut random = Random(1);
    let pieces = [
        "a", "b", "ab", ".*", ".+", "|", "(", ")", "(?:", "^", "$", "?", "b?", "(?s:", "(.*)", "(a|ab|)", "é", "(?U)",
        "*?",
    ];
    let (mut fast, mut captured) = (0, 0);
    for _ in 0..20_000 {
        let source: String = (0..random.below(7)).map(|_| pieces[random.below(pieces.len())]).collect();
        let pattern = if random.below(2) == 0 { Pattern::anchored(&source) } else { Pattern::search(&source) };
        let Ok(pattern) = pattern else { continue };
        if pattern.fast.is_none() {
            continue;
        }
        fast += 1;
        let plain = pattern.without_fast_form();
        for _ in 0..12 {
            let text: String = (0..random.below(7)).map(|_| ["a", "b", "\n", "é", "c"][random.below(5)]).collect();
            assert_eq!(
                pattern.is_match(&text),
                plain.is_match(&text),
                "{source:?} on {text:?}, anchored {}",
                pattern.anchored
            );
            let (got, want) = (groups(&pattern, &text), groups(&plain, &text));
            captured += usize::from(got.is_some());
            assert_eq!(got, want, "{source:?} on {text:?}, anchored {}", pattern.anchored);
            let replaced = |pattern: &Pattern| {
                let mut out = String::new();
                pattern.replace_all(&text, "<$1>", &mut out).then_some(out)
            };
            assert_eq!(replaced(&pattern), replaced(&plain), "{source:?} on {text:?}, anchored {}", pattern.anchored);
        }
    }
    assert!(fast > 2_000 && captured > 2_000, "{fast} {captured}");
}

#[test]
fn go_syntax_means_what_go_means() {
    // (pattern, a text it matches as a whole, one that it does not)
    let cases = [
        (r"\Qa.b\E+", "a.bb", "axb"),
        (r"\x41\x{42}\103\0", "ABC\0", "ABC0"),
        (r"[[:alpha:]]+", "az", "a1"),
        (r"[[:^digit:]\d]", "5", ""),
        (r"[^[:space:]]", "a", "\u{b}"),
        (r"\s", " ", "\u{b}"),
        (r"[]a]+", "]a", "b"),
        (r"[a\]]+", "]a", "b"),
        (r"[\w-a]+", "x-a", "+"),
        (r"[a&&b]+", "a&b", "c"),
        (r"[a~~b]+", "a~b", "c"),
        (r"[[a]+", "[a[", "b"),
        (r"[--/]+", "-./", "a"),
        (r"[^\x00-\x{10FFFF}]?", "", "a"),
        (r"a{,5}", "a{,5}", "aaa"),
        (r"a{ 5}", "a{ 5}", "aaaaa"),
        (r"a{01}", "a{01}", "a"),
        (r"{", "{", "}"),
        (r"a{2,3}", "aaa", "a"),
        (r"a{0}b", "b", "ab"),
        (r"(?i)kelvin", "\u{212A}ELVIN", "kelvim"),
        (r"(?i:s)S", "ſS", "Ss"),
        (r"(?i)[^k]", "a", "\u{212A}"),
        (r"(?i)\w+", "ſ\u{212A}", "é"),
        (r"(?m)a$\n^b", "a\nb", "ab"),
        (r"(?-s)a.b", "a-b", "a\nb"),
        ("a.b", "a\nb", "ab"),
        (r"a#b c", "a#b c", "ab"),
        (r"\_\-\#\<", "_-#<", "_-#"),
        (r"\b{1}a", "a", "b"),
        (r"()a(?:)(?i)", "a", "A"),
        ("a)|(?s:b", "a-anything", "c"),
        (r"(?P<1x>a)(?<y>b)", "ab", "a"),
    ];
    for (source, yes, no) in cases {
        let pattern = Pattern::anchored(source).unwrap_or_else(|error| panic!("{source}: {error}"));
        assert!(pattern.is_match(yes), "{source} on {yes:?}");
        assert!(!pattern.is_match(no), "{source} on {no:?}");
    }
}

#[test]
fn what_is_not_go_or_not_served_is_refused_with_the_reason() {
    let cases = [
        (r"\pN", "Unicode classes"),
        (r"[\p{Greek}]", "Unicode classes"),
        (r"\C", "single bytes"),
        (r"(a)\1", "back-references"),
        (r"(?=a)", "look-around"),
        (r"(?<!a)", "named capture"),
        (r"(?x)a b", "flags"),
        (r"(?u)a", "flags"),
        (r"(?R)a", "flags"),
        (r"(?i-)a", "flags"),
        (r"\u{41}", "escape"),
        (r"\Z", "escape"),
        (r"\h", "escape"),
        (r"\é", "escape"),
        (r"[\b]", "escape"),
        (r"a**", "nested repetition"),
        (r"a{2}{3}", "nested repetition"),
        (r"a{1001}", "repeat count"),
        (r"(?:a{100}){11}", "repeat count"),
        (r"a{3,2}", "repeat count"),
        (r"*a", "missing argument"),
        (r"a|*", "missing argument"),
        (r"(a", "missing closing )"),
        (r"a)", "unexpected )"),
        (r"[a", "missing closing ]"),
        (r"[b-a]", "range"),
        (r"[a-\d]", "escape"),
        (r"[[:foo:]]", "[:foo:]"),
        (r"(?P<a-b>x)", "named capture"),
        (r"\x{110000}", "escape"),
        (r"(?i)é", "ASCII"),
        (r"\", "trailing"),
    ];
    for (source, reason) in cases {
        let error = Pattern::search(source).expect_err(source);
        assert!(error.contains(reason), "{source}: {error}");
    }
    // Relabelling's anchors are put around the text, so an open quotation swallows the closing one.
    assert!(Pattern::search(r"\Qa.b").is_ok() && Pattern::anchored(r"\Qa.b").is_err());
    let deep = "(".repeat(101) + &")".repeat(101);
    assert!(Pattern::search(&deep).is_err() && Pattern::search(&format!("a{}", "*(?i)".repeat(200))).is_err());
    assert!(Pattern::search(&"(".repeat(100)).is_err());
    assert!(Pattern::search(&("(".repeat(100) + &")".repeat(100))).is_ok());
}

#[test]
fn templates_expand_as_in_go() {
    let pattern = Pattern::anchored("(?P<first>[a-z]+)-(.*)(?:;(?P<first>x))?").unwrap();
    let captures = pattern.captures("ab-cd").unwrap();
    let cases = [
        ("$1", "ab"),
        ("${1}x", "abx"),
        ("$1x", ""),
        ("$2-$first", "cd-ab"),
        ("$$1", "$1"),
        ("$", "$"),
        ("$-$", "$-$"),
        ("${1", "${1"),
        ("${}", "${}"),
        ("$01", ""),
        ("$0", "ab-cd"),
        ("$9${99999999999}", ""),
        ("${first}é$firsté", "abé"),
        ("a$3b", "a"),
    ];
    for (template, want) in cases {
        let mut got = String::new();
        captures.expand(template, &mut got);
        assert_eq!(got, want, "{template}");
    }
}

/// xorshift, seeded.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
