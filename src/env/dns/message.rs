//! Questions to name servers and their answers (RFC 1035), by the crate simple-dns.

use crate::env::Record;
use crate::model::settings::DnsKind;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longer chains of aliases are not followed.
const MAX_ALIASES: usize = 8;
/// So many records of an answer are kept.
const MAX_RECORDS: usize = 256;

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
    let mut packet = Packet::new_query(id);
    if recursive {
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    let name = Name::new(name).ok()?;
    packet.questions.push(Question::new(name, QTYPE::TYPE(type_of(kind)), CLASS::IN.into(), false));
    packet.build_bytes_vec().ok()
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
    let packet = Packet::parse(bytes).ok()?;
    let is_ours = match from {
        From::Server => packet.id() == id && packet.questions.len() == 1,
        From::Neighbour => packet.id() == id || packet.id() == 0,
    };
    if !is_ours || !packet.has_flags(PacketFlag::RESPONSE) || packet.opcode() != OPCODE::StandardQuery {
        return None;
    }
    let wanted = QTYPE::TYPE(type_of(kind));
    if packet.questions.iter().any(|question| question.qtype != wanted || !is_name(&question.qname, name)) {
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
        for record in &packet.answers {
            if let RData::CNAME(target) = &record.rdata
                && names.iter().any(|name| is_name(&record.name, name))
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
    for record in &packet.answers {
        if !names.iter().any(|name| is_name(&record.name, name)) || answer.records.len() >= MAX_RECORDS {
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
        answer.records.push(Record { target: target.trim_end_matches('.').to_string(), port });
    }
    Some(answer)
}

fn is_name(name: &Name<'_>, text: &str) -> bool {
    name.to_string().trim_end_matches('.').eq_ignore_ascii_case(text.trim_end_matches('.'))
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

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, CNAME, SRV};

    fn reply(id: u16, asked: &str, kind: DnsKind, records: Vec<(&'static str, RData<'static>)>) -> Vec<u8> {
        let mut packet = Packet::new_reply(id);
        let name = Name::new(asked).unwrap().into_owned();
        packet.questions.push(Question::new(name, QTYPE::TYPE(type_of(kind)), CLASS::IN.into(), false));
        for (owner, data) in records {
            packet.answers.push(ResourceRecord::new(Name::new(owner).unwrap(), CLASS::IN, 60, data));
        }
        packet.build_bytes_vec_compressed().unwrap()
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
    fn multicast_answers_may_lack_id_and_question() {
        let mut packet = Packet::new_reply(0);
        let name = Name::new("pi.local").unwrap();
        packet.answers.push(ResourceRecord::new(name, CLASS::IN, 120, RData::A(A { address: 0x0a000009 })));
        let bytes = packet.build_bytes_vec().unwrap();
        let found = answer(&bytes, 99, "pi.local", DnsKind::A, From::Neighbour).unwrap();
        assert_eq!(targets(&found), [("10.0.0.9", 0)]);
        assert!(answer(&bytes, 99, "pi.local", DnsKind::A, From::Server).is_none());
    }

    /// Damaged messages are read as something or nothing; a panic would end the agent.
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
            let _ = answer(&bytes, 7, "www.example", DnsKind::A, From::Neighbour);
        }
    }
}
