//! Holds patterns, relabelling and target building against the verdicts of Go's regexp and Prometheus' packages, which
//! `scripts/differential/relabel/run.sh` collects.

use promwatch::discovery::Discoverer;
use promwatch::model::settings::{
    Discovery, HttpClient, RelabelAction, RelabelRule, ScrapeJob, ScrapeLimits, ScrapeProtocol, TargetGroup,
};
use promwatch::model::{Endpoint, Labels, LabelsBuilder};
use promwatch::pattern::Pattern;
use promwatch::relabel::relabel;
use serde_json::Value;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Reasons for which a pattern that is good in Go is refused here.
const REFUSED: [&str; 5] = [
    "Unicode classes such as",
    "(?i) works on ASCII letters only",
    "the pattern is too large",
    "groups inside each other",
    "repetitions of each other",
];

#[test]
#[ignore = "needs the cases of scripts/differential/relabel/run.sh"]
#[allow(clippy::disallowed_methods)]
fn differential_relabel() {
    let path = std::env::var("PROMWATCH_RELABEL_CASES").expect("run it with scripts/differential/relabel/run.sh");
    let cases = std::fs::read_to_string(path).unwrap();
    let (mut counts, mut failures) = (BTreeMap::<String, usize>::new(), Vec::new());
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let kind = text(&case["kind"]);
        let verdict = match kind {
            "pattern" => pattern(&case),
            "relabel" => relabelling(&case),
            _ => target(&case),
        };
        match verdict {
            Ok(note) => *counts.entry(format!("{kind}: {note}")).or_default() += 1,
            Err(error) => failures.push(format!("{error}\n    {line}")),
        }
    }
    println!("{counts:#?}");
    println!("{} differences", failures.len());
    assert!(failures.is_empty(), "{}", failures[..failures.len().min(20)].join("\n"));
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}"))
}

fn pattern(case: &Value) -> Result<&'static str, String> {
    let source = text(&case["source"]);
    let compiled = if case["anchored"] == true { Pattern::anchored(source) } else { Pattern::search(source) };
    let good = case["ok"] == true;
    let pattern = match compiled {
        Ok(_) if !good => return Err(format!("good here, bad in Go: {source:?}: {}", case["error"])),
        Ok(pattern) => pattern,
        Err(_) if !good => return Ok("bad in both"),
        Err(error) if REFUSED.iter().any(|reason| error.contains(reason)) => return Ok("refused on purpose"),
        Err(error) => return Err(format!("bad here, good in Go: {source:?}: {error}")),
    };
    let template = text(&case["template"]);
    for one in case["texts"].as_array().into_iter().flatten() {
        let subject = text(&one["Text"]);
        let what = format!("{source:?} on {subject:?}, anchored {}", case["anchored"]);
        if pattern.is_match(subject) != (one["Match"] == true) {
            return Err(format!("match: {what}"));
        }
        let Some(groups) = one["Groups"].as_array() else { continue };
        let captures = pattern.captures(subject).ok_or_else(|| format!("captures: {what}"))?;
        for (index, want) in groups.iter().enumerate() {
            if captures.group(index) != want.as_str() {
                return Err(format!("group {index}: {what}: {:?}, want {want}", captures.group(index)));
            }
        }
        let mut got = String::new();
        captures.expand(template, &mut got);
        if got != text(&one["Expanded"]) {
            return Err(format!("expand {template:?}: {what}: {got:?}, want {}", one["Expanded"]));
        }
        got.clear();
        pattern.replace_all(subject, template, &mut got);
        if got != text(&one["Replaced"]) {
            return Err(format!("replace {template:?}: {what}: {got:?}, want {}", one["Replaced"]));
        }
    }
    Ok("the same")
}

fn rules(value: &Value) -> Result<Vec<RelabelRule>, String> {
    let action = |name: &str| match name {
        "replace" => RelabelAction::Replace,
        "keep" => RelabelAction::Keep,
        "drop" => RelabelAction::Drop,
        "keepequal" => RelabelAction::KeepEqual,
        "dropequal" => RelabelAction::DropEqual,
        "hashmod" => RelabelAction::HashMod,
        "labelmap" => RelabelAction::LabelMap,
        "labeldrop" => RelabelAction::LabelDrop,
        "labelkeep" => RelabelAction::LabelKeep,
        "lowercase" => RelabelAction::Lowercase,
        _ => RelabelAction::Uppercase,
    };
    let rule = |rule: &Value| {
        Ok(RelabelRule {
            source_labels: rule["source_labels"].as_array().into_iter().flatten().map(|n| text(n).to_owned()).collect(),
            separator: text(&rule["separator"]).to_owned(),
            regex: Pattern::anchored(text(&rule["regex"]))?,
            modulus: rule["modulus"].as_u64().unwrap_or(0),
            target_label: text(&rule["target_label"]).to_owned(),
            replacement: text(&rule["replacement"]).to_owned(),
            action: action(text(&rule["action"])),
        })
    };
    value.as_array().into_iter().flatten().map(rule).collect()
}

fn set(value: &Value) -> Labels {
    Labels::from_pairs(value.as_array().into_iter().flatten().map(|pair| (text(&pair[0]), text(&pair[1]))))
}

fn relabelling(case: &Value) -> Result<&'static str, String> {
    let rules = match rules(&case["rules"]) {
        Err(error) if REFUSED.iter().any(|reason| error.contains(reason)) => return Ok("refused on purpose"),
        rules => rules?,
    };
    let mut labels = LabelsBuilder::from_labels(&set(&case["labels"]));
    let keep = relabel(&mut labels, &rules);
    if keep != (case["keep"] == true) {
        return Err(format!("kept: {keep}"));
    }
    // An empty name is no label in Prometheus' sets either, but its builder keeps it.
    let (got, want) = (labels.build(), set(&case["out"]));
    if keep && got != want {
        return Err(format!("{got:?}, want {want:?}"));
    }
    Ok(if keep { "kept in both" } else { "dropped in both" })
}

fn target(case: &Value) -> Result<&'static str, String> {
    let rules = match rules(&case["rules"]) {
        Err(error) if REFUSED.iter().any(|reason| error.contains(reason)) => return Ok("refused on purpose"),
        rules => rules?,
    };
    let strings = |list: &Value| list.as_array().into_iter().flatten().map(|v| text(v).to_owned()).collect::<Vec<_>>();
    let params =
        case["params"].as_object().into_iter().flatten().map(|(name, list)| (name.clone(), strings(list))).collect();
    let labels =
        case["labels"].as_object().into_iter().flatten().map(|(n, v)| (n.clone(), text(v).to_owned())).collect();
    let group = TargetGroup { targets: vec![text(&case["address"]).to_owned()], labels, source: String::new() };
    let job = ScrapeJob {
        job_name: "j".to_owned(),
        interval_ms: case["interval_ms"].as_u64().unwrap_or(0),
        timeout_ms: case["timeout_ms"].as_u64().unwrap_or(0),
        scheme: text(&case["scheme"]).to_owned(),
        metrics_path: text(&case["path"]).to_owned(),
        params,
        honor_labels: false,
        honor_timestamps: true,
        protocols: Vec::new(),
        fallback_protocol: ScrapeProtocol::Text004,
        legacy_names: false,
        compression: true,
        skip_bad_lines: false,
        limits: ScrapeLimits::default(),
        http: HttpClient::default(),
        relabel: rules,
        metric_relabel: Vec::new(),
        discovery: vec![Discovery::Static(group)],
    };
    let discoverer = Discoverer::new(vec![Rc::new(job)]);
    let failed = !discoverer.errors().is_empty();
    if failed != (case["failed"] == true) {
        return Err(format!("failed: {:?}", discoverer.errors()));
    }
    match (discoverer.targets(), case.get("url")) {
        ([], None) => Ok(if failed { "no target in both" } else { "dropped in both" }),
        ([target], Some(want)) => {
            let Endpoint::Http { url, unix_socket: None } = &target.endpoint else { return Err("endpoint".to_owned()) };
            if url != text(want) || target.labels != set(&case["out"]) {
                return Err(format!("{url} {:?}", target.labels));
            }
            Ok("the same")
        }
        (targets, _) => Err(format!("{targets:?}")),
    }
}
