//! Random operations and damage on a spool, held against a model that only knows what went in and what was told. Bytes decide
//! what happens: of a seed in the test below, of a fuzzer in `fuzz/fuzz_targets/spool_operations.rs`.
//!
//! At every step: pending + settled + lost + detached is what was there and what was appended; nothing is given out that is not
//! pending, and never under another number or with other text. Over every start: what was pending is there or counted, exactly
//! where the journal survived. At the end everything leaves, and nothing is pending for ever.

use crate::sim_disk::{Faults, SimDisk};
use promwatch::env::Disk as _;
use promwatch::model::settings::BufferSettings;
use promwatch::model::{Event, Form, LabelValues, Layout, Shape, ShapeBuilder, StreamKey};
use promwatch::spool::{
    BatchLimits, Loss, NewRecord, Outcome, Ranges, Recovery, Spool, SpoolBatch, boot_checksum, reader,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

const STATE: &str = "/state";
const STREAMS: u8 = 5;

/// Decisions out of bytes; 0 when there are no more.
struct Choices<'a> {
    bytes: &'a [u8],
}

impl Choices<'_> {
    fn pick(&mut self, n: usize) -> usize {
        let (first, rest) = self.bytes.split_first().unwrap_or((&0, &[]));
        self.bytes = rest;
        usize::from(*first) % n.max(1)
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        let at = self.pick(all.len());
        all.get(at).cloned()
    }
}

/// What the outside knows of one event.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    stream: u8,
    text: String,
}

struct Run<'a> {
    choices: Choices<'a>,
    disk: SimDisk,
    spool: Option<Spool>,
    max_bytes: u64,
    /// By number; numbers beyond what survived are forgotten, because they are given out again.
    known: BTreeMap<u64, Known>,
    pending: BTreeSet<u64>,
    synced: BTreeSet<u64>,
    /// Appended by this process.
    fresh: BTreeSet<u64>,
    /// A sync may have failed: what the process before wrote may never become certain.
    faulted: bool,
    /// So many of those are lost, and nobody can say which.
    ghosts: u64,
    /// Left the spool while pinned, not settled yet.
    afloat: BTreeSet<u64>,
    /// Settled since this process began: never to be given out again by it.
    settled: BTreeSet<u64>,
    /// A body in flight.
    flying: Ranges,
    /// There were so many, and so many have left the books since.
    had: u64,
    left: u64,
    lost: u64,
    /// The journal may have lost something since the process began.
    journal_damaged: bool,
    disk_damaged: bool,
    /// A journal was damaged or made up: what was before the first segment may have been delivered or not.
    journal_vague: bool,
    /// There is a segment of another spool.
    foreign: bool,
    n: u64,
}

fn key(stream: u8) -> Rc<StreamKey> {
    Rc::new(StreamKey { group: "g".into(), stream: format!("s{stream}") })
}

/// What most events look like.
fn shape() -> Rc<Shape> {
    let mut shape = ShapeBuilder::default();
    for name in ["{\"stream\":", ",\"event\":"] {
        shape.text().extend_from_slice(name.as_bytes());
        shape.number(Form::Decimal);
    }
    shape.text().extend_from_slice(b",\"a\":\"");
    shape.label(0);
    shape.text().extend_from_slice(b"\"}");
    Rc::new(shape.build(false))
}

/// The event with this number: every third is text, the others have layouts that come again, also in the same record.
fn event(key: &Rc<StreamKey>, stream: u8, n: u64, shape: &Rc<Shape>) -> Event {
    let value = "x".repeat(n as usize / 3 % 40);
    let (timestamp_ms, own_time) = (n as i64, n.is_multiple_of(5));
    if n.is_multiple_of(3) {
        let text = format!("{{\"stream\":{stream},\"event\":{n},\"a\":\"{value}\"}}");
        return Event::text(Rc::clone(key), timestamp_ms, own_time, &text);
    }
    let labels = Rc::new(LabelValues::of(std::iter::once(value.as_str())));
    let layout = Rc::new(Layout::new(Rc::clone(key), Rc::clone(shape), labels));
    Event::new(layout, Rc::new(vec![stream.into(), n as f64]), 0, own_time, timestamp_ms)
}

fn numbers(ranges: &Ranges) -> impl Iterator<Item = u64> + '_ {
    ranges.iter().flat_map(|(from, to)| from..to)
}

fn events_of(losses: &[Loss]) -> u64 {
    losses.iter().map(|loss| loss.events).sum()
}

/// CRC-32C, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 })
    })
}

fn header_is_sound(bytes: &[u8]) -> bool {
    bytes.len() >= 80 && checksum(&bytes[..76]).to_le_bytes() == bytes[76..80]
}

/// Runs what the bytes say.
pub fn run(bytes: &[u8]) {
    let mut run = Run {
        choices: Choices { bytes },
        disk: SimDisk::new(),
        spool: None,
        max_bytes: 32 << 10,
        known: BTreeMap::new(),
        pending: BTreeSet::new(),
        ghosts: 0,
        synced: BTreeSet::new(),
        fresh: BTreeSet::new(),
        faulted: false,
        afloat: BTreeSet::new(),
        settled: BTreeSet::new(),
        flying: Ranges::default(),
        had: 0,
        left: 0,
        lost: 0,
        journal_damaged: false,
        disk_damaged: false,
        journal_vague: false,
        foreign: false,
        n: 0,
    };
    run.reopen(false);
    while !run.choices.bytes.is_empty() {
        run.step();
        run.check();
    }
    run.drain();
}

impl Run<'_> {
    fn spool(&mut self) -> &mut Spool {
        self.spool.as_mut().expect("it is open")
    }

    /// With a single seed, what happens.
    fn trace(&self, what: &str) {
        if std::env::var_os("PROMWATCH_SEED").is_some() {
            let pending = self.spool.as_ref().map(Spool::pending);
            eprintln!("{what}: {:?}, {} lost, {} left of {}", pending, self.lost, self.left, self.had);
        }
    }

    fn step(&mut self) {
        let what = self.choices.pick(24);
        self.trace(&format!("step {what}"));
        match what {
            0..=6 => self.append(),
            7..=10 => self.deliver(),
            11 => self.settle_flight(),
            12 => {
                let disk = self.disk.clone();
                let synced = self.spool().sync(&disk).is_ok();
                if synced {
                    self.synced.append(&mut self.fresh.clone());
                }
            }
            13 => self.bounds(),
            14 => {
                self.max_bytes = [8 << 10, 16 << 10, 64 << 10][self.choices.pick(3)];
                let settings = self.settings();
                self.spool().reconfigure(&settings);
            }
            15 => self.reopen(false),
            16 => self.reopen(true),
            17 => {
                let at = self.disk.operations() + self.choices.pick(4) as u64;
                self.disk.set_faults(Faults { eio_at: Some(at), ..Faults::default() });
                (self.journal_damaged, self.faulted) = (true, true);
            }
            18 => self.abandon(),
            19 => self.look(),
            _ => self.damage(),
        }
    }

    fn settings(&self) -> BufferSettings {
        BufferSettings { max_bytes: self.max_bytes, ..BufferSettings::default() }
    }

    fn append(&mut self) {
        let stream = self.choices.pick(STREAMS.into()) as u8;
        let count = 1 + self.choices.pick(30) as u64;
        let (n, key) = (self.n, key(stream));
        self.n += count;
        let shape = shape();
        let events: Vec<Event> = (n..n + count).map(|n| event(&key, stream, n, &shape)).collect();
        let (boot, confirmed) = ((self.n / 500) as u8, self.choices.pick(2) == 0);
        let new = NewRecord {
            key: &key,
            boot_id: [boot; 16],
            monotonic_ms: n,
            wall_ms: n as i64,
            clock_confirmed: confirmed,
            events: &events,
        };
        let disk = self.disk.clone();
        if let Ok(first) = self.spool().append(&new, &disk) {
            self.had += count;
            for (number, event) in (first..).zip(events) {
                let old = self.known.insert(number, Known { stream, text: event.message() });
                assert_eq!(old, None, "a number is given out twice");
                self.pending.insert(number);
                self.fresh.insert(number);
            }
        }
    }

    fn take(&mut self) -> Option<SpoolBatch> {
        let disk = self.disk.clone();
        let mask = self.choices.pick(256) | 1 << self.choices.pick(STREAMS.into());
        let oldest_ms = self.choices.pick(3) as u64 * self.n / 4;
        let limits = BatchLimits {
            billed_bytes: [1, 500, 4_000, 1 << 20][self.choices.pick(4)],
            events: [1, 20, 10_000][self.choices.pick(3)],
            span_ms: [0, 30, u64::MAX][self.choices.pick(3)],
        };
        let may_send = |key: &StreamKey| mask >> key.stream[1..].parse::<u8>().unwrap_or_default() & 1 == 1;
        let batch = self
            .spool()
            .next_batch(&may_send, &|age| age.monotonic_ms < oldest_ms, limits, &disk)
            .unwrap_or_default()?;
        assert!(may_send(&batch.key) && !batch.records.is_empty());
        let mut given = Ranges::default();
        for record in &batch.records {
            assert!(record.meta.monotonic_ms >= oldest_ms);
            assert_eq!(record.pending.len(), record.events.len() as u64);
            for (number, event) in numbers(&record.pending).zip(&record.events) {
                assert!(!given.contains(number), "{number} is twice in a batch");
                given.insert(number, number + 1);
                assert!(!self.settled.contains(&number), "{number} was settled by this process");
                assert!(self.pending.contains(&number), "{number} is not pending");
                let known = &self.known[&number];
                assert_eq!((&event.message(), &batch.key.stream), (&known.text, &format!("s{}", known.stream)));
            }
        }
        Some(batch)
    }

    /// Takes a batch; some of it is answered at once, the rest may be in flight.
    fn deliver(&mut self) {
        let Some(batch) = self.take() else { return };
        let mut part = Ranges::default();
        let (every, keep) = (1 + self.choices.pick(4), self.choices.pick(5));
        for record in &batch.records {
            for number in numbers(&record.pending).step_by(every).skip(keep) {
                part.insert(number, number + 1);
            }
        }
        if self.choices.pick(3) == 0 {
            self.settle_flight();
            self.flying = part;
            let flying = self.flying.clone();
            self.spool().pin(flying);
        } else {
            self.settle(&part);
        }
    }

    fn settle_flight(&mut self) {
        let flying = std::mem::take(&mut self.flying);
        self.settle(&flying);
        self.spool().pin(Ranges::default());
    }

    fn settle(&mut self, part: &Ranges) {
        let disk = self.disk.clone();
        let outcome =
            [Outcome::Delivered, Outcome::Delivered, Outcome::Dropped, Outcome::Exported][self.choices.pick(4)];
        // Numbers that nobody ever gave out do nothing.
        let mut wanted = part.clone();
        wanted.insert(1 << 61, (1 << 61) + 9);
        let (events, written) = self.spool().settle(outcome, &wanted, &disk);
        assert!(written.is_ok() || self.journal_damaged);
        self.left += events;
        let mut expected = 0;
        for number in numbers(part) {
            expected += u64::from(self.pending.contains(&number));
            self.pending.remove(&number);
            self.settled.insert(number);
            if self.afloat.remove(&number) {
                self.left += 1;
            }
        }
        assert!(events <= expected, "{events} of {expected}");
        let certain = self.ghosts + self.lost == 0 && !self.disk_damaged;
        assert!(events == expected || !certain, "{events} of {expected} were pending");
    }

    fn bounds(&mut self) {
        let oldest = self.choices.pick(6) as u64 * self.n / 8;
        let boot = boot_checksum(&[(self.n / 500) as u8; 16]);
        let disk = self.disk.clone();
        let losses = self.spool().enforce_bounds(&|of| (of == boot).then_some(oldest), &disk);
        self.lost += events_of(&losses);
    }

    /// Collects what was told and holds the sums against each other.
    fn check(&mut self) {
        let losses = self.spool().take_losses();
        self.lost += events_of(&losses);
        assert!(losses.iter().all(|loss| loss.events > 0));
        let detached = self.spool().take_detached();
        for number in numbers(&detached) {
            assert!(self.flying.contains(number), "{number} is not in flight");
            assert!(self.pending.remove(&number), "{number} is detached twice");
            self.afloat.insert(number);
        }
        let pending = self.spool().pending();
        let streams: u64 = self.spool().streams().iter().map(|stream| stream.events).sum();
        assert!(streams <= pending.events || self.disk_damaged || self.journal_damaged);
        let sum = pending.events + self.left + self.lost + self.afloat.len() as u64;
        assert_eq!(
            sum,
            self.had,
            "{pending:?}, {} left, {} lost, {} detached",
            self.left,
            self.lost,
            self.afloat.len()
        );
    }

    fn listed(&self) -> BTreeSet<u64> {
        let mut listed = BTreeSet::new();
        reader::read(Path::new(STATE), &self.disk, &mut |record| {
            assert_eq!(record.pending.len(), record.events.len() as u64);
            for (number, event) in numbers(&record.pending).zip(&record.events) {
                assert!(listed.insert(number), "{number} is listed twice");
                let known = self.known.get(&number).map(|known| &known.text);
                assert_eq!(Some(&event.message()), known, "{number} is invented or changed");
            }
            true
        })
        .expect("reads");
        listed
    }

    /// What a command sees beside the agent; nothing is changed.
    fn look(&mut self) {
        self.disk.set_faults(Faults::default());
        let listed = self.listed();
        if !self.disk_damaged && !self.journal_damaged {
            let pending: u64 = self.spool().pending().events;
            assert!(listed.len() as u64 <= pending);
        }
    }

    /// The process is killed, or the power cut, and a new one starts.
    fn reopen(&mut self, cut: bool) {
        self.disk.set_faults(Faults::default());
        if self.spool.is_some() {
            self.check();
        }
        self.spool = None;
        self.disk.kill();
        if cut {
            self.journal_vague = true;
            let mut seed = self.choices.pick(256) as u64;
            self.disk = self.disk.power_cut(&mut || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed >> 33
            });
        }
        let segments = |disk: &SimDisk| -> Vec<Vec<u8>> {
            let paths = disk.paths().into_iter().filter(|path| path.to_string_lossy().contains("seg-"));
            paths.filter_map(|path| disk.content(&path)).collect()
        };
        let header_known = segments(&self.disk).iter().any(|bytes| header_is_sound(bytes));
        let disk = self.disk.clone();
        let (spool, recovery) =
            Spool::open(Path::new(STATE), &self.settings(), &disk).expect("it opens whatever lies there");
        let next = spool.next_sequence();
        self.spool = Some(spool);
        self.hold_against(&recovery, next, cut, header_known);
        // What was beyond the highest surviving number is known to nobody, and given out again.
        self.known.retain(|number, _| *number < next);
        (self.had, self.left, self.lost) = (recovery.events, 0, 0);
        (self.settled, self.flying, self.afloat) = (BTreeSet::new(), Ranges::default(), BTreeSet::new());
        self.journal_damaged = false;
        // The caller has counted it: now it may be written down.
        let written = self.spool().settle(Outcome::Delivered, &Ranges::default(), &disk);
        assert_eq!((written.0, written.1.is_ok()), (0, true));
    }

    fn hold_against(&mut self, recovery: &Recovery, next: u64, cut: bool, header_known: bool) {
        assert_eq!(recovery.newer, 0);
        // When no header is left the spool gets another name, and a copy with the old one counts as another spool's.
        let foreign = recovery.unreadable > 0;
        assert!(!foreign || self.disk_damaged || self.foreign);
        self.foreign |= foreign;
        let listed = self.listed();
        let lost = events_of(&recovery.losses);
        self.trace(&format!(
            "opened, cut {cut}, next {next}, {recovery:?}, {:?}",
            Ranges::of(listed.iter().map(|n| (*n, n + 1)).collect())
        ));
        let sizes = self
            .disk
            .paths()
            .into_iter()
            .map(|path| (path.display().to_string(), self.disk.content(&path).map(|bytes| bytes.len())));
        self.trace(&format!("files {:?}", sizes.collect::<Vec<_>>()));
        self.trace(&format!("was {:?}", Ranges::of(self.pending.iter().map(|n| (*n, n + 1)).collect())));
        // Some damage shows only when a record is read: it is pending and will be lost.
        let unreadable = recovery.events.checked_sub(listed.len() as u64).expect("what is listed is pending");
        assert!(unreadable == 0 || self.disk_damaged || cut);
        let was: BTreeSet<u64> = self.pending.union(&self.afloat).copied().filter(|number| *number < next).collect();
        let lowest = if self.journal_vague { listed.first().copied().unwrap_or(next) } else { 0 };
        let certain = was.range(lowest..).filter(|number| !cut || self.synced.contains(number));
        let gone = certain.filter(|number| !listed.contains(number)).count() as u64;
        let known_lost = self.ghosts + self.lost;
        if (header_known || !self.disk_damaged) && !self.foreign {
            assert!(
                gone <= unreadable + lost + known_lost,
                "{gone} are gone, {lost} told as lost, {unreadable} cannot be read"
            );
        }
        if !cut && !self.journal_damaged && header_known && self.ghosts == 0 && lowest == 0 && !self.foreign {
            assert_eq!(
                listed.len() as u64 + unreadable + lost + known_lost,
                was.len() as u64,
                "{} listed, {unreadable} cannot be read, {lost} told as lost",
                listed.len()
            );
        }
        if !self.disk_damaged && known_lost == 0 {
            let vanished = self.pending.intersection(&self.synced).find(|number| !listed.contains(number));
            assert_eq!(vanished, None, "what was synced is there");
        }
        self.disk_damaged = unreadable > 0;
        self.fresh.clear();
        self.synced = if self.faulted { &self.synced & &listed } else { listed.clone() };
        // What cannot be read counts as pending, whichever it is.
        let all = self.known.keys().copied().filter(|number| *number < next);
        self.pending = if unreadable == 0 { listed } else { all.collect() };
        self.ghosts = self.pending.len() as u64 - recovery.events;
    }

    /// The folder is gone: what no sync covered comes back.
    fn abandon(&mut self) {
        if self.choices.pick(4) != 0 {
            return;
        }
        self.check();
        let pending = self.spool().pending().events;
        let abandoned = self.spool.take().expect("it is open").abandon();
        let mut back = 0;
        for record in &abandoned.records {
            back += record.events.len() as u64;
            for (number, event) in numbers(&record.pending).zip(&record.events) {
                assert_eq!(event.message(), self.known[&number].text);
                assert!(!self.synced.contains(&number) || self.disk_damaged);
                assert!(!self.flying.contains(number));
            }
        }
        assert!(numbers(&abandoned.detached).all(|number| self.flying.contains(number)));
        assert_eq!(back + events_of(&abandoned.losses) + abandoned.detached.len(), pending);
        let detached = numbers(&abandoned.detached).filter(|number| self.pending.contains(number)).count();
        assert!(detached == abandoned.detached.len() as usize || self.disk_damaged);
        // It was a false alarm: everything is still there.
        self.afloat = BTreeSet::new();
        self.journal_damaged = true;
        self.reopen(false);
    }

    /// Bit rot, lost, doubled, swapped and cut files, made-up ones.
    fn damage(&mut self) {
        self.disk.set_faults(Faults::default());
        let files: Vec<PathBuf> = self.disk.paths();
        let (segments, journals): (Vec<PathBuf>, Vec<PathBuf>) =
            files.into_iter().partition(|path| path.to_string_lossy().contains("seg-"));
        let (at, kind) = (self.choices.pick(256) << 6 | self.choices.pick(64), self.choices.pick(10));
        let one = self.choices.of(&segments);
        let other = self.choices.of(&segments);
        let content = |path: &Option<PathBuf>| path.as_ref().and_then(|path| self.disk.content(path));
        let Some((bytes, one)) = content(&one).zip(one) else { return };
        self.disk_damaged = true;
        self.trace(&format!("damage {kind} at {at} of {} and {other:?}", one.display()));
        let named = |name: &str| one.with_file_name(name);
        match kind {
            0 | 1 => self.disk.damage(&one, |bytes| {
                let sector = at % bytes.len().max(1) / 512 * 512;
                bytes
                    .iter_mut()
                    .skip(sector)
                    .take(512)
                    .for_each(|byte| *byte = byte.wrapping_mul(7).wrapping_add(0x35));
            }),
            2 => {
                let _ = self.disk.remove(&one);
            }
            3 => self.disk.damage(&one, |bytes| bytes.truncate(at % bytes.len().max(1))),
            4 => {
                let name = at as u64 % self.spool().next_sequence().max(1);
                self.disk.put(&named(&format!("seg-{name:016x}-0f.pws")), &bytes);
            }
            5 => {
                let Some((others, other)) = content(&other).zip(other) else { return };
                // Names change hands; a file that is being written goes on without one.
                self.disk.put(&one, &others);
                self.disk.put(&other, &bytes);
            }
            6 => {
                // A copy of a piece behind it: numbers that stand twice in a segment.
                let piece = bytes[at % bytes.len().max(1)..].to_vec();
                self.disk.damage(&one, |bytes| bytes.extend_from_slice(&piece));
                let _ = self.disk.sync_file(&one);
            }
            7 => {
                let name = ["seg-ffffffffffffffff.pws", "seg-3fffffffffffffff-ff.pws", "seg-0800000000000000.pws"];
                let content = [&[][..], &bytes, &[0xff; 700]][self.choices.pick(3)].to_vec();
                self.disk.put(&named(name[self.choices.pick(3)]), &content);
            }
            8 => {
                let Some(journal) = self.choices.of(&journals) else { return };
                (self.journal_damaged, self.journal_vague) = (true, true);
                self.disk.damage(&journal, |bytes| {
                    let at = at % bytes.len().max(1);
                    bytes.iter_mut().skip(at).take(40).for_each(|byte| *byte = byte.wrapping_mul(7).wrapping_add(0x35));
                });
            }
            _ => self.forge_journal(&bytes, &named("acks-ffffffffffffffff.pwa")),
        }
    }

    /// A journal that says of numbers that nobody ever gave out that they are settled.
    fn forge_journal(&mut self, segment: &[u8], path: &Path) {
        if !header_is_sound(segment) || self.known.is_empty() {
            return;
        }
        self.journal_vague = true;
        let next = self.spool().next_sequence();
        let (from, to) = [(0, 1 << 62), (next / 2, 1 << 60), (next + (1 << 50), next + (1 << 50) + 7), (0, 1 << 55)]
            [self.choices.pick(4)];
        let mut bytes = vec![0; 48];
        let id = &segment[16..32];
        let mut entry = [&[1, 0, 0, 0][..], &u64::to_le_bytes(from), &u64::to_le_bytes(to)].concat();
        let sum = checksum(&[id, &entry].concat());
        entry.extend_from_slice(&sum.to_le_bytes());
        bytes.extend_from_slice(&entry);
        self.disk.put(path, &bytes);
    }

    /// Everything leaves.
    fn drain(&mut self) {
        self.disk.set_faults(Faults::default());
        self.settle_flight();
        let disk = self.disk.clone();
        for _ in 0..2 {
            let losses = self.spool().enforce_bounds(&|_| None, &disk);
            self.lost += events_of(&losses);
            loop {
                let batch = self.spool().next_batch(&|_| true, &|_| false, BatchLimits::default(), &disk);
                let Some(batch) = batch.expect("reads") else { break };
                let mut all = Ranges::default();
                for record in &batch.records {
                    record.pending.iter().for_each(|(from, to)| all.insert(from, to));
                }
                assert!(numbers(&all).all(|number| self.pending.contains(&number)));
                self.settle(&all);
                self.check();
            }
        }
        self.check();
        assert_eq!(self.spool().pending().events, 0, "nothing is pending for ever");
        self.spool = None;
        let (_, recovery) = Spool::open(Path::new(STATE), &self.settings(), &disk).expect("opens");
        assert!(recovery.events == 0 || self.disk_damaged || self.journal_damaged, "{recovery:?}");
    }
}

/// `PROMWATCH_SEEDS`: so many instead of 200; `PROMWATCH_SEED`: only this one.
#[test]
fn the_books_of_a_spool_are_right_whatever_happens_to_it() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("PROMWATCH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PROMWATCH_SEEDS").unwrap_or(200),
    };
    for seed in seeds {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as u8
        })
        .take(300 + seed as usize % 7 * 200)
        .collect();
        let outcome = std::panic::catch_unwind(|| run(&bytes));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}
