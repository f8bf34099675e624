//! The door to files.

use std::io;
use std::path::{Path, PathBuf};

/// Files. Every call may fail at any time; nothing written is certain to survive a power cut before the file's
/// [`DiskFile::sync`], and no new, changed or removed name before [`Disk::sync_dir`] of its folder.
pub trait Disk {
    /// A whole file. Longer than `max_bytes`: `ErrorKind::FileTooLarge`.
    fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>>;
    /// At most `len` bytes from `offset` on; fewer only at the end of the file.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// The folder's entries, sorted by name; names that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// A file's or folder's figures; links are followed.
    fn stat(&self, path: &Path) -> io::Result<Stamp>;
    /// Makes a folder and those above it (mode 0700); it may exist.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes a new file (mode 0600) for appending. It must not exist.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name in the same folder, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the folder's names durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the content of a file durable that an earlier process may have written.
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.sync_dir(path) // fsync does not mind what was opened
    }
    /// Free bytes of the file system, as an ordinary user may use them.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Total bytes of the file system.
    fn total_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// The figures of the file system that a path lies on. A disk that has none: `ErrorKind::Unsupported`.
    fn file_system(&self, _path: &Path) -> io::Result<FileSystem> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Whose a file or folder is, and what others may do with it. `follow`: of a link, what it leads to. A disk without owners:
    /// `ErrorKind::Unsupported`.
    fn access(&self, _path: &Path, _follow: bool) -> io::Result<Access> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The path with all links followed. A disk without links: `ErrorKind::Unsupported`.
    fn canonical(&self, _path: &Path) -> io::Result<PathBuf> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Takes an exclusive lock on the file (made if missing) for as long as the value lives; nothing when another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;
}

/// A file that is being appended to.
pub trait DiskFile {
    /// Appends all of it, or fails having appended any part of it.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content durable (fdatasync). After a failure the file's unsynced content is unknown: never sync again.
    fn sync(&mut self) -> io::Result<()>;
}

/// A held lock; dropping it releases it.
pub struct Lock {
    /// Whatever the disk keeps for it.
    pub held: Box<dyn std::any::Any>,
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name without its folder.
    pub name: String,
    /// The figures of what it names; links are followed.
    pub stamp: Stamp,
}

/// The figures of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Its size in bytes.
    pub total_bytes: u64,
    /// Free bytes.
    pub free_bytes: u64,
    /// Free bytes that an ordinary user may use.
    pub available_bytes: u64,
    /// How many files it can hold.
    pub inodes: u64,
    /// How many more files it can hold.
    pub free_inodes: u64,
    /// It is mounted read-only.
    pub read_only: bool,
}

/// Tells one version of a file from the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Length in bytes.
    pub len: u64,
    /// Last change of the content, milliseconds since 1970.
    pub modified_ms: i64,
    /// The inode's number.
    pub inode: u64,
    /// The file system that it lies on; with the inode it tells a file or folder from another of the same name.
    pub device: u64,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// Whose something is, and what others may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The owner's number; 0 is root.
    pub user: u32,
    /// The permission bits, such as 0o755.
    pub mode: u32,
    /// It is a folder, not a link to one.
    pub is_dir: bool,
    /// It is a regular file, not a link to one.
    pub is_file: bool,
}

/// Replaces a file so that a power cut leaves the old or the new content, never a mixture: temporary file, sync, rename,
/// sync of the folder. Not for files that change often: it writes four times.
pub fn write_atomic(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = disk.create(&temporary)?;
    file.append(bytes)?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
