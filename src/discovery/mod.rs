//! Where targets come from: groups in the configuration, files, HTTP, DNS, and this machine itself.
//!
//! Each source gives groups of addresses with labels. The groups of a job go through its relabelling rules ([`populate`]) and
//! become its targets. A source that fails keeps the groups that it gave last:
//!
//! ```text
//! (nothing known) --good answer--> groups --good answer--> newer groups
//!        |  failure: error            |  failure: the same groups, and an error
//!                                     |  reload: the same groups, if the source asks the same as before
//! ```
//!
//! One [`Discoverer::refresh`] asks one source one thing (one name, one URL, one set of files), within a few seconds. Jobs that
//! have `static_configs` only need none, and cost nothing after the start.
//!
//! Refuses: every service discovery of Prometheus but `file_sd_configs`, `http_sd_configs` and `dns_sd_configs`; watching files
//! with inotify (their stamps are compared every 5 seconds); keeping dropped targets.
//!
//! Limits: [`MAX_LIST_BYTES`] and 50,000 groups for a file or an answer, [`MAX_TARGETS`] and [`MAX_LABEL_BYTES`] for a job after its rules, 10 seconds for a request (2 after one that failed late), [`MAX_FAILURES`]
//! targets named in errors per job, and `target_limit`: a job with more targets has every scrape of each fail, as in Prometheus.

mod dns;
mod file;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod http;
mod populate;
#[cfg(test)]
mod tests;

use crate::env::{Env, TokenCache};
use crate::model::settings::{Discovery, ScrapeJob, TargetGroup};
use crate::model::{Endpoint, LabelsBuilder, NAME_BYTES_MAX, TEXT_BYTES_MAX, Target, short};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

/// The longest file or answer with target groups.
pub const MAX_LIST_BYTES: usize = 2 << 20;
/// The most targets of one job that an error tells of by name.
pub const MAX_FAILURES: usize = 10;

/// The most targets of a job; the others are left out and counted in an error. One loop could not scrape more.
pub const MAX_TARGETS: usize = 10_000;
/// The most that the labels of a job's targets may take, in bytes.
pub const MAX_LABEL_BYTES: usize = 16 << 20;

/// Knows the targets of all jobs and keeps them fresh.
pub struct Discoverer {
    jobs: Vec<Job>,
    sources: Vec<Source>,
    tokens: TokenCache,
    /// The jobs' targets, one after the other.
    targets: Vec<Rc<Target>>,
}

/// What is wrong with one source of targets, or with one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    /// The job.
    pub job: String,
    /// The file, URL, name or place in the configuration; empty for the job as a whole.
    pub source: String,
    /// What is wrong.
    pub text: String,
}

struct Job {
    settings: Rc<ScrapeJob>,
    targets: Vec<Rc<Target>>,
    failures: Vec<SourceError>,
}

struct Source {
    /// Index of its job.
    job: usize,
    kind: Kind,
    /// When it is asked next; nothing for what never changes.
    due_ms: Option<u64>,
    /// What it gave last: its groups by the file that they are from (one without a name for the other sources).
    groups: BTreeMap<String, Vec<TargetGroup>>,
    /// Where it failed (file, URL, name) and why.
    errors: Vec<(String, String)>,
}

enum Kind {
    Static,
    /// promwatch's own: the endpoint is no address.
    Own(Endpoint),
    File(file::Files),
    Http(http::List),
    Dns(dns::Name),
}

impl Source {
    /// Knows from here on what a source of the same kind knew.
    fn take_over(&mut self, known: Source) {
        let refresh_ms = self.kind.refresh_ms().copied();
        *self = Source { job: self.job, ..known };
        if let (Some(new), Some(old)) = (refresh_ms, self.kind.refresh_ms())
            && new != *old
        {
            *old = new;
            self.due_ms = Some(0);
        }
    }
}

impl Kind {
    /// Whether the other asks the same in the same way, however often.
    fn is_same(&self, other: &Kind) -> bool {
        match (self, other) {
            (Kind::File(this), Kind::File(other)) => this.is_same(other),
            (Kind::Http(this), Kind::Http(other)) => this.is_same(other),
            (Kind::Dns(this), Kind::Dns(other)) => this.is_same(other),
            _ => false,
        }
    }

    fn refresh_ms(&mut self) -> Option<&mut u64> {
        match self {
            Kind::Static | Kind::Own(_) => None,
            Kind::File(files) => Some(&mut files.refresh_ms),
            Kind::Http(list) => Some(&mut list.refresh_ms),
            Kind::Dns(name) => Some(&mut name.refresh_ms),
        }
    }
}

/// What a source answered.
struct Answer {
    /// The groups, by file; nothing when nothing was learnt.
    groups: Option<BTreeMap<String, Vec<TargetGroup>>>,
    errors: Vec<(String, String)>,
    next_due_ms: u64,
}

impl Discoverer {
    /// Takes the jobs. Static targets are there at once; nothing is read before the first [`Self::refresh`].
    pub fn new(jobs: Vec<Rc<ScrapeJob>>) -> Self {
        let mut discoverer =
            Self { jobs: Vec::new(), sources: Vec::new(), tokens: TokenCache::default(), targets: Vec::new() };
        discoverer.reload(jobs);
        discoverer
    }

    /// Takes other jobs. A source that asks the same in the same way as one before knows what that one knew, so that a list
    /// which is out of reach just now does not end the scrapes of its targets; these are built anew, by the present rules.
    /// Of equal sources each is matched with one, those of a job that has the same name first. Every other source starts
    /// with nothing. A new refresh interval has a source asked at once. All targets are new `Rc`s.
    pub fn reload(&mut self, jobs: Vec<Rc<ScrapeJob>>) {
        let old_jobs = std::mem::take(&mut self.jobs);
        let old = std::mem::take(&mut self.sources);
        let mut old: Vec<Option<Source>> = old.into_iter().filter(|s| s.due_ms.is_some()).map(Some).collect();
        for (job, settings) in jobs.iter().enumerate() {
            for discovery in &settings.discovery {
                add_sources(job, discovery, &mut self.sources);
            }
        }
        let mut unmatched: Vec<usize> = (0..self.sources.len()).collect();
        for by_name in [true, false] {
            // Most configurations keep their order, so the search goes on where it last found something.
            let mut next = 0;
            unmatched.retain(|at| {
                let source = &mut self.sources[*at];
                let name = &jobs[source.job].job_name;
                let fits = |at: &usize| {
                    old[*at].as_ref().is_some_and(|old| {
                        old.kind.is_same(&source.kind) && (!by_name || old_jobs[old.job].settings.job_name == *name)
                    })
                };
                let found = (next..old.len()).chain(0..next).find(fits);
                next = found.map_or(next, |at| at + 1);
                let known = found.and_then(|at| old[at].take());
                known.map(|known| source.take_over(known)).is_none()
            });
        }
        // Those of grants that are gone must go.
        self.tokens = TokenCache::default();
        self.jobs =
            jobs.into_iter().map(|settings| Job { settings, targets: Vec::new(), failures: Vec::new() }).collect();
        for job in 0..self.jobs.len() {
            self.build(job);
        }
        self.collect();
    }

    /// When the next refresh of any source is due, in monotonic milliseconds; nothing when no source ever needs one. 0 before
    /// the first.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.sources.iter().filter_map(|source| source.due_ms).min()
    }

    /// One unit of work: refreshes the most overdue source, if one is due. Says whether the targets changed. Targets that did not
    /// change are the same `Rc` as before.
    pub fn refresh(&mut self, env: Env<'_>) -> bool {
        let now_ms = env.clock.monotonic_ms();
        let due = |source: &&mut Source| source.due_ms.is_some_and(|due_ms| due_ms <= now_ms);
        let Some(source) = self.sources.iter_mut().filter(due).min_by_key(|source| source.due_ms) else { return false };
        let answer = match &mut source.kind {
            Kind::Static | Kind::Own(_) => return false,
            Kind::File(files) => files.refresh(&source.groups, env),
            Kind::Http(list) => list.refresh(&mut self.tokens, env),
            Kind::Dns(name) => name.refresh(env),
        };
        source.due_ms = Some(answer.next_due_ms);
        source.errors = answer.errors;
        for (_, text) in &mut source.errors {
            *text = told(text);
        }
        let Some(groups) = answer.groups.filter(|groups| *groups != source.groups) else { return false };
        source.groups = groups;
        let job = source.job;
        self.build(job) && self.collect()
    }

    /// All targets, relabelled and without duplicates, in the order of the jobs.
    pub fn targets(&self) -> &[Rc<Target>] {
        &self.targets
    }

    /// What is wrong right now: sources that failed last time, targets that could not be built, jobs over their `target_limit`.
    pub fn errors(&self) -> Vec<SourceError> {
        let mut errors = Vec::new();
        for (at, job) in self.jobs.iter().enumerate() {
            for (source, text) in
                self.sources.iter().filter(|source| source.job == at).flat_map(|source| &source.errors)
            {
                errors.push(SourceError {
                    job: job.settings.job_name.clone(),
                    source: source.clone(),
                    text: text.clone(),
                });
            }
            errors.extend_from_slice(&job.failures);
        }
        errors
    }

    /// Builds a job's targets from what its sources gave. Says whether they changed.
    fn build(&mut self, at: usize) -> bool {
        let job = &mut self.jobs[at];
        let settings = &job.settings;
        let (mut targets, mut seen, mut failed) = (Vec::new(), HashSet::new(), 0);
        let (mut left_out, mut label_bytes) = (0_u64, 0);
        job.failures.clear();
        let mut labels = LabelsBuilder::default();
        for source in self.sources.iter().filter(|source| source.job == at) {
            let own = if let Kind::Own(endpoint) = &source.kind { Some(endpoint) } else { None };
            let remote = matches!(source.kind, Kind::Http(_) | Kind::Dns(_));
            for group in source.groups.values().flatten() {
                for (index, address) in group.targets.iter().enumerate() {
                    match populate::populate(settings, group, address, own, remote, &mut labels) {
                        Ok(None) => {}
                        Ok(Some((target, key))) => {
                            if targets.len() >= MAX_TARGETS || label_bytes > MAX_LABEL_BYTES {
                                left_out += 1;
                            } else if seen.insert(key) {
                                label_bytes += target.labels.heap_bytes();
                                targets.push(target);
                            }
                        }
                        Err(text) => {
                            failed += 1;
                            if failed <= MAX_FAILURES {
                                job.failures.push(SourceError {
                                    job: settings.job_name.clone(),
                                    source: group.source.clone(),
                                    text: told(&format!(
                                        "target {index} ({:?}): {text}",
                                        short(address, NAME_BYTES_MAX / 2)
                                    )),
                                });
                            }
                        }
                    }
                }
            }
        }
        let whole_job = |text| SourceError { job: settings.job_name.clone(), source: String::new(), text };
        if failed > MAX_FAILURES {
            job.failures.push(whole_job(format!("{} more targets are no good", failed - MAX_FAILURES)));
        }
        if left_out > 0 {
            let text = format!("{left_out} targets are left out: {} are as many as one job can have", targets.len());
            job.failures.push(whole_job(text));
        }
        let limit = settings.limits.targets;
        if limit > 0 && targets.len() as u64 + left_out > limit {
            let text = format!(
                "target_limit exceeded (number of targets: {}, limit: {limit})",
                targets.len() as u64 + left_out
            );
            job.failures.push(whole_job(text.clone()));
            let text: Rc<str> = text.into();
            targets.iter_mut().for_each(|target| target.refused = Some(text.clone()));
        }
        let new = reuse(&job.targets, targets);
        let changed = new.len() != job.targets.len() || !new.iter().zip(&job.targets).all(|(a, b)| Rc::ptr_eq(a, b));
        job.targets = new;
        changed
    }

    fn collect(&mut self) -> bool {
        self.targets = self.jobs.iter().flat_map(|job| &job.targets).cloned().collect();
        true
    }
}

/// An error's text within bounds: a list may hold anything, and errors are logged and shown.
fn told(text: &str) -> String {
    short(text, TEXT_BYTES_MAX)
}

/// New targets, those that were there before as the same `Rc`.
fn reuse(old: &[Rc<Target>], new: Vec<Target>) -> Vec<Rc<Target>> {
    let hashes = RandomState::new();
    let mut places: HashMap<u64, u64> = HashMap::new();
    let mut taken = vec![false; old.len()];
    // Most lists change little and keep their order, so the next one is mostly the one that follows.
    let mut next = 0;
    let mut out = Vec::with_capacity(new.len());
    for target in new {
        let is_same = |at: &usize| !taken[*at] && same(&old[*at], &target);
        let found = Some(next).filter(|at| *at < old.len()).filter(is_same).or_else(|| {
            if places.is_empty() {
                places.extend(old.iter().zip(0..).map(|(target, at)| (hashes.hash_one(target.identity()), at)));
            }
            places.get(&hashes.hash_one(target.identity())).map(|at| *at as usize).filter(is_same)
        });
        out.push(match found {
            None => Rc::new(target),
            Some(at) => {
                taken[at] = true;
                next = at + 1;
                old[at].clone()
            }
        });
    }
    out
}

fn same(a: &Target, b: &Target) -> bool {
    #[cfg(test)]
    tests::COMPARED.set(tests::COMPARED.get() + 1);
    (&a.labels, &a.endpoint, a.interval_ms, a.timeout_ms, &a.refused)
        == (&b.labels, &b.endpoint, b.interval_ms, b.timeout_ms, &b.refused)
}

fn add_sources(job: usize, discovery: &Discovery, sources: &mut Vec<Source>) {
    let mut add = |kind, due_ms, groups: Vec<TargetGroup>| {
        let groups = BTreeMap::from([(String::new(), groups)]);
        sources.push(Source { job, kind, due_ms, groups, errors: Vec::new() });
    };
    match discovery {
        Discovery::Static(group) => add(Kind::Static, None, vec![group.clone()]),
        Discovery::Host => add(Kind::Own(Endpoint::Host), None, vec![this_machine("host", BTreeMap::new())]),
        Discovery::Textfile(dir) => {
            let labels = BTreeMap::from([("__meta_textfile_directory".to_owned(), dir.display().to_string())]);
            add(Kind::Own(Endpoint::Textfile(dir.clone())), None, vec![this_machine("textfile", labels)]);
        }
        Discovery::File { patterns, refresh_ms } => {
            add(Kind::File(file::Files::new(patterns.clone(), *refresh_ms)), Some(0), Vec::new());
        }
        Discovery::Http { url, refresh_ms, http } => {
            add(Kind::Http(http::List::new(url.clone(), *refresh_ms, http.clone())), Some(0), Vec::new());
        }
        Discovery::Dns { names, kind, port, refresh_ms } => {
            for name in names {
                add(Kind::Dns(dns::Name::new(name.clone(), *kind, *port, *refresh_ms)), Some(0), Vec::new());
            }
        }
    }
}

/// The host's name is not known here: `instance` is `localhost` unless a rule says otherwise.
fn this_machine(source: &str, labels: BTreeMap<String, String>) -> TargetGroup {
    TargetGroup { targets: vec!["localhost".to_owned()], labels, source: source.to_owned() }
}
