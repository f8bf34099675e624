//! Bits into bytes, the first bit lowest (RFC 1951, section 3.1.1).

/// Room behind the last bit, so that whole words can be written.
const SLACK_BYTES: usize = 8;

/// What has been written of a body, to the bit.
#[derive(Default)]
pub(super) struct Bits {
    out: Vec<u8>,
    /// Bits that are no whole byte yet, the first one lowest.
    hold: u64,
    held: u32,
}

/// Room for some bits.
pub(super) struct Room<'a> {
    bits: &'a mut Bits,
    at: usize,
    hold: u64,
    held: u32,
}

impl Bits {
    /// Makes room for so many bits.
    pub(super) fn room(&mut self, bits: u64) -> Room<'_> {
        let at = self.out.len();
        self.out.resize(at + (bits / 8) as usize + 1 + SLACK_BYTES, 0);
        Room { at, hold: self.hold, held: self.held, bits: self }
    }

    /// Whole bytes; the last one before them is filled up.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if self.held > 0 {
            self.out.push(self.hold as u8);
            (self.hold, self.held) = (0, 0);
        }
        self.out.extend_from_slice(bytes);
    }

    /// How many bits the last byte lacks.
    pub(super) fn missing(&self) -> u32 {
        self.held.wrapping_neg() & 7
    }

    /// Hands over everything, filled up to a whole byte, and is empty again.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.bytes(&[]);
        out.extend_from_slice(&self.out);
        self.out.clear();
    }
}

impl Room<'_> {
    /// Puts at most 32 bits, of which those above `count` are 0.
    #[inline]
    pub(super) fn put(&mut self, bits: u32, count: u32) {
        self.hold |= u64::from(bits) << (self.held & 63);
        self.held = self.held.wrapping_add(count);
        if self.held >= 32 {
            if let Some(word) = self.bits.out.get_mut(self.at..).and_then(|rest| rest.first_chunk_mut()) {
                *word = (self.hold as u32).to_le_bytes();
            }
            self.at = self.at.wrapping_add(4);
            self.hold >>= 32;
            self.held = self.held.wrapping_sub(32);
        }
    }

    /// The room is given back; whole bytes are written.
    pub(super) fn close(mut self) {
        while self.held >= 8 {
            self.bits.out[self.at] = self.hold as u8;
            self.at += 1;
            self.hold >>= 8;
            self.held -= 8;
        }
        self.bits.out.truncate(self.at);
        (self.bits.hold, self.bits.held) = (self.hold, self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bit_is_the_lowest_of_the_first_byte() {
        let mut bits = Bits::default();
        let mut room = bits.room(52);
        room.put(1, 1);
        room.put(0b10, 2);
        room.put(0x1_ffff, 17);
        room.put(0xffff_ffff, 32);
        room.close();
        assert_eq!(bits.missing(), 4);
        bits.bytes(b"xy");
        let mut room = bits.room(3);
        room.put(0b101, 3);
        room.close();
        let mut out = vec![9];
        bits.finish(&mut out);
        assert_eq!(out, [9, 0b1111_1101, 0xff, 0xff, 0xff, 0xff, 0xff, 0b1111, b'x', b'y', 0b101]);
        bits.finish(&mut out);
        assert_eq!(out.len(), 11);
    }
}
