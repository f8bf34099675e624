//! The series that a scrape gives about itself: `up` and `scrape_*`.

use super::Scraped;
use crate::model::{LabelsBuilder, Sample, Target};

/// `up` and the `scrape_*` series as Prometheus makes them for every scrape, failed ones included, at the scrape's start.
///
/// No series is remembered from one scrape to the next, so `scrape_series_added` counts all of them, as it does in the
/// CloudWatch agent.
pub fn report_samples<T>(target: &Target, scraped: &Scraped<T>) -> Vec<Sample> {
    let report = &scraped.report;
    let mut labels = LabelsBuilder::from_labels(&target.labels);
    [
        ("up", if scraped.outcome.is_ok() { 1.0 } else { 0.0 }),
        ("scrape_duration_seconds", report.duration_ms as f64 / 1000.0),
        ("scrape_samples_scraped", report.samples_scraped as f64),
        ("scrape_samples_post_metric_relabeling", report.samples_post_relabel as f64),
        ("scrape_series_added", report.samples_post_relabel as f64),
    ]
    .map(|(name, value)| {
        labels.set("__name__", name);
        Sample { labels: labels.build(), value, timestamp_ms: None, exposed_name: None }
    })
    .into()
}
