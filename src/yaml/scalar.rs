//! The types of scalars, as go-yaml v2 resolves them (its `resolve.go`).

/// A scalar as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    text: Box<str>,
    resolve: Resolve,
}

/// How a scalar gets its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolve {
    /// Plain, or with the tag of a number or boolean: by its look.
    ByLook,
    /// Quoted, a block, `!!str` or a tag that means nothing here.
    Text,
    /// `!!float`: a whole number is one too.
    Float,
    /// `!!null`.
    Null,
}

/// A scalar's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Nothing, `~`, `null`.
    Null,
    /// `true`, `yes`, `on`, `y` and their opposites.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number beyond [`i64::MAX`].
    Uint(u64),
    /// A fraction, `.nan`, `.inf`.
    Float(f64),
    /// All else.
    Text(&'a str),
}

impl Scalar {
    /// Makes a scalar; `tag` is the full tag (`tag:yaml.org,2002:int`), if it has one.
    ///
    /// # Errors
    /// The tag's short form when the text is not of that type.
    pub(super) fn new(text: &str, plain: bool, tag: Option<&str>) -> Result<Self, String> {
        let resolve = match tag.map(|tag| tag.strip_prefix("tag:yaml.org,2002:").ok_or(tag)) {
            Some(Err("!")) => Resolve::ByLook,
            None if plain => Resolve::ByLook,
            None | Some(Err(_)) => Resolve::Text,
            Some(Ok(name)) => {
                let look = by_look(text);
                let (fits, resolve) = match name {
                    "bool" => (matches!(look, Value::Bool(_)), Resolve::ByLook),
                    "int" => (matches!(look, Value::Int(_) | Value::Uint(_)), Resolve::ByLook),
                    "float" => (matches!(look, Value::Float(_) | Value::Int(_)), Resolve::Float),
                    "null" => (look == Value::Null, Resolve::Null),
                    // Raw bytes have no use in these files.
                    "binary" => (false, Resolve::Text),
                    _ => (true, Resolve::Text),
                };
                if !fits {
                    return Err(format!("!!{name}"));
                }
                resolve
            }
        };
        Ok(Self { text: text.into(), resolve })
    }

    /// The value with its type.
    pub fn value(&self) -> Value<'_> {
        match self.resolve {
            Resolve::Text => Value::Text(&self.text),
            Resolve::Null => Value::Null,
            Resolve::ByLook => by_look(&self.text),
            Resolve::Float => match by_look(&self.text) {
                Value::Int(whole) => Value::Float(whole as f64),
                other => other,
            },
        }
    }

    /// The text as it was written, whatever the type; empty for null.
    pub fn as_str(&self) -> &str {
        if self.value() == Value::Null { "" } else { &self.text }
    }

    /// See [`super::Node::is_null`].
    pub(super) fn is_nothing(&self) -> bool {
        match self.resolve {
            Resolve::Null => true,
            Resolve::ByLook => matches!(&*self.text, "" | "~" | "null"),
            Resolve::Text | Resolve::Float => false,
        }
    }

    /// Its size in memory beyond the node.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }
}

fn by_look(text: &str) -> Value<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' => float(text).map_or(Value::Text(text), Value::Float),
        b'0'..=b'9' | b'+' | b'-' => number(text).unwrap_or(Value::Text(text)),
        _ => Value::Text(text),
    }
}

fn number(text: &str) -> Option<Value<'_>> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    let (negative, unsigned) = match digits.as_bytes().first()? {
        b'-' => (true, &digits[1..]),
        b'+' => (false, &digits[1..]),
        _ => (false, &digits[..]),
    };
    if let Some(size) = whole(unsigned) {
        return match i64::try_from(size) {
            Ok(size) => Some(Value::Int(if negative { -size } else { size })),
            Err(_) if negative && size == 1 << 63 => Some(Value::Int(i64::MIN)),
            // A sign has no place before a number that only fits without one.
            Err(_) if unsigned.len() == digits.len() => Some(Value::Uint(size)),
            Err(_) => float(&digits).map(Value::Float),
        };
    }
    float(&digits).map(Value::Float)
}

/// Go's `ParseUint` with base 0.
fn whole(digits: &str) -> Option<u64> {
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, base).ok()
}

/// Digits with a point or an exponent; neither `inf` nor a number too large for a float.
fn float(text: &str) -> Option<f64> {
    let allowed = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    let value: f64 = text.bytes().all(allowed).then(|| text.parse().ok()).flatten()?;
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_have_go_yamls_types() {
        for (text, expected) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("nULL", Value::Text("nULL")),
            ("yes", Value::Bool(true)),
            ("y", Value::Bool(true)),
            ("Off", Value::Bool(false)),
            ("tRue", Value::Text("tRue")),
            ("0", Value::Int(0)),
            ("-17", Value::Int(-17)),
            ("+17", Value::Int(17)),
            ("1_000", Value::Int(1000)),
            ("0x1F", Value::Int(31)),
            ("-0x1F", Value::Int(-31)),
            ("0b101", Value::Int(5)),
            ("0o17", Value::Int(15)),
            ("017", Value::Int(15)),
            ("08", Value::Float(8.0)),
            ("9223372036854775808", Value::Uint(1 << 63)),
            ("-9223372036854775808", Value::Int(i64::MIN)),
            ("18446744073709551616", Value::Float(18_446_744_073_709_551_616.0)),
            ("1.5", Value::Float(1.5)),
            ("1.", Value::Float(1.0)),
            (".5", Value::Float(0.5)),
            ("1e3", Value::Float(1000.0)),
            (".inf", Value::Float(f64::INFINITY)),
            ("inf", Value::Text("inf")),
            ("1e999", Value::Text("1e999")),
            (".", Value::Text(".")),
            ("-", Value::Text("-")),
            ("+-1", Value::Text("+-1")),
            ("0x", Value::Text("0x")),
            ("15s", Value::Text("15s")),
            ("2024-01-01", Value::Text("2024-01-01")),
            ("1:30", Value::Text("1:30")),
        ] {
            assert_eq!(Scalar::new(text, true, None).unwrap().value(), expected, "{text:?}");
        }
    }

    #[test]
    fn quotes_and_tags_decide_over_the_look() {
        let value = |text, plain, tag: &str| {
            let tag = (!tag.is_empty()).then_some(tag);
            Scalar::new(text, plain, tag).map(|scalar| format!("{:?}", scalar.value()))
        };
        assert_eq!(value("true", false, "").unwrap(), "Text(\"true\")");
        assert_eq!(value("", false, "").unwrap(), "Text(\"\")");
        assert_eq!(value("5", true, "tag:yaml.org,2002:str").unwrap(), "Text(\"5\")");
        assert_eq!(value("5", false, "tag:yaml.org,2002:int").unwrap(), "Int(5)");
        assert_eq!(value("5", true, "tag:yaml.org,2002:float").unwrap(), "Float(5.0)");
        assert_eq!(value("x", true, "tag:yaml.org,2002:bool").unwrap_err(), "!!bool");
        assert_eq!(value("5", true, "!mine").unwrap(), "Text(\"5\")");
        assert_eq!(value("5", false, "!").unwrap(), "Int(5)");
    }
}
