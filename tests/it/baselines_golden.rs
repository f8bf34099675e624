//! Counter baselines saved by an earlier version: every later version must find its counters in them again, for ever.
//!
//! `tests/baselines_golden/v1` was written by the first version, whose targets' identities were what the compiler of that
//! day made of them. It is never written again; a new form gets a new file, written by `write_golden_file` below.

use promwatch::convert::{Converted, Converter, Moment};
use promwatch::model::settings::ConvertSettings;
use promwatch::model::{Endpoint, Labels, MetricType, Page, Report, Sample, Target};
use std::path::{Path, PathBuf};

const SAVED: &[u8] = include_bytes!("../baselines_golden/v1");
const BOOT: [u8; 16] = [7; 16];

/// Targets of every kind, with names and values that an encoding could stumble over, and what identifies each.
fn targets() -> Vec<(Target, &'static str)> {
    let http = |url: &str, socket: Option<&str>| Endpoint::Http {
        url: url.to_owned(),
        unix_socket: socket.map(PathBuf::from),
    };
    [
        (
            http("http://localhost:9100/metrics", None),
            &[("instance", "localhost:9100"), ("job", "node")][..],
            "Http { url: \"http://localhost:9100/metrics\", unix_socket: None } \
             instance=\"localhost:9100\" job=\"node\"",
        ),
        (
            http("http://localhost/metrics?a=%22", Some("/run/a \"b\".sock")),
            &[("instance", "unix:/run/a"), ("job", "café 温度"), ("service.name", "a\\b\n\t\r\0\u{1}\u{1f}\u{7f}'=,")],
            "Http { url: \"http://localhost/metrics?a=%22\", unix_socket: Some(\"/run/a \\\"b\\\".sock\") } \
             instance=\"unix:/run/a\" job=\"café 温度\" \
             service.name=\"a\\\\b\\n\\t\\r\\0\\u{1}\\u{1f}\\u{7f}'=,\"",
        ),
        (Endpoint::Host, &[("instance", "localhost"), ("job", "host")], "Host instance=\"localhost\" job=\"host\""),
        (Endpoint::Textfile("/var/lib/text".into()), &[], "Textfile(\"/var/lib/text\")"),
    ]
    .into_iter()
    .map(|(endpoint, labels, identity)| {
        let labels = Labels::from_pairs(labels.iter().copied());
        (Target { labels, endpoint, ..crate::convert::target() }, identity)
    })
    .collect()
}

/// A page with a counter and a summary of each target, scraped at `monotonic_ms`.
fn scrape(converter: &mut Converter, value: f64, monotonic_ms: u64) -> Vec<Converted> {
    let series = [("c_total", MetricType::Counter), ("s_sum", MetricType::Summary), ("s_count", MetricType::Summary)];
    let convert = |(target, _): &(Target, &str)| {
        let sample = |(at, (name, _)): (usize, &(&str, MetricType))| Sample {
            labels: Labels::from_pairs(target.labels.iter().chain([("__name__", *name), ("path", "/a")])),
            value: value * (at + 1) as f64,
            timestamp_ms: None,
            exposed_name: None,
        };
        let page = Page {
            samples: series.iter().enumerate().map(sample).collect(),
            types: series.iter().map(|(name, kind)| (name.trim_end_matches("_sum").into(), *kind)).collect(),
        };
        converter.convert(target, &Report::default(), Some(page), &[], monotonic_ms)
    };
    targets().iter().map(convert).collect()
}

fn moment(monotonic_ms: u64) -> Moment {
    Moment { wall_ms: 1_700_000_000_000, monotonic_ms, boot_id: BOOT }
}

fn saved_now() -> Vec<u8> {
    let mut converter = Converter::new(ConvertSettings::default());
    assert!(scrape(&mut converter, 100.0, 60_000).iter().all(|converted| converted.counts.first_seen == 3));
    converter.save_baselines(moment(61_000))
}

#[test]
fn counters_saved_by_the_first_version_go_on() {
    let mut converter = Converter::new(ConvertSettings::default());
    assert_eq!(converter.load_baselines(SAVED, moment(100_000)), Ok(12));
    for (converted, (target, _)) in scrape(&mut converter, 130.0, 120_000).iter().zip(targets()) {
        assert_eq!((converted.counts.first_seen, converted.counts.converted), (0, 3), "{:?}", target.endpoint);
        let messages: String = converted.events.iter().map(|event| event.message()).collect();
        for field in ["\"c_total\":30", "\"s_sum\":60", "\"s_count\":90"] {
            assert!(messages.contains(field), "{messages}");
        }
    }
}

#[test]
fn what_is_saved_has_not_changed() {
    assert_eq!(saved_now(), SAVED);
}

#[test]
fn a_target_is_identified_by_the_same_bytes_for_ever() {
    for (target, identity) in targets() {
        assert_eq!(target.identity(), identity);
    }
}

/// Writes the file, once, for a new form.
#[test]
#[ignore = "golden files are never written again"]
#[allow(clippy::disallowed_methods)]
fn write_golden_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/baselines_golden/new");
    std::fs::write(path, saved_now()).expect("written");
}

/// A remote list names labels as it likes; it must not make one target pass for another.
#[test]
fn no_labels_make_two_targets_the_same() {
    let sets: [&[(&str, &str)]; 7] = [
        &[("a", "1"), ("b", "2")],
        &[("a=\"1\" b", "2")],
        &[("a", "1\" b=\"2")],
        &[("\"a\"", "1"), ("b", "2")],
        &[("a b", "1")],
        &[("b", "1")],
        &[("a\n", "1")],
    ];
    let mut seen: Vec<String> = sets
        .iter()
        .map(|set| Target { labels: Labels::from_pairs(set.iter().copied()), ..crate::convert::target() }.identity())
        .collect();
    seen.sort();
    assert_eq!(seen.windows(2).find(|pair| pair[0] == pair[1]), None);
}
