//! Labels of page and target, relabelling, names, limits.

use super::*;
use promwatch::model::MetricType;
use promwatch::model::settings::{RelabelAction, RelabelRule};
use promwatch::pattern::Pattern;
use promwatch::scrape::report_samples;

fn rule(action: RelabelAction, sources: &[&str], regex: &str, target_label: &str, replacement: &str) -> RelabelRule {
    RelabelRule {
        source_labels: sources.iter().map(|s| (*s).to_owned()).collect(),
        separator: ";".to_owned(),
        regex: Pattern::anchored(regex).expect("a good pattern"),
        modulus: 0,
        target_label: target_label.to_owned(),
        replacement: replacement.to_owned(),
        action,
    }
}

#[test]
fn the_target_pushes_labels_of_the_page_aside() {
    let page = "x{job=\"own\",a=\"b\"} 1\n\
                x{job=\"own\",exported_job=\"older\",exported_exported_job=\"oldest\"} 2\n\
                x{job=\"\"} 3\n";
    let scraped = scrape_page(job(), page);
    assert_eq!(
        samples(&scraped),
        [
            "x{a=b,exported_job=own} 1",
            "x{exported_exported_exported_job=own,exported_exported_job=oldest,exported_job=older} 2",
            "x{} 3",
        ]
    );
}

#[test]
fn with_honor_labels_the_page_wins_and_an_empty_label_hides_the_targets() {
    let honoring = ScrapeJob { honor_labels: true, ..job() };
    let scraped = scrape_page(honoring, "x{job=\"own\"} 1\nx{job=\"\"} 2\nx{instance=\"here\",a=\"\"} 3\n");
    let Ok(page) = &scraped.outcome else { panic!("{scraped:?}") };
    let labels: Vec<_> = page.samples.iter().map(|sample| format!("{:?}", sample.labels)).collect();
    assert_eq!(
        labels,
        [
            r#"{"__name__": "x", "instance": "pi:9100", "job": "own"}"#,
            r#"{"__name__": "x", "instance": "pi:9100"}"#,
            r#"{"__name__": "x", "instance": "here", "job": "node"}"#,
        ]
    );
}

#[test]
fn of_a_label_given_twice_the_last_wins_unless_one_is_empty() {
    let scraped = scrape_page(
        job(),
        "x{a=\"2\",b=\"1\",a=\"1\"} 1\nx{__name__=\"y\"} 2\nx{a=\"1\",a=\"\"} 3\nx{a=\"\",a=\"1\"} 4\n",
    );
    assert_eq!(samples(&scraped), ["x{a=1,b=1} 1", "y{} 2", "x{} 3", "x{} 4"]);
}

#[test]
fn series_given_twice_stay_both_and_in_order() {
    assert_eq!(samples(&scrape_page(job(), "x 2\ny 1\nx 1\n")), ["x{} 2", "y{} 1", "x{} 1"]);
}

#[test]
fn relabelling_renames_drops_and_remembers_the_name_on_the_page() {
    let mut relabelling = job();
    relabelling.metric_relabel = vec![
        rule(RelabelAction::Drop, &["__name__"], "noise_.*", "", "$1"),
        rule(RelabelAction::Replace, &["__name__"], "old_(.*)", "__name__", "new_$1"),
        rule(RelabelAction::Replace, &["instance"], "(.*):.*", "instance", "$1"),
    ];
    let scraped = scrape_page(relabelling, "# TYPE old_x counter\nold_x 1\nnoise_y 2\nz 3\n");
    assert_eq!(samples(&scraped), ["new_x{instance=pi} 1", "z{instance=pi} 3"]);
    assert_eq!((scraped.report.samples_scraped, scraped.report.samples_post_relabel), (3, 2));
    let Ok(page) = &scraped.outcome else { panic!("{scraped:?}") };
    let exposed: Vec<_> =
        page.samples.iter().map(|sample| (sample.exposed_name.is_some(), sample.exposed_name())).collect();
    assert_eq!(exposed, [(true, "old_x"), (false, "z")]);
    assert_eq!(page.types.get("old_x"), Some(&MetricType::Counter));
}

#[test]
fn a_sample_that_relabelling_leaves_without_a_name_fails_the_page() {
    let mut relabelling = job();
    relabelling.metric_relabel = vec![rule(RelabelAction::LabelDrop, &[], "__name__", "", "")];
    let scraped = scrape_page(relabelling.clone(), "x 1\n");
    assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Parse));
    assert_eq!(error_text(&scraped), "node pi:9100: line 1, column 1: a sample without a metric name");
    // Without any label it was dropped instead.
    relabelling.metric_relabel = vec![rule(RelabelAction::LabelDrop, &[], ".*", "", "")];
    assert!(samples(&scrape_page(relabelling, "x 1\n")).is_empty());
    assert_eq!(kind(&scrape_page(job(), "x{__name__=\"\"} 1\n")), Some(ScrapeErrorKind::Parse));
}

#[test]
fn legacy_names_refuse_what_utf8_names_allow() {
    let legacy = || ScrapeJob { legacy_names: true, ..job() };
    for page in ["{\"a.b\"} 1\n", "x{\"a.b\"=\"c\"} 1\n", " x 1\n"] {
        assert_eq!(samples(&scrape_page(job(), page)).len(), 1, "{page:?}");
        assert_eq!(kind(&scrape_page(legacy(), page)), Some(ScrapeErrorKind::Parse), "{page:?}");
    }
    assert_eq!(samples(&scrape_page(legacy(), "a:b{c=\"d\"} 1\n")), ["a:b{c=d} 1"]);
    assert_eq!(kind(&scrape_page(job(), "x{\"\"=\"c\"} 1\n")), Some(ScrapeErrorKind::Parse));
}

#[test]
fn sample_limit_counts_what_relabelling_leaves() {
    let limited = |samples| {
        let mut job = job();
        job.limits.samples = samples;
        job.metric_relabel = vec![rule(RelabelAction::Drop, &["__name__"], "noise", "", "$1")];
        job
    };
    let page = "a 1\nnoise 2\nb 3\nc 4\n";
    assert_eq!(samples(&scrape_page(limited(3), page)).len(), 3);
    let scraped = scrape_page(limited(2), page);
    assert_eq!(kind(&scraped), Some(ScrapeErrorKind::Limit));
    assert_eq!(error_text(&scraped), "node pi:9100: sample_limit exceeded (3 samples after relabelling, limit 2)");
    assert_eq!(
        (scraped.report.samples_scraped, scraped.report.samples_post_relabel),
        (4, 3),
        "the page is read to its end"
    );
}

#[test]
fn label_limits_count_the_targets_labels_and_the_name() {
    let limited = |change: &dyn Fn(&mut ScrapeLimits)| {
        let mut job = ScrapeJob { skip_bad_lines: true, ..job() };
        change(&mut job.limits);
        kind(&scrape_page(job, "x{abcdefghij=\"12345678\"} 1\n"))
    };
    assert_eq!(limited(&|limits| limits.labels = 4), None);
    assert_eq!(limited(&|limits| limits.labels = 3), Some(ScrapeErrorKind::Limit));
    assert_eq!(limited(&|limits| limits.label_name_bytes = 10), None);
    assert_eq!(limited(&|limits| limits.label_name_bytes = 9), Some(ScrapeErrorKind::Limit));
    assert_eq!(limited(&|limits| limits.label_value_bytes = 8), None);
    assert_eq!(limited(&|limits| limits.label_value_bytes = 7), Some(ScrapeErrorKind::Limit));
}

#[test]
fn body_size_limit_counts_decompressed_bytes_and_is_reached_at_its_value() {
    let page = "x 1\ny 2\n";
    for (limit, outcome) in [(9, None), (8, Some(ScrapeErrorKind::Limit))] {
        for compressed in [false, true] {
            let mut job = job();
            job.limits.body_bytes = limit;
            let scraped = scrape(job, || match compressed {
                false => Answer::page(page),
                true => Answer::page(gzip(page.as_bytes())).header("content-encoding", "gzip"),
            });
            assert_eq!(kind(&scraped), outcome, "limit {limit}, compressed {compressed}");
        }
    }
}

#[test]
fn time_stamps_are_kept_ignored_or_too_far_ahead() {
    let page = format!("a 1 1000\nb 2 {}\nc 3 {}\n", NOW_MS + 600_000, NOW_MS + 600_001);
    let scraped = scrape_page(job(), &page);
    assert_eq!(samples(&scraped), ["a{} 1 @1000".to_owned(), format!("b{{}} 2 @{}", NOW_MS + 600_000)]);
    assert_eq!(scraped.problems, ["1 samples lie more than 10 minutes ahead and were dropped"]);
    let dishonoring = ScrapeJob { honor_timestamps: false, ..job() };
    assert_eq!(samples(&scrape_page(dishonoring, &page)), ["a{} 1", "b{} 2", "c{} 3"]);
}

#[test]
fn families_have_the_last_type_and_unknown_without_one() {
    let scraped = scrape_page(job(), "# TYPE a gauge\n# TYPE a counter\n# HELP a x\n# HELP b y\na 1\n");
    let Ok(page) = &scraped.outcome else { panic!("{scraped:?}") };
    assert_eq!(page.types.get("a"), Some(&MetricType::Counter));
    assert_eq!(page.types.get("b"), Some(&MetricType::Unknown));
    assert_eq!(page.types.len(), 2);
}

#[test]
fn a_bad_line_fails_the_page_or_is_skipped_and_shown() {
    let page = "a 1\nb one\nc 3\nd{e=\"\"} x\n";
    let strict = scrape_page(job(), page);
    assert_eq!(error_text(&strict), "node pi:9100: line 2, column 3: not a number, found `one`");
    assert_eq!((strict.report.samples_scraped, strict.report.lines_skipped), (1, 0));
    let forgiving = scrape_page(ScrapeJob { skip_bad_lines: true, ..job() }, page);
    assert_eq!(samples(&forgiving), ["a{} 1", "c{} 3"]);
    assert_eq!(forgiving.report.lines_skipped, 2);
    assert_eq!(forgiving.problems[0], "line 2, column 3: not a number, found `one`");
}

#[test]
fn the_report_says_how_it_went() {
    let show_all = |scraped: &Scraped| report_samples(&target(job()), scraped).iter().map(show).collect::<Vec<_>>();
    assert_eq!(
        show_all(&scrape_page(job(), "a 1\nb 2\n")),
        [
            "up{} 1",
            "scrape_duration_seconds{} 0.25",
            "scrape_samples_scraped{} 2",
            "scrape_samples_post_metric_relabeling{} 2",
            "scrape_series_added{} 2",
        ]
    );
    assert_eq!(
        show_all(&scrape(job(), || Answer::page("a 1\n").status(500)))[..3],
        ["up{} 0", "scrape_duration_seconds{} 0.25", "scrape_samples_scraped{} 0",]
    );
    let labels = report_samples(&target(job()), &scrape_page(job(), ""))[0].labels.clone();
    assert_eq!(labels, Labels::from_pairs([("__name__", "up"), ("job", "node"), ("instance", "pi:9100")]));
}
