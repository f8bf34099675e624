//! The rules of the whole room, one scrape after the other.

use super::*;
use crate::model::batch::{EVENT_BYTES_MAX, MARKS_BYTES_MAX};
use crate::model::settings::{Declaration, EmfSettings, Histograms, ScrapeJob, ScrapeLimits, ScrapeProtocol, Template};
use crate::model::{Endpoint, Labels, Marks, Page, Report};
use crate::pattern::Pattern;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

const T1: i64 = 1_700_000_000_000;

/// One target that is scraped again and again.
struct Bench {
    converter: Converter,
    target: Target,
    now_ms: u64,
}

impl Bench {
    fn new(change: impl FnOnce(&mut ConvertSettings)) -> Self {
        let mut settings = ConvertSettings {
            log_group_name: "/edge/prom".to_owned(),
            host: Some("pi4".to_owned()),
            ..ConvertSettings::default()
        };
        change(&mut settings);
        Self { converter: Converter::new(settings), target: target(60_000), now_ms: 0 }
    }

    /// A scrape a minute after the last one, of lines such as `c_total{a="1"} 5 1000`.
    fn scrape(&mut self, types: &[(&str, MetricType)], lines: &[&str]) -> Converted {
        let samples = lines.iter().map(|line| parse(line, &self.target)).collect();
        let types: HashMap<Box<str>, MetricType> = types.iter().map(|(name, kind)| ((*name).into(), *kind)).collect();
        self.pass(60_000, Some(Page { samples, types }))
    }

    fn pass(&mut self, ms: u64, page: Option<Page>) -> Converted {
        self.now_ms += ms;
        let report = Report { start_ms: T1 + self.now_ms as i64, ..Report::default() };
        self.converter.convert(&self.target, &report, page, &[], self.now_ms)
    }

    fn counter(&mut self, line: &str) -> Vec<String> {
        messages(&self.scrape(&[("c_total", MetricType::Counter)], &[line]))
    }
}

pub(crate) fn target(interval_ms: u64) -> Target {
    let job = ScrapeJob {
        job_name: "node".to_owned(),
        interval_ms,
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
        http: crate::model::settings::HttpClient::default(),
        relabel: Vec::new(),
        metric_relabel: Vec::new(),
        discovery: Vec::new(),
    };
    Target {
        job: Rc::new(job),
        labels: Labels::from_pairs([("instance", "localhost:9100"), ("job", "node")]),
        endpoint: Endpoint::Http { url: "http://localhost:9100/metrics".to_owned(), unix_socket: None },
        interval_ms,
        timeout_ms: 10_000,
        refused: None,
    }
}

/// `name{label="value",…} number [ms]`, no escapes.
fn parse(line: &str, target: &Target) -> Sample {
    let (series, rest) = match line.split_once("} ") {
        Some((series, rest)) => (series, rest),
        None => line.split_once(' ').unwrap(),
    };
    let (name, pairs) = series.split_once('{').unwrap_or((series, ""));
    let mut labels = vec![("__name__", name)];
    labels.extend(target.labels.iter());
    labels.extend(pairs.split(',').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap()));
    let labels = Labels::from_pairs(labels.iter().map(|(name, value)| (*name, value.trim_matches('"'))));
    let mut numbers = rest.split(' ');
    let value = numbers.next().unwrap().parse().unwrap();
    Sample { labels, value, timestamp_ms: numbers.next().map(|ms| ms.parse().unwrap()), exposed_name: None }
}

fn messages(converted: &Converted) -> Vec<String> {
    converted.events.iter().map(|event| event.message()).collect()
}

/// An event of the counter `c_total` as it must look.
fn counted(at_s: i64, value: &str) -> String {
    format!(
        r#"{{"Timestamp":"{}","Version":"0","c_total":{value},"host":"pi4","instance":"localhost:9100","job":"node","prom_metric_type":"counter"}}"#,
        T1 + at_s * 1000
    )
}

#[test]
fn samples_with_equal_labels_share_an_event() {
    use MetricType::{Counter, Gauge, Histogram};
    let mut bench = Bench::new(|_| {});
    let types = [
        ("node_load1", Gauge),
        ("node_boot_time_seconds", Gauge),
        ("rx_bytes_total", Counter),
        ("h", Histogram),
        ("g_nan", Gauge),
    ];
    let page = |load: &str, rx: &str| {
        [
            format!("node_load1 {load}"),
            "node_boot_time_seconds 1.69999e9".to_owned(),
            format!("rx_bytes_total{{device=\"eth0\"}} {rx}"),
            "h_bucket{le=\"+Inf\"} 3".to_owned(),
            "h_sum 1.5".to_owned(),
            "foo_without_type 1".to_owned(),
            "g_nan NaN".to_owned(),
        ]
    };
    let scrape = |bench: &mut Bench, load, rx| {
        let page = page(load, rx);
        bench.scrape(&types, &page.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let first = scrape(&mut bench, "0.21", "1000");
    let gauges = |at: i64, load| {
        format!(
            r#"{{"Timestamp":"{at}","Version":"0","host":"pi4","instance":"localhost:9100","job":"node","node_boot_time_seconds":1699990000,"node_load1":{load},"prom_metric_type":"gauge"}}"#
        )
    };
    assert_eq!(messages(&first), [gauges(T1 + 60_000, "0.21")]);
    let want = ConvertCounts {
        converted: 2,
        unsupported_type: 2,
        no_type: 1,
        not_finite: 1,
        first_seen: 1,
        ..ConvertCounts::default()
    };
    assert_eq!(first.counts, want);
    assert_eq!((first.events[0].timestamp_ms, first.events[0].own_time), (T1 + 60_000, false));
    assert_eq!((first.events[0].key().group.as_str(), first.events[0].key().stream.as_str()), ("/edge/prom", "node"));

    let second = scrape(&mut bench, "0.5", "1500");
    let counter = format!(
        r#"{{"Timestamp":"{}","Version":"0","device":"eth0","host":"pi4","instance":"localhost:9100","job":"node","prom_metric_type":"counter","rx_bytes_total":500}}"#,
        T1 + 120_000
    );
    assert_eq!(messages(&second), [gauges(T1 + 120_000, "0.5"), counter]);
}

#[test]
fn a_counter_gives_its_increase_and_starts_anew_after_a_reset() {
    let mut bench = Bench::new(|_| {});
    assert!(bench.counter("c_total 100").is_empty());
    assert_eq!(bench.counter("c_total 150"), [counted(120, "50")]);
    assert_eq!(bench.counter("c_total 20"), [counted(180, "20")]);
    assert_eq!(bench.counter("c_total 20"), [counted(240, "0")]);
}

#[test]
fn failed_scrapes_and_pages_without_the_series_cost_no_baseline() {
    let mut bench = Bench::new(|_| {});
    bench.counter("c_total 100");
    assert!(bench.pass(60_000, None).events.is_empty());
    assert!(bench.scrape(&[], &[]).events.is_empty());
    assert_eq!(bench.counter("c_total 140"), [counted(240, "40")]);
}

#[test]
fn a_value_that_is_no_number_ends_the_baseline() {
    let mut bench = Bench::new(|_| {});
    for (line, want) in [("c_total 1", None), ("c_total NaN", None), ("c_total 5", None), ("c_total inf", None)] {
        assert_eq!(bench.counter(line).pop(), want);
    }
    assert!(bench.counter("c_total 7").is_empty());
    assert_eq!(bench.counter("c_total 8"), [counted(360, "1")]);
}

#[test]
fn a_time_stamp_that_does_not_advance_gives_nothing_and_loses_nothing() {
    let mut bench = Bench::new(|_| {});
    assert!(bench.counter("c_total 100 1000").is_empty());
    let stuck = bench.scrape(&[("c_total", MetricType::Counter)], &["c_total 150 1000"]);
    assert_eq!((stuck.events.len(), stuck.counts.not_advancing), (0, 1));
    assert!(bench.counter("c_total 160 900").is_empty());
    let moved = bench.scrape(&[("c_total", MetricType::Counter)], &["c_total 170 61000"]);
    assert_eq!((moved.events[0].timestamp_ms, moved.events[0].own_time), (61_000, true));
    assert!(moved.events[0].message().contains("\"c_total\":70,"));
}

#[test]
fn of_a_series_that_stands_twice_on_a_page_the_later_total_is_sent_as_in_the_agent() {
    let mut bench = Bench::new(|_| {});
    let types = [("c_total", MetricType::Counter), ("g", MetricType::Gauge)];
    assert_eq!(messages(&bench.scrape(&types, &["c_total 10", "c_total 12"])), [counted(60, "12")]);
    let page = bench.scrape(&types, &["c_total 15", "c_total 18", "g 1", "g 2"]);
    assert_eq!(messages(&page)[0], counted(120, "18"));
    assert!(messages(&page)[1].contains("\"g\":2,"));
    assert_eq!(page.counts.repeated, 1);
    assert_eq!(bench.counter("c_total 20"), [counted(180, "2")]);

    let stamped = bench.scrape(&types, &["c_total{a=\"b\"} 10 1000", "c_total{a=\"b\"} 12 1000"]);
    assert_eq!((stamped.events.len(), stamped.counts.not_advancing), (0, 1));
}

#[test]
fn a_wall_clock_that_steps_back_costs_no_delta() {
    let mut bench = Bench::new(|_| {});
    bench.counter("c_total 1");
    let page = Page {
        samples: vec![parse("c_total 3", &bench.target)],
        types: [("c_total".into(), MetricType::Counter)].into_iter().collect(),
    };
    let report = Report { start_ms: T1 - 7_200_000, ..Report::default() };
    let back = bench.converter.convert(&bench.target, &report, Some(page), &[], 120_000);
    assert!(back.events[0].message().contains("\"c_total\":2,"));
}

#[test]
fn a_delta_over_a_long_gap_is_logged_without_metrics_and_says_how_long() {
    let declared = |settings: &mut ConvertSettings| settings.emf = declare("^c_total$", &[&["job"]]);
    let mut bench = Bench::new(declared);
    bench.counter("c_total 1");
    assert!(bench.counter("c_total 2")[0].contains("CloudWatchMetrics"));
    bench.pass(15 * 60_000, None);
    let event = &bench.counter("c_total 3")[0];
    assert!(event.starts_with(r#"{"DeltaSpanSeconds":960,"Timestamp":""#), "{event}");
    assert!(!event.contains("CloudWatchMetrics"));
    assert!(bench.counter("c_total 4")[0].contains("CloudWatchMetrics"));

    let mut bench = Bench::new(|settings| {
        declared(settings);
        settings.max_gap_ms = Some(59_000);
    });
    bench.counter("c_total 1");
    assert!(bench.counter("c_total 2")[0].contains("\"DeltaSpanSeconds\":60,"));
}

#[test]
fn baselines_live_a_day_or_three_intervals() {
    const HOUR: u64 = 3_600_000;
    for (interval, away, survives) in
        [(60_000, 23 * HOUR, true), (60_000, 25 * HOUR, false), (12 * HOUR, 30 * HOUR, true)]
    {
        let mut bench = Bench::new(|_| {});
        bench.target.interval_ms = interval;
        bench.counter("c_total 1");
        bench.pass(away, None);
        assert_eq!(bench.counter("c_total 2").len(), usize::from(survives), "{interval} {away}");
    }
}

#[test]
fn a_table_that_is_full_refuses_new_series_and_evicts_idle_ones() {
    let types = [("c_total", MetricType::Counter)];
    let mut bench = Bench::new(|settings| settings.baseline_bytes = 1); // the least there is: room for 7
    let lines = |from: usize| (from..from + 10).map(|n| format!("c_total{{n=\"{n}\"}} 1")).collect::<Vec<_>>();
    let scrape = |bench: &mut Bench, from| {
        let lines = lines(from);
        bench.scrape(&types, &lines.iter().map(String::as_str).collect::<Vec<_>>()).counts
    };
    let counts = scrape(&mut bench, 0);
    assert_eq!((counts.baselines_refused, counts.baselines_evicted), (3, 0));
    let counts = scrape(&mut bench, 0);
    assert_eq!((counts.converted, counts.baselines_refused), (7, 3));
    bench.pass(120_000, None);
    let counts = scrape(&mut bench, 100);
    assert_eq!((counts.baselines_refused, counts.baselines_evicted), (3, 7));
    assert_eq!(bench.converter.baselines().0, 7);
}

fn declare(selector: &str, dimensions: &[&[&str]]) -> EmfSettings {
    EmfSettings::Declared {
        namespace: "CWAgent/Prometheus".to_owned(),
        units: [("node_load1".to_owned(), "Count".to_owned())].into_iter().collect(),
        declarations: vec![Declaration {
            source_labels: vec!["job".to_owned()],
            label_matcher: Pattern::search("^node$").unwrap(),
            metric_selectors: vec![Pattern::search(selector).unwrap()],
            dimensions: dimensions.iter().map(|set| set.iter().map(|name| (*name).to_owned()).collect()).collect(),
        }],
    }
}

#[test]
fn declared_metrics_come_after_the_rest() {
    let mut bench = Bench::new(|s| s.emf = declare("^node_load1$", &[&["host", "job"], &["job"], &["nosuch"]]));
    let types = [("node_load1", MetricType::Gauge), ("node_boot_time_seconds", MetricType::Gauge)];
    let page = bench.scrape(&types, &["node_load1 0.21", "node_boot_time_seconds 1.69999e9"]);
    let want = r#"{"CloudWatchMetrics":[{"Namespace":"CWAgent/Prometheus","Dimensions":[["host","job"],["job"]],"Metrics":[{"Name":"node_load1","Unit":"Count","StorageResolution":60}]}],"Timestamp":"1700000060000","Version":"0","host":"pi4","instance":"localhost:9100","job":"node","node_boot_time_seconds":1699990000,"prom_metric_type":"gauge","node_load1":0.21}"#;
    assert_eq!(messages(&page), [want]);
}

#[test]
fn only_declared_events_where_that_is_asked_for() {
    let mut bench = Bench::new(|settings| {
        settings.emf = declare("^a$", &[&["job"]]);
        settings.more.declared_only = true;
    });
    let types = [("a", MetricType::Gauge), ("b", MetricType::Gauge)];
    let page = bench.scrape(&types, &["a 1", "b 1", "b{x=\"y\"} 2"]);
    assert_eq!(page.events.len(), 1);
    assert_eq!((page.counts.converted, page.counts.undeclared), (2, 1));
}

#[test]
fn more_than_a_hundred_metrics_in_a_directive_are_split_over_events() {
    let mut bench = Bench::new(|settings| settings.emf = declare("^d", &[&["job"]]));
    let names: Vec<String> = (0..250).map(|n| format!("d{n:03}")).chain(["plain".to_owned()]).collect();
    let types: Vec<_> = names.iter().map(|name| (name.as_str(), MetricType::Gauge)).collect();
    let lines: Vec<String> = names.iter().map(|name| format!("{name} 1")).collect();
    let page = bench.scrape(&types, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(page.counts.converted, 251);
    let mut seen: Vec<String> = Vec::new();
    for event in &page.events {
        let json: serde_json::Value = serde_json::from_str(&event.message()).unwrap();
        let metrics = json["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
        assert!(metrics.len() <= 100);
        assert!(metrics.iter().all(|metric| json[metric["Name"].as_str().unwrap()] == 1.0));
        assert_eq!((json["job"].as_str(), json["Version"].as_str()), (Some("node"), Some("0")));
        seen.extend(json.as_object().unwrap().keys().filter(|key| names.contains(key)).cloned());
    }
    assert_eq!(page.events.len(), 3);
    seen.sort();
    assert_eq!(seen, names);
}

#[test]
fn events_over_a_mebibyte_are_split_and_what_cannot_be_is_dropped() {
    let mut bench = Bench::new(|_| {});
    let big = "n".repeat(300_000);
    let names: Vec<String> = (0..6).map(|n| format!("{big}{n}")).chain(["m".repeat(1 << 20)]).collect();
    let types: Vec<_> = names.iter().map(|name| (name.as_str(), MetricType::Gauge)).collect();
    let lines: Vec<String> = names.iter().map(|name| format!("{name} 1")).collect();
    let page = bench.scrape(&types, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((page.counts.converted, page.counts.oversized), (6, 1));
    assert!(page.events.iter().all(|event| event.billed_bytes() <= 1 << 20 && event.message().contains("localhost")));
    let fields: usize = page.events.iter().map(|event| event.message().matches(&big).count()).sum();
    assert_eq!(fields, 6);
}

#[test]
fn labels_and_streams_are_decorated() {
    let mut bench = Bench::new(|settings| {
        settings.cluster_name = Some("home".to_owned());
        settings.labels = vec![
            ("site".to_owned(), Template("s-{instance}".to_owned())),
            ("host".to_owned(), Template("other".to_owned())),
            ("empty".to_owned(), Template("{nothing_such}".replace("{nothing_such}", ""))),
        ];
    });
    let types = [("g", MetricType::Gauge), ("host", MetricType::Gauge), ("value", MetricType::Gauge)];
    let page = bench.scrape(&types, &["g 1", "host 5", "value 6", "g{ClusterName=\"mine\",prom_metric_type=\"x\"} 2"]);
    let want = r#"{"ClusterName":"home","Timestamp":"1700000060000","Version":"0","g":1,"host":5,"instance":"localhost:9100","job":"node","prom_metric_type":"gauge","prometheus":6,"site":"s-localhost:9100"}"#;
    assert_eq!(messages(&page)[0], want);
    assert!(messages(&page)[1].contains(r#""ClusterName":"mine""#));

    let mut bench = Bench::new(|_| {});
    bench.target.labels = Labels::from_pairs([("instance", "x")]);
    let page = bench.scrape(&types, &["g 1"]);
    assert!(page.events[0].message().contains(r#""JobName":"default""#));
    assert_eq!(page.events[0].key().stream, "default");
}

#[test]
fn report_samples_become_events_when_asked_for_even_of_a_failed_scrape() {
    for wanted in [false, true] {
        let mut bench = Bench::new(|settings| settings.more.scrape_health = wanted);
        let up = parse("up 0", &bench.target);
        let report = Report { start_ms: T1, ..Report::default() };
        let page = bench.converter.convert(&bench.target, &report, None, &[up], 0);
        assert_eq!(page.events.len(), usize::from(wanted));
    }
}

#[test]
fn untyped_metrics_are_gauges_when_asked_for() {
    let mut bench = Bench::new(|settings| settings.more.untyped = true);
    let page = bench.scrape(&[("u", MetricType::Unknown)], &["u 1", "nothing_known 2"]);
    assert_eq!(page.events.len(), 1);
    assert!(page.events[0].message().contains(r#""nothing_known":2,"prom_metric_type":"gauge","u":1"#));
}

#[test]
fn histograms_are_sent_as_the_settings_ask() {
    let scrape = |bench: &mut Bench, n: u32| {
        let lines = [
            format!("h_bucket{{le=\"1.0\"}} {n}"),
            format!("h_bucket{{le=\"+Inf\"}} {}", 2 * n),
            format!("h_sum {n}.5"),
            format!("h_count {}", 2 * n),
        ];
        bench.scrape(&[("h", MetricType::Histogram)], &lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let second = |histograms| {
        let mut bench = Bench::new(|settings| {
            settings.more.histograms = histograms;
            settings.host = None;
        });
        assert!(scrape(&mut bench, 10).events.is_empty());
        let page = scrape(&mut bench, 13);
        let after_version = |text: String| text.split_once("\"0\",").unwrap().1.to_owned();
        messages(&page).into_iter().map(after_version).collect::<Vec<_>>()
    };
    let totals = r#""h_count":6,"h_sum":3,"instance":"localhost:9100","job":"node","prom_metric_type":"histogram"}"#;
    assert!(second(Histograms::Drop).is_empty());
    assert_eq!(second(Histograms::CountAndSum), [totals]);
    let low = r#""h_bucket":3,"instance":"localhost:9100","job":"node","le":"1.0","prom_metric_type":"histogram"}"#;
    let all = low.replace("\"h_bucket\":3", "\"h_bucket\":6").replace("1.0", "+Inf");
    assert_eq!(second(Histograms::Buckets), [low, &all, totals]);
    let values = r#""h":{"Values":[0.5,1],"Counts":[3,3],"Max":1,"Min":0,"Count":6,"Sum":3},"instance":"localhost:9100","job":"node","prom_metric_type":"histogram"}"#;
    assert_eq!(second(Histograms::Values), [values]);
}

#[test]
fn an_event_as_large_as_can_be_still_fits_when_every_mark_was_added() {
    let fill = |bytes: usize| {
        let target = target(60_000);
        let labels = Labels::from_pairs([("__name__", "g"), ("a", &"x".repeat(bytes))]);
        let sample = Sample { labels, value: 1.0, timestamp_ms: Some(0), exposed_name: None };
        let page = Page { samples: vec![sample], types: [("g".into(), MetricType::Gauge)].into() };
        let mut converter = Converter::new(ConvertSettings::default());
        converter.convert(&target, &Report::default(), Some(page), &[], 0).events.pop()
    };
    let rest = fill(1).expect("an event").billed_bytes() - 1;
    let largest = EVENT_BYTES_MAX - MARKS_BYTES_MAX - rest;
    assert_eq!(fill(largest + 1), None);
    let mut event = fill(largest).expect("an event");
    assert!(event.message().contains("\"Timestamp\":\"0\""));
    event.timestamp_ms = i64::MIN;
    let marked = event.message_with(Marks { estimated: true, original_ms: Some(i64::MIN) });
    // The limit of one event in PutLogEvents, and nothing wasted.
    assert_eq!(marked.len() + Event::OVERHEAD_BYTES, 1_048_576);
}

/// A scrape through the quick way; gives the number of series that the plan knows.
fn pushed(converter: &mut Converter, target: &Target, lines: &[String], monotonic_ms: u64) -> usize {
    let succeeded = !lines.is_empty();
    let intake = converter.intake(target);
    intake.begin();
    for line in lines {
        let number = intake.series(&[("__name__", "g"), ("n", line)], "g").expect("room");
        intake.sample(number, 1.0, None).expect("fits");
        intake.family(&format!("f{line}"), None).expect("fits");
    }
    converter.finish(target, &Report::default(), succeeded, &[], monotonic_ms);
    converter.targets.values().map(|state| state.plan.series.len()).sum()
}

#[test]
fn a_plan_outlives_a_target_that_is_down_and_not_series_that_went() {
    let (mut converter, target) = (Converter::new(ConvertSettings::default()), target(60_000));
    let lines = |from: usize, to: usize| -> Vec<String> { (from..to).map(|n| n.to_string()).collect() };
    assert_eq!(pushed(&mut converter, &target, &lines(0, 3_000), 0), 3_000);
    assert_eq!(pushed(&mut converter, &target, &[], 1_000), 3_000, "it is down");
    assert_eq!(pushed(&mut converter, &target, &lines(0, 10), 2_000), 0, "its series went");
    // Lines that are never the same are forgotten too.
    for n in 0..200 {
        pushed(&mut converter, &target, &lines(n * 100, n * 100 + 100), 3_000 + n as u64);
        let memory_bytes: usize = converter.targets.values().map(TargetState::memory_bytes).sum();
        assert!(memory_bytes < 2 << 20, "{memory_bytes}");
    }
}
