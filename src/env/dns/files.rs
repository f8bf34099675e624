//! `/etc/hosts` and `/etc/resolv.conf`, as resolv.conf(5) and hosts(5) describe them.

use crate::env::{Disk, RealDisk, Stamp};
use rustix::net::{AddressFamily, SocketType};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

/// Lists that block advertisements are long; what lies beyond is not read.
const MAX_HOSTS_BYTES: u64 = 4 << 20;
const MAX_CONF_BYTES: u64 = 64 << 10;
const MAX_SERVERS: usize = 4;
const MAX_SEARCH: usize = 6;
const DNS_PORT: u16 = 53;

/// Where names are looked up.
#[derive(Clone, Debug)]
pub struct ResolverFiles {
    /// Names that are answered without asking anybody.
    pub hosts: PathBuf,
    /// The name servers and how to ask them. Beside an address, `[address]:port` is understood, as on OpenBSD.
    pub resolv_conf: PathBuf,
}

impl Default for ResolverFiles {
    fn default() -> Self {
        Self { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into() }
    }
}

/// What `resolv.conf` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub servers: Vec<SocketAddr>,
    pub search: Vec<String>,
    pub ndots: usize,
    pub timeout_ms: u64,
    pub attempts: usize,
}

impl Default for ResolvConf {
    /// A missing file means a server on this machine.
    fn default() -> Self {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT));
        Self { servers: vec![here], search: Vec::new(), ndots: 1, timeout_ms: 5000, attempts: 2 }
    }
}

impl ResolvConf {
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = Self { servers: Vec::new(), ..Self::default() };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    if let Some(server) = words.next().and_then(parse_server)
                        && conf.servers.len() < MAX_SERVERS
                    {
                        conf.servers.push(server);
                    }
                }
                Some("domain" | "search") => {
                    let names = words.map(|name| name.trim_matches('.').to_ascii_lowercase());
                    conf.search = names.filter(|name| !name.is_empty()).take(MAX_SEARCH).collect();
                }
                Some("options") => words.for_each(|option| conf.option(option)),
                _ => {}
            }
        }
        if conf.servers.is_empty() {
            conf.servers = Self::default().servers;
        }
        conf
    }

    fn option(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout_ms = u64::from(value.clamp(1, 30)) * 1000,
            "attempts" => self.attempts = value.clamp(1, 5) as usize,
            _ => {}
        }
    }

    /// The names to ask for, in order: a name with `ndots` dots first as it is, others first with the search list.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(name) = name.strip_suffix('.') {
            return vec![name.to_string()];
        }
        let mut names: Vec<String> = self.search.iter().map(|domain| format!("{name}.{domain}")).collect();
        let as_it_is = if name.matches('.').count() >= self.ndots { 0 } else { names.len() };
        names.insert(as_it_is, name.to_string());
        names
    }
}

fn parse_server(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, DNS_PORT));
    }
    if text.starts_with('[') {
        let (host, port) = text.strip_prefix('[')?.split_once("]:")?;
        return Some(SocketAddr::new(host.parse().ok()?, port.parse().ok()?));
    }
    // A link-local server with the interface it is reached through.
    let (address, interface) = text.split_once('%')?;
    let index = interface.parse().ok().or_else(|| interface_index(interface))?;
    Some(SocketAddrV6::new(address.parse().ok()?, DNS_PORT, 0, index).into())
}

fn interface_index(name: &str) -> Option<u32> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    rustix::net::netdevice::name_to_index(&socket, name).ok()
}

/// `resolv.conf`, read anew when it changes: DHCP and modems rewrite it.
#[derive(Debug, Default)]
pub(super) struct CachedConf {
    stamp: Option<Stamp>,
    conf: ResolvConf,
}

impl CachedConf {
    pub(super) fn get(&mut self, path: &Path) -> &ResolvConf {
        let stamp = RealDisk.stat(path).ok();
        if self.stamp != stamp || stamp.is_none() {
            self.conf = match RealDisk.read(path, MAX_CONF_BYTES) {
                Ok(bytes) => ResolvConf::parse(&String::from_utf8_lossy(&bytes)),
                Err(_) => ResolvConf::default(),
            };
            self.stamp = stamp;
        }
        &self.conf
    }
}

/// The addresses that the hosts file gives a name. Read each time: it is asked once per connection, and may be large.
pub(super) fn from_hosts(path: &Path, name: &str) -> Vec<IpAddr> {
    match RealDisk.read(path, MAX_HOSTS_BYTES) {
        Ok(bytes) => addresses_of(&bytes, name),
        Err(_) => Vec::new(),
    }
}

pub(super) fn addresses_of(hosts: &[u8], name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in hosts.split(|&byte| byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(address) = words.next() else { continue };
        if words.any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name))
            && let Ok(address) = address.parse()
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// Whether an interface has an IPv6 address that reaches beyond its own link (`/proc/net/if_inet6`: scope 00 is global, local
/// networks included). Without one nobody is asked for AAAA records.
pub(super) fn has_ipv6() -> bool {
    let Ok(bytes) = RealDisk.read(Path::new("/proc/net/if_inet6"), MAX_CONF_BYTES) else { return false };
    String::from_utf8_lossy(&bytes).lines().any(|line| line.split_ascii_whitespace().nth(3) == Some("00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_its_manual_says() {
        let conf = ResolvConf::parse(
            "# comment\nnameserver 10.0.0.1 ; other\nnameserver bad\nnameserver 2001:db8::1\nnameserver [127.0.0.1]:5300\n\
             domain old.example\nsearch Corp.Example. example\noptions ndots:2 timeout:99 attempts:0 rotate\n",
        );
        let want: Vec<SocketAddr> =
            ["10.0.0.1:53", "[2001:db8::1]:53", "127.0.0.1:5300"].iter().map(|s| s.parse().unwrap()).collect();
        assert_eq!(conf.servers, want);
        assert_eq!(conf.search, ["corp.example", "example"]);
        assert_eq!((conf.ndots, conf.timeout_ms, conf.attempts), (2, 30_000, 1));
        assert_eq!(ResolvConf::parse(""), ResolvConf::default());
    }

    #[test]
    fn the_search_list_comes_first_for_names_with_few_dots() {
        let conf = ResolvConf { search: vec!["a".into(), "b.c".into()], ndots: 1, ..ResolvConf::default() };
        assert_eq!(conf.candidates("host"), ["host.a", "host.b.c", "host"]);
        assert_eq!(conf.candidates("host.x"), ["host.x", "host.x.a", "host.x.b.c"]);
        assert_eq!(conf.candidates("host."), ["host"]);
    }

    #[test]
    fn hosts_gives_every_address_of_a_name() {
        let hosts = b"127.0.0.1 localhost\n10.0.0.5\tpi.lan PI # mine\n::5 pi\nbad pi\n10.0.0.6 notpi\n\xff\xff pi\n10.0.0.5 pi";
        assert_eq!(addresses_of(hosts, "pi"), ["10.0.0.5".parse::<IpAddr>().unwrap(), "::5".parse().unwrap()]);
        assert_eq!(addresses_of(hosts, "mine"), Vec::<IpAddr>::new());
    }
}
