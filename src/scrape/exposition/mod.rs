//! The exposition formats, read piece by piece: text 0.0.4 and 1.0.0, OpenMetrics 0.0.1 and 1.0.0.
//!
//! What is accepted and what is refused is what Prometheus 3.0.1 accepts and refuses, oddities included, because pages that
//! work there must work here. `scripts/differential/exposition.sh` compares the two on random pages.
//!
//! An entry is mostly a line, but a quoted text may hold line ends. Only the unfinished entry is kept between two pieces,
//! and what comes out does not depend on where the pieces end. Limits: [`MAX_ENTRY_BYTES`] for an entry. Refused: protobuf.
//!
//! ```text
//!            push                         bad entry, forgiving                  line end
//! reading entries <-----------------+  -----------------------> skipping a line ---------> reading entries
//!    |  |  end of the page (NUL)    |
//!    |  +-----------> ended --------+ (swallows the rest)
//!    +-- bad entry, strict: the error, and nothing more is to be pushed
//! ```

mod cursor;
mod lines;
mod number;
mod openmetrics;
mod series;
mod text;

use crate::model::{MetricType, TEXT_BYTES_MAX, push_shown};
use cursor::{Cursor, Stop};
pub use series::Series;

/// The longest entry, in bytes. A CloudWatch Logs event is at most 1 MiB, so a longer line is of no use to anyone.
pub const MAX_ENTRY_BYTES: usize = 1 << 20;
/// Of the lines that were skipped in forgiving mode, so many are kept to be shown.
const MAX_BAD_LINES_KEPT: usize = 5;
/// Offending text is cut to so many characters.
const FOUND_CHARS: usize = 40;
/// Four bytes are the most that a character takes.
const FOUND_BYTES: usize = 4 * FOUND_CHARS;

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format, 0.0.4 and 1.0.0.
    Text,
    /// OpenMetrics, 0.0.1 and 1.0.0.
    OpenMetrics,
}

/// What an entry turned out to be.
enum Found {
    /// The series and its sample are in the [`Series`].
    Sample,
    /// A HELP, TYPE or UNIT line: the place of the family's name, and the type of a TYPE line.
    Family { name: (usize, usize), kind: Option<MetricType> },
    /// A comment or an empty line.
    Nothing,
    /// The page is over, whatever follows.
    End,
}

/// Takes what a page says.
pub trait Sink {
    /// One sample.
    ///
    /// # Errors
    /// The sample is refused; see [`Refusal`].
    fn sample(&mut self, series: &Series) -> Result<(), Refusal>;

    /// A family has a HELP, TYPE or UNIT line; a TYPE line gives its type, the last one counts.
    ///
    /// # Errors
    /// The page is refused; see [`Refusal`].
    fn family(&mut self, name: &str, kind: Option<MetricType>) -> Result<(), Refusal>;

    /// What the next sample or family can be known by: bytes that mean the same wherever they stand. Nothing: by nothing.
    fn known_by(&mut self, _raw: Option<(Context, &[u8])>) {}

    /// Whether a line is known, and what it is.
    fn find(&mut self, _context: Context, _raw: &[u8]) -> Option<Known> {
        None
    }

    /// A sample, or a family's line, that was found.
    ///
    /// # Errors
    /// It is refused; see [`Refusal`].
    fn again(&mut self, _known: Known, _value: f64, _timestamp_ms: Option<i64>) -> Result<(), Refusal> {
        Ok(())
    }
}

/// What beside its bytes decides what a line means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// A sample.
    Sample,
    /// A sample after the TYPE line of a summary: a number in `quantile` is put into form.
    SampleOfSummary,
    /// A sample after the TYPE line of a histogram: a number in `le` is put into form.
    SampleOfHistogram,
    /// A HELP, TYPE or UNIT line.
    Metadata,
}

/// What a known line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// A sample of the series with this number.
    Series(u32),
    /// A sample that relabelling drops.
    Dropped,
    /// A family's line, with this number and the type that it gives.
    Family(u32, Option<MetricType>),
}

/// A sink's refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The whole page is refused even in forgiving mode (a limit), and not just this line.
    pub whole_page: bool,
    /// Why.
    pub text: String,
}

/// A line that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// The line, from 1.
    pub line: u64,
    /// The character in the line, from 1.
    pub column: u64,
    /// What is wrong, with the offending text.
    pub text: String,
    /// See [`Refusal::whole_page`].
    pub whole_page: bool,
}

/// Lines that were skipped in forgiving mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadLines {
    /// How many.
    pub count: u64,
    /// The first few.
    pub first: Vec<BadLine>,
}

/// A page being read.
pub struct Exposition {
    format: Format,
    forgiving: bool,
    /// The start of an entry that is not complete yet.
    pending: Vec<u8>,
    /// An incomplete entry is read again when twice as much of it is there, so that no entry costs more than its length
    /// times a constant, however small the pieces are.
    retry_bytes: usize,
    /// The line that the next entry starts on.
    line: u64,
    state: State,
    kind: MetricType,
    series: Series,
    bad: BadLines,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    SkippingLine,
    Ended,
}

impl Exposition {
    /// Starts a page. Strict: the first bad line ends it. Forgiving: bad lines are skipped and counted.
    pub fn new(format: Format, forgiving: bool) -> Self {
        Self {
            format,
            forgiving,
            pending: Vec::new(),
            retry_bytes: 0,
            line: 1,
            state: State::Reading,
            kind: MetricType::Unknown,
            series: Series::default(),
            bad: BadLines::default(),
        }
    }

    /// The next piece of the page.
    ///
    /// # Errors
    /// The page is bad, and nothing more is to be pushed.
    pub fn push(&mut self, piece: &[u8], sink: &mut dyn Sink) -> Result<(), BadLine> {
        let mut piece = piece;
        if self.retry_bytes == 0
            && !self.pending.is_empty()
            && let Some(end) = lines::line_end(piece)
        {
            // Mostly the entry ends with its line, and what follows need not be copied.
            self.pending.extend_from_slice(&piece[..=end]);
            self.read_pending(false, sink)?;
            piece = &piece[end + 1..];
            self.retry_bytes = self.pending.len() * 2;
        }
        if self.pending.is_empty() {
            let read = self.read(piece, false, sink)?;
            self.pending.extend_from_slice(&piece[read..]);
            self.retry_bytes = 0;
            return Ok(());
        } else {
            self.pending.extend_from_slice(piece);
            if self.pending.len() < self.retry_bytes {
                return Ok(());
            }
            self.read_pending(false, sink)?;
        }
        self.retry_bytes = self.pending.len() * 2;
        Ok(())
    }

    /// The page is complete. Gives the lines that were skipped.
    ///
    /// # Errors
    /// The page is bad.
    pub fn finish(mut self, sink: &mut dyn Sink) -> Result<BadLines, BadLine> {
        if self.format == Format::Text {
            // The last line may lack its end.
            self.pending.push(b'\n');
        }
        self.read_pending(true, sink)?;
        Ok(self.bad)
    }

    fn read_pending(&mut self, ends: bool, sink: &mut dyn Sink) -> Result<(), BadLine> {
        let mut pending = std::mem::take(&mut self.pending);
        let read = self.read(&pending, ends, sink)?;
        pending.drain(..read);
        self.pending = pending;
        Ok(())
    }

    /// Reads what is complete. Gives the number of bytes that are done with.
    fn read(&mut self, bytes: &[u8], ends: bool, sink: &mut dyn Sink) -> Result<usize, BadLine> {
        let mut at = 0;
        while self.state != State::Ended {
            if self.state == State::SkippingLine {
                match bytes[at..].iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        at += end + 1;
                        self.line += 1;
                    }
                    None if ends => at = bytes.len(),
                    None => return Ok(bytes.len()),
                }
                self.state = State::Reading;
            }
            let rest = &bytes[at..];
            if let Some(read) = self.known(rest, sink)? {
                at += read;
                continue;
            }
            let view = &rest[..rest.len().min(MAX_ENTRY_BYTES)];
            let mut cursor = Cursor { bytes: view, at: 0, ends: ends && view.len() == rest.len(), lines: 0 };
            let found = match self.format {
                Format::Text => text::entry(&mut cursor, &mut self.series, &mut self.kind),
                Format::OpenMetrics => openmetrics::entry(&mut cursor, &mut self.series, &mut self.kind),
            };
            let refusal = match found {
                Ok(Found::Sample) => {
                    let line = one_line(view, &cursor);
                    let raw = line.filter(|line| lines::cut(line) == Some(self.series.end));
                    sink.known_by(raw.map(|line| (self.context(), &line[..self.series.end])));
                    sink.sample(&self.series).err()
                }
                Ok(Found::Family { name: (start, end), kind }) => match std::str::from_utf8(&view[start..end]) {
                    Ok(name) => {
                        sink.known_by(one_line(view, &cursor).map(|line| (Context::Metadata, line)));
                        sink.family(name, kind).err()
                    }
                    // No sample can have such a name.
                    Err(_) => None,
                },
                Ok(Found::Nothing) => None,
                Ok(Found::End) => {
                    self.state = State::Ended;
                    None
                }
                Err(stop) if !ends && view.len() < MAX_ENTRY_BYTES && !is_told(&stop, view) => return Ok(at),
                Err(stop) => {
                    let (place, what) = match stop {
                        Stop::Incomplete => (0, "longer than 1 MiB"),
                        Stop::Bad { at, what } => (at, what),
                    };
                    let bad = self.bad_line(view, place, what);
                    self.forgive(bad)?;
                    // At the end there is no line left to skip: the page lacks its `# EOF`.
                    self.state = if rest.is_empty() { State::Ended } else { State::SkippingLine };
                    continue;
                }
            };
            if let Some(Refusal { whole_page, text }) = refusal {
                self.forgive(BadLine { line: self.line, column: 1, text, whole_page })?;
            }
            at += cursor.at;
            self.line += cursor.lines;
        }
        Ok(bytes.len())
    }

    /// Reads a line that the sink knows. Gives its bytes.
    fn known(&mut self, rest: &[u8], sink: &mut dyn Sink) -> Result<Option<usize>, BadLine> {
        let Some(line) = lines::next(rest, self.format) else { return Ok(None) };
        let context = if line.is_metadata { Context::Metadata } else { self.context() };
        let Some(known) = sink.find(context, line.raw) else { return Ok(None) };
        let (value, timestamp_ms) = match known {
            Known::Family(_, kind) => {
                self.kind = kind.unwrap_or(self.kind);
                (0.0, None)
            }
            Known::Series(_) | Known::Dropped => match lines::value_and_time(line.tail, self.format) {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        if let Err(Refusal { whole_page, text }) = sink.again(known, value, timestamp_ms) {
            self.forgive(BadLine { line: self.line, column: 1, text, whole_page })?;
        }
        self.line += 1;
        Ok(Some(line.bytes))
    }

    fn context(&self) -> Context {
        match self.kind {
            MetricType::Summary => Context::SampleOfSummary,
            MetricType::Histogram => Context::SampleOfHistogram,
            _ => Context::Sample,
        }
    }

    fn forgive(&mut self, bad: BadLine) -> Result<(), BadLine> {
        if bad.whole_page || !self.forgiving {
            return Err(bad);
        }
        self.bad.count += 1;
        if self.bad.first.len() < MAX_BAD_LINES_KEPT {
            self.bad.first.push(bad);
        }
        Ok(())
    }

    /// Describes what is wrong at a place in the entry at hand.
    fn bad_line(&self, entry: &[u8], place: usize, what: &str) -> BadLine {
        let (before, found) = entry.split_at(place.min(entry.len()));
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines_before = before.iter().filter(|byte| **byte == b'\n').count() as u64;
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() as u64 + 1;
        let found = found.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let found = String::from_utf8_lossy(&found[..found.len().min(FOUND_BYTES)]);
        let mut text = String::from(what);
        if found.is_empty() {
            text.push_str(", found the end of the line");
        } else {
            text.push_str(", found `");
            let end = found.char_indices().nth(FOUND_CHARS).map_or(found.len(), |(at, _)| at);
            push_shown(&mut text, &found[..end], TEXT_BYTES_MAX);
            text.push('`');
        }
        BadLine { line: self.line + lines_before, column, text, whole_page: false }
    }
}

/// The entry that was read, without its end, if it is one line and nothing more.
fn one_line<'a>(view: &'a [u8], cursor: &Cursor<'_>) -> Option<&'a [u8]> {
    let line = view.get(..cursor.at)?.strip_suffix(b"\n")?;
    (cursor.lines == 1 && !line.contains(&b'\n')).then_some(line)
}

/// Whether all is there that the description of an error quotes, so that it does not depend on the pieces.
fn is_told(stop: &Stop, entry: &[u8]) -> bool {
    match stop {
        Stop::Incomplete => false,
        Stop::Bad { at, .. } => entry.get(*at..).is_some_and(|rest| rest.len() >= FOUND_BYTES || rest.contains(&b'\n')),
    }
}

impl std::fmt::Display for BadLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.text)
    }
}

#[cfg(test)]
mod tests;
