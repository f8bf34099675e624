//! A journal of any bytes beside a sound segment: a hint, which costs duplicates and never what comes later.
#![no_main]

mod spool_forged;

const SEGMENT: &[u8] = include_bytes!("../../tests/spool_golden/v2/acked/spool/seg-0000000000000000.pws");

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let journal = ("acks-0000000000000007.pwa", data);
    spool_forged::check(&[journal]);
    spool_forged::check(&[("seg-0000000000000000.pws", SEGMENT), journal]);
});
