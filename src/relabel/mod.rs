//! Relabelling: rules that rewrite, keep or drop label sets, for targets and for samples alike.

use crate::model::LabelsBuilder;
use crate::model::settings::{RelabelAction, RelabelRule};

/// Applies the rules in order. False: the target or sample is dropped, and the labels are in no particular state.
pub fn relabel(labels: &mut LabelsBuilder, rules: &[RelabelRule]) -> bool {
    rules.iter().all(|rule| apply(labels, rule))
}

fn apply(labels: &mut LabelsBuilder, rule: &RelabelRule) -> bool {
    let mut value = String::new();
    for (at, name) in rule.source_labels.iter().enumerate() {
        if at > 0 {
            value.push_str(&rule.separator);
        }
        value.push_str(labels.get(name).unwrap_or(""));
    }
    let target = rule.target_label.as_str();
    match rule.action {
        RelabelAction::Keep => return rule.regex.is_match(&value),
        RelabelAction::Drop => return !rule.regex.is_match(&value),
        RelabelAction::KeepEqual => return labels.get(target).unwrap_or("") == value,
        RelabelAction::DropEqual => return labels.get(target).unwrap_or("") != value,
        RelabelAction::Replace => {
            if let Some(captures) = rule.regex.captures(&value) {
                let (mut name, mut new) = (String::new(), String::new());
                captures.expand(target, &mut name);
                captures.expand(&rule.replacement, &mut new);
                if !name.is_empty() {
                    labels.set(&name, &new);
                }
            }
        }
        RelabelAction::Lowercase => labels.set(target, &value.to_lowercase()),
        RelabelAction::Uppercase => labels.set(target, &value.to_uppercase()),
        RelabelAction::HashMod => {
            let digest = md5::compute(value.as_bytes()).0;
            let hash = digest[8..].iter().fold(0, |hash: u64, byte| hash << 8 | u64::from(*byte));
            labels.set(target, &hash.checked_rem(rule.modulus).unwrap_or(0).to_string());
        }
        RelabelAction::LabelMap => {
            let pairs: Vec<_> = labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            for (name, value) in pairs {
                if let Some(captures) = rule.regex.captures(&name) {
                    let mut new = String::new();
                    captures.expand(&rule.replacement, &mut new);
                    labels.set(&new, &value);
                }
            }
        }
        RelabelAction::LabelDrop => labels.retain(|name| !rule.regex.is_match(name)),
        RelabelAction::LabelKeep => labels.retain(|name| rule.regex.is_match(name)),
    }
    true
}
