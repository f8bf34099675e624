//! `http_sd_configs`: target groups in JSON from a server (`discovery/http/http.go` of Prometheus).

use super::{Answer, MAX_LIST_BYTES, groups};
use crate::env::{CertificateTime, Env, Head, Limits, NetError, NetErrorKind, Request, Route, TokenCache, authorize};
use crate::model::settings::{HttpClient, TargetGroup};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// How long a request may take. Prometheus allows the refresh interval, but there nobody waits meanwhile.
const TIMEOUT_MS: u64 = 10_000;
/// The same after one that failed late, so that a dead server does not hold up the scrapes again and again.
const TIMEOUT_AGAIN_MS: u64 = 2_000;
/// Every so many requests the whole time is given all the same: a slow server must be able to come back.
const WHOLE_TIME_EVERY: u32 = 10;

pub(super) struct List {
    url: String,
    pub(super) refresh_ms: u64,
    http: Box<HttpClient>,
    /// Requests in a row that failed and took half of their time or more, be it for a name server that is silent.
    held: u32,
}

impl List {
    pub(super) fn new(url: String, refresh_ms: u64, http: Box<HttpClient>) -> Self {
        Self { url, refresh_ms, http, held: 0 }
    }

    /// Whether the other asks the same server in the same way.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.url == other.url && self.http == other.http
    }

    /// Asks for the groups.
    pub(super) fn refresh(&mut self, tokens: &mut TokenCache, env: Env<'_>) -> Answer {
        let (groups, error) = match self.fetch(tokens, env) {
            Ok(groups) => (Some(BTreeMap::from([(String::new(), groups)])), None),
            Err(error) => (None, Some((shown(&self.url), error))),
        };
        let next_due_ms = env.clock.monotonic_ms().saturating_add(self.refresh_ms.max(1));
        Answer { groups, errors: error.into_iter().collect(), next_due_ms }
    }

    fn fetch(&mut self, tokens: &mut TokenCache, env: Env<'_>) -> Result<Vec<TargetGroup>, String> {
        let total_ms = if self.held.is_multiple_of(WHOLE_TIME_EVERY) { TIMEOUT_MS } else { TIMEOUT_AGAIN_MS };
        let total_ms = total_ms.min(self.refresh_ms.max(1));
        let limits = Limits { total_ms, stall_ms: total_ms };
        let started_ms = env.clock.monotonic_ms();
        let mut headers = vec![
            ("User-Agent".to_owned(), concat!("promwatch/", env!("CARGO_PKG_VERSION")).to_owned()),
            ("Accept".to_owned(), "application/json".to_owned()),
            ("X-Prometheus-Refresh-Interval-Seconds".to_owned(), seconds(self.refresh_ms)),
        ];
        let (mut body, mut refused) = (Vec::new(), None);
        let exchange = authorize(&self.http, tokens, env, limits, &mut headers).and_then(|()| {
            let spent_ms = env.clock.monotonic_ms().saturating_sub(started_ms);
            let route = Route {
                tls: self.http.tls.clone(),
                proxy: self.http.proxy.clone(),
                unix_socket: None,
                follow_redirects: self.http.follow_redirects,
            };
            let request = Request {
                method: "GET",
                url: &self.url,
                headers: &headers,
                body: &[],
                route: &route,
                limits: Limits { total_ms: total_ms.saturating_sub(spent_ms).max(1), ..limits },
                certificate_time: CertificateTime::Clock,
                new_connection: false,
                stop_grace_ms: Request::STOP_GRACE_MS,
            };
            env.net.exchange(&request, &mut |head, piece| {
                refused = unfit(head).or_else(|| {
                    let fits = body.len() + piece.len() <= MAX_LIST_BYTES;
                    (!fits).then(|| format!("the answer is longer than {MAX_LIST_BYTES} bytes"))
                });
                if refused.is_some() {
                    return ControlFlow::Break(());
                }
                body.extend_from_slice(piece);
                ControlFlow::Continue(())
            })
        });
        let late = |error: &NetError| {
            let spent_ms = env.clock.monotonic_ms().saturating_sub(started_ms);
            error.kind == NetErrorKind::Timeout || spent_ms >= total_ms / 2
        };
        self.held = if exchange.as_ref().is_err_and(late) { self.held.saturating_add(1) } else { 0 };
        if let Some(refused) = refused {
            return Err(refused);
        }
        let exchange = exchange.map_err(|error| error.text)?;
        if let Some(unfit) = unfit(&exchange.head) {
            return Err(unfit);
        }
        let mut groups = groups::from_json(&body)?;
        for (at, group) in groups.iter_mut().enumerate() {
            group.source = format!("{}:{at}", shown(&self.url));
            group.labels.insert("__meta_url".to_owned(), self.url.clone());
        }
        Ok(groups)
    }
}

/// The URL for messages: without a user and password, and without parameters, which may hold a token.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or("");
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// Why an answer is none, by its head.
fn unfit(head: &Head) -> Option<String> {
    if head.status != 200 {
        return Some(format!("server returned HTTP status {}", head.status));
    }
    let content_type = head.header("content-type").unwrap_or("").trim();
    if !is_json(content_type) {
        return Some(format!("unsupported content type {content_type:?}"));
    }
    // We did not ask for any.
    head.header("content-encoding")
        .filter(|coding| *coding != "identity")
        .map(|coding| format!("unsupported content encoding {coding:?}"))
}

/// `application/json`, perhaps with the charset utf-8; nothing else will do.
fn is_json(content_type: &str) -> bool {
    let lower = content_type.to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("application/json") else { return false };
    let charset = rest.strip_prefix(';').map(|rest| rest.trim_start_matches([' ', '\t']));
    rest.is_empty() || matches!(charset, Some("charset=utf-8" | "charset=\"utf-8\""))
}

fn seconds(ms: u64) -> String {
    let text = format!("{}.{:03}", ms / 1000, ms % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
