//! Letters in the other case, one for one, as Go's `strings.ToLower` and `strings.ToUpper` have them.
//!
//! The standard library's mappings are Unicode's full ones (`ß` becomes `SS`). Where these give more than one character Go's give
//! the character itself, or the one in `lower` and `upper` below. Letters that Unicode 16 and 17 brought change here and not in Go.

/// The letter in lower case.
pub(super) fn lower(c: char) -> char {
    match c {
        'İ' => 'i',
        c => only(c.to_lowercase(), c),
    }
}

/// The letter in upper case.
pub(super) fn upper(c: char) -> char {
    let distance = match c {
        // Greek letters with iota below: their upper case is their title case.
        '\u{1F80}'..='\u{1FAF}' if c as u32 & 8 == 0 => 8,
        '\u{1FB3}' | '\u{1FC3}' | '\u{1FF3}' => 9,
        c => return only(c.to_uppercase(), c),
    };
    char::from_u32(c as u32 + distance).unwrap_or(c)
}

fn only(mut mapped: impl ExactSizeIterator<Item = char>, c: char) -> char {
    if mapped.len() == 1 { mapped.next().unwrap_or(c) } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_map_one_for_one() {
        let map = |text: &str, f: fn(char) -> char| text.chars().map(f).collect::<String>();
        assert_eq!(map("ÀÉẞİΣ-Az9", lower), "àéßiσ-az9");
        assert_eq!(map("àéßıσςŉᾀᾳ-Az9", upper), "ÀÉßIΣΣŉᾈᾼ-AZ9");
    }
}
