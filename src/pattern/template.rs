//! Replacement texts with references to groups: `$1`, `${1}`, `$name`, `${name}`, `$$`.

/// A stretch of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Number(usize),
    Name(&'a str),
}

/// Takes the first part off a template, by the rules of Go's `Regexp.Expand`: an unbraced name is as long as it can be
/// (`$1x` is the group `1x`), and a `$` that starts no reference is itself.
pub(super) fn next_part<'a>(template: &mut &'a str) -> Option<Part<'a>> {
    let whole = *template;
    let after = match whole.find('$')? {
        0 => &whole[1..],
        at => {
            *template = &whole[at..];
            return Some(Part::Text(&whole[..at]));
        }
    };
    if let Some(rest) = after.strip_prefix('$') {
        *template = rest;
        return Some(Part::Text("$"));
    }
    let (name, rest) = reference(after).unwrap_or(("", after));
    *template = rest;
    Some(match number(name) {
        _ if name.is_empty() => Part::Text("$"),
        Some(number) => Part::Number(number),
        None => Part::Name(name),
    })
}

/// The reference after a `$` and what follows it.
fn reference(after: &str) -> Option<(&str, &str)> {
    let (braced, text) = after.strip_prefix('{').map_or((false, after), |inner| (true, inner));
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = if braced { rest.strip_prefix('}')? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}

/// A group's number, without leading zeros. Numbers beyond any group are numbers still.
fn number(name: &str) -> Option<usize> {
    let is_number =
        name.len() <= 9 && name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    is_number.then(|| name.parse().ok()).flatten()
}
