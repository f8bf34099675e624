//! From the series of a page to samples: the target's labels, relabelling, names, limits.
//!
//! What a line's series comes to is worked out once and kept in the target's [`SeriesTable`]; then the line costs a look-up.

use super::exposition::{Context, Known, Refusal, Series, Sink};
use super::table::{SeriesTable, Verdict};
use crate::model::index::Key;
use crate::model::settings::ScrapeJob;
use crate::model::{Intake, LabelsBuilder, MetricType, Target};
use crate::relabel::relabel;

/// The most labels that one series may have, whatever the job's `label_limit`. Prometheus has no such limit; an event's
/// label costs about 30 bytes and an event holds 1 MiB.
const MAX_LABELS: usize = 4096;
/// Samples with a time stamp further ahead than this are dropped (`maxAheadTime` in Prometheus 3.0.1's scrape.go).
const MAX_AHEAD_MS: i64 = 600_000;
/// Before this time, 2024-01-01, the clock tells nothing about what is ahead, in milliseconds since 1970.
const CREDIBLE_MS: i64 = 1_704_067_200_000;

/// Hands the samples of one page of one target to whoever takes them.
pub(super) struct Collector<'a> {
    job: &'a ScrapeJob,
    target_labels: Vec<(&'a str, &'a str)>,
    latest_ms: i64,
    builder: LabelsBuilder,
    intake: &'a mut dyn Intake,
    /// Missing for a page that is read the plain way.
    table: Option<&'a mut SeriesTable>,
    /// What the entry at hand can be known by.
    known_by: Option<Key>,
    /// Samples on the page.
    pub scraped: u64,
    /// Samples that relabelling left.
    pub post_relabel: u64,
    /// Samples dropped because their time stamp lies too far ahead.
    pub too_far_ahead: u64,
}

/// A series whose labels are at hand, or its number.
enum Which<'s> {
    Number(u32),
    Labels { labels: &'s [(&'s str, &'s str)], exposed_name: &'s str },
}

impl<'a> Collector<'a> {
    pub fn new(
        target: &'a Target,
        start_ms: i64,
        intake: &'a mut dyn Intake,
        mut table: Option<&'a mut SeriesTable>,
    ) -> Self {
        let latest_ms = if start_ms < CREDIBLE_MS { i64::MAX } else { start_ms + MAX_AHEAD_MS };
        intake.begin();
        if let Some(table) = &mut table {
            table.begin(intake.generation());
        }
        Self {
            job: &target.job,
            target_labels: target.labels.iter().filter(|(name, _)| !name.starts_with("__")).collect(),
            latest_ms,
            builder: LabelsBuilder::default(),
            intake,
            table,
            known_by: None,
            scraped: 0,
            post_relabel: 0,
            too_far_ahead: 0,
        }
    }

    /// The page is over.
    ///
    /// # Errors
    /// There were more samples than `sample_limit`.
    pub fn check_sample_limit(&self) -> Result<(), String> {
        let limit = self.job.limits.samples;
        if limit == 0 || self.post_relabel <= limit {
            return Ok(());
        }
        Err(format!("sample_limit exceeded ({} samples after relabelling, limit {limit})", self.post_relabel))
    }

    fn keep(&mut self, which: &Which<'_>, value: f64, timestamp_ms: Option<i64>) -> Result<(), Refusal> {
        self.post_relabel += 1;
        let limit = self.job.limits.samples;
        if limit > 0 && self.post_relabel > limit {
            // The page is lost; it is read to its end only to know its size.
            if self.post_relabel == limit + 1 {
                self.intake.begin();
            }
            return Ok(());
        }
        let timestamp_ms = timestamp_ms.filter(|_| self.job.honor_timestamps);
        if timestamp_ms.is_some_and(|at| at > self.latest_ms) {
            self.too_far_ahead += 1;
            return Ok(());
        }
        let taken = match *which {
            Which::Number(series) => self.intake.sample(series, value, timestamp_ms),
            Which::Labels { labels, exposed_name } => self.intake.odd(labels, exposed_name, value, timestamp_ms),
        };
        taken.or_else(whole_page)
    }

    fn note(&mut self, known_by: Option<Key>, verdict: Verdict) {
        if let (Some(key), Some(table)) = (known_by, &mut self.table) {
            table.note(key, verdict);
        }
    }

    /// Takes the labels as they are delivered.
    fn take(&mut self, labels: &[(&str, &str)], exposed: Option<&str>, series: &Series) -> Result<(), Refusal> {
        check(labels, self.job)?;
        let name = labels.iter().find_map(|(name, value)| (*name == "__name__").then_some(*value)).unwrap_or_default();
        let exposed_name = exposed.unwrap_or(name);
        let known_by = self.known_by.take();
        let which = match self.intake.series(labels, exposed_name) {
            Some(number) => {
                self.note(known_by, Verdict::Series(number));
                Which::Number(number)
            }
            None => Which::Labels { labels, exposed_name },
        };
        self.keep(&which, series.value, series.timestamp_ms)
    }
}

/// Bytes that mean the same in different contexts have different keys.
fn kind_of(context: Context) -> u8 {
    match context {
        Context::Sample => 0,
        Context::SampleOfSummary => 1,
        Context::SampleOfHistogram => 2,
        Context::Metadata => 3,
    }
}

impl Sink for Collector<'_> {
    fn known_by(&mut self, raw: Option<(Context, &[u8])>) {
        self.known_by = match (&self.table, raw) {
            (Some(table), Some((context, raw))) => Some(table.key(kind_of(context), raw)),
            _ => None,
        };
    }

    fn find(&mut self, context: Context, raw: &[u8]) -> Option<Known> {
        let table = self.table.as_mut()?;
        let key = table.key(kind_of(context), raw);
        Some(match table.find(&key)? {
            Verdict::Series(number) => Known::Series(number),
            Verdict::Dropped => Known::Dropped,
            Verdict::Family(number, kind) => Known::Family(number, kind),
        })
    }

    fn again(&mut self, known: Known, value: f64, timestamp_ms: Option<i64>) -> Result<(), Refusal> {
        match known {
            Known::Series(number) => {
                self.scraped += 1;
                self.keep(&Which::Number(number), value, timestamp_ms)
            }
            Known::Dropped => {
                self.scraped += 1;
                Ok(())
            }
            Known::Family(number, _) => {
                self.intake.family_again(number);
                Ok(())
            }
        }
    }

    fn sample(&mut self, series: &Series) -> Result<(), Refusal> {
        // A line that only its value sent through the parser, or an exemplar.
        if let (Some(key), Some(table)) = (self.known_by, &mut self.table) {
            match table.find(&key) {
                Some(Verdict::Series(number)) => {
                    return self.again(Known::Series(number), series.value, series.timestamp_ms);
                }
                Some(Verdict::Dropped) => return self.again(Known::Dropped, series.value, series.timestamp_ms),
                _ => {}
            }
        }
        self.scraped += 1;
        let own = own_labels(series)?;
        let mut conflicts = Vec::new();
        let mut pairs = merge(&own, &self.target_labels, self.job.honor_labels, &mut conflicts);
        let renamed = exported_names(conflicts, &pairs);
        if !renamed.is_empty() {
            pairs.extend(renamed.iter().map(|(name, value)| (name.as_str(), *value)));
            sort_by_name(&mut pairs);
        }
        let exposed = exposed_name(series, &pairs);
        if self.job.metric_relabel.is_empty() {
            return self.take(&pairs, exposed, series);
        }
        let mut builder = std::mem::take(&mut self.builder);
        builder.reset_sorted(pairs.iter().copied());
        let kept = relabel(&mut builder, &self.job.metric_relabel);
        let relabelled: Vec<_> = builder.iter().collect();
        let taken = if kept && !relabelled.is_empty() {
            self.take(&relabelled, exposed, series)
        } else {
            let known_by = self.known_by.take();
            self.note(known_by, Verdict::Dropped);
            Ok(())
        };
        self.builder = builder;
        taken
    }

    fn family(&mut self, name: &str, kind: Option<MetricType>) -> Result<(), Refusal> {
        let number = self.intake.family(name, kind).or_else(whole_page)?;
        if let Some(number) = number {
            let known_by = self.known_by.take();
            self.note(known_by, Verdict::Family(number, kind));
        }
        Ok(())
    }
}

fn whole_page<T>(text: String) -> Result<T, Refusal> {
    Err(Refusal { whole_page: true, text })
}

/// The name that a series is looked up by: the one before its braces, even if a label `__name__` gives it another one.
fn exposed_name<'s>(series: &'s Series, labels: &[(&'s str, &'s str)]) -> Option<&'s str> {
    let label = || labels.iter().find_map(|(name, value)| (*name == "__name__").then_some(*value));
    Some(series.name()).filter(|name| !name.is_empty()).or_else(label)
}

/// The page's labels of a series, sorted, names once. A name that is given twice has the last value; if any value is
/// empty the label is empty, which hides a target's label when `honor_labels` is on.
fn own_labels(series: &Series) -> Result<Vec<(&str, &str)>, Refusal> {
    let mut own = vec![("__name__", series.name())];
    own.extend(series.labels());
    if own.len() > MAX_LABELS {
        return whole_page(format!("{} labels on one series, at most {MAX_LABELS} are read", own.len() - 1));
    }
    if !own.is_sorted_by(|(a, _), (b, _)| a < b) {
        // A stable sort: the page's order decides between equal names.
        sort_by_name(&mut own);
        own.dedup_by(|later, kept| {
            if later.0 != kept.0 {
                return false;
            }
            kept.1 = if kept.1.is_empty() { "" } else { later.1 };
            true
        });
    }
    Ok(own)
}

/// Equal names keep their order.
fn sort_by_name<'s>(labels: &mut [(&'s str, &'s str)]) {
    labels.sort_by_key(|(name, _)| *name);
}

/// Merges two sorted lists (`mutateSampleLabels` in Prometheus 3.0.1's scrape.go). Empty labels are left out. What the
/// target's labels push aside goes to `conflicts`.
fn merge<'s>(
    own: &[(&'s str, &'s str)],
    target: &[(&'s str, &'s str)],
    honor_labels: bool,
    conflicts: &mut Vec<(&'s str, &'s str)>,
) -> Vec<(&'s str, &'s str)> {
    let mut merged = Vec::with_capacity(own.len() + target.len());
    let mut target = target.iter().copied().peekable();
    for &(name, value) in own {
        while let Some(earlier) = target.next_if(|(other, _)| *other < name) {
            merged.push(earlier);
        }
        match target.next_if(|(other, _)| *other == name) {
            Some(pair) if !honor_labels => {
                merged.push(pair);
                if !value.is_empty() {
                    conflicts.push((name, value));
                }
            }
            _ if value.is_empty() => {}
            _ => merged.push((name, value)),
        }
    }
    merged.extend(target);
    merged
}

/// Gives labels that were pushed aside a name with as many `exported_` before it as it takes to be new, shorter names
/// first (`resolveConflictingExposedLabels`).
fn exported_names<'s>(mut conflicts: Vec<(&'s str, &'s str)>, labels: &[(&str, &str)]) -> Vec<(String, &'s str)> {
    conflicts.sort_by_key(|(name, _)| name.len());
    let mut renamed: Vec<(String, &str)> = Vec::with_capacity(conflicts.len());
    for (name, value) in conflicts {
        let mut name = format!("exported_{name}");
        while labels.binary_search_by(|(other, _)| (*other).cmp(&name)).is_ok()
            || renamed.iter().any(|(other, _)| *other == name)
        {
            name.insert_str(0, "exported_");
        }
        renamed.push((name, value));
    }
    renamed
}

/// Names and limits, in the order in which Prometheus looks at them.
fn check(labels: &[(&str, &str)], job: &ScrapeJob) -> Result<(), Refusal> {
    let Some((_, metric)) = labels.iter().find(|(name, _)| *name == "__name__") else {
        return Err(Refusal { whole_page: false, text: "a sample without a metric name".to_owned() });
    };
    let bad_name = |what: &str, name: &str| {
        Err(Refusal { whole_page: false, text: format!("{what} `{}` is not allowed", shorten(name)) })
    };
    if job.legacy_names && !is_legacy_name(metric, true) {
        return bad_name("the metric name", metric);
    }
    for (name, _) in labels {
        if name.is_empty() || (job.legacy_names && !is_legacy_name(name, false)) {
            return bad_name("the label name", name);
        }
    }
    let limits = &job.limits;
    let (metric, count) = (shorten(metric), labels.len());
    if limits.labels > 0 && count as u64 > limits.labels {
        return whole_page(format!(
            "label_limit exceeded (metric: {metric}, number of labels: {count}, limit: {})",
            limits.labels
        ));
    }
    for (name, value) in labels {
        let (name_bytes, value_bytes) = (name.len() as u64, value.len() as u64);
        let name = shorten(name);
        if limits.label_name_bytes > 0 && name_bytes > limits.label_name_bytes {
            return whole_page(format!(
                "label_name_length_limit exceeded (metric: {metric}, label name: {name}, length: {name_bytes}, limit: {})",
                limits.label_name_bytes
            ));
        }
        if limits.label_value_bytes > 0 && value_bytes > limits.label_value_bytes {
            return whole_page(format!(
                "label_value_length_limit exceeded (metric: {metric}, label name: {name}, value: {}, length: {value_bytes}, limit: {})",
                shorten(value),
                limits.label_value_bytes
            ));
        }
    }
    Ok(())
}

fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(50)]
}

fn is_legacy_name(name: &str, colon: bool) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colon && byte == b':');
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(fits)
}
