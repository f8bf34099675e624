//! A steady scrape allocates a number of times that does not depend on how large the page is: the quick way from page to body
//! uses its buffers again.

use promwatch::convert::Converter;
use promwatch::env::{Clock, Env, Exchange, Head, Limits, Net, NetError, RealDisk, Record, Request};
use promwatch::model::settings::{
    ConvertSettings, DnsKind, HttpClient, ScrapeJob, ScrapeLimits, ScrapeProtocol, UploadSettings,
};
use promwatch::model::{Endpoint, Event, Labels, Marks, Target};
use promwatch::scrape::exposition::Format;
use promwatch::scrape::{Scraper, report_samples, scrape_page_into};
use promwatch::ship::Shipper;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::rc::Rc;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct Hands(Cell<u64>);

impl Clock for Hands {
    fn wall_ms(&self) -> i64 {
        1_700_000_000_000 + self.0.get().cast_signed()
    }
    fn monotonic_ms(&self) -> u64 {
        self.0.get()
    }
    fn boot_id(&self) -> [u8; 16] {
        [1; 16]
    }
    fn synchronised(&self) -> bool {
        true
    }
    fn random(&self) -> u64 {
        4
    }
}

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

fn target() -> Target {
    let job = ScrapeJob {
        job_name: "node".to_owned(),
        interval_ms: 1_000,
        timeout_ms: 1_000,
        scheme: "http".to_owned(),
        metrics_path: "/metrics".to_owned(),
        params: BTreeMap::new(),
        honor_labels: false,
        honor_timestamps: true,
        protocols: Vec::new(),
        fallback_protocol: ScrapeProtocol::Text004,
        legacy_names: false,
        compression: true,
        skip_bad_lines: false,
        limits: ScrapeLimits::default(),
        http: HttpClient::default(),
        relabel: Vec::new(),
        metric_relabel: Vec::new(),
        discovery: Vec::new(),
    };
    Target {
        job: Rc::new(job),
        labels: Labels::from_pairs([("instance", "localhost:9100"), ("job", "node")]),
        endpoint: Endpoint::Host,
        interval_ms: 1_000,
        timeout_ms: 1_000,
        refused: None,
    }
}

/// Gauges and counters, a device for every five of them.
fn page(samples: usize, scrape: usize) -> String {
    let mut page = String::from("# TYPE read_total counter\n# TYPE speed gauge\n");
    for n in 0..samples {
        let (name, device) = (if n % 5 < 3 { "read_total" } else { "speed" }, n / 2);
        let _ = writeln!(page, "{name}{{device=\"sd{device}\"}} {}", n * 7 + scrape * (n % 11));
    }
    page
}

/// Allocations from page to body, of a scrape after the first few.
fn allocations(samples: usize) -> usize {
    let (clock, target) = (Hands(Cell::new(1_000)), target());
    let (mut scraper, mut converter) = (Scraper::new(), Converter::new(ConvertSettings::default()));
    let mut shipper = Shipper::new(UploadSettings::default());
    let mut last = 0;
    for scrape in 0..6 {
        clock.0.set(clock.0.get() + 1_000);
        let page = page(samples, scrape);
        let env = Env { clock: &clock, disk: &RealDisk, net: &Nowhere };
        let region = Region::new(ALLOCATOR);
        let feed = &mut |push: &mut dyn FnMut(&[u8])| page.as_bytes().chunks(16 << 10).for_each(push);
        let intake = converter.intake(&target);
        let scraped = scrape_page_into(&target, Format::Text, env, feed, intake, &mut scraper);
        let reported = report_samples(&target, &scraped);
        let now_ms = clock.monotonic_ms();
        let converted = converter.finish(&target, &scraped.report, scraped.outcome.is_ok(), &reported, now_ms);
        assert!(scrape == 0 || converted.events.len() > samples / 5, "{}", converted.events.len());
        for events in converted.events.chunks(4_000) {
            let events: Vec<(Event, Marks)> = events.iter().map(|event| (event.clone(), Marks::default())).collect();
            let key = Rc::clone(events[0].0.key());
            let batch = shipper.batch(&key, events, &clock);
            assert!(batch.body_bytes() > 100);
        }
        let change = region.change();
        last = change.allocations + change.reallocations;
    }
    last
}

#[test]
fn a_steady_scrape_allocates_as_often_for_a_large_page_as_for_a_small_one() {
    let (small, large) = (allocations(407), allocations(10_000));
    // Vectors that grow double their size, and a large page is several bodies: some 25 times more, not once for each sample.
    assert!(large <= small + 30, "{small} for 407 samples, {large} for 10,000");
    assert!(small <= 60, "{small}");
}
