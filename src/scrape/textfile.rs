//! A folder of `*.prom` files, read as node_exporter's textfile collector reads it.

use super::body::MAX_BODY_BYTES;
use super::exposition::{Exposition, Format, Refusal, Series, Sink};
use crate::env::Env;
use crate::model::{MetricType, push_decimal};
use std::path::Path;

/// The longest file, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The most files.
const MAX_FILES: usize = 1000;

/// Reads all files in the order of their names and hands the good ones on, then the series about the folder itself.
/// A file that does not parse, is too long or gives time stamps is left out and named in `problems`: a half-written file
/// must not sink the others. (textfile.go of node_exporter 1.9.)
pub(super) fn read(dir: &Path, env: Env<'_>, problems: &mut Vec<String>, page: &mut dyn FnMut(&[u8])) {
    let mut about = String::new();
    let mut failed = false;
    let mut problem = |text: String| {
        failed = true;
        problems.push(text);
    };
    match env.disk.list(dir) {
        Err(error) => problem(format!("{}: {error}", dir.display())),
        Ok(entries) => {
            let mut total_bytes = 0;
            let files = entries.iter().filter(|entry| entry.name.ends_with(".prom") && !entry.stamp.is_dir);
            for (at, entry) in files.enumerate() {
                if at >= MAX_FILES {
                    problem(format!("{}: more than {MAX_FILES} files, the rest is left out", dir.display()));
                    break;
                }
                let path = dir.join(&entry.name);
                // The bytes that are checked are the bytes that are used: the file may be replaced at any moment.
                let bytes = match env.disk.read(&path, MAX_FILE_BYTES) {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        problem(format!("{}: {error}", path.display()));
                        continue;
                    }
                };
                total_bytes += bytes.len() as u64;
                if total_bytes > MAX_BODY_BYTES / 2 {
                    problem(format!(
                        "{}: over {} MiB in all, the rest is left out",
                        dir.display(),
                        MAX_BODY_BYTES >> 21
                    ));
                    break;
                }
                if let Err(text) = check(&bytes) {
                    problem(format!("{}: {text}", path.display()));
                    continue;
                }
                page(&bytes);
                page(b"\n");
                let mut label = path.display().to_string();
                label = label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let seconds = entry.stamp.modified_ms as f64 / 1000.0;
                let mut text = Vec::new();
                push_decimal(&mut text, seconds);
                let seconds = String::from_utf8_lossy(&text);
                about.push_str(&format!("node_textfile_mtime_seconds{{file=\"{label}\"}} {seconds}\n"));
            }
        }
    }
    if !about.is_empty() {
        page(b"# HELP node_textfile_mtime_seconds When the files that were read last changed, Unix time.\n");
        page(b"# TYPE node_textfile_mtime_seconds gauge\n");
        page(about.as_bytes());
    }
    page(b"# HELP node_textfile_scrape_error 1 if the folder or a file in it could not be used.\n");
    page(b"# TYPE node_textfile_scrape_error gauge\n");
    page(if failed { b"node_textfile_scrape_error 1\n" } else { b"node_textfile_scrape_error 0\n" });
}

fn check(bytes: &[u8]) -> Result<(), String> {
    // Between entries a NUL would end the whole page, not this file alone.
    if bytes.contains(&0) {
        return Err("a NUL byte".to_owned());
    }
    let mut exposition = Exposition::new(Format::Text, false);
    let read = exposition.push(bytes, &mut Check);
    read.and_then(|()| exposition.finish(&mut Check)).map(|_| ()).map_err(|bad| bad.to_string())
}

struct Check;

impl Sink for Check {
    fn sample(&mut self, series: &Series) -> Result<(), Refusal> {
        // As in node_exporter: the figures are those of the moment of the scrape, and a file's age has a series of its own.
        if series.timestamp_ms.is_some() {
            return Err(Refusal { whole_page: false, text: "time stamps are not allowed in textfiles".to_owned() });
        }
        Ok(())
    }

    fn family(&mut self, _name: &str, _kind: Option<MetricType>) -> Result<(), Refusal> {
        Ok(())
    }
}
