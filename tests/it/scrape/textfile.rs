//! A folder of `*.prom` files.

use super::*;
use std::path::{Path, PathBuf};

fn folder(files: &[(&str, &str)]) -> Scraped {
    let clock = FakeClock::default();
    let mut bench = Bench::new(&clock, |_| Answer::page(""));
    for (name, content) in files {
        bench.disk.put(&Path::new("/textfiles").join(name), content.as_bytes());
    }
    bench.scrape(&Target { endpoint: Endpoint::Textfile(PathBuf::from("/textfiles")), ..target(job()) })
}

fn without_times(scraped: &Scraped) -> Vec<String> {
    let cut = |line: String| match line.starts_with("node_textfile_mtime_seconds") {
        true => line[..line.rfind(' ').unwrap_or(0)].to_owned(),
        false => line,
    };
    samples(scraped).into_iter().map(cut).collect()
}

#[test]
fn files_are_read_by_name_and_their_age_is_told() {
    let scraped =
        folder(&[("b.prom", "b 2"), ("a.prom", "# TYPE a counter\na 1\n"), ("c.prom.tmp", "half wri"), ("d.txt", "?")]);
    assert_eq!(
        without_times(&scraped),
        [
            "a{} 1",
            "b{} 2",
            "node_textfile_mtime_seconds{file=/textfiles/a.prom}",
            "node_textfile_mtime_seconds{file=/textfiles/b.prom}",
            "node_textfile_scrape_error{} 0",
        ]
    );
    assert!(scraped.problems.is_empty());
}

#[test]
fn a_bad_file_is_left_out_and_named() {
    let scraped = folder(&[
        ("a.prom", "a 1\n# TYPE b counter\na{"),
        ("b.prom", "b 2\n"),
        ("c.prom", "c 3 1500\n"),
        ("d.prom", "d 1\n\0"),
    ]);
    assert_eq!(
        without_times(&scraped),
        ["b{} 2", "node_textfile_mtime_seconds{file=/textfiles/b.prom}", "node_textfile_scrape_error{} 1",]
    );
    assert_eq!(scraped.problems.len(), 3);
    assert!(scraped.problems[0].starts_with("/textfiles/a.prom: line 3, column "), "{:?}", scraped.problems);
    let Ok(page) = &scraped.outcome else { panic!("{scraped:?}") };
    assert!(!page.types.contains_key("b"), "a bad file's types do not count");
}

#[test]
fn a_missing_folder_is_an_error_that_is_told() {
    let scraped = folder(&[]);
    assert_eq!(samples(&scraped), ["node_textfile_scrape_error{} 1"]);
    assert!(scraped.problems[0].starts_with("/textfiles: "), "{:?}", scraped.problems);
}

#[test]
fn a_file_that_is_too_long_is_left_out() {
    let long = "x 1\n".repeat(2 << 20);
    let scraped = folder(&[("a.prom", &long), ("b.prom", "b 1\n")]);
    assert!(samples(&scraped).contains(&"b{} 1".to_owned()));
    assert_eq!(scraped.problems.len(), 1);
}
