//! OpenMetrics, 0.0.1 and 1.0.0 (openmetricslex.l and openmetricsparse.go of Prometheus 3.0.1).
//!
//! One space where a space belongs and none elsewhere, no empty lines, `# EOF` at the end. Exemplars are checked and
//! passed over. Time stamps are seconds.

use super::cursor::{Cursor, Quoted, Stop, is_label, is_label_start, is_name, is_name_start};
use super::series::Series;
use super::text::{LabelToken, family_name, label_token, metric_name};
use super::{Found, number};
use crate::model::MetricType;

/// Reads one entry. `kind` is the type that the last TYPE line gave.
pub(super) fn entry(c: &mut Cursor<'_>, series: &mut Series, kind: &mut MetricType) -> Result<Found, Stop> {
    let start = c.at;
    if c.ends && start >= c.bytes.len() {
        return c.bad("the page does not end with `# EOF`");
    }
    match c.peek()? {
        b'#' => metadata(c, kind),
        b'{' => {
            series.clear();
            labels(c, series, *kind)?;
            sample(c, series)
        }
        byte if is_name_start(byte) => {
            series.clear();
            if c.skip_while(is_name)? == b'{' {
                series.set_name(&c.bytes[start..c.at], start)?;
                labels(c, series, *kind)?;
            } else {
                series.set_name(&c.bytes[start..c.at], start)?;
            }
            sample(c, series)
        }
        _ => c.bad("expected a metric name, `{` or `# `"),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keyword {
    Help,
    Type,
    Unit,
}

fn metadata(c: &mut Cursor<'_>, kind: &mut MetricType) -> Result<Found, Stop> {
    const WHAT: &str = "expected `# HELP `, `# TYPE `, `# UNIT ` or `# EOF`";
    let start = c.at;
    c.at += 1;
    if c.peek()? != b' ' {
        return Err(Stop::Bad { at: start, what: WHAT });
    }
    c.at += 1;
    let keyword = match c.peek()? {
        b'E' => return eof(c),
        b'H' => word(c, b"HELP ")?.then_some(Keyword::Help),
        b'T' => word(c, b"TYPE ")?.then_some(Keyword::Type),
        b'U' => word(c, b"UNIT ")?.then_some(Keyword::Unit),
        _ => None,
    };
    let Some(keyword) = keyword else { return Err(Stop::Bad { at: start, what: WHAT }) };
    let family = family_name(c)?;
    let (from, to) = meta_text(c)?;
    let text = &c.bytes[from..to];
    match keyword {
        Keyword::Type => match type_of(text) {
            Some(new) => *kind = new,
            None => return Err(Stop::Bad { at: from, what: "unknown metric type" }),
        },
        Keyword::Help if std::str::from_utf8(text).is_err() => {
            return Err(Stop::Bad { at: from, what: "a help text that is not UTF-8" });
        }
        Keyword::Unit if !is_unit_of(&c.bytes[family.0..family.1], text) => {
            return Err(Stop::Bad { at: from, what: "the family's name does not end with this unit" });
        }
        _ => {}
    }
    Ok(Found::Family { name: family, kind: (keyword == Keyword::Type).then_some(*kind) })
}

/// `# EOF`, an optional line end, and then nothing.
fn eof(c: &mut Cursor<'_>) -> Result<Found, Stop> {
    let start = c.at;
    if !word(c, b"EOF")? {
        return Err(Stop::Bad { at: start, what: "expected `# EOF`" });
    }
    if c.peek()? == b'\n' {
        c.lines += 1;
        c.pass();
    }
    if c.at < c.bytes.len() {
        return c.bad("nothing may follow `# EOF`");
    }
    // More may come, and would be wrong.
    c.peek()?;
    Ok(Found::End)
}

fn word(c: &mut Cursor<'_>, word: &[u8]) -> Result<bool, Stop> {
    for byte in word {
        if c.peek()? != *byte {
            return Ok(false);
        }
        c.pass();
    }
    Ok(true)
}

/// The place of the rest of the line, behind one space; the cursor ends behind the line's end.
fn meta_text(c: &mut Cursor<'_>) -> Result<(usize, usize), Stop> {
    let start = c.at;
    if c.peek()? != b' ' {
        return c.bad("expected a space after the name");
    }
    c.pass();
    if c.skip_while(|byte| byte != b'\n')? != b'\n' {
        return c.bad("expected the end of the line");
    }
    c.lines += 1;
    c.pass();
    c.peek()?;
    // NULs that follow the line end belong to the text, which ends one byte before them all.
    Ok((start + 1, c.at - 1))
}

fn type_of(word: &[u8]) -> Option<MetricType> {
    Some(match word {
        b"counter" => MetricType::Counter,
        b"gauge" => MetricType::Gauge,
        b"histogram" => MetricType::Histogram,
        b"gaugehistogram" => MetricType::GaugeHistogram,
        b"summary" => MetricType::Summary,
        b"info" => MetricType::Info,
        b"stateset" => MetricType::StateSet,
        b"unknown" => MetricType::Unknown,
        _ => return None,
    })
}

fn is_unit_of(family: &[u8], unit: &[u8]) -> bool {
    unit.is_empty() || family.strip_suffix(unit).is_some_and(|rest| rest.ends_with(b"_"))
}

/// Reads the labels, the cursor being on the opening brace.
fn labels(c: &mut Cursor<'_>, series: &mut Series, kind: MetricType) -> Result<(), Stop> {
    c.at += 1;
    let mut token_at = c.at;
    let mut token = label_token(c)?;
    loop {
        let (start, end, quoted) = match token {
            LabelToken::Close => return Ok(()),
            LabelToken::Plain(start, end) => (start, end, false),
            LabelToken::Quoted(start, end) => (start, end, true),
            _ => return Err(Stop::Bad { at: token_at, what: "expected a label name" }),
        };
        token_at = c.at;
        token = label_token(c)?;
        if matches!(token, LabelToken::Comma | LabelToken::Close) {
            metric_name(c, series, start, end)?;
            if matches!(token, LabelToken::Close) {
                return Ok(());
            }
            token_at = c.at;
            token = label_token(c)?;
            continue;
        }
        let strip = usize::from(quoted);
        series.push_label_name(&c.bytes[start + strip..end - strip], start)?;
        if !matches!(token, LabelToken::Equal) {
            return Err(Stop::Bad { at: token_at, what: "expected `=` after a label name" });
        }
        if c.peek()? != b'"' {
            return c.bad("expected a label value in double quotes");
        }
        let (start, end) = c.quoted(Quoted::ValueOnOneLine)?;
        series.push_label_value(&c.bytes[start + 1..end - 1], start, kind)?;
        token_at = c.at;
        token = label_token(c)?;
        match token {
            LabelToken::Comma => {
                token_at = c.at;
                token = label_token(c)?;
            }
            LabelToken::Close => {}
            _ => return Err(Stop::Bad { at: token_at, what: "expected `,` or `}` after a label" }),
        }
    }
}

/// Value, time stamp, exemplar and line end.
fn sample(c: &mut Cursor<'_>, series: &mut Series) -> Result<Found, Stop> {
    series.end = c.at;
    if !series.is_named() {
        return c.bad("no metric name before this");
    }
    series.value = value(c)?;
    let mut at_end = line_end(c)?;
    if !at_end && !at_exemplar(c)? {
        series.timestamp_ms = Some((timestamp(c)? * 1000.0) as i64);
        at_end = line_end(c)?;
        if !at_end && !at_exemplar(c)? {
            return c.bad("expected an exemplar or the end of the line after the time stamp");
        }
    }
    if !at_end {
        exemplar(c)?;
    }
    Ok(Found::Sample)
}

fn line_end(c: &mut Cursor<'_>) -> Result<bool, Stop> {
    let ends = c.peek()? == b'\n';
    if ends {
        c.at += 1;
        c.lines += 1;
    }
    Ok(ends)
}

/// One space and what lies before the next space or line end.
fn word_after_space(c: &mut Cursor<'_>, what: &'static str) -> Result<(usize, usize), Stop> {
    if c.peek()? != b' ' {
        return c.bad(what);
    }
    c.at += 1;
    let start = c.at;
    c.skip_while(|byte| !matches!(byte, b' ' | b'\n' | 0))?;
    if c.at == start {
        return c.bad(what);
    }
    Ok((start, c.at))
}

fn value(c: &mut Cursor<'_>) -> Result<f64, Stop> {
    let (start, end) = word_after_space(c, "expected one space and a value")?;
    number::parse(&c.bytes[start..end]).ok_or(Stop::Bad { at: start, what: "not a number" })
}

fn timestamp(c: &mut Cursor<'_>) -> Result<f64, Stop> {
    let (start, end) = word_after_space(c, "expected one space and a time stamp, an exemplar, or the end of the line")?;
    let seconds = number::parse(&c.bytes[start..end]).filter(|seconds| seconds.is_finite());
    seconds.ok_or(Stop::Bad { at: start, what: "not a time stamp in seconds" })
}

/// Whether ` # {` follows.
fn at_exemplar(c: &mut Cursor<'_>) -> Result<bool, Stop> {
    let start = c.at;
    for byte in b" # {" {
        if c.peek()? != *byte {
            c.at = start;
            return Ok(false);
        }
        c.at += 1;
    }
    c.at = start;
    Ok(true)
}

/// ` # {labels} value [time stamp]`, checked and forgotten: it is not a sample.
fn exemplar(c: &mut Cursor<'_>) -> Result<(), Stop> {
    c.at += 4;
    loop {
        match c.peek()? {
            b'}' => break,
            byte if is_label_start(byte) => {}
            _ => return c.bad("expected a label name of the exemplar"),
        }
        if c.skip_while(is_label)? != b'=' {
            return c.bad("expected `=` after a label name of the exemplar");
        }
        c.at += 1;
        if c.peek()? != b'"' {
            return c.bad("expected a label value in double quotes");
        }
        let (start, end) = c.quoted(Quoted::Exemplar)?;
        if std::str::from_utf8(&c.bytes[start..end]).is_err() {
            return Err(Stop::Bad { at: start, what: "not UTF-8" });
        }
        match c.peek()? {
            b',' => c.at += 1,
            b'}' => {}
            _ => return c.bad("expected `,` or `}` after a label of the exemplar"),
        }
    }
    c.at += 1;
    value(c)?;
    if !line_end(c)? {
        timestamp(c)?;
        if !line_end(c)? {
            return c.bad("expected the end of the line after the exemplar");
        }
    }
    Ok(())
}
