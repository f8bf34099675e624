//! What the fuzz targets in `fuzz/` call of this room. Builds without debug assertions do not have it.

use super::files;
use super::message::{self, From, Verdict};
use crate::env::Record;
use crate::model::settings::DnsKind;
use std::net::{IpAddr, SocketAddr};

/// The most records that an answer keeps.
pub const MAX_RECORDS: usize = message::MAX_RECORDS;

/// What a message says.
#[derive(Debug)]
pub struct DnsAnswer {
    /// The records of the kind that was asked for.
    pub records: Vec<Record>,
    /// Those of them that are addresses.
    pub addresses: Vec<IpAddr>,
    /// Seconds.
    pub ttl_s: u32,
    /// There is no such name, or the server cannot tell.
    pub is_negative: bool,
}

/// The message of a question.
pub fn dns_question(id: u16, name: &str, kind: DnsKind) -> Option<Vec<u8>> {
    message::question(id, name, kind, true)
}

/// Reads a message as the answer to a question.
pub fn dns_answer(bytes: &[u8], id: u16, name: &str, kind: DnsKind, multicast: bool) -> Option<DnsAnswer> {
    let from = if multicast { From::Neighbour } else { From::Server };
    let answer = message::answer(bytes, id, name, kind, from)?;
    Some(DnsAnswer {
        addresses: answer.addresses().collect(),
        is_negative: matches!(answer.verdict, Verdict::NoSuchName | Verdict::Failed),
        ttl_s: answer.ttl_s,
        records: answer.records,
    })
}

/// What `resolv.conf` says.
#[derive(Debug)]
pub struct ResolvConf {
    /// The name servers.
    pub servers: Vec<SocketAddr>,
    /// The names that are asked for, in order.
    pub candidates: Vec<String>,
    /// What one server gets, in milliseconds.
    pub timeout_ms: u64,
    /// Rounds.
    pub attempts: usize,
}

/// Reads `resolv.conf` and makes the names that are asked for one name.
pub fn resolv_conf(text: &str, name: &str) -> ResolvConf {
    let conf = files::ResolvConf::parse(text);
    let candidates = conf.candidates(name);
    ResolvConf { servers: conf.servers, candidates, timeout_ms: conf.timeout_ms, attempts: conf.attempts }
}

/// The addresses that a hosts file gives a name.
pub fn hosts(bytes: &[u8], name: &str) -> Vec<IpAddr> {
    files::addresses_of(bytes, name)
}
