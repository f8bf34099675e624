//! Bytes decide what is done to a spool and what goes wrong with its files: the books are right at every step.
#![no_main]

#[path = "../../tests/it/sim_disk.rs"]
mod sim_disk;
#[path = "../../tests/it/spool_model.rs"]
mod spool_model;

libfuzzer_sys::fuzz_target!(|data: &[u8]| spool_model::run(data));
