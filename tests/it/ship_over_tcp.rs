//! The sender over real sockets: what is signed is what arrives, with and without TLS.

use crate::cloudwatch::server::FakeServer;
use crate::cloudwatch::{FakeCloudWatch, Fault};
use promwatch::env::{CertificateTime, Env, Limits, RealClock, RealDisk, RealNet};
use promwatch::model::settings::{CredentialSettings, Secret, TlsSettings, UploadSettings};
use promwatch::model::{Event, StreamKey};
use promwatch::ship::{Batch, Rejected, Shipper, Step, Trouble};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

const LIMITS: Limits = Limits { total_ms: 10_000, stall_ms: 2_000 };
const ROLE: &str = "arn:aws:iam::123456789012:role/edge";

fn settings(server: &FakeServer) -> UploadSettings {
    UploadSettings {
        region: Some("eu-central-1".to_owned()),
        endpoint: Some(server.url.clone()),
        sts_endpoint: Some(server.url.clone()),
        role_arn: Some(ROLE.to_owned()),
        credentials: CredentialSettings {
            credentials_file: "/nonexistent/credentials".into(),
            config_file: "/nonexistent/config".into(),
            env_key_id: Some("AKIDEXAMPLE".to_owned()),
            env_secret_key: Some(Secret::Inline("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned())),
            ..CredentialSettings::default()
        },
        tls: TlsSettings {
            ca: (!server.ca_pem.is_empty()).then(|| Secret::Inline(server.ca_pem.clone())),
            ..TlsSettings::default()
        },
        ..UploadSettings::default()
    }
}

fn fake() -> FakeCloudWatch {
    let mut fake = FakeCloudWatch::default();
    fake.roles.insert(ROLE.to_owned(), None);
    fake
}

fn batch(events: usize) -> Batch {
    #[allow(clippy::disallowed_methods)] // the server judges ages by real time
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let key = Rc::new(StreamKey { group: "/edge/tcp".to_owned(), stream: "job é".to_owned() });
    let event = |n: usize| Event::text(Rc::clone(&key), now_ms + n as i64, false, &format!("{{\"n\":{n}}}"));
    Batch::encode(&key, &(0..events).map(event).collect::<Vec<_>>(), true)
}

fn run(shipper: &mut Shipper, batch: &Batch) -> Step {
    let (clock, net) = (RealClock::new(), RealNet::new(Arc::new(AtomicBool::new(false))));
    let env = Env { clock: &clock, disk: &RealDisk, net: &net };
    for _ in 0..20 {
        match shipper.step(batch, LIMITS, CertificateTime::Clock, env) {
            Step::Progress => {}
            other => return other,
        }
    }
    panic!("progress without end");
}

#[test]
fn batches_arrive_with_and_without_tls() {
    for server in [FakeServer::start(fake()), FakeServer::start_tls(fake())] {
        let mut shipper = Shipper::new(settings(&server));
        let clock = RealClock::new();
        for count in [1, 1_000, 10_000] {
            let step = run(&mut shipper, &batch(count));
            let status = shipper.status(&clock);
            assert_eq!(step, Step::Delivered { rejected: Rejected::default() }, "{:?}", status.last_error);
        }
        let state = server.state();
        assert_eq!(state.events("/edge/tcp", "job é").len(), 11_001);
        assert_eq!(state.violations, Vec::<String>::new());
        assert_eq!(state.actions()[..2], ["AssumeRole", "PutLogEvents"]);
        drop(state);
        // One second is what `Date` cannot tell.
        assert!(shipper.skew_ms(&clock).is_some_and(|skew| skew.abs() <= 1_500));
    }
}

#[test]
fn a_connection_that_breaks_is_an_outage_and_nothing_else() {
    let server = FakeServer::start_tls(fake());
    server.state().fail(Some("PutLogEvents"), 1, Fault::DropAfter);
    let mut shipper = Shipper::new(settings(&server));
    assert_eq!(run(&mut shipper, &batch(3)), Step::Wait);
    assert_eq!(shipper.status(&RealClock::new()).trouble, Some(Trouble::Offline));
}

#[test]
fn a_certificate_of_strangers_gets_no_keys() {
    let server = FakeServer::start_tls(fake());
    let mut settings = settings(&server);
    settings.tls = TlsSettings::default();
    let mut shipper = Shipper::new(settings);
    assert_eq!(run(&mut shipper, &batch(3)), Step::Wait);
    assert_eq!(shipper.status(&RealClock::new()).trouble, Some(Trouble::Offline));
    assert!(server.state().log.is_empty());
}
