//! Exporters whose pages say which scrape they are of, so that every event can be told from every other.

use crate::cloudwatch::ledger::STEP;
use promwatch::env::NetErrorKind;
use std::fmt::Write as _;

/// What an exporter does when asked.
#[derive(Clone, Debug, Default)]
pub struct Exporter {
    /// Scrapes answered so far, over all lives of the agent; the page's figures rest on it.
    pub scrapes: u64,
    /// True times of those scrapes, the first at place 0.
    pub times_ms: Vec<i64>,
    /// The boots of those scrapes.
    pub boots: Vec<u8>,
    /// The exporter is down.
    pub down: bool,
    /// Asking it takes most of the time that there is, and ends so: an exporter that never answers, a silent name server.
    pub hangs: Option<NetErrorKind>,
    /// How long an answer takes, where it is not 3 ms.
    pub slow_ms: Option<u64>,
    /// Further lines of the page.
    pub more: String,
    /// Pages to give instead, with their content types and statuses; the last again and again.
    pub pages: Vec<(u16, String, Vec<u8>)>,
    /// The log stream that its events go to.
    pub stream: String,
    /// Events of each page beside the one of `g`, one size after the other and again from the first. Each has a value of its own,
    /// `sim_id`, see [`identity`](crate::cloudwatch::ledger::identity). Such a page holds no counter.
    pub sizes: Vec<u64>,
    /// Each of those events has a label that no compression makes small: many bodies and full buffers with few events.
    pub noise: bool,
}

impl Exporter {
    /// An exporter of the job that names its stream, with pages of these sizes.
    pub fn sized(stream: &str, sizes: &[u64]) -> Self {
        assert!(sizes.iter().all(|size| *size < STEP), "an identity holds {STEP} events of a scrape");
        Self { stream: stream.to_owned(), sizes: sizes.to_vec(), ..Self::default() }
    }

    /// The same with a label that does not compress.
    pub fn noisy(stream: &str, sizes: &[u64]) -> Self {
        Self { noise: true, ..Self::sized(stream, sizes) }
    }

    /// The identities of the events of a scrape; the first scrape is 1.
    pub fn identities(&self, scrape: u64) -> std::ops::RangeInclusive<u64> {
        scrape * STEP..=scrape * STEP + self.size(scrape)
    }

    /// All events with an identity that it ever gave.
    pub fn events(&self) -> u64 {
        (1..=self.scrapes).map(|scrape| 1 + self.size(scrape)).sum()
    }

    fn size(&self, scrape: u64) -> u64 {
        match self.sizes.len() as u64 {
            0 => 0,
            len => self.sizes[((scrape - 1) % len) as usize],
        }
    }

    /// Answers a scrape: status, content type, page.
    pub(super) fn answer(&mut self, true_ms: i64, boot: u8) -> (u16, String, Vec<u8>) {
        self.scrapes += 1;
        self.times_ms.push(true_ms);
        self.boots.push(boot);
        let n = self.scrapes;
        if let Some(page) = self.pages.get((n - 1) as usize).or(self.pages.last()) {
            return page.clone();
        }
        let mut page = format!("# TYPE g gauge\ng {n}\n");
        if self.sizes.is_empty() {
            let _ = writeln!(page, "# TYPE c_total counter\nc_total {}", n * 10);
        } else {
            page.push_str("# TYPE sim_id gauge\n");
            for (index, identity) in self.identities(n).enumerate().skip(1) {
                let noise = if self.noise { noise(identity) } else { String::new() };
                let _ = writeln!(page, "sim_id{{i=\"{index}\"{noise}}} {identity}");
            }
        }
        page.push_str(&self.more);
        (200, "text/plain; version=0.0.4".to_owned(), page.into_bytes())
    }
}

/// A label that no other event has.
fn noise(identity: u64) -> String {
    let mut mixed = identity.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    format!(",r=\"{mixed:016x}{:016x}\"", mixed.wrapping_mul(0x94D0_49BB_1331_11EB) ^ (mixed >> 31))
}
