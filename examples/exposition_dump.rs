//! Reads pages from standard input and writes what the parsers make of them to standard output, for
//! `scripts/differential/exposition.sh`. Both are frames: a length of four bytes, little-endian, and so many bytes. A
//! request's first byte is the format (0 text, 1 OpenMetrics), the second a seed for how the page is cut into pieces.

use promwatch::model::MetricType;
use promwatch::scrape::exposition::{Exposition, Format, Refusal, Series, Sink};
use std::io::{self, Read, Write};

struct Dump(Vec<u8>);

impl Dump {
    fn text(&mut self, text: &str) {
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }
}

impl Sink for Dump {
    fn sample(&mut self, series: &Series) -> Result<(), Refusal> {
        let mut labels = vec![("__name__", series.name())];
        labels.extend(series.labels());
        labels.sort_by_key(|(name, _)| *name);
        self.0.push(b'S');
        self.0.extend((labels.len() as u32).to_le_bytes());
        for (name, value) in labels {
            self.text(name);
            self.text(value);
        }
        self.0.extend(series.value.to_bits().to_le_bytes());
        self.0.push(u8::from(series.timestamp_ms.is_some()));
        self.0.extend(series.timestamp_ms.unwrap_or(0).to_le_bytes());
        Ok(())
    }

    fn family(&mut self, name: &str, kind: Option<MetricType>) -> Result<(), Refusal> {
        self.0.push(b'F');
        self.text(name);
        self.text(kind.map_or("", MetricType::as_str));
        Ok(())
    }
}

fn parse(page: &[u8], format: Format, seed: u8) -> Vec<u8> {
    let mut dump = Dump(Vec::new());
    let mut exposition = Exposition::new(format, false);
    let mut seed = u32::from(seed);
    let mut rest = page;
    while !rest.is_empty() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let len = if seed.is_multiple_of(3) { 1 + (seed >> 8) as usize % 7 } else { 1 + (seed >> 8) as usize % 4096 };
        let (piece, after) = rest.split_at(len.min(rest.len()));
        if let Err(bad) = exposition.push(piece, &mut dump) {
            return format!("E{bad}").into_bytes();
        }
        rest = after;
    }
    match exposition.finish(&mut dump) {
        Ok(_) => dump.0,
        Err(bad) => format!("E{bad}").into_bytes(),
    }
}

fn main() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut len = [0; 4];
    while input.read_exact(&mut len).is_ok() {
        let mut frame = vec![0; u32::from_le_bytes(len) as usize];
        input.read_exact(&mut frame)?;
        let [format, seed, page @ ..] = frame.as_slice() else { continue };
        let answer = parse(page, if *format == 0 { Format::Text } else { Format::OpenMetrics }, *seed);
        output.write_all(&(answer.len() as u32).to_le_bytes())?;
        output.write_all(&answer)?;
        output.flush()?;
    }
    Ok(())
}
