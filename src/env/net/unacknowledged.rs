//! Whether the kernel still moves what we gave it.
//!
//! A small body fits into the socket's buffer at once, and on a slow link takes many seconds from there: silence for us, but no
//! stall. `SIOCOUTQ` would tell, and cannot be asked without `unsafe`; `/proc` tells the same.

use crate::env::{Disk, RealDisk};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Some tens of thousands of sockets; beyond that nothing is known.
const MAX_TABLE_BYTES: u64 = 4 << 20;

/// How many bytes the other side of a TCP connection has not acknowledged; nothing for other sockets and without `/proc`.
pub(super) fn unacknowledged_bytes(socket: &OwnedFd) -> Option<u64> {
    let inode = rustix::fs::fstat(socket).ok()?.st_ino;
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().find_map(|table| {
        let bytes = RealDisk.read(Path::new(table), MAX_TABLE_BYTES).ok()?;
        sent_queue(&String::from_utf8_lossy(&bytes), inode)
    })
}

/// The `tx_queue` of the socket with that inode: columns 5 and 10 of the table (proc_pid_net(5)).
fn sent_queue(table: &str, inode: u64) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let queues = columns.nth(4)?;
        let found: u64 = columns.nth(4)?.parse().ok()?;
        if found != inode {
            return None;
        }
        u64::from_str_radix(queues.split(':').next()?, 16).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_found_by_the_inode() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:2382 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 81239 1 0000 100 0 0 10 0\n\
             1: 0100007F:A1B2 0100007F:2382 01 00001F40:00000010 01:00000014 00000000  1000        0 81300 2 0000 20 4 30 10 -1\n";
        assert_eq!(sent_queue(table, 81300), Some(8000));
        assert_eq!(sent_queue(table, 81239), Some(0));
        assert_eq!(sent_queue(table, 1), None);
        assert_eq!(sent_queue("", 1), None);
    }

    #[test]
    fn a_connection_of_ours_is_in_the_table() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        #[allow(clippy::disallowed_methods)]
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(unacknowledged_bytes(&stream.into()), Some(0));
    }
}
