//! One signed request and its answer.

use super::credentials::Keys;
use super::endpoint::Endpoint;
use super::sign::{Unsigned, signature_headers};
use super::skew::ServiceClock;
use crate::env::{CertificateTime, Env, Head, Limits, NetError, Request, Route};
use std::ops::ControlFlow;

/// No answer that we understand is longer.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// How long a clean stop waits for the answer to a request that is on its way.
pub(super) const STOP_GRACE_MS: u64 = 10_000;
/// The service's mark on every answer; one without it is somebody else's.
const REQUEST_ID: &str = "x-amzn-requestid";

/// What all requests share.
pub(super) struct Wire<'a> {
    pub(super) route: &'a Route,
    pub(super) user_agent: &'a str,
    pub(super) region: &'a str,
    pub(super) limits: Limits,
    pub(super) certificate_time: CertificateTime,
    /// Ask over a connection of its own.
    pub(super) new_connection: bool,
    pub(super) env: Env<'a>,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    /// The time that the request was signed for.
    pub(super) signed_ms: i64,
}

impl Answer {
    /// Whether AWS gave it, and not a captive portal or a proxy.
    pub(super) fn is_of_service(&self) -> bool {
        self.head.header(REQUEST_ID).is_some()
    }
}

/// Why there is no answer.
pub(super) enum NoAnswer {
    Net(NetError),
    /// The request could not be made; for people.
    Unsigned(String),
}

impl Wire<'_> {
    /// Posts a body, signed, and learns the time from the answer if it is the service's.
    pub(super) fn post(
        &self,
        endpoint: &Endpoint,
        service: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        keys: &Keys,
        clock: &mut ServiceClock,
    ) -> Result<Answer, NoAnswer> {
        let mut all = vec![("host".to_owned(), endpoint.host.clone())];
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let signed_ms = clock.now_ms(self.env.clock);
        let unsigned = Unsigned {
            method: "POST",
            url: &endpoint.url,
            headers: &all,
            body,
            region: self.region,
            service,
            time_ms: signed_ms,
        };
        let signature = signature_headers(&unsigned, keys).map_err(NoAnswer::Unsigned)?;
        all.extend(signature);
        // Proxies change it, so it is not signed.
        all.push(("user-agent".to_owned(), self.user_agent.to_owned()));
        let sent_ms = self.env.clock.monotonic_ms();
        let (head, body, new_connection) = self.exchange("POST", &endpoint.url, &all, body, self.certificate_time)?;
        let answer = Answer { head, body, signed_ms };
        if answer.is_of_service() {
            clock.learn(&answer.head, sent_ms, self.env.clock.monotonic_ms(), new_connection);
        }
        Ok(answer)
    }

    /// Asks for nothing but `Date`, without credentials, from a host whose certificate is judged by `certificate_time`. True when
    /// the time was learnt: the answer is the service's by its request id, or by a certificate.
    pub(super) fn ask_date(
        &self,
        endpoint: &Endpoint,
        certificate_time: CertificateTime,
        clock: &mut ServiceClock,
    ) -> Result<bool, NoAnswer> {
        let headers =
            [("host".to_owned(), endpoint.host.clone()), ("user-agent".to_owned(), self.user_agent.to_owned())];
        let sent_ms = self.env.clock.monotonic_ms();
        let (head, _, new_connection) = self.exchange("GET", &endpoint.url, &headers, &[], certificate_time)?;
        let of_service = head.header(REQUEST_ID).is_some() || endpoint.url.starts_with("https://");
        Ok(of_service && clock.learn(&head, sent_ms, self.env.clock.monotonic_ms(), new_connection))
    }

    fn exchange(
        &self,
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
        certificate_time: CertificateTime,
    ) -> Result<(Head, Vec<u8>, bool), NoAnswer> {
        let request = Request {
            method,
            url,
            headers,
            body,
            route: self.route,
            limits: self.limits,
            certificate_time,
            new_connection: self.new_connection,
            stop_grace_ms: STOP_GRACE_MS,
        };
        let mut answer = Vec::new();
        let exchange = self.env.net.exchange(&request, &mut |_, piece| {
            if answer.len() + piece.len() > MAX_ANSWER_BYTES {
                return ControlFlow::Break(());
            }
            answer.extend_from_slice(piece);
            ControlFlow::Continue(())
        });
        let exchange = exchange.map_err(NoAnswer::Net)?;
        Ok((exchange.head, answer, exchange.new_connection))
    }
}
