//! Where targets come from: static groups, files, HTTP, DNS, and this machine itself.

use crate::env::Env;
use crate::model::Target;
use crate::model::settings::ScrapeJob;
use std::rc::Rc;

/// Knows the targets of all jobs and keeps them fresh.
pub struct Discoverer {
    _jobs: Vec<Rc<ScrapeJob>>,
    targets: Vec<Rc<Target>>,
}

/// What is wrong with one source of targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    /// The job.
    pub job: String,
    /// The file, URL, name or place in the configuration.
    pub source: String,
    /// What is wrong.
    pub text: String,
}

impl Discoverer {
    /// Takes the jobs; nothing is read before the first [`Self::refresh`].
    pub fn new(jobs: Vec<Rc<ScrapeJob>>) -> Self {
        Self { _jobs: jobs, targets: Vec::new() }
    }

    /// When the next refresh of any source is due, in monotonic milliseconds; nothing when no source ever needs one.
    pub fn next_due_ms(&self) -> Option<u64> {
        None
    }

    /// One unit of work: refreshes the most overdue source. Says whether the set of targets changed.
    pub fn refresh(&mut self, _env: Env<'_>) -> bool {
        false
    }

    /// All targets, relabelled, without duplicates, within `target_limit`.
    pub fn targets(&self) -> &[Rc<Target>] {
        &self.targets
    }

    /// What is wrong right now, one entry per source and problem.
    pub fn errors(&self) -> Vec<SourceError> {
        Vec::new()
    }
}
