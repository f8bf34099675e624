//! Log groups and log streams: where an event goes.

use super::event::Attributes;
use crate::model::StreamKey;
use crate::model::settings::ConvertSettings;
use std::rc::Rc;

/// The longest name of a log group or a log stream (CreateLogGroup, CreateLogStream, API reference).
const MAX_NAME_CHARS: usize = 512;

/// How many keys are kept for use by further events; more are made anew.
const MAX_KEPT_KEYS: usize = 256;

/// The patterns that the agent's exporter replaces in a group's name, each with the labels that are asked for it
/// (`exporter/awsemfexporter/util.go`, `patternKeyToAttributeMap`).
const GROUP_PATTERNS: [(&str, [&str; 2]); 8] = [
    ("{ClusterName}", ["ClusterName", "aws.ecs.cluster.name"]),
    ("{TaskId}", ["TaskId", "aws.ecs.task.id"]),
    ("{NodeName}", ["NodeName", "k8s.node.name"]),
    ("{PodName}", ["PodName", "pod"]),
    ("{ServiceName}", ["ServiceName", "service.name"]),
    ("{ContainerInstanceId}", ["ContainerInstanceId", "aws.ecs.container.instance.id"]),
    ("{TaskDefinitionFamily}", ["TaskDefinitionFamily", "aws.ecs.task.family"]),
    ("{JobName}", ["JobName", "job"]),
];

/// The keys of late events, so that one name is held once.
#[derive(Default)]
pub(super) struct Keys {
    /// Sorted.
    kept: Vec<Rc<StreamKey>>,
    /// Keys that were compared to find others.
    #[cfg(test)]
    compared: usize,
}

impl Keys {
    /// The group and stream of an event with these labels.
    pub(super) fn of(&mut self, settings: &ConvertSettings, labels: &Attributes<'_>) -> Rc<StreamKey> {
        let key = StreamKey { group: group(&settings.log_group_name, labels), stream: stream(settings, labels) };
        let found = self.kept.binary_search_by(|kept| {
            #[cfg(test)]
            {
                self.compared += 1;
            }
            (**kept).cmp(&key)
        });
        match found {
            Ok(at) => Rc::clone(&self.kept[at]),
            Err(at) => {
                let key = Rc::new(key);
                if self.kept.len() < MAX_KEPT_KEYS {
                    self.kept.insert(at, Rc::clone(&key));
                }
                key
            }
        }
    }

    /// A scrape begins: where there is no room left, keys that no event holds any more make some.
    pub(super) fn begin(&mut self) {
        if self.kept.len() >= MAX_KEPT_KEYS {
            self.sweep();
        }
    }

    /// Forgets the keys that no event holds any more.
    pub(super) fn sweep(&mut self) {
        self.kept.retain(|key| Rc::strong_count(key) > 1);
    }
}

fn group(pattern: &str, labels: &Attributes<'_>) -> String {
    let mut name = pattern.to_owned();
    if name.contains('{') {
        for (placeholder, sources) in GROUP_PATTERNS {
            if name.contains(placeholder) {
                let value = sources.iter().find_map(|source| labels.get(source)).unwrap_or("undefined");
                name = name.replace(placeholder, value);
            }
        }
    }
    // A name that the service refuses would hold back this stream's events for ever.
    legal(name, |c| c.is_ascii_alphanumeric() || "_-/.#".contains(c))
}

fn stream(settings: &ConvertSettings, labels: &Attributes<'_>) -> String {
    let name = match &settings.log_stream_name {
        Some(template) => super::event::expand(&template.0, labels),
        None => labels.get("JobName").or_else(|| labels.get("job")).unwrap_or("undefined").to_owned(),
    };
    legal(name, |c| c != ':' && c != '*')
}

/// Replaces what the service does not allow by `_`, cuts what is too long; an empty name becomes `undefined`.
fn legal(mut name: String, allowed: impl Fn(char) -> bool) -> String {
    if !name.chars().all(&allowed) {
        name = name.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    }
    if let Some((end, _)) = name.char_indices().nth(MAX_NAME_CHARS) {
        name.truncate(end);
    }
    if name.is_empty() { "undefined".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::settings::Template;

    fn labels<'a>(pairs: &[(&'a str, &'a str)]) -> Attributes<'a> {
        let mut labels = Attributes::default();
        for (name, value) in pairs {
            labels.set(name, value);
        }
        labels
    }

    fn names(group: &str, stream: Option<&str>, pairs: &[(&str, &str)]) -> (String, String) {
        let settings = ConvertSettings {
            log_group_name: group.to_owned(),
            log_stream_name: stream.map(|text| Template(text.to_owned())),
            ..ConvertSettings::default()
        };
        let key = Keys::default().of(&settings, &labels(pairs));
        (key.group.clone(), key.stream.clone())
    }

    #[test]
    fn group_patterns_come_from_labels_and_missing_ones_are_undefined() {
        let pairs = [("job", "node"), ("pod", "p 1"), ("TaskId", "t")];
        assert_eq!(names("/e/{JobName}/{PodName}", None, &pairs).0, "/e/node/p_1");
        assert_eq!(names("{TaskId}-{ClusterName}", None, &pairs).0, "t-undefined");
        assert_eq!(names("/edge/prom", None, &pairs).0, "/edge/prom");
        assert_eq!(names("/{JobName}", None, &[("job", "a"), ("JobName", "b")]).0, "/b");
    }

    #[test]
    fn the_stream_is_the_job_or_the_template_and_always_legal() {
        assert_eq!(names("g", None, &[("job", "a:b*c")]).1, "a_b_c");
        assert_eq!(names("g", None, &[("job", "a"), ("JobName", "jn")]).1, "jn");
        assert_eq!(names("g", None, &[]).1, "undefined");
        let pairs = [("job", "node"), ("instance", "10.0.0.1:9100")];
        assert_eq!(names("g", Some("pi/{job}/{instance}/{x}"), &pairs).1, "pi/node/10.0.0.1_9100/{x}");
        assert_eq!(names("g", Some("{job}"), &[]).1, "undefined");
        assert_eq!(names("g", None, &[("job", &"é".repeat(600))]).1.chars().count(), 512);
    }

    #[test]
    fn equal_names_share_one_key() {
        let settings = ConvertSettings { log_group_name: "g".to_owned(), ..ConvertSettings::default() };
        let mut keys = Keys::default();
        let one = keys.of(&settings, &labels(&[("job", "a")]));
        assert!(Rc::ptr_eq(&one, &keys.of(&settings, &labels(&[("job", "a"), ("x", "y")]))));
        drop(one);
        keys.sweep();
        assert!(keys.kept.is_empty());
    }

    #[test]
    fn a_key_is_found_among_many_by_halving() {
        let settings = ConvertSettings { log_group_name: "g".to_owned(), ..ConvertSettings::default() };
        let mut keys = Keys::default();
        let jobs: Vec<String> = (0..2_000).map(|n| format!("{:04}", n * 7 % 2_000)).collect();
        let held: Vec<_> = jobs.iter().map(|job| keys.of(&settings, &labels(&[("job", job)]))).collect();
        assert_eq!(keys.kept.len(), MAX_KEPT_KEYS);
        assert!(keys.compared <= 9 * jobs.len(), "{}", keys.compared);
        for (job, key) in jobs.iter().zip(&held).take(MAX_KEPT_KEYS) {
            assert!(Rc::ptr_eq(key, &keys.of(&settings, &labels(&[("job", job)]))));
        }
        // Those that nobody holds make room for others once a scrape.
        drop(held);
        keys.begin();
        let new = keys.of(&settings, &labels(&[("job", "new")]));
        assert!(Rc::ptr_eq(&new, &keys.of(&settings, &labels(&[("job", "new")]))));
    }
}
