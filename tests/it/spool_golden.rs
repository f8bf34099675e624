//! Spool folders written by earlier versions: every later version must read them, byte by byte, for ever.
//!
//! `tests/spool_golden/v1/NAME/spool/` is the folder, `NAME/cat.txt` what is pending in it, one event a line (a long one: length and CRC-32C of all lines). They are never
//! written again; new kinds get new folders, written by `write_golden_folders` below.

use crate::sim_disk::SimDisk;
use crate::spool::{ack, ack_records, append, key, next_batch, settings};
use promwatch::model::Event;
use promwatch::spool::{NewRecord, Spool, export, reader};
use std::fs;
use std::path::{Path, PathBuf};

const STATE: &str = "/state";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spool_golden/v1")
}

/// The golden folder on a simulated disk.
#[allow(clippy::disallowed_methods)]
pub fn golden(name: &str) -> SimDisk {
    let disk = SimDisk::new();
    for entry in fs::read_dir(root().join(name).join("spool")).expect("a golden folder") {
        let path = entry.expect("an entry").path();
        let to = Path::new(STATE).join("spool").join(path.file_name().expect("a name"));
        disk.put(&to, &fs::read(&path).expect("readable"));
    }
    disk
}

/// All that is pending, a line an event.
fn cat(disk: &SimDisk) -> (String, reader::Report) {
    let mut out = String::new();
    let report = reader::read(Path::new(STATE), disk, &mut |record| {
        for event in &record.events {
            out.push_str(&format!(
                "{}\n",
                serde_json::json!({
                    "log_group": event.key().group,
                    "log_stream": event.key().stream,
                    "timestamp": event.timestamp_ms,
                    "own_time": event.own_time,
                    "sequence": record.meta.sequence,
                    "boot_id": record.meta.boot_id,
                    "monotonic_ms": record.meta.monotonic_ms,
                    "wall_ms": record.meta.wall_ms,
                    "confirmed": record.meta.clock_confirmed,
                    "message": event.message(),
                })
            ));
        }
        true
    });
    (out, report.expect("readable"))
}

#[test]
#[allow(clippy::disallowed_methods)]
fn folders_of_every_version_are_read_as_ever() {
    let mut names: Vec<String> = fs::read_dir(root())
        .expect("golden folders")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["acked", "damaged", "newer", "node", "odd", "torn"]);
    for name in names {
        let (got, report) = cat(&golden(&name));
        let expected = fs::read_to_string(root().join(&name).join("cat.txt")).expect("cat.txt");
        assert!(shortened(&got) == expected, "{name}: the events differ");
        let skipped = (report.damaged, report.torn, report.newer, report.unreadable);
        let expected = match name.as_str() {
            "damaged" => (1, 0, 0, 0),
            "torn" => (0, 1, 0, 0),
            "newer" => (0, 0, 2, 0),
            _ => (0, 0, 0, 0),
        };
        assert_eq!(skipped, expected, "{name}");
    }
}

#[test]
fn what_a_newer_version_wrote_stays_and_work_goes_on() {
    let disk = golden("newer");
    let before: Vec<_> = disk.paths().into_iter().map(|path| (disk.content(&path), path)).collect();
    let (mut spool, recovery) = Spool::open(Path::new(STATE), &settings(1 << 20), &disk).expect("opens");
    assert_eq!((recovery.newer, recovery.losses.len()), (2, 0));
    let key = key("node");
    let sequence = append(&mut spool, &disk, &key, 1, 5).expect("appends");
    assert!(sequence >= 1 << 32, "far above whatever the newer version gave out: {sequence}");
    spool.sync(&disk).expect("syncs");
    while let Some(batch) = next_batch(&mut spool, promwatch::spool::BatchLimits::default(), &disk).expect("reads") {
        ack(&mut spool, &batch, &disk).expect("acknowledges");
    }
    spool.close(&disk).expect("closes");
    for (content, path) in before.iter().filter(|(_, path)| path.to_string_lossy().contains("seg-")) {
        assert_eq!(disk.content(path), *content, "{}", path.display());
    }
    let (_, recovery) = Spool::open(Path::new(STATE), &settings(1 << 20), &disk).expect("opens");
    assert_eq!((recovery.newer, recovery.records, recovery.losses.len()), (2, 0, 0));
}

/// Prints what a real sequence of node_exporter scrapes takes, and fails over the budget of 6 bytes a sample.
#[test]
fn a_node_exporter_page_takes_less_than_6_bytes_a_sample() {
    let samples_a_page = 507.0;
    let from = golden("node");
    let disk = SimDisk::new();
    let (mut spool, _) = Spool::open(Path::new(STATE), &settings(1 << 20), &disk).expect("opens");
    let (mut records, mut text_bytes) = (0_u32, 0);
    reader::read(Path::new(STATE), &from, &mut |record| {
        let new = NewRecord {
            key: &record.meta.key,
            boot_id: record.meta.boot_id,
            monotonic_ms: record.meta.monotonic_ms,
            wall_ms: record.meta.wall_ms,
            clock_confirmed: record.meta.clock_confirmed,
            events: &record.events,
        };
        spool.append(&new, &disk).expect("appends");
        spool.sync(&disk).expect("syncs");
        records += 1;
        if records <= 10 {
            println!(
                "{records} scrapes: {:.2} bytes a sample",
                disk.used_bytes() as f64 / samples_a_page / f64::from(records)
            );
        }
        text_bytes += record.events.iter().map(|event| event.message_bytes()).sum::<usize>();
        true
    })
    .expect("readable");
    let (written, kept) = (disk.written_bytes() as f64, disk.used_bytes() as f64);
    let samples = samples_a_page * f64::from(records);
    println!(
        "{records} scrapes, {} bytes of JSON a scrape: {:.2} bytes kept and {:.2} written a sample",
        text_bytes / records as usize,
        kept / samples,
        written / samples
    );
    assert!(written / samples <= 6.0 && kept <= written);
}

/// Writes golden folders that do not exist yet. `PROMWATCH_EVENTS`: scrapes of a node_exporter, a line
/// `{"ts":ms,"events":["…"]}` each.
#[test]
#[ignore = "writes fixtures"]
#[allow(clippy::disallowed_methods)]
fn write_golden_folders() {
    let node = key("node");
    let sample = |record_sync: bool| {
        let disk = SimDisk::new();
        let (mut spool, _) = Spool::open(Path::new(STATE), &settings(1 << 20), &disk).expect("opens");
        for n in 0..12 {
            append(&mut spool, &disk, &key(if n % 3 == 0 { "redis" } else { "node" }), n, 25).expect("appends");
        }
        if record_sync {
            spool.sync(&disk).expect("syncs");
        }
        (spool, disk)
    };
    let first_segment = |disk: &SimDisk| {
        disk.paths().into_iter().find(|path| path.to_string_lossy().contains("seg-")).expect("a segment")
    };

    let (mut spool, disk) = sample(true);
    ack_records(&mut spool, &[0, 25, 75, 275], 25, &disk).expect("acknowledges");
    save("acked", &disk);

    let (_, disk) = sample(true);
    let segment = first_segment(&disk);
    disk.damage(&segment, |bytes| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    });
    save("damaged", &disk);

    let (_, disk) = sample(true);
    disk.damage(&first_segment(&disk), |bytes| bytes.truncate(bytes.len() - 40));
    save("torn", &disk);

    // A whole segment of version 2, and a frame of version 2 in a segment of version 1.
    let (_, disk) = sample(true);
    let segment = first_segment(&disk);
    let original = disk.content(&segment).expect("content");
    disk.damage(&segment, |bytes| {
        let at = bytes.windows(4).rposition(|window| window == b"\xa7PWR").expect("a frame");
        bytes[at + 4] = 2;
        let names = usize::from(bytes[at + 80]) + usize::from(bytes[at + 82]);
        let sum = crc32c(&bytes[at..at + 88 + names]);
        bytes[at + 88 + names..at + 92 + names].copy_from_slice(&sum.to_le_bytes());
    });
    let mut newer = original[..80].to_vec();
    newer[8] = 2;
    newer[32] = 0xe8;
    let sum = crc32c(&newer[..76]);
    newer[76..].copy_from_slice(&sum.to_le_bytes());
    newer.extend_from_slice(b"whatever a later version writes");
    disk.put(&segment.with_file_name("seg-00000000000003e8.pws"), &newer);
    save("newer", &disk);

    let disk = SimDisk::new();
    let (mut spool, _) = Spool::open(Path::new(STATE), &settings(1 << 20), &disk).expect("opens");
    let odd = [
        "",
        "0",
        "\0",
        "{\"a\":1,\"b\":-0.0,\"c\":1e-7,\"d\":007}",
        "{\"é\":\"\\u0000 ☃\",\"n\":[1,2.50,-3]}",
        "{\"a\":18446744073709551616,\"b\":9223372036854775807,\"c\":-9223372036854775808,\"d\":0.1}",
    ];
    for n in 0..40_i64 {
        let messages =
            odd.map(|text| text.replace("0.1", &format!("{}.{n}", n * 7_919)).replace("2.50", &format!("{n}")));
        let messages =
            [messages.concat().replace('\0', " "), messages[3].clone(), messages[4].repeat(9), messages[5].clone()]
                .into_iter()
                .chain(messages.clone());
        let events: Vec<Event> = messages
            .enumerate()
            .map(|(at, message)| {
                Event::text(
                    node.clone(),
                    if at == 3 { i64::MIN + n } else { n * 1_000 + at as i64 * at as i64 },
                    at % 2 == 0,
                    &message,
                )
            })
            .collect();
        let (boot_id, monotonic_ms) = ([n as u8 / 20; 16], n as u64);
        let new = NewRecord { key: &node, boot_id, monotonic_ms, wall_ms: n, clock_confirmed: n > 10, events: &events };
        spool.append(&new, &disk).expect("appends");
    }
    spool.sync(&disk).expect("syncs");
    save("odd", &disk);

    let Some(path) = std::env::var_os("PROMWATCH_EVENTS") else { return };
    let disk = SimDisk::new();
    let (mut spool, _) = Spool::open(Path::new(STATE), &settings(1 << 20), &disk).expect("opens");
    for (n, line) in fs::read_to_string(path).expect("readable").lines().skip(1).enumerate() {
        let scrape: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let timestamp_ms = scrape["ts"].as_i64().expect("ts");
        let events: Vec<Event> = scrape["events"]
            .as_array()
            .expect("events")
            .iter()
            .map(|event| Event::text(node.clone(), timestamp_ms, false, &event.as_str().expect("a string").to_owned()))
            .collect();
        let new = NewRecord {
            key: &node,
            boot_id: [9; 16],
            monotonic_ms: 5_000 + n as u64 * 10_000,
            wall_ms: timestamp_ms,
            clock_confirmed: true,
            events: &events,
        };
        spool.append(&new, &disk).expect("appends");
    }
    spool.sync(&disk).expect("syncs");
    save("node", &disk);
}

fn shortened(cat: &str) -> String {
    if cat.len() < 100_000 { cat.to_owned() } else { format!("{} bytes, {:08x}\n", cat.len(), crc32c(cat.as_bytes())) }
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(bytes)
}

#[allow(clippy::disallowed_methods)]
fn save(name: &str, disk: &SimDisk) {
    let folder = root().join(name);
    if folder.exists() {
        return;
    }
    fs::create_dir_all(folder.join("spool")).expect("folder");
    for path in disk.paths() {
        let to = folder.join("spool").join(path.file_name().expect("a name"));
        fs::write(to, disk.content(&path).expect("content")).expect("written");
    }
    fs::write(folder.join("cat.txt"), shortened(&cat(disk).0)).expect("written");
}

/// Writes the seeds of the fuzz target for export files that do not exist yet.
#[test]
#[ignore = "writes fixtures"]
#[allow(clippy::disallowed_methods)]
fn write_export_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/spool_export");
    for name in ["acked", "damaged", "torn", "odd"] {
        let (disk, file) = (golden(name), Path::new("/stick/events.pwx"));
        disk.put(Path::new("/stick/other"), b"");
        export::export(Path::new(STATE), file, &export::Filter::default(), 7, &disk, &mut |_| ()).expect("exports");
        let bytes = disk.content(file).expect("content");
        let cut = bytes[..bytes.len() / 2].to_vec();
        for (name, bytes) in [(name.to_owned(), bytes), (format!("{name}_cut"), cut)] {
            if !folder.join(&name).exists() {
                fs::write(folder.join(&name), bytes).expect("written");
            }
        }
    }
}
