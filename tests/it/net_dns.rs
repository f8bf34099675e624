//! Names through the real network door, with a name server of the test's own on loopback.

#![allow(clippy::disallowed_methods)]

use super::net::{Server, get, ok};
use promwatch::env::{Limits, Net, NetError, NetErrorKind, RealNet, Record, ResolverFiles};
use promwatch::model::settings::DnsKind;
use simple_dns::rdata::{A, AAAA, CNAME, MX, NS, RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const QUICK: Limits = Limits { total_ms: 10_000, stall_ms: 5_000 };

/// What a name server does with a question.
#[derive(Clone)]
enum Reply {
    Records(Vec<(&'static str, u32, RData<'static>)>),
    Code(RCODE),
    /// Over UDP only that it is too long; over TCP these.
    Long(Vec<(&'static str, u32, RData<'static>)>),
    /// Three forgeries before the truth.
    AfterForgeries(Ipv4Addr),
    Silence,
}

fn address(last: u8) -> RData<'static> {
    RData::A(A { address: u32::from(Ipv4Addr::new(127, 0, 0, last)) })
}

fn name(text: &'static str) -> Name<'static> {
    Name::new(text).unwrap()
}

type Zone = HashMap<(&'static str, TYPE), Reply>;

/// A name server on loopback, over UDP and TCP. Names it does not know do not exist.
struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    dead: Arc<AtomicBool>,
    over_tcp: Arc<AtomicUsize>,
}

impl NameServer {
    fn start(zone: Zone) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let zone = Arc::new(zone);
        let (asked, dead) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let over_tcp = Arc::new(AtomicUsize::new(0));
        let (log, gone, rules) = (Arc::clone(&asked), Arc::clone(&dead), Arc::clone(&zone));
        thread::spawn(move || {
            let mut datagram = [0; 1500];
            loop {
                let (read, from) = udp.recv_from(&mut datagram).unwrap();
                if gone.load(Ordering::SeqCst) {
                    continue;
                }
                for reply in replies(&datagram[..read], &rules, false, &log) {
                    udp.send_to(&reply, from).unwrap();
                }
            }
        });
        let (log, count) = (Arc::clone(&asked), Arc::clone(&over_tcp));
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut question).unwrap();
                for reply in replies(&question, &zone, true, &log) {
                    // In two pieces, as a real network may.
                    stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
                    stream.write_all(&reply[..5]).unwrap();
                    thread::sleep(Duration::from_millis(20));
                    stream.write_all(&reply[5..]).unwrap();
                }
            }
        });
        Self { address, asked, dead, over_tcp }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }
}

fn replies(question: &[u8], zone: &Zone, tcp: bool, log: &Mutex<Vec<String>>) -> Vec<Vec<u8>> {
    let asked = Packet::parse(question).unwrap();
    let QTYPE::TYPE(kind) = asked.questions[0].qtype else { return vec![] };
    assert!(asked.has_flags(PacketFlag::RECURSION_DESIRED));
    let qname = asked.questions[0].qname.to_string();
    log.lock().unwrap().push(format!("{qname} {kind:?}"));
    let known = zone.keys().any(|(name, _)| *name == qname);
    let reply = match zone.get(&(qname.as_str(), kind)) {
        Some(reply) => reply.clone(),
        None if known => Reply::Records(vec![]),
        None => Reply::Code(RCODE::NameError),
    };
    let answer = |id: u16, records: &[(&'static str, u32, RData<'static>)], code: RCODE, cut: bool| {
        let mut packet = Packet::new_reply(id);
        packet.questions = asked.questions.clone();
        *packet.rcode_mut() = code;
        if cut {
            packet.set_flags(PacketFlag::TRUNCATION);
        }
        for (owner, ttl, data) in records {
            packet.answers.push(ResourceRecord::new(name(owner), CLASS::IN, *ttl, data.clone()));
        }
        packet.build_bytes_vec_compressed().unwrap()
    };
    let id = asked.id();
    match reply {
        Reply::Records(records) => vec![answer(id, &records, RCODE::NoError, false)],
        Reply::Code(code) => vec![answer(id, &[], code, false)],
        Reply::Long(records) if tcp => vec![answer(id, &records, RCODE::NoError, false)],
        Reply::Long(_) => vec![answer(id, &[], RCODE::NoError, true)],
        Reply::AfterForgeries(truth) => {
            let forged = [("forged.test", 60, address(66))];
            let mut other = asked.clone().into_reply();
            other.questions[0].qname = name("other.test");
            other.answers.push(ResourceRecord::new(name("other.test"), CLASS::IN, 60, address(66)));
            let truth = RData::A(A { address: u32::from(truth) });
            vec![
                answer(id.wrapping_add(1), &forged, RCODE::NoError, false),
                other.build_bytes_vec().unwrap(),
                b"\x00\x01junk".to_vec(),
                answer(id, &[("forged.test", 60, truth)], RCODE::NoError, false),
            ]
        }
        Reply::Silence => vec![],
    }
}

/// Files of the resolver, removed with the value.
struct Files(PathBuf);

impl Files {
    fn new(servers: &[SocketAddr], more: &str, hosts: &str) -> (Self, ResolverFiles) {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("promwatch-dns-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut conf: String =
            servers.iter().map(|server| format!("nameserver [{}]:{}\n", server.ip(), server.port())).collect();
        conf.push_str(more);
        let files = ResolverFiles { hosts: dir.join("hosts"), resolv_conf: dir.join("resolv.conf") };
        std::fs::write(&files.hosts, hosts).unwrap();
        std::fs::write(&files.resolv_conf, conf).unwrap();
        (Self(dir), files)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn net_with(servers: &[SocketAddr], more: &str, hosts: &str) -> (Files, RealNet) {
    let (guard, files) = Files::new(servers, more, hosts);
    (guard, RealNet::with_files(Arc::new(AtomicBool::new(false)), files))
}

fn zone(entries: Vec<(&'static str, TYPE, Reply)>) -> Zone {
    entries.into_iter().map(|(name, kind, reply)| ((name, kind), reply)).collect()
}

fn plain(target: &str) -> Record {
    Record { target: target.to_string(), port: 0 }
}

/// A server that nobody answers at.
fn dead_server() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn names_come_from_hosts_literals_and_servers() {
    let web = Server::start(|_| ok("found"));
    let port = web.address.port();
    let dns = NameServer::start(zone(vec![
        ("one.test", TYPE::A, Reply::Records(vec![("one.test", 60, address(1))])),
        (
            "alias.test",
            TYPE::A,
            Reply::Records(vec![
                ("alias.test", 60, RData::CNAME(CNAME(name("one.test")))),
                ("one.test", 60, address(1)),
            ]),
        ),
        ("many.test", TYPE::A, Reply::Long(vec![("many.test", 60, address(1))])),
        ("forged.test", TYPE::A, Reply::AfterForgeries(Ipv4Addr::LOCALHOST)),
        ("one.corp.test", TYPE::A, Reply::Records(vec![("one.corp.test", 60, address(1))])),
    ]));
    let (_files, net) = net_with(&[dns.address], "search corp.test\n", "127.0.0.1 inhosts\n");
    for (host, asks) in [
        ("127.0.0.1", false),
        ("localhost", false),
        ("a.localhost", false),
        ("inhosts", false),
        ("one.test", true),
        ("one.test", false), // remembered
        ("ALIAS.test", true),
        ("many.test", true),
        ("forged.test", true),
        ("one", true),
        ("one.test.", true),
    ] {
        // A new connection each time, so that the name is needed.
        let mut ask = get(format!("http://{host}:{port}/"));
        ask.headers = vec![("Connection".into(), "close".into())];
        assert_eq!(ask.with(&net).unwrap_or_else(|error| panic!("{host}: {error}")).1, b"found");
        assert_eq!(!dns.asked().is_empty(), asks, "{host}");
    }
    assert!(dns.over_tcp.load(Ordering::SeqCst) >= 1);
    let error = get(format!("http://nowhere.test:{port}/")).with(&net).unwrap_err();
    assert_eq!((error.kind, error.sent), (NetErrorKind::Resolve, false));
    assert!(error.text.contains("nowhere.test"), "{error}");
}

#[test]
fn an_address_that_does_not_answer_gives_way_to_the_next() {
    let web = Server::start(|_| ok("found"));
    // Nobody listens at the first two on that port.
    let dns = NameServer::start(zone(vec![(
        "many.test",
        TYPE::A,
        Reply::Records(vec![
            ("many.test", 60, address(7)),
            ("many.test", 60, address(8)),
            ("many.test", 60, address(1)),
        ]),
    )]));
    let (_files, net) = net_with(&[dns.address], "", "");
    let started = Instant::now();
    assert_eq!(get(format!("http://many.test:{}/", web.address.port())).with(&net).unwrap().1, b"found");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_black_holed_address_is_raced_by_the_next() {
    let web = Server::start(|_| ok("found"));
    // The full queue of a listener swallows connection attempts.
    let hole = SocketAddr::from(([127, 0, 0, 9], web.address.port()));
    let full = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&full, &hole).unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let mut fillers = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&hole, Duration::from_millis(200)) {
        fillers.push(stream);
        assert!(fillers.len() < 100, "the queue has an end");
    }
    let dns = NameServer::start(zone(vec![(
        "two.test",
        TYPE::A,
        Reply::Records(vec![("two.test", 60, address(9)), ("two.test", 60, address(1))]),
    )]));
    let (_files, net) = net_with(&[dns.address], "", "");
    let started = Instant::now();
    assert_eq!(get(format!("http://two.test:{}/", web.address.port())).with(&net).unwrap().1, b"found");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[test]
fn a_dead_server_keeps_the_deadline_and_a_second_one_helps() {
    let (_socket, dead) = dead_server();
    let (_files, net) = net_with(&[dead], "options timeout:30 attempts:5\n", "");
    let mut ask = get("http://one.test:9/");
    ask.limits = Limits { total_ms: 1_200, stall_ms: 1_200 };
    let started = Instant::now();
    let error = ask.with(&net).unwrap_err();
    assert_eq!((error.kind, error.sent), (NetErrorKind::Resolve, false), "{error}");
    assert!(started.elapsed() < Duration::from_secs(4));

    let web = Server::start(|_| ok("found"));
    let live = NameServer::start(zone(vec![("one.test", TYPE::A, Reply::Records(vec![("one.test", 60, address(1))]))]));
    let (_files, net) = net_with(&[dead, live.address], "options timeout:1\n", "");
    assert_eq!(get(format!("http://one.test:{}/", web.address.port())).with(&net).unwrap().1, b"found");
    // Nobody at all at the first: no time is lost.
    let closed = dead_server().1;
    let (_files, net) = net_with(&[closed, live.address], "options timeout:30\n", "");
    let started = Instant::now();
    get(format!("http://one.test:{}/", web.address.port())).with(&net).unwrap();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn dead_name_servers_cost_the_stall_limit_and_not_the_whole_time() {
    let (_socket, dead) = dead_server();
    let (_files, net) = net_with(&[dead], "options timeout:30 attempts:5\n", "");
    let mut ask = get("http://one.test:9/");
    ask.limits = Limits { total_ms: 10_000, stall_ms: 1_000 };
    let started = Instant::now();
    let error = ask.with(&net).unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Resolve, "{error}");
    assert!(started.elapsed() < Duration::from_millis(2_000), "{:?}", started.elapsed());
}

#[test]
fn the_last_good_addresses_serve_while_no_server_answers() {
    let web = Server::start(|_| ok("found"));
    // A life of zero is stretched to five seconds.
    let dns = NameServer::start(zone(vec![("one.test", TYPE::A, Reply::Records(vec![("one.test", 0, address(1))]))]));
    let (_files, net) = net_with(&[dns.address], "", "");
    let ask = || {
        let mut ask = get(format!("http://one.test:{}/", web.address.port()));
        ask.headers = vec![("Connection".into(), "close".into())];
        ask.limits = Limits { total_ms: 6_000, stall_ms: 3_000 };
        let started = Instant::now();
        (ask.with(&net), started.elapsed())
    };
    ask().0.unwrap();
    dns.kill();
    thread::sleep(Duration::from_millis(5_200));
    let (outcome, took) = ask();
    assert_eq!(outcome.unwrap().1, b"found");
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(5),
        "the servers were given a chance: {took:?}"
    );
    let (outcome, took) = ask();
    assert_eq!(outcome.unwrap().1, b"found");
    assert!(took < Duration::from_secs(1), "and not again at once: {took:?}");
}

fn lookup(net: &RealNet, name: &str, kind: DnsKind) -> Result<Vec<Record>, NetError> {
    net.lookup(name, kind, Limits { total_ms: 3_000, stall_ms: 3_000 })
}

#[test]
fn lookup_gives_the_records_of_each_kind() {
    let srv = |port: u16, target| RData::SRV(SRV { priority: 1, weight: 1, port, target: name(target) });
    let dns = NameServer::start(zone(vec![
        ("a.test", TYPE::A, Reply::Records(vec![("a.test", 60, address(1)), ("a.test", 60, address(2))])),
        ("a.test", TYPE::AAAA, Reply::Records(vec![("a.test", 60, RData::AAAA(AAAA { address: 1 }))])),
        (
            "a.test",
            TYPE::MX,
            Reply::Records(vec![("a.test", 60, RData::MX(MX { preference: 1, exchange: name("mx.test") }))]),
        ),
        ("a.test", TYPE::NS, Reply::Records(vec![("a.test", 60, RData::NS(NS(name("ns.test"))))])),
        (
            "_p._tcp.test",
            TYPE::SRV,
            Reply::Records(vec![
                ("_p._tcp.test", 60, srv(9100, "one.test")),
                ("_p._tcp.test", 60, srv(9101, "two.test")),
            ]),
        ),
    ]));
    // The hosts file does not count.
    let (_files, net) = net_with(&[dns.address], "", "10.0.0.1 a.test\n");
    assert_eq!(lookup(&net, "a.test", DnsKind::A).unwrap(), [plain("127.0.0.1"), plain("127.0.0.2")]);
    assert_eq!(lookup(&net, "a.test", DnsKind::Aaaa).unwrap(), [plain("::1")]);
    assert_eq!(lookup(&net, "a.test", DnsKind::Mx).unwrap(), [plain("mx.test")]);
    assert_eq!(lookup(&net, "a.test.", DnsKind::Ns).unwrap(), [plain("ns.test")]);
    let want = [("one.test", 9100), ("two.test", 9101)].map(|(target, port)| Record { target: target.into(), port });
    assert_eq!(lookup(&net, "_p._tcp.test", DnsKind::Srv).unwrap(), want);
}

#[test]
fn lookup_tells_no_such_name_from_no_answer() {
    let dns = NameServer::start(zone(vec![
        ("exists.test", TYPE::A, Reply::Records(vec![("exists.test", 60, address(1))])),
        ("host.b.test", TYPE::A, Reply::Records(vec![("host.b.test", 60, address(3))])),
        ("sick.a.test", TYPE::A, Reply::Code(RCODE::ServerFailure)),
        ("mute.b.test", TYPE::A, Reply::Silence),
        ("late.a.test", TYPE::A, Reply::Code(RCODE::Refused)),
        ("late.b.test", TYPE::A, Reply::Records(vec![("late.b.test", 60, address(4))])),
    ]));
    let (_files, net) = net_with(&[dns.address], "search a.test b.test\noptions timeout:1 attempts:1\n", "");
    // The name exists without such records: empty, and the search list is not tried.
    assert_eq!(lookup(&net, "exists.test", DnsKind::Mx), Ok(vec![]));
    assert_eq!(dns.asked(), ["exists.test MX"]);
    // Every server says of every name that it does not exist.
    assert_eq!(lookup(&net, "nothing", DnsKind::A), Ok(vec![]));
    assert_eq!(dns.asked(), ["nothing.a.test A", "nothing.b.test A", "nothing A"]);
    assert_eq!(lookup(&net, "host", DnsKind::A), Ok(vec![plain("127.0.0.3")]));
    // One name that no server could tell of: nobody knows.
    assert_eq!(lookup(&net, "sick", DnsKind::A).unwrap_err().kind, NetErrorKind::Resolve);
    assert_eq!(lookup(&net, "mute", DnsKind::A).unwrap_err().kind, NetErrorKind::Resolve);
    // But a later name may still answer.
    assert_eq!(lookup(&net, "late", DnsKind::A), Ok(vec![plain("127.0.0.4")]));
}

#[test]
fn a_server_that_only_refuses_is_passed_over() {
    let refusing = NameServer::start(zone(vec![("one.test", TYPE::A, Reply::Code(RCODE::Refused))]));
    let live = NameServer::start(zone(vec![("one.test", TYPE::A, Reply::Records(vec![("one.test", 60, address(5))]))]));
    let (_files, net) = net_with(&[refusing.address, live.address], "", "");
    let started = Instant::now();
    assert_eq!(lookup(&net, "one.test", DnsKind::A), Ok(vec![plain("127.0.0.5")]));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn resolv_conf_is_read_again_when_it_changes() {
    let (old, new) = (
        NameServer::start(zone(vec![("one.test", TYPE::A, Reply::Records(vec![("one.test", 60, address(1))]))])),
        NameServer::start(zone(vec![("one.test", TYPE::A, Reply::Records(vec![("one.test", 60, address(2))]))])),
    );
    let (guard, files) = Files::new(&[old.address], "", "");
    let path = files.resolv_conf.clone();
    let net = RealNet::with_files(Arc::new(AtomicBool::new(false)), files);
    assert_eq!(lookup(&net, "one.test", DnsKind::A), Ok(vec![plain("127.0.0.1")]));
    std::fs::write(&path, format!("# rewritten\nnameserver [127.0.0.1]:{}\n", new.address.port())).unwrap();
    assert_eq!(lookup(&net, "one.test", DnsKind::A), Ok(vec![plain("127.0.0.2")]));
    drop(guard);
}

#[test]
fn a_name_under_local_that_nobody_has_ends_in_time() {
    let dns = NameServer::start(zone(vec![]));
    let (_files, net) = net_with(&[dns.address], "", "");
    let mut ask = get("http://nobody-has-this-name.local/");
    ask.limits = QUICK;
    let started = Instant::now();
    assert_eq!(ask.with(&net).unwrap_err().kind, NetErrorKind::Resolve);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

/// Hears multicast DNS on every interface but `lo`; nothing where this machine has no multicast.
fn neighbour() -> Option<UdpSocket> {
    use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
    let ear = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    sockopt::set_socket_reuseaddr(&ear, true).ok()?;
    bind(&ear, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5353))).ok()?;
    let ear = UdpSocket::from(ear);
    let group = Ipv4Addr::new(224, 0, 0, 251);
    ear.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED).ok()?;
    ear.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    // Does it hear this machine at all?
    let mouth = UdpSocket::bind("0.0.0.0:0").ok()?;
    mouth.send_to(b"promwatch test", (group, 5353)).ok()?;
    let mut heard = [0; 1500];
    loop {
        let (read, _) = ear.recv_from(&mut heard).ok()?;
        if &heard[..read] == b"promwatch test" {
            return Some(ear);
        }
    }
}

#[test]
fn a_neighbour_answers_for_its_name_under_local() {
    let Some(ear) = neighbour() else {
        eprintln!("skipped: no multicast here");
        return;
    };
    let web = Server::start(|_| ok("found"));
    ear.set_read_timeout(None).unwrap();
    thread::spawn(move || {
        let mut datagram = [0; 1500];
        loop {
            let (read, from) = ear.recv_from(&mut datagram).unwrap();
            let Ok(asked) = Packet::parse(&datagram[..read]) else { continue };
            if !asked.questions.iter().any(|question| question.qname.to_string() == "promwatch-test-pi.local") {
                continue;
            }
            let mut packet = Packet::new_reply(asked.id());
            packet.questions = asked.questions.clone();
            packet.answers.push(ResourceRecord::new(name("promwatch-test-pi.local"), CLASS::IN, 10, address(1)));
            ear.send_to(&packet.build_bytes_vec().unwrap(), from).unwrap();
        }
    });
    let dns = NameServer::start(zone(vec![]));
    let (_files, net) = net_with(&[dns.address], "", "");
    let ask = get(format!("http://promwatch-test-pi.local:{}/", web.address.port()));
    assert_eq!(ask.with(&net).unwrap().1, b"found");
    assert_eq!(dns.asked(), Vec::<String>::new(), "the name servers are not asked");
}

/// Runs alone in a process of its own, because other tests start threads.
#[test]
fn no_call_starts_a_thread() {
    const ALONE: &str = "PROMWATCH_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "net_dns::no_call_starts_a_thread", "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let most = Arc::new(AtomicUsize::new(0));
    let sampled = Arc::clone(&most);
    thread::spawn(move || {
        loop {
            sampled.fetch_max(threads(), Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
        }
    });
    thread::sleep(Duration::from_millis(50));
    let before = most.load(Ordering::SeqCst);
    let (_socket, dead) = dead_server();
    let (_files, net) = net_with(&[dead], "", "");
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    for url in ["http://name.test/".to_string(), format!("http://{}/", hole.local_addr().unwrap())] {
        let mut ask = get(url);
        ask.limits = Limits { total_ms: 300, stall_ms: 300 };
        ask.with(&net).unwrap_err();
    }
    lookup(&net, "name.test", DnsKind::Srv).unwrap_err();
    assert_eq!((before, most.load(Ordering::SeqCst)), (before, before));
}
