//! Every recorded case through configuration, discovery, scrape, relabelling and conversion: the same pages must give the
//! same events as in a real CloudWatch agent.

pub mod compare;

use crate::hands::Hands;
use crate::sim_disk::SimDisk;
use compare::{Answer, Case, Delivered};
use promwatch::config::{self, Sources, Surroundings};
use promwatch::convert::Converter;
use promwatch::discovery::Discoverer;
use promwatch::env::{Clock as _, Env, Exchange, Head, Limits, Net, NetError, NetErrorKind, Record, Request};
use promwatch::model::Endpoint;
use promwatch::model::settings::DnsKind;
use promwatch::scrape::{Scraper, report_samples};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const T0: i64 = 1_700_000_000_000;

/// The exporters of a case.
struct Exporters {
    answers: RefCell<BTreeMap<u16, std::vec::IntoIter<Answer>>>,
}

impl Net for Exporters {
    fn exchange(
        &self,
        request: &Request<'_>,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        let answer = self.answers.borrow_mut().get_mut(&port_of(request.url)).unwrap().next().unwrap();
        let headers = answer.content_type.into_iter().map(|value| ("content-type".to_owned(), value)).collect();
        let head = Head { status: answer.status, headers };
        // In odd pieces, so that a reader which relies on whole lines fails.
        for piece in answer.body.chunks(997) {
            if on_body(&head, piece).is_break() {
                let text = "the scraper has seen enough".to_owned();
                return Err(NetError { kind: NetErrorKind::Refused, text, sent: true });
            }
        }
        Ok(Exchange { head, body_bytes: answer.body.len() as u64, duration_ms: 1, new_connection: false })
    }

    fn lookup(&self, name: &str, _: DnsKind, _: Limits) -> Result<Vec<Record>, NetError> {
        unreachable!("nobody asks for {name}")
    }
}

fn port_of(url: &str) -> u16 {
    url.strip_prefix("http://127.0.0.1:").unwrap().split('/').next().unwrap().parse().unwrap()
}

fn replay(case: &Case) -> Result<(), String> {
    let disk = SimDisk::new();
    let json = case.agent_json.replace("@DIR@", "/case").replace("@ENDPOINT@", "http://127.0.0.1:1");
    disk.put(Path::new("/case/agent.json"), json.as_bytes());
    disk.put(Path::new("/case/prom.yaml"), case.prometheus_yaml.replace("@DIR@", "/case").as_bytes());
    let sources = Sources { config_paths: vec![PathBuf::from("/case/agent.json")], ..Sources::default() };
    let loaded = config::load(&sources, &Surroundings::default(), &disk);
    let Some(settings) = loaded.settings else { return Err(format!("{}: {:#?}", case.name, loaded.findings)) };

    // Each scrape moves it on.
    let clock = Hands::<T0>::default();
    let answers = case.targets.iter().map(|(port, list)| (*port, list.clone().into_iter())).collect();
    let net = Exporters { answers: RefCell::new(answers) };
    let env = Env { clock: &clock, disk: &disk, net: &net };
    let mut discoverer = Discoverer::new(settings.jobs.iter().cloned().map(Rc::new).collect());
    discoverer.refresh(env);
    let (mut scraper, mut converter) = (Scraper::new(), Converter::new(settings.convert));
    let mut scrapes = BTreeMap::new();
    let mut delivered = Vec::new();
    for round in 1..=case.rounds() {
        for target in discoverer.targets() {
            let Endpoint::Http { url, .. } = &target.endpoint else { unreachable!() };
            let port = port_of(url);
            if case.targets[&port].len() < round {
                continue;
            }
            clock.0.set(clock.0.get() + 10);
            scrapes.insert(clock.wall_ms(), format!("{round}@{port}"));
            let scraped = scraper.scrape(target, 1500, env, &mut |_| unreachable!());
            let reported = report_samples(target, &scraped);
            let converted =
                converter.convert(target, &scraped.report, scraped.outcome.ok(), &reported, clock.monotonic_ms());
            delivered.extend(converted.events.into_iter().map(|event| Delivered {
                group: event.key().group.clone(),
                stream: event.key().stream.clone(),
                timestamp_ms: event.timestamp_ms,
                message: event.message(),
            }));
        }
        clock.0.set(clock.0.get() + case.interval_s * 1000);
    }
    case.compare(&delivered, &scrapes)
}

#[test]
fn every_recorded_case_gives_the_events_of_a_real_agent() {
    let cases = Case::all();
    assert_eq!(cases.len(), 10);
    let failures: Vec<String> = cases.iter().filter_map(|case| replay(case).err()).collect();
    assert!(failures.is_empty(), "{}", failures.concat());
}
