//! What the state directory remembers beside the spool: one small file, replaced as a whole.
//!
//! It is written at start, at a clean stop, when the link goes down or comes back, and when events are lost; else at most
//! daily. Lost or damaged, it costs the history of the counts and of the clock, never an event.

use crate::clock::Boot;
use crate::env::{Disk, write_atomic};
use crate::model::StreamKey;
use miniserde::{Deserialize, Serialize, json};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// A thousand losses with the longest names, escaped, come to less.
const FILE_BYTES_MAX: u64 = 8 << 20;
const FILE_NAME: &str = "state.json";

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Tells this directory's status file from another's.
    pub id: Option<String>,
    /// [`super::books::Counts::produced`]
    pub produced: u64,
    /// [`super::books::Counts::delivered`]
    pub delivered: u64,
    /// [`super::books::Counts::dropped`]
    pub dropped: BTreeMap<String, u64>,
    /// Losses whose marker events have not been delivered yet.
    pub losses: Vec<Loss>,
    /// Boots of the machine, oldest first.
    pub boots: Vec<Boot>,
    /// The latest time that was believed, milliseconds since 1970.
    pub credible_ms: i64,
    /// The process ended in good order: the baselines beside this file belong to it.
    pub clean: bool,
    /// Where the live status file is.
    pub status_file: Option<String>,
}

/// Events that were lost, as the marker event tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The log group.
    pub group: String,
    /// The log stream.
    pub stream: String,
    /// [`super::books::DropReason::as_str`]
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The first one's time.
    pub from_ms: i64,
    /// The last one's time.
    pub to_ms: i64,
}

impl State {
    /// Reads the file; a missing or damaged one is as good as none, and the second value says so.
    pub fn load(dir: &Path, disk: &dyn Disk) -> (Self, Option<String>) {
        match disk.read(&dir.join(FILE_NAME), FILE_BYTES_MAX) {
            Ok(bytes) => match std::str::from_utf8(&bytes).ok().and_then(|text| json::from_str(text).ok()) {
                Some(state) => (state, None),
                None => (
                    <Self as Default>::default(),
                    Some(format!("{}: damaged, begun anew", dir.join(FILE_NAME).display())),
                ),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (<Self as Default>::default(), None),
            Err(error) => (<Self as Default>::default(), Some(format!("{}: {error}", dir.join(FILE_NAME).display()))),
        }
    }

    /// Replaces the file.
    pub fn save(&self, dir: &Path, disk: &dyn Disk) -> io::Result<()> {
        write_atomic(disk, &dir.join(FILE_NAME), json::to_string(self).as_bytes())
    }
}

impl Loss {
    /// The stream that is told.
    pub fn key(&self) -> StreamKey {
        StreamKey { group: self.group.clone(), stream: self.stream.clone() }
    }

    /// The message of the marker event.
    pub fn message(&self) -> String {
        format!(
            r#"{{"promwatch":"lost","count":{},"from":{},"to":{},"reason":"{}"}}"#,
            self.count, self.from_ms, self.to_ms, self.reason
        )
    }
}
