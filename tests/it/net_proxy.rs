//! Requests of the real network door through a proxy on loopback.

#![allow(clippy::disallowed_methods)]

use super::net::{Seen, Server, get, new_net, ok, read_request};
use super::net_tls::{Authority, TlsServer};
use promwatch::env::NetErrorKind;
use promwatch::model::settings::{ProxySettings, Secret, TlsSettings};
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

const AUTHORIZATION: &str = "Basic bWU6cEBzcw==";

/// A proxy that wants `me:p@ss`; tunnels on CONNECT, answers other requests itself. Gives the requests it saw.
fn proxy() -> (SocketAddr, Arc<Mutex<Vec<Seen>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen_by = Arc::clone(&log);
    let address = Server::raw(move |mut client| {
        let mut reader = BufReader::new(client.try_clone().unwrap());
        while let Some(seen) = read_request(&mut reader) {
            let welcome = seen.header("proxy-authorization") == Some(AUTHORIZATION);
            let words: Vec<String> = seen.line.split(' ').map(str::to_string).collect();
            log.lock().unwrap().push(seen);
            if !welcome {
                client.write_all(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n").unwrap();
            } else if words[0] == "CONNECT" {
                let Ok(mut server) = TcpStream::connect(&words[1]) else {
                    client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").unwrap();
                    return;
                };
                client.write_all(b"HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n").unwrap();
                let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
                let mut early = vec![0; reader.buffer().len()];
                reader.read_exact(&mut early).unwrap();
                server.write_all(&early).unwrap();
                let _ = std::io::copy(&mut client, &mut server);
                return;
            } else {
                client.write_all(&ok("by proxy").unwrap()).unwrap();
            }
        }
    });
    (address, seen_by)
}

fn through(address: SocketAddr, password: &str) -> ProxySettings {
    let url = Secret::Inline(format!("http://me:{password}@{address}"));
    ProxySettings { http: Some(url.clone()), https: Some(url), ..ProxySettings::default() }
}

#[test]
fn a_plain_request_names_the_whole_url_to_the_proxy() {
    let (address, seen) = proxy();
    let net = new_net();
    for _ in 0..2 {
        let mut ask = get("http://exporter.test:9100/metrics?x=1");
        ask.route.proxy = through(address, "p%40ss");
        assert_eq!(ask.with(&net).unwrap().1, b"by proxy");
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    for seen in &*seen {
        assert_eq!(seen.line, "GET http://exporter.test:9100/metrics?x=1 HTTP/1.1");
        assert_eq!(seen.header("host"), Some("exporter.test:9100"));
    }
}

#[test]
fn tls_goes_through_a_tunnel() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.sign(&["localhost"], (2000, 2090)), Default::default());
    let (address, seen) = proxy();
    let net = new_net();
    let ask = |password: &str| {
        let mut ask = get(format!("https://localhost:{}/", server.address.port()));
        ask.route.tls = TlsSettings { ca: Some(Secret::Inline(authority.pem())), ..TlsSettings::default() };
        ask.route.proxy = through(address, password);
        ask.route.proxy.connect_headers = vec![("X-Site".into(), Secret::Inline("attic".into()))];
        ask
    };
    for _ in 0..2 {
        assert_eq!(ask("p%40ss").with(&net).unwrap().1, b"secure");
    }
    assert_eq!(seen.lock().unwrap().len(), 1, "the tunnel is kept");
    let first = seen.lock().unwrap()[0].clone();
    let target = format!("localhost:{}", server.address.port());
    assert_eq!(first.line, format!("CONNECT {target} HTTP/1.1"));
    assert_eq!((first.header("host"), first.header("x-site")), (Some(target.as_str()), Some("attic")));

    let error = ask("guess").with(&net).unwrap_err();
    assert_eq!((error.kind, error.sent), (NetErrorKind::Config, false));
    assert!(!error.text.contains("guess") && !error.text.contains("Basic"), "{error}");

    let mut nowhere = ask("p%40ss");
    nowhere.url = "https://127.0.0.1:1/".into();
    let error = nowhere.with(&net).unwrap_err();
    assert_eq!((error.kind, error.sent), (NetErrorKind::Connect, false), "{error}");
}

#[test]
fn a_listed_host_is_reached_directly() {
    let server = Server::start(|_| ok("direct"));
    let (address, seen) = proxy();
    let net = new_net();
    let mut ask = get(format!("http://{}/", server.address));
    ask.route.proxy = ProxySettings { no_proxy: "127.0.0.0/8".into(), ..through(address, "p%40ss") };
    assert_eq!(ask.with(&net).unwrap().1, b"direct");
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn a_dead_proxy_is_told_by_its_name_without_its_password() {
    let (address, listener) = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        (listener.local_addr().unwrap(), listener)
    };
    drop(listener);
    for url in ["http://exporter.test/", "https://exporter.test/"] {
        let mut ask = get(url);
        ask.route.proxy = through(address, "topsecret");
        let error = ask.with(&new_net()).unwrap_err();
        assert_eq!(error.kind, NetErrorKind::Connect);
        assert!(error.text.contains(&address.to_string()) && !error.text.contains("topsecret"), "{error}");
    }
}
