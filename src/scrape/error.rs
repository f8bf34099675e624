//! Why a scrape gave nothing.

use crate::env::{NetError, NetErrorKind};
use crate::model::{NAME_BYTES_MAX, TEXT_BYTES_MAX, Target, short};
use std::fmt;

/// A scrape that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeError {
    /// What failed, for counting.
    pub kind: ScrapeErrorKind,
    /// For people: the target, the line and column where there is one, what was found, at most 2 KiB beside the job's name. Holds no credentials.
    pub text: String,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScrapeErrorKind {
    /// The name has no address.
    Resolve,
    /// Nobody answers there.
    Connect,
    /// Out of time.
    Timeout,
    /// TLS or its certificates.
    Tls,
    /// The connection broke, or the answer is not HTTP.
    Broken,
    /// A status other than 200.
    Status,
    /// The compression is broken, or the format is one that is not read.
    Encoding,
    /// The page does not parse, or has a name that is not allowed.
    Parse,
    /// A limit of the job, or one of promwatch's own.
    Limit,
    /// A secret's file, a certificate, the URL, or the credentials at the token endpoint.
    Config,
    /// promwatch was asked to stop.
    Stopped,
}

impl ScrapeErrorKind {
    /// The reason's name in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Broken => "broken",
            Self::Status => "status",
            Self::Encoding => "encoding",
            Self::Parse => "parse",
            Self::Limit => "limit",
            Self::Config => "config",
            Self::Stopped => "stopped",
        }
    }
}

impl ScrapeError {
    pub(super) fn new(target: &Target, kind: ScrapeErrorKind, text: &str) -> Self {
        // Others choose the name and what is quoted of an answer.
        let (instance, text) = (short(target.instance(), NAME_BYTES_MAX), short(text, TEXT_BYTES_MAX));
        Self { kind, text: format!("{} {instance}: {text}", target.job.job_name) }
    }

    pub(super) fn from_net(target: &Target, error: &NetError) -> Self {
        let kind = match error.kind {
            NetErrorKind::Resolve => ScrapeErrorKind::Resolve,
            NetErrorKind::Connect => ScrapeErrorKind::Connect,
            NetErrorKind::Timeout => ScrapeErrorKind::Timeout,
            NetErrorKind::Tls | NetErrorKind::CertificateDates => ScrapeErrorKind::Tls,
            NetErrorKind::Broken | NetErrorKind::Protocol | NetErrorKind::Refused => ScrapeErrorKind::Broken,
            NetErrorKind::Config => ScrapeErrorKind::Config,
            NetErrorKind::Stopped => ScrapeErrorKind::Stopped,
        };
        Self::new(target, kind, &error.text)
    }
}

impl fmt::Display for ScrapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ScrapeError {}
