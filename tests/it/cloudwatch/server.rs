//! The stand-in behind a TCP socket, plain or with TLS, for tests of the real binary.
#![allow(clippy::disallowed_methods)] // threads and clocks are the test's own

use super::{FakeAnswer, FakeCloudWatch, Fate};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A running server; dropping it stops it.
pub struct FakeServer {
    /// `http://127.0.0.1:PORT`, or `https://localhost:PORT`.
    pub url: String,
    /// The certificate to trust (PEM); empty without TLS.
    pub ca_pem: String,
    state: Arc<Mutex<FakeCloudWatch>>,
    stop: Arc<AtomicBool>,
    port: u16,
}

impl FakeServer {
    /// Listens on a free port of loopback.
    pub fn start(fake: FakeCloudWatch) -> Self {
        Self::listen(fake, None, String::new())
    }

    /// The same with TLS and a certificate of its own making, good for `localhost` and 127.0.0.1.
    pub fn start_tls(fake: FakeCloudWatch) -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("key and certificate match");
        Self::listen(fake, Some(Arc::new(config)), made.cert.pem())
    }

    fn listen(fake: FakeCloudWatch, tls: Option<Arc<ServerConfig>>, ca_pem: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let url = if tls.is_some() { format!("https://localhost:{port}") } else { format!("http://127.0.0.1:{port}") };
        let state = Arc::new(Mutex::new(fake));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopping) = (Arc::clone(&state), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (shared, stopping, tls) = (Arc::clone(&shared), Arc::clone(&stopping), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve(stream, &shared, &stopping),
                    Some(config) => {
                        let Ok(connection) = ServerConnection::new(config) else { return };
                        serve(StreamOwned::new(connection, stream), &shared, &stopping);
                    }
                });
            }
        });
        Self { url, ca_pem, state, stop, port }
    }

    /// The state, to look at or to change.
    pub fn state(&self) -> MutexGuard<'_, FakeCloudWatch> {
        self.state.lock().expect("no handler panicked")
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: impl Read + Write, state: &Mutex<FakeCloudWatch>, stop: &AtomicBool) {
    let mut stream = BufReader::new(stream);
    while !stop.load(Ordering::SeqCst) {
        let Ok(Some(request)) = read_request(&mut stream) else { return };
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        let Ok(mut fake) = state.lock() else { return };
        let answer = fake.handle(&request.method, &request.path, &request.headers, &request.body, now_ms);
        drop(fake);
        match answer.fate {
            Fate::Dropped => return,
            Fate::Delayed(ms) => std::thread::sleep(Duration::from_millis(ms)),
            Fate::Arrives => {}
        }
        if write_answer(stream.get_mut(), &answer).is_err() {
            return;
        }
    }
}

struct ReadRequest {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<ReadRequest>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut headers: Vec<(String, String)> = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, v)| v.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Some(ReadRequest { method, path, headers, body }))
}

fn write_answer(writer: &mut impl Write, answer: &FakeAnswer) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Answer\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", answer.body.len()));
    writer.write_all(head.as_bytes())?;
    writer.write_all(&answer.body)?;
    writer.flush()
}
