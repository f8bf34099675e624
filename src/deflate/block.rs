//! A block: tokens and their counts, and the smallest of the three ways to write them (RFC 1951, section 3.2.3).

use super::bits::{Bits, Room};
use super::huffman::{self, BITS_MAX, SYMBOLS_MAX};

/// A block ends behind so many tokens.
pub(super) const TOKENS_MAX: usize = 16 << 10;
/// The longest copy.
pub(super) const COPY_MAX: usize = 258;
/// The shortest copy.
pub(super) const COPY_MIN: usize = 3;

const LITERALS: usize = SYMBOLS_MAX;
const DISTANCES: usize = 30;
const END: usize = 256;
/// A stored block has at most so many bytes.
const STORED_MAX: usize = 0xffff;
/// The code of code lengths: repeat the last one, 3 to 10 zeros, 11 to 138 zeros.
const REPEAT: u8 = 16;
const FEW_ZEROS: u8 = 17;
const MANY_ZEROS: u8 = 18;
const HEADER_SYMBOLS: usize = 19;
/// The order in which the header gives the lengths of its own code.
const HEADER_ORDER: [u8; HEADER_SYMBOLS] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// A token's low 9 bits: a literal's byte, or 256 and a copy's length less 3. Above them for a copy 5 bits of the distance's
/// symbol and 13 bits that are written behind its code.
type Token = u32;
const COPY: Token = 256;
const SYMBOL_AT: u32 = 9;
const EXTRA_AT: u32 = 14;

/// Tokens that are not written yet, and how often each comes.
pub(super) struct Block {
    tokens: Box<[Token; TOKENS_MAX]>,
    len: usize,
    /// By a token's low 9 bits.
    counts: [u32; 512],
    distances: [u32; 32],
}

/// The codes of one block.
struct Codes {
    literals: [u8; LITERALS],
    distances: [u8; DISTANCES],
}

/// The header of a block with codes of its own.
struct Header {
    literals: usize,
    distances: usize,
    /// Lengths and repeats in the order of writing: a symbol and the bits behind it.
    runs: Vec<(u8, u8)>,
    lengths: [u8; HEADER_SYMBOLS],
    /// How many of [`HEADER_ORDER`] are written.
    given: usize,
}

impl Block {
    pub(super) fn new() -> Self {
        Self { tokens: super::zeros(), len: 0, counts: [0; 512], distances: [0; 32] }
    }

    /// How many more tokens it takes.
    #[inline]
    pub(super) fn room(&self) -> usize {
        TOKENS_MAX - self.len
    }

    /// Takes literals; there is room for them.
    #[inline]
    pub(super) fn literals(&mut self, plain: &[u8]) {
        for (token, &byte) in self.tokens[self.len..].iter_mut().zip(plain) {
            *token = Token::from(byte);
            let count = &mut self.counts[usize::from(byte)];
            *count = count.wrapping_add(1);
        }
        self.len += plain.len();
    }

    /// Takes a copy of 3 to 258 bytes from 1 to 32,768 bytes back; there is room for it.
    #[inline]
    pub(super) fn copy(&mut self, len: usize, distance: usize) {
        let length = COPY | (len - COPY_MIN) as Token & 0xff;
        let (symbol, extra, _) = distance_symbol(distance as u32);
        self.counts[length as usize & 511] += 1;
        self.distances[symbol as usize & 31] += 1;
        self.tokens[self.len] = length | symbol << SYMBOL_AT | extra << EXTRA_AT;
        self.len += 1;
    }

    /// Writes the block in the smallest way and is empty again. `plain` is what it stands for, where that is still known.
    pub(super) fn write(&mut self, bits: &mut Bits, plain: Option<&[u8]>, last: bool) {
        let (literals, extra_bits) = self.symbols();
        let mut own = Codes { literals: [0; LITERALS], distances: [0; DISTANCES] };
        huffman::lengths(&literals, BITS_MAX, &mut own.literals);
        huffman::lengths(&self.distances[..DISTANCES], BITS_MAX, &mut own.distances);
        let header = Header::new(&own);

        let body = |codes: &Codes| codes.bits(&literals, &self.distances) + extra_bits;
        let fixed = Codes::fixed();
        let (own_bits, fixed_bits) = (header.bits() + body(&own), body(&fixed));
        let smaller = own_bits.min(fixed_bits) + 3;
        if let Some(plain) = plain.filter(|plain| stored_bits(plain.len(), bits) <= smaller) {
            write_stored(bits, plain, last);
        } else {
            let mut room = bits.room(smaller);
            room.put(u32::from(last), 1);
            if fixed_bits <= own_bits {
                room.put(1, 2);
                self.write_tokens(room, &fixed);
            } else {
                room.put(2, 2);
                header.write(&mut room);
                self.write_tokens(room, &own);
            }
        }
        self.len = 0;
        self.counts = [0; 512];
        self.distances = [0; 32];
    }

    /// The counts by symbol, the end of the block included, and how many bits are written behind the codes.
    fn symbols(&self) -> ([u32; LITERALS], u64) {
        let mut literals = [0; LITERALS];
        literals[..END].copy_from_slice(&self.counts[..END]);
        literals[END] = 1;
        let mut extra_bits = 0;
        for (less, &count) in self.counts[COPY as usize..].iter().enumerate() {
            let (symbol, _, extra) = length_symbol(less as u32);
            literals[symbol as usize] += count;
            extra_bits += u64::from(count) * u64::from(extra);
        }
        for (symbol, &count) in self.distances.iter().enumerate() {
            extra_bits += u64::from(count) * u64::from(extra_of_distance(symbol as u32));
        }
        (literals, extra_bits)
    }

    fn write_tokens(&self, mut room: Room<'_>, lengths: &Codes) {
        // By a token's low 9 bits: what is written, and from bit 24 on how many bits that are.
        let mut first = [0u32; 512];
        let mut codes = [0; LITERALS];
        huffman::codes(&lengths.literals, &mut codes);
        for (entry, (&code, &length)) in first.iter_mut().zip(codes.iter().zip(&lengths.literals)).take(END) {
            *entry = u32::from(code) | u32::from(length) << 24;
        }
        for (less, entry) in first[COPY as usize..].iter_mut().enumerate() {
            let (symbol, value, extra) = length_symbol(less as u32);
            let length = u32::from(lengths.literals[symbol as usize]);
            *entry = u32::from(codes[symbol as usize]) | value << length | (length + extra) << 24;
        }
        // The same for distances, with the code's own length from bit 16 on.
        let mut second = [0u32; 32];
        let mut distances = [0; DISTANCES];
        huffman::codes(&lengths.distances, &mut distances);
        for (symbol, (&code, &length)) in distances.iter().zip(&lengths.distances).enumerate() {
            let all = u32::from(length) + extra_of_distance(symbol as u32);
            second[symbol] = u32::from(code) | u32::from(length) << 16 | all << 24;
        }

        for &token in &self.tokens[..self.len] {
            let entry = first[token as usize & 511];
            room.put(entry & 0xff_ffff, entry >> 24);
            if token & COPY != 0 {
                let entry = second[(token >> SYMBOL_AT) as usize & 31];
                room.put(entry & 0xffff | (token >> EXTRA_AT) << (entry >> 16 & 31), entry >> 24);
            }
        }
        room.put(u32::from(codes[END]), u32::from(lengths.literals[END]));
        room.close();
    }
}

impl Codes {
    /// Those that every inflater knows (section 3.2.6).
    fn fixed() -> Self {
        let mut literals = [8; LITERALS];
        literals[144..256].fill(9);
        literals[256..280].fill(7);
        Self { literals, distances: [5; DISTANCES] }
    }

    fn bits(&self, literals: &[u32], distances: &[u32]) -> u64 {
        let sum = |counts: &[u32], lengths: &[u8]| -> u64 {
            counts.iter().zip(lengths).map(|(&count, &length)| u64::from(count) * u64::from(length)).sum()
        };
        sum(literals, &self.literals) + sum(distances, &self.distances)
    }
}

impl Header {
    fn new(codes: &Codes) -> Self {
        let used = |lengths: &[u8]| lengths.iter().rposition(|&length| length > 0).map_or(0, |last| last + 1);
        let (literals, distances) = (used(&codes.literals).max(257), used(&codes.distances).max(1));
        let mut all = [0; LITERALS + DISTANCES];
        all[..literals].copy_from_slice(&codes.literals[..literals]);
        all[literals..literals + distances].copy_from_slice(&codes.distances[..distances]);

        let mut runs = Vec::with_capacity(LITERALS + DISTANCES);
        for run in all[..literals + distances].chunk_by(|a, b| a == b) {
            let (length, mut left) = (run[0], run.len());
            if length > 0 {
                runs.push((length, 0));
                left -= 1;
            }
            while left > 0 {
                let (symbol, base, most) = match (length, left) {
                    (_, ..3) => (length, 1, 1),
                    (0, ..11) => (FEW_ZEROS, 3, 10),
                    (0, _) => (MANY_ZEROS, 11, 138),
                    _ => (REPEAT, 3, 6),
                };
                let taken = left.min(most);
                runs.push((symbol, (taken - base) as u8));
                left -= taken;
            }
        }
        let mut counts = [0; HEADER_SYMBOLS];
        for (symbol, _) in &runs {
            counts[usize::from(*symbol)] += 1;
        }
        let mut lengths = [0; HEADER_SYMBOLS];
        huffman::lengths(&counts, 7, &mut lengths);
        let given =
            HEADER_ORDER.iter().rposition(|&symbol| lengths[usize::from(symbol)] > 0).map_or(0, |last| last + 1);
        Self { literals, distances, runs, lengths, given: given.max(4) }
    }

    /// Bits behind a run's symbol.
    fn extra(symbol: u8) -> u32 {
        match symbol {
            REPEAT => 2,
            FEW_ZEROS => 3,
            MANY_ZEROS => 7,
            _ => 0,
        }
    }

    fn bits(&self) -> u64 {
        let run =
            |&(symbol, _): &(u8, u8)| u64::from(u32::from(self.lengths[usize::from(symbol)]) + Self::extra(symbol));
        5 + 5 + 4 + 3 * self.given as u64 + self.runs.iter().map(run).sum::<u64>()
    }

    fn write(&self, room: &mut Room<'_>) {
        room.put(self.literals as u32 - 257, 5);
        room.put(self.distances as u32 - 1, 5);
        room.put(self.given as u32 - 4, 4);
        for &symbol in &HEADER_ORDER[..self.given] {
            room.put(u32::from(self.lengths[usize::from(symbol)]), 3);
        }
        let mut codes = [0; HEADER_SYMBOLS];
        huffman::codes(&self.lengths, &mut codes);
        for &(symbol, behind) in &self.runs {
            room.put(u32::from(codes[usize::from(symbol)]), u32::from(self.lengths[usize::from(symbol)]));
            room.put(u32::from(behind), Self::extra(symbol));
        }
    }
}

/// How many bits stored blocks of so many bytes take.
fn stored_bits(plain_bytes: usize, bits: &Bits) -> u64 {
    // Behind the first block's three bits a byte is filled up; the others start with a byte of their own.
    let blocks = plain_bytes.div_ceil(STORED_MAX).max(1) as u64;
    let filled = 3 + (bits.missing().wrapping_sub(3) & 7);
    u64::from(filled) + 32 + (blocks - 1) * 40 + 8 * plain_bytes as u64
}

fn write_stored(bits: &mut Bits, plain: &[u8], last: bool) {
    let mut rest = plain;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(STORED_MAX));
        rest = after;
        let mut room = bits.room(3);
        room.put(u32::from(last && rest.is_empty()), 3);
        room.close();
        let len = piece.len() as u16;
        bits.bytes(&len.to_le_bytes());
        bits.bytes(&(!len).to_le_bytes());
        bits.bytes(piece);
        if rest.is_empty() {
            return;
        }
    }
}

/// A distance's symbol, the bits behind it, and how many these are (section 3.2.5).
#[inline]
fn distance_symbol(distance: u32) -> (u32, u32, u32) {
    let less = distance - 1;
    if less < 4 {
        return (less, 0, 0);
    }
    let extra = 30 - less.leading_zeros();
    (2 * extra + 2 + (less >> extra & 1), less & ((1 << extra) - 1), extra)
}

fn extra_of_distance(symbol: u32) -> u32 {
    (symbol / 2).saturating_sub(1)
}

/// The same for a length less 3.
fn length_symbol(less: u32) -> (u32, u32, u32) {
    match less {
        0..8 => (257 + less, 0, 0),
        255 => (285, 0, 0),
        _ => {
            let extra = 29 - less.leading_zeros();
            (257 + 4 * extra + (less >> extra), less & ((1 << extra) - 1), extra)
        }
    }
}
