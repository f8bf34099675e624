//! The quick way against the plain one: random sequences of pages give the same events both ways, byte for byte.

use crate::convert::target;
use crate::hands::Hands;
use crate::sim_disk::SimDisk;
use promwatch::convert::{Converted, Converter};
use promwatch::env::{Env, Exchange, Head, Limits, Net, NetError, Record, Request};
use promwatch::model::settings::{
    ConvertSettings, Declaration, DnsKind, EmfSettings, Histograms, RelabelAction, RelabelRule, Template,
};
use promwatch::model::{Labels, Target};
use promwatch::pattern::Pattern;
use promwatch::scrape::exposition::Format;
use promwatch::scrape::{Scraper, report_samples, scrape_page, scrape_page_into};
use std::ops::ControlFlow;
use std::rc::Rc;

struct Nowhere;

impl Net for Nowhere {
    fn exchange(
        &self,
        _: &Request<'_>,
        _: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        unreachable!("pages are pushed")
    }

    fn lookup(&self, _: &str, _: DnsKind, _: Limits) -> Result<Vec<Record>, NetError> {
        unreachable!("pages are pushed")
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % below as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.next(n) == 0
    }

    fn of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.next(texts.len())]
    }
}

const NAMES: [&str; 14] = [
    "g",
    "g_total",
    "c_total",
    "c",
    "s",
    "s_sum",
    "s_count",
    "value",
    "h_bucket",
    "h_sum",
    "h_count",
    "host",
    "Version",
    "prometheus",
];
const TYPES: [&str; 6] = ["gauge", "counter", "summary", "histogram", "untyped", "gauge"];

/// A series as it is spelt on a page.
#[derive(Clone)]
struct Line {
    series: String,
    value: f64,
}

/// An exporter that changes its mind.
struct Exporter {
    format: Format,
    lines: Vec<Line>,
    types: Vec<(&'static str, &'static str)>,
}

impl Exporter {
    fn new(random: &mut Random) -> Self {
        let format = if random.one_in(3) { Format::OpenMetrics } else { Format::Text };
        let mut exporter = Self { format, lines: Vec::new(), types: Vec::new() };
        for name in ["g", "c", "s", "h", "value", "c_total", "host"] {
            exporter.types.push((name, TYPES[random.next(TYPES.len())]));
        }
        for _ in 0..3 + random.next(60) {
            exporter.lines.push(Self::line(random));
        }
        exporter
    }

    fn line(random: &mut Random) -> Line {
        let name = NAMES[random.next(NAMES.len())];
        let mut labels = Vec::new();
        for (label, values) in [
            ("a", &["1", "2", "}", "x} 7", "\\\"\\\\\\n", "é\u{2028}<&>", ""][..]),
            ("host", &["", "", "other"]),
            ("job", &["", "", "theirs"]),
            ("prom_metric_type", &["", "", "", "mine"]),
            ("le", &["", "1", "2.5", "+Inf", "1e1", "x"]),
            ("quantile", &["", "", "0.5", "0.99", "1"]),
            ("drop", &["", "", "", "me"]),
            ("Version", &["", "", "", "<&>"]),
        ] {
            let value = random.of(values);
            if !value.is_empty() || random.one_in(12) {
                labels.push(format!("{label}=\"{value}\""));
            }
        }
        if random.one_in(3) {
            labels.reverse();
        }
        if random.one_in(9) {
            labels.insert(0, format!("\"{name}\""));
            return Line { series: format!("{{{}}}", labels.join(",")), value: 1.0 };
        }
        let series = if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) };
        Line { series, value: random.next(100) as f64 }
    }

    fn change(&mut self, random: &mut Random) {
        for line in &mut self.lines {
            line.value = match random.next(24) {
                0 => f64::NAN,
                1 => f64::INFINITY,
                2 => 1.5e300,
                3 => random.next(50) as f64,
                4 => line.value,
                5 => -0.0,
                6 => line.value + 0.1,
                _ if line.value.is_finite() => line.value + random.next(1_000) as f64,
                _ => 3.0,
            };
        }
        if random.one_in(3) {
            let at = random.next(self.lines.len() + 1);
            self.lines.insert(at, Self::line(random));
        }
        if random.one_in(3) && self.lines.len() > 1 {
            self.lines.remove(random.next(self.lines.len()));
        }
        if random.one_in(6) && !self.lines.is_empty() {
            let again = self.lines[random.next(self.lines.len())].clone();
            self.lines.push(again);
        }
        if random.one_in(6) {
            let (a, b) = (random.next(self.lines.len()), random.next(self.lines.len()));
            self.lines.swap(a, b);
        }
        if random.one_in(6) {
            let at = random.next(self.types.len());
            self.types[at].1 = TYPES[random.next(TYPES.len())];
        }
        if random.one_in(12) {
            self.types.remove(random.next(self.types.len()));
            self.types.push((NAMES[random.next(NAMES.len())], "gauge"));
        }
    }

    fn page(&self, random: &mut Random) -> Vec<u8> {
        let mut page = Vec::new();
        let open = self.format == Format::OpenMetrics;
        let types_last = !open && random.one_in(8);
        let mut types = Vec::new();
        for (name, kind) in &self.types {
            let kind = if open && *kind == "untyped" { "unknown" } else { kind };
            types.extend_from_slice(format!("# TYPE {name} {kind}\n").as_bytes());
            if random.one_in(8) {
                types.extend_from_slice(format!("# HELP {name} text {}\n", random.next(3)).as_bytes());
            }
        }
        if !types_last {
            page.extend_from_slice(&types);
        }
        for line in &self.lines {
            page.extend_from_slice(line.series.as_bytes());
            let value = if line.value.is_infinite() { "+Inf".to_owned() } else { line.value.to_string() };
            page.extend_from_slice(format!(" {value}").as_bytes());
            if random.one_in(15) {
                let ms = 1_700_000_000_000 + random.next(100_000) as i64;
                page.extend_from_slice(if open { format!(" {}.5", ms / 1000) } else { format!(" {ms}") }.as_bytes());
            }
            if open && random.one_in(15) {
                page.extend_from_slice(b" # {trace=\"a}\"} 0.5");
            }
            page.push(b'\n');
            if !open && random.one_in(40) {
                page.extend_from_slice(random.of(&["# a comment\n", "\n", "x{a=\"two\nlines\"} 1\n"]).as_bytes());
            }
            if random.one_in(900) {
                page.extend_from_slice(random.of(&["bad line\n", "# HELP x \u{1}\n", "g{a=\"} 1\n"]).as_bytes());
            }
            if random.one_in(900) {
                page.extend_from_slice(b"# HELP x \xff\n");
            }
        }
        if types_last {
            page.extend_from_slice(&types);
        }
        if open && !random.one_in(60) {
            page.extend_from_slice(b"# EOF\n");
        }
        page
    }
}

fn declaration(random: &mut Random) -> Declaration {
    Declaration {
        source_labels: vec![random.of(&["job", "a", "prom_metric_type"]).to_owned()],
        label_matcher: Pattern::search(random.of(&[".", "^1$", "node", "^$"])).unwrap(),
        metric_selectors: vec![Pattern::search(random.of(&[".", "^g", "c_total", "s_"])).unwrap()],
        dimensions: vec![vec![random.of(&["job", "a", "host"]).to_owned()], vec!["instance".to_owned()]],
    }
}

fn settings(random: &mut Random) -> ConvertSettings {
    let mut settings = ConvertSettings {
        log_group_name: random.of(&["/g", "/{JobName}/{ServiceName}"]).to_owned(),
        host: random.one_in(2).then(|| "pi".to_owned()),
        cluster_name: random.one_in(3).then(|| "edge \"1\"".to_owned()),
        ..ConvertSettings::default()
    };
    if random.one_in(3) {
        settings.labels = vec![("at".to_owned(), Template("{instance}/{job}".to_owned()))];
        settings.labels.push(("a".to_owned(), Template(random.of(&["", "b<"]).to_owned())));
    }
    if random.one_in(3) {
        settings.log_stream_name = Some(Template("{job}-{instance}".to_owned()));
    }
    let units = [("g".to_owned(), "Bytes".to_owned())].into();
    settings.emf = match random.next(3) {
        0 => EmfSettings::Off,
        1 => EmfSettings::AllLabels { namespace: "N".to_owned(), units },
        _ => {
            let declarations = (0..1 + random.next(3)).map(|_| declaration(random)).collect();
            EmfSettings::Declared { namespace: "N\"".to_owned(), units, declarations }
        }
    };
    settings.more.untyped = random.one_in(3);
    settings.more.scrape_health = random.one_in(3);
    settings.more.declared_only = random.one_in(5);
    settings.more.histograms =
        [Histograms::Drop, Histograms::CountAndSum, Histograms::Buckets, Histograms::Values][random.next(4)];
    settings.max_gap_ms = random.one_in(4).then_some(5_000);
    settings
}

fn rule(action: RelabelAction, source: &str, pattern: &str, to: &str, replacement: &str) -> RelabelRule {
    RelabelRule {
        source_labels: vec![source.to_owned()],
        separator: ";".to_owned(),
        regex: Pattern::anchored(pattern).unwrap(),
        modulus: 0,
        target_label: to.to_owned(),
        replacement: replacement.to_owned(),
        action,
    }
}

fn scraped_target(random: &mut Random) -> Target {
    let mut target = target();
    let job = Rc::get_mut(&mut target.job).unwrap();
    job.honor_labels = random.one_in(2);
    job.honor_timestamps = !random.one_in(4);
    job.skip_bad_lines = random.one_in(2);
    job.limits.samples = if random.one_in(6) { 40 } else { 0 };
    job.limits.labels = if random.one_in(12) { 7 } else { 0 };
    if random.one_in(2) {
        job.metric_relabel.push(rule(RelabelAction::Drop, "drop", "me", "", ""));
    }
    if random.one_in(4) {
        job.metric_relabel.push(rule(RelabelAction::Replace, "__name__", "c_(total)", "__name__", "renamed_$1"));
        job.metric_relabel.push(rule(RelabelAction::LabelDrop, "", "a", "", ""));
    }
    target.labels = Labels::from_pairs([("job", "node"), ("instance", "localhost:9100")]);
    target
}

/// What two ways must agree on.
fn told(converted: &Converted) -> String {
    let mut told = format!("{:?}\n", converted.counts);
    for event in &converted.events {
        assert_eq!(event.message_bytes(), event.message().len());
        let (key, own) = (event.key(), event.own_time);
        told += &format!("{} {} {} {own} {}\n", key.group, key.stream, event.timestamp_ms, event.message());
    }
    told
}

struct Both {
    plain: Converter,
    quick: Converter,
    scraper: Scraper,
    clock: Hands<1_700_000_000_000>,
    disk: SimDisk,
}

impl Both {
    fn scrape(&mut self, target: &Target, format: Format, page: &[u8], pieces: usize) -> (String, String) {
        let env = Env { clock: &self.clock, disk: &self.disk, net: &Nowhere };
        let feed = &mut |push: &mut dyn FnMut(&[u8])| page.chunks(pieces).for_each(push);
        let now_ms = self.clock.0.get();
        let scraped = scrape_page(target, format, env, feed);
        let reported = report_samples(target, &scraped);
        let outcome = |error: Option<&promwatch::scrape::ScrapeError>| format!("{:?}", error.map(|e| e.to_string()));
        let head = |report: &promwatch::model::Report, error: String| format!("{report:?} {error}\n");
        let mut plainly = head(&scraped.report, outcome(scraped.outcome.as_ref().err())) + &scraped.problems.concat();
        let converted = self.plain.convert(target, &scraped.report, scraped.outcome.ok(), &reported, now_ms);
        plainly += &told(&converted);

        let intake = self.quick.intake(target);
        let scraped = scrape_page_into(target, format, env, feed, intake, &mut self.scraper);
        let reported = report_samples(target, &scraped);
        let mut quickly = head(&scraped.report, outcome(scraped.outcome.as_ref().err())) + &scraped.problems.concat();
        let converted = self.quick.finish(target, &scraped.report, scraped.outcome.is_ok(), &reported, now_ms);
        quickly += &told(&converted);
        (plainly, quickly)
    }
}

fn course(seed: u64) -> usize {
    let random = &mut Random(seed);
    let first = settings(random);
    let mut both = Both {
        plain: Converter::new(first.clone()),
        quick: Converter::new(first),
        scraper: Scraper::new(),
        clock: Hands::default(),
        disk: SimDisk::new(),
    };
    let target = scraped_target(random);
    let mut exporter = Exporter::new(random);
    let mut events = 0;
    for n in 0..25 {
        both.clock.0.set(both.clock.0.get() + if random.one_in(15) { 3_600_000 } else { 1_000 });
        if random.one_in(20) {
            let new = settings(random);
            both.plain.reconfigure(new.clone());
            both.quick.reconfigure(new);
            both.scraper = Scraper::new();
        }
        if !random.one_in(4) {
            exporter.change(random);
        }
        let mut page = exporter.page(random);
        if random.one_in(25) {
            page.truncate(random.next(page.len() + 1));
        }
        let pieces = 1 + random.next(3_000);
        let (plainly, quickly) = both.scrape(&target, exporter.format, &page, pieces);
        events += plainly.lines().count();
        if plainly != quickly {
            let differs = plainly.lines().zip(quickly.lines()).find(|(a, b)| a != b);
            let page = String::from_utf8_lossy(&page);
            panic!("seed {seed}, page {n}: {differs:#?}\nof\n{page}\n{} and {} bytes", plainly.len(), quickly.len());
        }
    }
    events
}

#[test]
fn the_quick_way_and_the_plain_one_give_the_same_events() {
    let rounds = std::env::var("PROMWATCH_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    let events: usize = (0..rounds).map(course).sum();
    assert!(events > rounds as usize * 100, "{events}");
}
