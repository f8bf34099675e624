//! One target -> its samples, within all limits.
//!
//! The steps are those of Prometheus' scrape loop: ask, decompress and parse while the answer comes in, add the target's
//! labels, relabel, check names and limits. A page is taken as a whole or not at all, unless the job says that bad lines
//! are to be skipped. An HTTP answer, the machine's own figures and a folder of text files go the same way.
//!
//! Refuses: what a series' numbers are between scrapes (which lines are known is kept, and OAuth2 tokens), scheduling,
//! retries, protobuf.
//!
//! Limits beside the job's own: [`exposition::MAX_ENTRY_BYTES`] for a line, [`MAX_BODY_BYTES`] for a page where the job
//! gives no `body_size_limit`, 4096 labels on a series, [`crate::model::PAGE_BYTES_MAX`] of samples in memory.
//!
//! ```text
//! Net --pieces--> gzip --> Exposition --series--> Collector --> Intake
//! Host, Textfile ---------^             merge labels, relabel,
//!                                       names, limits
//! ```

mod body;
mod collector;
mod content_type;
mod error;
pub mod exposition;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod fuzzing;
mod report;
mod request;
mod table;
mod textfile;

use crate::env::{CertificateTime, Env, Head, Limits, Request, Route, TokenCache, authorize};
use crate::model::settings::ScrapeJob;
use crate::model::{Endpoint, Intake, Page, PageIntake, Report, Target};
use body::{Body, Deadline, Done, Failure};
use collector::Collector;
use exposition::{BadLines, Exposition, Format};
use std::ops::ControlFlow;
use std::path::Path;
use table::SeriesTable;

pub use body::MAX_BODY_BYTES;
pub use error::{ScrapeError, ScrapeErrorKind};
pub use report::report_samples;

/// Of an answer that is not a page so many bytes are read, so that the connection can be used again.
const DRAIN_BYTES: u64 = 64 << 10;

/// So many problems of a successful scrape are told.
const MAX_PROBLEMS: usize = 10;

/// Scrapes targets.
#[derive(Default)]
pub struct Scraper {
    tokens: TokenCache,
    /// Sorted by the target.
    tables: Vec<(String, SeriesTable)>,
}

/// What one scrape of one target gave.
#[derive(Debug)]
pub struct Scraped<T = Page> {
    /// What is known whether it succeeded or not.
    pub report: Report,
    /// The page, unless it was pushed to an intake; or why there is none.
    pub outcome: Result<T, ScrapeError>,
    /// For `status`, at most a few: lines and files that were skipped, samples that were dropped, in a scrape that succeeded.
    pub problems: Vec<String>,
}

/// Hands a page over in pieces.
pub type Feed<'a> = &'a mut dyn FnMut(&mut dyn FnMut(&[u8]));

impl Scraper {
    /// A scraper with no token at hand.
    pub fn new() -> Self {
        Self::default()
    }

    /// Scrapes the target once, the plain way: every sample with its labels. Takes at most `timeout_ms`, which may be less
    /// than the target's own time-out. `host_page` is asked for the machine's own figures, as text, where the target is
    /// [`Endpoint::Host`].
    pub fn scrape(&mut self, target: &Target, timeout_ms: u64, env: Env<'_>, host_page: Feed<'_>) -> Scraped {
        let mut intake = PageIntake::default();
        let scraped = self.pull(target, timeout_ms, env, host_page, &mut intake, None);
        Scraped { report: scraped.report, outcome: scraped.outcome.map(|()| intake.page), problems: scraped.problems }
    }

    /// Scrapes the target once and pushes the page to `intake`, known series by their numbers. A page that failed may have
    /// been pushed in part.
    pub fn scrape_into(
        &mut self,
        target: &Target,
        timeout_ms: u64,
        env: Env<'_>,
        host_page: Feed<'_>,
        intake: &mut dyn Intake,
    ) -> Scraped<()> {
        let at = self.table(target);
        let mut table = std::mem::take(&mut self.tables[at].1);
        let scraped = self.pull(target, timeout_ms, env, host_page, intake, Some(&mut table));
        self.tables[at].1 = table;
        scraped
    }

    /// Forgets what is known of the pages of targets other than these.
    pub fn forget_missing<'a>(&mut self, targets: impl IntoIterator<Item = &'a Target>) {
        let mut targets: Vec<String> = targets.into_iter().map(Target::identity).collect();
        targets.sort_unstable();
        self.tables.retain(|(target, _)| targets.binary_search(target).is_ok());
    }

    /// Where the table of a target is.
    fn table(&mut self, target: &Target) -> usize {
        let identity = target.identity();
        match self.tables.binary_search_by(|(other, _)| other.cmp(&identity)) {
            Ok(at) => at,
            Err(at) => {
                self.tables.insert(at, (identity, SeriesTable::default()));
                at
            }
        }
    }

    fn pull(
        &mut self,
        target: &Target,
        timeout_ms: u64,
        env: Env<'_>,
        host_page: Feed<'_>,
        intake: &mut dyn Intake,
        table: Option<&mut SeriesTable>,
    ) -> Scraped<()> {
        run(target, env, intake, table, |collector, problems| match &target.endpoint {
            _ if let Some(why) = &target.refused => Err(ScrapeError::new(target, ScrapeErrorKind::Limit, why)),
            Endpoint::Http { url, unix_socket } => {
                self.exchange(target, url, unix_socket.as_deref(), timeout_ms, env, collector)
            }
            Endpoint::Host => read_text(target, collector, host_page),
            Endpoint::Textfile(dir) => {
                read_text(target, collector, &mut |page| textfile::read(dir, env, problems, page))
            }
        })
    }

    fn exchange(
        &mut self,
        target: &Target,
        url: &str,
        unix_socket: Option<&Path>,
        timeout_ms: u64,
        env: Env<'_>,
        collector: &mut Collector<'_>,
    ) -> Result<Done, ScrapeError> {
        let job = &target.job;
        let started_ms = env.clock.monotonic_ms();
        let limits = Limits { total_ms: timeout_ms, stall_ms: timeout_ms };
        let mut headers = request::headers(job, timeout_ms);
        let authorized = authorize(&job.http, &mut self.tokens, env, limits, &mut headers);
        authorized.map_err(|error| ScrapeError::from_net(target, &error))?;
        let spent_ms = env.clock.monotonic_ms().saturating_sub(started_ms);
        let route = Route {
            tls: job.http.tls.clone(),
            proxy: job.http.proxy.clone(),
            unix_socket: unix_socket.map(Path::to_owned),
            follow_redirects: job.http.follow_redirects,
        };
        let request = Request {
            method: "GET",
            url,
            headers: &headers,
            body: &[],
            route: &route,
            limits: Limits { total_ms: timeout_ms.saturating_sub(spent_ms).max(1), ..limits },
            certificate_time: CertificateTime::Clock,
            new_connection: false,
            stop_grace_ms: Request::STOP_GRACE_MS,
        };
        let deadline = Deadline { clock: env.clock, at_ms: started_ms.saturating_add(timeout_ms) };
        let mut intake = Answer::Waiting(collector, deadline);
        let (mut drained, mut refused) = (0, false);
        let result = env.net.exchange(&request, &mut |head, piece| {
            if head.status != 200 {
                refused = head.status == 401;
                drained += piece.len() as u64;
                intake.fail(status_failure(head));
                return if drained > DRAIN_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            }
            intake.push(head, job, piece)
        });
        if refused || matches!(&result, Ok(exchange) if exchange.head.status == 401) {
            self.tokens.forget(&job.http.auth);
        }
        if let Answer::Failed((kind, text)) = intake {
            return Err(ScrapeError::new(target, kind, &text));
        }
        let exchange = result.map_err(|error| ScrapeError::from_net(target, &error))?;
        let done = match exchange.head.status {
            200 => intake.finish(&exchange.head, job),
            _ => Err(status_failure(&exchange.head)),
        };
        done.map_err(|(kind, text)| ScrapeError::new(target, kind, &text))
    }
}

/// Reads a page that does not come from an exporter through the same pipeline: relabelling, limits and all.
pub fn scrape_page(target: &Target, format: Format, env: Env<'_>, feed: Feed<'_>) -> Scraped {
    let mut intake = PageIntake::default();
    let scraped = run(target, env, &mut intake, None, |collector, _| read(target, format, collector, feed));
    Scraped { report: scraped.report, outcome: scraped.outcome.map(|()| intake.page), problems: scraped.problems }
}

/// The same for a page that is pushed to `intake`, with what is known of the target's pages.
pub fn scrape_page_into(
    target: &Target,
    format: Format,
    env: Env<'_>,
    feed: Feed<'_>,
    intake: &mut dyn Intake,
    scraper: &mut Scraper,
) -> Scraped<()> {
    let at = scraper.table(target);
    let table = &mut scraper.tables[at].1;
    run(target, env, intake, Some(table), |collector, _| read(target, format, collector, feed))
}

/// Measures, and turns what was collected into a result.
fn run(
    target: &Target,
    env: Env<'_>,
    intake: &mut dyn Intake,
    table: Option<&mut SeriesTable>,
    work: impl FnOnce(&mut Collector<'_>, &mut Vec<String>) -> Result<Done, ScrapeError>,
) -> Scraped<()> {
    let started_ms = env.clock.monotonic_ms();
    let mut report = Report { start_ms: env.clock.wall_ms(), ..Report::default() };
    let mut problems = Vec::new();
    let mut collector = Collector::new(target, report.start_ms, intake, table);
    let outcome = work(&mut collector, &mut problems).and_then(|done| {
        report.body_bytes = done.bytes;
        report.lines_skipped = done.bad.count;
        problems.extend(done.bad.first.iter().map(|bad| bad.to_string()));
        let checked = collector.check_sample_limit();
        checked.map_err(|text| ScrapeError::new(target, ScrapeErrorKind::Limit, &text))
    });
    // A page that did not arrive counts as an empty one, one that is bad as far as it was good (scrape.go).
    let arrived = match &outcome {
        Ok(()) => true,
        Err(error) => matches!(error.kind, ScrapeErrorKind::Parse | ScrapeErrorKind::Limit),
    };
    if arrived {
        report.samples_scraped = collector.scraped;
        report.samples_post_relabel = collector.post_relabel;
    }
    if collector.too_far_ahead > 0 {
        problems.push(format!("{} samples lie more than 10 minutes ahead and were dropped", collector.too_far_ahead));
    }
    if problems.len() > MAX_PROBLEMS {
        let more = problems.len() - MAX_PROBLEMS;
        problems.truncate(MAX_PROBLEMS);
        problems.push(format!("and {more} more"));
    }
    report.duration_ms = env.clock.monotonic_ms().saturating_sub(started_ms);
    Scraped { report, outcome, problems }
}

fn read_text(target: &Target, collector: &mut Collector<'_>, feed: Feed<'_>) -> Result<Done, ScrapeError> {
    read(target, Format::Text, collector, feed)
}

fn read(target: &Target, format: Format, collector: &mut Collector<'_>, feed: Feed<'_>) -> Result<Done, ScrapeError> {
    let exposition = Exposition::new(format, target.job.skip_bad_lines);
    let mut page = body::Page::new(exposition, &target.job, None, collector);
    let mut result = Ok(());
    feed(&mut |piece| {
        if result.is_ok() {
            result = page.push(piece);
        }
    });
    result.and_then(|()| page.finish()).map_err(|(kind, text)| ScrapeError::new(target, kind, &text))
}

fn status_failure(head: &Head) -> Failure {
    let reason = http::StatusCode::from_u16(head.status).ok().and_then(|status| status.canonical_reason());
    let text = format!("server returned HTTP status {} {}", head.status, reason.unwrap_or("(unknown)"));
    (ScrapeErrorKind::Status, text)
}

/// An answer on its way in.
enum Answer<'c, 't> {
    /// Nothing of the body has come.
    Waiting(&'c mut Collector<'t>, Deadline<'c>),
    Body(Box<Body<'c, 't>>),
    Failed(Failure),
}

impl Answer<'_, '_> {
    fn push(&mut self, head: &Head, job: &ScrapeJob, piece: &[u8]) -> ControlFlow<()> {
        self.start(head, job);
        let Self::Body(body) = self else { return ControlFlow::Break(()) };
        match body.push(piece) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                self.fail(failure);
                ControlFlow::Break(())
            }
        }
    }

    fn finish(mut self, head: &Head, job: &ScrapeJob) -> Result<Done, Failure> {
        self.start(head, job);
        match self {
            Self::Body(body) => body.finish(),
            Self::Failed(failure) => Err(failure),
            Self::Waiting(..) => Ok(Done { bytes: 0, bad: BadLines::default() }),
        }
    }

    fn start(&mut self, head: &Head, job: &ScrapeJob) {
        let before = std::mem::replace(self, Self::Failed((ScrapeErrorKind::Broken, String::new())));
        *self = match before {
            Self::Waiting(collector, deadline) => match Body::new(head, job, deadline, collector) {
                Ok(body) => Self::Body(Box::new(body)),
                Err(failure) => Self::Failed(failure),
            },
            other => other,
        };
    }

    fn fail(&mut self, failure: Failure) {
        *self = Self::Failed(failure);
    }
}
