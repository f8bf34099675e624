//! `/etc/resolv.conf` and `/etc/hosts`, before and after the first NUL byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promwatch::env::fuzzing::{hosts, resolv_conf};

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    let text = String::from_utf8_lossy(&data[..at]);
    for name in ["pi", "node.example", "node.example."] {
        let conf = resolv_conf(&text, name);
        assert!((1..=4).contains(&conf.servers.len()), "{conf:?}");
        assert!((1..=7).contains(&conf.candidates.len()), "{conf:?}");
        assert!(conf.candidates.iter().any(|asked| asked == name.trim_end_matches('.')), "{conf:?}");
        assert!((1000..=30_000).contains(&conf.timeout_ms) && (1..=5).contains(&conf.attempts), "{conf:?}");
        let found = hosts(&data[at..], name.trim_end_matches('.'));
        assert!(found.len() * 4 <= data.len());
    }
});
