//! An answer of a name server or of a neighbour, byte for byte. The first byte chooses what was asked for, the message's id is
//! the one that was asked with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promwatch::env::fuzzing::{MAX_RECORDS, dns_answer, dns_question};
use promwatch::model::settings::DnsKind;

const KINDS: [DnsKind; 5] = [DnsKind::A, DnsKind::Aaaa, DnsKind::Srv, DnsKind::Mx, DnsKind::Ns];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, message)) = data.split_first() else { return };
    let kind = KINDS[usize::from(choice) % KINDS.len()];
    let id = message.get(..2).map_or(7, |id| u16::from_be_bytes([id[0], id[1]]));
    for name in ["www.example", "_prom._tcp.example."] {
        for multicast in [false, true] {
            let Some(answer) = dns_answer(message, id, name, kind, multicast) else { continue };
            assert!(answer.records.len() <= MAX_RECORDS);
            assert!(answer.records.iter().all(|record| record.target.len() <= 1100), "{answer:?}");
            if matches!(kind, DnsKind::A | DnsKind::Aaaa) {
                assert_eq!(answer.addresses.len(), answer.records.len());
            }
            // The answer to another question is none.
            if !multicast {
                assert!(dns_answer(message, id ^ 1, name, kind, false).is_none());
            }
        }
    }
    // Any text is refused as a name, or its question is no answer to itself.
    if let Ok(name) = std::str::from_utf8(message)
        && let Some(asked) = dns_question(7, name, kind)
    {
        assert!(asked.len() <= 12 + 256 + 4, "{} bytes", asked.len());
        assert!(dns_answer(&asked, 7, name, kind, false).is_none());
    }
});
