//! `dns_sd_configs`: targets from records of the name servers (`discovery/dns/dns.go` of Prometheus).

use super::Answer;
use crate::env::{Env, Limits, NetErrorKind};
use crate::model::settings::{DnsKind, TargetGroup};
use std::collections::BTreeMap;

/// How long a question may take.
const TIMEOUT_MS: u64 = 5_000;
/// The same after one that nobody answered, so that dead name servers do not hold up the scrapes again and again.
const TIMEOUT_AGAIN_MS: u64 = 2_000;

/// One of a configuration's names.
pub(super) struct Name {
    name: String,
    kind: DnsKind,
    port: u16,
    pub(super) refresh_ms: u64,
    unanswered: bool,
}

impl Name {
    pub(super) fn new(name: String, kind: DnsKind, port: u16, refresh_ms: u64) -> Self {
        Self { name, kind, port, refresh_ms, unanswered: false }
    }

    /// Whether the other asks for the same records and makes the same of them.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.name, self.kind, self.port) == (&other.name, other.kind, other.port)
    }

    /// Asks for the records. An empty answer is an answer: the name has no targets now.
    pub(super) fn refresh(&mut self, env: Env<'_>) -> Answer {
        let total_ms = if self.unanswered { TIMEOUT_AGAIN_MS } else { TIMEOUT_MS };
        let found = env.net.lookup(&self.name, self.kind, Limits { total_ms, stall_ms: total_ms });
        let next_due_ms = env.clock.monotonic_ms().saturating_add(self.refresh_ms.max(1));
        self.unanswered =
            matches!(&found, Err(error) if matches!(error.kind, NetErrorKind::Timeout | NetErrorKind::Resolve));
        match found {
            Ok(records) => {
                let groups = records.iter().map(|record| self.group(&record.target, record.port)).collect();
                Answer { groups: Some(BTreeMap::from([(String::new(), groups)])), errors: Vec::new(), next_due_ms }
            }
            Err(error) => Answer { groups: None, errors: vec![(self.name.clone(), error.text)], next_due_ms },
        }
    }

    /// One record. The labels hold names as the wire has them, with the final dot; the address is without it.
    fn group(&self, target: &str, port: u16) -> TargetGroup {
        let mut labels = BTreeMap::from([("__meta_dns_name".to_owned(), self.name.clone())]);
        let mut label = |name: &str, value: String| labels.insert(format!("__meta_dns_{name}"), value);
        let port = match self.kind {
            DnsKind::Srv => {
                label("srv_record_target", format!("{target}."));
                label("srv_record_port", port.to_string());
                port
            }
            DnsKind::Mx => {
                label("mx_record_target", format!("{target}."));
                self.port
            }
            DnsKind::Ns => {
                label("ns_record_target", format!("{target}."));
                self.port
            }
            DnsKind::A | DnsKind::Aaaa => self.port,
        };
        let address = if target.contains(':') { format!("[{target}]:{port}") } else { format!("{target}:{port}") };
        TargetGroup { targets: vec![address], labels, source: self.name.clone() }
    }
}
