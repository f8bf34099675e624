//! Spool folders written by earlier versions: every later version must read them, byte by byte, for ever.
//!
//! `tests/spool_golden/VERSION/NAME/spool/` is the folder, `NAME/cat.txt` what is pending in it, one event a line (a long one: length and CRC-32C of all lines). They are never
//! written again; new kinds get new folders, written by `write_golden_folders` below.

use crate::sim_disk::SimDisk;
use crate::spool::{ack, ack_records, append, key, next_batch, settings};
use crate::spool_layouts::Layouts;
use promwatch::model::{Event, Form, LabelValues, Layout, ShapeBuilder, StreamKey};
use promwatch::spool::{NewRecord, RecordMeta, Spool, export, reader};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const STATE: &str = "/state";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spool_golden")
}

/// The golden folder on a simulated disk; its name begins with its version.
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
    let versions = [
        ("v1", &["acked", "damaged", "newer", "node", "odd", "torn"][..]),
        ("v2", &["acked", "damaged", "elsewhere", "newer", "node", "odd", "torn"]),
    ];
    for (version, expected) in versions {
        let mut names: Vec<String> = fs::read_dir(root().join(version))
            .expect("golden folders")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, expected);
        for name in names.iter().map(|name| format!("{version}/{name}")) {
            let (got, report) = cat(&golden(&name));
            let expected = fs::read_to_string(root().join(&name).join("cat.txt")).expect("cat.txt");
            assert!(shortened(&got) == expected, "{name}: the events differ");
            let skipped = (report.damaged, report.torn, report.newer, report.unreadable);
            let expected = match name.as_str() {
                "v1/damaged" | "v2/damaged" => (1, 0, 0, 0),
                "v1/torn" | "v2/torn" => (0, 1, 0, 0),
                // Its "version 2" was made up before there was one: a segment with nothing in it but text.
                "v1/newer" => (0, 1, 1, 0),
                "v2/newer" => (0, 0, 2, 0),
                "v2/elsewhere" => (0, 0, 1, 0),
                _ => (0, 0, 0, 0),
            };
            assert_eq!(skipped, expected, "{name}");
        }
    }
}

#[test]
fn what_a_newer_version_wrote_stays_and_work_goes_on() {
    for (name, newer) in [("v2/newer", 2), ("v2/elsewhere", 1)] {
        let disk = golden(name);
        let before: Vec<_> = disk.paths().into_iter().map(|path| (disk.content(&path), path)).collect();
        let (mut spool, recovery) = Spool::open(Path::new(STATE), &settings(1 << 20), &disk).expect("opens");
        assert_eq!((recovery.newer, recovery.losses.len()), (newer, 0));
        let key = key("node");
        let sequence = append(&mut spool, &disk, &key, 1, 5).expect("appends");
        assert!(sequence >= 1 << 32, "far above whatever the newer version gave out: {sequence}");
        spool.sync(&disk).expect("syncs");
        while let Some(batch) = next_batch(&mut spool, promwatch::spool::BatchLimits::default(), &disk).expect("reads")
        {
            ack(&mut spool, &batch, &disk).expect("acknowledges");
        }
        spool.close(&disk).expect("closes");
        for (content, path) in before.iter().filter(|(_, path)| path.to_string_lossy().contains("seg-")) {
            assert_eq!(disk.content(path), *content, "{}", path.display());
        }
        let (_, recovery) = Spool::open(Path::new(STATE), &settings(1 << 20), &disk).expect("opens");
        assert_eq!((recovery.newer, recovery.records, recovery.losses.len()), (newer, 0, 0));
    }
}

/// An upgrade with a backlog: what the older version left goes first, what is new follows in a file of its own, nothing twice.
#[test]
fn a_backlog_of_version_1_leaves_with_what_follows_it() {
    let disk = golden("v1/acked");
    let old: Vec<_> = disk.paths().into_iter().map(|path| (disk.content(&path), path)).collect();
    let (before, _) = cat(&disk);
    let (mut spool, recovery) = Spool::open(Path::new(STATE), &settings(1 << 20), &disk).expect("opens");
    assert_eq!((recovery.events, recovery.losses.len()), (before.lines().count() as u64, 0));
    for n in 12..20 {
        append(&mut spool, &disk, &key("node"), n, 25).expect("appends");
    }
    spool.sync(&disk).expect("syncs");
    for (content, path) in &old {
        assert_eq!(disk.content(path), *content, "nothing is appended to what the older version wrote");
    }
    drop(spool);
    let (all, report) = cat(&disk);
    assert!(all.starts_with(&before) && !report.is_damaged());
    let (mut spool, recovery) = Spool::open(Path::new(STATE), &settings(1 << 20), &disk).expect("opens");
    assert_eq!((recovery.events, recovery.losses.len()), (before.lines().count() as u64 + 200, 0));
    let mut messages = Vec::new();
    while let Some(batch) = next_batch(&mut spool, promwatch::spool::BatchLimits::default(), &disk).expect("reads") {
        messages.extend(batch.records.iter().flat_map(|record| &record.events).map(Event::message));
        ack(&mut spool, &batch, &disk).expect("acknowledges");
    }
    let message = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["message"].clone();
    let mut expected: Vec<String> = all.lines().map(|line| message(line).as_str().expect("text").to_owned()).collect();
    expected.sort();
    messages.sort();
    assert!(messages == expected);
}

/// A downgrade with a backlog: a program of version 1 learns the spool's id from the journal alone, so one is there with the first segment.
#[test]
fn an_older_program_is_told_the_spools_id() {
    let disk = SimDisk::new();
    let (mut spool, _) = Spool::open(Path::new(STATE), &settings(1 << 20), &disk).expect("opens");
    append(&mut spool, &disk, &key("node"), 1, 5).expect("appends");
    spool.sync(&disk).expect("syncs");
    disk.for_each_image(&mut |what, image| {
        let find = |kind: &str| image.paths().into_iter().find(|path| path.to_string_lossy().contains(kind));
        let (Some(segment), Some(journal)) = (find("seg-"), find("acks-")) else { panic!("{what}: a file is missing") };
        let (segment, journal) = (image.content(&segment).expect("content"), image.content(&journal).expect("content"));
        assert_eq!((segment[8], journal[8], journal.len()), (2, 1, 48), "{what}");
        assert_eq!(segment[16..32], journal[16..32], "{what}");
    });
}

/// The scrapes of a node_exporter that version 1 wrote, with the layouts that a converter would have for them.
pub fn node_scrapes() -> Vec<(RecordMeta, Vec<Event>)> {
    let (mut layouts, mut scrapes) = (Layouts::default(), Vec::new());
    let key = key("node");
    reader::read(Path::new(STATE), &golden("v1/node"), &mut |record| {
        let event = |event: &Event| layouts.event(&key, event.timestamp_ms, event.own_time, &event.message());
        scrapes.push((record.meta.clone(), record.events.iter().map(event).collect()));
        true
    })
    .expect("readable");
    scrapes
}

/// What a record says of its scrape.
pub fn again<'a>(meta: &'a RecordMeta, events: &'a [Event]) -> NewRecord<'a> {
    NewRecord {
        key: &meta.key,
        boot_id: meta.boot_id,
        monotonic_ms: meta.monotonic_ms,
        wall_ms: meta.wall_ms,
        clock_confirmed: meta.clock_confirmed,
        events,
    }
}

/// Prints what a real sequence of node_exporter scrapes takes, and fails over the budget. Of one scrape by itself too: what is made
/// anew each time with the same content takes no more.
#[test]
fn a_node_exporter_page_takes_2_bytes_a_sample() {
    let samples_a_page = 507.0;
    let scrapes = node_scrapes();
    let disk = SimDisk::new();
    let (mut spool, _) = Spool::open(Path::new(STATE), &settings(1 << 20), &disk).expect("opens");
    let (mut text_bytes, mut records) = (0, 0.0);
    for (meta, events) in &scrapes {
        spool.append(&again(meta, events), &disk).expect("appends");
        spool.sync(&disk).expect("syncs");
        records += 1.0;
        let kept = disk.used_bytes() as f64 / samples_a_page / records;
        if records <= 10.0 {
            println!("{records} scrapes: {kept:.2} bytes a sample");
        }
        assert!(records > 1.0 || kept <= 9.5, "{kept}");
        text_bytes += events.iter().map(Event::message_bytes).sum::<usize>();
    }
    let (written, kept) = (disk.written_bytes() as f64, disk.used_bytes() as f64);
    let samples = samples_a_page * records;
    println!(
        "{records} scrapes, {} bytes of JSON a scrape: {:.2} bytes kept and {:.2} written a sample",
        text_bytes / scrapes.len(),
        kept / samples,
        written / samples
    );
    assert!(written / samples <= 2.1 && kept <= written);

    let anew = SimDisk::new();
    let (mut spool, _) = Spool::open(Path::new(STATE), &settings(1 << 20), &anew).expect("opens");
    for (meta, events) in &scrapes {
        let mut layouts = Layouts::default();
        let made = |event: &Event| layouts.event(event.key(), event.timestamp_ms, event.own_time, &event.message());
        let events: Vec<Event> = events.iter().map(made).collect();
        spool.append(&again(meta, &events), &anew).expect("appends");
    }
    assert_eq!(anew.used_bytes(), disk.used_bytes());
}

/// A page with thousands of groups of one kind: the text of the kind is there once, what is over the bound is not dearer than its labels.
#[test]
fn groups_of_one_kind_do_not_repeat_its_text() {
    let key = key("node");
    let mut shape = ShapeBuilder::default();
    shape.text().extend_from_slice(
        br#"{"CloudWatchMetrics":[{"Namespace":"a rather long text that all events of this kind have in common"#,
    );
    shape.text().extend_from_slice(br#", and more of it"}],"Timestamp":""#);
    shape.time();
    shape.text().extend_from_slice(br#"","handler":""#);
    shape.label(0);
    shape.text().extend_from_slice(br#"","requests":"#);
    shape.number(Form::Decimal);
    shape.text().push(b'}');
    let shape = Rc::new(shape.build(false));
    let layouts: Vec<Rc<Layout>> = (0..7_000_u64)
        .map(|n| {
            let value = format!("/v1/things/{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
            let labels = Rc::new(LabelValues::of(std::iter::once(value.as_str())));
            Rc::new(Layout::new(Rc::clone(&key), Rc::clone(&shape), labels))
        })
        .collect();
    let disk = SimDisk::new();
    let (mut spool, _) = Spool::open(Path::new(STATE), &settings(8 << 20), &disk).expect("opens");
    let mut used = Vec::new();
    for n in 0..4 {
        let numbers = Rc::new((0..7_000).map(|group| f64::from(group * n % 10)).collect::<Vec<_>>());
        let event = |(first, layout): (u32, &Rc<Layout>)| {
            Event::new(Rc::clone(layout), Rc::clone(&numbers), first, false, n.into())
        };
        let events: Vec<Event> = (0..).zip(&layouts).map(event).collect();
        let new = NewRecord {
            key: &key,
            boot_id: [1; 16],
            monotonic_ms: 1,
            wall_ms: n.into(),
            clock_confirmed: true,
            events: &events,
        };
        let sequence = spool.append(&new, &disk).expect("appends");
        used.push(disk.used_bytes());
        let mut got = None;
        reader::read(Path::new(STATE), &disk, &mut |record| {
            got = Some(record.clone()).filter(|record| record.meta.sequence == sequence).or(got.take());
            true
        })
        .expect("reads");
        let got = got.expect("the record");
        assert!(got.events == events);
        assert!(got.events.iter().all(|event| Rc::ptr_eq(&event.layout.shape, &got.events[0].layout.shape)));
    }
    println!("7,000 groups: {used:?} bytes");
    assert!(used[0] < 160 << 10 && used[3] - used[2] < 60 << 10, "{used:?}");
}

/// Writes golden folders of the present version that do not exist yet.
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

    // A whole segment of a later version, and a frame of it in a segment of ours.
    let (_, disk) = sample(true);
    let segment = first_segment(&disk);
    let original = disk.content(&segment).expect("content");
    let forge = |bytes: &mut Vec<u8>, place: usize, value: u8| {
        let at = bytes.windows(4).rposition(|window| window == b"\xa7PWR").expect("a frame");
        bytes[at + place] = value;
        let names = usize::from(bytes[at + 80]) + usize::from(bytes[at + 82]);
        let sum = crc32c(&bytes[at..at + 88 + names]);
        bytes[at + 88 + names..at + 92 + names].copy_from_slice(&sum.to_le_bytes());
    };
    disk.damage(&segment, |bytes| forge(bytes, 4, 3));
    let mut newer = original[..80].to_vec();
    newer[8] = 3;
    newer[32] = 0xe8;
    let sum = crc32c(&newer[..76]);
    newer[76..].copy_from_slice(&sum.to_le_bytes());
    newer.extend_from_slice(b"whatever a later version writes");
    disk.put(&segment.with_file_name("seg-00000000000003e8.pws"), &newer);
    save("newer", &disk);

    // A record for another destination.
    let (_, disk) = sample(true);
    disk.damage(&segment, |bytes| forge(bytes, 7, 2));
    save("elsewhere", &disk);

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
            .chain(binary(&node, n))
            .collect();
        let (boot_id, monotonic_ms) = ([n as u8 / 20; 16], n as u64);
        let new = NewRecord { key: &node, boot_id, monotonic_ms, wall_ms: n, clock_confirmed: n > 10, events: &events };
        spool.append(&new, &disk).expect("appends");
    }
    spool.sync(&disk).expect("syncs");
    save("odd", &disk);

    let disk = SimDisk::new();
    let (mut spool, _) = Spool::open(Path::new(STATE), &settings(1 << 20), &disk).expect("opens");
    for (meta, events) in &node_scrapes() {
        spool.append(&again(meta, events), &disk).expect("appends");
    }
    spool.sync(&disk).expect("syncs");
    save("node", &disk);
}

/// Events with every kind of hole, of the same layouts several times in a record.
fn binary(key: &Rc<StreamKey>, n: i64) -> Vec<Event> {
    let mut shape = ShapeBuilder::default();
    for form in [Form::F64, Form::I64, Form::Decimal] {
        shape.text().extend_from_slice(&[0x0a, 0xff, form as u8]);
        shape.label(1);
        shape.number(form);
        shape.time();
    }
    let shape = Rc::new(shape.build(false));
    let layout = |value: &str| {
        let labels = Rc::new(LabelValues::of(["unused", value].into_iter()));
        Rc::new(Layout::new(Rc::clone(key), Rc::clone(&shape), labels))
    };
    let layouts = [layout("\"<é"), layout("")];
    let odd = [0.1 + 0.2, -0.0, 5e-324, 1e300, 12.5, 1e-7];
    (0..9)
        .map(|at| {
            Event::new(
                Rc::clone(&layouts[at % 2]),
                Rc::new(vec![
                    7.0,
                    f64::NAN,
                    f64::from_bits(n.cast_unsigned() * 1_000_003 + at as u64),
                    odd[at % 6] + n as f64,
                ]),
                1,
                at == 4,
                n * 1_000 + at as i64 / 3,
            )
        })
        .collect()
}

fn shortened(cat: &str) -> String {
    if cat.len() < 100_000 { cat.to_owned() } else { format!("{} bytes, {:08x}\n", cat.len(), crc32c(cat.as_bytes())) }
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(bytes)
}

#[allow(clippy::disallowed_methods)]
fn save(name: &str, disk: &SimDisk) {
    let folder = root().join("v2").join(name);
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
        let (disk, file) = (golden(&format!("v2/{name}")), Path::new("/stick/events.pwx"));
        disk.put(Path::new("/stick/other"), b"");
        export::export(Path::new(STATE), file, &export::Filter::default(), 7, &disk, &mut |_| ()).expect("exports");
        let bytes = disk.content(file).expect("content");
        let cut = bytes[..bytes.len() / 2].to_vec();
        for (name, bytes) in [(format!("{name}_v2"), bytes), (format!("{name}_v2_cut"), cut)] {
            if !folder.join(&name).exists() {
                fs::write(folder.join(&name), bytes).expect("written");
            }
        }
    }
}
