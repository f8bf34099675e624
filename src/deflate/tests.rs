//! Every body is inflated by another implementation; each rule has a body that gets larger without it.

use super::{Encoder, TextId, Texts};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::cell::Cell;

thread_local! {
    /// How many words encoders compared.
    pub(super) static COMPARED: Cell<usize> = const { Cell::new(0) };
}

/// The same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % limit as u64) as usize
    }

    fn bytes(&mut self, len: usize, letters: usize) -> Vec<u8> {
        (0..len).map(|_| b'a'.wrapping_add(self.below(letters) as u8)).collect()
    }
}

fn inflate(body: &[u8], len: usize) -> Vec<u8> {
    let mut plain = Vec::with_capacity(len + 64);
    let mut inflater = Decompress::new(false);
    let status = inflater.decompress_vec(body, &mut plain, FlushDecompress::Finish).expect("deflate");
    assert_eq!((status, inflater.total_in()), (Status::StreamEnd, body.len() as u64));
    plain
}

fn flate2_bytes(plain: &[u8], level: u32) -> usize {
    let mut out = Vec::with_capacity(plain.len() + 1024);
    let status = Compress::new(Compression::new(level), false).compress_vec(plain, &mut out, FlushCompress::Finish);
    assert_eq!(status.expect("memory"), Status::StreamEnd);
    out.len()
}

/// A part of a body.
#[derive(Clone, Debug)]
enum Part {
    Text(usize),
    Bytes(Vec<u8>),
    Unknown(Vec<u8>),
}
use Part::{Bytes, Text, Unknown};

fn write(encoder: &mut Encoder, texts: &Texts, known: &[(TextId, Vec<u8>)], parts: &[Part]) -> (Vec<u8>, Vec<u8>) {
    let mut plain = Vec::new();
    for part in parts {
        match part {
            Text(at) => {
                encoder.text(texts, known[*at].0);
                plain.extend_from_slice(&known[*at].1);
            }
            Bytes(bytes) => {
                encoder.bytes(bytes);
                plain.extend_from_slice(bytes);
            }
            Unknown(bytes) => {
                encoder.unknown(bytes);
                plain.extend_from_slice(bytes);
            }
        }
    }
    assert_eq!(encoder.plain_bytes(), plain.len() as u64);
    let mut body = Vec::new();
    encoder.finish(&mut body);
    assert_eq!(encoder.plain_bytes(), 0);
    (plain, body)
}

/// The body of some parts, inflated and made twice.
fn body(texts: &[&[u8]], parts: &[Part]) -> Vec<u8> {
    let mut pool = Texts::new(4 << 20);
    let known: Vec<_> = texts.iter().map(|text| (pool.add(text).expect("room"), text.to_vec())).collect();
    let mut encoder = Encoder::new();
    let (plain, first) = write(&mut encoder, &pool, &known, parts);
    assert!(inflate(&first, plain.len()) == plain);
    assert_eq!(write(&mut encoder, &pool, &known, parts).1, first);
    first
}

fn random_part(random: &mut Random, texts: usize, letters: usize) -> Part {
    match random.below(8) {
        0..4 if texts > 0 => Text(random.below(texts)),
        0..7 => {
            let len = random.below(12);
            Bytes(random.bytes(len, letters))
        }
        _ => {
            let len = random.below(300);
            Unknown(random.bytes(len, letters))
        }
    }
}

#[test]
fn whatever_is_written_comes_back() {
    for seed in 0..1500 {
        let random = &mut Random(seed);
        let letters = 1 + random.below(if seed % 3 == 0 { 3 } else { 200 });
        let mut pool = Texts::new(64 << 10);
        let mut known: Vec<(TextId, Vec<u8>)> = Vec::new();
        let mut encoder = Encoder::new();
        for _ in 0..4 {
            for _ in 0..random.below(12) {
                let len = [0, 1, 2, 3, 7, 20, 40, 258, 259, 600][random.below(10)];
                let text = match known.len() {
                    // A relative of one that is there.
                    1.. if random.below(2) == 0 => {
                        let mut text = known[random.below(known.len())].1.clone();
                        text.truncate(random.below(text.len() + 1));
                        text.extend(random.bytes(3, letters));
                        text
                    }
                    _ => random.bytes(len, letters),
                };
                known.extend(pool.add(&text).map(|id| (id, text)));
            }
            let mut plain = Vec::new();
            let parts: Vec<Part> = (0..random.below(60)).map(|_| random_part(random, known.len(), letters)).collect();
            for part in parts.iter().flat_map(|part| [part, &parts[0]]) {
                match part {
                    Text(at) => {
                        let (id, text) = &known[*at % known.len()];
                        encoder.text(&pool, *id);
                        plain.extend_from_slice(text);
                    }
                    Bytes(bytes) => {
                        encoder.bytes(bytes);
                        plain.extend_from_slice(bytes);
                    }
                    Unknown(bytes) => {
                        encoder.unknown(bytes);
                        plain.extend_from_slice(bytes);
                    }
                }
                // Within a body a name may come to stand for another text.
                if known.len() > 1 && random.below(20) == 0 {
                    pool.remove(known.swap_remove(random.below(known.len())).0);
                    let text = random.bytes(9, letters);
                    known.extend(pool.add(&text).map(|id| (id, text)));
                }
            }
            let mut body = Vec::new();
            encoder.finish(&mut body);
            assert!(inflate(&body, plain.len()) == plain, "seed {seed}");
            while !known.is_empty() && random.below(3) > 0 {
                pool.remove(known.swap_remove(random.below(known.len())).0);
            }
        }
        assert!(pool.bytes() <= 64 << 10);
    }
}

#[test]
fn an_encoder_that_was_used_makes_the_same_bodies_as_a_new_one() {
    let mut used = Encoder::new();
    for seed in 0..300 {
        let random = &mut Random(seed);
        let letters = 1 + random.below(30);
        let mut pool = Texts::new(1 << 20);
        let mut known = Vec::new();
        for _ in 0..1 + random.below(30) {
            let len = random.below(60);
            let text = random.bytes(len, letters);
            known.push((pool.add(&text).expect("room"), text));
        }
        let count = [10, 100, 6000][random.below(3)];
        let parts: Vec<Part> = (0..count).map(|_| random_part(random, known.len(), letters)).collect();
        let (plain, body) = write(&mut Encoder::new(), &pool, &known, &parts);
        assert!(inflate(&body, plain.len()) == plain);
        assert!(write(&mut used, &pool, &known, &parts).1 == body, "seed {seed}");
    }
}

#[test]
fn texts_of_every_length_and_bodies_beyond_every_buffer() {
    let random = &mut Random(5);
    let texts: Vec<Vec<u8>> = [0, 1, 2, 3, 4, 257, 258, 259, 260, 516, 517, 32_767, 32_768, 32_769, 40_000, 65_535]
        .into_iter()
        .flat_map(|len| [random.bytes(len, 1), random.bytes(len, 9)])
        .collect();
    let mut pool = Texts::new(8 << 20);
    let known: Vec<_> = texts.into_iter().map(|text| (pool.add(&text).expect("room"), text)).collect();
    let mut encoder = Encoder::new();
    let mut check = |parts: &[Part]| {
        let (plain, body) = write(&mut encoder, &pool, &known, parts);
        assert!(inflate(&body, plain.len()) == plain);
    };
    for at in 0..known.len() {
        check(&[Text(at)]);
        check(&[Text(at), Text(at), Bytes(b"12".to_vec()), Text(at)]);
    }
    for len in [1000, 100_000, 1 << 20] {
        let mut parts: Vec<Part> = (0..60).map(|_| random_part(random, known.len(), 9)).collect();
        for _ in 0..2 {
            let letters = 1 + random.below(256);
            parts.push(Bytes(random.bytes(len, letters)));
            parts.push(Text(random.below(known.len())));
            parts.push(Unknown(random.bytes(len, letters)));
        }
        check(&parts);
    }
    assert!(Texts::new(4 << 20).add(&vec![0; 65_536]).is_none());
    assert_eq!(body(&[], &[]), [3, 0]);
}

#[test]
fn what_cannot_be_compressed_is_stored() {
    let random = &mut Random(11);
    for len in [1, 100, 5000, 65_535, 65_536, 300_000] {
        for part in [Bytes, Unknown] {
            let plain = random.bytes(len, 256);
            let blocks = len.div_ceil(16 << 10);
            // The last block may be an empty one.
            assert!(body(&[], &[part(plain)]).len() <= len + 5 * blocks + 2, "{len}");
        }
    }
}

#[test]
fn codes_of_few_symbols_and_of_very_many_bits() {
    // One literal, no distance; one literal and one distance; all lengths; all distances.
    body(&[], &[Bytes(b"a".to_vec())]);
    body(&[], &[Unknown(vec![b'a'; 5000])]);
    let random = &mut Random(2);
    let long = random.bytes(32_768, 200);
    let parts = (3..259).flat_map(|len| [Text(0), Bytes(long[len..2 * len].to_vec()), Bytes(vec![len as u8])]);
    body(&[&long], &parts.collect::<Vec<_>>());
    let near = (1..200).flat_map(|back| [Bytes(random.bytes(back, 200)), Unknown(long[back * 160..][..5].to_vec())]);
    let parts: Vec<Part> = std::iter::once(Unknown(long.clone())).chain(near).collect();
    body(&[], &parts);
    // Counts like Fibonacci's want codes of more than 15 bits.
    let (mut a, mut b) = (1, 1);
    let mut skewed = Vec::new();
    for letter in 0..20 {
        skewed.extend(std::iter::repeat_n(letter, a));
        (a, b) = (b, a + b);
    }
    for at in 0..skewed.len() {
        let other = random.below(skewed.len());
        skewed.swap(at, other);
    }
    skewed.truncate(16_000);
    let plain: Vec<u8> = skewed.clone();
    assert!(body(&[], &[Bytes(plain)]).len() < skewed.len() / 3);
}

/// Each rule of the encoder, with what the body would at least take without it.
#[test]
fn each_rule_makes_a_body_smaller() {
    let random = &mut Random(77);
    let [a, b, c]: [Vec<u8>; 3] = std::array::from_fn(|_| random.bytes(200, 16));
    let mut with_a_of_b = c.clone();
    with_a_of_b.extend_from_slice(&b[20..190]);
    with_a_of_b.extend_from_slice(&random.bytes(20, 16));
    let texts: [&[u8]; 4] = [&a, &b, &c, &with_a_of_b];
    let digits = |random: &mut Random| Bytes(random.bytes(40, 16));
    let size = |parts: &[Part]| body(&texts, parts).len();

    // A text again.
    let once = size(&[Text(0)]);
    assert!(size(&[Text(0), Text(0)]) < once + 10);
    // A part of a text in another.
    assert!(size(&[Text(1), Text(2), Text(3)]) < size(&[Text(1), Text(2)]) + 40);
    // Through equal numbers into the next texts: one copy, not sixteen.
    let short: Vec<Vec<u8>> = (0..8).map(|_| random.bytes(20, 16)).collect();
    let short: Vec<&[u8]> = short.iter().map(Vec::as_slice).collect();
    let line: Vec<Part> = (0..8).flat_map(|at| [Text(at), Bytes(random.bytes(2, 16))]).collect();
    assert!(body(&short, &[&line[..], &line].concat()).len() < body(&short, &line).len() + 8);
    // The older line goes on longer than the newest.
    let (one, other) = (digits(random), digits(random));
    let lines = [Text(0), one.clone(), Text(1), Bytes(vec![1]), Text(0), other.clone(), Text(1), Bytes(vec![2])];
    let again: Vec<Part> = lines.iter().chain(&lines[..3]).cloned().collect();
    assert!(size(&again) < size(&lines) + 9);
    // A value that was there behind another text.
    let lines = [Text(0), one.clone(), Text(1), other];
    let again: Vec<Part> = lines.iter().cloned().chain([Text(2), one]).collect();
    assert!(size(&again) < size(&[Text(0), Text(1), Text(2), digits(random), digits(random)]) + 16);
    // Unknown text has the body before it to copy from.
    let unknown = random.bytes(400, 16);
    assert!(
        size(&[Unknown(unknown.clone()), Text(0), Unknown(unknown.clone())]) < size(&[Unknown(unknown), Text(0)]) + 20
    );
}

/// Events of a page as they are written in a body: texts of a kind, labels, numbers.
fn page(scrapes: usize) -> (Vec<Vec<u8>>, Vec<Part>) {
    let mut texts: Vec<Vec<u8>> = Vec::new();
    let mut parts = Vec::new();
    let mut text = |parts: &mut Vec<Part>, text: String| {
        let at = texts.iter().position(|known| *known == text.as_bytes()).unwrap_or(texts.len());
        if at == texts.len() {
            texts.push(text.into_bytes());
        }
        parts.push(Text(at));
    };
    let random = &mut Random(1);
    let words = ["node", "network", "receive", "bytes", "memory", "disk", "seconds", "transmit", "errs", "cpu", "file"];
    for scrape in 0..scrapes {
        let time = (1_795_647_110_254u64 + 15_000 * scrape as u64).to_string();
        for kind in 0..30 {
            for device in 0..1 + kind % 4 {
                text(&mut parts, "{\"timestamp\":".to_owned());
                parts.push(Bytes(time.clone().into_bytes()));
                text(&mut parts, ",\"message\":\"{\\\"Timestamp\\\":\\\"".to_owned());
                parts.push(Bytes(time.clone().into_bytes()));
                text(&mut parts, "\\\",\\\"Version\\\":\\\"0\\\",\\\"device\\\":\\\"".to_owned());
                parts.push(Bytes(format!("eth{device}").into_bytes()));
                text(&mut parts, "\\\",\\\"host\\\":\\\"".to_owned());
                parts.push(Bytes(b"pi".to_vec()));
                text(&mut parts, "\\\",\\\"instance\\\":\\\"".to_owned());
                parts.push(Bytes(b"exporter:9100".to_vec()));
                let mut before = "\\\"".to_owned();
                for field in 0..1 + kind % 5 {
                    let name = |n: usize| words[(kind * 7 + field * 5 + n * (kind + 3)) % words.len()];
                    text(&mut parts, format!("{before},\\\"{}_{}_{}_total\\\":", name(0), name(1), name(2)));
                    let value = [random.below(3), random.below(1000), random.below(1 << 30)][random.below(3)];
                    parts.push(Bytes(value.to_string().into_bytes()));
                    before.clear();
                }
                text(&mut parts, ",\\\"prom_metric_type\\\":\\\"gauge\\\"}\"},".to_owned());
            }
        }
    }
    (texts, parts)
}

#[test]
fn a_body_of_events_is_as_small_as_with_a_search() {
    for scrapes in [1, 2, 10, 100] {
        let (texts, parts) = page(scrapes);
        let mut pool = Texts::new(1 << 20);
        let known: Vec<_> = texts.iter().map(|text| (pool.add(text).expect("room"), text.clone())).collect();
        let (plain, body) = write(&mut Encoder::new(), &pool, &known, &parts);
        assert!(inflate(&body, plain.len()) == plain);
        let searched = flate2_bytes(&plain, 6);
        assert!(body.len() * 100 <= searched * 105, "{} {} {searched}", plain.len(), body.len());
    }
}

#[test]
fn the_texts_stay_within_their_bound_whatever_comes_and_goes() {
    for bytes_max in [0, 1000, 30_000, 200_000] {
        let random = &mut Random(bytes_max as u64);
        let mut pool = Texts::new(bytes_max);
        let mut known: Vec<(TextId, Vec<u8>)> = Vec::new();
        let mut taken = 0;
        for _ in 0..3000 {
            if random.below(5) > 1 || known.is_empty() {
                let len = [3, 40, 40, 3000][random.below(4)];
                let letters = 1 + random.below(200);
                let text = random.bytes(len, letters);
                if let Some(id) = pool.add(&text) {
                    taken += 1;
                    known.push((id, text));
                }
            } else {
                pool.remove(known.swap_remove(random.below(known.len())).0);
            }
            assert!(pool.bytes() <= bytes_max, "{} {bytes_max}", pool.bytes());
            if taken % 64 == 0 {
                assert!(known.iter().all(|(id, text)| pool.plain(*id) == text));
            }
        }
        // Removed texts made room again and again.
        assert!(taken > 500 || bytes_max < 30_000, "{bytes_max} {taken}");
        known.drain(..).for_each(|(id, _)| pool.remove(id));
        let full = pool.bytes();
        if bytes_max == 200_000 {
            let large = random.bytes(10_000, 200);
            assert!(pool.add(&large).is_some(), "{full}");
        }
    }
}

#[test]
fn one_text_has_one_name_until_all_its_users_are_gone() {
    let mut pool = Texts::new(1 << 20);
    let (first, other) = (pool.add(b"a text").unwrap(), pool.add(b"another").unwrap());
    assert_eq!(pool.add(b"a text"), Some(first));
    assert_ne!(first, other);
    pool.remove(first);
    assert_eq!(pool.plain(first), b"a text");
    pool.remove(first);
    let bytes = pool.bytes();
    // Gone, but not forgotten as long as there is room.
    assert_eq!(pool.add(b"another"), Some(other));
    pool.remove(first);
    for _ in 0..10_000 {
        let id = pool.add(b"one that comes and goes").unwrap();
        pool.remove(id);
    }
    assert!(pool.bytes() < bytes + 2000);
}

#[test]
fn time_is_linear_in_the_bytes() {
    let compared = |texts: &[&[u8]], parts: &[Part]| {
        COMPARED.set(0);
        body(texts, parts);
        COMPARED.get()
    };
    let random = &mut Random(9);
    let long = vec![b'a'; 2000];
    let waves: Vec<u8> = (0..2000).map(|at| b"aaaaaaab"[at % 8]).collect();
    for count in [200, 800] {
        let mut worst = 0;
        for letters in [1, 2] {
            let texts: [&[u8]; 4] = [&long, &waves, &long[..100], b"aaaaaab"];
            let plain: usize = 2000 * count;
            for kind in 0..4 {
                let parts: Vec<Part> = (0..count)
                    .map(|at| match kind {
                        0 => Text(at % 4),
                        1 => Bytes(random.bytes(2000, letters)),
                        2 => Unknown(random.bytes(2000, letters)),
                        _ if at % 2 == 0 => Text(random.below(4)),
                        _ => Bytes(random.bytes(5, letters)),
                    })
                    .collect();
                worst = worst.max(compared(&texts, &parts) * 100 / plain);
            }
        }
        // Twice the body, each byte looked at a bounded number of times.
        assert!(worst < 2 * 300, "{count} {worst}");
    }
}
