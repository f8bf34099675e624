//! What a scrape says about itself: the headers of Prometheus' scraper.

use crate::model::push_decimal;
use crate::model::settings::{ScrapeJob, ScrapeProtocol};

/// The headers of a scrape that do not depend on secrets (`acceptHeader`, `acceptEncodingHeader` and `scrape` in
/// Prometheus 3.0.1's scrape/scrape.go).
pub(super) fn headers(job: &ScrapeJob, timeout_ms: u64) -> Vec<(String, String)> {
    let encoding = if job.compression { "gzip" } else { "identity" };
    let mut timeout = Vec::new();
    push_decimal(&mut timeout, timeout_ms as f64 / 1000.0);
    let timeout = String::from_utf8_lossy(&timeout).into_owned();
    [
        ("Accept", accept(job)),
        ("Accept-Encoding", encoding.to_owned()),
        ("User-Agent", concat!("promwatch/", env!("CARGO_PKG_VERSION")).to_owned()),
        ("X-Prometheus-Scrape-Timeout-Seconds", timeout),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn accept(job: &ScrapeJob) -> String {
    let mut accept = String::new();
    let mut weight = 6;
    for protocol in &job.protocols {
        accept.push_str(match protocol {
            ScrapeProtocol::OpenMetrics100 => "application/openmetrics-text;version=1.0.0",
            ScrapeProtocol::OpenMetrics001 => "application/openmetrics-text;version=0.0.1",
            // With UTF-8 names `escaping` stands there twice; so it does in Prometheus.
            ScrapeProtocol::Text100 => "text/plain;version=1.0.0;escaping=allow-utf-8",
            ScrapeProtocol::Text004 => "text/plain;version=0.0.4",
        });
        if !job.legacy_names {
            accept.push_str(";escaping=allow-utf-8");
        }
        accept.push_str(&format!(";q=0.{weight},"));
        weight -= 1;
    }
    accept.push_str(&format!("*/*;q=0.{weight}"));
    accept
}
