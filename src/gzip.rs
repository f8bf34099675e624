//! gzip (RFC 1952): the frame of bodies that are sent, whose deflate is `deflate`'s, and answers as they come in, inflated by the
//! `flate2` crate.
//!
//! `flate2` has gzip too, with a checksum whose tables take 16 kB and readers and writers for more uses than these two: some
//! 25 kB of the binary.
//!
//! Refuses: names, comments and times of the header, which are passed over. An answer may be several members, one after the
//! other, as in Go; anything else behind a member is an error, as there.

use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};
use flate2::{Decompress, FlushDecompress, Status};

static CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
const HEADER_BYTES: usize = 10;
const TRAILER_BYTES: usize = 8;
/// Decompressed bytes are handed on in pieces of at most this size.
const PIECE_BYTES: usize = 32 << 10;

/// What stands before a body's deflate stream: no flags, no time, no hint of the level, an unknown system.
pub fn header() -> Vec<u8> {
    let mut out = Vec::from(MAGIC);
    out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 255]);
    out
}

/// What stands behind a body's deflate stream: the checksum and the length of what was compressed.
pub struct Checksum {
    crc: Digest<'static, u32, Table<1>>,
    plain_bytes: u32,
}

impl Default for Checksum {
    fn default() -> Self {
        Self { crc: CRC32.digest(), plain_bytes: 0 }
    }
}

impl Checksum {
    /// The next bytes of what is compressed.
    pub fn update(&mut self, plain: &[u8]) {
        self.crc.update(plain);
        // The length is kept modulo 2^32 (section 2.3.1).
        self.plain_bytes = self.plain_bytes.wrapping_add(plain.len() as u32);
    }

    /// Appends it.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.crc.finalize().to_le_bytes());
        out.extend_from_slice(&self.plain_bytes.to_le_bytes());
    }
}

/// Decompresses a whole body; what is no such gives what can be read of it.
pub fn decode(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut keep = |piece: &[u8]| -> Result<(), ()> {
        plain.extend_from_slice(piece);
        Ok(())
    };
    let _ = Decoder::new().push(body, &mut keep);
    plain
}

/// Why decompression ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken<E> {
    /// Whoever took the bytes wants no more.
    Refused(E),
    /// It is not gzip, or damaged; for people.
    Damaged(&'static str),
}

/// Decompresses what comes in pieces.
pub struct Decoder {
    inflate: Decompress,
    step: Step,
    /// Bytes of the field that is being read.
    field: [u8; HEADER_BYTES],
    filled: usize,
    flags: u8,
    extra_bytes: u16,
    /// Of the header, then of the decompressed bytes.
    crc: Digest<'static, u32, Table<1>>,
    plain_bytes: u32,
    /// Room for a piece, and how much of it was filled last.
    piece: Vec<u8>,
    filled_bytes: usize,
}

/// What the next byte belongs to, in the order of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Header,
    ExtraLength,
    Extra,
    Name,
    Comment,
    HeaderCrc,
    Deflate,
    Trailer,
}

impl Decoder {
    /// At the start of a body.
    pub fn new() -> Self {
        Self {
            inflate: Decompress::new(false),
            step: Step::Header,
            field: [0; HEADER_BYTES],
            filled: 0,
            flags: 0,
            extra_bytes: 0,
            crc: CRC32.digest(),
            plain_bytes: 0,
            piece: vec![0; PIECE_BYTES],
            filled_bytes: 0,
        }
    }

    /// Takes the next piece and hands on what it decompresses to.
    ///
    /// # Errors
    /// Nothing more is to be pushed.
    pub fn push<E>(&mut self, mut input: &[u8], sink: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), Broken<E>> {
        loop {
            if self.step == Step::Deflate {
                let more = self.inflate_piece(&mut input).map_err(Broken::Damaged)?;
                if self.filled_bytes > 0 {
                    sink(&self.piece[..self.filled_bytes]).map_err(Broken::Refused)?;
                }
                if more {
                    continue;
                }
            }
            if self.step != Step::Deflate
                && let Some((&byte, rest)) = input.split_first()
            {
                input = rest;
                self.take(byte).map_err(Broken::Damaged)?;
            } else if input.is_empty() {
                return Ok(());
            }
        }
    }

    /// The body is complete.
    ///
    /// # Errors
    /// It is not.
    pub fn finish(&self) -> Result<(), &'static str> {
        match self.step == Step::Header && self.filled == 0 {
            true => Ok(()),
            false => Err("the body is cut short"),
        }
    }

    /// Decompresses up to a piece. True: there may be more without further input.
    fn inflate_piece(&mut self, input: &mut &[u8]) -> Result<bool, &'static str> {
        let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
        self.filled_bytes = 0;
        // Not into a vector's spare room: that would be filled with zeros each time.
        let status = self.inflate.decompress(input, &mut self.piece, FlushDecompress::None);
        let status = status.map_err(|_| "the compressed data is damaged")?;
        let used = (self.inflate.total_in() - read) as usize;
        self.filled_bytes = (self.inflate.total_out() - written) as usize;
        *input = input.get(used..).unwrap_or_default();
        let piece = &self.piece[..self.filled_bytes];
        self.crc.update(piece);
        self.plain_bytes = self.plain_bytes.wrapping_add(piece.len() as u32);
        if status == Status::StreamEnd {
            self.step = Step::Trailer;
            return Ok(false);
        }
        if used == 0 && self.filled_bytes == 0 && !input.is_empty() {
            return Err("the compressed data is damaged");
        }
        Ok(!input.is_empty() || self.filled_bytes == self.piece.len())
    }

    /// Takes a byte of header or trailer.
    fn take(&mut self, byte: u8) -> Result<(), &'static str> {
        if self.step < Step::HeaderCrc {
            self.crc.update(&[byte]);
        }
        let whole = match self.step {
            Step::Name | Step::Comment => byte == 0,
            Step::Extra => {
                self.extra_bytes -= 1;
                self.extra_bytes == 0
            }
            _ => {
                self.field[self.filled] = byte;
                self.filled += 1;
                let wanted = match self.step {
                    Step::Header => HEADER_BYTES,
                    Step::Trailer => TRAILER_BYTES,
                    _ => 2,
                };
                self.filled == wanted
            }
        };
        if whole {
            self.filled = 0;
            self.end_step()?;
        }
        Ok(())
    }

    fn end_step(&mut self) -> Result<(), &'static str> {
        let [a, b, c, d, e, f, g, h, ..] = self.field;
        match self.step {
            Step::Header => {
                // The upper flags are reserved and must be zero (section 2.3.1.2).
                if [a, b, c] != MAGIC || d & 0xe0 != 0 {
                    return Err("the header is not gzip's");
                }
                self.flags = d;
            }
            Step::ExtraLength => self.extra_bytes = u16::from_le_bytes([a, b]),
            Step::HeaderCrc if self.crc.clone().finalize() as u16 != u16::from_le_bytes([a, b]) => {
                return Err("the header is damaged");
            }
            Step::Trailer => {
                let crc = std::mem::replace(&mut self.crc, CRC32.digest()).finalize();
                if [crc, self.plain_bytes] != [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])] {
                    return Err("the checksum does not match");
                }
                self.step = Step::Header;
                return Ok(());
            }
            _ => {}
        }
        self.step = match self.step {
            Step::Header if self.flags & 4 != 0 => Step::ExtraLength,
            Step::ExtraLength if self.extra_bytes > 0 => Step::Extra,
            step if step < Step::Name && self.flags & 8 != 0 => Step::Name,
            step if step < Step::Comment && self.flags & 16 != 0 => Step::Comment,
            step if step < Step::HeaderCrc && self.flags & 2 != 0 => Step::HeaderCrc,
            _ => Step::Deflate,
        };
        if self.step == Step::Deflate {
            self.crc = CRC32.digest();
            self.plain_bytes = 0;
            self.inflate.reset(false);
        }
        Ok(())
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::Encoder;
    use flate2::read::GzDecoder;
    use flate2::write::GzEncoder;
    use flate2::{Compression, GzBuilder};
    use std::io::{Read, Write};

    fn text(bytes: usize) -> Vec<u8> {
        let mut seed = 1u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"abc 0123\n"[(seed >> 24) as usize % 9]
        };
        (0..bytes).map(|_| next()).collect()
    }

    fn encoded(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut encoder, mut checksum, mut body) = (Encoder::new(), Checksum::default(), header());
        for piece in pieces {
            encoder.unknown(piece);
            checksum.update(piece);
        }
        encoder.finish(&mut body);
        checksum.finish(&mut body);
        body
    }

    fn decoded(body: &[u8], piece_bytes: usize) -> Result<Vec<u8>, &'static str> {
        let (mut decoder, mut plain) = (Decoder::new(), Vec::new());
        for piece in body.chunks(piece_bytes) {
            let mut keep = |piece: &[u8]| -> Result<(), ()> {
                assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES);
                plain.extend_from_slice(piece);
                Ok(())
            };
            match decoder.push(piece, &mut keep) {
                Ok(()) => {}
                Err(Broken::Damaged(text)) => return Err(text),
                Err(Broken::Refused(())) => unreachable!("nothing is refused"),
            }
        }
        decoder.finish().map(|()| plain)
    }

    #[test]
    fn what_is_written_is_read_by_flate2_and_by_us() {
        for bytes in [0, 1, 100, 32 << 10, (32 << 10) + 1, 300_000] {
            let plain = text(bytes);
            for piece_bytes in [1000, 1 << 20] {
                let body = encoded(&plain.chunks(piece_bytes).collect::<Vec<_>>());
                let mut theirs = Vec::new();
                GzDecoder::new(&body[..]).read_to_end(&mut theirs).unwrap();
                assert!(theirs == plain, "{bytes}");
                assert!(decode(&body) == plain, "{bytes}");
                assert!(bytes < 1000 || body.len() < bytes / 2);
            }
        }
    }

    #[test]
    fn every_header_and_several_members_are_read_in_any_pieces() {
        let plain = text(100_000);
        let mut body = Vec::new();
        for builder in [
            GzBuilder::new(),
            GzBuilder::new().filename("name").comment("comment").extra(vec![1; 300]).mtime(7),
            GzBuilder::new().extra(Vec::new()).comment("c"),
        ] {
            let mut encoder = builder.write(Vec::new(), Compression::new(9));
            encoder.write_all(&plain).unwrap();
            body.extend(encoder.finish().unwrap());
        }
        // An empty member, and one with a checksum of its header.
        body.extend(GzEncoder::new(Vec::new(), Compression::none()).finish().unwrap());
        let mut checked = encoded(&[]);
        checked[3] = 2;
        let crc = CRC32.checksum(&checked[..HEADER_BYTES]) as u16;
        checked.splice(HEADER_BYTES..HEADER_BYTES, crc.to_le_bytes());
        body.extend(checked);
        let want = [&plain[..], &plain, &plain].concat();
        for piece_bytes in [1, 2, 7, 1000, usize::MAX] {
            assert!(decoded(&body, piece_bytes).as_deref() == Ok(&want[..]), "{piece_bytes}");
        }
    }

    #[test]
    fn every_cut_and_every_changed_byte_that_matters_is_noticed() {
        let plain = text(500);
        let body = encoded(&[&plain]);
        for at in 1..body.len() {
            assert_eq!(decoded(&body[..at], 64), Err("the body is cut short"), "cut at {at}");
        }
        // Time, hint and system of the header mean nothing, nor do the bits that fill the last byte of the compressed data.
        for at in (0..4).chain(HEADER_BYTES..body.len()) {
            let mut bad = body.clone();
            bad[at] ^= 0x20;
            let filling = at + TRAILER_BYTES + 1 == body.len();
            assert!(decoded(&bad, 64).map_or(true, |read| filling && read == plain), "changed at {at}");
        }
        assert_eq!(decoded(&[&body[..], b"x"].concat(), 64), Err("the body is cut short"));
        assert_eq!(decoded(&[&body[..], b"0123456789"].concat(), 64), Err("the header is not gzip's"));
    }

    #[test]
    fn whoever_takes_the_bytes_ends_it() {
        let mut pieces = 0;
        let ended = Decoder::new().push(&encoded(&[&vec![b' '; 1 << 20]]), &mut |_| {
            pieces += 1;
            if pieces < 3 { Ok(()) } else { Err("enough") }
        });
        assert_eq!((ended, pieces), (Err(Broken::Refused("enough")), 3));
    }
}
