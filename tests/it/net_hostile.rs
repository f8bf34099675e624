//! The real network door against peers that are slow, broken or hostile: each costs a bounded time and no more.

#![allow(clippy::disallowed_methods)]

use super::net::{Ask, QUICK, Server, get, new_net, ok, read_request, timed};
use promwatch::env::{CertificateTime, Limits, Net, NetErrorKind, RealNet, Request, Route};
use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_black_hole_costs_the_stall_limit() {
    // Accepted by the kernel, answered by nobody.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ask = get(format!("http://{}/", listener.local_addr().unwrap()));
    ask.limits = Limits { total_ms: 20_000, stall_ms: 700 };
    let (error, took) = timed(ask, &new_net());
    assert_eq!((error.kind, error.sent), (NetErrorKind::Timeout, true));
    assert!(took >= Duration::from_millis(650) && took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_byte_a_second_does_not_outlive_the_total() {
    let address = Server::raw(|mut stream| {
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n".iter().chain([b'x'; 100].iter()) {
            thread::sleep(Duration::from_millis(50));
            if stream.write_all(&[*byte]).is_err() {
                break;
            }
        }
    });
    let mut ask = get(format!("http://{address}/"));
    ask.limits = Limits { total_ms: 1_500, stall_ms: 1_000 };
    let (error, took) = timed(ask, &new_net());
    assert_eq!(error.kind, NetErrorKind::Timeout);
    assert!(took >= Duration::from_millis(1_400) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_peer_that_reads_nothing_costs_the_stall_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let body = vec![0; 32 << 20];
    let mut ask = Ask { body: &body, ..get(format!("http://{}/", listener.local_addr().unwrap())) };
    ask.method = "POST";
    ask.limits = Limits { total_ms: 20_000, stall_ms: 700 };
    let (error, took) = timed(ask, &new_net());
    assert_eq!((error.kind, error.sent), (NetErrorKind::Timeout, true));
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn a_slow_link_that_moves_is_no_stall() {
    // A receiver with a tiny window that reads 20 kB/s: the body lies in the sender's kernel most of the time.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 4096).unwrap();
    let address = listener.local_addr().unwrap();
    let body = vec![b'x'; 120_000];
    let length = body.len();
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let (mut got, mut piece) = (0, [0; 2000]);
        while got < length {
            thread::sleep(Duration::from_millis(100));
            got += stream.read(&mut piece).unwrap();
        }
        stream.write_all(&ok("slow").unwrap()).unwrap();
        thread::sleep(Duration::from_millis(500));
    });
    let mut ask = Ask { body: &body, ..get(format!("http://{address}/")) };
    ask.method = "POST";
    ask.limits = Limits { total_ms: 60_000, stall_ms: 2_000 };
    let started = Instant::now();
    assert_eq!(ask.with(&new_net()).unwrap().1, b"slow");
    assert!(started.elapsed() > Duration::from_secs(4), "{:?}", started.elapsed());
}

#[test]
fn a_signal_to_stop_ends_a_call_within_about_a_second() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let net = RealNet::new(Arc::clone(&stop));
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::SeqCst);
    });
    let (error, took) = timed(get(format!("http://{}/", listener.local_addr().unwrap())), &net);
    assert_eq!(error.kind, NetErrorKind::Stopped);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn an_answer_that_was_on_its_way_when_the_signal_to_stop_came_is_still_taken() {
    let stop = Arc::new(AtomicBool::new(false));
    let (net, flag) = (RealNet::new(Arc::clone(&stop)), stop);
    let address = Server::raw(move |mut stream| {
        let _ = stream.read(&mut [0; 2000]);
        flag.store(true, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(300));
        stream.write_all(&ok("stored").unwrap()).unwrap();
    });
    assert_eq!(get(format!("http://{address}/")).with(&net).unwrap().1, b"stored");
}

#[test]
fn endless_heads_are_cut_off() {
    for line in ["X-Header: some text that goes on\r\n", "no colon and no end "] {
        let address = Server::raw(move |mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
            while stream.write_all(line.as_bytes()).is_ok() {}
        });
        let (error, took) = timed(get(format!("http://{address}/")), &new_net());
        assert_eq!(error.kind, NetErrorKind::Protocol, "{error}");
        assert!(took < Duration::from_secs(5));
    }
}

#[test]
fn an_endless_body_is_stopped_by_the_reader() {
    let address = Server::raw(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let net = new_net();
    let mut got = 0;
    let route = Route::default();
    let url = format!("http://{address}/");
    let request = Request {
        method: "GET",
        url: &url,
        headers: &[],
        body: b"",
        route: &route,
        limits: QUICK,
        certificate_time: CertificateTime::Clock,
        new_connection: false,
        stop_grace_ms: Request::STOP_GRACE_MS,
    };
    let error = net
        .exchange(&request, &mut |head, piece| {
            assert_eq!(head.status, 200);
            got += piece.len();
            if got > 100_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Refused);
    assert!(got < 200_000);
}

#[test]
fn an_answer_that_ends_early_is_broken() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nx",
        "HTTP/1.1 20",
    ] {
        let address = Server::raw(move |mut stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            read_request(&mut reader);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let error = get(format!("http://{address}/")).failing(&new_net());
        assert_eq!((error.kind, error.sent), (NetErrorKind::Broken, true), "{answer:?}: {error}");
    }
}

#[test]
fn what_is_not_http_is_a_protocol_error() {
    let address = Server::raw(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n");
        thread::sleep(Duration::from_millis(500));
    });
    let error = get(format!("http://{address}/")).failing(&new_net());
    assert_eq!(error.kind, NetErrorKind::Protocol, "{error}");
}

/// Damaged answers are read as something or an error; a panic would end the agent.
#[test]
fn damage_is_survived() {
    const GOOD: [&str; 4] = [
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n",
        "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.0 302 Found\r\nLocation: /\r\nConnection: keep-alive\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\nto the end",
    ];
    let rounds: usize = std::env::var("PROMWATCH_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(400);
    let seed = Mutex::new(7u64);
    let random = move |below: usize| {
        let mut seed = seed.lock().unwrap();
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as usize % below
    };
    let address = Server::raw(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while read_request(&mut reader).is_some() {
            let mut bytes = GOOD[random(GOOD.len())].as_bytes().to_vec();
            for _ in 0..random(4) {
                let at = random(bytes.len());
                match random(5) {
                    0 => bytes.truncate(1 + at),
                    1 => bytes.insert(at, random(256) as u8),
                    2 => bytes[at] = b"\r\n :;0123456789\x00\xff"[random(17)],
                    3 => drop(bytes.splice(at..at, *b"\r\n\r\n")),
                    _ => bytes[at] = random(256) as u8,
                }
            }
            let whole = random(2) == 0;
            let cut = random(bytes.len());
            let (first, second) = bytes.split_at(if whole { bytes.len() } else { cut });
            if stream.write_all(first).and_then(|()| stream.write_all(second)).is_err() || random(3) == 0 {
                break;
            }
        }
    });
    let net = new_net();
    let mut answers = 0;
    for round in 0..rounds {
        let mut ask = get(format!("http://{address}/"));
        ask.method = ["GET", "POST"][round % 2];
        ask.route.follow_redirects = round % 3 == 0;
        ask.limits = Limits { total_ms: 40, stall_ms: 20 };
        answers += usize::from(ask.with(&net).is_ok());
    }
    assert!(answers > rounds / 10 && answers < rounds, "{answers}");
}

#[test]
fn an_early_answer_to_a_long_body_is_read() {
    let address = Server::raw(|mut stream| {
        let mut head = [0; 100];
        stream.read_exact(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\nmuch").unwrap();
        thread::sleep(Duration::from_millis(200));
        // Closing with unread input resets the connection.
    });
    let body = vec![0; 8 << 20];
    let mut ask = Ask { body: &body, ..get(format!("http://{address}/")) };
    ask.method = "POST";
    let (exchange, body) = ask.with(&new_net()).unwrap();
    assert_eq!((exchange.head.status, &body[..]), (413, &b"much"[..]));
}

#[test]
fn an_answer_to_a_body_that_is_never_read_is_read() {
    let address = Server::raw(|mut stream| {
        let mut head = [0; 100];
        stream.read_exact(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy").unwrap();
        thread::sleep(Duration::from_secs(8));
    });
    let body = vec![0; 32 << 20];
    let mut ask = Ask { body: &body, ..get(format!("http://{address}/")) };
    ask.method = "POST";
    let started = Instant::now();
    let (exchange, body) = ask.with(&new_net()).unwrap();
    assert_eq!((exchange.head.status, &body[..]), (503, &b"busy"[..]));
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}
