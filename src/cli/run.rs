//! `promwatch run`: the agent until a signal ends it.

use super::{Args, EXIT_CONFIG, EXIT_FAILED, EXIT_IN_USE, EXIT_OK, load, load_or_log};
use crate::agent::{Agent, OpenError};
use crate::config::Severity;
use crate::env::{Access, Clock as _, Disk as _, Env, RealClock, RealDisk, RealNet, Signals};
use crate::model::settings::Settings;
use crate::notify::Notifier;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// How long a clean stop may take to send, the answer to the last body included. The unit's `TimeoutStopSec` is longer.
const STOP_MS: u64 = 10_000;
/// So much of it is left when the body in flight has used it up waiting for its answer.
const STOP_LEAST_MS: u64 = 3_000;

pub(super) fn run(args: &Args) -> u8 {
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            log::error!("signals cannot be handled: {error}");
            return EXIT_FAILED;
        }
    };
    let Some(settings) = load_or_log(args, &[]) else { return EXIT_CONFIG };
    let (clock, net) = (RealClock::new(), RealNet::new(signals.stop_flag()));
    let env = Env { clock: &clock, disk: &RealDisk, net: &net };
    let status_path = status_path(&settings);
    log::info!(
        "promwatch {} starts: {} jobs, log group {}, buffer {}",
        env!("CARGO_PKG_VERSION"),
        settings.jobs.len(),
        settings.convert.log_group_name,
        settings.buffer.state_dir.as_deref().map_or_else(|| "in memory".into(), Path::to_string_lossy)
    );
    let longest_ms = longest_scrape_ms(&settings);
    let mut agent = match Agent::new(settings, status_path, env) {
        Ok(agent) => agent,
        Err(OpenError::InUse) => {
            log::error!("the state directory is in use by another promwatch; give this one its own with --state-dir");
            return EXIT_IN_USE;
        }
    };
    let var = |name: &str| std::env::var(name).ok();
    let notifier = Notifier::new(var("NOTIFY_SOCKET").as_deref(), var("WATCHDOG_USEC").as_deref());
    notifier.widen_watchdog(longest_ms);
    notifier.ready();
    let stop = signals.stop_flag();
    let (mut told_ms, mut used_ms) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        if signals.take_reload() {
            reload(args, &mut agent, &notifier, env);
        }
        let began_ms = clock.monotonic_ms();
        let wakeup = agent.poll(env);
        let now_ms = clock.monotonic_ms();
        // What the signal met may have waited its whole time for an answer.
        used_ms = if stop.load(Ordering::Relaxed) { now_ms - began_ms } else { 0 };
        if let Some(watchdog_ms) = notifier.watchdog_ms {
            // Fed by units of work, not by a timer: a loop that is stuck is started again.
            if now_ms >= told_ms + watchdog_ms.min(5_000) || told_ms == 0 {
                told_ms = now_ms;
                notifier.watchdog();
                notifier.status(&agent.status_line());
            }
        } else if now_ms >= told_ms + 5_000 {
            told_ms = now_ms;
            notifier.status(&agent.status_line());
        }
        let longest_ms = notifier.watchdog_ms.unwrap_or(u64::MAX);
        let wait_ms = wakeup.at_ms.saturating_sub(now_ms).min(longest_ms);
        if wait_ms > 0 {
            signals.wait_ms(wait_ms);
        }
    }
    notifier.stopping();
    log::info!("promwatch stops");
    // The flag ends requests under way; the last ones of a clean stop have a deadline of their own.
    stop.store(false, Ordering::SeqCst);
    let left_ms = STOP_MS.saturating_sub(used_ms).max(STOP_LEAST_MS);
    agent.stop(clock.monotonic_ms() + left_ms, env);
    EXIT_OK
}

/// The longest that a scrape may hold the loop.
fn longest_scrape_ms(settings: &Settings) -> u64 {
    settings.jobs.iter().map(|job| job.timeout_ms).max().unwrap_or(0)
}

/// A bad new configuration changes nothing.
fn reload(args: &Args, agent: &mut Agent, notifier: &Notifier, env: Env<'_>) {
    let monotonic = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    notifier.reloading(monotonic.tv_sec.cast_unsigned() * 1_000_000 + monotonic.tv_nsec.cast_unsigned() as u64 / 1_000);
    let loaded = load(args);
    match loaded.settings {
        Some(settings) => {
            for finding in loaded.findings.iter().filter(|finding| finding.severity == Severity::Warning) {
                log::warn!("{}", finding.without_severity());
            }
            notifier.widen_watchdog(longest_scrape_ms(&settings));
            agent.reload(settings, env);
            log::info!("the configuration was read anew");
        }
        None => {
            for finding in loaded.findings.iter().filter(|finding| finding.severity == Severity::Error) {
                log::error!("{}", finding.without_severity());
            }
            log::error!("the new configuration is wrong; the old one stays in force");
        }
    }
    notifier.ready();
    notifier.status(&agent.status_line());
}

/// Where the status file may lie: the configured runtime directory, the user's, shared memory. Never the state directory, which
/// may lie on an SD card.
fn status_places(settings: &Settings) -> [Option<PathBuf>; 3] {
    let user = rustix::process::getuid().as_raw();
    let state_dir = settings.buffer.state_dir.as_deref().unwrap_or(Path::new("memory"));
    // Several instances may share the folder: the state directory tells their files apart.
    let digest = md5::compute(state_dir.as_os_str().as_encoded_bytes());
    let name = format!("status-{:02x}{:02x}{:02x}{:02x}.json", digest[0], digest[1], digest[2], digest[3]);
    [
        Some(settings.runtime_dir.clone()),
        std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("promwatch")),
        Some(PathBuf::from(format!("/dev/shm/promwatch-{user}"))),
    ]
    .map(|dir| dir.map(|dir| dir.join(&name)))
}

/// The first of the places that can be made and where nobody else can put anything. What another user has made there before us
/// is said to be left alone.
fn status_path(settings: &Settings) -> Option<PathBuf> {
    let [configured, others @ ..] = status_places(settings);
    let usable = |path: &PathBuf, writer| {
        let dir = path.parent().unwrap_or(path);
        if RealDisk.create_dir(dir).is_err() && RealDisk.access(dir, false).is_err() {
            return false;
        }
        match trust_dir(dir, writer) {
            // Root's folder may be closed to us; then the next place serves.
            Ok(()) => rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok(),
            Err(error) => {
                log::warn!("no status file in {}: {error}", dir.display());
                false
            }
        }
    };
    let configured = configured.filter(|path| usable(path, Some(0)));
    configured.or_else(|| others.into_iter().flatten().find(|path| usable(path, None)))
}

/// The place of an agent that keeps no state directory, without making it, and who may have written there.
pub(super) fn status_file(settings: &Settings) -> Option<(PathBuf, Option<u32>)> {
    let path = status_places(settings).into_iter().flatten().find(|path| RealDisk.access(path, false).is_ok())?;
    // Where only root can make folders, whoever owns one was given it by root.
    let dir = settings.runtime_dir.as_path();
    let parent = dir.parent().and_then(|parent| RealDisk.access(parent, true).ok());
    let given = parent.is_some_and(|parent| parent.user == 0 && parent.mode & 0o022 == 0) && path.starts_with(dir);
    let owner = RealDisk.access(dir, false).ok().filter(|_| given).map(|access| access.user);
    Some((path, owner))
}

/// Whether a status file can be believed: a regular file of ours, of root's or of `writer`'s, in such a folder.
pub(super) fn trust(path: &Path, writer: Option<u32>) -> io::Result<()> {
    let access = RealDisk.access(path, false)?;
    trust_dir(path.parent().unwrap_or(path), Some(0)).or_else(|_| trust_dir(path.parent().unwrap_or(path), writer))?;
    if !access.is_file {
        return Err(io::Error::other("not a regular file"));
    }
    whose(access, &[Some(0), writer])
}

/// Whether only we, or `other`, can put anything into a folder: a real one, not a link, and no other user's.
fn trust_dir(dir: &Path, other: Option<u32>) -> io::Result<()> {
    let access = RealDisk.access(dir, false)?;
    if !access.is_dir {
        return Err(io::Error::other("not a folder, or a link to one"));
    }
    if access.mode & 0o022 != 0 {
        return Err(io::Error::other("the folder is writable for others; chmod go-w"));
    }
    whose(access, &[other])
}

fn whose(access: Access, others: &[Option<u32>]) -> io::Result<()> {
    let user = access.user;
    if user == rustix::process::geteuid().as_raw() || others.contains(&Some(user)) {
        return Ok(());
    }
    Err(io::Error::other(format!("it belongs to user {user}")))
}
