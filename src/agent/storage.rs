//! The state directory: the spool in it, the small state file, counter baselines, and what to do when the disk fails.
//!
//! ```text
//!              append or sync fails, directory missing, read-only
//!  [on disk] -----------------------------------------------------> [memory]
//!      ^                                                               |
//!      '---------------- tried again every 30 s -----------------------'
//! ```
//!
//! A directory is more than its name: it may be removed, or another file system mounted over it, while the agent runs. So
//! before anything is written, and every few seconds, it is looked at by device and inode ([`Storage::look`]). One that is
//! another now is opened anew, under a lock of its own; what only the old one had is lost, counted and told.
//!
//! In memory the lane holds at most `memory_bytes`; the scrape goes on whatever the disk does. What is on the disk already
//! can still be read and delivered meanwhile.

use super::lane::LaneRecord;
use super::state::State;
use crate::env::{Disk, Env, Lock, Stamp, write_atomic};
use crate::model::Ranges;
use crate::model::settings::BufferSettings;
use crate::spool::{Abandoned, FOLDER, NewRecord, Outcome, Recovery, Spool, SpoolError};
use std::io;
use std::path::{Path, PathBuf};

const RETRY_MS: u64 = 30_000;
const BASELINES: &str = "baselines";
const LOCK: &str = "lock";
const BASELINES_BYTES_MAX: u64 = 64 << 20;

/// The state directory, open or not.
pub struct Storage {
    settings: BufferSettings,
    spool: Option<Spool>,
    lock: Option<Lock>,
    /// What was opened, by device and inode.
    identity: Option<Identity>,
    failing: bool,
    retry_ms: u64,
    last_error: Option<(i64, String)>,
    unsynced_since_ms: Option<u64>,
}

/// The directory, the spool's folder in it, and the lock file; nothing for one that is not there.
type Identity = [Option<(u64, u64)>; 3];

fn identity(dir: &Path, disk: &dyn Disk) -> io::Result<Identity> {
    let number = |path: &Path| match disk.stat(path) {
        Ok(Stamp { device, inode, .. }) => Ok(Some((device, inode))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    };
    Ok([number(dir)?, number(&dir.join(FOLDER))?, number(&dir.join(LOCK))?])
}

/// Why a state directory cannot be used at start.
#[derive(Debug)]
pub enum OpenError {
    /// Another `run` holds it.
    InUse,
}

/// Makes the directory, and certain that a power cut leaves it there: what is synced in a folder whose own name was not is
/// lost with the name.
fn make_dir(dir: &Path, disk: &dyn Disk) -> io::Result<()> {
    if disk.stat(dir).is_ok_and(|stamp| stamp.is_dir) {
        return Ok(());
    }
    disk.create_dir(dir)?;
    for above in dir.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        // A folder that may not be opened is none that was made just now.
        let _ = disk.sync_dir(above);
    }
    Ok(())
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the spool under this number.
    At(u64),
    /// It is larger than the whole buffer may be.
    TooLarge,
    /// There is no disk just now.
    NotNow,
}

impl Storage {
    /// Opens the directory. Only one that another process holds is an error; any other trouble means memory for now.
    pub fn open(settings: &BufferSettings, env: Env<'_>) -> Result<(Self, Option<Recovery>), OpenError> {
        let mut storage = Self {
            settings: settings.clone(),
            spool: None,
            lock: None,
            identity: None,
            failing: false,
            retry_ms: env.clock.monotonic_ms(),
            last_error: None,
            unsynced_since_ms: None,
        };
        let recovery = storage.reopen(env)?;
        Ok((storage, recovery))
    }

    /// Looks whether the directory is still the one that was opened. If not, the spool and the lock are let go, and what the
    /// spool leaves is given back; [`Storage::heal`] opens what is there now. A lock that alone was removed is taken again.
    pub fn look(&mut self, env: Env<'_>) -> Option<Abandoned> {
        let dir = self.settings.state_dir.clone()?;
        self.lock.as_ref()?;
        // A disk that fails says nothing of names.
        let now = identity(&dir, env.disk).ok()?;
        let [folder, spool, lock] = self.identity.replace(now).filter(|known| *known != now)?;
        let same = now[0] == folder && (spool.is_none() || now[1] == spool);
        let mut left = Abandoned::default();
        let text = if !same {
            left = self.spool.take().map(Spool::abandon).unwrap_or_default();
            if now[0].is_none() {
                "it was removed"
            } else {
                "another directory has its name, or that of its buffer, now"
            }
        } else if now[2] == lock {
            // The spool has made its folder.
            return None;
        } else {
            match env.disk.lock(&dir.join(LOCK)) {
                Ok(Some(lock)) => {
                    log::warn!("{}: the lock was removed and is taken again", dir.display());
                    self.lock = Some(lock);
                    self.identity = identity(&dir, env.disk).ok();
                    return None;
                }
                Ok(None) => "its lock was removed, and another promwatch has taken it",
                Err(_) => {
                    // Tried again with the next look.
                    self.identity = Some([folder, spool, lock]);
                    return None;
                }
            }
        };
        log::error!("the state directory {} is gone: {text}", dir.display());
        self.last_error = Some((env.clock.wall_ms(), format!("{}: {text}", dir.display())));
        // What another process has taken is its to deliver and to count.
        self.spool = None;
        self.lock = None;
        self.identity = None;
        self.unsynced_since_ms = None;
        self.retry_ms = env.clock.monotonic_ms();
        Some(left)
    }

    /// Whether the directory is ours: held by our lock.
    pub fn is_ours(&self) -> bool {
        self.lock.is_some() || self.settings.state_dir.is_none()
    }

    /// Tries again to open the directory when it is time.
    pub fn heal(&mut self, env: Env<'_>) -> Option<Recovery> {
        if self.spool.is_some() || self.settings.state_dir.is_none() || env.clock.monotonic_ms() < self.retry_ms {
            return None;
        }
        match self.reopen(env) {
            Ok(recovery) => recovery,
            Err(OpenError::InUse) => {
                self.fail("another promwatch has taken the state directory", env);
                None
            }
        }
    }

    fn reopen(&mut self, env: Env<'_>) -> Result<Option<Recovery>, OpenError> {
        let Some(dir) = self.settings.state_dir.clone() else { return Ok(None) };
        self.retry_ms = env.clock.monotonic_ms() + RETRY_MS;
        if let Err(error) = make_dir(&dir, env.disk) {
            self.fail(&format!("{}: {error}", dir.display()), env);
            return Ok(None);
        }
        if self.lock.is_none() {
            match env.disk.lock(&dir.join(LOCK)) {
                Ok(Some(lock)) => self.lock = Some(lock),
                Ok(None) => return Err(OpenError::InUse),
                Err(error) => {
                    self.fail(&format!("{}: {error}", dir.join(LOCK).display()), env);
                    return Ok(None);
                }
            }
        }
        self.identity = identity(&dir, env.disk).ok();
        match Spool::open(&dir, &self.settings, env.disk) {
            Ok((spool, recovery)) => {
                self.works();
                self.spool = Some(spool);
                Ok(Some(recovery))
            }
            Err(error) => {
                self.fail(&format!("{}: {error}", dir.display()), env);
                Ok(None)
            }
        }
    }

    /// The state directory, where there is one.
    pub fn dir(&self) -> Option<&Path> {
        self.settings.state_dir.as_deref()
    }

    /// The spool, while the disk works.
    pub fn spool(&mut self) -> Option<&mut Spool> {
        self.spool.as_mut()
    }

    /// The spool, while the disk works.
    pub fn spool_ref(&self) -> Option<&Spool> {
        self.spool.as_ref()
    }

    /// The last trouble with the disk and its wall time.
    pub fn last_error(&self) -> Option<&(i64, String)> {
        self.last_error.as_ref()
    }

    /// When the appended records must be synced; after a failure, when it is tried again.
    pub fn sync_due_ms(&self) -> Option<u64> {
        let due_ms = self.unsynced_since_ms? + self.settings.sync_interval_ms;
        Some(if self.failing { due_ms.max(self.retry_ms) } else { due_ms })
    }

    /// When a record that should be on disk at `due_ms` can be appended; nothing: not at all.
    pub fn append_due_ms(&self, due_ms: u64) -> Option<u64> {
        self.settings.state_dir.as_ref()?;
        Some(if self.failing { due_ms.max(self.retry_ms) } else { due_ms })
    }

    /// Takes over new bounds; the directory stays.
    pub fn reconfigure(&mut self, settings: &BufferSettings) {
        self.settings = settings.clone();
        if let Some(spool) = self.spool.as_mut() {
            spool.reconfigure(settings);
        }
    }

    /// Closes the spool in good order.
    pub fn close(&mut self, env: Env<'_>) {
        if let Some(spool) = self.spool.take()
            && let Err(error) = spool.close(env.disk)
        {
            log::warn!("the buffer was not closed in good order: {error}");
        }
        self.lock = None;
    }

    /// Whether records can be handed to the disk just now.
    pub fn usable(&self, now_ms: u64) -> bool {
        self.spool.is_some() && (!self.failing || now_ms >= self.retry_ms)
    }

    /// Appends a record. `delta_ms` is what its times are off where the clock is `confirmed`.
    pub fn append(&mut self, record: &LaneRecord, confirmed: bool, delta_ms: i64, env: Env<'_>) -> Appended {
        if !self.usable(env.clock.monotonic_ms()) {
            return Appended::NotNow;
        }
        let Some(spool) = self.spool.as_mut() else { return Appended::NotNow };
        // A record says that its clock was confirmed only with times that are: they are moved before, where they have to be.
        let mut moved = Vec::new();
        if delta_ms != 0 {
            moved.extend(record.events.iter().map(|event| event.shifted(delta_ms)));
        }
        let new = NewRecord {
            key: &record.key,
            boot_id: env.clock.boot_id(),
            monotonic_ms: record.monotonic_ms,
            wall_ms: record.wall_ms + delta_ms,
            clock_confirmed: confirmed,
            events: if delta_ms == 0 { &record.events } else { &moved },
        };
        match spool.append(&new, env.disk) {
            Ok(sequence) => {
                self.works();
                let since_ms = self.unsynced_since_ms.get_or_insert(record.monotonic_ms);
                *since_ms = (*since_ms).min(record.monotonic_ms);
                Appended::At(sequence)
            }
            Err(SpoolError::TooLarge) => Appended::TooLarge,
            Err(error) => {
                self.give_up(&error, env);
                Appended::NotNow
            }
        }
    }

    /// Settles events of the spool; how many of them were pending. The note of it is synced within `sync_interval`, so that a power
    /// cut repeats no more than that of a drain.
    pub fn settle(&mut self, outcome: Outcome, numbers: &Ranges, env: Env<'_>) -> u64 {
        let Some(spool) = self.spool.as_mut() else { return 0 };
        let (events, written) = spool.settle(outcome, numbers, env.disk);
        self.unsynced_since_ms.get_or_insert(env.clock.monotonic_ms());
        if let Err(error) = written {
            self.give_up(&error, env);
        }
        events
    }

    /// Makes everything appended so far durable. False: the disk failed.
    pub fn sync(&mut self, env: Env<'_>) -> bool {
        let Some(spool) = self.spool.as_mut() else { return false };
        match spool.sync(env.disk) {
            Ok(()) => {
                self.unsynced_since_ms = None;
                self.works();
                true
            }
            Err(error) => {
                self.give_up(&error, env);
                false
            }
        }
    }

    /// The disk failed: on with memory, and another try later.
    pub fn give_up(&mut self, error: &SpoolError, env: Env<'_>) {
        self.fail(&error.to_string(), env);
    }

    fn works(&mut self) {
        if std::mem::take(&mut self.failing) {
            log::info!("the buffer is on disk again");
        }
    }

    fn fail(&mut self, text: &str, env: Env<'_>) {
        if !std::mem::replace(&mut self.failing, true) {
            log::error!("the buffer cannot use its disk and stays in memory: {text}");
        }
        self.last_error = Some((env.clock.wall_ms(), text.to_owned()));
        self.retry_ms = env.clock.monotonic_ms() + RETRY_MS;
    }

    /// Reads the state file.
    pub fn load_state(&self, disk: &dyn Disk) -> State {
        let Some(dir) = self.dir() else { return State::default() };
        let (state, trouble) = State::load(dir, disk);
        if let Some(trouble) = trouble {
            log::warn!("{trouble}");
        }
        state
    }

    /// Replaces the state file; a failure is logged and costs only history.
    pub fn save_state(&mut self, state: &State, env: Env<'_>) {
        let Some(dir) = self.settings.state_dir.clone() else { return };
        if self.lock.is_none() {
            return;
        }
        if let Err(error) = state.save(&dir, env.disk) {
            log::warn!("the state file is not saved: {error}");
        }
    }

    /// Reads the counter baselines of a clean stop.
    pub fn load_baselines(&self, disk: &dyn Disk) -> Option<Vec<u8>> {
        disk.read(&self.baselines_path()?, BASELINES_BYTES_MAX).ok()
    }

    /// Keeps the counter baselines for the next start.
    pub fn save_baselines(&self, bytes: &[u8], disk: &dyn Disk) -> bool {
        let Some(path) = self.baselines_path() else { return false };
        match write_atomic(disk, &path, bytes) {
            Ok(()) => true,
            Err(error) => {
                log::warn!("counter baselines are not saved, counters start anew: {error}");
                false
            }
        }
    }

    fn baselines_path(&self) -> Option<PathBuf> {
        self.lock.as_ref()?;
        Some(self.dir()?.join(BASELINES))
    }
}
