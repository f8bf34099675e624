//! Names to addresses, within a deadline and without a thread: what `getaddrinfo` cannot promise.
//!
//! ```text
//! address literal ─► localhost ─► hosts file ─► cache ─► .local: multicast ─► name servers, with the search list
//!                                                 └─ while no server answers: the last good addresses
//! ```
//!
//! Refuses: DNSSEC, EDNS, nsswitch.conf, other databases. Limits: 64 names are remembered, for at most an hour and at least five
//! seconds; an answer is believed only from the server asked, to the port, id and question it was asked with.

mod ask;
mod files;
#[cfg(debug_assertions)]
pub(super) mod fuzzing;
mod mdns;
mod message;

pub use files::ResolverFiles;

use super::clock::boottime_ms;
use super::net::{Patience, failure};
use super::{NetError, NetErrorKind, Record};
use crate::model::settings::DnsKind;
use files::{CachedConf, ResolvConf, from_hosts, has_ipv6};
use message::Verdict;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const MAX_NAMES: usize = 64;
const MIN_TTL_S: u32 = 5;
const MAX_TTL_S: u32 = 3600;
/// While no server answers, the last good addresses are used this long before the next question (RFC 8767, section 5).
const STALE_MS: u64 = 30_000;
/// With good old addresses at hand the servers get no longer than this.
const MAX_REFRESH_MS: u64 = 2_000;

/// The stub resolver.
#[derive(Debug)]
pub(crate) struct Resolver {
    files: ResolverFiles,
    conf: CachedConf,
    names: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    name: String,
    addresses: Vec<IpAddr>,
    expires_ms: u64,
}

impl Resolver {
    pub(crate) fn new(files: ResolverFiles) -> Self {
        Self { files, conf: CachedConf::default(), names: Vec::new() }
    }

    /// The addresses of a host, best first; at least one.
    pub(crate) fn addresses(&mut self, host: &str, patience: &Patience) -> Result<Vec<IpAddr>, NetError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        // RFC 6761, section 6.3.
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let listed = from_hosts(&self.files.hosts, &name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        let now_ms = boottime_ms();
        let known = self.names.iter().position(|known| known.name == host);
        if let Some(known) = known.and_then(|at| self.names.get(at))
            && known.expires_ms > now_ms
        {
            return Ok(known.addresses.clone());
        }
        // Some time must be left to connect with what is found.
        let left_ms = patience.left_ms();
        let budget_ms = if known.is_some() { (left_ms / 3).min(MAX_REFRESH_MS) } else { left_ms / 4 * 3 };
        match self.ask_for_addresses(host, &name, &patience.at_most(budget_ms)) {
            Ok((addresses, ttl_s)) => {
                let life_ms = u64::from(ttl_s.clamp(MIN_TTL_S, MAX_TTL_S)) * 1000;
                self.remember(host, addresses.clone(), boottime_ms().saturating_add(life_ms));
                Ok(addresses)
            }
            Err(Unresolved::Error(error)) => Err(error),
            Err(Unresolved::NoSuchName(text)) => {
                self.names.retain(|known| known.name != host);
                Err(failure(NetErrorKind::Resolve, text))
            }
            Err(Unresolved::NoAnswer(text)) => match known.and_then(|at| self.names.get_mut(at)) {
                Some(known) => {
                    known.expires_ms = boottime_ms().saturating_add(STALE_MS);
                    Ok(known.addresses.clone())
                }
                None => Err(failure(NetErrorKind::Resolve, text)),
            },
        }
    }

    /// This address of the host worked: next time it is the first.
    pub(crate) fn prefer(&mut self, host: &str, address: IpAddr) {
        if let Some(known) = self.names.iter_mut().find(|known| known.name == host)
            && let Some(at) = known.addresses.iter().position(|&known| known == address)
        {
            known.addresses.swap(0, at);
        }
    }

    /// Records of one kind, by the rules of Prometheus' `dns_sd_configs` (discovery/dns/dns.go): the first name of the search list
    /// that exists answers, be it with nothing; that no name exists is an empty answer only when a server said so
    /// for each.
    pub(crate) fn lookup(&mut self, name: &str, kind: DnsKind, patience: &Patience) -> Result<Vec<Record>, NetError> {
        let conf = self.conf.get(&self.files.resolv_conf);
        let mut unknown = false;
        let candidates = conf.candidates(name);
        for (done, candidate) in candidates.iter().enumerate() {
            // Each name has its share of the time: that nobody answers for one says little of the next.
            let share_ms = patience.left_ms() / (candidates.len() - done) as u64;
            let outcome = ask::ask(conf, candidate, &[kind], &patience.at_most(share_ms))?;
            match outcome.answers.into_iter().next().flatten() {
                Some(answer) if answer.verdict == Verdict::Exists => return Ok(answer.records),
                Some(_) => {}
                None => unknown = true,
            }
        }
        match unknown {
            true => Err(failure(NetErrorKind::Resolve, no_answer(name, conf))),
            false => Ok(Vec::new()),
        }
    }

    fn remember(&mut self, host: &str, addresses: Vec<IpAddr>, expires_ms: u64) {
        self.names.retain(|known| known.name != host);
        if self.names.len() >= MAX_NAMES
            && let Some(oldest) =
                (0..self.names.len()).min_by_key(|&at| self.names.get(at).map(|known| known.expires_ms))
        {
            self.names.swap_remove(oldest);
        }
        self.names.push(Known { name: host.to_string(), addresses, expires_ms });
    }

    fn ask_for_addresses(
        &mut self,
        host: &str,
        name: &str,
        patience: &Patience,
    ) -> Result<(Vec<IpAddr>, u32), Unresolved> {
        if name.ends_with(".local")
            && let Some(found) =
                mdns::ask(name, &patience.at_most(patience.left_ms() / 3 * 2)).map_err(Unresolved::Error)?
        {
            return Ok(found);
        }
        let conf = self.conf.get(&self.files.resolv_conf);
        let kinds: &[DnsKind] = if has_ipv6() { &[DnsKind::A, DnsKind::Aaaa] } else { &[DnsKind::A] };
        let mut unknown = false;
        for candidate in conf.candidates(host) {
            let outcome = ask::ask(conf, &candidate, kinds, patience).map_err(Unresolved::Error)?;
            let found: Vec<_> = outcome.answers.iter().flatten().collect();
            let v4: Vec<IpAddr> = found.iter().flat_map(|answer| answer.addresses()).filter(IpAddr::is_ipv4).collect();
            let v6: Vec<IpAddr> = found.iter().flat_map(|answer| answer.addresses()).filter(IpAddr::is_ipv6).collect();
            if !v4.is_empty() || !v6.is_empty() {
                let ttl_s = found.iter().map(|answer| answer.ttl_s).min().unwrap_or(MIN_TTL_S);
                return Ok((alternating(&v6, &v4), ttl_s));
            }
            unknown |= outcome.answers.iter().any(Option::is_none);
            // Silence to one name is silence to all.
            if unknown && !outcome.alive {
                break;
            }
        }
        match unknown {
            true => Err(Unresolved::NoAnswer(no_answer(host, conf))),
            false => Err(Unresolved::NoSuchName(format!("{host}: no such name, or it has no address"))),
        }
    }
}

enum Unresolved {
    /// A server said so.
    NoSuchName(String),
    /// No server could tell.
    NoAnswer(String),
    /// The call is over.
    Error(NetError),
}

fn no_answer(name: &str, conf: &ResolvConf) -> String {
    let servers: Vec<String> = conf.servers.iter().map(|server| server.ip().to_string()).collect();
    format!("{name}: no answer from the name servers ({})", servers.join(", "))
}

/// One of each family in turn, IPv6 first (RFC 8305, section 4).
fn alternating(v6: &[IpAddr], v4: &[IpAddr]) -> Vec<IpAddr> {
    let mut mixed = Vec::with_capacity(v6.len() + v4.len());
    for at in 0..v6.len().max(v4.len()) {
        mixed.extend(v6.get(at));
        mixed.extend(v4.get(at));
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mixed = alternating(&[ip("::1")], &[ip("1.1.1.1"), ip("2.2.2.2")]);
        assert_eq!(mixed, [ip("::1"), ip("1.1.1.1"), ip("2.2.2.2")]);
    }

    #[test]
    fn the_memory_of_names_is_bounded() {
        let mut resolver = Resolver::new(ResolverFiles::default());
        for number in 0..MAX_NAMES + 10 {
            resolver.remember(&format!("h{number}"), vec![Ipv4Addr::LOCALHOST.into()], number as u64);
        }
        assert_eq!(resolver.names.len(), MAX_NAMES);
        assert!(resolver.names.iter().all(|known| known.expires_ms >= 10));
    }
}
