//! Target groups as files and answers give them (`discovery/targetgroup/targetgroup.go` of Prometheus).

use crate::model::settings::TargetGroup;
use crate::yaml;
use serde_json::Value;

/// Reads `[{"targets": ["host:port"], "labels": {"name": "value"}}]`. Keys are found in any case, as Go's decoder does; a key that
/// is neither of the two is an error.
///
/// # Errors
/// What is wrong, with line and column where it is not JSON at all.
pub(super) fn from_json(bytes: &[u8]) -> Result<Vec<TargetGroup>, String> {
    let root: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let list = match root {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        _ => return Err("expected a list of target groups".to_owned()),
    };
    let mut groups = Vec::with_capacity(list.len());
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
    list.iter().map(yaml_group).collect()
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
