//! From the series of a page to samples: the target's labels, relabelling, names, limits.

use super::exposition::{Refusal, Series, Sink};
use crate::model::settings::ScrapeJob;
use crate::model::{Labels, LabelsBuilder, MetricType, Page, Sample, Target};
use crate::relabel::relabel;

/// The most labels that one series may have, whatever the job's `label_limit`. Prometheus has no such limit; an event's
/// label costs about 30 bytes and an event holds 1 MiB.
const MAX_LABELS: usize = 4096;
/// The most memory that a page's samples and families may take, in bytes: about 300,000 samples.
const MAX_PAGE_BYTES: usize = 64 << 20;
/// What the allocator adds to an allocation, in bytes, roughly.
const ALLOCATION_BYTES: usize = 16;
/// Samples with a time stamp further ahead than this are dropped (`maxAheadTime` in Prometheus 3.0.1's scrape.go).
const MAX_AHEAD_MS: i64 = 600_000;
/// Before this time, 2024-01-01, the clock tells nothing about what is ahead, in milliseconds since 1970.
const CREDIBLE_MS: i64 = 1_704_067_200_000;

/// Collects the samples of one page of one target.
pub(super) struct Collector<'a> {
    job: &'a ScrapeJob,
    target_labels: Vec<(&'a str, &'a str)>,
    latest_ms: i64,
    builder: LabelsBuilder,
    bytes: usize,
    pub page: Page,
    /// Samples on the page.
    pub scraped: u64,
    /// Samples that relabelling left.
    pub post_relabel: u64,
    /// Samples dropped because their time stamp lies too far ahead.
    pub too_far_ahead: u64,
}

impl<'a> Collector<'a> {
    pub fn new(target: &'a Target, start_ms: i64) -> Self {
        let latest_ms = if start_ms < CREDIBLE_MS { i64::MAX } else { start_ms + MAX_AHEAD_MS };
        Self {
            job: &target.job,
            target_labels: target.labels.iter().filter(|(name, _)| !name.starts_with("__")).collect(),
            latest_ms,
            builder: LabelsBuilder::default(),
            bytes: 0,
            page: Page::default(),
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

    fn keep(&mut self, labels: Labels, exposed_name: Option<&str>, series: &Series) -> Result<(), Refusal> {
        self.post_relabel += 1;
        let limit = self.job.limits.samples;
        if limit > 0 && self.post_relabel > limit {
            // The page is lost; it is read to its end only to know its size.
            self.page.samples = Vec::new();
            return Ok(());
        }
        let timestamp_ms = series.timestamp_ms.filter(|_| self.job.honor_timestamps);
        if timestamp_ms.is_some_and(|at| at > self.latest_ms) {
            self.too_far_ahead += 1;
            return Ok(());
        }
        self.account(size_of::<Sample>() + labels.heap_bytes() + exposed_name.map_or(0, str::len) + ALLOCATION_BYTES)?;
        self.page.samples.push(Sample {
            labels,
            value: series.value,
            timestamp_ms,
            exposed_name: exposed_name.map(Box::from),
        });
        Ok(())
    }

    fn account(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.bytes += bytes;
        if self.bytes > MAX_PAGE_BYTES {
            return whole_page(format!("the page's samples take more than {} MiB of memory", MAX_PAGE_BYTES >> 20));
        }
        Ok(())
    }
}

impl Sink for Collector<'_> {
    fn sample(&mut self, series: &Series) -> Result<(), Refusal> {
        self.scraped += 1;
        let own = own_labels(series)?;
        let mut conflicts = Vec::new();
        let mut pairs = merge(&own, &self.target_labels, self.job.honor_labels, &mut conflicts);
        let renamed = exported_names(conflicts, &pairs);
        if !renamed.is_empty() {
            pairs.extend(renamed.iter().map(|(name, value)| (name.as_str(), *value)));
            sort_by_name(&mut pairs);
        }
        if self.job.metric_relabel.is_empty() {
            check(&pairs, self.job)?;
            let labels = Labels::from_sorted(&pairs);
            let renamed = exposed_name(series, &pairs).filter(|exposed| *exposed != labels.name());
            return self.keep(labels, renamed, series);
        }
        self.builder.reset_sorted(pairs.iter().copied());
        if !relabel(&mut self.builder, &self.job.metric_relabel) {
            return Ok(());
        }
        let relabelled: Vec<_> = self.builder.iter().collect();
        if relabelled.is_empty() {
            return Ok(());
        }
        check(&relabelled, self.job)?;
        let labels = Labels::from_sorted(&relabelled);
        let renamed = exposed_name(series, &pairs).filter(|exposed| *exposed != labels.name());
        self.keep(labels, renamed, series)
    }

    fn family(&mut self, name: &str, kind: Option<MetricType>) -> Result<(), Refusal> {
        match (self.page.types.get_mut(name), kind) {
            (Some(known), Some(kind)) => *known = kind,
            (Some(_), None) => {}
            (None, _) => {
                self.account(name.len() + 2 * size_of::<Box<str>>() + ALLOCATION_BYTES)?;
                self.page.types.insert(name.into(), kind.unwrap_or(MetricType::Unknown));
            }
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
