//! One connection: a socket, TLS over it where the URL asks for it, and the small buffers that ureq works on.
//!
//! The socket never blocks; every wait goes through [`Patience`]. Buffers exist only while a request runs.

use super::call::{Call, Shared};
use super::patience::{Patience, Waited, failure};
use super::tls;
use super::unacknowledged::unacknowledged_bytes;
use crate::env::clock::boottime_ms;
use crate::env::{NetError, NetErrorKind};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustls::ClientConnection;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

/// What is read and written at once: one TLS record.
const PIECE_BYTES: usize = 16 << 10;
/// The longest head of an answer; also what a chunk's size line and the trailers may take.
pub(super) const MAX_HEAD_BYTES: usize = 64 << 10;
/// How often a silent connection is looked at for bytes that the kernel still sends.
const LOOK_MS: u64 = 500;

pub(super) struct Link {
    socket: OwnedFd,
    tls: Option<Box<ClientConnection>>,
    shared: Arc<Shared>,
    buffer: Buffer,
    /// Nothing more is sent; what the other side said before it hung up, or before it had read all, can still be read.
    half_dead: bool,
    /// For people: who is at the other end.
    peer: String,
}

impl Link {
    pub(super) fn plain(socket: OwnedFd, shared: Arc<Shared>, peer: String) -> Self {
        Self { socket, tls: None, shared, buffer: Buffer::default(), half_dead: false, peer }
    }

    /// Speaks TLS from now on: completes the handshake.
    pub(super) fn secure(mut self, mut tls: ClientConnection, patience: &Patience) -> Result<Self, NetError> {
        let during = format!("in the TLS handshake with {}", self.peer);
        while tls.is_handshaking() || tls.wants_write() {
            if tls.wants_write() {
                match tls.write_tls(&mut Pipe(&self.socket)) {
                    Ok(_) => continue,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.wait(patience, PollFlags::OUT, &during)?;
                    }
                    Err(error) => return Err(self.broken(&during, &error)),
                }
                continue;
            }
            match tls.read_tls(&mut Pipe(&self.socket)) {
                Ok(0) => return Err(failure(NetErrorKind::Broken, format!("{} hung up {during}", self.peer))),
                Ok(_) => {
                    if let Err(error) = tls.process_new_packets() {
                        // The other side is told why, if it still listens.
                        let _ = tls.write_tls(&mut Pipe(&self.socket));
                        return Err(tls::classify(&error, &self.peer));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(patience, PollFlags::IN, &during)?,
                Err(error) => return Err(self.broken(&during, &error)),
            }
        }
        self.tls = Some(Box::new(tls));
        Ok(self)
    }

    /// Sends all of it before there is TLS or HTTP (a proxy's CONNECT).
    pub(super) fn send_raw(&self, mut bytes: &[u8], patience: &Patience, during: &str) -> Result<(), NetError> {
        while !bytes.is_empty() {
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(patience, PollFlags::OUT, during)?,
                Err(error) => return Err(self.broken(during, &error.into())),
            }
        }
        Ok(())
    }

    /// Reads up to the empty line that ends a head, byte by byte so that nothing after it is taken.
    pub(super) fn read_head_raw(&self, patience: &Patience, during: &str) -> Result<Vec<u8>, NetError> {
        let mut head = Vec::with_capacity(256);
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_HEAD_BYTES {
                return Err(failure(NetErrorKind::Protocol, format!("the head is over 64 KiB {during}")));
            }
            let mut byte = [0];
            match recv(&self.socket, &mut byte, RecvFlags::empty()) {
                Ok((_, 0)) => return Err(failure(NetErrorKind::Broken, format!("{} hung up {during}", self.peer))),
                Ok(_) => head.push(byte[0]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(patience, PollFlags::IN, during)?,
                Err(error) => return Err(self.broken(during, &error.into())),
            }
        }
        Ok(head)
    }

    /// Waits for the socket. What the kernel still sends for us counts as bytes that move.
    fn wait(&self, patience: &Patience, events: PollFlags, during: &str) -> Result<(), NetError> {
        self.wait_for_any(patience, events, during).map(|_| ())
    }

    /// As [`Self::wait`], and says what happened.
    fn wait_for_any(&self, patience: &Patience, events: PollFlags, during: &str) -> Result<PollFlags, NetError> {
        let mut moved_ms = boottime_ms();
        let mut queued = None;
        loop {
            let still_ms = boottime_ms().saturating_sub(moved_ms);
            let left_ms = patience.silence_ms().saturating_sub(still_ms);
            let mut files = [PollFd::new(&self.socket, events)];
            match patience.wait_at_most(&mut files, left_ms.min(LOOK_MS)) {
                Ok(true) => return Ok(files.iter().fold(PollFlags::empty(), |all, file| all | file.revents())),
                Ok(false) => {}
                Err(waited) => return Err(waited.error(during)),
            }
            let before = queued;
            // Nothing left to send: no more looking.
            if before != Some(0) {
                queued = Some(unacknowledged_bytes(&self.socket).unwrap_or(0));
            }
            if queued != before && before.is_some() {
                moved_ms = boottime_ms();
            } else if boottime_ms().saturating_sub(moved_ms) >= patience.silence_ms() {
                return Err(Waited::TooLong.error(during));
            }
        }
    }

    fn broken(&self, during: &str, error: &io::Error) -> NetError {
        failure(NetErrorKind::Broken, format!("the connection to {} broke {during}: {error}", self.peer))
    }

    /// `more`: the rest of the request follows at once, so both may share a packet.
    fn transmit(&mut self, amount: usize, more: bool, call: &mut Call) -> Result<(), NetError> {
        let patience = call.patience.clone();
        let during = "sending the request";
        patience.check().map_err(|waited| waited.error(during))?;
        let output = std::mem::take(&mut self.buffer.output);
        let bytes = call.as_it_goes_out(output.get(..amount).unwrap_or_default());
        let outcome = self.transmit_bytes(&bytes, more, &patience, call, during);
        drop(bytes);
        self.buffer.output = output;
        outcome
    }

    fn transmit_bytes(
        &mut self,
        mut bytes: &[u8],
        more: bool,
        patience: &Patience,
        call: &mut Call,
        during: &str,
    ) -> Result<(), NetError> {
        while !self.half_dead {
            let outcome = match &mut self.tls {
                None if bytes.is_empty() => return Ok(()),
                None => {
                    let flags = if more { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
                    send(&self.socket, bytes, flags).map_err(io::Error::from).map(|sent| {
                        bytes = bytes.get(sent..).unwrap_or_default();
                    })
                }
                Some(tls) => {
                    if !bytes.is_empty() {
                        let taken = tls.writer().write(bytes).unwrap_or(0);
                        bytes = bytes.get(taken..).unwrap_or_default();
                    }
                    if bytes.is_empty() && (more || !tls.wants_write()) {
                        return Ok(());
                    }
                    tls.write_tls(&mut Pipe(&self.socket)).map(|_| ())
                }
            };
            match outcome {
                Ok(()) => call.sent = true,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    // A server that has answered already need not read the rest, and some do not.
                    ErrorKind::WouldBlock => {
                        let ready = self.wait_for_any(patience, PollFlags::OUT | PollFlags::IN, during)?;
                        self.half_dead = ready.contains(PollFlags::IN) && self.has_answered();
                    }
                    // It may have answered before it hung up (413, 400, a dying proxy): the answer says more than this error.
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => self.half_dead = true,
                    _ => return Err(self.broken(during, &error)),
                },
            }
        }
        Ok(())
    }

    /// Whether something is there to read, be it the end; what TLS says about itself does not count.
    fn has_answered(&mut self) -> bool {
        let Some(tls) = &mut self.tls else {
            return recv(&self.socket, &mut [0], RecvFlags::PEEK).is_ok();
        };
        match tls.read_tls(&mut Pipe(&self.socket)) {
            Ok(0) => true,
            Ok(_) => tls.process_new_packets().map_or(true, |state| state.plaintext_bytes_to_read() > 0),
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Reads what there is, waiting for the first byte; false at the end.
    fn receive(&mut self, call: &mut Call) -> Result<bool, NetError> {
        let patience = call.patience.clone();
        let during = format!("waiting for the answer of {}", self.peer);
        if self.buffer.room().is_empty() {
            return Err(failure(NetErrorKind::Protocol, format!("the head of {}'s answer is over 64 KiB", self.peer)));
        }
        loop {
            patience.check().map_err(|waited| waited.error(&during))?;
            let outcome = match &mut self.tls {
                None => {
                    recv(&self.socket, self.buffer.room(), RecvFlags::empty()).map(|(_, n)| n).map_err(io::Error::from)
                }
                Some(tls) => {
                    let mut outcome = tls.reader().read(self.buffer.room());
                    if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                        if tls.wants_write() {
                            let _ = tls.write_tls(&mut Pipe(&self.socket));
                        }
                        match tls.read_tls(&mut Pipe(&self.socket)) {
                            Ok(read) => {
                                if let Err(error) = tls.process_new_packets() {
                                    let _ = tls.write_tls(&mut Pipe(&self.socket));
                                    return Err(tls::classify(&error, &self.peer));
                                }
                                if read > 0 {
                                    continue;
                                }
                                outcome = tls.reader().read(self.buffer.room());
                            }
                            Err(error) => outcome = Err(error),
                        }
                    }
                    outcome
                }
            };
            match outcome {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    self.buffer.appended(read);
                    call.received = true;
                    return Ok(true);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => self.wait(&patience, PollFlags::IN, &during)?,
                    _ => return Err(self.broken(&during, &error)),
                },
            }
        }
    }

    /// Nothing may be there to read between two requests but what TLS says about itself.
    fn is_quiet(&mut self) -> bool {
        let Some(tls) = &mut self.tls else {
            return recv(&self.socket, &mut [0], RecvFlags::PEEK).is_err_and(|error| error == Errno::AGAIN);
        };
        // Bounded: an endless stream of session tickets is not quiet.
        for _ in 0..8 {
            match tls.read_tls(&mut Pipe(&self.socket)) {
                Ok(0) => return false,
                Ok(_) => match tls.process_new_packets() {
                    Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
                    _ => return false,
                },
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        false
    }
}

impl Transport for Link {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffer
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let shared = Arc::clone(&self.shared);
        let mut call = shared.call();
        let output = self.buffer.output.get(..amount).unwrap_or_default();
        let more = call.body_follows && output.ends_with(b"\r\n\r\n");
        if more {
            call.body_follows = false;
        }
        self.transmit(amount, more, &mut call).map_err(|error| call.fail(error))
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let shared = Arc::clone(&self.shared);
        let mut call = shared.call();
        self.receive(&mut call).map_err(|error| call.fail(error))
    }

    /// ureq asks before it puts a connection away and before it takes it out again.
    fn is_open(&mut self) -> bool {
        self.buffer.give_back();
        !self.half_dead && !self.shared.call().only_new_connections && self.is_quiet()
    }

    fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.peer)
    }
}

/// The socket as rustls reads and writes it.
struct Pipe<'a>(&'a OwnedFd);

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0, buffer, RecvFlags::empty())?.1)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Input `start..end` of `input` is unread. Input grows only while ureq can make nothing of what it has, which is while a
/// head is incomplete.
#[derive(Default)]
struct Buffer {
    input: Vec<u8>,
    start: usize,
    end: usize,
    output: Vec<u8>,
    progress: bool,
}

impl Buffer {
    /// Where the next bytes go; empty when the limit is reached.
    fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.input.len() && self.input.len() <= MAX_HEAD_BYTES {
            if self.input.is_empty() {
                // Zeros of the system, not written one by one.
                self.input = vec![0; PIECE_BYTES];
            } else {
                self.input.resize(self.end + PIECE_BYTES, 0);
            }
        }
        self.input.get_mut(self.end..).unwrap_or_default()
    }

    fn appended(&mut self, amount: usize) {
        self.end = (self.end + amount).min(self.input.len());
    }

    fn give_back(&mut self) {
        if self.start == self.end {
            *self = Self::default();
        }
    }
}

impl Buffers for Buffer {
    fn output(&mut self) -> &mut [u8] {
        if self.output.is_empty() {
            self.output = vec![0; PIECE_BYTES];
        }
        &mut self.output
    }

    fn input(&self) -> &[u8] {
        self.input.get(self.start..self.end).unwrap_or_default()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.room()
    }

    fn input_appended(&mut self, amount: usize) {
        self.appended(amount);
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.start = (self.start + amount).min(self.end);
    }

    /// The scratch half is for chunked request bodies, which are never sent here.
    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        (&mut [], self.output())
    }

    fn can_use_input(&self) -> bool {
        self.start < self.end && self.progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_buffer_grows_to_its_limit_and_no_further() {
        let mut buffer = Buffer::default();
        let mut total = 0;
        loop {
            let room = buffer.room().len();
            if room == 0 {
                break;
            }
            total += room;
            buffer.appended(room);
        }
        assert!(total > MAX_HEAD_BYTES && total <= MAX_HEAD_BYTES + PIECE_BYTES, "{total}");
        buffer.input_consume(10);
        assert_eq!(buffer.room().len(), 10);
        buffer.input_consume(total - 10);
        buffer.give_back();
        assert_eq!(buffer.input.capacity(), 0);
    }
}
