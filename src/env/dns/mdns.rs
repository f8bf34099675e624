//! Names under `.local`: one question to everyone on the link (RFC 6762, section 5.1, one-shot queries).

use super::ask::random_id;
use super::message::{From, answer, question};
use crate::env::clock::boottime_ms;
use crate::env::net::{Patience, Waited};
use crate::env::{Disk, NetError, RealDisk};
use crate::model::settings::DnsKind;
use rustix::event::{PollFd, PollFlags};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::path::Path;

const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// The question goes out again after this long, and once more after twice that.
const REPEAT_MS: u64 = 700;
const REPEATS: u32 = 3;
const MAX_INTERFACES: usize = 8;

/// The addresses of a name and their life in seconds; nothing when nobody answers in about two seconds.
pub(super) fn ask(name: &str, patience: &Patience) -> Result<Option<(Vec<IpAddr>, u32)>, NetError> {
    let id = random_id();
    let Some(asked) = question(id, name, DnsKind::A, false) else { return Ok(None) };
    let sockets = sockets();
    if sockets.is_empty() {
        return Ok(None);
    }
    for repeat in 0..REPEATS {
        for (socket, group) in &sockets {
            // An interface that is down refuses; another may do.
            let _ = socket.send_to(&asked, group);
        }
        let until_ms = boottime_ms().saturating_add(REPEAT_MS << repeat.min(1));
        loop {
            let mut files: Vec<_> = sockets.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::IN)).collect();
            match patience.wait_at_most(&mut files, until_ms.saturating_sub(boottime_ms())) {
                Ok(true) => {}
                Ok(false) => break,
                Err(Waited::TooLong) => return Ok(None),
                Err(Waited::Stopped) => return Err(Waited::Stopped.error(&format!("looking up {name}"))),
            }
            for (socket, _) in &sockets {
                if let Some(found) = read(socket, id, name) {
                    return Ok(Some(found));
                }
            }
        }
    }
    Ok(None)
}

fn read(socket: &UdpSocket, id: u16, name: &str) -> Option<(Vec<IpAddr>, u32)> {
    let mut datagram = [0; 2048];
    for _ in 0..64 {
        let (read, sender) = socket.recv_from(&mut datagram).ok()?;
        // Only responders may use the port (section 11).
        if sender.port() != PORT {
            continue;
        }
        let bytes = datagram.get(..read).unwrap_or_default();
        if let Some(found) = answer(bytes, id, name, DnsKind::A, From::Neighbour) {
            let addresses: Vec<IpAddr> = found.addresses().collect();
            if !addresses.is_empty() {
                return Some((addresses, found.ttl_s));
            }
        }
    }
    None
}

/// A socket per interface and family: a device without a default route still has neighbours.
fn sockets() -> Vec<(UdpSocket, SocketAddr)> {
    let mut sockets = Vec::new();
    let Some(default) = open(Ipv4Addr::UNSPECIFIED.into()) else { return sockets };
    let names = RealDisk.list(Path::new("/sys/class/net")).unwrap_or_default();
    // Containers' interfaces come in dozens and have no neighbours of ours.
    let inner = ["lo", "veth", "docker", "br-"];
    let outer = names.iter().filter(|entry| !inner.iter().any(|prefix| entry.name.starts_with(prefix)));
    for name in outer.take(MAX_INTERFACES) {
        let Ok(index) = rustix::net::netdevice::name_to_index(&default, &name.name) else { continue };
        if let Some(socket) = open(Ipv4Addr::UNSPECIFIED.into())
            && rustix::net::sockopt::set_ip_multicast_if_with_ifindex(
                &socket,
                &Ipv4Addr::UNSPECIFIED,
                &Ipv4Addr::UNSPECIFIED,
                index,
            )
            .is_ok()
        {
            sockets.push((socket, SocketAddr::from((GROUP_V4, PORT))));
        }
        if let Some(socket) = open(Ipv6Addr::UNSPECIFIED.into()) {
            sockets.push((socket, SocketAddrV6::new(GROUP_V6, PORT, 0, index).into()));
        }
    }
    sockets
}

#[expect(clippy::disallowed_methods, reason = "the door to the network")]
fn open(address: IpAddr) -> Option<UdpSocket> {
    let socket = UdpSocket::bind((address, 0)).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}
