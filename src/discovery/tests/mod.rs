//! The rules of sources and targets, in a world in memory.

mod reload;
mod world;

use super::*;
use crate::model::settings::{
    Auth, DnsKind, HttpClient, RelabelAction, RelabelRule, ScrapeLimits, ScrapeProtocol, Secret,
};
use crate::pattern::Pattern;
use std::cell::Cell;
use std::path::Path;
use world::World;

thread_local! {
    /// How often two targets were compared to see whether they are the same.
    pub(super) static COMPARED: Cell<usize> = const { Cell::new(0) };
}

fn job(discovery: Vec<Discovery>) -> ScrapeJob {
    ScrapeJob {
        job_name: "test".to_owned(),
        interval_ms: 60_000,
        timeout_ms: 10_000,
        scheme: "http".to_owned(),
        metrics_path: "/metrics".to_owned(),
        params: BTreeMap::new(),
        honor_labels: false,
        honor_timestamps: true,
        protocols: Vec::new(),
        fallback_protocol: ScrapeProtocol::Text004,
        legacy_names: false,
        compression: true,
        skip_bad_lines: false,
        limits: ScrapeLimits::default(),
        http: HttpClient::default(),
        relabel: Vec::new(),
        metric_relabel: Vec::new(),
        discovery,
    }
}

fn group(targets: &[&str], labels: &[(&str, &str)]) -> TargetGroup {
    TargetGroup {
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        source: "group".to_owned(),
    }
}

fn rule(source: &str, regex: &str, target: &str, replacement: &str, action: RelabelAction) -> RelabelRule {
    RelabelRule {
        source_labels: vec![source.to_owned()],
        separator: ";".to_owned(),
        regex: Pattern::anchored(regex).unwrap(),
        modulus: 0,
        target_label: target.to_owned(),
        replacement: replacement.to_owned(),
        action,
    }
}

fn discoverer(job: ScrapeJob) -> Discoverer {
    Discoverer::new(vec![Rc::new(job)])
}

/// `url labels` of each target.
fn shown(discoverer: &Discoverer) -> Vec<String> {
    let show = |target: &Rc<Target>| {
        let place = match &target.endpoint {
            Endpoint::Http { url, unix_socket: None } => url.clone(),
            Endpoint::Http { url, unix_socket: Some(socket) } => format!("{}!{url}", socket.display()),
            other => format!("{other:?}"),
        };
        target.labels.iter().fold(place, |text, (name, value)| format!("{text} {name}={value}"))
    };
    discoverer.targets().iter().map(show).collect()
}

fn errors(discoverer: &Discoverer) -> Vec<String> {
    discoverer.errors().into_iter().map(|error| format!("{}: {}", error.source, error.text)).collect()
}

#[test]
fn static_targets_need_no_refresh() {
    let discoverer = discoverer(job(vec![Discovery::Static(group(&["a:1", "b:2", "a:1"], &[("env", "x")]))]));
    let want = ["http://a:1/metrics env=x instance=a:1 job=test", "http://b:2/metrics env=x instance=b:2 job=test"];
    assert_eq!(shown(&discoverer), want);
    assert_eq!((discoverer.next_due_ms(), discoverer.errors()), (None, Vec::new()));
}

#[test]
fn targets_are_built_as_prometheus_builds_them() {
    let mut settings = job(vec![
        Discovery::Static(group(&["plain"], &[("job", "own"), ("__tmp", "x"), ("__meta_x", "y")])),
        Discovery::Static(group(
            &["é b"],
            &[("__metrics_path__", "m?x/ü*"), ("__scheme__", "https"), ("__param_q", "a b&c")],
        )),
        Discovery::Static(group(
            &["[::1]:80"],
            &[("instance", "six"), ("__scrape_interval__", "5s"), ("__scrape_timeout__", "4s")],
        )),
        Discovery::Static(group(&["drop:1"], &[])),
    ]);
    settings.params = BTreeMap::from([
        ("q".to_owned(), vec!["first".to_owned(), "second".to_owned()]),
        ("empty".to_owned(), Vec::new()),
        ("A".to_owned(), vec!["1".to_owned()]),
    ]);
    settings.relabel = vec![
        rule("__address__", "drop.*", "", "", RelabelAction::Drop),
        rule("__param_q", "first", "q", "$0", RelabelAction::Replace),
    ];
    let discoverer = discoverer(settings);
    let want = [
        "http://plain/metrics?A=1&q=first&q=second instance=plain job=own q=first",
        "https://%C3%A9%20b/m%3Fx/%C3%BC%2A?A=1&q=a+b%26c&q=second instance=é b job=test",
        "http://[::1]:80/metrics?A=1&q=first&q=second instance=six job=test q=first",
    ];
    assert_eq!(shown(&discoverer), want);
    let times: Vec<_> = discoverer.targets().iter().map(|target| (target.interval_ms, target.timeout_ms)).collect();
    assert_eq!(times, [(60_000, 10_000), (60_000, 10_000), (5_000, 4_000)]);
}

#[test]
fn what_is_no_target_is_told_with_its_reason() {
    type Labels<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, Labels, &str); 6] = [
        ("", &[], "no address"),
        ("http://a:1", &[], "is not a valid hostname"),
        ("a", &[("__scrape_interval__", "x")], "error parsing scrape interval"),
        ("a", &[("__scrape_interval__", "0s")], "scrape interval cannot be 0"),
        ("a", &[("__scrape_timeout__", "0")], "scrape timeout cannot be 0"),
        (
            "a",
            &[("__scrape_timeout__", "61s")],
            "scrape timeout cannot be greater than scrape interval (\"61s\" > \"1m\")",
        ),
    ];
    for (address, labels, reason) in cases {
        let discoverer = discoverer(job(vec![Discovery::Static(group(&[address, "good:1"], labels))]));
        let text = errors(&discoverer).join("\n");
        assert!(text.starts_with("group: target 0") && text.contains(reason), "{text}");
    }
    let many: Vec<_> = (0..50).map(|at| format!("a/{at}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let discoverer = discoverer(job(vec![Discovery::Static(group(&many, &[]))]));
    assert_eq!(discoverer.errors().len(), MAX_FAILURES + 1);
    assert!(errors(&discoverer)[MAX_FAILURES].contains("40 more"));
}

#[test]
fn over_its_target_limit_every_target_of_a_job_is_refused() {
    let mut settings = job(vec![Discovery::Static(group(&["a", "b", "b", "c"], &[]))]);
    settings.limits.targets = 3;
    assert!(discoverer(settings.clone()).targets().iter().all(|target| target.refused.is_none()));
    settings.limits.targets = 2;
    let discoverer = discoverer(settings);
    let text = "target_limit exceeded (number of targets: 3, limit: 2)";
    assert_eq!(discoverer.targets().len(), 3);
    assert!(discoverer.targets().iter().all(|target| target.refused.as_deref() == Some(text)));
    assert_eq!(errors(&discoverer), [format!(": {text}")]);
}

#[test]
fn a_list_that_is_too_long_is_cut_after_the_rules() {
    let names: Vec<String> = (0..MAX_TARGETS + 5).map(|n| format!("t{n}:1")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let long = discoverer(job(vec![Discovery::Static(group(&names, &[]))]));
    assert_eq!(long.targets().len(), MAX_TARGETS);
    assert!(errors(&long).join(" ").contains("5 targets are left out"), "{:?}", errors(&long));
    // What the rules drop does not count.
    let mut settings = job(vec![Discovery::Static(group(&names, &[]))]);
    settings.relabel = vec![rule("__address__", "t10003:1", "", "", RelabelAction::Keep)];
    let own = discoverer(settings);
    assert_eq!((own.targets().len(), own.errors().len()), (1, 0));
    // Nor may a few targets hold a lot of text.
    let label = "x".repeat(1 << 20);
    let wide = discoverer(job(vec![Discovery::Static(group(&names[..40], &[("l", &label)]))]));
    assert!(wide.targets().len() <= 17, "{}", wide.targets().len());
    assert!(errors(&wide).join(" ").contains("left out"), "{:?}", errors(&wide));
}

#[test]
fn own_targets_join_the_pipeline() {
    let mut settings = job(vec![
        Discovery::Host,
        Discovery::Textfile("/var/lib/prom".into()),
        Discovery::Static(group(&["unix:/run/a.sock", "unix:/run/a.sock:/stats", "unix:relative"], &[])),
    ]);
    settings.relabel = vec![rule("__meta_textfile_directory", "(.+)", "dir", "$1", RelabelAction::Replace)];
    let want = [
        "Host instance=localhost job=test",
        "Textfile(\"/var/lib/prom\") dir=/var/lib/prom instance=localhost job=test",
        "/run/a.sock!http://localhost/metrics instance=unix:/run/a.sock job=test",
        "/run/a.sock!http://localhost/stats instance=unix:/run/a.sock job=test",
        "http://unix:relative/metrics instance=unix:relative job=test",
    ];
    assert_eq!(shown(&discoverer(settings)), want);
}

#[test]
fn files_are_read_when_they_change_and_kept_when_they_are_bad() {
    let world = World::default();
    world.put(
        "/sd/a.json",
        r#"[{"targets": ["a:1", "b:1"], "labels": {"env": "x"}}, {"Targets": ["c:1"], "labels": null}]"#,
    );
    world.put("/sd/b.yml", "- targets: ['d:1', 9100]\n  labels:\n    env: yes\n");
    world.put("/sd/readme.txt", "no");
    let patterns = vec!["/sd/*.json".to_owned(), "/sd/b.yml".to_owned(), "/sd/*.yml".to_owned()];
    let mut settings = job(vec![Discovery::File { patterns, refresh_ms: 300_000 }]);
    settings.relabel = vec![rule("__meta_filepath", ".*/(.*)", "file", "$1", RelabelAction::Replace)];
    let mut discoverer = discoverer(settings);
    assert_eq!((discoverer.next_due_ms(), discoverer.targets().len()), (Some(0), 0));
    assert!(discoverer.refresh(world.env()));
    let all = [
        "http://a:1/metrics env=x file=a.json instance=a:1 job=test",
        "http://b:1/metrics env=x file=a.json instance=b:1 job=test",
        "http://c:1/metrics file=a.json instance=c:1 job=test",
        "http://d:1/metrics env=yes file=b.yml instance=d:1 job=test",
        "http://9100/metrics env=yes file=b.yml instance=9100 job=test",
    ];
    assert_eq!(shown(&discoverer), all);
    assert!(!discoverer.refresh(world.env()), "nothing is due");

    // Nothing changed: stamps alone are looked at.
    assert_eq!((world.reads.get(), discoverer.next_due_ms()), (2, Some(5_000)));
    world.now_ms.set(5_000);
    assert!(!discoverer.refresh(world.env()));
    assert_eq!(world.reads.get(), 2);

    // A bad new version, an unreadable one: the old targets, the same ones, and an error.
    let before = discoverer.targets().to_vec();
    for (path, bad) in
        [("/sd/a.json", "[{"), ("/sd/a.json", r#"[{"port": 1}]"#), ("/sd/a.json", "[null]"), ("/sd/b.yml", "- a: 1")]
    {
        world.put(path, bad);
        world.now_ms.set(world.now_ms.get() + 5_000);
        assert!(!discoverer.refresh(world.env()));
        assert!(errors(&discoverer).iter().any(|error| error.starts_with(path)), "{:?}", errors(&discoverer));
    }
    world.spoil("/sd/b.yml");
    world.now_ms.set(world.now_ms.get() + 5_000);
    assert!(!discoverer.refresh(world.env()));
    assert!(errors(&discoverer).join(" ").contains("bad sector"));
    assert!(before.iter().zip(discoverer.targets()).all(|(a, b)| Rc::ptr_eq(a, b)));

    // A good one, and one that is gone. What stays is the same target as before.
    world.put("/sd/a.json", r#"[{"targets": ["b:1", "e:1"], "labels": {"env": "x"}}]"#);
    world.files.borrow_mut().remove(Path::new("/sd/b.yml"));
    world.now_ms.set(world.now_ms.get() + 5_000);
    assert!(discoverer.refresh(world.env()));
    assert_eq!(discoverer.targets().len(), 2);
    assert!(Rc::ptr_eq(&discoverer.targets()[0], &before[1]));
    assert_eq!(discoverer.errors(), Vec::new());

    // At the refresh interval a file is read even though its stamp is the same.
    let stamp = world.files.borrow()[Path::new("/sd/a.json")].0;
    let text = Ok(r#"[{"targets": ["f:1", "e:1"], "labels": {"env": "x"}}]"#.to_owned());
    world.files.borrow_mut().insert("/sd/a.json".into(), (stamp, text));
    world.now_ms.set(299_999);
    assert!(!discoverer.refresh(world.env()));
    world.now_ms.set(305_000);
    assert!(discoverer.refresh(world.env()));
    assert!(shown(&discoverer)[0].starts_with("http://f:1"));
}

#[test]
fn a_file_that_is_too_long_is_an_error() {
    let world = World::default();
    world.put("/sd/a.json", &" ".repeat(MAX_LIST_BYTES + 1));
    let mut discoverer =
        discoverer(job(vec![Discovery::File { patterns: vec!["/sd/a.json".to_owned()], refresh_ms: 1 }]));
    assert!(!discoverer.refresh(world.env()));
    assert_eq!(discoverer.errors().len(), 1);
}

#[test]
fn a_list_comes_over_http_and_stays_while_the_server_fails() {
    let world = World::default();
    let http = HttpClient {
        auth: Auth::Basic { username: Secret::Inline("u".to_owned()), password: Secret::Inline("p".to_owned()) },
        headers: vec![("X-Own".to_owned(), Secret::Inline("1".to_owned()))],
        ..HttpClient::default()
    };
    let url = "http://sd/list".to_owned();
    let mut settings = job(vec![Discovery::Http { url, refresh_ms: 30_500, http: Box::new(http) }]);
    settings.relabel = vec![rule("__meta_url", "(.*)", "from", "$1", RelabelAction::Replace)];
    let mut discoverer = discoverer(settings);

    world.answer(200, "Application/JSON; charset=\"utf-8\"", r#"[{"targets": ["a:1"], "labels": {"x": "y"}}]"#);
    assert!(discoverer.refresh(world.env()));
    let want = ["http://a:1/metrics from=http://sd/list instance=a:1 job=test x=y"];
    assert_eq!(shown(&discoverer), want);
    let (_, headers, limit) = world.asked.borrow_mut().remove(0);
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    assert_eq!(header("X-Prometheus-Refresh-Interval-Seconds").as_deref(), Some("30.5"));
    assert_eq!(header("Accept").as_deref(), Some("application/json"));
    assert_eq!(header("Authorization").as_deref(), Some("Basic dTpw"));
    assert_eq!((header("X-Own").as_deref(), limit), (Some("1"), 10_000));
    assert_eq!(discoverer.next_due_ms(), Some(30_500));

    let bad: [(u16, &str, &str, &str); 6] = [
        (500, "application/json", "[]", "HTTP status 500"),
        (204, "application/json", "", "HTTP status 204"),
        (200, "text/plain", "[]", "content type"),
        (200, "application/json; charset=latin1", "[]", "content type"),
        (200, "application/json", "[{\"targets\": [1]}]", "a target is not text"),
        (200, "application/json", "", "EOF"),
    ];
    for (status, content_type, body, reason) in bad {
        world.answer(status, content_type, body);
        world.now_ms.set(discoverer.next_due_ms().unwrap());
        assert!(!discoverer.refresh(world.env()));
        assert!(errors(&discoverer).join(" ").contains(reason), "{:?}", errors(&discoverer));
        assert_eq!(shown(&discoverer), want);
    }
    world.answer(200, "application/json", &" ".repeat(MAX_LIST_BYTES + 1));
    world.now_ms.set(discoverer.next_due_ms().unwrap());
    assert!(!discoverer.refresh(world.env()));
    assert!(errors(&discoverer).join(" ").contains("longer"));

    // A server that does not answer costs 10 s once, then 2 s, and each tenth time 10 s again, so that a slow one returns.
    *world.answer.borrow_mut() = None;
    world.asked.borrow_mut().clear();
    for _ in 0..12 {
        world.now_ms.set(discoverer.next_due_ms().unwrap());
        assert!(!discoverer.refresh(world.env()));
    }
    let mut limits = [2_000; 12];
    (limits[0], limits[10]) = (10_000, 10_000);
    assert_eq!(world.asked.borrow().iter().map(|(.., limit)| *limit).collect::<Vec<_>>(), limits);

    world.answer(200, "application/json", "[]");
    world.now_ms.set(discoverer.next_due_ms().unwrap());
    assert!(discoverer.refresh(world.env()));
    assert_eq!((discoverer.targets().len(), discoverer.errors()), (0, Vec::new()));
}

#[test]
fn no_password_of_a_url_is_shown() {
    let world = World::default();
    let url = "http://user:s3cret@sd:8080/list@v1?token=s3cret".to_owned();
    let source = Discovery::Http { url, refresh_ms: 1, http: Box::new(HttpClient::default()) };
    let mut discoverer = discoverer(job(vec![source]));
    discoverer.refresh(world.env());
    assert_eq!(errors(&discoverer), ["http://sd:8080/list@v1: out of time"]);
    world.now_ms.set(1);
    world.answer(200, "application/json", r#"[{"targets": ["a/b"]}]"#);
    discoverer.refresh(world.env());
    assert!(errors(&discoverer)[0].starts_with("http://sd:8080/list@v1:0: target 0"), "{:?}", errors(&discoverer));
}

#[test]
fn records_become_targets_and_stay_while_no_server_answers() {
    let world = World::default();
    world.records("srv.example", &[("one.example", 9100), ("two.example", 9200)]);
    world.records("a.example", &[("10.0.0.1", 0)]);
    world.records("aaaa.example", &[("fe80::1", 0)]);
    world.records("mx.example", &[("mail.example", 0)]);
    world.records("ns.example", &[("ns1.example", 0)]);
    let dns = |name: &str, kind| Discovery::Dns { names: vec![name.to_owned()], kind, port: 80, refresh_ms: 30_000 };
    let mut settings = job(vec![
        dns("srv.example", DnsKind::Srv),
        dns("a.example", DnsKind::A),
        dns("aaaa.example", DnsKind::Aaaa),
        dns("mx.example", DnsKind::Mx),
        dns("ns.example", DnsKind::Ns),
    ]);
    settings.relabel = vec![RelabelRule {
        source_labels: vec![],
        regex: Pattern::anchored("__meta_dns_(.*)").unwrap(),
        ..rule("", "", "", "$1", RelabelAction::LabelMap)
    }];
    let mut discoverer = discoverer(settings);
    for _ in 0..5 {
        assert!(discoverer.refresh(world.env()));
    }
    assert!(!discoverer.refresh(world.env()));
    let want = [
        "http://one.example:9100/metrics instance=one.example:9100 job=test name=srv.example srv_record_port=9100 srv_record_target=one.example.",
        "http://two.example:9200/metrics instance=two.example:9200 job=test name=srv.example srv_record_port=9200 srv_record_target=two.example.",
        "http://10.0.0.1:80/metrics instance=10.0.0.1:80 job=test name=a.example",
        "http://[fe80::1]:80/metrics instance=[fe80::1]:80 job=test name=aaaa.example",
        "http://mail.example:80/metrics instance=mail.example:80 job=test mx_record_target=mail.example. name=mx.example",
        "http://ns1.example:80/metrics instance=ns1.example:80 job=test name=ns.example ns_record_target=ns1.example.",
    ];
    assert_eq!(shown(&discoverer), want);

    world.now_ms.set(30_000);
    world.records.borrow_mut().remove("srv.example");
    world.records("a.example", &[]);
    assert_eq!((0..5).filter(|_| discoverer.refresh(world.env())).count(), 1);
    assert_eq!(discoverer.targets().len(), 5);
    assert_eq!(errors(&discoverer), ["srv.example: no server answered"]);
}

#[test]
fn only_files_of_this_machine_name_unix_sockets() {
    let world = World::default();
    let list = r#"[{"targets": ["unix:/run/docker.sock", "engine:1", "good:1"], "labels": {"__address__": "unix:/run/x"}},
        {"targets": ["label:1"], "labels": {"to": "unix:/run/label.sock"}}]"#;
    world.answer(200, "application/json", list);
    world.put("/f.json", list);
    world.records("name", &[("engine", 1), ("good", 1)]);
    let http = Discovery::Http { url: "http://h/".to_owned(), refresh_ms: 60_000, http: Box::default() };
    let dns = Discovery::Dns { names: vec!["name".to_owned()], kind: DnsKind::Srv, port: 0, refresh_ms: 30_000 };
    let file = Discovery::File { patterns: vec!["/f.json".to_owned()], refresh_ms: 60_000 };
    // Rules that lead to a socket: by a path of their own, and by the list's label.
    let rules = vec![
        rule("__address__", "engine:1", "__address__", "unix:/run/engine.sock", RelabelAction::Replace),
        rule("to", "(unix:.+)", "__address__", "$1", RelabelAction::Replace),
    ];
    for (source, counts) in [(http, (0, 3)), (dns, (0, 1)), (file, (3, 0))] {
        let mut settings = job(vec![source]);
        settings.relabel = rules.clone();
        let mut discoverer = discoverer(settings);
        while discoverer.next_due_ms() == Some(0) {
            discoverer.refresh(world.env());
        }
        let through_socket = shown(&discoverer).iter().filter(|target| target.contains(".sock!")).count();
        let refused = errors(&discoverer).iter().filter(|text| text.contains("cannot name a Unix socket")).count();
        assert_eq!((through_socket, refused), counts, "{:?}", errors(&discoverer));
        assert!(shown(&discoverer).iter().any(|target| target.starts_with("http://good:1/")));
    }
}

#[test]
fn what_a_list_holds_makes_no_error_longer_than_a_kilobyte() {
    let world = World::default();
    let long = "x/".repeat(100_000);
    let list = [
        format!(r#"[{{"targets": ["{long}", "unix:/{long}"], "labels": {{"instance": "{long}"}}}}]"#),
        format!(r#"[{{"{long}": 1}}]"#),
    ];
    for list in list {
        world.answer(200, "application/json", &list);
        let http = Discovery::Http { url: "http://h/".to_owned(), refresh_ms: 60_000, http: Box::default() };
        let mut discoverer = discoverer(job(vec![http]));
        discoverer.refresh(world.env());
        let told = errors(&discoverer);
        assert!(!told.is_empty() && told.iter().all(|text| text.len() < 1100), "{:?}", told.first().map(String::len));
        let reasons = ["is not a valid hostname", "cannot name a Unix socket", "unknown field"];
        assert!(told.iter().all(|text| reasons.iter().any(|reason| text.contains(reason))), "{told:#?}");
    }
}
