//! What is asked for, and how the answer's head is taken.

use super::*;
use promwatch::model::settings::{Auth, OAuth2, ProxySettings, Secret, TlsSettings};
use std::cell::Cell;
use std::path::{Path, PathBuf};

#[test]
fn the_headers_are_those_of_the_cloudwatch_agent() {
    let clock = FakeClock::default();
    let mut bench = Bench::new(&clock, |_| Answer::page("x 1\n"));
    bench.scrape(&target(job()));
    let seen = bench.last();
    assert_eq!((seen.method.as_str(), seen.url.as_str()), ("GET", "http://pi:9100/metrics"));
    assert_eq!(
        seen.header("Accept"),
        Some(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;escaping=allow-utf-8;q=0.5,\
         text/plain;version=1.0.0;escaping=allow-utf-8;escaping=allow-utf-8;q=0.4,\
         text/plain;version=0.0.4;escaping=allow-utf-8;q=0.3,*/*;q=0.2",
        )
    );
    assert_eq!(seen.header("Accept-Encoding"), Some("gzip"));
    assert_eq!(seen.header("X-Prometheus-Scrape-Timeout-Seconds"), Some("1.5"));
    assert_eq!(seen.header("Authorization"), None);
    assert!(seen.follow_redirects);

    let mut plain = job();
    plain.protocols = vec![ScrapeProtocol::Text004, ScrapeProtocol::Text100];
    plain.legacy_names = true;
    plain.compression = false;
    plain.http.follow_redirects = false;
    plain.http.headers = vec![
        ("X-Site".to_owned(), Secret::Inline("a".to_owned())),
        ("X-Site".to_owned(), Secret::Inline("b".to_owned())),
    ];
    bench.scrape(&Target { timeout_ms: 10_000, ..target(plain) });
    let seen = bench.last();
    assert_eq!(
        seen.header("Accept"),
        Some("text/plain;version=0.0.4;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.4")
    );
    assert_eq!(seen.header("Accept-Encoding"), Some("identity"));
    assert_eq!(seen.header("X-Prometheus-Scrape-Timeout-Seconds"), Some("10"));
    assert_eq!(seen.headers.iter().filter(|(name, _)| name == "X-Site").count(), 2);
    assert!(!seen.follow_redirects);
}

#[test]
fn credentials_come_from_the_settings_or_from_files_read_each_time() {
    let clock = FakeClock::default();
    let mut bench = Bench::new(&clock, |_| Answer::page("x 1\n"));
    let with = |auth: Auth| {
        let mut job = job();
        job.http.auth = auth;
        target(job)
    };
    let basic = with(Auth::Basic {
        username: Secret::Inline("user".to_owned()),
        password: Secret::File(PathBuf::from("/etc/password")),
    });
    let failed = bench.scrape(&basic);
    assert_eq!(kind(&failed), Some(ScrapeErrorKind::Config));
    assert!(error_text(&failed).contains("/etc/password"), "{}", error_text(&failed));
    for password in ["one", "two"] {
        bench.disk.put(Path::new("/etc/password"), format!(" {password}\n").as_bytes());
        bench.scrape(&basic);
        let want = if password == "one" { "Basic dXNlcjpvbmU=" } else { "Basic dXNlcjp0d28=" };
        assert_eq!(bench.last().header("Authorization"), Some(want));
    }
    bench.scrape(&with(Auth::Header { scheme: "Bearer".to_owned(), credentials: Secret::Inline("t0ken".to_owned()) }));
    assert_eq!(bench.last().header("Authorization"), Some("Bearer t0ken"));
}

fn oauth2() -> Target {
    let mut job = job();
    job.http.auth = Auth::OAuth2(Box::new(OAuth2 {
        client_id: "id&".to_owned(),
        client_secret: Secret::Inline("s3cret".to_owned()),
        token_url: "https://tokens/".to_owned(),
        scopes: vec!["a".to_owned(), "b".to_owned()],
        endpoint_params: BTreeMap::from([("audience".to_owned(), "x y".to_owned())]),
        tls: TlsSettings::default(),
        proxy: ProxySettings::default(),
    }));
    target(job)
}

#[test]
fn an_oauth2_token_is_kept_until_shortly_before_it_expires() {
    let clock = FakeClock::default();
    let mut bench = Bench::new(&clock, |seen| match seen.url.as_str() {
        "https://tokens/" => Answer::page(r#"{"access_token":"abc","token_type":"bearer","expires_in":60}"#),
        _ => Answer::page("x 1\n"),
    });
    for _ in 0..3 {
        assert_eq!(samples(&bench.scrape(&oauth2())).len(), 1);
        assert_eq!(bench.last().header("Authorization"), Some("Bearer abc"));
    }
    let token_requests =
        |bench: &Bench<'_>| bench.net.seen.borrow().iter().filter(|seen| seen.method == "POST").count();
    assert_eq!(token_requests(&bench), 1);
    let first = bench.net.seen.borrow()[0].clone();
    assert_eq!(first.body, "grant_type=client_credentials&scope=a+b&audience=x+y");
    assert_eq!(first.header("Authorization"), Some("Basic aWQlMjY6czNjcmV0"));
    assert_eq!(bench.net.seen.borrow()[1].total_ms, 1_250, "the token took its share of the time-out");
    clock.0.set(clock.0.get() + 50_000);
    bench.scrape(&oauth2());
    assert_eq!(token_requests(&bench), 2);
}

#[test]
fn an_oauth2_token_that_the_target_refuses_is_not_used_again() {
    let clock = FakeClock::default();
    for refusal in ["", "no"] {
        let given = Cell::new(0);
        let mut bench = Bench::new(&clock, |seen| match seen.url.as_str() {
            "https://tokens/" => {
                given.set(given.get() + 1);
                Answer::page(format!(r#"{{"access_token":"t{}","expires_in":3600}}"#, given.get()))
            }
            _ if seen.header("Authorization") == Some("Bearer t2") => Answer::page("x 1\n"),
            _ => Answer::page(refusal).status(401),
        });
        assert_eq!(kind(&bench.scrape(&oauth2())), Some(ScrapeErrorKind::Status));
        assert_eq!(samples(&bench.scrape(&oauth2())).len(), 1);
        assert_eq!(samples(&bench.scrape(&oauth2())).len(), 1);
        assert_eq!(given.get(), 2);
    }
}

#[test]
fn an_oauth2_server_that_wants_the_secret_in_the_form_gets_it_there() {
    let clock = FakeClock::default();
    let mut bench = Bench::new(&clock, |seen| match seen.url.as_str() {
        "https://tokens/" if seen.header("Authorization").is_some() => Answer::page("no").status(401),
        "https://tokens/" => Answer::page(r#"{"access_token":"abc"}"#),
        _ => Answer::page("x 1\n"),
    });
    assert_eq!(samples(&bench.scrape(&oauth2())).len(), 1);
    assert!(bench.net.seen.borrow()[1].body.ends_with("&client_id=id%26&client_secret=s3cret"));
}

#[test]
fn an_oauth2_server_that_refuses_fails_the_scrape_without_telling_the_secret() {
    let clock = FakeClock::default();
    for (status, want) in [(401, ScrapeErrorKind::Config), (503, ScrapeErrorKind::Broken)] {
        let mut bench = Bench::new(&clock, |_| Answer::page("client_secret=s3cret is wrong").status(status));
        let scraped = bench.scrape(&oauth2());
        assert_eq!(kind(&scraped), Some(want));
        assert!(!format!("{scraped:?}").contains("s3cret"), "{scraped:?}");
        assert!(bench.net.seen.borrow().iter().all(|seen| seen.method == "POST"), "the target was not asked");
    }
}

#[test]
fn any_status_but_200_fails_the_scrape() {
    for (status, text) in
        [(500, "500 Internal Server Error"), (302, "302 Found"), (204, "204 No Content"), (799, "799 (unknown)")]
    {
        for page in ["", "x 1\n"] {
            let scraped = scrape(job(), || Answer::page(page).status(status));
            assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Status), "{status}");
            assert_eq!(error_text(&scraped), format!("node pi:9100: server returned HTTP status {text}"));
        }
    }
}

#[test]
fn the_format_follows_the_content_type() {
    // Only OpenMetrics minds the missing end, only text minds the unknown type.
    let text = "x 1\n";
    let open_metrics = "# TYPE x stateset\nx 1\n# EOF\n";
    for (content_type, page, good) in [
        ("text/plain; version=0.0.4", text, true),
        ("text/html", text, true),
        ("text/plain", open_metrics, false),
        ("application/openmetrics-text; version=0.0.1; charset=utf-8", open_metrics, true),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", text, false),
    ] {
        let scraped = scrape(job(), || Answer::page(page).header("content-type", content_type));
        assert_eq!(scraped.outcome.is_ok(), good, "{content_type}: {}", error_text(&scraped));
    }
    let scraped = scrape(job(), || {
        let mut answer = Answer::page(text);
        answer.head.headers.clear();
        answer
    });
    assert_eq!(samples(&scraped), ["x{} 1"]);
    let scraped = scrape(job(), || Answer::page("\x01").header("content-type", "application/vnd.google.protobuf"));
    assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Encoding));
}

#[test]
fn an_empty_answer_is_an_empty_page_in_every_format() {
    for content_type in ["text/plain", "application/openmetrics-text"] {
        let scraped = scrape(job(), || Answer::page("").header("content-type", content_type));
        assert_eq!(samples(&scraped), [""; 0], "{content_type}");
    }
}

#[test]
fn network_errors_keep_their_kind() {
    for (end, want) in [
        (NetErrorKind::Resolve, ScrapeErrorKind::Resolve),
        (NetErrorKind::Connect, ScrapeErrorKind::Connect),
        (NetErrorKind::Timeout, ScrapeErrorKind::Timeout),
        (NetErrorKind::Tls, ScrapeErrorKind::Tls),
        (NetErrorKind::Protocol, ScrapeErrorKind::Broken),
        (NetErrorKind::Stopped, ScrapeErrorKind::Stopped),
    ] {
        let scraped = scrape(job(), || Answer { end: Some(end), ..Answer::page("x 1\n") });
        assert_eq!(kind(&scraped), Some(want));
        assert!(error_text(&scraped).starts_with("node pi:9100: "));
        assert_eq!(scraped.report.samples_scraped, 0, "what came before the failure does not count");
    }
}

#[test]
fn the_machines_own_figures_go_the_same_way() {
    let clock = FakeClock::default();
    let mut bench = Bench::new(&clock, |_| Answer::page(""));
    let scraped = bench.scrape(&Target { endpoint: Endpoint::Host, ..target(job()) });
    assert_eq!(samples(&scraped), ["own{} 1"]);
    assert!(bench.net.seen.borrow().is_empty());
}

#[test]
fn a_refused_target_is_not_asked() {
    let clock = FakeClock::default();
    let mut bench = Bench::new(&clock, |_| Answer::page("x 1\n"));
    let scraped = bench.scrape(&Target { refused: Some("target_limit exceeded".into()), ..target(job()) });
    assert_eq!(error_text(&scraped), "node pi:9100: target_limit exceeded");
    assert!(bench.net.seen.borrow().is_empty());
}

/// The pages with one odd line each: those that gave the CloudWatch agent no event did not parse.
#[test]
fn odd_lines_pass_or_fail_as_they_did_in_the_agent() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    #[allow(clippy::disallowed_methods)]
    let read = |path: &str| std::fs::read_to_string(golden.join(path)).expect("a golden file");
    let want = read("cases/badlines/want.jsonl");
    let (mut passed, mut failed) = (0, 0);
    for port in 19_101..=19_135 {
        let page = read(&format!("pages/made/badlines-{port}-1.txt"));
        let scraped = scrape_page(job(), &page);
        // Samples without a type give no event either.
        let typed = scraped
            .outcome
            .as_ref()
            .is_ok_and(|page| page.samples.iter().any(|sample| page.types.contains_key(sample.labels.name())));
        assert_eq!(typed, want.contains(&format!("1@{port}")), "{port}: {page} {:?}", scraped.outcome);
        if typed { passed += 1 } else { failed += 1 }
    }
    assert!(passed > 5 && failed > 5, "{passed} and {failed}");
}
