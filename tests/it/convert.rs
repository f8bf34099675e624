//! Random pages, converted, against a model of the rules that is written for clearness alone.

use crate::golden::compare::canonical;
use promwatch::convert::Converter;
use promwatch::model::settings::{
    ConvertSettings, Declaration, EmfSettings, HttpClient, ScrapeJob, ScrapeLimits, ScrapeProtocol,
};
use promwatch::model::{Endpoint, Labels, MetricType, Page, Report, Sample, Target};
use promwatch::pattern::Pattern;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

const NAMES: [&str; 9] = ["g", "g_total", "c_total", "c", "s", "s_sum", "s_count", "value", "host"];
const LABELS: [(&str, &[&str]); 5] = [
    ("a", &["", "1", "é\"\\\n"]),
    ("host", &["", "other"]),
    ("prom_metric_type", &["", "", "mine"]),
    ("job", &["node", "node", "x:y", ""]),
    ("Version", &["", "<&>"]),
];

/// xorshift64*: the same pages on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below as u64) as usize
    }
}

pub fn target() -> Target {
    let job = ScrapeJob {
        job_name: "node".to_owned(),
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
        discovery: Vec::new(),
    };
    Target {
        job: Rc::new(job),
        labels: Labels::default(),
        endpoint: Endpoint::Host,
        interval_ms: 60_000,
        timeout_ms: 10_000,
        refused: None,
    }
}

fn page(random: &mut Random) -> Page {
    let mut types: HashMap<Box<str>, MetricType> = HashMap::new();
    for (name, kind) in [("g", MetricType::Gauge), ("value", MetricType::Gauge), ("host", MetricType::Gauge)] {
        types.insert(name.into(), kind);
    }
    types.insert("c".into(), MetricType::Counter);
    types.insert("s".into(), MetricType::Summary);
    let mut samples = Vec::new();
    for _ in 0..random.next(40) {
        let name = NAMES[random.next(NAMES.len())];
        let labels: Vec<_> = LABELS.iter().map(|(label, values)| (*label, values[random.next(values.len())])).collect();
        let value = match random.next(12) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => 1e300,
            n => (random.next(1000) as f64) / 8.0 * (n as f64),
        };
        let timestamp_ms = (random.next(5) == 0).then(|| 1000 * random.next(50) as i64);
        let pairs = std::iter::once(("__name__", name)).chain(labels);
        samples.push(Sample { labels: Labels::from_pairs(pairs), value, timestamp_ms, exposed_name: None });
    }
    Page { samples, types }
}

/// An event's labels, time and fields.
type Group = (BTreeMap<String, String>, i64, BTreeMap<String, f64>);

/// A last value: the value, its own time stamp, the scrape.
type Last = (f64, Option<i64>, u32);

#[derive(Default)]
struct Model {
    last: HashMap<(BTreeMap<String, String>, String), Last>,
}

impl Model {
    fn delta(&mut self, series: (BTreeMap<String, String>, String), sample: &Sample, scrape: u32) -> Option<f64> {
        if !sample.value.is_finite() {
            self.last.remove(&series);
            return None;
        }
        let now = (sample.value, sample.timestamp_ms, scrape);
        let Some((value, own, seen)) = self.last.get(&series).copied() else {
            self.last.insert(series, now);
            return None;
        };
        let out = match (own, sample.timestamp_ms) {
            (Some(before), Some(after)) if after <= before => return None,
            (Some(_), Some(_)) => None,
            _ if seen == scrape => Some(sample.value),
            _ => None,
        };
        self.last.insert(series, now);
        Some(out.unwrap_or(if sample.value >= value { sample.value - value } else { sample.value }))
    }

    /// The page's events, as JSON, with their times and streams.
    fn events(&mut self, page: &Page, scrape: u32, start_ms: i64, declared: bool) -> Vec<(i64, String, Value)> {
        let mut groups: Vec<Group> = Vec::new();
        for sample in &page.samples {
            let name = sample.labels.name();
            let kind = match name {
                // g_total: of the family g, as if that were a counter
                "g" | "g_total" | "value" | "host" => "gauge",
                "c" | "c_total" => "counter",
                "s" | "s_sum" | "s_count" => "summary",
                other => panic!("{other}"),
            };
            let mut labels: BTreeMap<String, String> = sample
                .labels
                .iter()
                .filter(|(name, _)| *name != "__name__")
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            labels.insert("prom_metric_type".to_owned(), kind.to_owned());
            let cumulative = kind == "counter" || name == "s_sum" || name == "s_count";
            let value = match cumulative {
                true => self.delta((labels.clone(), name.to_owned()), sample, scrape),
                false => Some(sample.value).filter(|value| value.is_finite()),
            };
            let Some(value) = value else { continue };
            let field = if name == "value" { "prometheus" } else { name };
            let at = groups.iter().position(|group| group.0 == labels).unwrap_or_else(|| {
                groups.push((labels, sample.timestamp_ms.unwrap_or(start_ms), BTreeMap::new()));
                groups.len() - 1
            });
            groups[at].2.insert(field.to_owned(), value);
        }
        groups.into_iter().map(|group| finish(group, declared)).collect()
    }
}

fn finish((mut labels, time_ms, fields): Group, declared: bool) -> (i64, String, Value) {
    if !labels.contains_key("job") {
        labels.insert("JobName".to_owned(), "default".to_owned());
    }
    labels.entry("host".to_owned()).or_insert("pi4".to_owned());
    let stream = labels.get("JobName").unwrap_or_else(|| &labels["job"]).replace(':', "_");
    let mut json: BTreeMap<String, Value> = labels.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    json.extend(fields.iter().map(|(name, value)| (name.clone(), json!(value))));
    json.insert("Version".to_owned(), json!("0"));
    json.insert("Timestamp".to_owned(), json!(time_ms.to_string()));
    if declared {
        // The first declaration wants everything of job node, the second one c_total and host of every job.
        let job = labels.get("job").map(String::as_str);
        let mut measurements: BTreeMap<bool, (Value, Vec<Value>)> = BTreeMap::new();
        for name in fields.keys() {
            let both = name == "c_total" || name == "host";
            let sets = [
                (job == Some("node"), json!(["job"])),
                (both && labels.contains_key("a"), json!(["a", "host"])),
                (both && job.is_some(), json!(["job"])),
            ];
            let mut unique: Vec<Value> = Vec::new();
            for (there, set) in sets {
                if there && !unique.contains(&set) {
                    unique.push(set);
                }
            }
            if !unique.is_empty() {
                let unit = if name == "host" { "Count" } else { "" };
                let metric = json!({"Name": name, "Unit": unit, "StorageResolution": 60});
                measurements.entry(both).or_insert((json!(unique), Vec::new())).1.push(metric);
            }
        }
        if !measurements.is_empty() {
            let list: Vec<Value> = measurements
                .into_values()
                .map(|(sets, metrics)| json!({"Namespace": "N", "Dimensions": sets, "Metrics": metrics}))
                .collect();
            json.insert("CloudWatchMetrics".to_owned(), json!(list));
        }
    }
    (time_ms, stream, json!(json))
}

fn declarations() -> EmfSettings {
    let declaration = |matcher: &str, selector: &str, dimensions: &[&[&str]]| Declaration {
        source_labels: vec!["job".to_owned()],
        label_matcher: Pattern::search(matcher).unwrap(),
        metric_selectors: vec![Pattern::search(selector).unwrap()],
        dimensions: dimensions.iter().map(|set| set.iter().map(|name| (*name).to_owned()).collect()).collect(),
    };
    EmfSettings::Declared {
        namespace: "N".to_owned(),
        units: [("host".to_owned(), "Count".to_owned())].into_iter().collect(),
        declarations: vec![
            declaration("^node$", ".", &[&["job"]]),
            declaration(".*", "^(c_total|host)$", &[&["a", "host"], &["job"]]),
        ],
    }
}

#[test]
fn random_pages_convert_as_the_model_says() {
    for seed in 1..150_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let declared = seed % 2 == 0;
        let settings = ConvertSettings {
            log_group_name: "/g".to_owned(),
            host: Some("pi4".to_owned()),
            emf: if declared { declarations() } else { EmfSettings::Off },
            // Own time stamps jump about.
            max_gap_ms: Some(u64::MAX),
            ..ConvertSettings::default()
        };
        let (mut converter, mut model, target) = (Converter::new(settings), Model::default(), target());
        for scrape in 0..8_u32 {
            let report = Report { start_ms: 1_700_000_000_000 + i64::from(scrape) * 60_000, ..Report::default() };
            let page = (random.next(6) > 0).then(|| page(&mut random));
            let want = page.as_ref().map(|page| model.events(page, scrape, report.start_ms, declared));
            let converted = converter.convert(&target, &report, page, &[], u64::from(scrape) * 60_000);
            let line = |(time, stream, json): (i64, String, Value)| format!("{time} {stream} {}", canonical(&json, ""));
            let mut want: Vec<String> = want.unwrap_or_default().into_iter().map(line).collect();
            let mut got: Vec<String> = converted
                .events
                .iter()
                .map(|event| {
                    let json = serde_json::from_str(&event.message()).unwrap();
                    line((event.timestamp_ms, event.key().stream.clone(), json))
                })
                .collect();
            want.sort();
            got.sort();
            assert_eq!(got, want, "seed {seed}, scrape {scrape}");
        }
    }
}
