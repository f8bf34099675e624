//! Looking into a spool's folder while the agent may be running: nothing is written, nothing but the folder is needed.

use super::decode::{decode_frame, take_shapes};
use super::segment::Place;
use super::survey::{SEGMENT_READ_MAX, Survey, index, survey};
use super::table::Tables;
use super::{Boot, FOLDER, Loss, SpoolRecord, StreamPending};
use crate::env::Disk;
use std::io;
use std::path::Path;
use std::rc::Rc;

/// What is in the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments.
    pub segments: u64,
    /// Bytes of segments and journals.
    pub bytes: u64,
    /// Pending records that could be read.
    pub records: u64,
    /// Their events.
    pub events: u64,
    /// The oldest pending event.
    pub oldest_ms: Option<i64>,
    /// The newest pending event.
    pub newest_ms: Option<i64>,
    /// Damaged places that were skipped.
    pub damaged: u64,
    /// Files that end within a record.
    pub torn: u64,
    /// Segments with something of a later version.
    pub newer: u64,
    /// Files that could not be read.
    pub unreadable: u64,
    /// Events that are known to be lost by damage and not yet counted by the agent.
    pub losses: Vec<Loss>,
    /// Pending per stream.
    pub streams: Vec<StreamPending>,
    /// The boots of the records.
    pub boots: Vec<Boot>,
}

impl Report {
    /// Something was skipped.
    pub fn is_damaged(&self) -> bool {
        self.damaged + self.torn + self.newer + self.unreadable > 0 || !self.losses.is_empty()
    }
}

/// Reads all pending records in order and hands them to `visit`, until it returns false. The report covers everything.
pub fn read(state_dir: &Path, disk: &dyn Disk, visit: &mut dyn FnMut(&SpoolRecord) -> bool) -> io::Result<Report> {
    let dir = state_dir.join(FOLDER);
    let mut found = look(&dir, disk)?;
    let mut report = Report {
        segments: found.segments.len() as u64,
        bytes: found.segments.iter().map(|segment| segment.bytes).sum::<u64>() + found.journal_bytes,
        damaged: found.damaged,
        torn: found.torn,
        newer: found.newer,
        unreadable: found.unreadable,
        losses: std::mem::take(&mut found.losses),
        boots: std::mem::take(&mut found.boots),
        ..Report::default()
    };
    let mut going = true;
    // Where each stream stands in the report.
    let mut rows = Vec::new();
    for at in 0..found.segments.len() {
        let segment = &found.segments[at];
        if segment.unreadable || segment.is_settled() {
            continue;
        }
        let bytes = match disk.read_at(&dir.join(segment.name()), 0, SEGMENT_READ_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes?,
        };
        let index = index(&bytes, &segment.pending, &mut found.streams);
        let mut tables = Tables::default();
        for (at, len) in &index.shapes {
            take_shapes(piece(&bytes, *at, *len), &mut tables);
        }
        rows.resize(found.streams.len(), usize::MAX);
        for place in &index.records {
            let pending = segment.pending_of(place);
            let key = found.streams.key(place.stream);
            match decode_frame(piece(&bytes, place.at, place.bytes), place, &tables, key) {
                Some(record) => {
                    let record = record.only(&pending);
                    count(&mut report, &mut rows[place.stream as usize], place, &record);
                    going = going && visit(&record);
                }
                None => report.damaged += 1,
            }
        }
    }
    Ok(report)
}

/// The spool's id; nothing while nothing was written, or when no header is left.
pub fn id(state_dir: &Path, disk: &dyn Disk) -> io::Result<Option<[u8; 16]>> {
    survey(&state_dir.join(FOLDER), disk).map(|found| found.id)
}

/// The folder as it is at one moment: while the agent is working, the end of the last segment may be half written, and a
/// segment may be removed between the look at the journal and the look at it.
fn look(dir: &Path, disk: &dyn Disk) -> io::Result<Survey> {
    let mut found = survey(dir, disk)?;
    for _ in 0..3 {
        if found.torn == 0 && found.losses.is_empty() {
            break;
        }
        let again = survey(dir, disk)?;
        let lengths = |survey: &Survey| {
            let segments = survey.segments.iter().map(|segment| (segment.first, segment.bytes));
            (segments.collect::<Vec<_>>(), survey.journal_bytes)
        };
        let same = lengths(&found) == lengths(&again);
        found = again;
        if same {
            break;
        }
    }
    Ok(found)
}

fn piece(bytes: &[u8], at: u32, len: u32) -> &[u8] {
    let at = at as usize;
    bytes.get(at..at + len as usize).unwrap_or_default()
}

fn count(report: &mut Report, row: &mut usize, place: &Place, record: &SpoolRecord) {
    let (events, first_ms) = (record.events.len() as u64, place.age.first_ms);
    report.records += 1;
    report.events += events;
    report.oldest_ms = Some(report.oldest_ms.map_or(first_ms, |ms| ms.min(first_ms)));
    report.newest_ms = Some(report.newest_ms.map_or(place.age.last_ms, |ms| ms.max(place.age.last_ms)));
    match report.streams.get_mut(*row) {
        Some(stream) => {
            stream.records += 1;
            stream.events += events;
            stream.oldest_ms = stream.oldest_ms.min(first_ms);
        }
        None => {
            *row = report.streams.len();
            let key = Rc::clone(&record.meta.key);
            let sequence = record.pending.first().unwrap_or(place.from);
            report.streams.push(StreamPending { key, records: 1, events, sequence, oldest_ms: first_ms });
        }
    }
}
