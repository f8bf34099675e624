//! A segment of any bytes beside a sound one: listed, opened and drained, and work goes on.
#![no_main]

mod spool_forged;

/// Of both versions.
const SOUND: [&[u8]; 2] = [
    include_bytes!("../../tests/spool_golden/v1/acked/spool/seg-0000000000000000.pws"),
    include_bytes!("../../tests/spool_golden/v2/acked/spool/seg-0000000000000000.pws"),
];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let name = ["seg-0000000000000000-01.pws", "seg-000000000000012c.pws", "seg-ffffffffffffffff.pws"];
    let name = name[data.len() % 3];
    spool_forged::check(&[(name, data)]);
    for sound in SOUND {
        spool_forged::check(&[("seg-0000000000000000.pws", sound), (name, data)]);
    }
});
