//! The recorded cases, and the comparison that `tests/golden/README.md` asks for.
#![allow(clippy::disallowed_methods, reason = "tests read their fixtures")]

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What an exporter answers to one scrape.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The page.
    pub body: Vec<u8>,
    /// Its `Content-Type`, if it has one.
    pub content_type: Option<String>,
    /// The status.
    pub status: u16,
}

/// One recorded case.
pub struct Case {
    /// The folder's name.
    pub name: String,
    /// The agent's JSON; `@DIR@` and `@ENDPOINT@` are still in it.
    pub agent_json: String,
    /// The Prometheus file; its name in the JSON is `@DIR@/prom.yaml`.
    pub prometheus_yaml: String,
    /// The interval of the scrapes in seconds.
    pub interval_s: u64,
    /// Port on 127.0.0.1 -> the answers in order.
    pub targets: BTreeMap<u16, Vec<Answer>>,
    want: Vec<Value>,
}

/// One event that was delivered.
pub struct Delivered {
    /// Its log group.
    pub group: String,
    /// Its log stream.
    pub stream: String,
    /// Its time in milliseconds.
    pub timestamp_ms: i64,
    /// Its text.
    pub message: String,
}

impl Case {
    /// All cases, by name.
    pub fn all() -> Vec<Self> {
        let mut names: Vec<String> = std::fs::read_dir(golden().join("cases"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.iter().map(|name| Self::read(name)).collect()
    }

    /// One case.
    pub fn read(name: &str) -> Self {
        let text = |file: &str| std::fs::read_to_string(golden().join("cases").join(name).join(file)).unwrap();
        let plan: Value = serde_json::from_str(&text("targets.json")).unwrap();
        let answer = |answer: &Value| Answer {
            body: std::fs::read(golden().join("pages").join(answer["page"].as_str().unwrap())).unwrap(),
            content_type: answer["content_type"].as_str().map(str::to_owned),
            status: u16::try_from(answer["status"].as_u64().unwrap()).unwrap(),
        };
        let answers = |(port, list): (&String, &Value)| {
            (port.parse().unwrap(), list.as_array().unwrap().iter().map(answer).collect())
        };
        Self {
            name: name.to_owned(),
            agent_json: text("agent.json"),
            prometheus_yaml: text("prometheus.yaml"),
            interval_s: plan["interval_s"].as_u64().unwrap(),
            targets: plan["targets"].as_object().unwrap().iter().map(answers).collect(),
            want: text("want.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        }
    }

    /// How often each target is asked.
    pub fn rounds(&self) -> usize {
        self.targets.values().map(Vec::len).max().unwrap_or(0)
    }

    /// Compares what was delivered with what the agent sent. `scrapes` names the scrape of each time stamp, such as
    /// `2@19101` for the second one of the target on that port; events of other times are left out, as in the recording.
    pub fn compare(&self, delivered: &[Delivered], scrapes: &BTreeMap<i64, String>) -> Result<(), String> {
        let mut lines: BTreeMap<String, i64> = BTreeMap::new();
        for want in &self.want {
            let place = ["group", "stream", "scrape"].map(|key| want[key].as_str().unwrap());
            *lines.entry(line(place, &want["event"])).or_default() += 1;
        }
        for event in delivered {
            let Some(scrape) = scrapes.get(&event.timestamp_ms) else { continue };
            let mut json: Value = serde_json::from_str(&event.message)
                .map_err(|error| format!("{}: not JSON: {error}: {}", self.name, event.message))?;
            let own = Value::from(event.timestamp_ms.to_string());
            if json["Timestamp"] == own {
                json["Timestamp"] = Value::from("same");
            }
            *lines.entry(line([&event.group, &event.stream, scrape], &json)).or_default() -= 1;
        }
        let mut text = String::new();
        for (line, count) in lines.iter().filter(|(_, count)| **count != 0) {
            let what = if *count > 0 { "missing" } else { "too many" };
            text.push_str(&format!("{}: {what} ({}): {line}\n", self.name, count.abs()));
        }
        if text.is_empty() { Ok(()) } else { Err(text) }
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn line([group, stream, scrape]: [&str; 3], event: &Value) -> String {
    format!("{scrape} {group} {stream} {}", canonical(event, ""))
}

/// The same text for events that count as equal: numbers by value, members and lists in one order, but for the sets in
/// `Dimensions`.
pub fn canonical(value: &Value, member: &str) -> Value {
    match value {
        Value::Number(number) => {
            // Minus zero is zero.
            let number = number.as_f64().unwrap();
            Value::from(if number == 0.0 { 0.0 } else { number })
        }
        Value::Array(list) => {
            let mut list: Vec<Value> =
                list.iter().map(|item| canonical(item, if member == "Dimensions" { "set" } else { "" })).collect();
            if member != "Dimensions" {
                list.sort_by_key(Value::to_string);
            }
            Value::Array(list)
        }
        Value::Object(members) => {
            let sorted: BTreeMap<&String, Value> =
                members.iter().map(|(name, value)| (name, canonical(value, name))).collect();
            Value::Object(sorted.into_iter().map(|(name, value)| (name.clone(), value)).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

#[test]
fn the_comparison_sees_what_counts_and_nothing_else() {
    let event = |text: &str| canonical(&serde_json::from_str(text).unwrap(), "").to_string();
    let base = event(r#"{"a":1,"M":[{"Dimensions":[["b","a"],["c"]],"Metrics":[{"N":"x"},{"N":"y"}]}]}"#);
    assert_eq!(base, event(r#"{"M":[{"Metrics":[{"N":"y"},{"N":"x"}],"Dimensions":[["a","b"],["c"]]}],"a":1.0}"#));
    for other in [
        r#"{"a":1,"M":[{"Dimensions":[["c"],["b","a"]],"Metrics":[{"N":"x"},{"N":"y"}]}]}"#,
        r#"{"a":1.5,"M":[{"Dimensions":[["b","a"],["c"]],"Metrics":[{"N":"x"},{"N":"y"}]}]}"#,
        r#"{"a":"1","M":[{"Dimensions":[["b","a"],["c"]],"Metrics":[{"N":"x"},{"N":"y"}]}]}"#,
        r#"{"a":1,"M":[{"Dimensions":[["b","a"],["c"]],"Metrics":[{"N":"x"}]}]}"#,
    ] {
        assert_ne!(base, event(other));
    }
}
