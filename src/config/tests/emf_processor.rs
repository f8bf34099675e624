//! `emf_processor`, by the rules of the agent's translator and exporter.

use super::*;

fn emf(processor: &str) -> Loaded {
    load_json(&prometheus_json(&format!(r#""emf_processor": {processor}"#)), &[("X", "bits")])
}

/// One declaration that is fine but for what is given.
fn declaration(members: &str) -> String {
    format!(r#"{{"source_labels": ["job"], "metric_selectors": ["."], "dimensions": [["job"]]{members}}}"#)
}

fn kept(loaded: Loaded) -> Vec<crate::model::settings::Declaration> {
    match loaded.settings.expect("no error").convert.emf {
        EmfSettings::Declared { declarations, .. } => declarations,
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_declarations_nothing_is_extracted() {
    for processor in ["{}", r#"{"metric_namespace": "N"}"#, r#"{"metric_declaration": []}"#] {
        let loaded = emf(processor);
        expect(&loaded, Severity::Warning, &["no usable declaration"]);
        assert!(matches!(loaded.settings.unwrap().convert.emf, EmfSettings::Off));
    }
}

#[test]
fn declarations_that_the_translator_skips_do_not_count_as_invalid() {
    let loaded = emf(r#"{"metric_declaration": [{"source_labels": ["job"]}, {"metric_selectors": ["."]}]}"#);
    let skipped = "skipped, as in the CloudWatch agent: it needs source_labels and metric_selectors";
    expect(
        &loaded,
        Severity::Warning,
        &[&format!("declaration/0: {skipped}"), &format!("declaration/1: {skipped}"), "no usable"],
    );
    assert!(matches!(loaded.settings.unwrap().convert.emf, EmfSettings::Off));
}

#[test]
fn declarations_that_the_exporter_drops_turn_all_labels_into_dimensions_when_none_is_left() {
    for (declaration, trouble) in [
        (
            r#"{"source_labels": ["job"], "metric_selectors": ["."], "dimensions": [["job"]], "label_matcher": ""}"#,
            "label_matcher is empty",
        ),
        (
            r#"{"source_labels": ["job"], "metric_selectors": ["."], "dimensions": [["job"]], "label_matcher": "("}"#,
            "is no regular expression",
        ),
        (
            r#"{"source_labels": ["job"], "metric_selectors": ["."], "dimensions": [["job"]], "label_matcher": "$Y"}"#,
            "label_matcher is empty",
        ),
        (r#"{"source_labels": [], "metric_selectors": ["."], "dimensions": [["job"]]}"#, "source_labels is empty"),
        (r#"{"source_labels": ["job"], "metric_selectors": [], "dimensions": [["job"]]}"#, "metric_selectors is empty"),
    ] {
        let loaded = emf(&format!(r#"{{"metric_namespace": "N", "metric_declaration": [{declaration}]}}"#));
        expect(&loaded, Severity::Warning, &[trouble, "every declaration is invalid"]);
        let EmfSettings::AllLabels { namespace, .. } = loaded.settings.unwrap().convert.emf else { panic!() };
        assert_eq!(namespace, "N");
    }
    let good = declaration("");
    let loaded = emf(&format!(r#"{{"metric_declaration": [{}, {good}]}}"#, declaration(r#","label_matcher": """#)));
    expect(&loaded, Severity::Warning, &["metric_declaration/0: dropped"]);
    assert_eq!(kept(loaded).len(), 1);
}

#[test]
fn a_bad_selector_stops_the_start_as_the_agent_panics() {
    let loaded = emf(
        r#"{"metric_declaration": [{"source_labels": ["job"], "metric_selectors": [".", "("], "dimensions": [["job"]]}]}"#,
    );
    expect(&loaded, Severity::Error, &["metric_declaration/0/metric_selectors/1: \"(\" is no regular expression"]);
}

#[test]
fn dimension_sets_are_sorted_and_unique_and_at_most_ten_long() {
    let ten = r#"["j","i","h","g","f","e","d","c","b","a"]"#;
    // Eleven names are too many even if one is there twice.
    let eleven = r#"["a","a","b","c","d","e","f","g","h","i","j"]"#;
    let sets = format!(r#"[["job","host","job"], ["host","job"], [], {ten}, {eleven}]"#);
    let processor = format!(r#"{{"metric_declaration": [{}]}}"#, declaration("").replace(r#"[["job"]]"#, &sets));
    let loaded = emf(&processor);
    expect(&loaded, Severity::Warning, &["dimensions/1: dropped: the same set", "dimensions/4: dropped: more than 10"]);
    let sets = &kept(loaded)[0].dimensions;
    assert_eq!(sets[0], ["host", "job"]);
    assert_eq!(sets[1], [""; 0]);
    assert_eq!((sets[2].len(), sets[2][0].as_str(), sets.len()), (10, "a", 3));
}

#[test]
fn units_that_cloudwatch_does_not_know_are_left_out() {
    let units = r#"{"a": "Count", "b": "count", "c": "Furlongs", "d": "Bytes/Second", "$X": "None"}"#;
    let loaded = emf(&format!(r#"{{"metric_unit": {units}, "metric_declaration": [{}]}}"#, declaration("")));
    expect(
        &loaded,
        Severity::Warning,
        &[
            r#"metric_unit/b: "count" is no unit of CloudWatch: left out, as in the CloudWatch agent (did you mean "Count"?)"#,
            "metric_unit/c",
        ],
    );
    let EmfSettings::Declared { units, namespace, .. } = loaded.settings.unwrap().convert.emf else { panic!() };
    assert_eq!(units.keys().collect::<Vec<_>>(), ["a", "bits", "d"]);
    assert_eq!(namespace, "CWAgent/Prometheus");
}

#[test]
fn dollars_are_expanded_in_every_text() {
    let processor = r#"{"metric_namespace": "N$A${B}", "metric_declaration": [{"source_labels": ["$X"],
        "label_matcher": "^foo$$", "metric_selectors": ["^s_${Y}plain"], "dimensions": [["d$X"]]}]}"#;
    let loaded = emf(processor);
    let EmfSettings::Declared { namespace, declarations, .. } = loaded.settings.unwrap().convert.emf else { panic!() };
    let declaration = &declarations[0];
    assert_eq!(namespace, "N");
    assert_eq!(declaration.source_labels, ["bits"]);
    assert_eq!(declaration.label_matcher.as_str(), "^foo$");
    assert_eq!(declaration.metric_selectors[0].as_str(), "^s_plain");
    assert_eq!(declaration.dimensions, [["dbits"]]);
}

#[test]
fn the_namespace_has_a_default_by_place() {
    let json = prometheus_json(&format!(r#""emf_processor": {{"metric_declaration": [{}]}}"#, declaration("")));
    let namespace = |json: &str, vars: &[(&str, &str)]| match settings(json, vars).convert.emf {
        EmfSettings::Declared { namespace, .. } => namespace,
        other => panic!("{other:?}"),
    };
    let container = ("RUN_IN_CONTAINER", "True");
    assert_eq!(namespace(&json, &[]), "CWAgent/Prometheus");
    assert_eq!(
        namespace(&json, &[container, ("ECS_CONTAINER_METADATA_URI_V4", "x")]),
        "ECS/ContainerInsights/Prometheus"
    );
    assert_eq!(namespace(&json, &[container]), "ContainerInsights/Prometheus");
    let empty = json.replace(r#"{"metric_declaration"#, r#"{"metric_namespace": "", "metric_declaration"#);
    assert_eq!(namespace(&empty, &[]), "default");
}

#[test]
fn disable_metric_extraction_turns_it_off_but_the_section_is_still_checked() {
    let off = r#""disable_metric_extraction": true, "emf_processor""#;
    let json = prometheus_json(&format!(r#"{off}: {{"metric_declaration": [{}]}}"#, declaration("")));
    assert!(matches!(settings(&json, &[]).convert.emf, EmfSettings::Off));
    let bad = json.replace(r#"["."]"#, r#"["("]"#);
    expect(&load_json(&bad, &[]), Severity::Error, &["no regular expression"]);
}
