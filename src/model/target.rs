//! What is scraped.

use super::Labels;
use super::settings::ScrapeJob;
use std::path::PathBuf;
use std::rc::Rc;

/// One thing to scrape, relabelled and ready.
#[derive(Clone, Debug)]
pub struct Target {
    /// The job it belongs to.
    pub job: Rc<ScrapeJob>,
    /// The labels that its samples get: `job`, `instance` and the rest, none that starts with `__`.
    pub labels: Labels,
    /// Where its page comes from.
    pub endpoint: Endpoint,
    /// The interval, after `__scrape_interval__`.
    pub interval_ms: u64,
    /// The time-out, after `__scrape_timeout__`.
    pub timeout_ms: u64,
    /// Why it must not be scraped: its job has more targets than `target_limit`. Every scrape of it fails with this text, and
    /// `up` is 0.
    pub refused: Option<Rc<str>>,
}

impl Target {
    /// What tells this target from every other, and is the same after a restart: endpoint and labels.
    pub fn identity(&self) -> String {
        let mut text = format!("{:?}", self.endpoint);
        for (name, value) in &self.labels {
            text.push_str(&format!(" {name}={value:?}"));
        }
        text
    }

    /// The label `instance`, for messages.
    pub fn instance(&self) -> &str {
        self.labels.get("instance").unwrap_or("")
    }
}

/// Where a target's page comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An exporter.
    Http {
        /// The whole URL, parameters included.
        url: String,
        /// Its socket, for a unix-socket target.
        unix_socket: Option<PathBuf>,
    },
    /// This machine's own figures.
    Host,
    /// A folder of `*.prom` files.
    Textfile(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_tell_themselves_apart_in_the_same_words_in_every_version() {
        // Saved counters are found again by what a target's identity says: an upgrade must not change it.
        let http = Endpoint::Http { url: "http://a:1/metrics".to_owned(), unix_socket: None };
        assert_eq!(format!("{http:?}"), "Http { url: \"http://a:1/metrics\", unix_socket: None }");
        assert_eq!(format!("{:?}", Endpoint::Host), "Host");
        assert_eq!(format!("{:?}", Endpoint::Textfile(PathBuf::from("/x"))), "Textfile(\"/x\")");
    }
}
