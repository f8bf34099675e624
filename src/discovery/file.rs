//! `file_sd_configs`: target groups in JSON and YAML files (`discovery/file/file.go` of Prometheus).

use super::{Answer, MAX_LIST_BYTES, groups};
use crate::env::{Env, Stamp, glob};
use crate::model::settings::TargetGroup;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

/// How often stamps are compared. Prometheus hears of changes at once, from inotify.
const LOOK_MS: u64 = 5_000;

pub(super) struct Files {
    patterns: Vec<String>,
    pub(super) refresh_ms: u64,
    /// The stamp and the error of each file, as of the last reading.
    known: BTreeMap<String, (Stamp, Option<String>)>,
    /// When all files are read again whatever their stamps say: two versions may share a coarse one.
    reread_ms: u64,
}

impl Files {
    pub(super) fn new(patterns: Vec<String>, refresh_ms: u64) -> Self {
        Self { patterns, refresh_ms, known: BTreeMap::new(), reread_ms: 0 }
    }

    /// Whether the other reads the same files.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }

    /// Reads the files whose stamp changed, and all of them each `refresh_interval`. A file that cannot be read or is no good keeps
    /// the groups that it had; one that is gone loses them.
    pub(super) fn refresh(&mut self, old: &BTreeMap<String, Vec<TargetGroup>>, env: Env<'_>) -> Answer {
        let now_ms = env.clock.monotonic_ms();
        let reread = now_ms >= self.reread_ms;
        if reread {
            self.reread_ms = now_ms.saturating_add(self.refresh_ms);
        }
        let mut errors = Vec::new();
        let mut groups = BTreeMap::new();
        let mut known = BTreeMap::new();
        for path in self.paths(env, &mut errors) {
            let before = self.known.remove(&path);
            let stamp = match env.disk.stat(Path::new(&path)) {
                Ok(stamp) => stamp,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    keep(&path, old, &mut groups);
                    errors.push((path.clone(), error.to_string()));
                    // Whatever the stamp is next time, the file is read then.
                    known.insert(path, (Stamp::default(), None));
                    continue;
                }
            };
            let error = match before {
                Some((same, error)) if same == stamp && !reread => {
                    keep(&path, old, &mut groups);
                    error
                }
                _ => match read(&path, env) {
                    Ok(new) => {
                        groups.insert(path.clone(), new);
                        None
                    }
                    Err(error) => {
                        keep(&path, old, &mut groups);
                        Some(error)
                    }
                },
            };
            errors.extend(error.clone().map(|error| (path.clone(), error)));
            known.insert(path, (stamp, error));
        }
        self.known = known;
        Answer { groups: Some(groups), errors, next_due_ms: now_ms.saturating_add(self.refresh_ms.clamp(1, LOOK_MS)) }
    }

    /// The files that there are, and those that there were: whether these are gone or only out of reach is still to be seen.
    fn paths(&self, env: Env<'_>, errors: &mut Vec<(String, String)>) -> Vec<String> {
        let mut paths: Vec<String> = self.known.keys().cloned().collect();
        for pattern in &self.patterns {
            match glob(env.disk, pattern) {
                Ok(found) => {
                    paths.extend(found.into_iter().filter_map(|path| path.into_os_string().into_string().ok()))
                }
                Err(error) => errors.push((pattern.clone(), error)),
            }
        }
        paths.sort_unstable();
        paths.dedup();
        paths
    }
}

fn keep(path: &str, old: &BTreeMap<String, Vec<TargetGroup>>, groups: &mut BTreeMap<String, Vec<TargetGroup>>) {
    if let Some(kept) = old.get(path) {
        groups.insert(path.to_owned(), kept.clone());
    }
}

fn read(path: &str, env: Env<'_>) -> Result<Vec<TargetGroup>, String> {
    let bytes = env.disk.read(Path::new(path), MAX_LIST_BYTES as u64).map_err(|error| error.to_string())?;
    let is_json = Path::new(path).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let mut groups = if is_json { groups::from_json(&bytes) } else { groups::from_yaml(&bytes) }?;
    for (at, group) in groups.iter_mut().enumerate() {
        group.source = format!("{path}:{at}");
        group.labels.insert("__meta_filepath".to_owned(), path.to_owned());
    }
    Ok(groups)
}
