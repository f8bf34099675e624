//! One line's series and sample, decoded.

use super::cursor::Stop;
use super::number;
use crate::model::MetricType;

/// The series and the sample of one entry, decoded; used again for the next one.
#[derive(Default)]
pub struct Series {
    text: String,
    name: Option<(u32, u32)>,
    labels: Vec<Place>,
    /// Where the series ends in its entry.
    pub(super) end: usize,
    /// The sample's value.
    pub value: f64,
    /// The exposition's time stamp, milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

struct Place {
    start: u32,
    middle: u32,
    end: u32,
}

impl Series {
    /// The metric's name, which may be empty.
    pub fn name(&self) -> &str {
        self.name.map_or("", |(start, end)| &self.text[start as usize..end as usize])
    }

    /// Names and values of the labels as they stand on the page: unsorted, repeated names and empty values included.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|place| {
            let (start, middle, end) = (place.start as usize, place.middle as usize, place.end as usize);
            (&self.text[start..middle], &self.text[middle..end])
        })
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.name = None;
        self.labels.clear();
        self.timestamp_ms = None;
    }

    pub(super) fn is_named(&self) -> bool {
        self.name.is_some()
    }

    pub(super) fn set_name(&mut self, bytes: &[u8], at: usize) -> Result<(), Stop> {
        let start = self.end();
        self.append(bytes, at)?;
        self.name = Some((start, self.end()));
        Ok(())
    }

    pub(super) fn push_label_name(&mut self, bytes: &[u8], at: usize) -> Result<(), Stop> {
        let start = self.end();
        self.append(bytes, at)?;
        let end = self.end();
        self.labels.push(Place { start, middle: end, end });
        Ok(())
    }

    /// The value of the label that was pushed last. The numbers in `le` and `quantile` are put into OpenMetrics' form when
    /// the latest TYPE line, whatever its family, says histogram or summary (`normalizeFloatsInLabelValues` in
    /// openmetricsparse.go).
    pub(super) fn push_label_value(&mut self, bytes: &[u8], at: usize, kind: MetricType) -> Result<(), Stop> {
        self.append(bytes, at)?;
        let end = self.text.len();
        let Some(place) = self.labels.last_mut() else { return Ok(()) };
        let numeric = match kind {
            MetricType::Summary => "quantile",
            MetricType::Histogram => "le",
            _ => "",
        };
        let middle = place.middle as usize;
        if !numeric.is_empty()
            && &self.text[place.start as usize..middle] == numeric
            && let Some(value) = number::parse_label(&self.text[middle..end])
        {
            self.text.truncate(middle);
            self.text.push_str(&number::canonical(value));
        }
        place.end = self.text.len() as u32;
        Ok(())
    }

    /// Appends the bytes with `\\`, `\"` and `\n` replaced; a backslash before anything else stays.
    fn append(&mut self, bytes: &[u8], at: usize) -> Result<(), Stop> {
        let Ok(text) = std::str::from_utf8(bytes) else { return Err(Stop::Bad { at, what: "not UTF-8" }) };
        let mut rest = text;
        while let Some(backslash) = rest.find('\\') {
            let (before, escape) = rest.split_at(backslash);
            self.text.push_str(before);
            let replaced = match escape.as_bytes().get(1) {
                Some(b'\\') => '\\',
                Some(b'"') => '"',
                Some(b'n') => '\n',
                _ => {
                    self.text.push('\\');
                    rest = &escape[1..];
                    continue;
                }
            };
            self.text.push(replaced);
            rest = &escape[2..];
        }
        self.text.push_str(rest);
        Ok(())
    }

    /// Entries are at most [`super::MAX_ENTRY_BYTES`] long, and no replacement but that of a number is longer than what
    /// it replaces.
    fn end(&self) -> u32 {
        self.text.len() as u32
    }
}
