//! The text format, 0.0.4 and 1.0.0 (promlex.l and promparse.go of Prometheus 3.0.1).
//!
//! Blanks are spaces and tabs, and may stand between all parts of a line.

use super::cursor::{Cursor, Quoted, Stop, is_label, is_label_start, is_name, is_name_start};
use super::series::Series;
use super::{Found, number};
use crate::model::MetricType;

/// Reads one entry: mostly a line, but quoted names and label values may hold line ends. `kind` is the type that the last
/// TYPE line gave.
pub(super) fn entry(c: &mut Cursor<'_>, series: &mut Series, kind: &mut MetricType) -> Result<Found, Stop> {
    let start = c.at;
    match c.skip_blanks()? {
        // A NUL between entries ends the page, silently, as in Prometheus.
        0 => Ok(Found::End),
        b'\n' => {
            end_line(c);
            Ok(Found::Nothing)
        }
        b'#' => comment(c, kind),
        b'{' => {
            series.clear();
            labels(c, series, *kind)?;
            series.end = c.at;
            sample(c, series)
        }
        byte if is_name_start(byte) => {
            series.clear();
            c.skip_while(is_name)?;
            // Blanks before the name are taken for a part of it: the sample has no type then and goes nowhere.
            series.set_name(&c.bytes[start..c.at], start)?;
            series.end = c.at;
            if c.skip_blanks()? == b'{' {
                labels(c, series, *kind)?;
                series.end = c.at;
            }
            sample(c, series)
        }
        _ => c.bad("expected a metric name, `{` or `#`"),
    }
}

fn end_line(c: &mut Cursor<'_>) {
    c.at += 1;
    c.lines += 1;
}

fn comment(c: &mut Cursor<'_>, kind: &mut MetricType) -> Result<Found, Stop> {
    c.at += 1;
    if !matches!(c.peek()?, b' ' | b'\t') {
        // Only in a comment that starts without a blank does a NUL end the page.
        let end = c.skip_while(|byte| byte != b'\n' && byte != 0)?;
        return Ok(end_of_comment(c, end));
    }
    if c.skip_blanks()? == 0 {
        return Ok(Found::End);
    }
    let is_type = match c.peek()? {
        b'T' => keyword(c, b"TYPE")?.then_some(true),
        b'H' => keyword(c, b"HELP")?.then_some(false),
        _ => None,
    };
    let Some(is_type) = is_type else {
        let end = skip_line(c)?;
        return Ok(end_of_comment(c, end));
    };
    let family = family_name(c)?;
    let text = meta_text(c)?;
    let (from, to) = text;
    let text = &c.bytes[from..to];
    let metadata = if is_type {
        let Some(new) = type_of(text) else { return Err(Stop::Bad { at: from, what: "unknown metric type" }) };
        *kind = new;
        Some(new)
    } else if std::str::from_utf8(text).is_ok() {
        None
    } else {
        return Err(Stop::Bad { at: from, what: "a help text that is not UTF-8" });
    };
    end_line(c);
    Ok(Found::Family { name: family, kind: metadata })
}

fn end_of_comment(c: &mut Cursor<'_>, end: u8) -> Found {
    if end == 0 {
        return Found::End;
    }
    end_line(c);
    Found::Nothing
}

fn skip_line(c: &mut Cursor<'_>) -> Result<u8, Stop> {
    // The end of the page reads as NUL, but Prometheus adds a line end there.
    c.skip_while(|byte| byte != b'\n')
}

/// Passes the word and the blanks behind it. If there is something else the cursor stays somewhere in the line.
fn keyword(c: &mut Cursor<'_>, word: &[u8]) -> Result<bool, Stop> {
    for byte in word {
        if c.peek()? != *byte {
            return Ok(false);
        }
        c.pass();
    }
    let mut blank = false;
    while matches!(c.peek()?, b' ' | b'\t') {
        blank = true;
        c.pass();
    }
    Ok(blank)
}

/// The name's place, without its quotes.
pub(super) fn family_name(c: &mut Cursor<'_>) -> Result<(usize, usize), Stop> {
    let start = c.at;
    match c.peek()? {
        b'"' => {
            let (start, end) = c.quoted(Quoted::Name)?;
            Ok((start + 1, end - 1))
        }
        byte if is_name_start(byte) => {
            c.skip_while(is_name)?;
            Ok((start, c.at))
        }
        _ => c.bad("expected the name of a metric family"),
    }
}

/// The place of the rest of the line but for its first byte, which nobody looks at; the cursor stays on the line's end.
fn meta_text(c: &mut Cursor<'_>) -> Result<(usize, usize), Stop> {
    let start = c.at;
    if c.peek()? == 0 {
        return c.bad("a NUL byte");
    }
    skip_line(c)?;
    let text = &c.bytes[start..c.at];
    if text.iter().all(|byte| matches!(byte, b' ' | b'\t' | 0)) {
        return Ok((c.at, c.at));
    }
    Ok((start + 1, c.at))
}

fn type_of(word: &[u8]) -> Option<MetricType> {
    Some(match word {
        b"counter" => MetricType::Counter,
        b"gauge" => MetricType::Gauge,
        b"histogram" => MetricType::Histogram,
        b"summary" => MetricType::Summary,
        b"untyped" => MetricType::Unknown,
        _ => return None,
    })
}

#[derive(Clone, Copy)]
pub(super) enum LabelToken {
    Close,
    Comma,
    Equal,
    /// A label's name without quotes.
    Plain(usize, usize),
    /// A name in quotes; the place includes them.
    Quoted(usize, usize),
}

pub(super) fn label_token(c: &mut Cursor<'_>) -> Result<LabelToken, Stop> {
    let start = c.at;
    let token = match c.peek()? {
        b'"' => {
            let (start, end) = c.quoted(Quoted::Name)?;
            return Ok(LabelToken::Quoted(start, end));
        }
        b'}' => LabelToken::Close,
        b',' => LabelToken::Comma,
        b'=' => LabelToken::Equal,
        byte if is_label_start(byte) => {
            c.skip_while(is_label)?;
            return Ok(LabelToken::Plain(start, c.at));
        }
        _ => return c.bad("expected a label name, `=`, `,` or `}`"),
    };
    c.at += 1;
    Ok(token)
}

/// Reads the labels, the cursor being on the opening brace. Commas between them may be missing.
fn labels(c: &mut Cursor<'_>, series: &mut Series, kind: MetricType) -> Result<(), Stop> {
    c.at += 1;
    let mut token_at = blanks_to(c)?;
    let mut token = label_token(c)?;
    loop {
        let (start, end, quoted) = match token {
            LabelToken::Close => return Ok(()),
            LabelToken::Plain(start, end) => (start, end, false),
            LabelToken::Quoted(start, end) => (start, end, true),
            _ => return Err(Stop::Bad { at: token_at, what: "expected a label name" }),
        };
        token_at = blanks_to(c)?;
        token = label_token(c)?;
        if matches!(token, LabelToken::Comma | LabelToken::Close) {
            metric_name(c, series, start, end)?;
            if matches!(token, LabelToken::Close) {
                return Ok(());
            }
            token_at = blanks_to(c)?;
            token = label_token(c)?;
            continue;
        }
        let strip = usize::from(quoted);
        series.push_label_name(&c.bytes[start + strip..end - strip], start)?;
        if !matches!(token, LabelToken::Equal) {
            return Err(Stop::Bad { at: token_at, what: "expected `=` after a label name" });
        }
        while matches!(c.peek()?, b' ' | b'\t') {
            c.pass();
        }
        if c.peek()? != b'"' {
            return c.bad("expected a label value in double quotes");
        }
        let (start, end) = c.quoted(Quoted::Value)?;
        series.push_label_value(&c.bytes[start + 1..end - 1], start, kind)?;
        token_at = blanks_to(c)?;
        token = label_token(c)?;
        if matches!(token, LabelToken::Comma) {
            token_at = blanks_to(c)?;
            token = label_token(c)?;
        }
    }
}

fn blanks_to(c: &mut Cursor<'_>) -> Result<usize, Stop> {
    c.skip_blanks()?;
    Ok(c.at)
}

/// A word between commas or braces, without `=`, is the metric's name: `{"name",label="x"}`. Prometheus takes off its first
/// and last byte without looking whether they are quotes.
pub(super) fn metric_name(c: &Cursor<'_>, series: &mut Series, start: usize, end: usize) -> Result<(), Stop> {
    if series.is_named() {
        return Err(Stop::Bad { at: start, what: "a second metric name" });
    }
    match c.bytes.get(start + 1..end - 1) {
        Some(name) => series.set_name(name, start),
        None => Err(Stop::Bad { at: start, what: "expected a metric name in double quotes" }),
    }
}

/// Value, time stamp and line end.
fn sample(c: &mut Cursor<'_>, series: &mut Series) -> Result<Found, Stop> {
    if !series.is_named() {
        return c.bad("no metric name before this");
    }
    c.skip_blanks()?;
    let start = c.at;
    c.skip_while(|byte| !matches!(byte, b'{' | b' ' | b'\t' | b'\n' | 0))?;
    if c.at == start {
        return c.bad("expected a value");
    }
    let Some(value) = number::parse(&c.bytes[start..c.at]) else {
        return Err(Stop::Bad { at: start, what: "not a number" });
    };
    series.value = value;
    if c.skip_blanks()? != b'\n' {
        series.timestamp_ms = Some(timestamp(c)?);
        if c.skip_blanks()? != b'\n' {
            return c.bad("expected the end of the line after the time stamp");
        }
    }
    end_line(c);
    Ok(Found::Sample)
}

/// Milliseconds, digits only: neither sign nor fraction.
fn timestamp(c: &mut Cursor<'_>) -> Result<i64, Stop> {
    let start = c.at;
    c.skip_while(|byte| byte.is_ascii_digit())?;
    let digits = std::str::from_utf8(&c.bytes[start..c.at]).ok().and_then(|digits| digits.parse().ok());
    digits.ok_or(Stop::Bad { at: start, what: "expected a time stamp in milliseconds or the end of the line" })
}
