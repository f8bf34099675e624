//! The sender against the strict stand-in: what each answer makes it do, and that no rule of the service is ever broken.

use crate::cloudwatch::{FakeCloudWatch, FakeKey, Fate, Fault, Seen};
use crate::sim_disk::SimDisk;
use promwatch::env::{
    CertificateTime, Clock, Env, Exchange, Head, Limits, Net, NetError, NetErrorKind, Record, Request,
};
use promwatch::model::batch::{BatchLimits, fits};
use promwatch::model::settings::{CredentialSettings, DnsKind, Secret, UploadSettings};
use promwatch::model::{Event, StreamKey};
use promwatch::ship::{Batch, Rejected, Shipper, Step, Trouble, UploadStatus};
use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

/// The true time when a test starts.
const START_MS: i64 = 1_790_000_000_000;
const LIMITS: Limits = Limits { total_ms: 10_000, stall_ms: 2_000 };
const ACTION: Step = Step::Progress;

/// A machine, its link and the service at the other end.
struct World {
    fake: RefCell<FakeCloudWatch>,
    disk: SimDisk,
    boot_ms: Cell<u64>,
    /// Wall time is this far ahead of the truth.
    wall_error_ms: Cell<i64>,
    /// What every exchange takes.
    exchange_ms: Cell<u64>,
    /// Every exchange fails so.
    link: Cell<Option<NetErrorKind>>,
    /// The service's certificate is good between these times, in seconds.
    certificate: Cell<Option<(i64, i64)>>,
    /// The service's clock steps by so much with every request.
    server_drift_ms: Cell<i64>,
    random: Cell<u64>,
    urls: RefCell<Vec<String>>,
}

impl World {
    fn new() -> Self {
        Self {
            fake: RefCell::new(FakeCloudWatch::default()),
            disk: SimDisk::new(),
            boot_ms: Cell::new(60_000),
            wall_error_ms: Cell::new(0),
            exchange_ms: Cell::new(20),
            link: Cell::new(None),
            certificate: Cell::new(None),
            server_drift_ms: Cell::new(0),
            random: Cell::new(1),
            urls: RefCell::new(Vec::new()),
        }
    }

    fn true_ms(&self) -> i64 {
        START_MS + self.boot_ms.get() as i64
    }

    fn env(&self) -> Env<'_> {
        Env { clock: self, disk: &self.disk, net: self }
    }

    fn actions(&self) -> Vec<String> {
        self.fake.borrow().log.iter().map(|seen| seen.action.clone()).collect()
    }

    fn last_seen(&self) -> Seen {
        self.fake.borrow().log.last().expect("a request came").clone()
    }

    /// The only state that a right client leaves.
    fn assert_no_rule_was_broken(&self) {
        assert_eq!(self.fake.borrow().violations, Vec::<String>::new());
    }
}

impl Clock for World {
    fn wall_ms(&self) -> i64 {
        self.true_ms() + self.wall_error_ms.get()
    }
    fn monotonic_ms(&self) -> u64 {
        self.boot_ms.get()
    }
    fn boot_id(&self) -> [u8; 16] {
        [7; 16]
    }
    fn synchronised(&self) -> bool {
        false
    }
    fn random(&self) -> u64 {
        let next = self.random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.random.set(next);
        next >> 20
    }
}

impl Net for World {
    fn exchange(
        &self,
        request: &Request<'_>,
        on_body: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        let error = |kind, sent| Err(NetError { kind, text: format!("{kind:?}"), sent });
        self.urls.borrow_mut().push(request.url.to_owned());
        assert!(!request.route.follow_redirects, "a portal's redirect is not the service");
        let secret = request.headers.iter().any(|(name, _)| name == "authorization");
        assert!(!secret || request.certificate_time != CertificateTime::AnyTime, "keys for anybody");
        self.fake.borrow_mut().clock_offset_ms += self.server_drift_ms.get();
        self.boot_ms.set(self.boot_ms.get() + self.exchange_ms.get() / 2);
        if let Some(kind) = self.link.get() {
            return error(kind, false);
        }
        if let Some((from, to)) = self.certificate.get() {
            let at = match request.certificate_time {
                CertificateTime::Clock => Some(self.wall_ms() / 1000),
                CertificateTime::At(seconds) => Some(seconds),
                CertificateTime::AnyTime => None,
            };
            if at.is_some_and(|at| at < from || at > to) {
                return error(NetErrorKind::CertificateDates, false);
            }
        }
        let (_, rest) = request.url.split_once("://").expect("an absolute URL");
        let path = &rest[rest.find('/').expect("a path")..];
        let headers = request.headers;
        let answer = self.fake.borrow_mut().handle(request.method, path, headers, request.body, self.true_ms());
        match answer.fate {
            Fate::Dropped => return error(NetErrorKind::Broken, true),
            Fate::Delayed(ms) if ms > request.limits.total_ms => {
                self.boot_ms.set(self.boot_ms.get() + request.limits.total_ms);
                return error(NetErrorKind::Timeout, true);
            }
            Fate::Delayed(ms) => self.boot_ms.set(self.boot_ms.get() + ms),
            Fate::Arrives => {}
        }
        self.boot_ms.set(self.boot_ms.get() + self.exchange_ms.get().div_ceil(2));
        let head = Head { status: answer.status, headers: answer.headers };
        if on_body(&head, &answer.body) == ControlFlow::Break(()) {
            return error(NetErrorKind::Refused, true);
        }
        Ok(Exchange {
            head,
            body_bytes: answer.body.len() as u64,
            duration_ms: self.exchange_ms.get(),
            new_connection: false,
        })
    }

    fn lookup(&self, _: &str, _: DnsKind, _: Limits) -> Result<Vec<Record>, NetError> {
        unreachable!("the sender asks no names")
    }
}

fn settings() -> UploadSettings {
    UploadSettings {
        region: Some("eu-central-1".to_owned()),
        credentials: CredentialSettings {
            credentials_file: "/root/.aws/credentials".into(),
            config_file: "/root/.aws/config".into(),
            env_key_id: Some("AKIDEXAMPLE".to_owned()),
            env_secret_key: Some(Secret::Inline("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned())),
            ..CredentialSettings::default()
        },
        ..UploadSettings::default()
    }
}

fn key() -> Rc<StreamKey> {
    stream_key("edge")
}

fn stream_key(stream: &str) -> Rc<StreamKey> {
    Rc::new(StreamKey { group: "/edge/pi".to_owned(), stream: stream.to_owned() })
}

fn events(world: &World, count: i64) -> Vec<Event> {
    (0..count)
        .map(|n| {
            Event::text(
                key(),
                world.true_ms() - (n * 7919) % 10_000,
                false,
                &format!("{{\"job\":\"edge\",\"node_load1\":{n}}}"),
            )
        })
        .collect()
}

fn batch(world: &World) -> Batch {
    Batch::encode(&key(), &events(world, 40), true)
}

fn step(world: &World, shipper: &mut Shipper, batch: &Batch) -> Step {
    shipper.step(batch, LIMITS, CertificateTime::Clock, world.env())
}

/// Steps for as long as there is progress, but not for ever.
fn run(world: &World, shipper: &mut Shipper, batch: &Batch) -> Step {
    for _ in 0..20 {
        match step(world, shipper, batch) {
            Step::Progress => {}
            other => return other,
        }
    }
    panic!("progress without end: {:?}", world.actions());
}

/// Runs, sleeping through waits, until the batch is delivered; says how long that took and how often it waited.
fn deliver(world: &World, shipper: &mut Shipper, batch: &Batch) -> (u64, u32) {
    let (start_ms, mut waits) = (world.boot_ms.get(), 0);
    while waits < 1_000 {
        match run(world, shipper, batch) {
            Step::Delivered { .. } => return (world.boot_ms.get() - start_ms, waits),
            Step::Wait => world.boot_ms.set(shipper.not_before_ms().max(world.boot_ms.get() + 1)),
            Step::Hold { until_ms } => world.boot_ms.set(until_ms),
            other => panic!("{other:?}: {:?}", status(world, shipper)),
        }
        waits += 1;
    }
    panic!("never delivered: {:?}", status(world, shipper));
}

fn status(world: &World, shipper: &Shipper) -> UploadStatus {
    shipper.status(world)
}

fn delivered() -> Step {
    Step::Delivered { rejected: Rejected::default() }
}

fn error(status: u16, code: &str, message: &str) -> Fault {
    Fault::Error { status, code: code.to_owned(), message: message.to_owned() }
}

/// A world whose stream is there.
fn ready_world() -> World {
    let world = World::new();
    world.fake.borrow_mut().create("/edge/pi", &["edge"]);
    world
}

#[test]
fn on_a_fresh_account_group_and_stream_are_created_in_the_agents_order() {
    let (world, mut shipper) = (World::new(), Shipper::new(settings()));
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    assert_eq!(
        world.actions(),
        ["PutLogEvents", "CreateLogStream", "CreateLogGroup", "CreateLogStream", "PutLogEvents"]
    );
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    assert_eq!(world.actions().len(), 6);
    let fake = world.fake.borrow();
    let stored = fake.events("/edge/pi", "edge");
    assert!(stored.len() == 80 && stored[..40].is_sorted_by_key(|event| event.timestamp_ms));
    assert_eq!(world.urls.borrow()[0], "https://logs.eu-central-1.amazonaws.com/");
    world.assert_no_rule_was_broken();
}

#[test]
fn a_request_carries_the_headers_of_the_agent() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    run(&world, &mut shipper, &batch(&world));
    let seen = world.last_seen();
    let header = |name: &str| seen.headers.iter().find_map(|(n, v)| (n == name).then_some(v.as_str()));
    assert_eq!(header("host"), Some("logs.eu-central-1.amazonaws.com"));
    assert_eq!(header("content-type"), Some("application/x-amz-json-1.1"));
    assert_eq!(header("x-amz-target"), Some("Logs_20140328.PutLogEvents"));
    assert_eq!(header("x-amzn-logs-format"), Some("json/emf"));
    assert_eq!(header("content-encoding"), Some("gzip"));
    assert!(header("user-agent").is_some_and(|agent| agent.starts_with("promwatch/")));
    let signed =
        header("authorization").and_then(|a| a.split("SignedHeaders=").nth(1)).and_then(|a| a.split(',').next());
    assert_eq!(signed, Some("content-encoding;content-type;host;x-amz-date;x-amz-target;x-amzn-logs-format"));

    let mut own = Shipper::new(UploadSettings { user_agent: Some("fleet/7".to_owned()), ..settings() });
    run(&world, &mut own, &batch(&world));
    assert!(world.last_seen().headers.contains(&("user-agent".to_owned(), "fleet/7".to_owned())));
}

#[test]
fn an_endpoint_of_the_users_own_keeps_the_signing_region() {
    let world = ready_world();
    let endpoint = Some("http://127.0.0.1:5000/aws%20logs".to_owned());
    let mut shipper = Shipper::new(UploadSettings { endpoint, ..settings() });
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    assert_eq!(world.urls.borrow()[0], "http://127.0.0.1:5000/aws%20logs/");
    assert!(world.last_seen().headers.contains(&("host".to_owned(), "127.0.0.1:5000".to_owned())));
}

#[test]
fn existing_groups_and_lost_races_are_as_good_as_creations() {
    let (world, mut shipper) = (World::new(), Shipper::new(settings()));
    let text = "The specified log group already exists";
    world.fake.borrow_mut().fail(Some("CreateLogGroup"), 1, error(400, "ResourceAlreadyExistsException", text));
    // Somebody else makes both between our requests.
    for _ in 0..3 {
        assert_eq!(step(&world, &mut shipper, &batch(&world)), ACTION);
    }
    world.fake.borrow_mut().create("/edge/pi", &["edge"]);
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    assert_eq!(world.last_seen().action, "PutLogEvents");
}

#[test]
fn a_denied_group_stops_only_its_own_streams() {
    let (world, mut shipper) = (World::new(), Shipper::new(settings()));
    world.fake.borrow_mut().denied.insert("CreateLogGroup".to_owned());
    let Step::Hold { until_ms } = run(&world, &mut shipper, &batch(&world)) else { panic!("must hold") };
    assert!(until_ms > world.boot_ms.get() && until_ms <= world.boot_ms.get() + 10_000);
    assert!(shipper.not_before_ms() <= world.boot_ms.get());
    assert_eq!(status(&world, &shipper).trouble, Some(Trouble::StreamRefused));

    world.fake.borrow_mut().create("/other", &["s"]);
    let other = Rc::new(StreamKey { group: "/other".to_owned(), stream: "s".to_owned() });
    assert_eq!(run(&world, &mut shipper, &Batch::encode(&other, &events(&world, 3), true)), delivered());
    assert_eq!(step(&world, &mut shipper, &batch(&world)), Step::Hold { until_ms });

    // The group is not asked for again with every stream of it.
    let second = Batch::encode(&stream_key("second"), &events(&world, 3), true);
    assert!(matches!(run(&world, &mut shipper, &second), Step::Hold { .. }));
    assert_eq!(world.actions().iter().filter(|action| *action == "CreateLogGroup").count(), 1);

    world.fake.borrow_mut().create("/edge/pi", &[]);
    let (took_ms, _) = deliver(&world, &mut shipper, &batch(&world));
    assert!(took_ms <= 15_000, "{took_ms}");
    deliver(&world, &mut shipper, &second);
    assert_eq!(status(&world, &shipper).trouble, None);
}

#[test]
fn a_policy_that_refuses_one_stream_leaves_the_others_alone() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    world.fake.borrow_mut().create("/edge/pi", &["own"]);
    let text = "User is not authorized to perform: logs:PutLogEvents on resource: /edge/pi:edge";
    world.fake.borrow_mut().fail(Some("PutLogEvents"), 1, error(400, "AccessDeniedException", text));
    let Step::Hold { until_ms } = run(&world, &mut shipper, &batch(&world)) else { panic!("must hold") };
    let own = Batch::encode(&stream_key("own"), &events(&world, 3), true);
    assert_eq!(run(&world, &mut shipper, &own), delivered());
    assert_eq!(shipper.held_until_ms(&key()), until_ms);
    let state = status(&world, &shipper);
    assert_eq!((state.trouble, state.held_streams), (Some(Trouble::StreamRefused), 1));
    assert!(state.last_error.is_some_and(|error| error.contains("not authorized")));
    // A stream that nobody sends to any more is forgotten.
    world.boot_ms.set(until_ms + 3_600_000);
    assert_eq!(status(&world, &shipper).trouble, None);
}

#[test]
fn a_stream_that_never_appears_is_not_created_without_end() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    world.fake.borrow_mut().fail(Some("PutLogEvents"), 50, error(400, "ResourceNotFoundException", "no such stream"));
    let before_ms = world.boot_ms.get();
    deliver(&world, &mut shipper, &batch(&world));
    let creations = world.actions().iter().filter(|action| *action == "CreateLogStream").count() as u64;
    assert!(creations <= 2 + (world.boot_ms.get() - before_ms) / 5_000, "{creations}");
}

#[test]
fn no_trouble_of_network_or_service_costs_data() {
    for (fault, trouble) in [
        (Fault::Throttle(None), Trouble::Throttled),
        (Fault::Throttle(Some(3_000)), Trouble::Throttled),
        (Fault::Gateway(429), Trouble::Throttled),
        (Fault::Gateway(502), Trouble::Offline),
        (Fault::Gateway(403), Trouble::Offline),
        (Fault::Gateway(302), Trouble::Offline),
        (Fault::CaptivePortal, Trouble::Offline),
        (Fault::DropBefore, Trouble::Offline),
        (Fault::Delay(60_000), Trouble::TimedOut),
        (error(500, "InternalFailure", ""), Trouble::Offline),
        (error(503, "ServiceUnavailableException", "busy"), Trouble::Offline),
        (error(400, "RequestTimeoutException", ""), Trouble::Offline),
        (error(400, "OperationAbortedException", "conflict"), Trouble::Offline),
        (error(400, "UnrecognizedClientException", "The security token is invalid"), Trouble::Refused),
        (error(403, "InvalidClientTokenId", "unknown"), Trouble::Refused),
        (error(400, "ExpiredTokenException", "expired"), Trouble::Refused),
        (error(400, "InvalidSignatureException", "does not match"), Trouble::Refused),
        (error(400, "MissingAuthenticationTokenException", ""), Trouble::Refused),
        (error(400, "IncompleteSignatureException", ""), Trouble::Refused),
        (error(403, "OptInRequired", ""), Trouble::Refused),
        (error(400, "SomethingNewException", ""), Trouble::Refused),
    ] {
        let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
        world.fake.borrow_mut().fail(None, 7, fault.clone());
        let batch = batch(&world);
        assert_eq!(run(&world, &mut shipper, &batch), Step::Wait, "{fault:?}");
        let state = status(&world, &shipper);
        assert_eq!(state.trouble, Some(trouble), "{fault:?}: {:?}", state.last_error);
        assert!(state.last_error.is_some_and(|text| text.starts_with("PutLogEvents")));
        assert_eq!(step(&world, &mut shipper, &batch), Step::Wait);
        let (took_ms, waits) = deliver(&world, &mut shipper, &batch);
        assert!(took_ms < 150_000 && waits >= 6, "{fault:?}: {took_ms} {waits}");
        assert_eq!(status(&world, &shipper).trouble, None);
        assert_eq!(status(&world, &shipper).failures, 0);
        // Every retry is the same to the byte.
        let fake = world.fake.borrow();
        assert!(fake.log.iter().all(|seen| seen.body_sha256 == fake.log[0].body_sha256), "{fault:?}");
    }
}

#[test]
fn a_lost_acknowledgement_stores_twice_and_loses_nothing() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    world.fake.borrow_mut().fail(None, 1, Fault::DropAfter);
    deliver(&world, &mut shipper, &batch(&world));
    assert_eq!(world.fake.borrow().events("/edge/pi", "edge").len(), 80);
}

#[test]
fn an_outage_of_an_hour_is_tried_every_ten_seconds_then_every_minute() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    world.link.set(Some(NetErrorKind::Connect));
    let start_ms = world.boot_ms.get();
    while world.boot_ms.get() < start_ms + 3_600_000 {
        assert_eq!(step(&world, &mut shipper, &batch(&world)), Step::Wait);
        let wait_ms = shipper.not_before_ms() - world.boot_ms.get();
        let young = world.boot_ms.get() - start_ms < 600_000;
        assert!(wait_ms <= if young { 10_000 } else { 60_000 }, "{wait_ms}");
        world.boot_ms.set(shipper.not_before_ms());
    }
    assert_eq!(status(&world, &shipper).outage_since_boot_ms, Some(start_ms + 10));
    world.link.set(None);
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
}

#[test]
fn what_the_service_will_never_take_is_split_and_then_dropped() {
    let single = |world: &World| Batch::encode(&key(), &events(world, 1), true);
    for fault in [
        error(400, "InvalidParameterException", "Log event too large: 292824 bytes exceeds limit of 262144"),
        error(400, "InvalidParameterException", "Upload too large: 2 bytes exceeds limit of 1"),
        error(400, "InvalidParameterException", "cannot span more than 24 hours."),
        error(400, "InvalidParameterException", "something new"),
    ] {
        let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
        world.fake.borrow_mut().fail(None, 2, fault);
        assert_eq!(run(&world, &mut shipper, &batch(&world)), Step::Split);
        assert!(matches!(run(&world, &mut shipper, &single(&world)), Step::Drop { .. }));
        assert_eq!(run(&world, &mut shipper, &single(&world)), delivered());
    }
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    let text = "Value 'x' at 'logGroupName' failed to satisfy constraint";
    world.fake.borrow_mut().fail(None, 1, error(400, "InvalidParameterException", text));
    assert!(matches!(run(&world, &mut shipper, &batch(&world)), Step::Drop { .. }));
}

#[test]
fn a_gateway_that_takes_less_gets_less_and_loses_nothing_small() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    world.fake.borrow_mut().fail(None, 3, Fault::Gateway(413));
    assert_eq!(run(&world, &mut shipper, &batch(&world)), Step::Split);
    let mut event = events(&world, 1).remove(0);
    let single = Batch::encode(&key(), std::slice::from_ref(&event), true);
    assert_eq!(run(&world, &mut shipper, &single), Step::Wait);
    world.boot_ms.set(shipper.not_before_ms());
    event = Event::text(key(), event.timestamp_ms, false, &"x".repeat(30_000));
    let large = Batch::encode(&key(), &[event], false);
    assert!(matches!(run(&world, &mut shipper, &large), Step::Drop { .. }));
    assert_eq!(run(&world, &mut shipper, &single), delivered());
}

#[test]
fn keys_that_no_header_can_hold_are_refused_without_showing_them() {
    for (id, secret, token) in [("AKID\n", "s", "t"), ("AKID", "s", "hunter2\nx"), ("AKIDé", "hunter2é", "é")] {
        let (world, mut settings) = (ready_world(), settings());
        settings.credentials.env_key_id = Some(id.to_owned());
        settings.credentials.env_secret_key = Some(Secret::Inline(secret.to_owned()));
        settings.credentials.env_session_token = Some(Secret::Inline(token.to_owned()));
        let mut shipper = Shipper::new(settings);
        assert_eq!(run(&world, &mut shipper, &batch(&world)), Step::Wait);
        let state = status(&world, &shipper);
        assert_eq!(state.trouble, Some(Trouble::Refused));
        assert!(!format!("{state:?}").contains("hunter2"));
    }
}

#[test]
fn what_breaks_a_known_rule_is_not_even_sent() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    let mut event = events(&world, 1).remove(0);
    event = Event::text(key(), event.timestamp_ms, false, &"x".repeat(1_048_551));
    let huge = [event.clone()];
    assert!(matches!(run(&world, &mut shipper, &Batch::encode(&key(), &huge, true)), Step::Drop { .. }));
    event = Event::text(key(), event.timestamp_ms, false, "");
    let with_empty = [event, events(&world, 1).remove(0)];
    assert_eq!(run(&world, &mut shipper, &Batch::encode(&key(), &with_empty, true)), Step::Split);
    let illegal = Batch::encode(&stream_key("a:b"), &events(&world, 2), true);
    assert!(matches!(run(&world, &mut shipper, &illegal), Step::Drop { .. }));
    assert!(world.actions().is_empty());
}

/// A backlog of every age and size, cut by `fits`, split where the sender says so: the service stores what is valid, exactly once.
#[test]
fn a_mixed_backlog_is_stored_to_the_last_valid_event() {
    let (world, mut shipper) = (World::new(), Shipper::new(settings()));
    let mut seed = 42u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut backlog, mut valid) = (Vec::new(), 0);
    for n in 0..3_000 {
        let age_ms = random(20 * 86_400_000) as i64 - 86_400_000;
        let size = if random(100) == 0 { 300_000 } else { random(400) as usize };
        let message =
            if random(200) == 0 { String::new() } else { format!("{{\"n\":{n},\"x\":\"{}\"}}", "é".repeat(size)) };
        // A minute of distance to the edges: the test's own time passes.
        let in_time = (-7_140_000..14 * 86_400_000 - 600_000).contains(&age_ms);
        let at_edge = !in_time && (-7_260_000..14 * 86_400_000 + 600_000).contains(&age_ms);
        if at_edge {
            continue;
        }
        valid += usize::from(in_time && !message.is_empty());
        backlog.push(Event::text(key(), world.true_ms() - age_ms, false, &message));
    }
    let mut work: Vec<Vec<Event>> = Vec::new();
    let mut rest = &backlog[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at(fits(rest, BatchLimits::API));
        work.push(now.to_vec());
        rest = later;
    }
    let (mut rejected, mut dropped) = (0, 0);
    while let Some(events) = work.pop() {
        match run(&world, &mut shipper, &Batch::encode(&key(), &events, true)) {
            Step::Delivered { rejected: r } => rejected += (r.too_old + r.too_new + r.expired) as usize,
            Step::Split => {
                let (left, right) = events.split_at(events.len() / 2);
                work.extend([left.to_vec(), right.to_vec()]);
            }
            Step::Drop { .. } => {
                assert_eq!(events.len(), 1);
                dropped += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.fake.borrow().events("/edge/pi", "edge").len(), valid);
    assert_eq!(valid + rejected + dropped, backlog.len());
    assert!(rejected > 500 && dropped > 5);
    world.assert_no_rule_was_broken();
}

#[test]
fn expired_events_are_told_apart_from_old_ones() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    world.fake.borrow_mut().groups.get_mut("/edge/pi").expect("made above").retention_days = Some(3);
    let day = 86_400_000;
    for (age_ms, count, expected) in [
        (15 * day, 2, Rejected { too_old: 2, ..Rejected::default() }),
        (4 * day, 3, Rejected { expired: 3, ..Rejected::default() }),
        (-3 * 3_600_000, 4, Rejected { too_new: 4, ..Rejected::default() }),
        (day, 5, Rejected::default()),
    ] {
        let mut events = events(&world, count);
        events.iter_mut().for_each(|event| event.timestamp_ms -= age_ms);
        let step = run(&world, &mut shipper, &Batch::encode(&key(), &events, true));
        assert_eq!(step, Step::Delivered { rejected: expected });
    }
}

#[test]
fn a_service_without_gzip_gets_plain_bodies() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    world.fake.borrow_mut().refuse_gzip = true;
    assert!(shipper.compress(&world));
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    assert!(!shipper.compress(&world));
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    assert_eq!(world.actions().len(), 3);
    // Gateways get mended: gzip is tried again.
    world.fake.borrow_mut().refuse_gzip = false;
    world.boot_ms.set(world.boot_ms.get() + 600_000);
    assert!(shipper.compress(&world));
    // If plain bodies are refused too, gzip was not the reason.
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    world.fake.borrow_mut().fail(None, 4, error(400, "SerializationException", ""));
    assert_eq!(run(&world, &mut shipper, &batch(&world)), Step::Wait);
    assert!(shipper.compress(&world));
    deliver(&world, &mut shipper, &batch(&world));
}

/// moto_server 5.2.1 answers every gzip body with a page and 500.
#[test]
fn an_emulator_that_breaks_on_gzip_gets_plain_bodies() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    world.fake.borrow_mut().fail(None, 1, Fault::Gateway(500));
    deliver(&world, &mut shipper, &batch(&world));
    assert!(!shipper.compress(&world));
    let encoded = |seen: &Seen| seen.headers.iter().any(|(name, _)| name == "content-encoding");
    assert_eq!(world.fake.borrow().log.iter().map(encoded).collect::<Vec<_>>(), [true, false]);
    // An outage is not put down to gzip for good, nor is one of the service itself.
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    world.fake.borrow_mut().fail(None, 2, Fault::Gateway(500));
    world.fake.borrow_mut().fail(None, 1, error(500, "InternalFailure", ""));
    deliver(&world, &mut shipper, &batch(&world));
    assert_eq!(world.fake.borrow().log.iter().map(encoded).collect::<Vec<_>>(), [true, false, true, true]);
}

#[test]
fn a_wrong_clock_is_corrected_by_the_first_answer() {
    for error_ms in [-56 * 365 * 86_400_000, -3_600_000, -6 * 60_000, 6 * 60_000, 86_400_000] {
        let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
        world.wall_error_ms.set(error_ms);
        assert_eq!(shipper.skew_ms(&world), None);
        assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
        assert_eq!(world.actions().len(), 2, "one refusal, then signed anew");
        let skew_ms = shipper.skew_ms(&world).expect("learnt");
        assert!((skew_ms + error_ms).abs() <= 1_000, "{skew_ms}");
        // NTP steps the clock: what was learnt stays true.
        world.wall_error_ms.set(0);
        assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
        assert_eq!(world.actions().len(), 3);
    }
}

#[test]
fn a_server_with_a_wild_clock_does_not_keep_us_busy() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    world.server_drift_ms.set(3_600_000);
    for _ in 0..5 {
        assert_eq!(run(&world, &mut shipper, &batch(&world)), Step::Wait);
        world.boot_ms.set(shipper.not_before_ms());
    }
    assert!(world.actions().len() <= 11, "{}", world.actions().len());
    world.server_drift_ms.set(0);
    deliver(&world, &mut shipper, &batch(&world));
}

#[test]
fn a_device_that_boots_in_1970_delivers_over_tls() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    world.wall_error_ms.set(-world.true_ms() + 30_000);
    world.certificate.set(Some((START_MS / 1000 - 86_400, START_MS / 1000 + 86_400)));
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    // The first request that reached the service asked for the time, without credentials.
    let fake = world.fake.borrow();
    assert_eq!(fake.log.len(), 2);
    assert!(
        fake.log[0].headers.iter().all(|(name, _)| !name.starts_with("authorization") && !name.starts_with("x-amz"))
    );
}

#[test]
fn a_certificate_that_is_really_over_is_not_accepted() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    world.certificate.set(Some((0, START_MS / 1000 - 86_400)));
    assert_eq!(run(&world, &mut shipper, &batch(&world)), Step::Wait);
    assert_eq!(status(&world, &shipper).trouble, Some(Trouble::Offline));
    world.boot_ms.set(shipper.not_before_ms());
    assert_eq!(run(&world, &mut shipper, &batch(&world)), Step::Wait);
    assert!(world.fake.borrow().log.iter().all(|seen| seen.action == "?"), "no credentials went there");
}

const CREDENTIALS: &str =
    "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n";

fn settings_of_files() -> UploadSettings {
    let mut settings = settings();
    settings.credentials.env_key_id = None;
    settings
}

fn write(world: &World, text: &str) {
    world.disk.put(Path::new("/root/.aws/credentials"), text.as_bytes());
}

#[test]
fn without_credentials_it_waits_and_sees_them_when_they_come() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings_of_files()));
    assert_eq!(run(&world, &mut shipper, &batch(&world)), Step::Wait);
    let state = status(&world, &shipper);
    assert_eq!(state.trouble, Some(Trouble::NoCredentials));
    let text = state.last_error.expect("a reason");
    assert!(text.starts_with("no credentials") && text.contains("/root/.aws/credentials"), "{text}");
    write(&world, CREDENTIALS);
    let (took_ms, _) = deliver(&world, &mut shipper, &batch(&world));
    assert!(took_ms <= 10_100, "{took_ms}");
    let source = status(&world, &shipper).credentials.expect("a source");
    assert_eq!(source, "profile default in /root/.aws/credentials and /root/.aws/config");
    assert!(world.actions().iter().all(|action| action == "PutLogEvents"), "nothing was asked without keys");
}

#[test]
fn rotated_keys_are_read_again_and_a_half_written_file_costs_nothing() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings_of_files()));
    write(&world, CREDENTIALS);
    deliver(&world, &mut shipper, &batch(&world));
    for n in 0..5 {
        let key = FakeKey {
            id: format!("ASIA{n}"),
            secret: format!("secret{n}"),
            token: Some(format!("token{n}")),
            expires_ms: None,
        };
        let text = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\naws_session_token = token{n}\n",
            key.id, key.secret
        );
        // The old key stops working before the file is complete.
        write(&world, &text[..text.len() / 2]);
        world.boot_ms.set(world.boot_ms.get() + 15_000);
        assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
        world.fake.borrow_mut().keys = vec![key];
        write(&world, &text);
        let (took_ms, _) = deliver(&world, &mut shipper, &batch(&world));
        assert!(took_ms <= 10_100, "{took_ms}");
        assert_eq!(world.last_seen().key_id, format!("ASIA{n}"));
        world.boot_ms.set(world.boot_ms.get() + 1_800_000);
    }
}

const ROLE: &str = "arn:aws:iam::123456789012:role/edge";

fn world_with_role() -> World {
    let world = ready_world();
    world.fake.borrow_mut().roles.insert(ROLE.to_owned(), None);
    world
}

fn settings_with_role() -> UploadSettings {
    UploadSettings { role_arn: Some(ROLE.to_owned()), role_session_name: Some("pi-1.local".to_owned()), ..settings() }
}

#[test]
fn a_role_is_assumed_and_renewed_at_half_of_its_life() {
    let (world, mut shipper) = (world_with_role(), Shipper::new(settings_with_role()));
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    assert_eq!(world.actions(), ["AssumeRole", "PutLogEvents"]);
    assert_eq!(world.urls.borrow()[0], "https://sts.eu-central-1.amazonaws.com/");
    let first = world.last_seen().key_id;
    assert!(first.starts_with("ASIA"));
    let state = status(&world, &shipper);
    assert_eq!(state.credentials.as_deref(), Some(format!("role {ROLE} over environment").as_str()));
    assert!(state.credentials_expire_ms.is_some_and(|at| (at - world.true_ms() - 3_600_000).abs() < 2_000));

    world.boot_ms.set(world.boot_ms.get() + 1_790_000);
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    assert_eq!(world.last_seen().key_id, first);
    world.boot_ms.set(world.boot_ms.get() + 20_000);
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    assert_ne!(world.last_seen().key_id, first);
    world.assert_no_rule_was_broken();
}

#[test]
fn old_keys_serve_while_sts_fails() {
    for fault in [Fault::DropBefore, Fault::Throttle(None), error(403, "AccessDenied", "not now"), Fault::Gateway(502)]
    {
        let (world, mut shipper) = (world_with_role(), Shipper::new(settings_with_role()));
        deliver(&world, &mut shipper, &batch(&world));
        world.boot_ms.set(world.boot_ms.get() + 1_810_000);
        world.fake.borrow_mut().fail(Some("AssumeRole"), 1_000, fault.clone());
        for _ in 0..60 {
            let (took_ms, waits) = deliver(&world, &mut shipper, &batch(&world));
            assert!(took_ms < 1_000 && waits == 0, "{fault:?}");
            world.boot_ms.set(world.boot_ms.get() + 10_000);
        }
        let asked = world.actions().iter().filter(|action| *action == "AssumeRole").count();
        assert!((10..=12).contains(&asked), "once a minute, not {asked}");
        // When they are over there is nothing left but to wait, and to go on at once when STS is back.
        world.boot_ms.set(world.boot_ms.get() + 3_600_000);
        assert_eq!(run(&world, &mut shipper, &batch(&world)), Step::Wait);
        world.fake.borrow_mut().faults.clear();
        let (took_ms, _) = deliver(&world, &mut shipper, &batch(&world));
        assert!(took_ms <= 10_100, "{took_ms}");
    }
}

#[test]
fn a_token_that_aws_calls_expired_is_renewed_at_once_but_not_without_end() {
    let (world, mut shipper) = (world_with_role(), Shipper::new(settings_with_role()));
    deliver(&world, &mut shipper, &batch(&world));
    world.fake.borrow_mut().keys.retain(|key| key.token.is_none());
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    assert_eq!(world.actions(), ["AssumeRole", "PutLogEvents", "PutLogEvents", "AssumeRole", "PutLogEvents"]);
    world.fake.borrow_mut().fail(Some("PutLogEvents"), 30, error(400, "ExpiredTokenException", "expired"));
    let start_ms = world.boot_ms.get();
    deliver(&world, &mut shipper, &batch(&world));
    let minutes = (world.boot_ms.get() - start_ms) / 60_000;
    let asked = world.actions().iter().filter(|action| *action == "AssumeRole").count() as u64;
    assert!(asked <= 3 + minutes, "{asked} in {minutes} minutes");
}

#[test]
fn after_a_night_offline_keys_are_renewed_before_anything_is_sent() {
    let (world, mut shipper) = (world_with_role(), Shipper::new(settings_with_role()));
    deliver(&world, &mut shipper, &batch(&world));
    world.boot_ms.set(world.boot_ms.get() + 9 * 3_600_000);
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    assert_eq!(world.actions(), ["AssumeRole", "PutLogEvents", "AssumeRole", "PutLogEvents"]);
}

#[test]
fn a_wrong_clock_is_learnt_from_sts_too() {
    let (world, mut shipper) = (world_with_role(), Shipper::new(settings_with_role()));
    world.wall_error_ms.set(-86_400_000);
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    assert_eq!(world.actions(), ["AssumeRole", "AssumeRole", "PutLogEvents"]);
}

#[test]
fn roles_of_profiles_and_of_the_agents_json_are_chained() {
    let second = "arn:aws:iam::210987654321:role/logs";
    let world = world_with_role();
    world.fake.borrow_mut().roles.insert(ROLE.to_owned(), Some("site 7".to_owned()));
    world.fake.borrow_mut().roles.insert(second.to_owned(), None);
    write(&world, &CREDENTIALS.replace("default", "base"));
    let config = format!("[profile edge]\nrole_arn = {ROLE}\nsource_profile = base\nexternal_id = site 7\n");
    world.disk.put(Path::new("/root/.aws/config"), config.as_bytes());
    let mut settings = settings_of_files();
    settings.credentials.profile = Some("edge".to_owned());
    settings.role_arn = Some(second.to_owned());
    let mut shipper = Shipper::new(settings);
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    assert_eq!(world.actions(), ["AssumeRole", "AssumeRole", "PutLogEvents"]);
    let source = status(&world, &shipper).credentials.expect("a source");
    assert_eq!(
        source,
        format!("role {second} over role {ROLE} over profile base in /root/.aws/credentials and /root/.aws/config")
    );
    // The second role is renewed with the first one's keys, which are renewed for it.
    world.boot_ms.set(world.boot_ms.get() + 7_200_000);
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
    assert_eq!(world.actions().len(), 6);
    world.assert_no_rule_was_broken();
}

#[test]
fn a_role_that_may_not_be_assumed_waits_with_a_reason() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings_with_role()));
    assert_eq!(run(&world, &mut shipper, &batch(&world)), Step::Wait);
    let state = status(&world, &shipper);
    assert_eq!(state.trouble, Some(Trouble::Refused));
    assert!(state.last_error.is_some_and(|text| text.contains("AccessDenied") && text.contains(ROLE)));
    world.fake.borrow_mut().roles.insert(ROLE.to_owned(), None);
    let (took_ms, _) = deliver(&world, &mut shipper, &batch(&world));
    assert!(took_ms <= 10_100, "{took_ms}");
}

#[test]
fn without_a_region_nothing_is_sent() {
    let world = ready_world();
    let mut shipper = Shipper::new(UploadSettings { region: None, ..settings() });
    assert_eq!(run(&world, &mut shipper, &batch(&world)), Step::Wait);
    assert_eq!(status(&world, &shipper).trouble, Some(Trouble::NoEndpoint));
    // A reload ends every wait.
    shipper.reload(settings());
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
}

#[test]
fn a_signal_to_stop_is_no_failure() {
    let (world, mut shipper) = (ready_world(), Shipper::new(settings()));
    world.link.set(Some(NetErrorKind::Stopped));
    assert_eq!(run(&world, &mut shipper, &batch(&world)), Step::Interrupted);
    assert_eq!(status(&world, &shipper).failures, 0);
    world.link.set(None);
    assert_eq!(run(&world, &mut shipper, &batch(&world)), delivered());
}
