//! The only doors to the world: [`Clock`], [`Disk`] and [`Net`], three small traits, and their real versions.
//!
//! Whatever has to do with time, files or the network is given an [`Env`], so the whole agent runs in a seeded simulation.
//! Refuses: policy and retries. A call does one thing within its limits and says how it went.

mod authorization;
mod clock;
mod disk;
mod disk_types;
mod dns;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod fuzzing;
mod glob;
mod net;
mod net_types;
mod wait;

pub use authorization::{TokenCache, authorize, read_secret};
pub use clock::RealClock;
pub use disk::RealDisk;
pub use disk_types::{Access, Disk, DiskFile, Entry, FileSystem, Lock, Stamp, write_atomic};
pub use dns::ResolverFiles;
pub use glob::glob;
pub use net::RealNet;
pub use net_types::{CertificateTime, Exchange, Head, Limits, Net, NetError, NetErrorKind, Record, Request, Route};
pub use wait::Signals;

/// The three doors together.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    /// Time and chance.
    pub clock: &'a dyn Clock,
    /// Files.
    pub disk: &'a dyn Disk,
    /// Sockets and names.
    pub net: &'a dyn Net,
}

/// Time and chance.
pub trait Clock {
    /// Wall time, milliseconds since 1970. It may be wrong and it may step.
    fn wall_ms(&self) -> i64;
    /// Milliseconds since boot, time in suspension included (CLOCK_BOOTTIME). Never goes back while the machine is up.
    fn monotonic_ms(&self) -> u64;
    /// Names this boot of the machine (`/proc/sys/kernel/random/boot_id`).
    fn boot_id(&self) -> [u8; 16];
    /// The kernel says that its clock is synchronised.
    fn synchronised(&self) -> bool;
    /// A random number, for jitter and identifiers; not for keys.
    fn random(&self) -> u64;
}
