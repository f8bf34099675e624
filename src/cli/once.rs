//! `promwatch once`: scrape, convert, print. Sends nothing and writes nothing.

use super::{Args, EXIT_CONFIG, EXIT_FAILED, EXIT_OK, event_line, load_or_log, print};
use crate::convert::Converter;
use crate::discovery::Discoverer;
use crate::env::{Clock as _, Env, RealClock, RealDisk, RealNet, Signals};
use crate::host::Host;
use crate::scrape::{Scraper, report_samples};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::Ordering;

pub(super) fn once(args: &Args, scrapes: u32, interval_ms: u64) -> u8 {
    const OF_DELIVERY: [&str; 4] =
        ["/promwatch/state_dir", "/agent/credentials", "aws_secret_access_key", "/logs/endpoint_override"];
    let Some(settings) = load_or_log(args, &OF_DELIVERY) else { return EXIT_CONFIG };
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            log::error!("signals cannot be handled: {error}");
            return EXIT_FAILED;
        }
    };
    let (clock, net) = (RealClock::new(), RealNet::new(signals.stop_flag()));
    let env = Env { clock: &clock, disk: &RealDisk, net: &net };
    let mut discoverer = Discoverer::new(settings.jobs.iter().cloned().map(Rc::new).collect());
    while discoverer.next_due_ms().is_some_and(|due_ms| due_ms <= clock.monotonic_ms()) {
        discoverer.refresh(env);
    }
    for error in discoverer.errors() {
        log::warn!("{} {}: {}", error.job, error.source, error.text);
    }
    let (mut scraper, mut host) = (Scraper::new(), Host::default());
    let mut converter = Converter::new(settings.convert.clone());
    let stop = signals.stop_flag();
    let stopping = || stop.load(Ordering::Relaxed);
    let begun_ms = clock.monotonic_ms();
    for round in 0..scrapes {
        let due_ms = begun_ms + u64::from(round) * interval_ms;
        while clock.monotonic_ms() < due_ms && !stopping() {
            signals.wait_ms(due_ms - clock.monotonic_ms());
        }
        for target in discoverer.targets() {
            if stopping() {
                return EXIT_FAILED;
            }
            let started_ms = clock.monotonic_ms();
            let mut host_page = |page: &mut dyn FnMut(&[u8])| {
                let mut text = String::new();
                host.render(env, Path::new("/"), &mut text);
                page(text.as_bytes());
            };
            let intake = converter.intake(target);
            let scraped = scraper.scrape_into(target, target.timeout_ms, env, &mut host_page, intake);
            let report_samples = report_samples(target, &scraped);
            if let Err(error) = &scraped.outcome {
                log::warn!("target down: {error}");
            }
            let succeeded = scraped.outcome.is_ok();
            let converted = converter.finish(target, &scraped.report, succeeded, &report_samples, started_ms);
            for event in &converted.events {
                print(&event_line(event));
            }
        }
    }
    EXIT_OK
}
