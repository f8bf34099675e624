//! TLS of the real network door: whom it trusts, by which time, and what it calls each refusal.

#![allow(clippy::disallowed_methods)]

use super::net::{Ask, Server, get, new_net, ok, read_request};
use promwatch::env::{CertificateTime, Exchange, Limits, NetError, NetErrorKind, RealNet};
use promwatch::model::settings::{Secret, TlsSettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// An authority and what it signs.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// PEM of a certificate and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn sign(&self, names: &[&str], years: (i32, i32)) -> Identity {
        let mut params = params(names);
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Identity { cert: cert.pem(), key: key.serialize_pem() }
    }

    fn trusted(&self) -> TlsSettings {
        TlsSettings { ca: Some(Secret::Inline(self.pem())), ..TlsSettings::default() }
    }
}

fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_string()).collect::<Vec<_>>()).unwrap()
}

const ALWAYS: (i32, i32) = (2000, 2090);

#[derive(Clone, Copy, Default)]
pub(crate) struct Options<'a> {
    client_ca: Option<&'a Authority>,
    only_tls12: bool,
    /// Close after each answer.
    one_request: bool,
}

/// An HTTPS server on loopback; counts connections and whether their session was resumed.
pub(crate) struct TlsServer {
    pub address: SocketAddr,
    resumed: Arc<Mutex<Vec<bool>>>,
}

impl TlsServer {
    pub(crate) fn start(identity: &Identity, options: Options<'_>) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[_] = if options.only_tls12 {
            &[&rustls::version::TLS12]
        } else {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        };
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
        let builder = match options.client_ca {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.issuer.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = CertificateDer::pem_slice_iter(identity.cert.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let resumed = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&resumed);
        let one_request = options.one_request;
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, log) = (Arc::clone(&config), Arc::clone(&log));
                thread::spawn(move || {
                    let tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream.unwrap());
                    let mut reader = BufReader::new(tls);
                    let mut first = true;
                    while read_request(&mut reader).is_some() {
                        let tls = reader.get_mut();
                        if std::mem::take(&mut first) {
                            let kind = tls.conn.handshake_kind();
                            log.lock().unwrap().push(kind == Some(rustls::HandshakeKind::Resumed));
                        }
                        tls.write_all(&ok("secure").unwrap()).unwrap();
                        tls.flush().unwrap();
                        if one_request {
                            tls.conn.send_close_notify();
                            let _ = tls.flush();
                            break;
                        }
                    }
                });
            }
        });
        Self { address, resumed }
    }

    fn ask(&self, tls: &TlsSettings) -> Ask<'static> {
        let mut ask = get(format!("https://localhost:{}/", self.address.port()));
        ask.route.tls = tls.clone();
        ask
    }
}

fn outcome(server: &TlsServer, tls: &TlsSettings, net: &RealNet) -> Result<Exchange, NetError> {
    server.ask(tls).with(net).map(|(exchange, body)| {
        assert_eq!(body, b"secure");
        exchange
    })
}

fn kind(outcome: Result<Exchange, NetError>) -> NetErrorKind {
    let error = outcome.expect_err("a refusal");
    assert!(!error.sent, "nothing is sent before the certificate is judged: {error}");
    error.kind
}

#[test]
fn the_settings_authority_replaces_the_built_in_roots() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.sign(&["localhost"], ALWAYS), Options::default());
    let net = new_net();
    assert_eq!(kind(outcome(&server, &TlsSettings::default(), &net)), NetErrorKind::Tls);
    assert!(outcome(&server, &authority.trusted(), &net).is_ok());
    assert_eq!(kind(outcome(&server, &Authority::new().trusted(), &net)), NetErrorKind::Tls);
    let skip = TlsSettings { insecure_skip_verify: true, ..TlsSettings::default() };
    assert!(outcome(&server, &skip, &net).is_ok());
}

#[test]
fn the_name_is_checked_and_can_be_given() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.sign(&["other.example"], ALWAYS), Options::default());
    let net = new_net();
    let mut tls = authority.trusted();
    assert_eq!(kind(outcome(&server, &tls, &net)), NetErrorKind::Tls);
    tls.server_name = Some("other.example".into());
    assert!(outcome(&server, &tls, &net).is_ok());
    tls.server_name = Some("not a name".into());
    assert_eq!(kind(outcome(&server, &tls, &net)), NetErrorKind::Config);
    // An address is a name too.
    let server = TlsServer::start(&authority.sign(&["127.0.0.1"], ALWAYS), Options::default());
    let mut ask = server.ask(&authority.trusted());
    ask.url = format!("https://{}/", server.address);
    assert!(ask.with(&net).is_ok());
}

#[test]
fn dates_are_told_apart_from_other_refusals() {
    let authority = Authority::new();
    let net = new_net();
    for years in [(2000, 2001), (2080, 2090)] {
        let server = TlsServer::start(&authority.sign(&["localhost"], years), Options::default());
        assert_eq!(kind(outcome(&server, &authority.trusted(), &net)), NetErrorKind::CertificateDates);
        // Out of date and from a stranger, or with the wrong name: the clock is not to blame.
        assert_eq!(kind(outcome(&server, &Authority::new().trusted(), &net)), NetErrorKind::Tls);
        let server = TlsServer::start(&authority.sign(&["other"], years), Options::default());
        assert_eq!(kind(outcome(&server, &authority.trusted(), &net)), NetErrorKind::Tls);
    }
}

#[test]
fn certificates_are_judged_by_the_time_of_the_request() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.sign(&["localhost"], (2000, 2001)), Options::default());
    let net = new_net();
    let with = |time| {
        let mut ask = server.ask(&authority.trusted());
        ask.certificate_time = time;
        ask.with(&net).map(|(exchange, _)| exchange)
    };
    assert_eq!(kind(with(CertificateTime::Clock)), NetErrorKind::CertificateDates);
    assert_eq!(kind(with(CertificateTime::At(0))), NetErrorKind::CertificateDates);
    assert!(with(CertificateTime::AnyTime).is_ok());
    // What was learnt without dates opens nothing: neither the connection nor the session.
    assert_eq!(kind(with(CertificateTime::Clock)), NetErrorKind::CertificateDates);
    // Summer 2000.
    assert!(with(CertificateTime::At(962_000_000)).is_ok());
    let stranger = TlsServer::start(&Authority::new().sign(&["localhost"], (2000, 2001)), Options::default());
    let mut ask = stranger.ask(&authority.trusted());
    ask.certificate_time = CertificateTime::AnyTime;
    assert_eq!(kind(ask.with(&net).map(|(exchange, _)| exchange)), NetErrorKind::Tls);
}

#[test]
fn a_self_signed_server_is_trusted_when_its_certificate_is_the_authority() {
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let key = KeyPair::generate().unwrap();
        let mut own = params(&["localhost"]);
        own.is_ca = is_ca;
        let net = new_net();
        for (years, want) in [(ALWAYS, None), ((2000, 2001), Some(NetErrorKind::CertificateDates))] {
            own.not_before = date_time_ymd(years.0, 1, 1);
            own.not_after = date_time_ymd(years.1, 1, 1);
            let cert = own.self_signed(&key).unwrap().pem();
            let server =
                TlsServer::start(&Identity { cert: cert.clone(), key: key.serialize_pem() }, Options::default());
            let tls = TlsSettings { ca: Some(Secret::Inline(cert)), ..TlsSettings::default() };
            let outcome_now = outcome(&server, &tls, &net);
            assert_eq!(outcome_now.as_ref().err().map(|error| error.kind), want, "{is_ca:?} {outcome_now:?}");
            let unknown = outcome(&server, &TlsSettings::default(), &net).unwrap_err();
            assert!(unknown.kind == NetErrorKind::Tls && unknown.text.contains("ca_file"), "{unknown}");
            let wrong_name = TlsSettings { server_name: Some("other".into()), ..tls };
            assert_eq!(kind(outcome(&server, &wrong_name, &net)), NetErrorKind::Tls, "{is_ca:?}");
        }
    }
}

#[test]
fn a_client_certificate_is_shown_when_the_server_asks_for_it() {
    let authority = Authority::new();
    let options = Options { client_ca: Some(&authority), ..Options::default() };
    let server = TlsServer::start(&authority.sign(&["localhost"], ALWAYS), options);
    let net = new_net();
    let error = outcome(&server, &authority.trusted(), &net).unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Tls, "{error}");
    let client = authority.sign(&["client"], ALWAYS);
    let with = TlsSettings {
        cert: Some(Secret::Inline(client.cert.clone())),
        key: Some(Secret::Inline(client.key.clone())),
        ..authority.trusted()
    };
    assert!(outcome(&server, &with, &net).is_ok());
    let half = TlsSettings { key: None, ..with.clone() };
    assert_eq!(kind(outcome(&server, &half, &net)), NetErrorKind::Config);
    let swapped = TlsSettings { cert: with.key.clone(), key: with.cert.clone(), ..with };
    let error = outcome(&server, &swapped, &net).unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Config);
    assert!(!error.text.contains(client.key.lines().nth(1).unwrap()));
}

#[test]
fn the_versions_of_the_settings_are_kept() {
    let authority = Authority::new();
    let options = Options { only_tls12: true, ..Options::default() };
    let server = TlsServer::start(&authority.sign(&["localhost"], ALWAYS), options);
    let net = new_net();
    assert!(outcome(&server, &authority.trusted(), &net).is_ok());
    let newer = TlsSettings { min_version: Some(13), ..authority.trusted() };
    assert_eq!(kind(outcome(&server, &newer, &net)), NetErrorKind::Tls);
    let none = TlsSettings { min_version: Some(13), max_version: Some(12), ..authority.trusted() };
    assert_eq!(kind(outcome(&server, &none, &net)), NetErrorKind::Config);
}

#[test]
fn connections_are_kept_and_sessions_resumed() {
    let authority = Authority::new();
    for only_tls12 in [false, true] {
        let net = new_net();
        let identity = authority.sign(&["localhost"], ALWAYS);
        let server = TlsServer::start(&identity, Options { only_tls12, ..Options::default() });
        for _ in 0..3 {
            outcome(&server, &authority.trusted(), &net).unwrap();
        }
        assert_eq!(*server.resumed.lock().unwrap(), [false], "one connection");
        let server = TlsServer::start(&identity, Options { only_tls12, one_request: true, ..Options::default() });
        for _ in 0..3 {
            outcome(&server, &authority.trusted(), &net).unwrap();
            thread::sleep(Duration::from_millis(30));
        }
        assert_eq!(*server.resumed.lock().unwrap(), [false, true, true], "tls 1.2: {only_tls12}");
    }
}

#[test]
fn an_authority_in_a_file_is_read_again_when_it_changes() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = TlsServer::start(&new.sign(&["localhost"], ALWAYS), Options::default());
    let path = std::env::temp_dir().join(format!("promwatch-ca-{}.pem", std::process::id()));
    let tls = TlsSettings { ca: Some(Secret::File(path.clone())), ..TlsSettings::default() };
    let net = new_net();
    assert_eq!(kind(outcome(&server, &tls, &net)), NetErrorKind::Config);
    write(&path, &old.pem());
    assert_eq!(kind(outcome(&server, &tls, &net)), NetErrorKind::Tls);
    write(&path, &format!("{}{}", old.pem(), new.pem()));
    assert!(outcome(&server, &tls, &net).is_ok());
    write(&path, "no certificate");
    let error = outcome(&server, &tls, &new_net()).unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Config);
    assert!(error.text.contains(path.to_str().unwrap()) || error.text.contains("PEM"), "{error}");
    let _ = std::fs::remove_file(&path);
}

fn write(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn a_handshake_that_hangs_costs_the_stall_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ask = get(format!("https://{}/", listener.local_addr().unwrap()));
    ask.limits = Limits { total_ms: 20_000, stall_ms: 600 };
    let started = Instant::now();
    let error = ask.with(&new_net()).unwrap_err();
    assert_eq!((error.kind, error.sent), (NetErrorKind::Timeout, false));
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_plain_server_behind_an_https_url_is_a_tls_error() {
    let plain = super::net::Server::raw(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        thread::sleep(Duration::from_millis(300));
    });
    let error = get(format!("https://{plain}/")).with(&new_net()).unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Tls, "{error}");
}

#[test]
fn a_redirect_elsewhere_is_shown_no_client_certificate() {
    let authority = Authority::new();
    let options = Options { client_ca: Some(&authority), ..Options::default() };
    let server = TlsServer::start(&authority.sign(&["localhost"], ALWAYS), options);
    let client = authority.sign(&["device"], ALWAYS);
    let mut tls = authority.trusted();
    (tls.cert, tls.key) = (Some(Secret::Inline(client.cert)), Some(Secret::Inline(client.key)));
    let net = new_net();
    assert!(outcome(&server, &tls, &net).is_ok());
    let target = format!("https://localhost:{}/", server.address.port());
    let here = Server::start(move |_| {
        Some(format!("HTTP/1.1 302 X\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n").into_bytes())
    });
    let mut ask = get(format!("http://localhost:{}/", here.address.port()));
    ask.route.tls = tls;
    ask.route.follow_redirects = true;
    let error = ask.with(&net).expect_err("the server wants a certificate");
    assert_eq!(error.kind, NetErrorKind::Tls, "{error}");
}
