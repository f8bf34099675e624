//! Asking the servers: over UDP, several in turn, and over TCP what does not fit.

use super::files::ResolvConf;
use super::message::{Answer, From, Verdict, answer, question};
use crate::env::NetError;
use crate::env::clock::boottime_ms;
use crate::env::net::{Patience, Waited, connect_first};
use crate::model::settings::DnsKind;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

/// No server gets less time than this, however many there are.
const MIN_STEP_MS: u64 = 200;
/// A datagram that was lost on a bad link is sent again, or to the next server, after this long, then twice that.
const FIRST_REPEAT_MS: u64 = 1000;
/// After one of two questions is answered, the other may take this much longer.
const SECOND_ANSWER_MS: u64 = 1000;
/// The longest UDP answer that is read; longer ones are cut by the servers and asked for over TCP.
const MAX_DATAGRAM_BYTES: usize = 4096;

/// What the servers said about one name.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// One per kind that was asked for; nothing where no server could tell.
    pub answers: Vec<Option<Answer>>,
    /// A server said something, though not necessarily the answer.
    pub alive: bool,
}

struct Server {
    address: SocketAddr,
    socket: Option<UdpSocket>,
    failed: bool,
}

/// Asks for all kinds at once. Each server is asked in turn and none is forgotten: a late answer of an earlier one still counts.
pub(super) fn ask(conf: &ResolvConf, name: &str, kinds: &[DnsKind], patience: &Patience) -> Result<Outcome, NetError> {
    let mut outcome = Outcome { answers: vec![None; kinds.len()], alive: false };
    let mut ids = vec![0u16; kinds.len()];
    ids.iter_mut().for_each(|id| *id = random_id());
    let mut servers: Vec<Server> =
        conf.servers.iter().map(|&address| Server { address, socket: None, failed: false }).collect();
    let steps = conf.attempts.saturating_mul(servers.len());
    for step in 0..steps {
        let Some(turn) = step.checked_rem(servers.len()) else { break };
        if servers.iter().all(|server| server.failed) {
            break;
        }
        let Some(server) = servers.get_mut(turn).filter(|server| !server.failed) else { continue };
        if send_questions(server, name, kinds, &ids, &outcome.answers).is_none() {
            server.failed = true;
            continue;
        }
        let repeat_ms = match steps - step {
            1 => conf.timeout_ms,
            _ => conf.timeout_ms.min(FIRST_REPEAT_MS << (step / servers.len()).min(4)),
        };
        let share_ms = patience.left_ms() / (steps - step) as u64;
        let mut until_ms = boottime_ms().saturating_add(repeat_ms.min(share_ms).max(MIN_STEP_MS));
        // Until this server's time is over, it has failed, or everything is answered.
        while servers.get(turn).is_some_and(|server| !server.failed) {
            let ready = match wait(&servers, until_ms, patience) {
                Ok(true) => true,
                Ok(false) => false,
                Err(Waited::TooLong) => return Ok(outcome),
                Err(Waited::Stopped) => return Err(Waited::Stopped.error(&format!("looking up {name}"))),
            };
            if !ready {
                break;
            }
            for server in &mut servers {
                read_answers(server, name, kinds, &ids, &mut outcome, patience)?;
            }
            if outcome.answers.iter().all(Option::is_some) {
                return Ok(outcome);
            }
            if outcome.answers.iter().flatten().any(|answer| !answer.records.is_empty()) {
                until_ms = until_ms.min(boottime_ms().saturating_add(SECOND_ANSWER_MS));
            }
        }
        if outcome.answers.iter().flatten().any(|answer| !answer.records.is_empty()) {
            break;
        }
    }
    Ok(outcome)
}

fn wait(servers: &[Server], until_ms: u64, patience: &Patience) -> Result<bool, Waited> {
    let mut files: Vec<_> = servers
        .iter()
        .filter(|server| !server.failed)
        .filter_map(|server| server.socket.as_ref().map(|socket| PollFd::new(socket, PollFlags::IN)))
        .collect();
    patience.wait_at_most(&mut files, until_ms.saturating_sub(boottime_ms()))
}

/// Asks what is not answered yet. The socket is connected, so the kernel lets only this server answer, and its port is new.
fn send_questions(
    server: &mut Server,
    name: &str,
    kinds: &[DnsKind],
    ids: &[u16],
    answers: &[Option<Answer>],
) -> Option<()> {
    if server.socket.is_none() {
        server.socket = Some(open(server.address)?);
    }
    let socket = server.socket.as_ref()?;
    for ((&kind, &id), answered) in kinds.iter().zip(ids).zip(answers) {
        if answered.is_none() {
            socket.send(&question(id, name, kind, true)?).ok()?;
        }
    }
    Some(())
}

#[expect(clippy::disallowed_methods, reason = "the door to the network")]
fn open(server: SocketAddr) -> Option<UdpSocket> {
    let socket = match server {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = socket.ok()?;
    socket.connect(server).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

fn read_answers(
    server: &mut Server,
    name: &str,
    kinds: &[DnsKind],
    ids: &[u16],
    outcome: &mut Outcome,
    patience: &Patience,
) -> Result<(), NetError> {
    let Some(socket) = server.socket.as_ref().filter(|_| !server.failed) else { return Ok(()) };
    let mut datagram = [0; MAX_DATAGRAM_BYTES];
    // Bounded: whoever floods the port with wrong answers does not keep us here.
    for _ in 0..64 {
        let bytes = match socket.recv(&mut datagram) {
            Ok(read) => datagram.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            // Nobody listens there, or there is no way there.
            Err(_) => {
                server.failed = true;
                return Ok(());
            }
        };
        for ((&kind, &id), slot) in kinds.iter().zip(ids).zip(&mut outcome.answers) {
            let Some(mut found) = answer(bytes, id, name, kind, From::Server) else { continue };
            outcome.alive = true;
            if found.verdict == Verdict::Truncated {
                match over_tcp(server.address, name, kind, patience) {
                    Ok(Some(whole)) => found = whole,
                    // What did fit is better than nothing.
                    Ok(None) if !found.records.is_empty() => found.verdict = Verdict::Exists,
                    Ok(None) => found.verdict = Verdict::Failed,
                    Err(error) => return Err(error),
                }
            }
            if found.verdict == Verdict::Failed {
                server.failed = true;
            } else {
                slot.get_or_insert(found);
            }
        }
        if server.failed {
            return Ok(());
        }
    }
    Ok(())
}

/// The same question over TCP (RFC 7766); nothing when the server does not answer that way.
fn over_tcp(server: SocketAddr, name: &str, kind: DnsKind, patience: &Patience) -> Result<Option<Answer>, NetError> {
    let id = random_id();
    let Some(asked) = question(id, name, kind, true) else { return Ok(None) };
    let patience = patience.at_most(patience.left_ms() / 2);
    let exchange = || -> Result<Option<Vec<u8>>, Waited> {
        let Ok((socket, _)) = connect_first(&mut std::iter::once(server), &patience) else {
            patience.check()?;
            return Ok(None);
        };
        let mut message = (asked.len() as u16).to_be_bytes().to_vec();
        message.extend_from_slice(&asked);
        if write_all(&socket, &message, &patience)?.is_none() {
            return Ok(None);
        }
        let Some(length) = read_exact(&socket, 2, &patience)? else { return Ok(None) };
        let length = length.iter().fold(0, |sum, &byte| sum * 256 + usize::from(byte));
        read_exact(&socket, length, &patience)
    };
    match exchange() {
        Ok(Some(bytes)) => {
            let found = answer(&bytes, id, name, kind, From::Server);
            Ok(found.filter(|answer| answer.verdict != Verdict::Truncated))
        }
        Ok(None) | Err(Waited::TooLong) => Ok(None),
        Err(Waited::Stopped) => Err(Waited::Stopped.error(&format!("looking up {name}"))),
    }
}

fn write_all(socket: &OwnedFd, mut bytes: &[u8], patience: &Patience) -> Result<Option<()>, Waited> {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => patience.wait(socket, PollFlags::OUT)?,
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(()))
}

fn read_exact(socket: &OwnedFd, length: usize, patience: &Patience) -> Result<Option<Vec<u8>>, Waited> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match recv(socket, bytes.get_mut(filled..).unwrap_or_default(), RecvFlags::empty()) {
            Ok((_, 0)) => return Ok(None),
            Ok((_, read)) => filled += read,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => patience.wait(socket, PollFlags::IN)?,
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(bytes))
}

/// What a stranger has to guess, beside the port.
pub(super) fn random_id() -> u16 {
    let mut bytes = [0; 2];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(_) => u16::from_le_bytes(bytes),
        Err(_) => boottime_ms() as u16,
    }
}
