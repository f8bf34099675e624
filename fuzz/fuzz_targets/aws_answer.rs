//! Answers of CloudWatch Logs and STS, good and bad: headers, an empty line, the body. The first byte is the status' hundreds and
//! whether it is XML, the second the batch's number of events.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promwatch::env::Head;
use promwatch::ship::fuzzing::{MAX_ERROR_BYTES, rejected, service_error};

fuzz_target!(|data: &[u8]| {
    let [kind, events, rest @ ..] = data else { return };
    let at = rest.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = at.map_or((&[][..], rest), |at| (&rest[..at], &rest[at + 2..]));
    let headers = String::from_utf8_lossy(head);
    let headers = headers.lines().filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let head = Head { status: u16::from(kind % 6) * 100 + u16::from(kind / 6), headers };

    let events = u32::from(*events);
    let found = rejected(body, events);
    // An event is told once, whatever the answer's indexes say.
    assert!(found.too_old + found.too_new + found.expired <= events, "{found:?} of {events}");

    for xml in [false, true] {
        let (text, _) = service_error(&head, body, xml);
        assert!(text.len() <= MAX_ERROR_BYTES, "{} bytes", text.len());
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(!text.contains("The Canonical String"), "{text:?}");
    }
});
