//! A place in the bytes at hand, and the scanning that both formats share.
//!
//! Prometheus' lexers are generated; some of their habits are visible from outside and kept here. A NUL byte ends a token
//! like the end of the page does, but inside comments, help texts and label values it is passed over: see
//! [`Cursor::pass`]. (Source: `next` in promparse.go and openmetricsparse.go, the rules in promlex.l and openmetricslex.l,
//! Prometheus 3.0.1.)

/// Why an entry could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bytes at hand end before the entry does.
    Incomplete,
    /// The entry is wrong at this place.
    Bad {
        /// Offset from the entry's start.
        at: usize,
        /// What is wrong, to be followed by what was found there.
        what: &'static str,
    },
}

pub(super) struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    /// Nothing follows the bytes.
    pub ends: bool,
    /// Line ends passed so far; not kept after a [`Stop`].
    pub lines: u64,
}

/// How a quoted text is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quoted {
    /// A name: NUL is an error, a new line is not.
    Name,
    /// A label value: NUL is passed over, a new line is fine.
    Value,
    /// A label value of OpenMetrics: NUL is passed over, a new line is an error.
    ValueOnOneLine,
    /// A label value of an exemplar: NUL and new lines are errors.
    Exemplar,
}

impl Cursor<'_> {
    /// The byte here. The end of the page reads as NUL, as in Prometheus' lexers.
    pub fn peek(&self) -> Result<u8, Stop> {
        match self.bytes.get(self.at) {
            Some(byte) => Ok(*byte),
            None if self.ends => Ok(0),
            None => Err(Stop::Incomplete),
        }
    }

    /// Goes one byte on and passes over NULs there.
    pub fn pass(&mut self) {
        self.at += 1;
        while self.bytes.get(self.at) == Some(&0) {
            self.at += 1;
        }
    }

    pub fn bad<T>(&self, what: &'static str) -> Result<T, Stop> {
        Err(Stop::Bad { at: self.at, what })
    }

    pub fn skip_blanks(&mut self) -> Result<u8, Stop> {
        loop {
            match self.peek()? {
                b' ' | b'\t' => self.at += 1,
                byte => return Ok(byte),
            }
        }
    }

    /// Goes on while the bytes are of the kind. Says how the run ends; the end of the page is NUL.
    pub fn skip_while(&mut self, of_kind: fn(u8) -> bool) -> Result<u8, Stop> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|byte| !of_kind(*byte)).unwrap_or(rest.len());
        self.peek()
    }

    /// Reads a quoted text, the cursor being on its first quote; ends behind the last one. The text's place includes both
    /// quotes, and in a value the NULs that follow it.
    pub fn quoted(&mut self, how: Quoted) -> Result<(usize, usize), Stop> {
        let start = self.at;
        let nul_passes = matches!(how, Quoted::Value | Quoted::ValueOnOneLine);
        let line_passes = matches!(how, Quoted::Name | Quoted::Value);
        let mut escaped = false;
        self.at += 1;
        loop {
            match self.peek()? {
                // The end of the page, too; and a NUL straight after the first quote is passed over like the others.
                0 if !nul_passes || self.at >= self.bytes.len() => {
                    return Err(Stop::Bad { at: start, what: "a quote that is not closed" });
                }
                0 => {
                    self.at += 1;
                    continue;
                }
                b'\n' if escaped || !line_passes => return self.bad("a line end within quotes"),
                b'\n' => self.lines += 1,
                b'\\' if !escaped => {
                    escaped = true;
                    self.at += 1;
                    continue;
                }
                b'"' if !escaped => {
                    if !nul_passes {
                        self.at += 1;
                        return Ok((start, self.at));
                    }
                    self.pass();
                    self.peek()?;
                    return Ok((start, self.at));
                }
                _ => {}
            }
            escaped = false;
            self.at += 1;
        }
    }
}

pub(super) fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte == b':'
}

pub(super) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':'
}

pub(super) fn is_label_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

pub(super) fn is_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
