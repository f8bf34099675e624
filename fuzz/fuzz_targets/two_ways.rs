//! Pages, one after the other, through the quick way and the plain one: the same events, byte for byte, and the same counts. The first
//! two bytes are the settings and how pages are cut; pages are separated by RS (0x1e).
#![no_main]

mod world;

use libfuzzer_sys::fuzz_target;
use promwatch::convert::{Converted, Converter};
use promwatch::model::settings::{
    ConvertSettings, EmfSettings, Histograms, HttpClient, ScrapeJob, ScrapeLimits, ScrapeProtocol,
};
use promwatch::model::{Endpoint, Labels, Target};
use promwatch::scrape::exposition::Format;
use promwatch::scrape::{Scraper, report_samples, scrape_page, scrape_page_into};
use std::collections::BTreeMap;
use std::rc::Rc;
use world::World;

fn target(honor: bool, forgiving: bool) -> Target {
    let job = ScrapeJob {
        job_name: "node".to_owned(),
        interval_ms: 60_000,
        timeout_ms: 10_000,
        scheme: "http".to_owned(),
        metrics_path: "/metrics".to_owned(),
        params: BTreeMap::new(),
        honor_labels: honor,
        honor_timestamps: honor,
        protocols: Vec::new(),
        fallback_protocol: ScrapeProtocol::Text004,
        legacy_names: false,
        compression: true,
        skip_bad_lines: forgiving,
        limits: ScrapeLimits::default(),
        http: HttpClient::default(),
        relabel: Vec::new(),
        metric_relabel: Vec::new(),
        discovery: Vec::new(),
    };
    let labels = Labels::from_pairs([("job", "node"), ("instance", "localhost:9100")]);
    Target {
        job: Rc::new(job),
        labels,
        endpoint: Endpoint::Host,
        interval_ms: 60_000,
        timeout_ms: 10_000,
        refused: None,
    }
}

fn told(converted: &Converted) -> String {
    let mut told = format!("{:?}\n", converted.counts);
    for event in &converted.events {
        let (key, own, ms) = (event.key(), event.own_time, event.timestamp_ms);
        told += &format!("{} {} {ms} {own} {}\n", key.group, key.stream, event.message());
    }
    told
}

fuzz_target!(|data: &[u8]| {
    let Some((&[flags, cut], pages)) = data.split_first_chunk::<2>() else { return };
    let set = |bit: u8| flags >> bit & 1 == 1;
    let mut settings = ConvertSettings { log_group_name: "/g".to_owned(), ..ConvertSettings::default() };
    (settings.more.untyped, settings.more.scrape_health) = (set(0), set(1));
    settings.more.histograms =
        [Histograms::Drop, Histograms::CountAndSum, Histograms::Buckets, Histograms::Values][usize::from(flags >> 2 & 3)];
    if set(4) {
        settings.emf = EmfSettings::AllLabels { namespace: "N".to_owned(), units: BTreeMap::new() };
    }
    let format = if set(5) { Format::OpenMetrics } else { Format::Text };
    let (target, world) = (target(set(6), set(7)), World::default());
    let (mut plain, mut quick) = (Converter::new(settings.clone()), Converter::new(settings));
    let mut scraper = Scraper::new();
    let piece_bytes = usize::from(cut) + 1;
    for (page, now_ms) in pages.split(|byte| *byte == 0x1e).take(6).zip((1_000..).step_by(1_000)) {
        let feed = &mut |push: &mut dyn FnMut(&[u8])| page.chunks(piece_bytes).for_each(push);
        let scraped = scrape_page(&target, format, world.env(), feed);
        let reported = report_samples(&target, &scraped);
        let told_plainly = format!("{:?}", scraped.outcome.as_ref().err().map(ToString::to_string));
        let events = plain.convert(&target, &scraped.report, scraped.outcome.ok(), &reported, now_ms);

        let intake = quick.intake(&target);
        let scraped = scrape_page_into(&target, format, world.env(), feed, intake, &mut scraper);
        let reported = report_samples(&target, &scraped);
        assert_eq!(told_plainly, format!("{:?}", scraped.outcome.as_ref().err().map(ToString::to_string)));
        let quickly = quick.finish(&target, &scraped.report, scraped.outcome.is_ok(), &reported, now_ms);
        assert_eq!(told(&events), told(&quickly));
    }
});
