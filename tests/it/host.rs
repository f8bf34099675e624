//! The machine's own figures against those of node_exporter on the same machine.
#![allow(clippy::disallowed_methods, reason = "the test runs another program and waits for it")]

use promwatch::env::{Env, Exchange, Head, Limits, Net, NetError, RealClock, RealDisk, Record, Request};
use promwatch::host::Host;
use promwatch::model::settings::{DnsKind, HttpClient, ScrapeJob, ScrapeLimits, ScrapeProtocol};
use promwatch::model::{Endpoint, Labels, Target};
use promwatch::scrape::Scraper;
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

struct NoNet;

impl Net for NoNet {
    fn exchange(
        &self,
        _: &Request<'_>,
        _: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        unreachable!()
    }
    fn lookup(&self, _: &str, _: DnsKind, _: Limits) -> Result<Vec<Record>, NetError> {
        unreachable!()
    }
}

struct Exporter {
    child: Child,
    address: String,
}

impl Exporter {
    /// Nothing where node_exporter is not installed (`apt-get install prometheus-node-exporter`).
    fn start() -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let child = Command::new("prometheus-node-exporter")
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        Some(Self { child, address })
    }

    fn page(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(mut stream) = TcpStream::connect(&self.address) {
                let mut answer = String::new();
                stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
                stream.read_to_string(&mut answer).unwrap();
                return answer.split_once("\r\n\r\n").unwrap().1.to_owned();
            }
            assert!(Instant::now() < deadline, "node_exporter does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ours() -> String {
    let mut page = String::new();
    let env = Env { clock: &RealClock::new(), disk: &RealDisk, net: &NoNet };
    Host::default().render(env, Path::new("/"), &mut page);
    page
}

fn series(page: &str) -> HashMap<&str, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, value)| (name, value.parse().unwrap())).collect()
}

fn types(page: &str) -> HashMap<&str, &str> {
    page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect()
}

#[test]
fn the_page_is_scraped_like_an_exporters() {
    let job = ScrapeJob {
        job_name: "host".to_owned(),
        interval_ms: 60_000,
        timeout_ms: 10_000,
        scheme: "http".to_owned(),
        metrics_path: "/metrics".to_owned(),
        params: BTreeMap::new(),
        honor_labels: false,
        honor_timestamps: true,
        protocols: Vec::new(),
        fallback_protocol: ScrapeProtocol::Text004,
        legacy_names: true,
        compression: true,
        skip_bad_lines: false,
        limits: ScrapeLimits::default(),
        http: HttpClient::default(),
        relabel: Vec::new(),
        metric_relabel: Vec::new(),
        discovery: Vec::new(),
    };
    let target = Target {
        job: Rc::new(job),
        labels: Labels::from_pairs([("job", "host"), ("instance", "pi4")]),
        endpoint: Endpoint::Host,
        interval_ms: 60_000,
        timeout_ms: 10_000,
        refused: None,
    };
    let env = Env { clock: &RealClock::new(), disk: &RealDisk, net: &NoNet };
    let page = ours();
    let scraped = Scraper::new().scrape(&target, 10_000, env, &mut |take| take(page.as_bytes()));
    let parsed = scraped.outcome.unwrap();
    assert_eq!(parsed.samples.len(), page.lines().filter(|line| !line.starts_with('#')).count());
    assert!(parsed.samples.iter().all(|sample| parsed.types.contains_key(sample.labels.name())));
}

/// Figures that move both ways between two readings.
fn moves(name: &str) -> bool {
    let parts = [
        "node_load",
        "node_memory_",
        "node_procs_",
        "node_disk_io_now",
        "node_filesystem_",
        "node_filefd_allocated",
        "node_entropy_available",
        "_temp",
        "_rpm",
        "scaling_frequency",
    ];
    let stands = ["node_memory_MemTotal", "node_memory_SwapTotal", "node_filesystem_size", "node_filesystem_files{"];
    parts.iter().any(|part| name.contains(part)) && !stands.iter().any(|part| name.starts_with(part))
}

#[test]
fn names_labels_types_and_values_are_node_exporters() {
    let Some(exporter) = Exporter::start() else {
        eprintln!("not compared: prometheus-node-exporter is not installed");
        return;
    };
    exporter.page();
    let before = ours();
    let theirs = exporter.page();
    let after = ours();
    let (their_types, their_series) = (types(&theirs), series(&theirs));
    for (family, kind) in types(&before) {
        assert_eq!(their_types.get(family), Some(&kind), "{family}");
    }
    let (before, after) = (series(&before), series(&after));
    let mut compared = 0;
    for (name, low) in &before {
        let their = *their_series.get(name).unwrap_or_else(|| panic!("node_exporter has no {name}"));
        let Some(high) = after.get(name) else { continue };
        if !moves(name) {
            // node_exporter rounds nothing, but it multiplies in another order here and there.
            let slack = low.abs() * 1e-12;
            assert!(*low - slack <= their && their <= *high + slack, "{name}: {low} <= {their} <= {high}");
            compared += 1;
        }
    }
    assert!(compared > 40, "{compared}");
    for (name, _) in their_series.iter().filter(|(name, _)| {
        let ours = ["node_load", "node_memory_", "node_cpu_seconds", "node_filesystem_size", "node_network_up"];
        ours.iter().any(|prefix| name.starts_with(prefix))
    }) {
        assert!(before.contains_key(name), "{name} is missing");
    }
}
