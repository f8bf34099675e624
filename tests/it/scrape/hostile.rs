//! A hostile or broken exporter costs a bounded amount and fails with the reason.

use super::*;
use promwatch::scrape::MAX_BODY_BYTES;

fn endless(piece: impl Fn(u64) -> Vec<u8> + 'static) -> Answer {
    Answer { pieces: Box::new((0..).map(piece)), ..Answer::page("") }
}

/// Scrapes and says besides how many pieces were taken.
fn attack(job: ScrapeJob, answer: impl Fn() -> Answer) -> (Scraped, u64) {
    let clock = FakeClock::default();
    let mut bench = Bench::new(&clock, |_| answer());
    let scraped = bench.scrape(&target(job));
    (scraped, bench.net.pieces.get())
}

#[test]
fn an_endless_body_of_comments_stops_at_the_hard_limit() {
    let (scraped, pieces) = attack(job(), || endless(|_| b"# comment\n".repeat(10_000)));
    assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Limit));
    assert_eq!(pieces, MAX_BODY_BYTES.div_ceil(100_000));
    assert!(error_text(&scraped).contains("promwatch's own limit"), "{}", error_text(&scraped));
}

#[test]
fn an_endless_body_of_samples_stops_before_the_memory_is_full() {
    let (scraped, pieces) =
        attack(job(), || endless(|_| format!("x{{a=\"{}\"}} 1\n", "b".repeat(1000)).repeat(1000).into_bytes()));
    assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Limit));
    assert!(error_text(&scraped).contains("memory"), "{}", error_text(&scraped));
    assert!(pieces < 100, "{pieces}");
}

#[test]
fn an_endless_body_of_families_stops_before_the_memory_is_full() {
    let (scraped, pieces) =
        attack(job(), || endless(|piece| format!("# TYPE a{piece}{} gauge\n", "b".repeat(20_000)).into_bytes()));
    assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Limit));
    assert!(pieces < 4000, "{pieces}");
}

#[test]
fn a_gzip_bomb_stops_at_the_hard_limit() {
    let bomb = gzip(&b"# ".iter().chain(&[b'x'; 998]).chain(b"\n").copied().collect::<Vec<_>>().repeat(70_000));
    assert!(bomb.len() < 1 << 20);
    let answer = || Answer::page(bomb.repeat(10)).header("content-encoding", "gzip");
    let (scraped, _) = attack(job(), answer);
    assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Limit), "{}", error_text(&scraped));
    let mut limited = job();
    limited.limits.body_bytes = 1 << 20;
    let (scraped, pieces) = attack(limited, answer);
    assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Limit));
    assert!(pieces < 30, "{pieces}");
}

#[test]
fn a_line_of_ten_megabytes_is_named_and_not_kept() {
    let (scraped, pieces) = attack(job(), || {
        let mut first = true;
        let pieces = std::iter::repeat_with(move || {
            if std::mem::take(&mut first) { b"ok 1\nx{a=\"".to_vec() } else { vec![b'a'; 64 << 10] }
        });
        Answer { pieces: Box::new(pieces.take(160)), ..Answer::page("") }
    });
    assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Parse));
    assert!(
        error_text(&scraped).starts_with("node pi:9100: line 2, column 1: longer than 1 MiB"),
        "{}",
        error_text(&scraped)
    );
    assert!(pieces <= 40, "{pieces}");
}

#[test]
fn a_line_with_a_million_labels_fails() {
    let mut line = "x{".to_owned();
    for n in 0..1_000_000 {
        line.push_str(&format!("a{n}=\"\","));
    }
    line.push_str("} 1\n");
    let (scraped, _) = attack(job(), || Answer::page(&line));
    assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Parse), "the line is too long");
    let mut line = "x{".to_owned();
    for n in 0..5_000 {
        line.push_str(&format!("a{n}=\"1\","));
    }
    line.push_str("} 1\n");
    let (scraped, _) = attack(ScrapeJob { skip_bad_lines: true, ..job() }, || Answer::page(&line));
    assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Limit), "too many labels");
}

#[test]
fn invalid_utf8_fails_with_line_and_column() {
    let page = b"x 1\ny{a=\"b\xff\"} 2\nz 3\n";
    let scraped = scrape(job(), || Answer::page(page));
    assert_eq!(error_text(&scraped), "node pi:9100: line 2, column 5: not UTF-8, found `\"b\u{fffd}\"} 2`");
    let scraped = scrape(ScrapeJob { skip_bad_lines: true, ..job() }, || Answer::page(page));
    assert_eq!(samples(&scraped), ["x{} 1", "z{} 3"]);
}

#[test]
fn gzip_is_read_in_members_and_damage_is_found() {
    let packed = gzip("x 1\ny 2\n".repeat(300).as_bytes());
    let answer = |bytes: &[u8]| scrape(job(), || Answer::page(bytes).header("content-encoding", "gzip"));
    assert_eq!(samples(&answer(&packed)).len(), 600);
    assert_eq!(samples(&answer(&[gzip(b"x "), gzip(b"1\ny 2\n")].concat())), ["x{} 1", "y{} 2"], "two members");
    assert_eq!(samples(&answer(&gzip(b""))), [""; 0]);
    let mut flipped = packed.clone();
    let end = flipped.len();
    flipped[end - 6] ^= 1;
    for (what, bytes) in [
        ("truncated", &packed[..packed.len() - 9]),
        ("without its end", &packed[..packed.len() - 1]),
        ("a wrong check sum", &flipped),
        ("nothing at all", b""),
        ("not gzip", b"x 1\n"),
        ("something behind it", &[&packed[..], b"garbage garbage garbage"].concat()),
    ] {
        let scraped = answer(bytes);
        assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Encoding), "{what}");
    }
}

#[test]
fn a_connection_that_breaks_or_stalls_yields_nothing() {
    for end in [NetErrorKind::Broken, NetErrorKind::Timeout] {
        let scraped = scrape(job(), || Answer { end: Some(end), ..Answer::page("x 1\ny 2\nz") });
        assert!(scraped.outcome.is_err());
    }
}

#[test]
fn an_error_page_without_end_is_not_read_to_its_end() {
    let (scraped, pieces) = attack(job(), || endless(|_| vec![b'x'; 10_000]).status(503));
    assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Status));
    assert!(pieces < 10, "{pieces}");
}

#[test]
fn a_bad_page_is_not_read_to_its_end() {
    let (scraped, pieces) = attack(job(), || endless(|_| b"<html>\n".to_vec()));
    assert_eq!(
        error_text(&scraped),
        "node pi:9100: line 1, column 1: expected a metric name, `{` or `#`, found `<html>`"
    );
    assert_eq!(pieces, 1);
}

#[test]
fn a_page_of_nothing_but_bad_lines_is_forgiven_in_bounded_memory() {
    let mut forgiving = ScrapeJob { skip_bad_lines: true, ..job() };
    forgiving.limits.body_bytes = 1 << 20;
    let (scraped, _) = attack(forgiving, || Answer::page(b"<\n".repeat(100_000)));
    assert_eq!(scraped.report.lines_skipped, 100_000);
    assert_eq!(scraped.problems.len(), 5);
}

#[test]
fn a_compressed_piece_that_takes_too_long_is_given_up() {
    // Every look at the clock costs a tenth of a second.
    struct SlowClock(FakeClock);
    impl Clock for SlowClock {
        fn wall_ms(&self) -> i64 {
            self.0.wall_ms()
        }
        fn monotonic_ms(&self) -> u64 {
            self.0.0.set(self.0.0.get() + 100);
            self.0.0.get()
        }
        fn boot_id(&self) -> [u8; 16] {
            self.0.boot_id()
        }
        fn synchronised(&self) -> bool {
            true
        }
        fn random(&self) -> u64 {
            4
        }
    }
    let clock = SlowClock(FakeClock::default());
    let packed = gzip(&b"# comment\n".repeat(400_000));
    let mut bench = Bench::new(&clock.0, |_| Answer::page(&packed).header("content-encoding", "gzip"));
    let env = Env { clock: &clock, disk: &bench.disk, net: &bench.net };
    let scraped = bench.scraper.scrape(&target(job()), 1_500, env, &mut |_| ());
    assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Timeout), "{}", error_text(&scraped));
}
