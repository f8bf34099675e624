//! The real network door against real sockets on loopback: broken, slow and hostile peers included.

#![allow(clippy::disallowed_methods)]

use promwatch::env::{CertificateTime, Exchange, Head, Limits, Net, NetError, NetErrorKind, RealNet, Request, Route};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const QUICK: Limits = Limits { total_ms: 10_000, stall_ms: 5_000 };

pub(crate) fn new_net() -> RealNet {
    RealNet::new(Arc::new(AtomicBool::new(false)))
}

/// A request with everything at its default.
pub(crate) struct Ask<'a> {
    pub method: &'a str,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: &'a [u8],
    pub route: Route,
    pub limits: Limits,
    pub certificate_time: CertificateTime,
}

pub(crate) fn get(url: impl Into<String>) -> Ask<'static> {
    Ask {
        method: "GET",
        url: url.into(),
        headers: vec![],
        body: b"",
        route: Route::default(),
        limits: QUICK,
        certificate_time: CertificateTime::Clock,
    }
}

impl Ask<'_> {
    pub(crate) fn with(mut self, net: &dyn Net) -> Result<(Exchange, Vec<u8>), NetError> {
        let headers = std::mem::take(&mut self.headers);
        let request = Request {
            method: self.method,
            url: &self.url,
            headers: &headers,
            body: self.body,
            route: &self.route,
            limits: self.limits,
            certificate_time: self.certificate_time,
            new_connection: false,
            stop_grace_ms: Request::STOP_GRACE_MS,
        };
        let mut body = Vec::new();
        let exchange = net.exchange(&request, &mut |_: &Head, piece: &[u8]| {
            assert!(!piece.is_empty() && piece.len() <= 16 << 10);
            body.extend_from_slice(piece);
            ControlFlow::Continue(())
        })?;
        assert_eq!(exchange.body_bytes, body.len() as u64);
        Ok((exchange, body))
    }

    pub(crate) fn failing(self, net: &dyn Net) -> NetError {
        self.with(net).expect_err("an error")
    }
}

/// What a server saw of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub connection: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Reads one request off a connection.
pub(crate) fn read_request(reader: &mut impl BufRead) -> Option<Seen> {
    let mut seen = Seen::default();
    reader.read_line(&mut seen.line).ok().filter(|&read| read > 0)?;
    seen.line = seen.line.trim_end().to_string();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        seen.headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
    }
    let length = seen.header("content-length").map_or(0, |value| value.parse().unwrap());
    seen.body = vec![0; length];
    reader.read_exact(&mut seen.body).ok()?;
    Some(seen)
}

/// A server that answers each request with what `answer` gives; nothing closes the connection.
pub(crate) struct Server {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Seen) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(mut seen) = read_request(&mut reader) {
                        seen.connection = connection;
                        let reply = answer(&seen);
                        log.lock().unwrap().push(seen);
                        match reply {
                            Some(bytes) if stream.write_all(&bytes).is_ok() => {}
                            _ => break,
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }

    /// Runs once per connection on the bare socket.
    pub(crate) fn raw(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(stream.unwrap()));
            }
        });
        address
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

pub(crate) fn ok(body: &str) -> Option<Vec<u8>> {
    Some(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

/// The error, and how long it took to come.
pub(crate) fn timed(ask: Ask<'_>, net: &dyn Net) -> (NetError, Duration) {
    let started = Instant::now();
    let error = ask.failing(net);
    (error, started.elapsed())
}

#[test]
fn a_request_goes_out_as_it_was_given_and_nothing_is_added_but_host_and_length() {
    let server = Server::start(|_| ok("hello"));
    let net = new_net();
    let mut ask = get(server.url("/metrics?x=1"));
    ask.method = "POST";
    ask.headers = vec![("X-One".into(), "1".into()), ("x-one".into(), "2".into())];
    ask.body = b"body";
    let (exchange, body) = ask.with(&net).unwrap();
    assert_eq!(
        (exchange.head.status, exchange.head.header("content-length"), &body[..]),
        (200, Some("5"), &b"hello"[..])
    );
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /metrics?x=1 HTTP/1.1");
    assert_eq!(seen.body, b"body");
    let mut names: Vec<&str> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "host", "x-one", "x-one"]);
    assert_eq!(seen.header("host"), Some(server.address.to_string().as_str()));
}

#[test]
fn connections_are_kept_for_the_next_request() {
    let server = Server::start(|_| ok("x"));
    let net = new_net();
    for _ in 0..5 {
        get(server.url("/")).with(&net).unwrap();
    }
    assert!(server.seen().iter().all(|seen| seen.connection == 0));
    // Another way to the same host has connections of its own.
    let mut other = get(server.url("/"));
    other.route.tls.insecure_skip_verify = true;
    other.with(&net).unwrap();
    assert_eq!(server.seen().last().unwrap().connection, 1);
}

#[test]
fn a_connection_that_died_while_idle_is_noticed() {
    let closer = Server::raw(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        read_request(&mut reader).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx").unwrap();
    });
    let net = new_net();
    for _ in 0..3 {
        let mut ask = get(format!("http://{closer}/"));
        ask.method = "POST";
        ask.body = b"b";
        assert_eq!(ask.with(&net).unwrap().1, b"x");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_get_on_a_dying_connection_is_asked_again_and_a_post_is_not() {
    // The second request on each connection is read and never answered: the connection is closed.
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let address = Server::raw(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        read_request(&mut reader).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx").unwrap();
        if read_request(&mut reader).is_some() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let net = new_net();
    let url = format!("http://{address}/");
    get(&url).with(&net).unwrap();
    assert_eq!(get(&url).with(&net).unwrap().1, b"x");
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let mut post = get(&url);
    post.method = "POST";
    post.body = b"b";
    let error = post.failing(&net);
    assert_eq!((error.kind, error.sent), (NetErrorKind::Broken, true), "{error}");
}

#[test]
fn any_status_is_an_answer_and_its_body_is_kept() {
    let server = Server::start(|seen| {
        let status = seen.line.split('/').nth(1).unwrap().split(' ').next().unwrap();
        Some(format!("HTTP/1.1 {status} X\r\nContent-Length: 4\r\n\r\nbody").into_bytes())
    });
    let net = new_net();
    for status in [200, 400, 404, 413, 500, 503] {
        let (exchange, body) = get(server.url(&format!("/{status}"))).with(&net).unwrap();
        assert_eq!((exchange.head.status, &body[..]), (status, &b"body"[..]));
    }
}

#[test]
fn bodies_come_undecoded_chunked_or_not() {
    let gzip = b"\x1f\x8babcdefg";
    let server = Server::start(|seen| {
        let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n";
        Some(match seen.line.split(' ').nth(1).unwrap() {
            "/chunked" => [
                format!("{head}Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\n").as_bytes(),
                &gzip[..5],
                b"\r\n4\r\n",
                &gzip[5..],
                b"\r\n0\r\nTrailer: x\r\n\r\n",
            ]
            .concat(),
            _ => [format!("{head}Content-Length: 9\r\n\r\n").as_bytes(), gzip].concat(),
        })
    });
    let net = new_net();
    for path in ["/plain", "/chunked", "/plain"] {
        let (exchange, body) = get(server.url(path)).with(&net).unwrap();
        assert_eq!((exchange.head.header("content-encoding"), &body[..]), (Some("gzip"), &gzip[..]));
    }
    assert!(server.seen().iter().all(|seen| seen.connection == 0), "what is read to its end is used again");
}

#[test]
fn nobody_listening_is_a_connect_error() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (error, took) = timed(get(format!("http://{address}/")), &new_net());
    assert_eq!((error.kind, error.sent), (NetErrorKind::Connect, false));
    assert!(error.text.contains(&address.to_string()), "{error}");
    assert!(took < Duration::from_secs(2));
}

fn redirecting() -> Server {
    Server::start(|seen| {
        let path = seen.line.split(' ').nth(1).unwrap();
        let to = |status: u16, location: &str| {
            Some(format!("HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 3\r\n\r\ngo!").into_bytes())
        };
        match path {
            "/circle" => to(302, "/circle2"),
            "/circle2" => to(302, "circle"),
            "/once" => to(301, "/end?x=1"),
            "/keep" => to(307, "/end"),
            "/see" => to(303, "/end"),
            "/same" if seen.line.starts_with("POST") => to(303, "/same"),
            path if path.starts_with("/deep") => to(302, &format!("{path}x")),
            path if path.starts_with("/to/") => to(302, &path[4..]),
            path if path.starts_with("/keep-to/") => to(307, &path[9..]),
            _ => ok("end"),
        }
    })
}

#[test]
fn redirects_are_followed_only_when_asked_for() {
    let server = redirecting();
    let net = new_net();
    assert_eq!(get(server.url("/once")).with(&net).unwrap().0.head.status, 301);
    let mut ask = get(server.url("/once"));
    ask.route.follow_redirects = true;
    assert_eq!(ask.with(&net).unwrap().1, b"end");
    assert_eq!(server.seen().last().unwrap().line, "GET /end?x=1 HTTP/1.1");
    for path in ["/circle", "/deep"] {
        let mut ask = get(server.url(path));
        ask.route.follow_redirects = true;
        let error = ask.failing(&net);
        assert_eq!((error.kind, error.sent), (NetErrorKind::Protocol, true), "{error}");
    }
    assert!(server.seen().len() < 20);
    assert!(server.seen().iter().all(|seen| seen.connection == 0), "bodies of redirects are read away");
}

#[test]
fn a_redirected_post_becomes_a_get_or_keeps_its_body() {
    let server = redirecting();
    for (path, line, body) in [
        ("/see", "GET /end HTTP/1.1", &b""[..]),
        ("/keep", "POST /end HTTP/1.1", b"body"),
        ("/same", "GET /same HTTP/1.1", b""),
    ] {
        let mut ask = get(server.url(path));
        ask.method = "POST";
        ask.body = b"body";
        ask.route.follow_redirects = true;
        ask.with(&new_net()).unwrap();
        let seen = server.seen().pop().unwrap();
        assert_eq!((seen.line.as_str(), &seen.body[..]), (line, body));
    }
}

#[test]
fn credentials_stay_with_their_origin() {
    let (here, elsewhere) = (redirecting(), Server::start(|_| ok("elsewhere")));
    let net = new_net();
    let (own, other) = (here.address.port(), elsewhere.address.port());
    for (target, kept) in [
        (format!("http://127.0.0.1:{own}/end"), true),
        // The same host is not the same origin: on another port somebody else may listen.
        (format!("http://127.0.0.1:{other}/"), false),
        (format!("http://localhost:{other}/"), false),
        (format!("http://localhost:{own}/end"), false),
    ] {
        let mut ask = get(here.url(&format!("/to/{target}")));
        ask.route.follow_redirects = true;
        ask.headers = vec![
            ("Authorization".into(), "Bearer secret".into()),
            ("X-Other".into(), "o".into()),
            ("X-Prometheus-Key".into(), "k".into()),
            ("Accept-Key".into(), "k".into()),
            ("Content-Key".into(), "k".into()),
            ("Accept".into(), "a".into()),
        ];
        ask.with(&net).unwrap();
        let server = if target.contains(&other.to_string()) { &elsewhere } else { &here };
        let seen = server.seen().pop().unwrap();
        // The others may hold a key as well.
        for name in ["authorization", "x-other", "x-prometheus-key", "accept-key", "content-key"] {
            assert_eq!(seen.header(name).is_some(), kept, "{name} to {target}");
        }
        assert_eq!(seen.header("accept"), Some("a"));
    }
    // Back at home they stay lost.
    let back = format!("/to/http://localhost:{own}/to/http://127.0.0.1:{own}/end");
    let mut ask = get(here.url(&back));
    ask.route.follow_redirects = true;
    ask.headers = vec![("Authorization".into(), "Bearer secret".into())];
    ask.with(&net).unwrap();
    assert_eq!(here.seen().pop().unwrap().header("authorization"), None);
    // A body may hold a client's secret.
    let elsewhere_count = elsewhere.seen().len();
    let mut ask = get(here.url(&format!("/keep-to/http://127.0.0.1:{other}/")));
    ask.method = "POST";
    ask.body = b"client_secret=s";
    ask.route.follow_redirects = true;
    let error = ask.failing(&net);
    assert_eq!((error.kind, error.sent), (NetErrorKind::Protocol, true), "{error}");
    assert_eq!(elsewhere.seen().len(), elsewhere_count);
    // The same for credentials in the URL.
    let mut ask = get(format!("http://me:secret@{}/to/http://127.0.0.1:{other}/", here.address));
    ask.route.follow_redirects = true;
    ask.with(&net).unwrap();
    assert_eq!(here.seen().pop().unwrap().header("authorization"), Some("Basic bWU6c2VjcmV0"));
    assert_eq!(elsewhere.seen().pop().unwrap().header("authorization"), None);
}

#[test]
fn a_unix_socket_is_as_good_as_a_host() {
    let path = std::env::temp_dir().join(format!("promwatch-net-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut seen = vec![];
        while let Some(request) = read_request(&mut reader) {
            stream.write_all(&ok("unix").unwrap()).unwrap();
            seen.push(request);
        }
        seen
    });
    let net = new_net();
    for _ in 0..2 {
        let mut ask = get("http://localhost/metrics");
        ask.route.unix_socket = Some(path.clone());
        assert_eq!(ask.with(&net).unwrap().1, b"unix");
    }
    drop(net);
    let seen = server.join().unwrap();
    assert_eq!((seen.len(), seen[0].header("host")), (2, Some("localhost")));
    let _ = std::fs::remove_file(&path);
    let mut ask = get("http://localhost/metrics");
    ask.route.unix_socket = Some(path);
    assert_eq!(ask.failing(&new_net()).kind, NetErrorKind::Connect);
}
