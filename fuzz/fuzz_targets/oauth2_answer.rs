//! The answer of an OAuth2 server: what goes into a log is a code and never the token.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promwatch::env::fuzzing::oauth2_answer;

fuzz_target!(|body: &[u8]| {
    let (token, reason) = oauth2_answer(body);
    if let Some(reason) = reason {
        assert!(reason.len() <= 40 && reason.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{reason:?}");
    }
    if let Some((authorization, _)) = token {
        assert!(authorization.len() <= body.len() + "Bearer ".len() + 3 * body.len(), "{authorization:?}");
    }
});
