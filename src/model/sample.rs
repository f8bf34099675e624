//! What a scrape yields.

use super::Labels;
use std::collections::HashMap;

/// One sample of a page, after relabelling.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// All labels, the target's included; the metric's name is `__name__`.
    pub labels: Labels,
    /// The value, which may be NaN or infinite.
    pub value: f64,
    /// The exposition's own time stamp in milliseconds since 1970, where it gave one and `honor_timestamps` is on.
    pub timestamp_ms: Option<i64>,
    /// The metric's name on the page, where `metric_relabel_configs` changed it: types are looked up by this name.
    pub exposed_name: Option<Box<str>>,
}

impl Sample {
    /// The metric's name as it stood on the page.
    pub fn exposed_name(&self) -> &str {
        self.exposed_name.as_deref().unwrap_or_else(|| self.labels.name())
    }
}

/// A metric family's type, as its `# TYPE` line gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricType {
    /// Only goes up, or starts again at zero.
    Counter,
    /// Any value.
    Gauge,
    /// Quantiles, a sum and a count.
    Summary,
    /// Buckets, a sum and a count.
    Histogram,
    /// Buckets that may go down (OpenMetrics).
    GaugeHistogram,
    /// One of several states (OpenMetrics).
    StateSet,
    /// A constant 1 with descriptive labels (OpenMetrics).
    Info,
    /// Untyped, unknown, or known from a HELP line only.
    Unknown,
}

impl MetricType {
    /// The word that an event's `prom_metric_type` carries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::StateSet => "stateset",
            Self::Info => "info",
            Self::Unknown => "unknown",
        }
    }
}

/// All that one successful scrape of one target gave.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The samples in the page's order, relabelled, within the limits.
    pub samples: Vec<Sample>,
    /// Family name -> type, for each family that has a TYPE, HELP or UNIT line.
    pub types: HashMap<Box<str>, MetricType>,
}

/// What is known of a scrape whether it succeeded or not: the source of `up` and `scrape_*`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// When the scrape started, milliseconds since 1970: the time of every sample without one of its own.
    pub start_ms: i64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Samples on the page before relabelling.
    pub samples_scraped: u64,
    /// Samples that relabelling left.
    pub samples_post_relabel: u64,
    /// Bytes of the page, decompressed.
    pub body_bytes: u64,
    /// Lines that did not parse and were skipped (forgiving mode only).
    pub lines_skipped: u64,
}
