//! Questions to name servers and their answers (RFC 1035).
//!
//! Only as much of it as is asked for here: a whole DNS crate takes 26 kB of a binary that has 2 MB, and reads an answer not at all
//! when it does not know one record of it. A name is text as in a zone file (section 5.1): `\.` is a dot within a label.

use crate::env::Record;
use crate::model::settings::DnsKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longer chains of aliases are not followed.
const MAX_ALIASES: usize = 8;
/// So many records of an answer are kept.
pub(super) const MAX_RECORDS: usize = 256;
/// The longest label and the longest name in a message, in bytes.
const MAX_LABEL_BYTES: usize = 63;
const MAX_NAME_BYTES: usize = 255;
/// More than the labels that a name can have: pointers that go on are a circle.
const MAX_POINTERS: usize = 128;

const HEADER_BYTES: usize = 12;
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const IN: u16 = 1;
/// Multicast DNS uses the upper bit of the class for something else (RFC 6762, sections 5.4 and 10.2).
const CLASS: u16 = 0x7fff;
const CNAME: u16 = 5;

/// What a server said about one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub verdict: Verdict,
    pub records: Vec<Record>,
    /// The shortest life among the records, seconds.
    pub ttl_s: u32,
}

impl Answer {
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.records.iter().filter_map(|record| record.target.parse().ok())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The name exists; it may have no record of this kind.
    Exists,
    /// NXDOMAIN.
    NoSuchName,
    /// Cut short: ask again over TCP.
    Truncated,
    /// SERVFAIL, REFUSED and the like: this server cannot tell.
    Failed,
}

/// A question to be sent; nothing for a name that cannot be put in a message.
pub(super) fn question(id: u16, name: &str, kind: DnsKind, recursive: bool) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(HEADER_BYTES + name.len() + 6);
    let flags = if recursive { RECURSION_DESIRED } else { 0 };
    for field in [id, flags, 1, 0, 0, 0] {
        message.extend_from_slice(&field.to_be_bytes());
    }
    let mut label = Vec::new();
    let mut bytes = name.bytes();
    loop {
        match bytes.next() {
            Some(b'\\') => label.push(escaped(&mut bytes)?),
            Some(byte) if byte != b'.' => label.push(byte),
            end => {
                if label.len() > MAX_LABEL_BYTES {
                    return None;
                }
                if !label.is_empty() {
                    message.push(label.len() as u8);
                    message.append(&mut label);
                }
                if end.is_none() {
                    break;
                }
            }
        }
    }
    message.push(0);
    if message.len() > HEADER_BYTES + MAX_NAME_BYTES {
        return None;
    }
    message.extend_from_slice(&code(kind).to_be_bytes());
    message.extend_from_slice(&IN.to_be_bytes());
    Some(message)
}

/// What a backslash stands before: `\DDD` is the byte with that value, `\X` is X.
fn escaped(bytes: &mut std::str::Bytes<'_>) -> Option<u8> {
    let first = bytes.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let mut value = u32::from(first - b'0');
    for _ in 0..2 {
        value = value * 10 + char::from(bytes.next()?).to_digit(10)?;
    }
    u8::try_from(value).ok()
}

/// Whose answer is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// A name server: it repeats id and question.
    Server,
    /// Anyone on the link (multicast DNS): some leave both out.
    Neighbour,
}

/// Reads a message; nothing when it is not the answer to this question.
pub(super) fn answer(bytes: &[u8], id: u16, name: &str, kind: DnsKind, from: From) -> Option<Answer> {
    let mut reader = Reader { message: bytes, at: 0 };
    let (their_id, flags) = (reader.u16()?, reader.u16()?);
    let (questions, answers) = (reader.u16()?, reader.u16()?);
    // The other sections are not read.
    reader.at = HEADER_BYTES;
    let is_ours = match from {
        From::Server => their_id == id && questions == 1,
        From::Neighbour => their_id == id || their_id == 0,
    };
    if !is_ours || flags & RESPONSE == 0 || flags & OPCODE != 0 {
        return None;
    }
    let wanted = code(kind);
    for _ in 0..questions {
        let asked = reader.name()?;
        let (kind, class) = (reader.u16()?, reader.u16()?);
        if kind != wanted || class & CLASS != IN || !is_name(&asked, name) {
            return None;
        }
    }
    let truncated = flags & TRUNCATED != 0;
    let verdict = match flags & 0xf {
        _ if truncated => Verdict::Truncated,
        0 => Verdict::Exists,
        3 => Verdict::NoSuchName,
        _ => Verdict::Failed,
    };
    let mut found = Vec::new();
    for _ in 0..answers {
        match reader.record() {
            Some(entry) if entry.kind == wanted || entry.kind == CNAME => found.push(entry),
            Some(_) => {}
            // The message may be cut anywhere.
            None if truncated => break,
            None => return None,
        }
    }
    let mut answer = Answer { verdict, records: Vec::new(), ttl_s: u32::MAX };
    let mut names = vec![name.trim_end_matches('.').to_owned()];
    for _ in 0..MAX_ALIASES {
        let known = names.len();
        for entry in found.iter().filter(|entry| entry.kind == CNAME) {
            if names.len() <= MAX_ALIASES
                && names.iter().any(|name| is_name(&entry.name, name))
                && let Some(target) = reader.name_at(entry, 0)
                && !names.iter().any(|name| name.eq_ignore_ascii_case(&target))
            {
                answer.ttl_s = answer.ttl_s.min(entry.ttl_s);
                names.push(target);
            }
        }
        if names.len() == known {
            break;
        }
    }
    for entry in found.iter().filter(|entry| entry.kind == wanted) {
        if answer.records.len() >= MAX_RECORDS {
            break;
        }
        if !names.iter().any(|name| is_name(&entry.name, name)) {
            continue;
        }
        let data = bytes.get(entry.data.clone()).unwrap_or_default();
        let (target, port) = match kind {
            DnsKind::A => (data.first_chunk::<4>().map(|data| Ipv4Addr::from(*data).to_string()), 0),
            DnsKind::Aaaa => (data.first_chunk::<16>().map(|data| Ipv6Addr::from(*data).to_string()), 0),
            // Priority and weight come before the port; a preference before a mail server's name.
            DnsKind::Srv => {
                let port = data.get(4..6).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
                (reader.name_at(entry, 6), port)
            }
            DnsKind::Mx => (reader.name_at(entry, 2), 0),
            DnsKind::Ns => (reader.name_at(entry, 0), 0),
        };
        let Some(target) = target else { continue };
        answer.ttl_s = answer.ttl_s.min(entry.ttl_s);
        answer.records.push(Record { target, port });
    }
    Some(answer)
}

fn is_name(name: &str, text: &str) -> bool {
    name.eq_ignore_ascii_case(text.trim_end_matches('.'))
}

/// TYPE (RFC 1035, section 3.2.2; RFC 3596; RFC 2782).
fn code(kind: DnsKind) -> u16 {
    match kind {
        DnsKind::A => 1,
        DnsKind::Ns => 2,
        DnsKind::Mx => 15,
        DnsKind::Aaaa => 28,
        DnsKind::Srv => 33,
    }
}

/// Reads one field after the other; nothing where the message ends.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

struct Entry {
    name: String,
    /// 0 where the class is not the Internet's.
    kind: u16,
    ttl_s: u32,
    /// Where its data lies in the message.
    data: std::ops::Range<usize>,
}

impl Reader<'_> {
    fn u16(&mut self) -> Option<u16> {
        let field = self.message.get(self.at..)?.first_chunk::<2>()?;
        self.at += 2;
        Some(u16::from_be_bytes(*field))
    }

    fn record(&mut self) -> Option<Entry> {
        let name = self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let ttl_s = u32::from(self.u16()?) << 16 | u32::from(self.u16()?);
        let start = self.at + 2;
        let end = start + usize::from(self.u16()?);
        self.at = end;
        let kind = if class & CLASS == IN { kind } else { 0 };
        (end <= self.message.len()).then_some(Entry { name, kind, ttl_s, data: start..end })
    }

    /// The name at a place of a record's data, which it must not leave but by a pointer.
    fn name_at(&self, entry: &Entry, skipped: usize) -> Option<String> {
        let mut reader = Reader { message: self.message, at: entry.data.start + skipped };
        reader.name().filter(|_| reader.at <= entry.data.end)
    }

    /// A name (section 4.1.4): labels, and at its end a zero or a pointer to where it goes on.
    fn name(&mut self) -> Option<String> {
        let mut text = String::new();
        let (mut name_bytes, mut pointers, mut at) = (0, 0, self.at);
        loop {
            let length = usize::from(*self.message.get(at)?);
            at += 1;
            match length {
                0 => break,
                0xc0.. => {
                    let low = usize::from(*self.message.get(at)?);
                    if pointers == 0 {
                        self.at = at + 1;
                    }
                    pointers += 1;
                    at = (length & 0x3f) << 8 | low;
                }
                _ => {
                    name_bytes += 1 + length;
                    if length > MAX_LABEL_BYTES || name_bytes >= MAX_NAME_BYTES {
                        return None;
                    }
                    if !text.is_empty() {
                        text.push('.');
                    }
                    for c in String::from_utf8_lossy(self.message.get(at..at + length)?).chars() {
                        if matches!(c, '.' | '\\') {
                            text.push('\\');
                        }
                        text.push(c);
                    }
                    at += length;
                }
            }
            if pointers > MAX_POINTERS {
                return None;
            }
        }
        if pointers == 0 {
            self.at = at;
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::rdata::{A, CNAME, RData, SRV};
    use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};

    fn reply(id: u16, asked: &str, kind: DnsKind, records: Vec<(&'static str, RData<'static>)>) -> Vec<u8> {
        let mut packet = Packet::new_reply(id);
        let name = Name::new(asked).unwrap().into_owned();
        packet.questions.push(Question::new(name, QTYPE::TYPE(type_of(kind)), CLASS::IN.into(), false));
        for (owner, data) in records {
            packet.answers.push(ResourceRecord::new(Name::new(owner).unwrap(), CLASS::IN, 60, data));
        }
        packet.build_bytes_vec_compressed().unwrap()
    }

    fn type_of(kind: DnsKind) -> TYPE {
        match kind {
            DnsKind::A => TYPE::A,
            DnsKind::Aaaa => TYPE::AAAA,
            DnsKind::Srv => TYPE::SRV,
            DnsKind::Mx => TYPE::MX,
            DnsKind::Ns => TYPE::NS,
        }
    }

    /// The same by a DNS crate.
    fn judge(bytes: &[u8], id: u16, name: &str, kind: DnsKind, from: From) -> Option<Answer> {
        let packet = Packet::parse(bytes).ok()?;
        let is_ours = match from {
            From::Server => packet.id() == id && packet.questions.len() == 1,
            From::Neighbour => packet.id() == id || packet.id() == 0,
        };
        if !is_ours || !packet.has_flags(PacketFlag::RESPONSE) || packet.opcode() != OPCODE::StandardQuery {
            return None;
        }
        let wanted = QTYPE::TYPE(type_of(kind));
        let class = QCLASS::CLASS(CLASS::IN);
        if packet.questions.iter().any(|question| question.qclass != class) {
            return None;
        }
        if packet
            .questions
            .iter()
            .any(|question| question.qtype != wanted || !is_name(&question.qname.to_string(), name))
        {
            return None;
        }
        let verdict = match packet.rcode() {
            _ if packet.has_flags(PacketFlag::TRUNCATION) => Verdict::Truncated,
            RCODE::NoError => Verdict::Exists,
            RCODE::NameError => Verdict::NoSuchName,
            _ => Verdict::Failed,
        };
        let mut answer = Answer { verdict, records: Vec::new(), ttl_s: u32::MAX };
        let mut names = vec![name.to_string()];
        for _ in 0..MAX_ALIASES {
            let known = names.len();
            for record in packet.answers.iter().filter(|record| record.class == CLASS::IN) {
                if let RData::CNAME(target) = &record.rdata
                    && names.iter().any(|name| is_name(&record.name.to_string(), name))
                {
                    let target = target.0.to_string();
                    if names.len() <= MAX_ALIASES && !names.iter().any(|name| name.eq_ignore_ascii_case(&target)) {
                        answer.ttl_s = answer.ttl_s.min(record.ttl);
                        names.push(target);
                    }
                }
            }
            if names.len() == known {
                break;
            }
        }
        for record in packet.answers.iter().filter(|record| record.class == CLASS::IN) {
            if !names.iter().any(|name| is_name(&record.name.to_string(), name)) || answer.records.len() >= MAX_RECORDS
            {
                continue;
            }
            let (target, port) = match (kind, &record.rdata) {
                (DnsKind::A, RData::A(data)) => (Ipv4Addr::from(data.address).to_string(), 0),
                (DnsKind::Aaaa, RData::AAAA(data)) => (Ipv6Addr::from(data.address).to_string(), 0),
                (DnsKind::Srv, RData::SRV(data)) => (data.target.to_string(), data.port),
                (DnsKind::Mx, RData::MX(data)) => (data.exchange.to_string(), 0),
                (DnsKind::Ns, RData::NS(data)) => (data.0.to_string(), 0),
                _ => continue,
            };
            answer.ttl_s = answer.ttl_s.min(record.ttl);
            answer.records.push(Record { target, port });
        }
        Some(answer)
    }

    fn targets(answer: &Answer) -> Vec<(&str, u16)> {
        answer.records.iter().map(|record| (record.target.as_str(), record.port)).collect()
    }

    #[test]
    fn aliases_are_followed_and_strangers_left_out() {
        let bytes = reply(
            7,
            "www.Example",
            DnsKind::A,
            vec![
                ("b.example", RData::A(A { address: 0x0a000002 })),
                ("www.example", RData::CNAME(CNAME(Name::new("a.example").unwrap()))),
                ("a.example", RData::CNAME(CNAME(Name::new("B.example").unwrap()))),
                ("evil.example", RData::A(A { address: 0x0a000003 })),
            ],
        );
        let answer = answer(&bytes, 7, "www.example", DnsKind::A, From::Server).unwrap();
        assert_eq!((answer.verdict, targets(&answer), answer.ttl_s), (Verdict::Exists, vec![("10.0.0.2", 0)], 60));
    }

    #[test]
    fn an_answer_to_another_question_is_no_answer() {
        let bytes = reply(7, "a.example", DnsKind::A, vec![]);
        assert!(answer(&bytes, 7, "a.example", DnsKind::A, From::Server).is_some());
        assert!(answer(&bytes, 8, "a.example", DnsKind::A, From::Server).is_none());
        assert!(answer(&bytes, 7, "b.example", DnsKind::A, From::Server).is_none());
        assert!(answer(&bytes, 7, "a.example", DnsKind::Aaaa, From::Server).is_none());
        assert!(answer(b"junk", 7, "a.example", DnsKind::A, From::Server).is_none());
        let asked = question(7, "a.example", DnsKind::A, true).unwrap();
        assert!(answer(&asked, 7, "a.example", DnsKind::A, From::Server).is_none(), "an echo");
    }

    #[test]
    fn srv_records_keep_their_port_and_lose_the_final_dot() {
        let data = SRV { priority: 1, weight: 2, port: 9100, target: Name::new("node.example").unwrap() };
        let bytes = reply(1, "_p._tcp.example", DnsKind::Srv, vec![("_p._tcp.example", RData::SRV(data))]);
        let answer = answer(&bytes, 1, "_p._tcp.example", DnsKind::Srv, From::Server).unwrap();
        assert_eq!(targets(&answer), [("node.example", 9100)]);
    }

    #[test]
    fn a_name_that_is_too_long_is_not_asked_for() {
        assert!(question(1, &"a".repeat(64), DnsKind::A, true).is_none());
        assert!(question(1, &"a.".repeat(200), DnsKind::A, true).is_none());
    }

    #[test]
    fn questions_are_those_of_a_dns_crate() {
        for name in [
            "a.example",
            "a.example.",
            "a..b",
            "",
            "My\\.Printer._ipp._tcp.local",
            "a\\065\\\\b",
            "x\\",
            "x\\25",
            "x\\256",
        ] {
            let theirs = Name::new(name).ok().map(|name| {
                let mut packet = Packet::new_query(7);
                packet.set_flags(PacketFlag::RECURSION_DESIRED);
                packet.questions.push(Question::new(name, QTYPE::TYPE(TYPE::SRV), CLASS::IN.into(), false));
                packet.build_bytes_vec().unwrap()
            });
            assert_eq!(question(7, name, DnsKind::Srv, true), theirs, "{name}");
        }
    }

    #[test]
    fn what_fits_into_a_message_that_was_cut_counts_and_foreign_records_do_no_harm() {
        let a = |address| ("www.example", RData::A(A { address }));
        let mut bytes = reply(7, "www.example", DnsKind::A, vec![a(1), a(2), a(3)]);
        bytes.truncate(bytes.len() - 3);
        assert!(answer(&bytes, 7, "www.example", DnsKind::A, From::Server).is_none());
        bytes[2] |= 2; // TC
        let cut = answer(&bytes, 7, "www.example", DnsKind::A, From::Server).unwrap();
        assert_eq!((cut.verdict, targets(&cut)), (Verdict::Truncated, vec![("0.0.0.1", 0), ("0.0.0.2", 0)]));

        let mut bytes = reply(7, "www.example", DnsKind::A, vec![a(1), a(2)]);
        let (first, last) = (bytes.len() - 32, bytes.len() - 16);
        assert_eq!(bytes[first + 2..first + 4], [0, 1], "where the type is");
        bytes[first + 2] = 0xff; // a type that nobody knows
        let found = answer(&bytes, 7, "www.example", DnsKind::A, From::Server).unwrap();
        assert_eq!(targets(&found), [("0.0.0.2", 0)]);
        bytes[last + 5] = 3; // CHAOS
        assert!(answer(&bytes, 7, "www.example", DnsKind::A, From::Server).unwrap().records.is_empty());
    }

    #[test]
    fn names_have_no_circles_and_no_labels_of_unknown_kinds() {
        let name = |message: &[u8], at: usize| Reader { message, at }.name();
        assert_eq!(name(b"\x01a\x00\x02bc\xc0\x00", 3).as_deref(), Some("bc.a"));
        assert_eq!(name(b"\xc0\x00", 0), None);
        assert_eq!(name(b"\x01a\xc0\x00", 0), None);
        assert_eq!(name(b"\x40a\x00", 0), None);
        let label = [&b"\x40"[..], &[b'a'; 64], b"\x00"].concat();
        assert_eq!(name(&label, 0), None, "64 bytes");
        assert_eq!(name(b"\x03a.b\x00", 0).as_deref(), Some("a\\.b"));
    }

    #[test]
    fn multicast_answers_may_lack_id_and_question() {
        let mut packet = Packet::new_reply(0);
        let name = Name::new("pi.local").unwrap();
        packet.answers.push(ResourceRecord::new(name, CLASS::IN, 120, RData::A(A { address: 0x0a000009 })));
        let bytes = packet.build_bytes_vec().unwrap();
        let found = answer(&bytes, 99, "pi.local", DnsKind::A, From::Neighbour).unwrap();
        assert_eq!(targets(&found), [("10.0.0.9", 0)]);
        assert!(answer(&bytes, 99, "pi.local", DnsKind::A, From::Server).is_none());
    }

    /// Damaged messages are read as something or nothing; a panic would end the agent. What a DNS crate reads is read as the same.
    #[test]
    fn damage_is_survived() {
        let good = reply(
            7,
            "www.example",
            DnsKind::A,
            vec![
                ("www.example", RData::CNAME(CNAME(Name::new("a.example").unwrap()))),
                ("a.example", RData::A(A { address: 1 })),
            ],
        );
        let rounds: u64 =
            std::env::var("PROMWATCH_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
        let mut seed = 1u64;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        for _ in 0..rounds {
            let mut bytes = good.clone();
            for _ in 0..1 + random(6) {
                match random(4) {
                    0 => bytes.truncate(1 + random(bytes.len())),
                    1 => bytes.insert(random(bytes.len()), random(256) as u8),
                    // Compression pointers and lengths are where parsers go wrong.
                    2 => {
                        let at = random(bytes.len());
                        bytes[at] = [0xc0, 0xff, 0x3f, 0x00, 0x40][random(5)];
                    }
                    _ => {
                        let at = random(bytes.len());
                        bytes[at] = random(256) as u8;
                    }
                }
            }
            for kind in [DnsKind::A, DnsKind::Ns] {
                let ours = answer(&bytes, 7, "www.example", kind, From::Neighbour);
                if let Some(theirs) = judge(&bytes, 7, "www.example", kind, From::Neighbour) {
                    assert_eq!(ours.as_ref(), Some(&theirs), "{bytes:02x?}");
                }
            }
        }
    }
}
