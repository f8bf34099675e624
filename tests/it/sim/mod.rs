//! The whole agent in a simulation: time, disk and network are made here, one seed decides everything.
//!
//! A [`World`] is one device: exporters that count their scrapes, a link that can be up, down, black-holed or slow, a strict
//! CloudWatch Logs behind it, a disk that forgets, a clock that steps. [`Device::step`] lets the agent do one unit of work
//! and checks the books; between any two units a test may kill the process, cut the power or set the clock.

#![allow(dead_code)] // a stock of events: not every scenario uses all of them

mod golden;
mod scenarios;
mod seeds;

use crate::cloudwatch::{FakeCloudWatch, Fate};
use crate::sim_disk::SimDisk;
use promwatch::agent::{Agent, Wakeup};
use promwatch::config::{self, Sources, Surroundings};
use promwatch::env::{Clock, Env, Exchange, Head, Limits, Net, NetError, NetErrorKind, Record, Request};
use promwatch::model::settings::{DnsKind, Settings};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

/// The true time at which every simulation begins.
pub const BEGIN_MS: i64 = 1_795_400_000_000;
/// The endpoint in every simulation.
pub const ENDPOINT: &str = "http://logs.sim";
/// The log group in every simulation.
pub const GROUP: &str = "/sim/prom";

/// A clock whose hands the test moves.
pub struct SimClock {
    /// True time minus monotonic time.
    pub true_base_ms: Cell<i64>,
    /// What the wall clock says minus true time.
    pub wall_error_ms: Cell<i64>,
    /// Monotonic time of this boot.
    pub monotonic_ms: Cell<u64>,
    /// The boot's number.
    pub boot: Cell<u8>,
    /// The kernel's flag.
    pub synchronised: Cell<bool>,
    seed: Cell<u64>,
}

impl SimClock {
    fn new(seed: u64) -> Self {
        Self {
            true_base_ms: Cell::new(BEGIN_MS - 1_000),
            wall_error_ms: Cell::new(0),
            monotonic_ms: Cell::new(1_000),
            boot: Cell::new(1),
            synchronised: Cell::new(false),
            seed: Cell::new(seed),
        }
    }

    /// Time passes.
    pub fn pass(&self, ms: u64) {
        self.monotonic_ms.set(self.monotonic_ms.get() + ms);
    }

    /// True time.
    pub fn true_ms(&self) -> i64 {
        self.true_base_ms.get() + self.monotonic_ms.get().cast_signed()
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> i64 {
        self.true_ms() + self.wall_error_ms.get()
    }
    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.get()
    }
    fn boot_id(&self) -> [u8; 16] {
        [self.boot.get(); 16]
    }
    fn synchronised(&self) -> bool {
        self.synchronised.get()
    }
    fn random(&self) -> u64 {
        // splitmix64
        let seed = self.seed.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.seed.set(seed);
        let mut mixed = seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// The way to CloudWatch Logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Answers after this many milliseconds.
    Up(u64),
    /// Connections are refused at once.
    Refused,
    /// Nothing ever comes back.
    BlackHole,
    /// Bytes per second, up only.
    Slow(u64),
}

/// What an exporter does when asked.
#[derive(Clone, Debug, Default)]
pub struct Exporter {
    /// Scrapes answered so far, over all lives of the agent; the page's figures rest on it.
    pub scrapes: u64,
    /// True times of those scrapes, the first at place 0.
    pub times_ms: Vec<i64>,
    /// The exporter is down.
    pub down: bool,
    /// Asking it takes most of the time that there is, and ends so: an exporter that never answers, a silent name server.
    pub hangs: Option<NetErrorKind>,
    /// How long an answer takes, where it is not 3 ms.
    pub slow_ms: Option<u64>,
    /// Further lines of the page.
    pub more: String,
    /// Pages to give instead, with their content types and statuses; the last again and again.
    pub pages: Vec<(u16, String, Vec<u8>)>,
}

/// The network: exporters by the host and port of their URL, and CloudWatch Logs.
pub struct SimNet {
    clock: Rc<SimClock>,
    /// CloudWatch Logs.
    pub cloud: RefCell<FakeCloudWatch>,
    /// Exporters.
    pub exporters: RefCell<BTreeMap<String, Exporter>>,
    /// The link.
    pub link: Cell<Link>,
    /// PutLogEvents bodies that were sent, by their SHA-256, and how often.
    pub exchanges: Cell<u64>,
}

impl SimNet {
    fn error(kind: NetErrorKind, text: &str, sent: bool) -> NetError {
        NetError { kind, text: text.to_owned(), sent }
    }

    fn exporter(
        &self,
        host: &str,
        limits: Limits,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        let mut exporters = self.exporters.borrow_mut();
        let Some(exporter) = exporters.get_mut(host) else {
            return Err(Self::error(NetErrorKind::Connect, "connection refused", false));
        };
        if exporter.down {
            return Err(Self::error(NetErrorKind::Connect, "connection refused", false));
        }
        if let Some(kind) = exporter.hangs {
            let part = if kind == NetErrorKind::Timeout { 4 } else { 3 };
            self.clock.pass(limits.total_ms.min(limits.stall_ms) / 4 * part);
            return Err(Self::error(kind, "no answer in time", true));
        }
        exporter.times_ms.push(self.clock.true_ms());
        exporter.scrapes += 1;
        self.clock.pass(exporter.slow_ms.unwrap_or(3));
        let n = exporter.scrapes;
        let (status, content_type, body) = match exporter.pages.get((n - 1) as usize).or(exporter.pages.last()) {
            Some(page) => page.clone(),
            None => (
                200,
                "text/plain; version=0.0.4".to_owned(),
                format!("# TYPE g gauge\ng {n}\n# TYPE c_total counter\nc_total {}\n{}", n * 10, exporter.more)
                    .into_bytes(),
            ),
        };
        let head = Head { status, headers: vec![("content-type".to_owned(), content_type)] };
        for piece in body.chunks(16 << 10) {
            if on_body(&head, piece).is_break() {
                return Err(Self::error(NetErrorKind::Refused, "refused", true));
            }
        }
        Ok(Exchange { head, body_bytes: body.len() as u64, duration_ms: 3 })
    }

    fn cloud(
        &self,
        request: &Request<'_>,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        let limits = request.limits;
        let give_up_ms = limits.stall_ms.min(limits.total_ms);
        let delay_ms = match self.link.get() {
            Link::Up(ms) => ms,
            Link::Refused => {
                self.clock.pass(1);
                return Err(Self::error(NetErrorKind::Connect, "connection refused", false));
            }
            Link::BlackHole => {
                self.clock.pass(give_up_ms);
                return Err(Self::error(NetErrorKind::Timeout, "no answer in time", true));
            }
            // Kernels swallow a small body at once, so the wait is one long silence: the worst case.
            Link::Slow(bytes_per_second) => request.body.len() as u64 * 1000 / bytes_per_second + 50,
        };
        if delay_ms > give_up_ms {
            self.clock.pass(give_up_ms);
            if matches!(self.link.get(), Link::Slow(_)) {
                // It arrives all the same, later.
                self.answer(request);
            }
            return Err(Self::error(NetErrorKind::Timeout, "no answer in time", true));
        }
        self.clock.pass(delay_ms / 2);
        let answer = self.answer(request);
        self.clock.pass(delay_ms - delay_ms / 2);
        if let Fate::Delayed(ms) = answer.fate {
            self.clock.pass(ms.min(give_up_ms));
            if ms > give_up_ms {
                return Err(Self::error(NetErrorKind::Timeout, "no answer in time", true));
            }
        }
        if answer.fate == Fate::Dropped {
            return Err(Self::error(NetErrorKind::Broken, "the connection broke", true));
        }
        let head = Head { status: answer.status, headers: answer.headers };
        if on_body(&head, &answer.body).is_break() {
            return Err(Self::error(NetErrorKind::Refused, "refused", true));
        }
        Ok(Exchange { head, body_bytes: answer.body.len() as u64, duration_ms: delay_ms })
    }

    fn answer(&self, request: &Request<'_>) -> crate::cloudwatch::FakeAnswer {
        let mut headers = request.headers.to_vec();
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            headers.push(("host".to_owned(), "logs.sim".to_owned()));
        }
        let path = request.url.strip_prefix(ENDPOINT).filter(|path| !path.is_empty()).unwrap_or("/");
        self.cloud.borrow_mut().handle(request.method, path, &headers, request.body, self.clock.true_ms())
    }
}

impl Net for SimNet {
    fn exchange(
        &self,
        request: &Request<'_>,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        self.exchanges.set(self.exchanges.get() + 1);
        if request.url.starts_with(ENDPOINT) {
            return self.cloud(request, on_body);
        }
        let rest = request.url.split_once("://").map_or(request.url, |(_, rest)| rest);
        self.exporter(rest.split('/').next().unwrap_or(rest), request.limits, on_body)
    }

    fn lookup(&self, _name: &str, _kind: DnsKind, _limits: Limits) -> Result<Vec<Record>, NetError> {
        Err(Self::error(NetErrorKind::Resolve, "no name server", false))
    }
}

/// A device and the agent on it.
pub struct Device {
    /// The clock.
    pub clock: Rc<SimClock>,
    /// The disk.
    pub disk: SimDisk,
    /// The network.
    pub net: SimNet,
    /// The settings that the agent starts with.
    pub settings: Settings,
    /// The agent, while it runs.
    pub agent: Option<Agent>,
    /// Units of work so far.
    pub units: u64,
    /// How long each sync of the disk blocks the one thread.
    pub fsync_ms: u64,
}

impl Device {
    /// A device with one exporter at `exporter:9100`, scraped every `interval`, and `promwatch` settings as given.
    pub fn new(seed: u64, interval: &str, promwatch: &str) -> Self {
        let prometheus = format!(
            "global:\n  scrape_interval: {interval}\n  scrape_timeout: {interval}\nscrape_configs:\n  - job_name: sim\n    \
             static_configs:\n      - targets: ['exporter:9100']\n"
        );
        Self::with_prometheus(seed, &prometheus, promwatch)
    }

    /// A device with this Prometheus configuration.
    pub fn with_prometheus(seed: u64, prometheus: &str, promwatch: &str) -> Self {
        let json = format!(
            r#"{{"agent": {{"region": "eu-central-1", "hostname": "pi"}}, "promwatch": {promwatch},
                "logs": {{"endpoint_override": "{ENDPOINT}", "force_flush_interval": 5, "metrics_collected": {{"prometheus":
                {{"log_group_name": "{GROUP}", "prometheus_config_path": "/etc/prometheus.yaml"}}}}}}}}"#
        );
        Self::with_files(seed, &json, prometheus)
    }

    /// A device with these two files.
    pub fn with_files(seed: u64, json: &str, prometheus: &str) -> Self {
        let clock = Rc::new(SimClock::new(seed));
        let disk = SimDisk::new();
        disk.put(Path::new("/etc/promwatch.json"), json.as_bytes());
        disk.put(Path::new("/etc/prometheus.yaml"), prometheus.as_bytes());
        disk.put(Path::new("/etc/prom.yaml"), prometheus.as_bytes());
        disk.put(
            Path::new("/root/.aws/credentials"),
            b"[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n",
        );
        let sources = Sources { config_paths: vec!["/etc/promwatch.json".into()], ..Sources::default() };
        let surroundings = Surroundings { hostname: "pi".into(), home: "/root".into(), ..Surroundings::default() };
        let loaded = config::load(&sources, &surroundings, &disk);
        let findings: Vec<String> = loaded.findings.iter().map(ToString::to_string).collect();
        let settings = loaded.settings.unwrap_or_else(|| panic!("configuration refused: {findings:#?}"));
        let net = SimNet {
            clock: Rc::clone(&clock),
            cloud: RefCell::new(FakeCloudWatch::default()),
            exporters: RefCell::new(BTreeMap::from([("exporter:9100".to_owned(), Exporter::default())])),
            link: Cell::new(Link::Up(40)),
            exchanges: Cell::new(0),
        };
        Self { clock, disk, net, settings, agent: None, units: 0, fsync_ms: 0 }
    }

    /// The three doors.
    pub fn env(&self) -> Env<'_> {
        Env { clock: &*self.clock, disk: &self.disk, net: &self.net }
    }

    /// Starts the agent.
    pub fn start(&mut self) {
        let agent = Agent::new(self.settings.clone(), None, self.env());
        self.agent = Some(agent.unwrap_or_else(|_| panic!("the state directory is in use")));
        self.check_books();
    }

    /// One unit of work, or a sleep until the next; the books must be right after it.
    pub fn step(&mut self) -> Wakeup {
        let env = Env { clock: &*self.clock, disk: &self.disk, net: &self.net };
        let (_, syncs) = self.disk.writes_and_syncs();
        let wakeup = self.agent.as_mut().expect("the agent runs").poll(env);
        self.clock.pass((self.disk.writes_and_syncs().1 - syncs) * self.fsync_ms);
        self.units += 1;
        self.check_books();
        let now_ms = self.clock.monotonic_ms.get();
        if wakeup.at_ms > now_ms {
            self.clock.pass(wakeup.at_ms - now_ms);
        }
        wakeup
    }

    /// Lets it run for so long.
    pub fn run_ms(&mut self, ms: u64) {
        let end_ms = self.clock.monotonic_ms.get() + ms;
        while self.clock.monotonic_ms.get() < end_ms {
            self.step();
        }
    }

    /// produced = delivered + pending + dropped, always.
    pub fn check_books(&self) {
        let Some(agent) = &self.agent else { return };
        let (counts, pending) = agent.counts();
        assert_eq!(
            counts.produced,
            counts.delivered + pending + counts.dropped_total(),
            "after {} units: {counts:?}, {pending} pending",
            self.units
        );
    }

    /// What `promwatch status` would say.
    pub fn status(&mut self) -> promwatch::agent::status::Status {
        let env = Env { clock: &*self.clock, disk: &self.disk, net: &self.net };
        self.agent.as_mut().expect("the agent runs").status(env)
    }

    /// The process is gone from one moment to the next; the kernel keeps what was written.
    pub fn kill(&mut self) {
        self.agent = None;
        self.disk.kill();
    }

    /// The machine loses power: any image of the fault model may be left. It is off for `off_ms`.
    pub fn power_cut(&mut self, off_ms: i64) {
        self.agent = None;
        let clock = Rc::clone(&self.clock);
        self.disk = self.disk.power_cut(&mut || clock.random());
        let true_ms = self.clock.true_ms() + off_ms;
        self.clock.boot.set(self.clock.boot.get() + 1);
        self.clock.monotonic_ms.set(2_000);
        // Booting takes two seconds.
        self.clock.true_base_ms.set(true_ms);
    }

    /// A clean stop.
    pub fn stop(&mut self) {
        let mut agent = self.agent.take().expect("the agent runs");
        agent
            .stop(self.clock.monotonic_ms.get() + 3_000, Env { clock: &*self.clock, disk: &self.disk, net: &self.net });
        self.disk.kill();
    }

    /// Runs until nothing is pending; fails after `limit_ms`.
    pub fn drain(&mut self, limit_ms: u64) {
        let end_ms = self.clock.monotonic_ms.get() + limit_ms;
        loop {
            let pending = self.agent.as_ref().map_or(0, |agent| agent.counts().1);
            // The scrapes go on: a few events are always on their way.
            if pending <= 4 {
                return;
            }
            assert!(self.clock.monotonic_ms.get() < end_ms, "{pending} events are still pending");
            self.step();
        }
    }

    /// Values of the gauge `g` that CloudWatch Logs holds for the stream `sim`, with how often each is there and its time.
    pub fn stored_gauges(&self) -> BTreeMap<u64, Vec<i64>> {
        let cloud = self.net.cloud.borrow();
        let mut gauges: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        for event in cloud.events(GROUP, "sim") {
            let value: serde_json::Value = serde_json::from_str(&event.message).expect("events are JSON");
            if let Some(number) = value["g"].as_f64() {
                assert_eq!(value["Timestamp"], event.timestamp_ms.to_string(), "both times agree");
                gauges.entry(number as u64).or_default().push(event.timestamp_ms);
            }
        }
        gauges
    }

    /// The sum of the deltas of `c_total` that CloudWatch Logs holds, each scrape's once.
    pub fn stored_counter_sum(&self) -> f64 {
        let cloud = self.net.cloud.borrow();
        let mut seen: BTreeMap<i64, f64> = BTreeMap::new();
        for event in cloud.events(GROUP, "sim") {
            let value: serde_json::Value = serde_json::from_str(&event.message).expect("events are JSON");
            if let Some(number) = value["c_total"].as_f64() {
                seen.insert(event.timestamp_ms, number);
            }
        }
        seen.values().sum()
    }

    /// True times of the scrapes of the first exporter.
    pub fn scrape_times(&self) -> Vec<i64> {
        self.net.exporters.borrow()["exporter:9100"].times_ms.clone()
    }

    /// The strict server never had to complain.
    pub fn check_server(&self) {
        let cloud = self.net.cloud.borrow();
        assert!(cloud.violations.is_empty(), "{:#?}", cloud.violations);
    }
}
