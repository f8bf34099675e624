//! A world in memory: files, name servers and one HTTP server.

use crate::env::{
    Clock, Disk, DiskFile, Entry, Env, Exchange, Head, Limits, Lock, Net, NetError, NetErrorKind, Record, Request,
    Stamp,
};
use crate::model::settings::DnsKind;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub(super) type Headers = Vec<(String, String)>;

/// A world in memory.
#[derive(Default)]
pub(super) struct World {
    pub(super) now_ms: Cell<u64>,
    pub(super) files: RefCell<BTreeMap<PathBuf, (Stamp, io::Result<String>)>>,
    pub(super) reads: Cell<usize>,
    pub(super) inode: Cell<u64>,
    pub(super) answer: RefCell<Option<(u16, Headers, String)>>,
    pub(super) asked: RefCell<Vec<(String, Headers, u64)>>,
    pub(super) records: RefCell<BTreeMap<String, Vec<Record>>>,
}

impl World {
    pub(super) fn env(&self) -> Env<'_> {
        Env { clock: self, disk: self, net: self }
    }

    pub(super) fn put(&self, path: &str, text: &str) {
        self.inode.set(self.inode.get() + 1);
        let stamp = Stamp { len: text.len() as u64, modified_ms: 0, inode: self.inode.get(), device: 0, is_dir: false };
        self.files.borrow_mut().insert(path.into(), (stamp, Ok(text.to_owned())));
    }

    pub(super) fn spoil(&self, path: &str) {
        self.files.borrow_mut().insert(path.into(), (Stamp::default(), Err(io::Error::other("bad sector"))));
    }

    pub(super) fn answer(&self, status: u16, content_type: &str, body: &str) {
        *self.answer.borrow_mut() =
            Some((status, vec![("content-type".to_owned(), content_type.to_owned())], body.to_owned()));
    }

    pub(super) fn records(&self, name: &str, records: &[(&str, u16)]) {
        let records = records.iter().map(|(target, port)| Record { target: (*target).to_owned(), port: *port });
        self.records.borrow_mut().insert(name.to_owned(), records.collect());
    }
}

impl Clock for World {
    fn wall_ms(&self) -> i64 {
        0
    }
    fn monotonic_ms(&self) -> u64 {
        self.now_ms.get()
    }
    fn boot_id(&self) -> [u8; 16] {
        [0; 16]
    }
    fn synchronised(&self) -> bool {
        false
    }
    fn random(&self) -> u64 {
        0
    }
}

impl Disk for World {
    fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        self.reads.set(self.reads.get() + 1);
        match self.files.borrow().get(path) {
            None => Err(ErrorKind::NotFound.into()),
            Some((_, Ok(text))) if text.len() as u64 > max_bytes => Err(ErrorKind::FileTooLarge.into()),
            Some((_, Ok(text))) => Ok(text.clone().into_bytes()),
            Some((_, Err(error))) => Err(io::Error::other(error.to_string())),
        }
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let files = self.files.borrow();
        let here = files.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(here
            .map(|(path, (stamp, _))| Entry { name: path.file_name().unwrap().to_string_lossy().into(), stamp: *stamp })
            .collect())
    }
    fn stat(&self, path: &Path) -> io::Result<Stamp> {
        match self.files.borrow().get(path) {
            None => Err(ErrorKind::NotFound.into()),
            Some((stamp, Ok(_))) => Ok(*stamp),
            Some((_, Err(error))) => Err(io::Error::other(error.to_string())),
        }
    }
    fn read_at(&self, _: &Path, _: u64, _: usize) -> io::Result<Vec<u8>> {
        Err(ErrorKind::Unsupported.into())
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
    fn create(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        Err(ErrorKind::Unsupported.into())
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Err(ErrorKind::Unsupported.into())
    }
    fn total_bytes(&self, _: &Path) -> io::Result<u64> {
        Err(ErrorKind::Unsupported.into())
    }
    fn lock(&self, _: &Path) -> io::Result<Option<Lock>> {
        Err(ErrorKind::Unsupported.into())
    }
}

impl Net for World {
    fn exchange(
        &self,
        request: &Request<'_>,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        self.asked.borrow_mut().push((request.url.to_owned(), request.headers.to_vec(), request.limits.total_ms));
        let Some((status, headers, body)) = self.answer.borrow().clone() else {
            return Err(NetError { kind: NetErrorKind::Timeout, text: "out of time".to_owned(), sent: true });
        };
        let head = Head { status, headers };
        for piece in body.as_bytes().chunks(7) {
            if on_body(&head, piece).is_break() {
                return Err(NetError { kind: NetErrorKind::Refused, text: "stopped".to_owned(), sent: true });
            }
        }
        Ok(Exchange { head, body_bytes: body.len() as u64, duration_ms: 1, new_connection: false })
    }
    fn lookup(&self, name: &str, _: DnsKind, limits: Limits) -> Result<Vec<Record>, NetError> {
        self.asked.borrow_mut().push((name.to_owned(), Vec::new(), limits.total_ms));
        let records = self.records.borrow().get(name).cloned();
        records.ok_or(NetError { kind: NetErrorKind::Resolve, text: "no server answered".to_owned(), sent: true })
    }
}
