//! Target groups as files and answers give them (`discovery/targetgroup/targetgroup.go` of Prometheus).

use crate::model::settings::TargetGroup;
use crate::yaml;
use serde_json::Value;

/// The most target groups of a file or an answer. A list may be one for a whole fleet, of which rules pick this device's.
const MAX_GROUPS: usize = 50_000;
/// The most that the labels of all targets may take before rules, in bytes. Each target has a copy of its group's, so a short
/// list can ask for a lot.
const MAX_LABEL_BYTES: usize = 64 << 20;

/// Reads `[{"targets": ["host:port"], "labels": {"name": "value"}}]`. Keys are found in any case, as Go's decoder does; a key that
/// is neither of the two is an error.
///
/// # Errors
/// What is wrong, with line and column where it is not JSON at all; or that it is too much.
pub(super) fn from_json(bytes: &[u8]) -> Result<Vec<TargetGroup>, String> {
    let root: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let list = match root {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        _ => return Err("expected a list of target groups".to_owned()),
    };
    let mut groups = Vec::with_capacity(list.len().min(MAX_GROUPS));
    for (at, item) in list.into_iter().enumerate() {
        let mut group = TargetGroup::default();
        let wrong = |what: &str| format!("target group {at}: {what}");
        let Value::Object(fields) = item else { return Err(wrong("is not an object")) };
        for (key, value) in fields {
            if key.eq_ignore_ascii_case("targets") {
                let targets = match value {
                    Value::Null => Vec::new(),
                    Value::Array(targets) => targets,
                    _ => return Err(wrong("targets is not a list")),
                };
                group.targets =
                    targets.into_iter().map(json_text).collect::<Option<_>>().ok_or(wrong("a target is not text"))?;
            } else if key.eq_ignore_ascii_case("labels") {
                let labels = match value {
                    Value::Null => serde_json::Map::new(),
                    Value::Object(labels) => labels,
                    _ => return Err(wrong("labels is not an object")),
                };
                for (name, value) in labels {
                    let value = json_text(value).ok_or_else(|| wrong(&format!("the label {name:?} is not text")))?;
                    if name.is_empty() {
                        return Err(wrong("\"\" is not a valid label name"));
                    }
                    group.labels.insert(name, value);
                }
            } else {
                return Err(wrong(&format!("unknown field {key:?}")));
            }
        }
        groups.push(group);
    }
    bounded(groups)
}

fn bounded(groups: Vec<TargetGroup>) -> Result<Vec<TargetGroup>, String> {
    if groups.len() > MAX_GROUPS {
        return Err(format!("{} target groups; at most {MAX_GROUPS} are read", groups.len()));
    }
    let label_bytes =
        |group: &TargetGroup| -> usize { group.labels.iter().map(|(name, value)| name.len() + value.len()).sum() };
    let bytes: u64 = groups.iter().map(|group| label_bytes(group) as u64 * group.targets.len() as u64).sum();
    if bytes > MAX_LABEL_BYTES as u64 {
        return Err(format!("the labels of all targets take {bytes} bytes; at most {MAX_LABEL_BYTES} are read"));
    }
    Ok(groups)
}

fn json_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Null => Some(String::new()),
        _ => None,
    }
}

/// Reads the same from YAML; scalars of any type are text. A key that is neither `targets` nor `labels` is an error.
///
/// # Errors
/// What is wrong and where.
pub(super) fn from_yaml(bytes: &[u8]) -> Result<Vec<TargetGroup>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let Some(root) = yaml::parse(text).map_err(|error| error.to_string())?.root else { return Ok(Vec::new()) };
    if root.is_null() {
        return Ok(Vec::new());
    }
    let list = root.as_sequence().ok_or_else(|| at(&root, "expected a list of target groups"))?;
    bounded(list.iter().map(yaml_group).collect::<Result<_, _>>()?)
}

fn yaml_group(item: &yaml::Node) -> Result<TargetGroup, String> {
    let mut group = TargetGroup::default();
    for entry in item.as_mapping().ok_or_else(|| at(item, "a target group is a mapping"))? {
        let value = &entry.value;
        match entry.key.as_str() {
            _ if value.is_null() && ["targets", "labels"].contains(&entry.key.as_str()) => {}
            "targets" => {
                let targets = value.as_sequence().ok_or_else(|| at(value, "targets is a list"))?;
                let text =
                    |node: &yaml::Node| node.as_str().map(str::to_owned).ok_or_else(|| at(node, "a target is text"));
                group.targets = targets.iter().map(text).collect::<Result<_, _>>()?;
            }
            "labels" => {
                for label in value.as_mapping().ok_or_else(|| at(value, "labels is a mapping"))? {
                    let text = label.value.as_str().ok_or_else(|| at(&label.value, "a label's value is text"))?;
                    if label.key.is_empty() {
                        return Err(at(&label.value, "\"\" is not a valid label name"));
                    }
                    group.labels.insert(label.key.clone(), text.to_owned());
                }
            }
            key => return Err(at(value, &format!("unknown field {key:?}: a target group has targets and labels"))),
        }
    }
    Ok(group)
}

fn at(node: &yaml::Node, what: &str) -> String {
    let (line, column) = node.position();
    format!("line {line}, column {column}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_list_cannot_ask_for_a_lot_of_memory() {
        let list = |targets: usize, label_bytes: usize| {
            let targets = vec!["\"a:1\""; targets].join(",");
            format!("[{{\"targets\":[{targets}],\"labels\":{{\"l\":\"{}\"}}}}]", "x".repeat(label_bytes))
        };
        let groups = |groups: usize| format!("[{}]", vec!["{}"; groups].join(","));
        for read in [from_json, from_yaml] {
            for (text, fits) in [
                (list(60_000, 1_000), true),
                (list(60_000, 1_200), false),
                (groups(50_000), true),
                (groups(50_001), false),
            ] {
                let result = read(text.as_bytes());
                assert_eq!(result.is_ok(), fits, "{:?}", result.err());
                assert!(fits || result.is_err_and(|error| error.contains("at most")));
            }
        }
    }
}
