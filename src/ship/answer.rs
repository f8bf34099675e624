//! What the services answer, and what each error means for the sender.

use super::backoff::Asked;
use crate::env::Head;
use miniserde::{Deserialize, json};
use std::time::UNIX_EPOCH;

/// Events that CloudWatch Logs did not store although it took the batch (`rejectedLogEventsInfo`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// Older than 14 days.
    pub too_old: u32,
    /// More than two hours ahead.
    pub too_new: u32,
    /// Older than the log group's retention.
    pub expired: u32,
}

#[derive(Deserialize)]
struct PutLogEvents {
    #[serde(rename = "rejectedLogEventsInfo")]
    rejected: Option<RejectedLogEventsInfo>,
}

#[derive(Deserialize)]
struct RejectedLogEventsInfo {
    #[serde(rename = "tooNewLogEventStartIndex")]
    too_new_start: Option<u32>,
    #[serde(rename = "tooOldLogEventEndIndex")]
    too_old_end: Option<u32>,
    #[serde(rename = "expiredLogEventEndIndex")]
    expired_end: Option<u32>,
}

/// What a PutLogEvents answer says of `events` events. An unreadable body rejects none: the events are stored, and sending
/// them again would store them twice.
pub(super) fn rejected(body: &[u8], events: u32) -> Rejected {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let Some(info) = json::from_str::<PutLogEvents>(text).ok().and_then(|answer| answer.rejected) else {
        return Rejected::default();
    };
    // The starts are inclusive and the ends exclusive.
    let too_old = info.too_old_end.unwrap_or(0).min(events);
    let expired_end = info.expired_end.unwrap_or(0).min(events).max(too_old);
    // An event is rejected once, though a confused answer may name it at both ends.
    let too_new = info.too_new_start.map_or(0, |start| events.saturating_sub(start.max(expired_end)));
    Rejected { too_old, too_new, expired: expired_end - too_old }
}

/// An error as a service put it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceError {
    pub(super) status: u16,
    /// `ThrottlingException` …; empty where the answer names none.
    pub(super) code: String,
    /// For people; cut to a sane length.
    pub(super) message: String,
    pub(super) asked: Asked,
}

/// What an error means for what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Fewer requests, please.
    Throttled,
    /// The service, a gateway or the network fails, or somebody else answers.
    Unavailable,
    /// The log group or the log stream is missing.
    NotFound,
    /// It is there already.
    AlreadyExists,
    /// This batch is no good.
    BadBatch,
    /// No batch for this stream can be any good: its names are refused.
    BadName,
    /// The batch is too large for something in between.
    TooLarge,
    /// The body was not understood; gzip may be to blame.
    BadEncoding,
    /// The signature is wrong: the clock, or the secret.
    BadSignature,
    /// Temporary credentials have expired.
    ExpiredToken,
    /// The key or its token is unknown.
    UnknownKey,
    /// A policy forbids it. Policies get fixed.
    Denied,
    /// Refused for a reason that time alone does not mend.
    Refused,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(rename = "__type")]
    kind: Option<String>,
    message: Option<String>,
    #[serde(rename = "Message")]
    capital_message: Option<String>,
}

/// Texts of services are cut to so many bytes.
pub(super) const MAX_MESSAGE_BYTES: usize = 300;
pub(super) const MAX_CODE_BYTES: usize = 80;

impl ServiceError {
    /// Reads an error of a JSON service; bodies that are not JSON give their text as the message.
    pub(super) fn from_json(head: &Head, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let parsed = json::from_str::<ErrorBody>(&text).ok();
        let (kind, message) = match parsed {
            Some(error) => (error.kind, error.message.or(error.capital_message).unwrap_or_default()),
            None => (None, text.into_owned()),
        };
        let kind = kind.or_else(|| head.header("x-amzn-errortype").map(str::to_owned)).unwrap_or_default();
        Self::new(head, bare_code(&kind), &message)
    }

    /// Reads an error of a query service (`<ErrorResponse>`).
    pub(super) fn from_xml(head: &Head, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let code = xml_text(&text, "Code").unwrap_or_default();
        let message = xml_text(&text, "Message").unwrap_or_else(|| text.to_string());
        Self::new(head, &code, &message)
    }

    fn new(head: &Head, code: &str, message: &str) -> Self {
        let mut message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // A refused signature is explained by the canonical request, session token included.
        let explained = message.find("The Canonical String").unwrap_or(message.len());
        message.truncate(message.get(..explained).unwrap_or_default().trim_end().len());
        if let Some(cut) = (0..=MAX_MESSAGE_BYTES).rev().find(|at| message.is_char_boundary(*at))
            && cut < message.len()
        {
            message.truncate(cut);
            message.push('…');
        }
        // A code is one word; whatever else stands there is not shown.
        let code = code.chars().take_while(char::is_ascii_graphic).take(MAX_CODE_BYTES).collect();
        Self { status: head.status, code, message, asked: asked(head) }
    }

    /// What to make of it. Codes come first, statuses second: CloudWatch Logs answers 400 for nearly everything.
    pub(super) fn meaning(&self) -> Meaning {
        match self.code.as_str() {
            "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "BandwidthLimitExceeded"
            | "SlowDown"
            | "PriorRequestNotComplete" => Meaning::Throttled,
            "ServiceUnavailableException"
            | "ServiceUnavailable"
            | "InternalFailure"
            | "InternalServerError"
            | "InternalError"
            | "RequestTimeout"
            | "RequestTimeoutException"
            | "OperationAbortedException"
            | "IDPCommunicationError" => Meaning::Unavailable,
            "ResourceNotFoundException" => Meaning::NotFound,
            "ResourceAlreadyExistsException" => Meaning::AlreadyExists,
            "InvalidParameterException" | "ValidationException" | "ValidationError" => self.parameter_meaning(),
            "RequestEntityTooLarge" | "RequestEntityTooLargeException" => Meaning::TooLarge,
            "SerializationException"
            | "UnknownOperationException"
            | "MalformedHttpRequestException"
            | "MalformedHttpRequest" => Meaning::BadEncoding,
            "InvalidSignatureException"
            | "InvalidSignature"
            | "SignatureDoesNotMatch"
            | "RequestTimeTooSkewed"
            | "RequestExpired"
            | "RequestInTheFuture"
            | "AuthFailure" => Meaning::BadSignature,
            "ExpiredTokenException" | "ExpiredToken" | "TokenRefreshRequired" => Meaning::ExpiredToken,
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidClientTokenIdException"
            | "InvalidAccessKeyId"
            | "InvalidToken"
            | "InvalidSecurity" => Meaning::UnknownKey,
            "AccessDeniedException" | "AccessDenied" => Meaning::Denied,
            "" => self.status_meaning(),
            _ if self.status >= 500 || self.status == 429 => self.status_meaning(),
            // LimitExceededException, OptInRequired, MissingAuthenticationToken, IncompleteSignature and all to come.
            _ => Meaning::Refused,
        }
    }

    fn status_meaning(&self) -> Meaning {
        match self.status {
            429 => Meaning::Throttled,
            413 => Meaning::TooLarge,
            // A proxy, a portal or a gateway speaks: AWS names its errors.
            _ => Meaning::Unavailable,
        }
    }

    fn parameter_meaning(&self) -> Meaning {
        if ["'logGroupName'", "'logStreamName'"].iter().any(|name| self.message.contains(name)) {
            return Meaning::BadName;
        }
        Meaning::BadBatch
    }
}

impl std::fmt::Display for ServiceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code.as_str(), self.message.as_str()) {
            ("", "") => write!(f, "HTTP {}", self.status),
            ("", message) => write!(f, "HTTP {}: {message}", self.status),
            (code, "") => write!(f, "{code} ({})", self.status),
            (code, message) => write!(f, "{code} ({}): {message}", self.status),
        }
    }
}

/// `com.amazon.coral.service#ThrottlingException:http://…` is `ThrottlingException`.
fn bare_code(kind: &str) -> &str {
    let kind = kind.split(':').next().unwrap_or_default();
    kind.rsplit('#').next().unwrap_or_default()
}

fn asked(head: &Head) -> Asked {
    let http_ms = head.header("retry-after").and_then(|text| {
        if let Ok(seconds) = text.trim().parse::<u64>() {
            return Some(seconds.saturating_mul(1000));
        }
        // A date is judged by the date of the answer itself: our clock may be wrong.
        let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        let now = httpdate::parse_http_date(head.header("date")?).ok()?.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(at.checked_sub(now)?.as_millis()).ok()
    });
    Asked { aws_ms: head.header("x-amz-retry-after").and_then(|text| text.trim().parse().ok()), http_ms }
}

/// The text of the first element of that name; enough XML for what STS answers.
pub(super) fn xml_text(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text.trim().replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    Some(text.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, headers: &[(&str, &str)]) -> Head {
        Head { status, headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect() }
    }

    #[test]
    fn every_error_of_the_service_has_its_meaning() {
        use Meaning::*;
        for (status, body, meaning) in [
            (400, r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#, Throttled),
            (429, "slow down", Throttled),
            (500, r#"{"__type":"InternalFailure"}"#, Unavailable),
            (503, r#"{"__type":"ServiceUnavailableException"}"#, Unavailable),
            (503, r#"{"__type":"SomethingNew","message":"x"}"#, Unavailable),
            (502, "<html>bad gateway</html>", Unavailable),
            (403, "<html>please log in</html>", Unavailable),
            (302, "", Unavailable),
            (400, r#"{"__type":"RequestTimeoutException"}"#, Unavailable),
            (400, r#"{"__type":"OperationAbortedException","message":"conflict"}"#, Unavailable),
            (400, r#"{"__type":"ResourceNotFoundException","message":"x"}"#, NotFound),
            (400, r#"{"__type":"com.amazonaws.logs#ResourceNotFoundException","message":"x"}"#, NotFound),
            (400, r#"{"__type":"ResourceAlreadyExistsException"}"#, AlreadyExists),
            (
                400,
                r#"{"__type":"InvalidParameterException","message":"Upload too large: 2 bytes exceeds limit of 1"}"#,
                BadBatch,
            ),
            (
                400,
                r#"{"__type":"InvalidParameterException","message":"Value at 'logStreamName' failed to satisfy constraint"}"#,
                BadName,
            ),
            (413, "", TooLarge),
            (400, r#"{"__type":"SerializationException"}"#, BadEncoding),
            (400, r#"{"__type":"MalformedHttpRequestException"}"#, BadEncoding),
            (400, r#"{"__type":"UnknownOperationException"}"#, BadEncoding),
            (400, r#"{"__type":"InvalidSignatureException","message":"Signature expired: …"}"#, BadSignature),
            (403, r#"{"__type":"RequestTimeTooSkewed"}"#, BadSignature),
            (403, r#"{"__type":"RequestExpired"}"#, BadSignature),
            (400, r#"{"__type":"ExpiredTokenException"}"#, ExpiredToken),
            (403, r#"{"__type":"ExpiredToken"}"#, ExpiredToken),
            (400, r#"{"__type":"UnrecognizedClientException"}"#, UnknownKey),
            (400, r#"{"__type":"AccessDeniedException","Message":"User: … is not authorized"}"#, Denied),
            (400, r#"{"__type":"LimitExceededException"}"#, Refused),
            (403, r#"{"__type":"OptInRequired"}"#, Refused),
            (400, r#"{"__type":"MissingAuthenticationTokenException"}"#, Refused),
            (400, r#"{"__type":"NeverHeardOfException"}"#, Refused),
        ] {
            assert_eq!(ServiceError::from_json(&head(status, &[]), body.as_bytes()).meaning(), meaning, "{body}");
        }
    }

    #[test]
    fn code_and_message_are_found_in_every_form() {
        let error = |headers: &[(&str, &str)], body: &str| {
            let error = ServiceError::from_json(&head(400, headers), body.as_bytes());
            (error.code, error.message)
        };
        let pair = |code: &str, message: &str| (code.to_owned(), message.to_owned());
        assert_eq!(error(&[], r#"{"__type":"a.b#X:http://y","Message":"m"}"#), pair("X", "m"));
        assert_eq!(error(&[], r#"{"__type":"X:http://y#z","message":"m"}"#), pair("X", "m"));
        assert_eq!(error(&[("x-amzn-errortype", "X:http")], r#"{"message":"m"}"#), pair("X", "m"));
        assert_eq!(error(&[], "not\njson\n"), pair("", "not json"));
        assert_eq!(error(&[], ""), pair("", ""));
        assert_eq!(error(&[], r#"{"__type":"a\u001bb","message":"c\u0007"}"#), pair("a", "c"), "control characters");
        let explained = r#"{"__type":"X","message":"Wrong.\n\nThe Canonical String for this request should have been\n'POST\n/\n\nx-amz-security-token:hunter2'"}"#;
        assert_eq!(error(&[], explained), pair("X", "Wrong."));
        let broken = explained.replace("The Canonical", "The\\nCanonical");
        assert_eq!(error(&[], &broken), pair("X", "Wrong."), "a line that ends elsewhere");
        let long = ServiceError::from_json(&head(400, &[]), "é".repeat(10_000).as_bytes());
        assert!(long.message.len() <= MAX_MESSAGE_BYTES + 3);
    }

    #[test]
    fn an_answer_says_which_events_it_rejected() {
        let rejected = |body: &str| {
            let r = rejected(body.as_bytes(), 10);
            (r.too_old, r.too_new, r.expired)
        };
        assert_eq!(rejected(r#"{"nextSequenceToken":"1"}"#), (0, 0, 0));
        assert_eq!(rejected(""), (0, 0, 0));
        assert_eq!(rejected(r#"{"rejectedLogEventsInfo":{"tooOldLogEventEndIndex":3}}"#), (3, 0, 0));
        assert_eq!(rejected(r#"{"rejectedLogEventsInfo":{"tooNewLogEventStartIndex":7}}"#), (0, 3, 0));
        let all = r#"{"rejectedLogEventsInfo":{"tooOldLogEventEndIndex":2,"expiredLogEventEndIndex":5,"tooNewLogEventStartIndex":9}}"#;
        assert_eq!(rejected(all), (2, 1, 3));
        assert_eq!(
            rejected(r#"{"rejectedLogEventsInfo":{"tooOldLogEventEndIndex":99,"tooNewLogEventStartIndex":99}}"#),
            (10, 0, 0)
        );
        assert_eq!(rejected(r#"{"rejectedLogEventsInfo":null}"#), (0, 0, 0));
    }

    #[test]
    fn an_event_is_rejected_once_though_the_answer_names_it_at_both_ends() {
        let both = r#"{"rejectedLogEventsInfo":{"tooNewLogEventStartIndex":1,"tooOldLogEventEndIndex":4,"expiredLogEventEndIndex":6}}"#;
        assert_eq!(rejected(both.as_bytes(), 10), Rejected { too_old: 4, too_new: 4, expired: 2 });
        let none_left = r#"{"rejectedLogEventsInfo":{"tooNewLogEventStartIndex":0,"tooOldLogEventEndIndex":10}}"#;
        assert_eq!(rejected(none_left.as_bytes(), 10), Rejected { too_old: 10, too_new: 0, expired: 0 });
    }

    #[test]
    fn the_wait_that_is_asked_for_is_read_in_all_its_forms() {
        let date = ("date", "Thu, 01 Jan 2026 00:00:01 GMT");
        for (headers, aws_ms, http_ms) in [
            (&[("x-amz-retry-after", "1500")][..], Some(1500), None),
            (&[("retry-after", "7")][..], None, Some(7000)),
            (&[("retry-after", "Thu, 01 Jan 2026 00:00:11 GMT"), date][..], None, Some(10_000)),
            (&[("retry-after", "Thu, 01 Jan 2026 00:00:11 GMT")][..], None, None),
            (&[("retry-after", "soon"), ("x-amz-retry-after", "-1")][..], None, None),
        ] {
            assert_eq!(asked(&head(400, headers)), Asked { aws_ms, http_ms }, "{headers:?}");
        }
    }

    #[test]
    fn xml_is_read_as_far_as_sts_needs_it() {
        let xml = "<ErrorResponse xmlns=\"x\"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>a &amp;lt; &lt;b&gt;</Message></Error></ErrorResponse>";
        assert_eq!(xml_text(xml, "Code").as_deref(), Some("AccessDenied"));
        assert_eq!(xml_text(xml, "Message").as_deref(), Some("a &lt; <b>"));
        assert_eq!(xml_text(xml, "SessionToken"), None);
        assert_eq!(xml_text("<Code>open", "Code"), None);
    }
}
