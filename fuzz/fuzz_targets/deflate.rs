//! Calls that make bodies: texts that come and go, values, unknown text. What is inflated is what was written, a new encoder makes
//! the same body, and the texts stay within their bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promwatch::deflate::{Encoder, TextId, Texts};
use promwatch::gzip;

const TEXT_BYTES_MAX: usize = 20 << 10;

/// A call: what it is, and how many bytes it takes of those that follow. Over 200 they are repeated.
fn call<'a>(rest: &mut &'a [u8]) -> Option<(u8, Vec<u8>)> {
    let (&[kind, len], after) = rest.split_first_chunk::<2>()?;
    let (bytes, after) = after.split_at(usize::from(len % 200).min(after.len()));
    *rest = after;
    Some((kind, bytes.repeat(if len < 200 { 1 } else { usize::from(len) })))
}

fn gzip_of(deflate: &[u8]) -> Vec<u8> {
    [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], deflate].concat()
}

fuzz_target!(|data: &[u8]| {
    let mut texts = Texts::new(TEXT_BYTES_MAX);
    let mut known: Vec<(TextId, Vec<u8>)> = Vec::new();
    let (mut used, mut new) = (Encoder::new(), Encoder::new());
    let mut plain: Vec<u8> = Vec::new();
    let mut rest = data;
    loop {
        let next = call(&mut rest);
        let at = |kind: u8| usize::from(kind >> 3);
        match &next {
            Some((kind, bytes)) if kind % 8 == 0 => {
                if let Some(id) = texts.add(bytes) {
                    known.push((id, bytes.clone()));
                }
                assert!(texts.bytes() <= TEXT_BYTES_MAX);
            }
            Some((kind, _)) if kind % 8 == 1 && !known.is_empty() => {
                texts.remove(known.swap_remove(at(*kind) % known.len()).0);
            }
            Some((kind, _)) if kind % 8 < 5 && !known.is_empty() => {
                let (id, text) = &known[at(*kind) % known.len()];
                used.text(&texts, *id);
                new.text(&texts, *id);
                plain.extend_from_slice(text);
            }
            Some((kind, bytes)) if kind % 8 < 7 => {
                let write = if kind % 8 == 5 { Encoder::unknown } else { Encoder::bytes };
                write(&mut used, bytes);
                write(&mut new, bytes);
                plain.extend_from_slice(bytes);
            }
            _ => {
                assert_eq!(used.plain_bytes(), plain.len() as u64);
                let (mut body, mut again) = (Vec::new(), Vec::new());
                used.finish(&mut body);
                std::mem::take(&mut new).finish(&mut again);
                assert!(body == again);
                assert!(gzip::decode(&gzip_of(&body)) == plain);
                plain.clear();
            }
        }
        if next.is_none() {
            return;
        }
    }
});
