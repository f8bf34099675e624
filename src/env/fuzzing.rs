//! What the fuzz targets in `fuzz/` call of this room. Builds without debug assertions do not have it.

pub use super::dns::fuzzing::{DnsAnswer, MAX_RECORDS, ResolvConf, dns_answer, dns_question, hosts, resolv_conf};
pub use super::net::fuzzing::{ParsedUrl, proxy, url};

/// What an OAuth2 answer gives: the `Authorization` header and its life in milliseconds, and the error's code.
pub fn oauth2_answer(body: &[u8]) -> (Option<(String, Option<u64>)>, Option<String>) {
    (super::authorization::token_of(body), super::authorization::reason_of(body))
}
