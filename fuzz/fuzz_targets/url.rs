//! A URL and a redirect, a line each; the first is also read as a proxy's. What was understood is understood the same when it is
//! written out, and no password is shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promwatch::env::fuzzing::{ParsedUrl, proxy, url};

const PASSWORD: &str = "hunter2hunter2";

fn check(found: &ParsedUrl) {
    let again = url(&found.uri, None).expect("what was understood");
    assert_eq!(again, ParsedUrl { credentials: None, ..found.clone() });
    assert!(!found.uri.contains(|c: char| c.is_control() || c == ' '), "{found:?}");
    assert!(!found.host.is_empty() && found.port > 0, "{found:?}");
    assert!(!found.shown.contains('?'), "{found:?}");
}

fuzz_target!(|text: &str| {
    // The fuzzer has seen what it is compared with: a host may well be shown that is called like the password.
    if text.contains(PASSWORD) {
        return;
    }
    let (first, location) = text.split_once('\n').unwrap_or((text, ""));
    let _ = proxy(first);
    if let Ok(found) = url(first, None) {
        check(&found);
        if let Ok(next) = url(first, Some(location)) {
            check(&next);
        }
    }
    // The same with a password before the host and a key in the query.
    let (scheme, rest) = first.split_once("://").unwrap_or(("http", first));
    let secret = format!("{scheme}://user:{PASSWORD}@{rest}");
    for shown in [
        url(&secret, None).map_or_else(|error| error, |found| found.shown),
        url(&secret, Some(location)).map_or_else(|error| error, |found| found.shown),
        url(first, Some(&secret)).map_or_else(|error| error, |found| found.shown),
        url(&format!("{first}?key={PASSWORD}"), None).map_or_else(|error| error, |found| found.shown),
        proxy(&secret).map_or_else(|error| error, |(host, _)| host),
    ] {
        assert!(!shown.contains(PASSWORD), "{shown}");
    }
});
