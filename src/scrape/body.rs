//! From the bytes of an answer to the parser: decompression and the limits on size.

use super::collector::Collector;
use super::content_type::format_of;
use super::error::ScrapeErrorKind;
use super::exposition::{BadLines, Exposition};
use crate::env::{Clock, Head};
use crate::gzip::{Broken, Decoder};
use crate::model::settings::ScrapeJob;

/// The most that a page may measure after decompression where the job has no `body_size_limit`, in bytes.
pub const MAX_BODY_BYTES: u64 = 64 << 20;

/// Why a body was given up.
pub(super) type Failure = (ScrapeErrorKind, String);

/// When a page must be done. The network's own deadline is looked at between two pieces only, and one compressed piece may
/// hold tens of megabytes.
#[derive(Clone, Copy)]
pub(super) struct Deadline<'c> {
    pub clock: &'c dyn Clock,
    pub at_ms: u64,
}

/// A body on its way to the parser.
pub(super) enum Body<'c, 't> {
    Plain(Page<'c, 't>),
    Gzip { decoder: Decoder, page: Page<'c, 't>, empty: bool },
}

impl<'c, 't> Body<'c, 't> {
    /// Starts the body of an answer with status 200.
    ///
    /// # Errors
    /// The format is not one that is read.
    pub fn new(
        head: &Head,
        job: &ScrapeJob,
        deadline: Deadline<'c>,
        collector: &'c mut Collector<'t>,
    ) -> Result<Self, Failure> {
        let format = format_of(head.header("content-type"), job.fallback_protocol);
        let format = format.map_err(|text| (ScrapeErrorKind::Encoding, text.to_owned()))?;
        let page = Page::new(Exposition::new(format, job.skip_bad_lines), job, Some(deadline), collector);
        Ok(match head.header("content-encoding") {
            // Exactly this word, as in Prometheus; anything else is taken for plain text.
            Some("gzip") => Self::Gzip { decoder: Decoder::new(), page, empty: true },
            _ => Self::Plain(page),
        })
    }

    /// The next piece, as it came.
    ///
    /// # Errors
    /// The page is lost; nothing more is to be pushed.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Plain(page) => page.push(piece),
            Self::Gzip { decoder, page, empty } => {
                *empty &= piece.is_empty();
                decoder.push(piece, &mut |plain| page.push(plain)).map_err(|broken| match broken {
                    Broken::Refused(failure) => failure,
                    Broken::Damaged(text) => damaged(text),
                })
            }
        }
    }

    /// The body is complete.
    ///
    /// # Errors
    /// The page is lost.
    pub fn finish(self) -> Result<Done, Failure> {
        match self {
            Self::Plain(page) => page.finish(),
            Self::Gzip { empty: true, .. } => Err(damaged("the body is empty")),
            Self::Gzip { decoder, page, .. } => {
                decoder.finish().map_err(damaged)?;
                page.finish()
            }
        }
    }
}

fn damaged(text: &str) -> Failure {
    (ScrapeErrorKind::Encoding, format!("gzip: {text}"))
}

/// What a complete body gave besides the samples.
pub(super) struct Done {
    pub bytes: u64,
    pub bad: BadLines,
}

/// A decompressed page on its way to the parser.
pub(super) struct Page<'c, 't> {
    exposition: Exposition,
    collector: &'c mut Collector<'t>,
    deadline: Option<Deadline<'c>>,
    bytes: u64,
    limit_bytes: u64,
    limit_is_ours: bool,
}

impl<'c, 't> Page<'c, 't> {
    pub fn new(
        exposition: Exposition,
        job: &ScrapeJob,
        deadline: Option<Deadline<'c>>,
        collector: &'c mut Collector<'t>,
    ) -> Self {
        let limit_is_ours = job.limits.body_bytes == 0;
        let limit_bytes = if limit_is_ours { MAX_BODY_BYTES } else { job.limits.body_bytes };
        Self { exposition, collector, deadline, bytes: 0, limit_bytes, limit_is_ours }
    }

    pub fn push(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.bytes += piece.len() as u64;
        // A page of exactly the limit is over it, as in Prometheus.
        if self.bytes >= self.limit_bytes {
            let whose = if self.limit_is_ours { "promwatch's own limit" } else { "body_size_limit" };
            return Err((ScrapeErrorKind::Limit, format!("the page reaches {whose} of {} bytes", self.limit_bytes)));
        }
        if self.deadline.is_some_and(|deadline| deadline.clock.monotonic_ms() > deadline.at_ms) {
            return Err((ScrapeErrorKind::Timeout, format!("out of time after {} bytes of the page", self.bytes)));
        }
        self.exposition.push(piece, self.collector).map_err(Self::bad)
    }

    pub fn finish(self) -> Result<Done, Failure> {
        // Nothing at all is an empty page, even in OpenMetrics.
        let bad = match self.bytes {
            0 => BadLines::default(),
            _ => self.exposition.finish(self.collector).map_err(Self::bad)?,
        };
        Ok(Done { bytes: self.bytes, bad })
    }

    fn bad(line: super::exposition::BadLine) -> Failure {
        let kind = if line.whole_page { ScrapeErrorKind::Limit } else { ScrapeErrorKind::Parse };
        (kind, line.to_string())
    }
}
