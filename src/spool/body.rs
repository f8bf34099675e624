//! What a frame's body is: a payload, deflated.

use super::wire::BODY_BYTES_MAX;
use crate::deflate::{Encoder, TEXT_BYTES_MAX, Texts};
use flate2::{Decompress, FlushDecompress, Status};

/// The longest payload.
pub const PAYLOAD_BYTES_MAX: usize = 8 << 20;

/// The memory of a thorough search, while it lasts.
const SEARCH_BYTES_MAX: usize = 4 << 20;

const STORED: u8 = 0;
const DEFLATED: u8 = 1;
const BODY_HEADER_BYTES: usize = 5;

/// The compressor: about 210 KiB, made when it is first needed and used again.
#[derive(Default)]
pub struct Packer {
    deflate: Option<Box<Encoder>>,
}

impl Packer {
    /// A body with that payload, deflated where that is shorter; for records, which are many and mostly numbers.
    pub fn pack(&mut self, payload: &[u8]) -> Vec<u8> {
        self.pack_with(payload, Encoder::unknown)
    }

    /// The same for shapes, which are few and mostly text: with a thorough search for copies.
    pub fn pack_text(&mut self, payload: &[u8]) -> Vec<u8> {
        self.pack_with(payload, |deflate, payload| {
            let mut texts = Texts::new(SEARCH_BYTES_MAX);
            for text in payload.chunks(TEXT_BYTES_MAX) {
                match texts.add(text) {
                    Some(id) => deflate.text(&texts, id),
                    None => deflate.unknown(text),
                }
            }
        })
    }

    fn pack_with(&mut self, payload: &[u8], write: impl FnOnce(&mut Encoder, &[u8])) -> Vec<u8> {
        let deflate = self.deflate.get_or_insert_with(|| Box::new(Encoder::new()));
        let mut body = Vec::with_capacity(BODY_HEADER_BYTES + payload.len());
        body.push(DEFLATED);
        body.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        write(deflate, payload);
        deflate.finish(&mut body);
        if body.len() > BODY_HEADER_BYTES + payload.len() {
            body.truncate(BODY_HEADER_BYTES);
            body[0] = STORED;
            body.extend_from_slice(payload);
        }
        body
    }

    /// Gives the compressor's memory back.
    pub fn release(&mut self) {
        self.deflate = None;
    }
}

/// The payload of a body; nothing when it is no such.
pub fn unpack(body: &[u8]) -> Option<Vec<u8>> {
    let (header, data) = body.split_at_checked(BODY_HEADER_BYTES)?;
    let len = usize::try_from(u32::from_le_bytes([header[1], header[2], header[3], header[4]])).ok()?;
    if len > PAYLOAD_BYTES_MAX {
        return None;
    }
    let payload = match header[0] {
        STORED => data.to_vec(),
        DEFLATED => {
            // One byte of room more, so that a stream that holds more than it says is noticed.
            let mut payload = Vec::with_capacity(len + 1);
            let status = Decompress::new(false).decompress_vec(data, &mut payload, FlushDecompress::Finish);
            matches!(status, Ok(Status::StreamEnd)).then_some(payload)?
        }
        _ => return None,
    };
    (payload.len() == len).then_some(payload)
}

/// Whether a body is short enough to be written.
pub fn fits(body: &[u8]) -> bool {
    body.len() <= BODY_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_body_is_refused() {
        assert_eq!(unpack(&[DEFLATED, 255, 255, 255, 255, 0]), None);
        assert_eq!(unpack(&[9, 0, 0, 0, 0]), None);
        assert_eq!(unpack(&[STORED, 1, 0, 0]), None);
    }

    #[test]
    fn a_payload_that_does_not_shrink_is_stored() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let noise: Vec<u8> = (0..600).map(|_| random()).collect();
        let body = Packer::default().pack(&noise);
        assert_eq!((body[0], body.len()), (STORED, BODY_HEADER_BYTES + 600));
        assert_eq!(unpack(&body), Some(noise));
    }
}
