//! What the agent tells of itself: counts, losses, the status file.

use super::schedule::Entry;
use super::status::{
    Backlog, ClockStatus, CredentialStatus, DiskStatus, EventCounts, Status, TargetStatus, UpstreamStatus,
};
use super::{Agent, STATUS_MS};
use crate::convert::ConvertCounts;
use crate::env::Env;
use crate::model::{NAME_BYTES_MAX, short};
use crate::scrape::{ScrapeErrorKind, Scraped};
use crate::spool::Recovery;

/// How much of the time since the last report the loop was at work.
pub(super) struct Busy {
    since_ms: u64,
    busy_ms: u64,
}

impl Busy {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { since_ms: now_ms, busy_ms: 0 }
    }

    pub(super) fn add(&mut self, ms: u64) {
        self.busy_ms += ms;
    }

    fn take_percent(&mut self, now_ms: u64) -> u64 {
        let percent = self.busy_ms * 100 / (now_ms - self.since_ms).max(1);
        *self = Self::new(now_ms);
        percent.min(100)
    }
}

impl Agent {
    pub(super) fn take_over(&mut self, recovery: &Recovery) {
        self.damaged_records += recovery.damaged;
        for boot in &recovery.boots {
            let known = boot.confirmed.unwrap_or(boot.last);
            let base_ms = known.wall_ms.saturating_sub_unsigned(known.monotonic_ms);
            let confirmed_ms = boot.confirmed.map(|at| at.monotonic_ms);
            self.keeper.learn_boot(&boot.boot_id, base_ms, confirmed_ms, boot.last.monotonic_ms);
        }
        self.backlog_boots = recovery.boots.iter().map(|boot| boot.boot_id).collect();
        recovery.losses.iter().for_each(|loss| self.books.lost_by_spool(loss));
        if recovery.events > 0 || recovery.damaged > 0 || recovery.newer > 0 {
            log::info!(
                "the buffer holds {} events of an earlier run; {} records are damaged, {} belong to a newer version",
                recovery.events,
                recovery.damaged,
                recovery.newer
            );
        }
    }

    pub(super) fn pending_events(&self) -> u64 {
        let spooled = self.storage.spool_ref().map_or(0, |spool| spool.pending().events);
        self.lane.events() + spooled + self.delivery.detached_events()
    }

    pub(super) fn note_scrape(&mut self, index: usize, scraped: &Scraped<()>, timeout_ms: u64, env: Env<'_>) {
        let now_ms = env.clock.monotonic_ms();
        let left_out = self.schedule.take_left_out(now_ms);
        if left_out > 0 {
            log::warn!("{left_out} log lines about targets were left out: see promwatch status");
        }
        let kind = scraped.outcome.as_ref().err().map(|error| error.kind);
        let news = self.schedule.is_news(index, kind, now_ms);
        let entry = self.schedule.entry_mut(index);
        let health = &mut entry.health;
        health.scrapes += 1;
        health.last_scrape_ms = scraped.report.start_ms;
        health.last_duration_ms = scraped.report.duration_ms;
        health.last_samples = scraped.report.samples_scraped;
        health.lines_skipped += scraped.report.lines_skipped;
        health.problems.clone_from(&scraped.problems);
        health.up = Some(scraped.outcome.is_ok());
        let (job, instance) = (entry.target.job.job_name.as_str(), entry.target.instance());
        match &scraped.outcome {
            Ok(_) => {
                entry.hung = 0;
                if news.is_some() {
                    log::info!("target {job} {} is up again", short(instance, NAME_BYTES_MAX));
                }
            }
            Err(error) => {
                // A name server that is silent, or a page that fails late, holds the loop as a silent exporter does.
                let held = error.kind == ScrapeErrorKind::Timeout || scraped.report.duration_ms >= timeout_ms / 2;
                entry.hung = if held { entry.hung + 1 } else { 0 };
                health.failures += 1;
                *health.failures_by_kind.entry(error.kind.as_str()).or_default() += 1;
                let text = error.to_string();
                match news {
                    Some(0) => log::warn!("target down: {text}"),
                    Some(unsaid) => log::warn!("target down: {text} ({unsaid} more failures since the last line)"),
                    None => {}
                }
                health.last_error = Some((env.clock.wall_ms(), text));
            }
        }
    }

    pub(super) fn note_left_out(&mut self, counts: &ConvertCounts) {
        let reasons = [
            ("unsupported_type", counts.unsupported_type),
            ("no_type", counts.no_type),
            ("not_finite", counts.not_finite),
            ("first_seen", counts.first_seen),
            ("not_advancing", counts.not_advancing),
            ("repeated", counts.repeated),
            ("long_gap", counts.long_gap),
            ("oversized", counts.oversized),
            ("undeclared", counts.undeclared),
            ("baselines_evicted", counts.baselines_evicted),
            ("baselines_refused", counts.baselines_refused),
        ];
        for (reason, samples) in reasons.into_iter().filter(|(_, samples)| *samples > 0) {
            *self.left_out.entry(reason.to_owned()).or_default() += samples;
        }
    }

    /// Counts what the spool has lost, to make room or because it was damaged, and notes which events bodies hold alone now.
    pub(super) fn collect_losses(&mut self) {
        let Some(spool) = self.storage.spool() else { return };
        let (losses, detached) = (spool.take_losses(), spool.take_detached());
        losses.iter().for_each(|loss| self.books.lost_by_spool(loss));
        self.delivery.detach(&detached);
    }

    /// One line for `systemctl status`.
    pub fn status_line(&self) -> String {
        let entries = self.schedule.entries();
        let up = entries.iter().filter(|entry| entry.health.up == Some(true)).count();
        let link = if self.link_down_since_ms.is_some() { "down" } else { "up" };
        format!(
            "{up} of {} targets up, link {link}, {} events delivered, {} waiting, {} dropped",
            entries.len(),
            self.books.counts().delivered,
            self.pending_events(),
            self.books.counts().dropped_total()
        )
    }

    pub(super) fn write_status(&mut self, env: Env<'_>) {
        self.status_due_ms = env.clock.monotonic_ms() + STATUS_MS;
        self.look_at_storage(env);
        if !self.storage.is_ours() {
            return; // The file is that of whoever has the state directory.
        }
        let Some(path) = self.status_path.clone() else { return };
        let status = self.status(env);
        if let Err(error) = status.write(&path, env.disk) {
            log::debug!("{}: {error}", path.display());
        }
    }

    /// How the agent is.
    pub fn status(&mut self, env: Env<'_>) -> Status {
        let off_by = self.books.off_by(self.pending_events());
        if off_by != 0 {
            log::error!("the books are off by {off_by} events: a fault of promwatch's; they are put right");
            self.books.settle(self.pending_events());
        }
        let busy_percent = self.busy.take_percent(env.clock.monotonic_ms());
        let pending = self.storage.spool_ref().map(crate::spool::Spool::pending);
        let upload = self.shipper.status(env.clock);
        let disk_error = self.storage.last_error().cloned();
        let wall_minus_monotonic_ms = env.clock.wall_ms() - env.clock.monotonic_ms().cast_signed();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state_id: self.state.id.clone(),
            pid: std::process::id(),
            started_ms: self.started_ms,
            written_ms: env.clock.wall_ms(),
            events: EventCounts {
                produced: self.books.counts().produced,
                delivered: self.books.counts().delivered,
                pending: self.pending_events(),
                dropped: self.books.counts().dropped.iter().map(|(r, n)| (r.as_str().to_owned(), *n)).collect(),
            },
            backlog: Backlog {
                events: pending.as_ref().map_or(0, |pending| pending.events),
                bytes: pending.as_ref().map_or(0, |pending| pending.bytes),
                oldest_ms: pending.as_ref().and_then(|pending| pending.oldest_ms),
                memory_events: self.lane.events(),
                memory_bytes: self.lane.billed_bytes(),
                damaged_records: self.damaged_records,
            },
            targets: self.schedule.entries().iter().map(target_status).collect(),
            discovery_errors: self
                .discoverer
                .errors()
                .iter()
                .map(|e| format!("{} {}: {}", e.job, e.source, e.text))
                .collect(),
            upstreams: vec![UpstreamStatus {
                endpoint: upload.endpoint.clone().unwrap_or_default(),
                up: upload.trouble.map(|_| false).or(upload.delivered_ms.map(|_| true)),
                trouble: upload.trouble.map(|trouble| trouble.as_str().to_owned()),
                down_since_ms: self.link_down_since_ms.map(|ms| ms.cast_signed() + wall_minus_monotonic_ms),
                last_error: upload.last_error.clone(),
                last_error_ms: upload.last_error_ms,
                requests: self.sent.requests,
                body_bytes: self.sent.body_bytes,
                held_streams: upload.held_streams,
            }],
            clock: ClockStatus {
                standing: self.keeper.standing(env.clock).as_str().to_owned(),
                skew_ms: self.keeper.skew_ms(),
                certain: self.keeper.is_certain(),
                boots_never_confirmed: match pending {
                    Some(pending) if pending.events > 0 => self.keeper.never_confirmed(self.backlog_boots.iter()),
                    _ => 0,
                },
            },
            credentials: CredentialStatus {
                source: upload.credentials.clone(),
                expires_ms: upload.credentials_expire_ms,
            },
            disk: DiskStatus {
                buffer: if self.storage.usable(env.clock.monotonic_ms()) { "disk" } else { "memory" }.to_owned(),
                dir: self.storage.dir().map(|dir| dir.display().to_string()),
                last_error: disk_error.as_ref().map(|(_, text)| text.clone()),
                last_error_ms: disk_error.as_ref().map(|(ms, _)| *ms),
            },
            busy_percent,
            samples_left_out: self.left_out.clone(),
        }
    }
}

fn target_status(entry: &Entry) -> TargetStatus {
    let health = &entry.health;
    TargetStatus {
        job: entry.target.labels.get("job").unwrap_or("").to_owned(),
        instance: entry.target.instance().to_owned(),
        up: health.up,
        scrapes: health.scrapes,
        failures: health.failures,
        failures_by_kind: health.failures_by_kind.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect(),
        last_scrape_ms: health.last_scrape_ms,
        last_duration_ms: health.last_duration_ms,
        last_samples: health.last_samples,
        lines_skipped: health.lines_skipped,
        problems: health.problems.clone(),
        last_error: health.last_error.as_ref().map(|(_, text)| text.clone()),
        last_error_ms: health.last_error.as_ref().map(|(ms, _)| *ms),
    }
}
