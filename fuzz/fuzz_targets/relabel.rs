//! A pattern, a template and labels, with NUL between them: the pattern is refused or means the same to the fast form as to the
//! engine, and no rule made of them does harm.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promwatch::model::settings::{RelabelAction, RelabelRule};
use promwatch::model::{Labels, LabelsBuilder};
use promwatch::pattern::Pattern;
use promwatch::relabel::relabel;

const ACTIONS: [RelabelAction; 11] = [
    RelabelAction::Replace,
    RelabelAction::Keep,
    RelabelAction::Drop,
    RelabelAction::KeepEqual,
    RelabelAction::DropEqual,
    RelabelAction::HashMod,
    RelabelAction::LabelMap,
    RelabelAction::LabelDrop,
    RelabelAction::LabelKeep,
    RelabelAction::Lowercase,
    RelabelAction::Uppercase,
];

fuzz_target!(|data: &str| {
    let mut lines = data.split('\0');
    let (source, template) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let labels = Labels::from_pairs(lines.map(|line| line.split_once('=').unwrap_or((line, "x"))));
    let _ = Pattern::search(source).map(|pattern| agree(&pattern, template, &labels));
    let Ok(pattern) = Pattern::anchored(source) else { return };
    agree(&pattern, template, &labels);

    for action in ACTIONS {
        let rule = RelabelRule {
            source_labels: labels.iter().map(|(name, _)| name.to_owned()).take(2).collect(),
            separator: ";".to_owned(),
            regex: pattern.clone(),
            modulus: 8,
            target_label: template.to_owned(),
            replacement: template.to_owned(),
            action,
        };
        let run = |regex: Pattern| {
            let mut builder = LabelsBuilder::from_labels(&labels);
            let keep = relabel(&mut builder, &[RelabelRule { regex, ..rule.clone() }]);
            (keep, builder.build())
        };
        let (keep, built) = run(pattern.clone());
        assert_eq!((keep, &built), (run(pattern.without_fast_form()).0, &run(pattern.without_fast_form()).1));
        assert!(built.iter().all(|(_, value)| !value.is_empty()));
        assert!(built.iter().map(|(name, _)| name).is_sorted_by(|a, b| a < b));
    }
});

fn agree(pattern: &Pattern, template: &str, labels: &Labels) {
    let plain = pattern.without_fast_form();
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        assert_eq!(pattern.is_match(text), plain.is_match(text));
        let replaced = |pattern: &Pattern| {
            let (mut all, mut one) = (String::new(), String::new());
            let found = pattern.replace_all(text, template, &mut all);
            let captures = pattern.captures(text).map(|captures| captures.expand(template, &mut one));
            (found, all, captures.is_some(), one)
        };
        assert_eq!(replaced(pattern), replaced(&plain));
    }
}
