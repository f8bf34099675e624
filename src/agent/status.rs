//! The status file: what `promwatch status` prints. It lies in the runtime directory (memory, not the SD card) and is at
//! most five seconds old. It never holds a secret.

use crate::env::Disk;
use miniserde::{Deserialize, Serialize, json};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// No longer file is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// All that the file says. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// promwatch's version.
    pub version: String,
    /// The state directory that its counts belong to.
    pub state_id: Option<String>,
    /// The process.
    pub pid: u32,
    /// When it started.
    pub started_ms: i64,
    /// When this was written.
    pub written_ms: i64,
    /// Where every event went.
    pub events: EventCounts,
    /// What waits on disk or in memory.
    pub backlog: Backlog,
    /// Each target.
    pub targets: Vec<TargetStatus>,
    /// Sources of targets that failed lately.
    pub discovery_errors: Vec<String>,
    /// Each way to CloudWatch Logs; one today.
    pub upstreams: Vec<UpstreamStatus>,
    /// The clock.
    pub clock: ClockStatus,
    /// Credentials, without the secrets.
    pub credentials: CredentialStatus,
    /// The state directory.
    pub disk: DiskStatus,
    /// How busy the loop was since the last writing, in percent.
    pub busy_percent: u64,
    /// Series left out of events since start, by reason.
    pub samples_left_out: BTreeMap<String, u64>,
}

/// produced = delivered + pending + dropped.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)] // the words are explained in `books.rs`
pub struct EventCounts {
    pub produced: u64,
    pub delivered: u64,
    pub pending: u64,
    pub dropped: BTreeMap<String, u64>,
}

/// What waits.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Backlog {
    /// Events in the spool.
    pub events: u64,
    /// Bytes of the spool on disk.
    pub bytes: u64,
    /// Time of its oldest event.
    pub oldest_ms: Option<i64>,
    /// Events in memory.
    pub memory_events: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Damaged records that were met since start.
    pub damaged_records: u64,
}

/// One target.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TargetStatus {
    /// The label `job`.
    pub job: String,
    /// The label `instance`.
    pub instance: String,
    /// Whether the last scrape succeeded.
    pub up: Option<bool>,
    /// Scrapes since start.
    pub scrapes: u64,
    /// Failed ones.
    pub failures: u64,
    /// Failed ones by kind.
    pub failures_by_kind: BTreeMap<String, u64>,
    /// When the last one began.
    pub last_scrape_ms: i64,
    /// How long it took.
    pub last_duration_ms: u64,
    /// Samples it gave.
    pub last_samples: u64,
    /// Bad lines skipped since start.
    pub lines_skipped: u64,
    /// What the last scrape left out although it succeeded: a few bad lines with their numbers, files, samples.
    pub problems: Vec<String>,
    /// The last error.
    pub last_error: Option<String>,
    /// When it was.
    pub last_error_ms: Option<i64>,
}

/// One way to CloudWatch Logs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Where requests go.
    pub endpoint: String,
    /// Whether the last request was accepted.
    pub up: Option<bool>,
    /// What keeps events from being delivered: `offline`, `throttled`, `no_credentials` …
    pub trouble: Option<String>,
    /// Streams that wait by themselves, because a policy or a quota forbids them.
    pub held_streams: u32,
    /// Since when none was.
    pub down_since_ms: Option<i64>,
    /// The last error.
    pub last_error: Option<String>,
    /// When it was.
    pub last_error_ms: Option<i64>,
    /// Requests since start.
    pub requests: u64,
    /// Body bytes sent since start.
    pub body_bytes: u64,
}

/// The clock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClockStatus {
    /// `confirmed`, `credible` or `not credible`.
    pub standing: String,
    /// AWS's clock minus ours.
    pub skew_ms: Option<i64>,
    /// Two answers of AWS agreed, or one with NTP: only then is anything of an earlier boot dropped for its age.
    pub certain: bool,
    /// Earlier boots with a backlog whose clock nobody confirmed: no age is known, bytes alone bound them.
    pub boots_never_confirmed: u64,
}

/// Credentials.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CredentialStatus {
    /// Where they come from.
    pub source: Option<String>,
    /// When they end.
    pub expires_ms: Option<i64>,
}

/// The state directory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DiskStatus {
    /// `disk` or `memory`.
    pub buffer: String,
    /// The directory.
    pub dir: Option<String>,
    /// The last error.
    pub last_error: Option<String>,
    /// When it was.
    pub last_error_ms: Option<i64>,
}

impl Status {
    /// Reads a status file; nothing where it is not one.
    pub fn read(path: &Path, disk: &dyn Disk) -> Option<Self> {
        let bytes = disk.read(path, FILE_BYTES_MAX).ok()?;
        json::from_str(std::str::from_utf8(&bytes).ok()?).ok()
    }

    /// Replaces the file. No sync: it lies in memory and is worthless after a power cut.
    pub fn write(&self, path: &Path, disk: &dyn Disk) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        match disk.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        disk.create(&temporary)?.append(json::to_string(self).as_bytes())?;
        disk.rename(&temporary, path)
    }
}
