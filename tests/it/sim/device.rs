//! A device: clock, disk and network with the agent on it, and what may happen to it between two units of work.

use super::clock::{BootClock, SimClock};
use super::net::SimNet;
use super::truth::Truth;
use super::watch::{End, Watch};
use super::{ENDPOINT, GROUP};
use crate::sim_disk::SimDisk;
use promwatch::agent::{Agent, Wakeup};
use promwatch::config::{self, Sources, Surroundings};
use promwatch::env::{Clock as _, Env};
use promwatch::model::settings::Settings;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How long a clean stop may go on sending.
pub const STOP_MS: u64 = 10_000;

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
    /// Where the agent keeps its live status file; nowhere in most simulations.
    pub status_path: Option<PathBuf>,
    /// What must hold after every unit.
    pub watch: Watch,
    /// What is true of the clock, whatever the agent believes.
    pub truth: Truth,
    crash: Cell<End>,
    /// True time of the start of the agent.
    started_ms: i64,
    /// Units of work since time last passed.
    unslept: u32,
}

/// More units of work than any course has between two moments: a loop that does not sleep fails, it does not hang.
const UNSLEPT_MAX: u32 = 20_000;

impl Device {
    /// A device with one exporter at `exporter:9100`, scraped every `interval`, and `promwatch` settings as given.
    pub fn new(seed: u64, interval: &str, promwatch: &str) -> Self {
        Self::with_prometheus(seed, &prometheus(interval, &[("sim", "exporter:9100")]), promwatch)
    }

    /// A device with this Prometheus configuration.
    pub fn with_prometheus(seed: u64, prometheus: &str, promwatch: &str) -> Self {
        Self::with_files(seed, &agent_json(promwatch, 5, ""), prometheus)
    }

    /// A device with these two files.
    pub fn with_files(seed: u64, json: &str, prometheus: &str) -> Self {
        let clock = Rc::new(SimClock::new(seed));
        let disk = SimDisk::new();
        disk.put(
            Path::new("/root/.aws/credentials"),
            b"[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n",
        );
        let settings = load(&disk, json, prometheus);
        let net = SimNet::new(Rc::clone(&clock), disk.clone());
        let watch = Watch::new(format!("seed {seed}"), settings.buffer.sync_interval_ms);
        Self {
            clock,
            disk,
            net,
            settings,
            agent: None,
            units: 0,
            fsync_ms: 0,
            status_path: None,
            watch,
            truth: Truth::default(),
            crash: Cell::new(End::Kill),
            started_ms: 0,
            unslept: 0,
        }
    }

    /// The three doors.
    pub fn env(&self) -> Env<'_> {
        Env { clock: &*self.clock, disk: &self.disk, net: &self.net }
    }

    /// Starts the agent.
    pub fn start(&mut self) {
        let agent = Agent::new(self.settings.clone(), self.status_path.clone(), self.env());
        let agent = agent.unwrap_or_else(|_| panic!("{}: the state directory is in use", self.watch.name));
        self.watch.started(&agent);
        self.started_ms = self.clock.true_ms();
        self.agent = Some(agent);
        self.check();
    }

    /// One unit of work, or a sleep until the next; everything must be right after it.
    pub fn step(&mut self) -> Wakeup {
        self.know();
        let env = Env { clock: &*self.clock, disk: &self.disk, net: &self.net };
        let (_, syncs) = self.disk.writes_and_syncs();
        let begun_ms = self.clock.monotonic_ms.get();
        let wakeup = self.agent.as_mut().expect("the agent runs").poll(env);
        self.clock.pass((self.disk.writes_and_syncs().1 - syncs) * self.fsync_ms);
        self.units += 1;
        let frozen = self.net.frozen.borrow_mut().take();
        if let Some(disk) = frozen {
            // The process died in the middle of this unit: what it did afterwards never was.
            self.agent = None;
            self.disk = disk;
            self.crashed(self.crash.get());
            return wakeup;
        }
        self.check();
        let now_ms = self.clock.monotonic_ms.get();
        if wakeup.at_ms > now_ms {
            self.clock.pass(wakeup.at_ms - now_ms);
        }
        self.unslept = if self.clock.monotonic_ms.get() > begun_ms { 0 } else { self.unslept + 1 };
        assert!(self.unslept < UNSLEPT_MAX, "{}: the loop does not sleep", self.watch.name);
        wakeup
    }

    /// Lets it run for so long.
    pub fn run_ms(&mut self, ms: u64) {
        let end_ms = self.clock.monotonic_ms.get() + ms;
        while self.clock.monotonic_ms.get() < end_ms {
            self.step();
        }
    }

    /// Lets it run until this is so; fails after `limit_ms`.
    pub fn run_until(&mut self, limit_ms: u64, is_so: impl Fn(&Self) -> bool) {
        let end_ms = self.clock.monotonic_ms.get() + limit_ms;
        while !is_so(self) {
            assert!(self.clock.monotonic_ms.get() < end_ms, "{}: still not so", self.watch.name);
            self.step();
        }
    }

    /// Notes what this process can know of the time.
    fn know(&mut self) {
        let clock = &self.clock;
        let told = self.net.told_ms.get().is_some_and(|told_ms| told_ms >= self.started_ms);
        let knowledge = (clock.boot.get(), clock.wall_error_ms.get(), told || clock.synchronised.get());
        self.watch.know(knowledge, self.net.cloud.borrow().receipts.len(), self.clock.true_ms());
    }

    /// What must hold after every unit of work.
    pub fn check(&mut self) {
        let Some(agent) = &self.agent else { return };
        self.watch.look(agent, &self.net);
        self.truth.look(&self.clock, &self.net, self.net.cloud.borrow().receipts.len());
    }

    /// What `promwatch status` would say.
    pub fn status(&mut self) -> promwatch::agent::status::Status {
        let env = Env { clock: &*self.clock, disk: &self.disk, net: &self.net };
        self.agent.as_mut().expect("the agent runs").status(env)
    }

    /// Events that wait.
    pub fn pending(&self) -> u64 {
        self.agent.as_ref().map_or(0, |agent| agent.counts().1)
    }

    /// Events that are neither in the spool nor in memory any more: bodies in flight have them.
    pub fn in_bodies_alone(&mut self) -> u64 {
        let backlog = self.status().backlog;
        self.pending() - backlog.events - backlog.memory_events
    }

    /// The agent takes over new files.
    pub fn reload(&mut self, json: &str, prometheus: &str) {
        self.settings = load(&self.disk, json, prometheus);
        let env = Env { clock: &*self.clock, disk: &self.disk, net: &self.net };
        self.agent.as_mut().expect("the agent runs").reload(self.settings.clone(), env);
    }

    /// The process is gone from one moment to the next; the kernel keeps what was written.
    pub fn kill(&mut self) {
        self.agent = None;
        self.crashed(End::Kill);
    }

    /// The machine loses power: any image of the fault model may be left. It is off for `off_ms`, and its clock goes on.
    pub fn power_cut(&mut self, off_ms: i64) {
        self.agent = None;
        self.crashed(End::PowerCut);
        self.clock.boot_again(off_ms);
    }

    /// The process or the machine dies in the middle of the next PutLogEvents: it is stored, and the agent never hears of it. The
    /// unit of work that sends it is the last.
    pub fn crash_in_request(&self, end: End) {
        self.crash.set(end);
        self.net.crash_in_request();
    }

    fn crashed(&mut self, end: End) {
        self.disk.kill();
        if end == End::PowerCut {
            let clock = Rc::clone(&self.clock);
            self.disk = self.disk.power_cut(&mut || clock.random());
        }
        self.net.put_in(&self.disk);
        self.watch.crashed(end, self.clock.true_ms(), &self.net);
        self.truth.look(&self.clock, &self.net, self.net.cloud.borrow().receipts.len());
    }

    /// A clean stop.
    pub fn stop(&mut self) {
        self.know();
        let begun_ms = self.clock.true_ms();
        let mut agent = self.agent.take().expect("the agent runs");
        agent.stop(self.clock.monotonic_ms.get() + STOP_MS, self.env());
        let frozen = self.net.frozen.borrow_mut().take();
        if let Some(disk) = frozen {
            // It died in the middle of its stop, soon after that began: what it did afterwards never was.
            self.disk = disk;
            self.crashed(self.crash.get());
            self.watch.died_at(begun_ms);
            return;
        }
        self.watch.stopped(&agent, &self.net);
        self.truth.look(&self.clock, &self.net, self.net.cloud.borrow().receipts.len());
        self.disk.kill();
    }

    /// The machine goes down and comes up again, and the agent with it.
    pub fn reboot(&mut self, end: End, off_ms: i64, clock: BootClock) {
        match end {
            _ if self.agent.is_none() => {}
            End::Stop => self.stop(),
            End::Kill => self.kill(),
            End::PowerCut => {
                self.agent = None;
                self.crashed(End::PowerCut);
            }
        }
        self.clock.wake(off_ms, clock);
        self.net.put_in(&self.disk);
        self.start();
    }

    /// Runs until only what was scraped just now is pending; fails after `limit_ms`.
    pub fn drain(&mut self, limit_ms: u64) {
        // The scrapes go on: a few events are always on their way.
        let page = |exporter: &super::Exporter| 2 + exporter.sizes.iter().max().unwrap_or(&0);
        let always = 2 + 2 * self.net.exporters.borrow().values().map(page).max().unwrap_or(0);
        self.drain_to(always, limit_ms);
    }

    /// The exporters go down, and it runs until nothing at all is pending; fails after `limit_ms`.
    pub fn settle(&mut self, limit_ms: u64) {
        self.net.exporters.borrow_mut().values_mut().for_each(|exporter| exporter.down = true);
        self.drain_to(0, limit_ms);
    }

    fn drain_to(&mut self, events: u64, limit_ms: u64) {
        let end_ms = self.clock.monotonic_ms.get() + limit_ms;
        while self.pending() > events {
            let name = &self.watch.name;
            assert!(self.clock.monotonic_ms.get() < end_ms, "{name}: {} events are still pending", self.pending());
            self.step();
        }
    }
}

/// A Prometheus configuration with these jobs, each with one target.
pub fn prometheus(interval: &str, jobs: &[(&str, &str)]) -> String {
    let mut text = format!("global:\n  scrape_interval: {interval}\n  scrape_timeout: {interval}\nscrape_configs:\n");
    for (job, target) in jobs {
        text += &format!("  - job_name: {job}\n    static_configs:\n      - targets: ['{target}']\n");
    }
    text
}

/// An agent's JSON with these settings of promwatch, this `force_flush_interval`, and further members of `agent`.
pub fn agent_json(promwatch: &str, flush_s: u32, agent: &str) -> String {
    format!(
        r#"{{"agent": {{"region": "eu-central-1", "hostname": "pi"{agent}}}, "promwatch": {promwatch},
            "logs": {{"endpoint_override": "{ENDPOINT}", "force_flush_interval": {flush_s}, "metrics_collected": {{"prometheus":
            {{"log_group_name": "{GROUP}", "prometheus_config_path": "/etc/prometheus.yaml"}}}}}}}}"#
    )
}

fn load(disk: &SimDisk, json: &str, prometheus: &str) -> Settings {
    disk.put(Path::new("/etc/promwatch.json"), json.as_bytes());
    disk.put(Path::new("/etc/prometheus.yaml"), prometheus.as_bytes());
    disk.put(Path::new("/etc/prom.yaml"), prometheus.as_bytes());
    let sources = Sources { config_paths: vec!["/etc/promwatch.json".into()], ..Sources::default() };
    let surroundings = Surroundings { hostname: "pi".into(), home: "/root".into(), ..Surroundings::default() };
    let loaded = config::load(&sources, &surroundings, disk);
    let findings: Vec<String> = loaded.findings.iter().map(ToString::to_string).collect();
    loaded.settings.unwrap_or_else(|| panic!("configuration refused: {findings:#?}"))
}
