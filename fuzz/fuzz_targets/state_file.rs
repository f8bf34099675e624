//! `state.json`: any file is read or refused with one sentence; what was read is written and read again as the same.
#![no_main]

mod world;

use libfuzzer_sys::fuzz_target;
use promwatch::agent::state::State;
use std::path::Path;
use world::World;

fuzz_target!(|data: &[u8]| {
    let dir = Path::new("/state");
    let world = World::default().with("/state/state.json", data);
    let (state, trouble) = State::load(dir, &world);
    if let Some(text) = trouble {
        assert!(text.len() < 200 && text.contains("state.json"), "{text}");
    }
    state.save(dir, &world).expect("a disk in memory");
    let (again, trouble) = State::load(dir, &world);
    assert_eq!(trouble, None, "what was written is read");
    assert_eq!(again, state);
});
