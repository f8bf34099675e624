//! Scraping, from the request to the samples, against exporters that do as the test says.

mod hostile;
mod labels;
mod requests;
mod textfile;

use crate::sim_disk::SimDisk;
use flate2::Compression;
use flate2::write::GzEncoder;
use promwatch::env::{Clock, Env, Exchange, Head, Limits, Net, NetError, NetErrorKind, Record, Request};
use promwatch::model::settings::{DnsKind, HttpClient, ScrapeJob, ScrapeLimits, ScrapeProtocol};
use promwatch::model::{Endpoint, Labels, Sample, Target};
use promwatch::scrape::{ScrapeErrorKind, Scraped, Scraper};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::rc::Rc;

/// 2026-01-01.
const NOW_MS: i64 = 1_767_225_600_000;

type FakeClock = crate::hands::Hands<NOW_MS>;

/// A request as it was seen.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: String,
    total_ms: u64,
    follow_redirects: bool,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|(n, value)| (n == name).then_some(value.as_str()))
    }
}

/// What the exporter does: gives its head, then pieces for as long as it is asked for them, then an end.
struct Answer {
    head: Head,
    pieces: Box<dyn Iterator<Item = Vec<u8>>>,
    /// How it ends when nobody says stop.
    end: Option<NetErrorKind>,
}

impl Answer {
    fn page(page: impl AsRef<[u8]>) -> Self {
        let pieces: Vec<Vec<u8>> = page.as_ref().chunks(1000).map(<[u8]>::to_vec).collect();
        Self {
            head: head(200, &[("content-type", "text/plain; version=0.0.4")]),
            pieces: Box::new(pieces.into_iter()),
            end: None,
        }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.head.headers.retain(|(n, _)| n != name);
        self.head.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn status(mut self, status: u16) -> Self {
        self.head.status = status;
        self
    }
}

fn head(status: u16, headers: &[(&str, &str)]) -> Head {
    Head { status, headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect() }
}

struct FakeNet<'a> {
    clock: &'a FakeClock,
    answer: Box<dyn Fn(&Seen) -> Answer + 'a>,
    seen: RefCell<Vec<Seen>>,
    /// Pieces that were taken before the end or a stop.
    pieces: Cell<u64>,
}

impl Net for FakeNet<'_> {
    fn exchange(
        &self,
        request: &Request<'_>,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        let seen = Seen {
            method: request.method.to_owned(),
            url: request.url.to_owned(),
            headers: request.headers.to_vec(),
            body: String::from_utf8_lossy(request.body).into_owned(),
            total_ms: request.limits.total_ms,
            follow_redirects: request.route.follow_redirects,
        };
        self.seen.borrow_mut().push(seen.clone());
        self.clock.0.set(self.clock.0.get() + 250);
        let Answer { head, pieces, end } = (self.answer)(&seen);
        let error = |kind| NetError { kind, text: format!("{kind:?}"), sent: true };
        let mut body_bytes = 0;
        for piece in pieces {
            self.pieces.set(self.pieces.get() + 1);
            body_bytes += piece.len() as u64;
            if on_body(&head, &piece).is_break() {
                return Err(error(NetErrorKind::Refused));
            }
        }
        match end {
            Some(kind) => Err(error(kind)),
            None => Ok(Exchange { head, body_bytes, duration_ms: 250, new_connection: false }),
        }
    }

    fn lookup(&self, _: &str, _: DnsKind, _: Limits) -> Result<Vec<Record>, NetError> {
        Ok(Vec::new())
    }
}

fn job() -> ScrapeJob {
    ScrapeJob {
        job_name: "node".to_owned(),
        interval_ms: 15_000,
        timeout_ms: 1_500,
        scheme: "http".to_owned(),
        metrics_path: "/metrics".to_owned(),
        params: BTreeMap::new(),
        honor_labels: false,
        honor_timestamps: true,
        protocols: vec![
            ScrapeProtocol::OpenMetrics100,
            ScrapeProtocol::OpenMetrics001,
            ScrapeProtocol::Text100,
            ScrapeProtocol::Text004,
        ],
        fallback_protocol: ScrapeProtocol::Text004,
        legacy_names: false,
        compression: true,
        skip_bad_lines: false,
        limits: ScrapeLimits::default(),
        http: HttpClient::default(),
        relabel: Vec::new(),
        metric_relabel: Vec::new(),
        discovery: Vec::new(),
    }
}

fn target(job: ScrapeJob) -> Target {
    Target {
        job: Rc::new(job),
        labels: Labels::from_pairs([("job", "node"), ("instance", "pi:9100")]),
        endpoint: Endpoint::Http { url: "http://pi:9100/metrics".to_owned(), unix_socket: None },
        interval_ms: 15_000,
        timeout_ms: 1_500,
        refused: None,
    }
}

struct Bench<'a> {
    clock: &'a FakeClock,
    disk: SimDisk,
    net: FakeNet<'a>,
    scraper: Scraper,
}

impl<'a> Bench<'a> {
    fn new(clock: &'a FakeClock, answer: impl Fn(&Seen) -> Answer + 'a) -> Self {
        let net = FakeNet { clock, answer: Box::new(answer), seen: RefCell::default(), pieces: Cell::new(0) };
        Self { clock, disk: SimDisk::new(), net, scraper: Scraper::new() }
    }

    fn scrape(&mut self, target: &Target) -> Scraped {
        let env = Env { clock: self.clock, disk: &self.disk, net: &self.net };
        self.scraper.scrape(target, target.timeout_ms, env, &mut |page| page(b"# TYPE own gauge\nown 1\n"))
    }

    fn last(&self) -> Seen {
        self.net.seen.borrow().last().expect("a request").clone()
    }
}

/// Scrapes one answer.
fn scrape(job: ScrapeJob, answer: impl Fn() -> Answer) -> Scraped {
    let clock = FakeClock::default();
    Bench::new(&clock, |_| answer()).scrape(&target(job))
}

fn scrape_page(job: ScrapeJob, page: &str) -> Scraped {
    scrape(job, || Answer::page(page))
}

fn kind(scraped: &Scraped) -> Option<ScrapeErrorKind> {
    scraped.outcome.as_ref().err().map(|error| error.kind)
}

fn error_text(scraped: &Scraped) -> &str {
    scraped.outcome.as_ref().err().map_or("", |error| &error.text)
}

/// `name{a=b,…} value @time`, without the labels `job` and `instance` of the target.
fn show(sample: &Sample) -> String {
    let labels = sample
        .labels
        .iter()
        .filter(|pair| !matches!(pair, ("__name__", _) | ("job", "node") | ("instance", "pi:9100")));
    let labels: Vec<_> = labels.map(|(name, value)| format!("{name}={value}")).collect();
    let mut text = format!("{}{{{}}} {}", sample.labels.name(), labels.join(","), sample.value);
    if let Some(at) = sample.timestamp_ms {
        text.push_str(&format!(" @{at}"));
    }
    text
}

fn samples(scraped: &Scraped) -> Vec<String> {
    scraped.outcome.as_ref().map(|page| page.samples.iter().map(show).collect()).unwrap_or_else(|e| panic!("{e}"))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}
