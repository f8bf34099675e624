//! Files of the real machine.
#![expect(clippy::disallowed_methods, reason = "the door to files")]

use super::{Access, Disk, DiskFile, Entry, FileSystem, Lock, Stamp};
use rustix::fs::{FileType, FlockOperation, flock, statvfs};
use rustix::io::Errno;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The machine's file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    /// The length is what can be read, not what `stat` says: files of `/proc` and `/sys` say 0 or 4096.
    fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let file = open_to_read(path)?;
        let expected = file.metadata()?.len();
        if expected > max_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(expected).map_or(0, |len| len.saturating_add(1)));
        file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = open_to_read(path)?;
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match file.read_at(&mut bytes[filled..], offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// An entry that vanishes meanwhile, or a link to nothing, is left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match self.stat(&entry.path()) {
                Ok(stamp) => entries.push(Entry { name, stamp }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // A loop of links or a folder that is closed to us: the name is there, its figures are not.
                Err(_) => entries.push(Entry { name, stamp: Stamp::default() }),
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn stat(&self, path: &Path) -> io::Result<Stamp> {
        // Not std's: its times end in 2038 on 32-bit musl.
        let figures = rustix::fs::stat(path)?;
        Ok(Stamp {
            len: u64::try_from(figures.st_size).unwrap_or(0),
            modified_ms: figures
                .st_mtime
                .saturating_mul(1000)
                .saturating_add(i64::try_from(figures.st_mtime_nsec / 1_000_000).unwrap_or(0)),
            inode: figures.st_ino,
            device: figures.st_dev,
            is_dir: FileType::from_raw_mode(figures.st_mode).is_dir(),
        })
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    /// Some file systems (vfat over FUSE, old overlays, network shares) refuse to sync a folder with `EINVAL`, and there is
    /// nothing better to call: their refusal is no failure.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        match File::open(dir)?.sync_all() {
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
            outcome => outcome,
        }
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let figures = statvfs(dir)?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }

    fn total_bytes(&self, dir: &Path) -> io::Result<u64> {
        let figures = statvfs(dir)?;
        Ok(figures.f_blocks.saturating_mul(figures.f_frsize))
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        let figures = statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(figures.f_frsize);
        Ok(FileSystem {
            total_bytes: bytes(figures.f_blocks),
            free_bytes: bytes(figures.f_bfree),
            available_bytes: bytes(figures.f_bavail),
            inodes: figures.f_files,
            free_inodes: figures.f_ffree,
            read_only: figures.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        })
    }

    fn access(&self, path: &Path, follow: bool) -> io::Result<Access> {
        let figures = if follow { rustix::fs::stat(path) } else { rustix::fs::lstat(path) }?;
        let kind = FileType::from_raw_mode(figures.st_mode);
        Ok(Access {
            user: figures.st_uid,
            mode: figures.st_mode & 0o7777,
            is_dir: kind.is_dir(),
            is_file: kind.is_file(),
        })
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { held: Box::new(file) })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// A named pipe where a file is expected must not stop the loop for ever, so it is opened without waiting and refused.
fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    /// A folder of the test's own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("promwatch-disk-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            RealDisk.create_dir(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_is_appended_is_read_back_and_kept_private() {
        let scratch = Scratch::new("append");
        let path = scratch.0.join("a/b/file");
        RealDisk.create_dir(path.parent().unwrap()).unwrap();
        let mut file = RealDisk.create(&path).unwrap();
        file.append(b"hello ").unwrap();
        file.append(b"world").unwrap();
        file.sync().unwrap();
        RealDisk.sync_dir(path.parent().unwrap()).unwrap();
        assert_eq!(RealDisk.read(&path, 11).unwrap(), b"hello world");
        assert_eq!(RealDisk.read(&path, 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(RealDisk.read_at(&path, 6, 100).unwrap(), b"world");
        assert_eq!(RealDisk.read_at(&path, 50, 100).unwrap(), b"");
        assert_eq!((mode(&path), mode(&scratch.0.join("a"))), (0o600, 0o700));
        let again = RealDisk.create(&path).err().unwrap();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(RealDisk.stat(&path).unwrap().len, 11);
    }

    #[test]
    fn names_are_listed_in_order_and_dangling_links_left_out() {
        let scratch = Scratch::new("list");
        for name in ["b", "a", "c"] {
            RealDisk.create(&scratch.0.join(name)).unwrap();
        }
        RealDisk.create_dir(&scratch.0.join("d")).unwrap();
        std::os::unix::fs::symlink("nowhere", scratch.0.join("e")).unwrap();
        RealDisk.rename(&scratch.0.join("b"), &scratch.0.join("a")).unwrap();
        let entries = RealDisk.list(&scratch.0).unwrap();
        let names: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.stamp.is_dir)).collect();
        assert_eq!(names, [("a", false), ("c", false), ("d", true)]);
        RealDisk.remove(&scratch.0.join("c")).unwrap();
        assert_eq!(RealDisk.remove(&scratch.0.join("c")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn files_of_proc_are_read_though_they_say_length_zero() {
        let stat = Path::new("/proc/self/stat");
        assert_eq!(RealDisk.stat(stat).unwrap().len, 0);
        assert!(!RealDisk.read(stat, 1 << 20).unwrap().is_empty());
        assert_eq!(RealDisk.read(stat, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_device_or_a_folder_is_not_read() {
        assert!(RealDisk.read(Path::new("/dev/zero"), 10).is_err());
        assert_eq!(RealDisk.read(Path::new("/"), 10).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn a_lock_is_held_by_one_until_it_is_dropped() {
        let scratch = Scratch::new("lock");
        let path = scratch.0.join("lock");
        let held = RealDisk.lock(&path).unwrap().unwrap();
        assert!(RealDisk.lock(&path).unwrap().is_none());
        drop(held);
        assert!(RealDisk.lock(&path).unwrap().is_some());
    }

    #[test]
    fn the_file_system_has_figures() {
        let (free, total) =
            (RealDisk.free_bytes(Path::new("/")).unwrap(), RealDisk.total_bytes(Path::new("/")).unwrap());
        assert!(total > 0 && free <= total);
    }
}
