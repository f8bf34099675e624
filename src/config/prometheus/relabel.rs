//! `relabel_configs` and their like. The rules on what goes together are Prometheus' `model/relabel/relabel.go`.

use super::section::{Reader, Section};
use crate::model::settings::{RelabelAction, RelabelRule};
use crate::pattern::Pattern;
use crate::yaml::Value;

const KEYS: [&str; 7] = ["source_labels", "separator", "regex", "modulus", "target_label", "replacement", "action"];
const DEFAULT_SEPARATOR: &str = ";";
const DEFAULT_REPLACEMENT: &str = "$1";
const DEFAULT_REGEX: &str = "(.*)";

/// Reads the list of rules under a key. A rule that is no good is left out; its finding is an error.
pub(super) fn rules(reader: &mut Reader<'_>, section: &Section<'_>, key: &str) -> Vec<RelabelRule> {
    let mut rules = Vec::new();
    for (at, node) in section.items(reader, key).iter().enumerate() {
        let path = format!("{}[{at}]", section.path_of(key));
        if node.is_null() {
            reader.error(node.position(), &path, "the rule is empty", "remove the `-` or fill the rule in");
        } else if let Some(section) = reader.section(node, path, &[&KEYS]) {
            rules.extend(rule(reader, &section));
        }
    }
    rules
}

fn rule(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<RelabelRule> {
    let action = action(reader, section);
    let source_labels = source_labels(reader, section);
    let separator = section.text(reader, "separator").unwrap_or(DEFAULT_SEPARATOR);
    let replacement = section.text(reader, "replacement").unwrap_or(DEFAULT_REPLACEMENT);
    let target_label = section.text(reader, "target_label").unwrap_or("");
    let modulus = section.count(reader, "modulus");
    let regex =
        section.text(reader, "regex").unwrap_or(if section.get("regex").is_some() { "" } else { DEFAULT_REGEX });
    let regex = match Pattern::anchored(regex) {
        Ok(regex) => Some(regex),
        Err(text) => {
            reader.error(section.at("regex"), &section.path_of("regex"), text, "");
            None
        }
    };
    let rule = RelabelRule {
        source_labels,
        separator: separator.to_owned(),
        regex: regex?,
        modulus,
        target_label: target_label.to_owned(),
        replacement: replacement.to_owned(),
        action: action?,
    };
    match conflict(&rule, section) {
        None => Some(rule),
        Some((key, text)) => {
            reader.error(section.at(key), &section.path_of(key), text, "");
            None
        }
    }
}

/// A null item is an empty name, as in Prometheus; a quoted empty one is not valid.
fn source_labels(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<String> {
    let path = section.path_of("source_labels");
    let mut labels = Vec::new();
    for node in section.items(reader, "source_labels") {
        match node.as_str() {
            Some("") if !node.is_null() => reader.error(node.position(), &path, "a label name must not be empty", ""),
            Some(name) => labels.push(name.to_owned()),
            None => reader.wrong_type(node, &path, "text"),
        }
    }
    labels
}

fn action(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<RelabelAction> {
    let Some(node) = section.get("action") else { return Some(RelabelAction::Replace) };
    let name = section.text(reader, "action")?;
    let found = ACTIONS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
    if found.is_none() {
        let names = ACTIONS.map(|(name, _)| name);
        let fix = crate::config::values::nearest(name, names).map(|name| format!("did you mean `{name}`?"));
        let text =
            if name.is_empty() { "the action is empty".to_owned() } else { format!("there is no action {name:?}") };
        reader.error(node.position(), &section.path_of("action"), text, &fix.unwrap_or_default());
    }
    found.map(|(_, action)| *action)
}

const ACTIONS: [(&str, RelabelAction); 11] = [
    ("replace", RelabelAction::Replace),
    ("keep", RelabelAction::Keep),
    ("drop", RelabelAction::Drop),
    ("keepequal", RelabelAction::KeepEqual),
    ("dropequal", RelabelAction::DropEqual),
    ("hashmod", RelabelAction::HashMod),
    ("labelmap", RelabelAction::LabelMap),
    ("labeldrop", RelabelAction::LabelDrop),
    ("labelkeep", RelabelAction::LabelKeep),
    ("lowercase", RelabelAction::Lowercase),
    ("uppercase", RelabelAction::Uppercase),
];

/// The key that does not go with the action, and why.
fn conflict(rule: &RelabelRule, section: &Section<'_>) -> Option<(&'static str, String)> {
    use RelabelAction::*;
    let action = ACTIONS.iter().find_map(|(name, action)| (*action == rule.action).then_some(*name)).unwrap_or("");
    let needs_target = matches!(rule.action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
    let plain_replacement = rule.replacement == DEFAULT_REPLACEMENT;
    if rule.action == HashMod && rule.modulus == 0 {
        return Some(("modulus", "hashmod needs a modulus over 0".to_owned()));
    }
    if needs_target && rule.target_label.is_empty() {
        return Some(("target_label", format!("{action} needs a target_label")));
    }
    if rule.action == Replace && rule.target_label.contains('$') && !is_template(&rule.target_label) {
        return Some(("target_label", format!("{:?} does not make a label name", rule.target_label)));
    }
    if matches!(rule.action, Lowercase | Uppercase | KeepEqual | DropEqual) && !plain_replacement {
        return Some(("replacement", format!("{action} takes no replacement")));
    }
    if rule.action == LabelMap && !is_template(&rule.replacement) {
        return Some(("replacement", format!("{:?} does not make a label name", rule.replacement)));
    }
    let others = |allowed: &[&str]| {
        KEYS.into_iter().filter(|key| *key != "action" && !allowed.contains(key)).find(|key| match *key {
            // A null, however it is written, is no list; an empty list is one.
            "source_labels" => section.get(key).is_some_and(|node| node.value() != Some(Value::Null)),
            "separator" => rule.separator != DEFAULT_SEPARATOR,
            "regex" => section.get(key).is_some(),
            "modulus" => rule.modulus != 0,
            "target_label" => !rule.target_label.is_empty(),
            _ => !plain_replacement,
        })
    };
    match rule.action {
        KeepEqual | DropEqual => others(&["source_labels", "target_label"])
            .map(|key| (key, format!("{action} takes source_labels and target_label only"))),
        LabelDrop | LabelKeep => others(&["regex"]).map(|key| (key, format!("{action} takes regex only"))),
        _ => None,
    }
}

/// Label characters and references to groups: `^(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+$`.
fn is_template(text: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut rest = text.as_bytes();
    let mut first = true;
    while let [byte, tail @ ..] = rest {
        rest = match byte {
            b'$' => {
                let (braced, tail) = match tail {
                    [b'{', tail @ ..] => (true, tail),
                    _ => (false, tail),
                };
                let name = tail.iter().take_while(|byte| is_word(byte)).count();
                match (&tail[name..], braced) {
                    _ if name == 0 => return false,
                    ([b'}', tail @ ..], true) => tail,
                    (_, true) => return false,
                    (tail, false) => tail,
                }
            }
            byte if is_word(byte) && !(first && byte.is_ascii_digit()) => tail,
            _ => return false,
        };
        first = false;
    }
    !first
}

#[cfg(test)]
mod tests {
    use super::is_template;

    #[test]
    fn templates_make_label_names() {
        for text in ["a", "_a1", "$1", "${1}", "a$1b", "${name}_x", "$1${2}", "a1$2", "$a_b"] {
            assert!(is_template(text), "{text:?}");
        }
        for text in ["", "1a", "l-$1", "$", "${", "${}", "${1", "a b", "a$", "é", "${1}-"] {
            assert!(!is_template(text), "{text:?}");
        }
    }
}
