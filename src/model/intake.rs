//! What takes a page while it is read: series once, then their numbers.

use super::{Labels, MetricType, Page, Sample};

/// A page is pushed to it. A number that it gave for a series or for a family's line means the same until
/// [`Intake::generation`] changes, so whoever reads pages need not show it the labels again.
pub trait Intake {
    /// Names what the numbers mean: others than this one's are void.
    fn generation(&self) -> u64;

    /// A page begins, or begins anew: what it had of one is forgotten.
    fn begin(&mut self);

    /// A series: its labels, sorted by name, no name twice, none empty, and the metric's name as it stood on the page. Nothing:
    /// there is no room for it, and its samples come with their labels each time, by [`Intake::odd`].
    fn series(&mut self, labels: &[(&str, &str)], exposed_name: &str) -> Option<u32>;

    /// A sample of a series that has a number.
    ///
    /// # Errors
    /// The page takes too much memory; for people.
    fn sample(&mut self, series: u32, value: f64, timestamp_ms: Option<i64>) -> Result<(), String>;

    /// A sample of a series that has none.
    ///
    /// # Errors
    /// The page takes too much memory; for people.
    fn odd(
        &mut self,
        labels: &[(&str, &str)],
        exposed_name: &str,
        value: f64,
        timestamp_ms: Option<i64>,
    ) -> Result<(), String>;

    /// A family has a HELP, TYPE or UNIT line; a TYPE line gives its type, the last one counts. The number that it may be
    /// named by, see [`Intake::family_again`].
    ///
    /// # Errors
    /// The page takes too much memory; for people.
    fn family(&mut self, name: &str, kind: Option<MetricType>) -> Result<Option<u32>, String>;

    /// The same line again.
    fn family_again(&mut self, number: u32);
}

/// The most memory that a page's samples and families may take, in bytes: about 300,000 samples.
pub const PAGE_BYTES_MAX: usize = 64 << 20;
/// What the allocator adds to an allocation, in bytes, roughly.
const ALLOCATION_BYTES: usize = 16;

/// What a page that takes too much memory is refused with.
pub fn page_too_large<T>() -> Result<T, String> {
    Err(format!("the page's samples take more than {} MiB of memory", PAGE_BYTES_MAX >> 20))
}

/// The plain way: every sample with its labels.
#[derive(Debug, Default)]
pub struct PageIntake {
    /// The page so far.
    pub page: Page,
    bytes: usize,
}

impl PageIntake {
    fn account(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes += bytes;
        if self.bytes > PAGE_BYTES_MAX { page_too_large() } else { Ok(()) }
    }
}

impl Intake for PageIntake {
    fn generation(&self) -> u64 {
        0
    }

    fn begin(&mut self) {
        // Types stay: they count even for a page of too many samples.
        self.page.samples = Vec::new();
    }

    fn series(&mut self, _labels: &[(&str, &str)], _exposed_name: &str) -> Option<u32> {
        None
    }

    fn sample(&mut self, _series: u32, _value: f64, _timestamp_ms: Option<i64>) -> Result<(), String> {
        Ok(())
    }

    fn odd(
        &mut self,
        labels: &[(&str, &str)],
        exposed_name: &str,
        value: f64,
        timestamp_ms: Option<i64>,
    ) -> Result<(), String> {
        let labels = Labels::from_sorted(labels);
        let exposed_name = (exposed_name != labels.name()).then(|| Box::from(exposed_name));
        let renamed_bytes = exposed_name.as_deref().map_or(0, str::len);
        self.account(size_of::<Sample>() + labels.heap_bytes() + renamed_bytes + ALLOCATION_BYTES)?;
        self.page.samples.push(Sample { labels, value, timestamp_ms, exposed_name });
        Ok(())
    }

    fn family(&mut self, name: &str, kind: Option<MetricType>) -> Result<Option<u32>, String> {
        match (self.page.types.get_mut(name), kind) {
            (Some(known), Some(kind)) => *known = kind,
            (Some(_), None) => {}
            (None, _) => {
                self.account(name.len() + 2 * size_of::<Box<str>>() + ALLOCATION_BYTES)?;
                self.page.types.insert(name.into(), kind.unwrap_or(MetricType::Unknown));
            }
        }
        Ok(None)
    }

    fn family_again(&mut self, _number: u32) {}
}
