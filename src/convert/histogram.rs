//! Histograms as the `Values` and `Counts` of the embedded metric format.

use super::key::Key;
use crate::model::push_decimal;

/// The most values of one metric in an event (Embedded Metric Format, specification).
const MAX_VALUES: usize = 100;

/// The parts of one histogram of one page.
pub(super) struct Histogram {
    /// Its labels but `le`.
    pub labels: Key,
    pub first_sample: u32,
    /// The longest time that a delta took.
    pub span_ms: u64,
    /// How many samples it has.
    pub samples: u32,
    /// Upper bounds and cumulative increases.
    buckets: Vec<(f64, f64)>,
    sum: Option<f64>,
    /// A part has no delta yet, so that the buckets do not fit together.
    incomplete: bool,
}

/// What was observed since the last scrape: bucket middles and how many observations each stands for.
#[derive(Debug, PartialEq)]
pub(super) struct Distribution {
    values: Vec<f64>,
    counts: Vec<f64>,
    min: f64,
    max: f64,
    sum: f64,
}

impl Histogram {
    pub(super) fn new(labels: Key, first_sample: u32) -> Self {
        Self { labels, first_sample, span_ms: 0, samples: 0, buckets: Vec::new(), sum: None, incomplete: false }
    }

    /// Takes a `_bucket`, `_sum` or `_count`; the count is the last bucket's already.
    pub(super) fn add(&mut self, name: &str, le: Option<&str>, delta: Option<(f64, u64)>) {
        self.samples += 1;
        let Some((delta, span_ms)) = delta else {
            self.incomplete |= !name.ends_with("_sum");
            return;
        };
        self.span_ms = self.span_ms.max(span_ms);
        if name.ends_with("_sum") {
            self.sum = Some(delta);
        } else if name.ends_with("_bucket") {
            match le.and_then(|le| le.parse::<f64>().ok()) {
                Some(bound) if !bound.is_nan() => self.buckets.push((bound, delta)),
                _ => self.incomplete = true,
            }
        }
    }

    /// Nothing, if nothing was observed or not all parts are known.
    pub(super) fn distribution(&self) -> Option<Distribution> {
        if self.incomplete {
            return None;
        }
        let mut buckets = self.buckets.clone();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut found = Distribution { values: Vec::new(), counts: Vec::new(), min: 0.0, max: 0.0, sum: 0.0 };
        // The lowest bucket reaches down to 0, or, if its bound is not above 0, is taken for its bound.
        let mut lower = buckets.first().map_or(0.0, |(bound, _)| bound.min(0.0));
        let mut below = 0.0;
        for (bound, cumulative) in buckets {
            let count = cumulative - below;
            let upper = if bound.is_finite() { bound } else { lower };
            if count > 0.0 && lower.is_finite() {
                if found.values.is_empty() {
                    found.min = lower;
                }
                found.max = upper;
                found.values.push(lower + (upper - lower) / 2.0);
                found.counts.push(count);
                below = cumulative;
            }
            lower = upper;
        }
        let guess = || found.values.iter().zip(&found.counts).map(|(value, count)| value * count).sum();
        found.sum = self.sum.filter(|sum| sum.is_finite()).unwrap_or_else(guess);
        found.shorten();
        let finite = found.values.iter().chain(&found.counts).chain([&found.sum]).all(|number| number.is_finite());
        (finite && !found.values.is_empty()).then_some(found)
    }
}

impl Distribution {
    /// Joins neighbours until the values are few enough.
    fn shorten(&mut self) {
        let step = self.values.len().div_ceil(MAX_VALUES);
        if step <= 1 {
            return;
        }
        let joined = self.values.chunks(step).zip(self.counts.chunks(step)).map(|(values, counts)| {
            let count: f64 = counts.iter().sum();
            (values.iter().zip(counts).map(|(value, n)| value * (n / count)).sum::<f64>(), count)
        });
        (self.values, self.counts) = joined.unzip();
    }

    /// Appends the JSON object that CloudWatch takes for a distribution.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"Values\":[");
        push_list(out, &self.values);
        out.extend_from_slice(b"],\"Counts\":[");
        push_list(out, &self.counts);
        out.push(b']');
        let count = self.counts.iter().sum();
        for (name, number) in [("Max", self.max), ("Min", self.min), ("Count", count), ("Sum", self.sum)] {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            push_decimal(out, number);
        }
        out.push(b'}');
    }
}

fn push_list(out: &mut Vec<u8>, numbers: &[f64]) {
    for (at, number) in numbers.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push_decimal(out, *number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(buckets: &[(&str, f64)], sum: Option<f64>) -> Option<Distribution> {
        let mut histogram = Histogram::new([0, 0], 0);
        for (le, delta) in buckets {
            histogram.add("h_bucket", Some(le), Some((*delta, 1000)));
        }
        if let Some(sum) = sum {
            histogram.add("h_sum", None, Some((sum, 1000)));
        }
        histogram.distribution()
    }

    #[test]
    fn buckets_become_their_middles() {
        let found = histogram(&[("0.1", 2.0), ("0.5", 2.0), ("1.0", 5.0), ("+Inf", 6.0)], Some(4.5)).unwrap();
        let mut text = Vec::new();
        found.write(&mut text);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#"{"Values":[0.05,0.75,1],"Counts":[2,3,1],"Max":1,"Min":0,"Count":6,"Sum":4.5}"#
        );
    }

    #[test]
    fn odd_histograms_give_nothing_or_what_is_certain() {
        assert_eq!(histogram(&[("1", 0.0), ("+Inf", 0.0)], Some(0.0)), None);
        assert_eq!(histogram(&[], Some(1.0)), None);
        assert_eq!(histogram(&[("x", 1.0)], None), None);
        // Counts that are not cumulative, a negative first bound, no sum, no finite bound.
        let found = histogram(&[("-2", 1.0), ("0", 0.0), ("4", 3.0)], None).unwrap();
        assert_eq!((found.values, found.counts, found.min, found.sum), (vec![-2.0, 2.0], vec![1.0, 2.0], -2.0, 2.0));
        assert_eq!(histogram(&[("+Inf", 3.0)], None).unwrap().values, [0.0]);
    }

    #[test]
    fn more_than_a_hundred_buckets_are_joined() {
        let bounds: Vec<String> = (1..=250).map(|bound| bound.to_string()).collect();
        let buckets: Vec<(&str, f64)> = bounds.iter().zip(1..).map(|(le, n)| (le.as_str(), f64::from(n))).collect();
        let found = histogram(&buckets, None).unwrap();
        assert_eq!((found.values.len(), found.counts.iter().sum::<f64>(), found.max), (84, 250.0, 250.0));
        assert!((found.values[0] - 1.5).abs() < 1e-12);
    }

    #[test]
    fn a_part_without_a_delta_spoils_the_whole() {
        let mut histogram = Histogram::new([0, 0], 0);
        histogram.add("h_bucket", Some("1"), Some((1.0, 0)));
        histogram.add("h_bucket", Some("2"), None);
        assert_eq!(histogram.distribution(), None);
    }
}
