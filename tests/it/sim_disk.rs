//! A disk that only promises what POSIX does, for tests: what was written since the last sync of a file may be there in
//! any part after a power cut, and so may the changes of a folder since its last sync.
//!
//! Three things can be done to it: faults ([`Faults`]: out of space at a byte, errors at an operation or from one on,
//! read-only), [`SimDisk::power_cut`] (one random image of what a cut may leave) and [`SimDisk::for_each_image`] (all
//! images of the fault model). A killed process is [`SimDisk::kill`]: nothing is lost, locks are released.
//!
//! The fault model. Per file, of the part that was not synced: every prefix of whole sectors, every single sector as zeros
//! or noise, the whole length as zeros or noise. Per folder, of the changes that were not synced: every prefix and every
//! single omission. After a failed sync of a file its unsynced part never becomes certain, whatever later syncs say.

#![allow(dead_code)] // a stock of faults: not every test uses all of them

use promwatch::env::{Disk, DiskFile, Entry, Lock, Stamp};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What a medium writes in one go.
pub const SECTOR: usize = 512;

/// What goes wrong while the machine is up.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Bytes that all files together may take; an append writes what fits and fails.
    pub capacity: Option<u64>,
    /// The operation with this number (see [`SimDisk::operations`]) fails with EIO.
    pub eio_at: Option<u64>,
    /// All operations from this number on fail with EIO.
    pub eio_from: Option<u64>,
    /// All changes fail with EROFS.
    pub read_only: bool,
}

/// Handles of one disk share it.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Rc<RefCell<State>>,
}

#[derive(Clone, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    live: BTreeMap<PathBuf, Node>,
    /// What a power cut certainly leaves of the names.
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of names since the last sync of their folder, in order.
    pending: Vec<Change>,
    faults: Faults,
    operations: u64,
    writes: u64,
    written_bytes: u64,
    read_bytes: u64,
    syncs: u64,
    now: i64,
    next_inode: u64,
    /// Inodes of files that are locked: a lock does not follow a name.
    locks: BTreeSet<u64>,
    /// What is mounted where, and its device's number; 1 elsewhere.
    mounts: BTreeMap<PathBuf, u64>,
}

#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced_len: usize,
    /// A sync failed: the unsynced part stays uncertain for ever.
    poisoned: bool,
    modified: i64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    Dir(u64),
    File(u64),
}

impl Node {
    fn is_dir(self) -> bool {
        matches!(self, Node::Dir(_))
    }
}

#[derive(Clone, Debug)]
enum Change {
    Link(PathBuf, Node),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl Change {
    fn dir(&self) -> &Path {
        match self {
            Change::Link(path, _) | Change::Unlink(path) | Change::Rename(path, ..) => folder(path),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Change::Link(path, node) => drop(names.insert(path.clone(), *node)),
            Change::Unlink(path) => drop(names.remove(path)),
            Change::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), Node::File(*inode));
            }
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn eio() -> Error {
    Error::from_raw_os_error(5)
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy that shares nothing with this one; faults are taken away, locks released, counts kept.
    pub fn fork(&self) -> SimDisk {
        let mut state = self.state.borrow().clone();
        state.faults = Faults::default();
        state.locks.clear();
        SimDisk { state: Rc::new(RefCell::new(state)) }
    }

    /// The process was killed: the kernel still has everything, only the locks are gone.
    pub fn kill(&self) {
        self.state.borrow_mut().locks.clear();
    }

    /// From now on these things go wrong.
    pub fn set_faults(&self, faults: Faults) {
        self.state.borrow_mut().faults = faults;
    }

    /// Operations so far, failed ones included; every call of the traits is one.
    pub fn operations(&self) -> u64 {
        self.state.borrow().operations
    }

    /// Changes of content or names so far, and syncs.
    pub fn writes_and_syncs(&self) -> (u64, u64) {
        let state = self.state.borrow();
        (state.writes, state.syncs)
    }

    /// Bytes appended to files so far.
    pub fn written_bytes(&self) -> u64 {
        self.state.borrow().written_bytes
    }

    /// Bytes read from files so far.
    pub fn read_bytes(&self) -> u64 {
        self.state.borrow().read_bytes
    }

    /// Somebody removes a folder with all that is in it. Open files live on without a name, and a lock with its file.
    pub fn remove_tree(&self, dir: &Path) {
        self.state.borrow_mut().forget(dir);
    }

    /// Somebody removes a folder and makes a new, empty one in its place.
    pub fn replace_tree(&self, dir: &Path) {
        let mut state = self.state.borrow_mut();
        state.forget(dir);
        let node = Node::Dir(state.new_inode());
        state.live.insert(dir.to_path_buf(), node);
        state.durable.insert(dir.to_path_buf(), node);
    }

    /// Another, empty file system is mounted over a folder. Its root has the folder's inode number, as roots often do: only
    /// the device tells them apart.
    pub fn mount_over(&self, dir: &Path) {
        let mut state = self.state.borrow_mut();
        let node = state.live.get(dir).copied().unwrap_or(Node::Dir(2));
        state.forget(dir);
        state.live.insert(dir.to_path_buf(), node);
        state.durable.insert(dir.to_path_buf(), node);
        let device = 2 + state.mounts.len() as u64;
        state.mounts.insert(dir.to_path_buf(), device);
    }

    /// Bytes that all files take.
    pub fn used_bytes(&self) -> u64 {
        self.state.borrow().used()
    }

    /// Puts a file there, durable, or replaces it.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state.borrow_mut();
        let inode = state.new_inode();
        state.now += 1;
        let modified = state.now;
        state.inodes.insert(inode, Inode { bytes: bytes.to_vec(), synced_len: bytes.len(), poisoned: false, modified });
        let mut dir = folder(path).to_path_buf();
        loop {
            if !state.live.contains_key(&dir) {
                let node = Node::Dir(state.new_inode());
                state.live.insert(dir.clone(), node);
                state.durable.insert(dir.clone(), node);
            }
            if !dir.pop() {
                break;
            }
        }
        state.live.insert(path.to_path_buf(), Node::File(inode));
        state.durable.insert(path.to_path_buf(), Node::File(inode));
        state.pending.retain(|change| match change {
            Change::Link(of, _) | Change::Unlink(of) => of != path,
            Change::Rename(..) => true,
        });
    }

    /// A file's content, past all faults.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        match state.live.get(path)? {
            Node::File(inode) => Some(state.inodes[inode].bytes.clone()),
            Node::Dir(_) => None,
        }
    }

    /// All files, past all faults.
    pub fn paths(&self) -> Vec<PathBuf> {
        let state = self.state.borrow();
        state.live.iter().filter(|(_, node)| !node.is_dir()).map(|(path, _)| path.clone()).collect()
    }

    /// Bit rot: changes a file's bytes where they lie.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.borrow_mut();
        if let Some(Node::File(inode)) = state.live.get(path).copied() {
            let inode = state.inodes.get_mut(&inode).expect("linked inodes exist");
            change(&mut inode.bytes);
            inode.synced_len = inode.synced_len.min(inode.bytes.len());
        }
    }

    /// Something was written or renamed that a power cut may undo.
    pub fn is_dirty(&self) -> bool {
        let state = self.state.borrow();
        !state.pending.is_empty() || state.inodes.values().any(|inode| inode.synced_len < inode.bytes.len())
    }

    /// One image of what a power cut leaves, drawn with `random`.
    pub fn power_cut(&self, random: &mut dyn FnMut() -> u64) -> SimDisk {
        let state = self.state.borrow();
        let mut pick = |n: usize| (random() % n.max(1) as u64) as usize;
        let choices = state.name_choices();
        let (_, names) = &choices[pick(choices.len())];
        let mut contents = BTreeMap::new();
        for inode in inodes_of(names) {
            let images = file_images(&state.inodes[&inode]);
            contents.insert(inode, images[pick(images.len())].1.clone());
        }
        state.image(names, &contents)
    }

    /// Every image of the fault model, with words on what it is. One dirty file at a time takes every form; the others are
    /// once as they were at their last sync and once complete. Each with every form of the folders.
    pub fn for_each_image(&self, visit: &mut dyn FnMut(&str, SimDisk)) {
        let state = self.state.borrow();
        for (names_text, names) in state.name_choices() {
            let dirty: Vec<u64> = inodes_of(&names)
                .into_iter()
                .filter(|inode| state.inodes[inode].synced_len < state.inodes[inode].bytes.len())
                .collect();
            if dirty.is_empty() {
                visit(&names_text, state.image(&names, &BTreeMap::new()));
            }
            for chosen in &dirty {
                for others_complete in [false, true] {
                    if dirty.len() == 1 && others_complete {
                        continue;
                    }
                    let mut contents = BTreeMap::new();
                    for other in &dirty {
                        let inode = &state.inodes[other];
                        let len = if others_complete { inode.bytes.len() } else { inode.synced_len };
                        contents.insert(*other, inode.bytes[..len].to_vec());
                    }
                    for (text, content) in file_images(&state.inodes[chosen]) {
                        contents.insert(*chosen, content);
                        let text = format!("{names_text}, inode {chosen} {text}, others complete: {others_complete}");
                        visit(&text, state.image(&names, &contents));
                    }
                }
            }
        }
    }
}

fn inodes_of(names: &BTreeMap<PathBuf, Node>) -> Vec<u64> {
    let mut inodes: Vec<u64> = names
        .values()
        .filter_map(|node| match node {
            Node::File(inode) => Some(*inode),
            Node::Dir(_) => None,
        })
        .collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}

/// What may be left of one file.
fn file_images(inode: &Inode) -> Vec<(String, Vec<u8>)> {
    let (bytes, synced) = (&inode.bytes, inode.synced_len);
    let mut images = vec![("as synced".to_string(), bytes[..synced].to_vec())];
    if synced == bytes.len() {
        return images;
    }
    let mut noise_state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = |bytes: &mut [u8]| {
        for byte in bytes {
            noise_state ^= noise_state << 13;
            noise_state ^= noise_state >> 7;
            noise_state ^= noise_state << 17;
            *byte = noise_state as u8;
        }
    };
    let first_sector = synced / SECTOR;
    let last_sector = (bytes.len() - 1) / SECTOR;
    for sector in first_sector..=last_sector {
        let (from, to) = ((sector * SECTOR).max(synced), ((sector + 1) * SECTOR).min(bytes.len()));
        if to < bytes.len() {
            images.push((format!("cut at {to}"), bytes[..to].to_vec()));
        }
        let mut zero = bytes.clone();
        zero[from..to].fill(0);
        images.push((format!("sector at {from} zero"), zero));
        let mut noisy = bytes.clone();
        noise(&mut noisy[from..to]);
        images.push((format!("sector at {from} noise"), noisy));
    }
    let mut length_only = bytes.clone();
    length_only[synced..].fill(0);
    images.push(("length only".to_string(), length_only));
    let mut noisy = bytes.clone();
    noise(&mut noisy[synced..]);
    images.push(("noise".to_string(), noisy));
    images.push(("complete".to_string(), bytes.clone()));
    images
}

impl State {
    fn new_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.next_inode
    }

    fn used(&self) -> u64 {
        inodes_of(&self.live).iter().map(|inode| self.inodes[inode].bytes.len() as u64).sum()
    }

    /// Counts an operation and lets it fail if its time has come.
    fn step(&mut self, changes: bool) -> Result<()> {
        let number = self.operations;
        self.operations += 1;
        if self.faults.eio_at == Some(number) || self.faults.eio_from.is_some_and(|from| number >= from) {
            return Err(eio());
        }
        if changes {
            if self.faults.read_only {
                return Err(Error::from(ErrorKind::ReadOnlyFilesystem));
            }
            self.writes += 1;
            self.now += 1;
        }
        Ok(())
    }

    /// What may be left of the names: every prefix and every single omission of the changes since the last sync.
    fn name_choices(&self) -> Vec<(String, BTreeMap<PathBuf, Node>)> {
        let count = self.pending.len();
        let mut choices = Vec::new();
        let mut add = |text: String, keep: &dyn Fn(usize) -> bool| {
            let mut names = self.durable.clone();
            for (at, change) in self.pending.iter().enumerate() {
                if keep(at) {
                    change.apply(&mut names);
                }
            }
            // A file without its folder cannot be reached.
            let dirs: BTreeSet<PathBuf> =
                names.iter().filter(|(_, node)| node.is_dir()).map(|(path, _)| path.clone()).collect();
            names.retain(|path, _| path.ancestors().skip(1).all(|dir| dir == Path::new("/") || dirs.contains(dir)));
            choices.push((text, names));
        };
        for prefix in 0..=count {
            add(format!("first {prefix} of {count} names"), &|at| at < prefix);
        }
        for omitted in 0..count.saturating_sub(1) {
            add(format!("all of {count} names but {omitted}"), &|at| at != omitted);
        }
        choices
    }

    fn image(&self, names: &BTreeMap<PathBuf, Node>, contents: &BTreeMap<u64, Vec<u8>>) -> SimDisk {
        let mut image = State { next_inode: self.next_inode, now: self.now, ..State::default() };
        for inode in inodes_of(names) {
            let old = &self.inodes[&inode];
            let bytes = contents.get(&inode).cloned().unwrap_or_else(|| old.bytes[..old.synced_len].to_vec());
            let synced_len = bytes.len();
            image.inodes.insert(inode, Inode { bytes, synced_len, poisoned: false, modified: old.modified });
        }
        image.live = names.clone();
        image.durable = names.clone();
        SimDisk { state: Rc::new(RefCell::new(image)) }
    }

    fn file(&self, path: &Path) -> Result<&Inode> {
        match self.live.get(path) {
            Some(Node::File(inode)) => Ok(&self.inodes[inode]),
            Some(Node::Dir(_)) => Err(Error::from(ErrorKind::IsADirectory)),
            None => Err(Error::from(ErrorKind::NotFound)),
        }
    }

    /// A new name needs its folder.
    fn folder_of(&self, path: &Path) -> Result<()> {
        let dir = folder(path);
        let found = dir == Path::new("/") || self.live.get(dir).is_some_and(|node| node.is_dir());
        if found { Ok(()) } else { Err(Error::from(ErrorKind::NotFound)) }
    }

    /// The device of the file system that a path lies on.
    fn device(&self, path: &Path) -> u64 {
        path.ancestors().find_map(|dir| self.mounts.get(dir)).copied().unwrap_or(1)
    }

    /// Removes all names at and below a path, in memory and on the medium.
    fn forget(&mut self, path: &Path) {
        self.live.retain(|name, _| !name.starts_with(path));
        self.durable.retain(|name, _| !name.starts_with(path));
        self.pending.retain(|change| !change.dir().starts_with(path));
    }

    fn stamp(&self, path: &Path) -> Result<Stamp> {
        match self.live.get(path) {
            Some(Node::Dir(number)) => {
                Ok(Stamp { is_dir: true, inode: *number, device: self.device(path), ..Stamp::default() })
            }
            Some(Node::File(number)) => {
                let inode = &self.inodes[number];
                let len = inode.bytes.len() as u64;
                Ok(Stamp {
                    len,
                    modified_ms: inode.modified,
                    inode: *number,
                    device: self.device(path),
                    ..Stamp::default()
                })
            }
            None => Err(Error::from(ErrorKind::NotFound)),
        }
    }
}

impl Disk for SimDisk {
    fn read(&self, path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
        let mut state = self.state.borrow_mut();
        state.step(false)?;
        let file = state.file(path)?;
        if file.bytes.len() as u64 > max_bytes {
            return Err(Error::from(ErrorKind::FileTooLarge));
        }
        let bytes = file.bytes.clone();
        state.read_bytes += bytes.len() as u64;
        Ok(bytes)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut state = self.state.borrow_mut();
        state.step(false)?;
        let bytes = &state.file(path)?.bytes;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let bytes = bytes[from..from.saturating_add(len).min(bytes.len())].to_vec();
        state.read_bytes += bytes.len() as u64;
        Ok(bytes)
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>> {
        let mut state = self.state.borrow_mut();
        state.step(false)?;
        if !state.live.get(dir).is_some_and(|node| node.is_dir()) {
            return Err(Error::from(ErrorKind::NotFound));
        }
        let paths = state.live.keys().filter(|path| path.parent() == Some(dir));
        paths
            .map(|path| {
                let name = path.file_name().expect("below dir").to_string_lossy().into_owned();
                Ok(Entry { name, stamp: state.stamp(path)? })
            })
            .collect()
    }

    fn stat(&self, path: &Path) -> Result<Stamp> {
        let mut state = self.state.borrow_mut();
        state.step(false)?;
        state.stamp(path)
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        let mut state = self.state.borrow_mut();
        state.step(true)?;
        let mut missing: Vec<&Path> = dir.ancestors().filter(|dir| !state.live.contains_key(*dir)).collect();
        while let Some(dir) = missing.pop() {
            let change = Change::Link(dir.to_path_buf(), Node::Dir(state.new_inode()));
            change.apply(&mut state.live);
            state.pending.push(change);
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>> {
        let mut state = self.state.borrow_mut();
        state.step(true)?;
        if state.live.contains_key(path) {
            return Err(Error::from(ErrorKind::AlreadyExists));
        }
        state.folder_of(path)?;
        let number = state.new_inode();
        let inode = Inode { modified: state.now, ..Inode::default() };
        state.inodes.insert(number, inode);
        let change = Change::Link(path.to_path_buf(), Node::File(number));
        change.apply(&mut state.live);
        state.pending.push(change);
        Ok(Box::new(SimFile { disk: self.clone(), number }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state.borrow_mut();
        state.step(true)?;
        let Some(Node::File(inode)) = state.live.get(from).copied() else {
            return Err(Error::from(ErrorKind::NotFound));
        };
        let change = Change::Rename(from.to_path_buf(), to.to_path_buf(), inode);
        change.apply(&mut state.live);
        state.pending.push(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let mut state = self.state.borrow_mut();
        state.step(true)?;
        state.file(path)?;
        let change = Change::Unlink(path.to_path_buf());
        change.apply(&mut state.live);
        state.pending.push(change);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let mut state = self.state.borrow_mut();
        state.step(false)?;
        state.syncs += 1;
        let (synced, pending): (Vec<Change>, Vec<Change>) =
            std::mem::take(&mut state.pending).into_iter().partition(|change| change.dir() == dir);
        for change in synced {
            change.apply(&mut state.durable);
        }
        state.pending = pending;
        Ok(())
    }

    fn sync_file(&self, path: &Path) -> Result<()> {
        let number = match self.state.borrow().live.get(path) {
            Some(Node::File(number)) => *number,
            _ => return Err(Error::from(ErrorKind::NotFound)),
        };
        SimFile { disk: self.clone(), number }.sync()
    }

    fn free_bytes(&self, _dir: &Path) -> Result<u64> {
        let mut state = self.state.borrow_mut();
        state.step(false)?;
        Ok(state.faults.capacity.map_or(1 << 40, |capacity| capacity.saturating_sub(state.used())))
    }

    fn total_bytes(&self, _dir: &Path) -> Result<u64> {
        let mut state = self.state.borrow_mut();
        state.step(false)?;
        Ok(state.faults.capacity.unwrap_or(1 << 41))
    }

    fn lock(&self, path: &Path) -> Result<Option<Lock>> {
        let mut state = self.state.borrow_mut();
        state.step(true)?;
        let number = match state.live.get(path) {
            Some(Node::File(number)) => *number,
            Some(Node::Dir(_)) => return Err(Error::from(ErrorKind::IsADirectory)),
            None => {
                state.folder_of(path)?;
                let number = state.new_inode();
                state.inodes.insert(number, Inode::default());
                let change = Change::Link(path.to_path_buf(), Node::File(number));
                change.apply(&mut state.live);
                state.pending.push(change);
                number
            }
        };
        if !state.locks.insert(number) {
            return Ok(None);
        }
        Ok(Some(Lock { held: Box::new(HeldLock { disk: self.clone(), number }) }))
    }
}

struct HeldLock {
    disk: SimDisk,
    number: u64,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.disk.state.borrow_mut().locks.remove(&self.number);
    }
}

struct SimFile {
    disk: SimDisk,
    number: u64,
}

impl DiskFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let mut state = self.disk.state.borrow_mut();
        state.step(true)?;
        let room = state.faults.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used()));
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        state.written_bytes += fits as u64;
        let now = state.now;
        let inode = state.inodes.get_mut(&self.number).expect("inodes are never removed");
        inode.bytes.extend_from_slice(&bytes[..fits]);
        inode.modified = now;
        if fits < bytes.len() { Err(Error::from(ErrorKind::StorageFull)) } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<()> {
        let mut state = self.disk.state.borrow_mut();
        let step = state.step(false);
        state.syncs += 1;
        let inode = state.inodes.get_mut(&self.number).expect("inodes are never removed");
        if step.is_err() {
            inode.poisoned = true;
        } else if !inode.poisoned {
            inode.synced_len = inode.bytes.len();
        }
        step
    }
}

#[test]
fn what_is_synced_survives_and_the_rest_may_not() {
    let disk = SimDisk::new();
    let (dir, path) = (Path::new("/state"), Path::new("/state/a"));
    disk.create_dir(dir).expect("new folder");
    disk.sync_dir(Path::new("/")).expect("sync");
    let mut file = disk.create(path).expect("new file");
    file.append(&[1; 600]).expect("append");
    file.sync().expect("sync");
    let mut seen = BTreeSet::new();
    disk.for_each_image(&mut |_, image| {
        seen.insert(image.content(path));
    });
    assert_eq!(seen, BTreeSet::from([None, Some(vec![1; 600])]), "the name is not certain before its folder's sync");

    disk.sync_dir(dir).expect("sync");
    file.append(&[2; 700]).expect("append");
    seen.clear();
    disk.for_each_image(&mut |_, image| {
        seen.insert(image.content(path));
    });
    assert!(seen.iter().all(|content| content.as_ref().is_some_and(|bytes| bytes[..600] == [1; 600])));
    let lengths: BTreeSet<usize> = seen.iter().flatten().map(Vec::len).collect();
    assert_eq!(lengths, BTreeSet::from([600, 1024, 1300]));
    assert_eq!(seen.len(), 9, "as synced, one cut, two sectors in two forms each, zeros, noise, complete");
}

#[test]
fn a_failed_sync_makes_the_rest_uncertain_for_ever() {
    let disk = SimDisk::new();
    let path = Path::new("/a");
    let mut file = disk.create(path).expect("new file");
    disk.sync_dir(Path::new("/")).expect("sync");
    file.append(b"abc").expect("append");
    disk.set_faults(Faults { eio_at: Some(disk.operations()), ..Faults::default() });
    assert!(file.sync().is_err());
    assert!(file.sync().is_ok(), "the kernel forgets that it failed");
    let mut lost = false;
    disk.for_each_image(&mut |_, image| lost |= image.content(path).is_some_and(|bytes| bytes.is_empty()));
    assert!(lost);
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = SimDisk::new();
    disk.set_faults(Faults { capacity: Some(10), ..Faults::default() });
    let mut file = disk.create(Path::new("/a")).expect("new file");
    let error = file.append(&[7; 20]).expect_err("full");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(disk.content(Path::new("/a")).map(|bytes| bytes.len()), Some(10));
}
