//! No request loop without a pace: whatever is answered, again and again, the agent asks at most once a second and sleeps in
//! between.

use super::*;
use crate::cloudwatch::{Date, Fault};
use promwatch::env::NetErrorKind;

/// One request a second. A single stream needs six bodies a minute; a refusal is tried again after 5 to 10 seconds, each time
/// with at most three requests (PutLogEvents, CreateLogStream, CreateLogGroup) and, before them, a role and the date: 5 * 12.
const REQUESTS_A_MINUTE: usize = 60;
/// Six scrapes, the requests, status every five seconds, the bounds, and the disk's work for each scrape: below 200.
const UNITS_A_MINUTE: u64 = 200;
const MINUTES: u64 = 10;

struct Case {
    name: String,
    prepare: Box<dyn Fn(&mut Device)>,
    role: bool,
}

fn case(name: &str, prepare: impl Fn(&mut Device) + 'static) -> Case {
    Case { name: name.to_owned(), prepare: Box::new(prepare), role: false }
}

fn always(action: &'static str, name: &str, fault: Fault) -> Case {
    case(&format!("{action}: {name}"), move |device| {
        let mut cloud = device.net.cloud.borrow_mut();
        if action == "CreateLogStream" {
            cloud.create(GROUP, &[]);
        }
        cloud.fail(Some(action), u32::MAX, fault.clone());
        if action == "?" {
            device.clock.wall_error_ms.set(-BEGIN_MS);
        }
    })
}

/// Everything that a service or something in between may answer.
fn answers() -> Vec<(String, Fault)> {
    let mut all: Vec<(String, Fault)> = Vec::new();
    let codes = [
        (400, "ThrottlingException"),
        (400, "AccessDeniedException"),
        (403, "AccessDenied"),
        (400, "ResourceNotFoundException"),
        (400, "ResourceAlreadyExistsException"),
        (400, "InvalidParameterException"),
        (400, "InvalidSequenceTokenException"),
        (400, "DataAlreadyAcceptedException"),
        (400, "UnrecognizedClientException"),
        (403, "InvalidClientTokenId"),
        (400, "InvalidSignatureException"),
        (403, "SignatureDoesNotMatch"),
        (400, "ExpiredTokenException"),
        (403, "ExpiredToken"),
        (403, "RequestExpired"),
        (400, "SerializationException"),
        (400, "LimitExceededException"),
        (400, "OperationAbortedException"),
        (400, "ServiceQuotaExceededException"),
        (403, "MissingAuthenticationTokenException"),
        (400, "UnknownOperationException"),
        (400, "SomethingNewException"),
        (413, "RequestEntityTooLargeException"),
        (429, "TooManyRequestsException"),
        (500, "InternalFailure"),
        (503, "ServiceUnavailableException"),
    ];
    for (status, code) in codes {
        let fault = Fault::Error { status, code: code.to_owned(), message: "no".to_owned() };
        all.push((format!("{status} {code}"), fault));
    }
    for status in [204, 301, 302, 400, 401, 403, 404, 407, 408, 413, 415, 429, 500, 501, 502, 503, 504] {
        all.push((format!("a gateway's {status}"), Fault::Gateway(status)));
    }
    for body in ["", "{}", "[", "null", r#"{"rejectedLogEventsInfo":{"tooOldLogEventEndIndex":1}}"#] {
        all.push((format!("200 {body:?} and nothing done"), Fault::Says { status: 200, body: body.to_owned() }));
    }
    all.push(("throttled with a wait of 0 ms".to_owned(), Fault::Throttle(Some(0))));
    all.push(("a portal".to_owned(), Fault::CaptivePortal));
    all.push(("no mark of the service".to_owned(), Fault::NoRequestId));
    all.push(("broken before".to_owned(), Fault::DropBefore));
    all.push(("broken after".to_owned(), Fault::DropAfter));
    all.push(("a minute late".to_owned(), Fault::Delay(60_000)));
    let unavailable = Fault::ErrorAfter { status: 503, code: "ServiceUnavailableException".to_owned() };
    all.push(("503 after storing".to_owned(), unavailable));
    for (name, date) in dates() {
        all.push((format!("Date {name}"), Fault::Date(date)));
    }
    all
}

fn dates() -> Vec<(&'static str, Date)> {
    vec![
        ("30 days ahead", Date::Off(30 * DAY_MS)),
        ("30 days behind", Date::Off(-30 * DAY_MS)),
        ("1970", Date::At(0)),
        ("garbage", Date::Text("yesterday".to_owned())),
        ("missing", Date::Missing),
    ]
}

/// Runs a case for ten minutes and counts.
fn count(case: &Case) {
    let role = r#", "credentials": {"role_arn": "arn:aws:iam::123456789012:role/edge"}"#;
    let json = agent_json(STATE, 5, if case.role { role } else { "" });
    let mut device = Device::with_files(60, &json, &prometheus("10s", &[("sim", "exporter:9100")]));
    device.net.cloud.borrow_mut().roles.insert("arn:aws:iam::123456789012:role/edge".to_owned(), None);
    device.watch.name.clone_from(&case.name);
    device.watch.nothing_ages = false;
    // Some answers lie about what they did; the counts believe them.
    (device.watch.identities, device.watch.honest) = (false, false);
    (case.prepare)(&mut device);
    device.start();
    let begun_ms = device.clock.monotonic_ms.get();
    for minute in 0..MINUTES {
        let units = device.units;
        let end_ms = begun_ms + (minute + 1) * 60_000;
        while device.clock.monotonic_ms.get() < end_ms {
            device.step();
            let done = device.units - units;
            assert!(done <= 10 * UNITS_A_MINUTE, "{}: the loop does not sleep in minute {minute}", case.name);
        }
        let done = device.units - units;
        assert!(minute == 0 || done <= UNITS_A_MINUTE, "{}: {done} units of work in minute {minute}", case.name);
    }
    let asked_ms = device.net.asked_ms.borrow();
    for minute in 1..MINUTES {
        let inside = begun_ms + minute * 60_000..begun_ms + (minute + 1) * 60_000;
        let asked = asked_ms.iter().filter(|at_ms| inside.contains(at_ms)).count();
        assert!(asked <= REQUESTS_A_MINUTE, "{}: {asked} requests in minute {minute}", case.name);
    }
}

#[test]
fn no_answer_to_put_log_events_is_asked_for_more_than_once_a_second() {
    each(answers().into_iter().map(|(name, fault)| always("PutLogEvents", &name, fault)), count);
}

#[test]
fn no_answer_to_create_log_stream_is_asked_for_more_than_once_a_second() {
    each(answers().into_iter().map(|(name, fault)| always("CreateLogStream", &name, fault)), count);
}

#[test]
fn no_answer_to_create_log_group_is_asked_for_more_than_once_a_second() {
    each(answers().into_iter().map(|(name, fault)| always("CreateLogGroup", &name, fault)), count);
}

#[test]
fn no_answer_to_the_question_for_the_time_is_asked_for_more_than_once_a_second() {
    each(answers().into_iter().map(|(name, fault)| always("?", &name, fault)), count);
}

#[test]
fn no_answer_of_sts_is_asked_for_more_than_once_a_second() {
    let mut cases: Vec<Case> = answers().into_iter().map(|(name, fault)| always("AssumeRole", &name, fault)).collect();
    for (name, expiration) in
        [("unknown to the logs", "2099-01-01T00:00:00Z"), ("of 1970", "1970-01-01T00:00:00Z"), ("without end", "soon")]
    {
        let body = format!(
            "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIANOBODY</AccessKeyId><SecretAccessKey>s\
             </SecretAccessKey><SessionToken>t</SessionToken><Expiration>{expiration}</Expiration></Credentials>\
             </AssumeRoleResult></AssumeRoleResponse>"
        );
        cases.push(always("AssumeRole", &format!("keys {name}"), Fault::Says { status: 200, body }));
    }
    for (name, expired_ms) in [("long ago", HOUR_MS), ("now", 0), ("in a second", -1_000)] {
        cases.push(case(&format!("AssumeRole: keys that expire {name}"), move |device| {
            device.net.cloud.borrow_mut().roles_expired_ms = Some(expired_ms);
        }));
    }
    for (name, fault) in answers() {
        let mut put = always("PutLogEvents", &name, fault);
        put.name = format!("with a role, {}", put.name);
        cases.push(put);
    }
    each(cases.into_iter().map(|case| Case { role: true, ..case }), count);
}

#[test]
fn no_link_is_asked_for_more_than_once_a_second() {
    let kinds = [
        NetErrorKind::Resolve,
        NetErrorKind::Connect,
        NetErrorKind::Tls,
        NetErrorKind::CertificateDates,
        NetErrorKind::Broken,
        NetErrorKind::Protocol,
        NetErrorKind::Config,
        NetErrorKind::Refused,
    ];
    let links = kinds.map(Link::Fails).into_iter().chain([Link::Refused, Link::BlackHole, Link::Slow(100)]);
    let cases = links.flat_map(|link| {
        [0, -BEGIN_MS, 30 * DAY_MS].map(|error_ms| {
            case(&format!("{link:?}, clock off by {error_ms} ms"), move |device| {
                device.net.link.set(link);
                device.clock.wall_error_ms.set(error_ms);
            })
        })
    });
    each(cases, count);
}

#[test]
fn no_wrong_date_of_all_answers_is_asked_for_more_than_once_a_second() {
    let clocks = [0, -BEGIN_MS, 30 * DAY_MS, -3 * HOUR_MS];
    let cases = dates().into_iter().flat_map(|(name, date)| {
        clocks.map(|error_ms| {
            let date = date.clone();
            case(&format!("every Date {name}, clock off by {error_ms} ms"), move |device| {
                device.net.cloud.borrow_mut().date = Some(date.clone());
                device.clock.wall_error_ms.set(error_ms);
            })
        })
    });
    each(cases, count);
}
