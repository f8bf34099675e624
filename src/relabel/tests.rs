//! Each action, and all of them held against a word-for-word reference.

use super::*;
use crate::model::Labels;
use crate::pattern::Pattern;

fn rule(action: RelabelAction) -> RelabelRule {
    RelabelRule {
        source_labels: Vec::new(),
        separator: ";".to_owned(),
        regex: Pattern::anchored("(.*)").unwrap(),
        modulus: 0,
        target_label: String::new(),
        replacement: "$1".to_owned(),
        action,
    }
}

fn run(labels: &[(&str, &str)], rules: &[RelabelRule]) -> Option<Vec<(String, String)>> {
    let mut builder = LabelsBuilder::from_labels(&Labels::from_pairs(labels.iter().copied()));
    relabel(&mut builder, rules).then(|| builder.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
}

fn replace(source: &[&str], regex: &str, target: &str, replacement: &str) -> RelabelRule {
    RelabelRule {
        source_labels: source.iter().map(|name| (*name).to_owned()).collect(),
        regex: Pattern::anchored(regex).unwrap(),
        target_label: target.to_owned(),
        replacement: replacement.to_owned(),
        ..rule(RelabelAction::Replace)
    }
}

fn acting(action: RelabelAction, like: RelabelRule) -> RelabelRule {
    RelabelRule { action, ..like }
}

#[test]
fn each_action_does_what_prometheus_does() {
    use RelabelAction::*;
    type Set<'a> = &'a [(&'a str, &'a str)];
    let labels: Set = &[("a", "foo"), ("b", "bar"), ("c", "baz")];
    let cases: Vec<(RelabelRule, Option<Set>)> = vec![
        (
            replace(&["a"], "f(.*)", "d", "ch${1}-ch${1}"),
            Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "choo-choo")]),
        ),
        (replace(&["a", "b"], "f(.*);(.*)r", "a", "b${1}${2}m"), Some(&[("a", "boobam"), ("b", "bar"), ("c", "baz")])),
        (replace(&["a"], "x.*", "a", "no"), Some(labels)),
        (replace(&["a"], "f", "a", "anchored"), Some(labels)),
        (
            replace(&["missing"], "", "d", "was empty"),
            Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "was empty")]),
        ),
        (replace(&["a"], "(o)?.*", "b", "$1"), Some(&[("a", "foo"), ("c", "baz")])),
        (replace(&["a"], "(.*)", "${2}", "nameless"), Some(labels)),
        (
            replace(&["a"], "(f)(.*)", "${1}${2}_x", "$0"),
            Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("foo_x", "foo")]),
        ),
        (replace(&["a"], "(.*)", "$1-é", "new"), Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("foo-é", "new")])),
        (replace(&["a"], "(?P<w>.)(.*)", "b", "$w$$1$wx"), Some(&[("a", "foo"), ("b", "f$1"), ("c", "baz")])),
        (acting(Keep, replace(&["a"], "foo|x", "", "")), Some(labels)),
        (acting(Keep, replace(&["a"], "fo", "", "")), None),
        (acting(Drop, replace(&["a", "c"], "foo;b.z", "", "")), None),
        (acting(Drop, replace(&["a"], "oo", "", "")), Some(labels)),
        (acting(KeepEqual, replace(&["a"], "(.*)", "b", "$1")), None),
        (acting(KeepEqual, replace(&["missing"], "(.*)", "gone", "$1")), Some(labels)),
        (acting(DropEqual, replace(&["a"], "(.*)", "a", "$1")), None),
        (acting(DropEqual, replace(&["a"], "(.*)", "b", "$1")), Some(labels)),
        (
            RelabelRule { modulus: 1000, ..acting(HashMod, replace(&["c"], "(.*)", "d", "$1")) },
            Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "976")]),
        ),
        (
            acting(LabelMap, replace(&[], "(b|c)", "", "x_$1")),
            Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("x_b", "bar"), ("x_c", "baz")]),
        ),
        (acting(LabelMap, replace(&[], "a|b|c", "", "a")), Some(&[("a", "baz"), ("b", "bar"), ("c", "baz")])),
        (acting(LabelDrop, replace(&[], "a|c", "", "$1")), Some(&[("b", "bar")])),
        (acting(LabelKeep, replace(&[], "a|c", "", "$1")), Some(&[("a", "foo"), ("c", "baz")])),
        (
            acting(Uppercase, replace(&["a", "b"], "(.*)", "a", "$1")),
            Some(&[("a", "FOO;BAR"), ("b", "bar"), ("c", "baz")]),
        ),
        (acting(Lowercase, replace(&["missing"], "(.*)", "a", "$1")), Some(&[("b", "bar"), ("c", "baz")])),
    ];
    for (rule, want) in cases {
        let want = want.map(|set| set.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>());
        assert_eq!(run(labels, std::slice::from_ref(&rule)), want, "{rule:?}");
    }
}

#[test]
fn of_two_labels_mapped_to_one_name_the_one_set_later_wins() {
    let rules =
        [replace(&[], "", "a_new", "late"), acting(RelabelAction::LabelMap, replace(&[], ".*_new|z", "", "one"))];
    let set = run(&[("z", "early")], &rules).unwrap();
    assert_eq!(set.iter().find(|(name, _)| name == "one").map(|(_, value)| value.as_str()), Some("late"));
}

#[test]
fn rules_run_in_order_and_stop_at_a_drop() {
    let rules = [
        replace(&["a"], "(.*)", "__tmp", "$1"),
        replace(&["__tmp"], "1", "b", "one"),
        acting(RelabelAction::LabelDrop, replace(&[], "__tmp", "", "$1")),
    ];
    assert_eq!(
        run(&[("a", "1")], &rules).unwrap(),
        [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "one".to_owned())]
    );
    let dropping = [acting(RelabelAction::Drop, replace(&["a"], "1", "", "")), replace(&[], "", "b", "never")];
    assert_eq!(run(&[("a", "1")], &dropping), None);
}

/// Prometheus' algorithm word for word: a base, additions in order, the engine for every pattern.
struct Plain {
    base: Vec<(String, String)>,
    added: Vec<(String, String)>,
}

impl Plain {
    fn all(&self) -> Vec<(String, String)> {
        self.base
            .iter()
            .filter(|(name, _)| self.added.iter().all(|(n, _)| n != name))
            .chain(&self.added)
            .cloned()
            .collect()
    }

    fn get(&self, name: &str) -> String {
        self.all().into_iter().find(|(n, _)| n == name).map(|(_, value)| value).unwrap_or_default()
    }

    fn set(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            self.base.retain(|(n, _)| n != name);
            self.added.retain(|(n, _)| n != name);
        } else if let Some((_, old)) = self.added.iter_mut().find(|(n, _)| n == name) {
            *old = value.to_owned();
        } else {
            self.added.push((name.to_owned(), value.to_owned()));
        }
    }

    fn apply(&mut self, rule: &RelabelRule) -> bool {
        let regex = rule.regex.without_fast_form();
        let value = rule.source_labels.iter().map(|name| self.get(name)).collect::<Vec<_>>().join(&rule.separator);
        let expand = |text: &str, template: &str| {
            let mut out = String::new();
            regex.captures(text).map(|captures| captures.expand(template, &mut out)).map(|()| out)
        };
        match rule.action {
            RelabelAction::Keep => return regex.is_match(&value),
            RelabelAction::Drop => return !regex.is_match(&value),
            RelabelAction::KeepEqual => return self.get(&rule.target_label) == value,
            RelabelAction::DropEqual => return self.get(&rule.target_label) != value,
            RelabelAction::Replace => {
                if let (Some(name), Some(new)) = (expand(&value, &rule.target_label), expand(&value, &rule.replacement))
                    && !name.is_empty()
                {
                    self.set(&name, &new);
                }
            }
            RelabelAction::LabelMap => {
                for (name, value) in self.all() {
                    if let Some(new) = expand(&name, &rule.replacement) {
                        self.set(&new, &value);
                    }
                }
            }
            RelabelAction::LabelDrop | RelabelAction::LabelKeep => {
                for (name, _) in self.all() {
                    if regex.is_match(&name) == (rule.action == RelabelAction::LabelDrop) {
                        self.set(&name, "");
                    }
                }
            }
            RelabelAction::Lowercase => self.set(&rule.target_label, &value.to_lowercase()),
            RelabelAction::Uppercase => self.set(&rule.target_label, &value.to_uppercase()),
            RelabelAction::HashMod => {
                let hash = u128::from_be_bytes(md5::compute(&value).0) % (1 << 64);
                self.set(&rule.target_label, &(hash as u64 % rule.modulus).to_string());
            }
        }
        true
    }
}

#[test]
fn the_fast_way_and_the_plain_way_agree() {
    let mut random = 7_u64;
    let mut below = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % limit as u64) as usize
    };
    let names = ["a", "b", "ab", "job", "__tmp", "x_a"];
    let values = ["", "a", "b", "ab", "ba;a", "a\nb", "é", "42"];
    let patterns = [
        "(.*)",
        "",
        "a",
        "a|b",
        "(a|ab|)(.*)",
        "(.+);(.*)",
        "x_(.*)",
        "(a)?b?",
        "[ab]+",
        "(?P<n>.)(.*)",
        "é|4.",
        ".*a.*",
        "(?i)B",
    ];
    let templates = ["$1", "a", "", "x_$1", "${n}$2", "$0", "b", "$$1"];
    let actions = {
        use RelabelAction::*;
        [
            Replace, Replace, Replace, LabelMap, LabelMap, Keep, Drop, KeepEqual, DropEqual, HashMod, LabelDrop,
            LabelKeep, Lowercase, Uppercase,
        ]
    };
    let mut kept = 0;
    let mut builder = LabelsBuilder::default();
    for _ in 0..8_000 {
        let labels = Labels::from_pairs(
            (0..below(5)).map(|_| (names[below(names.len())], values[below(values.len())])).collect::<Vec<_>>(),
        );
        let rules: Vec<_> = (0..1 + below(5))
            .map(|_| RelabelRule {
                source_labels: (0..below(3)).map(|_| names[below(names.len())].to_owned()).collect(),
                separator: [";", "", "--"][below(3)].to_owned(),
                regex: Pattern::anchored(patterns[below(patterns.len())]).unwrap(),
                modulus: 1 + below(10) as u64,
                target_label: if below(3) == 0 { templates[below(templates.len())] } else { names[below(names.len())] }
                    .to_owned(),
                replacement: templates[below(templates.len())].to_owned(),
                action: actions[below(actions.len())],
            })
            .collect();
        let mut plain =
            Plain { base: labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(), added: Vec::new() };
        let want = rules.iter().all(|rule| plain.apply(rule)).then(|| Labels::from_pairs(plain.all()));
        builder.reset(&labels);
        let got = relabel(&mut builder, &rules).then(|| builder.build());
        assert_eq!(got, want, "{labels:?} {rules:#?}");
        kept += usize::from(got.is_some());
    }
    assert!(kept > 1_500, "{kept}");
}
