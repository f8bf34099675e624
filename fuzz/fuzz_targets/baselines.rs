//! Saved baselines, with the checksum put right so that the content is reached: what loads is saved and loaded again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promwatch::convert::{Converter, Moment};
use promwatch::model::settings::ConvertSettings;

const NOW: Moment = Moment { wall_ms: 1_795_000_000_000, monotonic_ms: 5_000_000, boot_id: [7; 16] };

fn converter() -> Converter {
    Converter::new(ConvertSettings { baseline_bytes: 1 << 20, ..ConvertSettings::default() })
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1)))
    })
}

fuzz_target!(|data: &[u8]| {
    let _ = converter().load_baselines(data, NOW);
    let Some(body) = data.len().checked_sub(4).map(|len| &data[..len]) else { return };
    let mut sealed = body.to_vec();
    sealed.extend_from_slice(&crc32c(body).to_le_bytes());
    let mut first = converter();
    let Ok(loaded) = first.load_baselines(&sealed, NOW) else { return };
    assert!(loaded <= body.len() / 36);
    let saved = first.save_baselines(NOW);
    let mut second = converter();
    assert_eq!(second.load_baselines(&saved, NOW), Ok(loaded));
    assert_eq!(second.save_baselines(NOW), saved);
});
