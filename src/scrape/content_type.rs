//! In which format an answer is to be read.

use super::exposition::Format;
use crate::model::settings::ScrapeProtocol;

/// The format that a `Content-Type` names; the job's fallback where it names none, or one that is not an exposition
/// (`extractMediaType` in Prometheus 3.0.1's model/textparse/interface.go).
///
/// # Errors
/// Protobuf: nobody asked for it, and reading it as text would only give odd messages.
pub(super) fn format_of(content_type: Option<&str>, fallback: ScrapeProtocol) -> Result<Format, &'static str> {
    match content_type.and_then(media_type).as_deref() {
        Some("application/openmetrics-text") => Ok(Format::OpenMetrics),
        Some("text/plain") => Ok(Format::Text),
        Some("application/vnd.google.protobuf") => Err("the target answers in protobuf, which promwatch does not read"),
        _ => Ok(match fallback {
            ScrapeProtocol::OpenMetrics100 | ScrapeProtocol::OpenMetrics001 => Format::OpenMetrics,
            ScrapeProtocol::Text100 | ScrapeProtocol::Text004 => Format::Text,
        }),
    }
}

/// The media type in lower case; nothing when any part of the header, the parameters included, is malformed, as in Go's
/// `mime.ParseMediaType`.
fn media_type(header: &str) -> Option<String> {
    let (media_type, mut rest) = match header.find(';') {
        Some(at) => header.split_at(at),
        None => (header, ""),
    };
    let media_type = media_type.trim().to_ascii_lowercase();
    let mut parts = media_type.split('/');
    if !parts.next().is_some_and(is_token) || !parts.next().is_none_or(is_token) || parts.next().is_some() {
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() || rest.trim() == ";" {
            return Some(media_type);
        }
        let parameter = rest.strip_prefix(';')?.trim_start();
        let (name, value) = parameter.split_at(parameter.bytes().position(|byte| !is_token_byte(byte))?);
        let value = value.trim_start().strip_prefix('=')?.trim_start();
        let name = name.to_ascii_lowercase();
        if name.is_empty() || names.contains(&name) {
            return None;
        }
        names.push(name);
        rest = after_value(value)?;
    }
}

fn after_value(value: &str) -> Option<&str> {
    if !value.starts_with('"') {
        let end = value.bytes().position(|byte| !is_token_byte(byte)).unwrap_or(value.len());
        return (end > 0).then(|| &value[end..]);
    }
    let mut escaped = false;
    for (at, byte) in value.bytes().enumerate().skip(1) {
        match byte {
            b'\r' | b'\n' => return None,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(&value[at + 1..]),
            _ => {}
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_by_content_type() {
        for (header, format) in [
            ("text/plain; version=0.0.4; charset=utf-8", Format::Text),
            ("TEXT/Plain", Format::Text),
            ("text/plain;", Format::Text),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores", Format::OpenMetrics),
            ("application/openmetrics-text;version=\"0.0.1\" ;", Format::OpenMetrics),
            // What follows falls back.
            ("application/openmetrics-text; version", Format::Text),
            ("application/openmetrics-text; version=1; version=2", Format::Text),
            ("application/openmetrics-text version=1", Format::Text),
            ("application/openmetrics-text/2", Format::Text),
            ("application/openmetrics-text; a=\"b", Format::Text),
            ("text/html; charset=utf-8", Format::Text),
            ("application/json", Format::Text),
            ("", Format::Text),
        ] {
            assert_eq!(format_of(Some(header), ScrapeProtocol::Text004), Ok(format), "{header}");
        }
        assert_eq!(format_of(None, ScrapeProtocol::Text004), Ok(Format::Text));
        assert_eq!(format_of(None, ScrapeProtocol::OpenMetrics001), Ok(Format::OpenMetrics));
        assert_eq!(format_of(Some("text/html"), ScrapeProtocol::OpenMetrics100), Ok(Format::OpenMetrics));
        assert!(format_of(Some("application/vnd.google.protobuf; a=b"), ScrapeProtocol::Text004).is_err());
    }
}
