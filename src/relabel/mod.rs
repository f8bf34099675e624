//! Relabelling: rules that rewrite, keep or drop label sets, for targets and for samples alike.
//!
//! Every action does what Prometheus 3.0.1 does (`model/relabel/relabel.go`). Rules are taken as good: `config` has checked
//! them. A rule that does not match allocates nothing, and one whose pattern is made of literals costs no regular expression.
//!
//! Limits: the rules' own; a set grows by what the rules put into it, and nothing is kept between calls but the buffers of the
//! builder.

mod case;
#[cfg(test)]
mod tests;

use crate::model::LabelsBuilder;
use crate::model::settings::{RelabelAction, RelabelRule};

/// Applies the rules in order. False: the target or sample is dropped, and the labels are in no particular state.
pub fn relabel(labels: &mut LabelsBuilder, rules: &[RelabelRule]) -> bool {
    let mut buffers = std::mem::take(&mut labels.spare);
    let keep = rules.iter().all(|rule| apply(labels, rule, &mut buffers));
    labels.spare = buffers;
    keep
}

fn apply(labels: &mut LabelsBuilder, rule: &RelabelRule, [joined, name, new]: &mut [String; 3]) -> bool {
    let target = rule.target_label.as_str();
    match rule.action {
        RelabelAction::Keep => rule.regex.is_match(source(labels, rule, joined)),
        RelabelAction::Drop => !rule.regex.is_match(source(labels, rule, joined)),
        RelabelAction::KeepEqual => labels.get(target).unwrap_or("") == source(labels, rule, joined),
        RelabelAction::DropEqual => labels.get(target).unwrap_or("") != source(labels, rule, joined),
        RelabelAction::Replace => {
            let Some(captures) = rule.regex.captures(source(labels, rule, joined)) else { return true };
            let name = filled(name, target, |out| captures.expand(target, out));
            let new = filled(new, &rule.replacement, |out| captures.expand(&rule.replacement, out));
            // In Prometheus 3 every text but the empty one is a good name.
            if !name.is_empty() {
                labels.set(name, new);
            }
            true
        }
        RelabelAction::Lowercase | RelabelAction::Uppercase => {
            let upper = rule.action == RelabelAction::Uppercase;
            new.clear();
            new.extend(source(labels, rule, joined).chars().map(if upper { case::upper } else { case::lower }));
            labels.set(target, new);
            true
        }
        RelabelAction::HashMod => {
            let digest = md5::compute(source(labels, rule, joined)).0;
            let hash = digest[8..].iter().fold(0, |hash: u64, byte| hash << 8 | u64::from(*byte));
            labels.set(target, &hash.checked_rem(rule.modulus).unwrap_or(0).to_string());
            true
        }
        RelabelAction::LabelMap => {
            labels.copy_renamed(name, &mut |old, new| rule.regex.replace_all(old, &rule.replacement, new));
            true
        }
        RelabelAction::LabelDrop => {
            labels.retain(|name| !rule.regex.is_match(name));
            true
        }
        RelabelAction::LabelKeep => {
            labels.retain(|name| rule.regex.is_match(name));
            true
        }
    }
}

/// The values of the source labels, joined.
fn source<'l>(labels: &'l LabelsBuilder, rule: &RelabelRule, joined: &'l mut String) -> &'l str {
    if let [only] = rule.source_labels.as_slice() {
        return labels.get(only).unwrap_or("");
    }
    joined.clear();
    for (at, name) in rule.source_labels.iter().enumerate() {
        if at > 0 {
            joined.push_str(&rule.separator);
        }
        joined.push_str(labels.get(name).unwrap_or(""));
    }
    joined
}

/// A template filled in; most hold no reference and are used as they are.
fn filled<'b>(buffer: &'b mut String, template: &'b str, fill: impl FnOnce(&mut String)) -> &'b str {
    if !template.contains('$') {
        return template;
    }
    buffer.clear();
    fill(buffer);
    buffer
}
