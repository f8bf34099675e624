//! This machine's own figures, as a page under node_exporter's metric names.
//!
//! Only for targets that the configuration asks for: a device without room for node_exporter still sends load, memory,
//! CPU, disk space, network and temperature. Names, labels and values are node_exporter's (as Debian builds it), so a
//! dashboard or a metric declaration fits both.
//!
//! Reads `/proc` and `/sys` through the disk door; a file that is missing or odd leaves its metrics out. Refuses: file
//! systems on the network or in user space, which could block the one thread for ever.

mod exposition;
mod kernel;
mod network;
mod sensors;
mod storage;

use crate::env::{Disk, Env};
use exposition::Exposition;
use std::path::{Path, PathBuf};

/// The longest file of `/proc` or `/sys` that is read: `/proc/stat` of a machine with many interrupts has some 10 kB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads the machine. Holds what the last reading of the CPU's times was, which some kernels let go back a little.
#[derive(Debug, Default)]
pub struct Host {
    cpu: kernel::CpuTimes,
}

impl Host {
    /// Appends a page in text format 0.0.4. `root` is `/`, or a folder with the same files for a test.
    pub fn render(&mut self, env: Env<'_>, root: &Path, out: &mut String) {
        let files = Files { disk: env.disk, root };
        let mut page = Exposition::new(out);
        kernel::render(&files, &mut page);
        self.cpu.render(&files, &mut page);
        storage::render(&files, &mut page);
        network::render(&files, &mut page);
        sensors::render(&files, &mut page);
        page.gauge("node_time_seconds", "Wall time in seconds since 1970.", env.clock.wall_ms() as f64 / 1000.0);
    }
}

/// Small files below the root.
struct Files<'a> {
    disk: &'a dyn Disk,
    root: &'a Path,
}

impl Files<'_> {
    /// A file's place in the real file system; `path` begins with `/`.
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text, or nothing.
    fn text(&self, path: &str) -> Option<String> {
        let bytes = self.disk.read(&self.path(path), MAX_FILE_BYTES).ok()?;
        Some(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// A file that holds one word or number.
    fn word(&self, path: &str) -> Option<String> {
        self.text(path).map(|text| text.trim().to_owned())
    }

    /// A file that holds one number.
    fn number(&self, path: &str) -> Option<f64> {
        self.word(path)?.parse().ok()
    }

    /// The names in a folder, sorted.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = self.disk.list(&self.path(path)).unwrap_or_default();
        entries.into_iter().map(|entry| entry.name).collect()
    }
}

/// The column of a table, as numbers; what is no number is 0.
fn column(fields: &[&str], at: usize) -> f64 {
    fields.get(at).and_then(|field| field.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests;
