//! Records out of frames, of every version.

use super::frame::{Kind, Piece, Pieces};
use super::segment::Place;
use super::table::Tables;
use super::{SpoolRecord, body, record, v1};
use crate::model::{Event, Ranges, StreamKey};
use std::rc::Rc;

/// Takes in what the frames in a piece of a segment say that records need.
pub fn take_shapes(bytes: &[u8], tables: &mut Tables) {
    for piece in Pieces::new(bytes, 0) {
        if let Piece::Frame { header, body, .. } = piece
            && header.kind == Kind::Shape
            && !tables.has(header.version, header.billed)
            && let Some(payload) = body::unpack(body)
        {
            // One with a sound checksum that does not decode is a wrong encoder's: its records are damaged.
            let _ = tables.decode(header.version, header.billed, header.count, &payload);
        }
    }
}

/// A whole record out of its frame; nothing when it is not the one that was meant, or damaged.
pub fn decode_frame(frame: &[u8], place: &Place, tables: &Tables, key: &Rc<StreamKey>) -> Option<SpoolRecord> {
    let Some(Piece::Frame { header, body, .. }) = Pieces::new(frame, 0).next() else { return None };
    let meant = (header.kind, header.sequence, header.count) == (Kind::Record, place.sequence, place.events);
    if !meant || header.group != key.group || header.stream != key.stream {
        return None;
    }
    let payload = body::unpack(body)?;
    let events = match header.version {
        1 => {
            let decoded = v1::decode(&payload, header.count, header.wall_ms, &tables.first).ok()?;
            let text =
                |event: v1::Decoded| Event::text(Rc::clone(key), event.timestamp_ms, event.own_time, &event.message);
            decoded.into_iter().map(text).collect()
        }
        _ => record::decode(&payload, header.count, header.wall_ms, &tables.present, key)?,
    };
    let pending = Ranges::of(vec![(place.sequence, place.sequence + events.len() as u64)]);
    (events.len() == header.count as usize).then(|| SpoolRecord { meta: header.meta(Rc::clone(key)), events, pending })
}
