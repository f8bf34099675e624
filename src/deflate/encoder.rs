//! One body: known texts and what stands between them become tokens.
//!
//! ```text
//!               the piece goes on like the source
//!            .------------------------------------.
//!            v                                    |
//! none --> open copy ---- the piece differs ----> breaks --> another place goes on longer: open from there
//!  ^  piece written before, or as parsed            |
//!  '------------- copy or literals <----------------'
//! ```
//!
//! The search is for whole calls only. A copy is begun at the newest place of the same text or value; when it breaks, the
//! older places of the call it began with are looked at, and the one that goes on longest takes its place. So a long copy is
//! found without looking at more than a few places for each token, and nothing is hashed but the values between texts.

use super::bits::Bits;
use super::block::{Block, COPY_MAX, COPY_MIN};
use super::texts::{Hint, TEXT_BYTES_MAX, TextId, Texts};

/// A copy reaches so far back.
const WINDOW_BYTES: usize = 32 << 10;
/// Behind the plain text there is room to compare whole words.
const WORD_BYTES: usize = 8;
/// The plain text that is kept: the window, and room for the longest piece.
const KEPT_BYTES: usize = WINDOW_BYTES + TEXT_BYTES_MAX + 1 + WORD_BYTES;
/// What is no text is taken in pieces of so many bytes.
const PIECE_BYTES: usize = WINDOW_BYTES;
/// So many calls are remembered.
const CALLS: usize = 1 << 12;
/// So many places are looked at for a copy that breaks.
const TRIES: usize = 4;
/// A value of so many bytes is given up for a longer copy behind it.
const GIVEN_UP_BYTES: usize = 3;
/// Three bytes from farther away cost more than three literals.
const NEAR_BYTES: usize = 1 << 10;
/// A value of so many bytes may continue as it does behind another text.
const TELLING_BYTES: usize = 4;
const HASH_BITS: u32 = 11;
/// From here on places are counted anew.
const COUNT_MAX: u32 = 1 << 30;

/// A call: where its bytes start, and the one before it with the same bytes, as far as is known.
#[derive(Clone, Copy, Default)]
struct Call {
    place: u32,
    before: u32,
}

/// One body.
///
/// It is made by calls in the order of its bytes; equal calls make equal bytes. [`Self::finish`] leaves the encoder ready for the
/// next body, with the memory of the last one.
pub struct Encoder {
    /// The end of the body so far, `end` bytes.
    plain: Box<[u8; KEPT_BYTES]>,
    end: usize,
    /// Up to here the bytes are in tokens; what follows is an open copy.
    done: usize,
    /// How far back the open copy is; 0: there is none.
    distance: usize,
    /// The call that the open copy began in.
    began: u32,
    /// The place of `plain`'s first byte. It grows over all bodies, so that a place of an earlier one is before it.
    base: u32,
    /// The call that is being taken. It grows over all bodies too.
    call: u32,
    /// The last calls, by the low bits of their numbers.
    calls: Box<[Call; CALLS]>,
    /// By a text's number the last call with it.
    texts: Vec<u32>,
    /// By hash the last call with a value.
    values: Box<[u32; 1 << HASH_BITS]>,
    /// By hash the last place of four bytes in an unknown text.
    places: Box<[u32; 1 << HASH_BITS]>,
    /// The text before a short value is a part of its hash.
    last_text: u32,
    block_start: u32,
    block: Block,
    bits: Bits,
    /// Of the body before `plain`.
    slid_bytes: u64,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An empty body.
    pub fn new() -> Self {
        Self {
            plain: super::zeros(),
            end: 0,
            done: 0,
            distance: 0,
            began: 0,
            base: 1,
            call: 0,
            calls: super::zeros(),
            texts: Vec::new(),
            values: super::zeros(),
            places: super::zeros(),
            last_text: 0,
            block_start: 1,
            block: Block::new(),
            bits: Bits::default(),
            slid_bytes: 0,
        }
    }

    /// Appends a known text.
    pub fn text(&mut self, texts: &Texts, id: TextId) {
        let from = self.append(texts.plain(id));
        let number = id.0 as usize;
        if number >= self.texts.len() {
            self.texts.resize(texts.numbers(), 0);
        }
        let before = std::mem::replace(&mut self.texts[number], self.call);
        self.note(from, before);
        self.last_text = id.0;
        if !self.run_on(from) && !self.begin(before, from) {
            self.parsed(from, texts.hints(id));
        }
    }

    /// Appends what stands between texts: a number, a label's value.
    pub fn bytes(&mut self, plain: &[u8]) {
        for piece in plain.chunks(PIECE_BYTES) {
            let from = self.append(piece);
            let hash = self.hash(from);
            let before = std::mem::replace(&mut self.values[hash], self.call);
            self.note(from, before);
            if !self.run_on(from) && !self.begin(before, from) {
                self.literals(self.end);
            }
        }
    }

    /// Appends a longer text that is not known: it is searched for copies, with one try at each place.
    pub fn unknown(&mut self, plain: &[u8]) {
        for piece in plain.chunks(PIECE_BYTES) {
            let from = self.append(piece);
            self.note(from, 0);
            if !self.run_on(from) {
                self.search();
            }
        }
    }

    /// Appends the body's raw deflate to `out`, and starts the next body.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.close(self.end);
        self.write_block(true);
        self.bits.finish(out);
        // No place of this body is within the next one.
        self.base += self.end as u32 + 1;
        self.end = 0;
        self.done = 0;
        self.last_text = 0;
        self.slid_bytes = 0;
        self.count_anew(COUNT_MAX);
        self.block_start = self.base;
    }

    /// How long the body is so far, in bytes before compression.
    pub fn plain_bytes(&self) -> u64 {
        self.slid_bytes + self.end as u64
    }

    /// Puts a piece behind the plain text and says where it starts. An open copy stays open.
    #[inline]
    fn append(&mut self, piece: &[u8]) -> usize {
        if self.end.wrapping_add(piece.len()) > KEPT_BYTES - WORD_BYTES {
            self.slide();
        }
        let from = self.end;
        let end = from.wrapping_add(piece.len());
        self.plain[from..end].copy_from_slice(piece);
        self.end = end;
        self.call = self.call.wrapping_add(1);
        from
    }

    /// Remembers the call.
    #[inline]
    fn note(&mut self, from: usize, before: u32) {
        self.calls[self.call as usize % CALLS] = Call { place: self.base.wrapping_add(from as u32), before };
    }

    /// Forgets what is before the window.
    #[inline(never)]
    fn slide(&mut self) {
        // What an open copy covers must stay until it is in tokens.
        while self.end - self.done > 2 * COPY_MAX {
            self.push_copy(COPY_MAX);
        }
        let from = self.end.saturating_sub(WINDOW_BYTES);
        self.plain.copy_within(from..self.end, 0);
        self.end -= from;
        self.done -= from;
        self.base += from as u32;
        self.slid_bytes += from as u64;
        // Not between bodies: two more GiB in one.
        self.count_anew(3 * COUNT_MAX);
    }

    /// Keeps places and calls within their 32 bits: beyond, all that was written is as if it had never been.
    fn count_anew(&mut self, max: u32) {
        if self.base.max(self.call) >= max {
            self.base = 1;
            self.call = 0;
            self.began = 0;
            self.block_start = 0;
            self.calls.fill(Call::default());
            self.texts.fill(0);
            self.values.fill(0);
            self.places.fill(0);
        }
    }

    /// Lets the open copy run on through the piece that starts at `from`. True: up to the end, and all is done.
    #[inline]
    fn run_on(&mut self, from: usize) -> bool {
        if self.distance == 0 {
            return from == self.end;
        }
        let len = self.end.wrapping_sub(from);
        let same = self.same(from.wrapping_sub(self.distance), from, len);
        same == len || self.broken(from.wrapping_add(same))
    }

    /// Begins a copy of the rest of the piece that starts at `from`, as it was written by an earlier call. False where it differs.
    #[inline]
    fn begin(&mut self, call: u32, from: usize) -> bool {
        let offset = self.done - from;
        let Some(source) = self.source(self.called(call).place, offset, self.done) else { return false };
        let len = self.end - self.done;
        let all = self.same(source, self.done, len) == len;
        if all {
            self.distance = self.done - source;
            self.began = self.call;
        }
        all
    }

    /// The open copy breaks at `to`. True: another one was found that does not.
    #[inline(never)]
    fn broken(&mut self, mut to: usize) -> bool {
        if self.call.wrapping_sub(self.began) < CALLS as u32 {
            let found = self.longer(self.began, self.done, &mut to);
            let call = self.began + 1;
            if !found && call < self.call {
                // A short value is worth less than a longer copy of what follows.
                let at = self.called(call).place.wrapping_sub(self.base) as usize;
                if at > self.done && at <= self.done + GIVEN_UP_BYTES && at < to {
                    self.longer(call, at, &mut to);
                }
            }
            if to == self.end {
                return true;
            }
        }
        self.close(to);
        false
    }

    /// Whether a copy from `at` on, within the bytes of `call`, can go on for longer than to `to`: then it is open, what is before
    /// it is in tokens, and `to` is its end.
    #[inline]
    fn longer(&mut self, call: u32, at: usize, to: &mut usize) -> bool {
        let Call { place, mut before } = self.called(call);
        // How far into the call's bytes the copy begins.
        let Some(offset) = (self.base + at as u32).checked_sub(place) else { return false };
        let mut found = false;
        for _ in 0..TRIES {
            let earlier = self.called(before);
            let Some(source) = self.source(earlier.place, offset as usize, at) else { break };
            before = earlier.before;
            let behind = source.wrapping_add(to.wrapping_sub(at));
            if self.plain.get(behind) != self.plain.get(*to) {
                continue;
            }
            let end = at + self.same(source, at, self.end - at);
            if end <= *to {
                continue;
            }
            if !found {
                self.literals(at);
                self.began = call;
                found = true;
            }
            *to = end;
            self.distance = at - source;
            if end == self.end {
                break;
            }
        }
        found
    }

    /// A call that is remembered; place 0, which is before every body, for one that is not.
    #[inline]
    fn called(&self, call: u32) -> Call {
        if self.call.wrapping_sub(call) < CALLS as u32 { self.calls[call as usize % CALLS] } else { Call::default() }
    }

    /// Where in `plain` a copy for `at` can start that is `offset` behind a place.
    #[inline]
    fn source(&self, place: u32, offset: usize, at: usize) -> Option<usize> {
        let source = (place.checked_sub(self.base)? as usize).wrapping_add(offset);
        (at.wrapping_sub(source).wrapping_sub(1) < WINDOW_BYTES).then_some(source)
    }

    /// How many of `len` bytes are the same at two places of the plain text.
    #[inline]
    fn same(&self, source: usize, at: usize, len: usize) -> usize {
        let mut same = 0;
        while same < len {
            #[cfg(test)]
            super::tests::COMPARED.set(super::tests::COMPARED.get() + 1);
            let differ = self.word(source.wrapping_add(same)) ^ self.word(at.wrapping_add(same));
            if differ != 0 {
                return len.min(same.wrapping_add((differ.trailing_zeros() / 8) as usize));
            }
            same = same.wrapping_add(WORD_BYTES);
        }
        len
    }

    /// Eight bytes of the plain text; some may be behind its end.
    #[inline]
    fn word(&self, at: usize) -> u64 {
        let word = self.plain.get(at..).and_then(|rest| rest.first_chunk());
        word.map_or(0, |word| u64::from_le_bytes(*word))
    }

    /// The hash of the value from `from` on.
    #[inline]
    fn hash(&self, from: usize) -> usize {
        let len = self.end - from;
        // Of what is behind the end nothing may count.
        let value = if len < WORD_BYTES {
            self.word(from) << (64 - 8 * len as u32)
        } else {
            self.word(from).rotate_left(7) ^ self.word(self.end - WORD_BYTES)
        };
        let before = if len < TELLING_BYTES { self.last_text } else { 0 };
        let mixed = (value ^ u64::from(before)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (64 - HASH_BITS)) as usize
    }

    /// The rest of a text, which starts at `from`, as its parse says.
    fn parsed(&mut self, from: usize, hints: &[Hint]) {
        for hint in hints {
            let begin = from + usize::from(hint.at);
            if begin + usize::from(hint.len) < self.done + COPY_MIN {
                continue;
            }
            let at = begin.max(self.done);
            let Some(&call) = self.texts.get(hint.text as usize) else { continue };
            let place = self.called(call).place;
            let Some(source) = self.source(place, usize::from(hint.offset) + at - begin, at) else { continue };
            if self.copy(source, at) {
                return;
            }
        }
        self.literals(self.end);
    }

    /// The rest of the plain text, with one try at each place.
    fn search(&mut self) {
        let mut at = self.done;
        while let Some(four) = self.plain[at..self.end].first_chunk() {
            let hash = (u32::from_le_bytes(*four).wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize;
            let place = std::mem::replace(&mut self.places[hash], self.base + at as u32);
            if self.source(place, 0, at).is_some_and(|source| self.copy(source, at)) {
                return;
            }
            at = self.done.max(at + 1);
        }
        self.literals(self.end);
    }

    /// Copies from `at` on what is the same behind `source`, and takes what is before it as it is. True: that is everything up to the
    /// end, and the copy is open.
    fn copy(&mut self, source: usize, at: usize) -> bool {
        let len = self.end - at;
        let same = self.same(source, at, len);
        if same < COPY_MIN {
            return false;
        }
        self.literals(at);
        self.distance = at - source;
        self.began = self.call;
        if same < len {
            self.close(at + same);
        }
        same == len
    }

    /// Ends the open copy, if there is one, before `to`. What is not worth a copy becomes literals.
    #[inline]
    fn close(&mut self, to: usize) {
        if self.distance == 0 {
            return;
        }
        while to - self.done > COPY_MAX {
            // The last one is long enough.
            self.push_copy(COPY_MAX.min(to - self.done - COPY_MIN));
        }
        let len = to - self.done;
        if len > COPY_MIN || len == COPY_MIN && self.distance <= NEAR_BYTES {
            self.push_copy(len);
        } else {
            self.literals(to);
        }
        self.distance = 0;
    }

    #[inline]
    fn push_copy(&mut self, len: usize) {
        self.block.copy(len, self.distance);
        self.done += len;
        if self.block.room() == 0 {
            self.write_block(false);
        }
    }

    /// Takes the bytes up to `to` as they are.
    #[inline]
    fn literals(&mut self, to: usize) {
        while self.done < to {
            let some = to.min(self.done + self.block.room());
            self.block.literals(&self.plain[self.done..some]);
            self.done = some;
            if self.block.room() == 0 {
                self.write_block(false);
            }
        }
    }

    #[inline(never)]
    fn write_block(&mut self, last: bool) {
        let start = self.block_start.checked_sub(self.base).map(|start| start as usize);
        let plain = start.and_then(|start| self.plain.get(start..self.done));
        self.block.write(&mut self.bits, plain, last);
        self.block_start = self.base + self.done as u32;
    }
}
