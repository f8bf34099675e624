//! A machine for the targets: files in memory that are only read, a clock that stands, and no network.
#![allow(dead_code)] // each target uses some of it

use promwatch::env::{
    Clock, Disk, DiskFile, Entry, Env, Exchange, Head, Limits, Lock, Net, NetError, NetErrorKind, Record, Request, Stamp,
};
use promwatch::model::settings::DnsKind;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;

type Files = Rc<RefCell<BTreeMap<PathBuf, Vec<u8>>>>;

#[derive(Clone, Default)]
pub struct World {
    files: Files,
}

impl World {
    pub fn with(self, path: &str, content: &[u8]) -> Self {
        self.files.borrow_mut().insert(path.into(), content.to_vec());
        self
    }

    pub fn file(&self, path: &str) -> Vec<u8> {
        self.files.borrow().get(Path::new(path)).cloned().unwrap_or_default()
    }

    pub fn env(&self) -> Env<'_> {
        Env { clock: self, disk: self, net: self }
    }
}

impl Disk for World {
    fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let bytes = self.files.borrow().get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        if bytes.len() as u64 > max_bytes { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let bytes = self.read(path, u64::MAX)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes[from..bytes.len().min(from.saturating_add(len))].to_vec())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut names: Vec<String> = Vec::new();
        for path in self.files.borrow().keys() {
            if let Some(name) = path.strip_prefix(dir).ok().and_then(|rest| rest.iter().next()?.to_str()) {
                names.push(name.to_owned());
            }
        }
        names.dedup();
        names.into_iter().map(|name| Ok(Entry { stamp: self.stat(&dir.join(&name))?, name })).collect()
    }

    fn stat(&self, path: &Path) -> io::Result<Stamp> {
        let files = self.files.borrow();
        let is_dir = files.keys().any(|file| file != path && file.starts_with(path));
        let len = files.get(path).map(|content| content.len() as u64);
        match (len, is_dir) {
            (None, false) => Err(io::ErrorKind::NotFound.into()),
            (len, is_dir) => Ok(Stamp { len: len.unwrap_or(0), is_dir, ..Stamp::default() }),
        }
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.files.borrow_mut().insert(path.to_owned(), Vec::new());
        Ok(Box::new(Open { files: Rc::clone(&self.files), path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let content = self.files.borrow_mut().remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.files.borrow_mut().insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.borrow_mut().remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(1 << 30)
    }

    fn total_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(1 << 31)
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Lock>> {
        Ok(Some(Lock { held: Box::new(()) }))
    }
}

struct Open {
    files: Files,
    path: PathBuf,
}

impl DiskFile for Open {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.files.borrow_mut().entry(self.path.clone()).or_default().extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Clock for World {
    fn wall_ms(&self) -> i64 {
        1_795_000_000_000
    }

    fn monotonic_ms(&self) -> u64 {
        5_000_000
    }

    fn boot_id(&self) -> [u8; 16] {
        [7; 16]
    }

    fn synchronised(&self) -> bool {
        true
    }

    fn random(&self) -> u64 {
        4
    }
}

impl Net for World {
    fn exchange(
        &self,
        _: &Request<'_>,
        _: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        Err(NetError { kind: NetErrorKind::Connect, text: "no network".to_owned(), sent: false })
    }

    fn lookup(&self, _: &str, _: DnsKind, _: Limits) -> Result<Vec<Record>, NetError> {
        Ok(Vec::new())
    }
}
