//! The AWS tools' profile files, `~/.aws/config` and `~/.aws/credentials`: text in, profiles out.
//!
//! The rules are those that the AWS SDKs share; their official cases are the tests. Refuses: finding and reading the
//! files (`config` says where they are), and what a profile's keys mean (`ship`). SSO sessions are left out. A profile
//! that is not well named, or in the wrong file's manner, is left out in silence, as in the SDKs.

use std::collections::BTreeMap;
use std::fmt;

/// Which of the two files a text is: they name their profiles differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `~/.aws/config`: `[default]` and `[profile NAME]`.
    Config,
    /// `~/.aws/credentials`: `[NAME]`.
    Credentials,
}

/// The profiles of one file, or of both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles {
    by_name: BTreeMap<String, Profile>,
}

impl Profiles {
    /// A profile.
    pub fn get(&self, name: &str) -> Option<&Profile> {
        self.by_name.get(name)
    }

    /// Names and profiles, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Profile)> {
        self.by_name.iter().map(|(name, profile)| (name.as_str(), profile))
    }
}

/// One profile's keys, in lower case, and values. Values may be secrets: `Debug` shows only keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Profile {
    values: BTreeMap<String, String>,
}

impl Profile {
    /// The value of a key (given in lower case); it may be empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// Why a file has no profiles at all. Holds nothing of the line itself, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub text: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

impl std::error::Error for ParseError {}

/// Reads one file.
///
/// # Errors
/// One bad line spoils the file, as in the SDKs.
pub fn parse(text: &str, kind: FileKind) -> Result<Profiles, ParseError> {
    let mut sections: Vec<Section> = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let error = |text| ParseError { line: index + 1, text };
        if line.trim().is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('[') {
            sections.push(Section { header: header(line).map_err(error)?, properties: Vec::new() });
            continue;
        }
        let section = sections.last_mut().ok_or_else(|| error("Expected a profile definition"))?;
        if line.starts_with([' ', '\t']) {
            section.go_on(line.trim()).map_err(error)?;
        } else {
            section.properties.push(property(line).map_err(error)?);
        }
    }
    Ok(collect(sections, kind))
}

/// Puts both files together; in a profile of both, the credentials file's values win.
pub fn merge(config: Profiles, credentials: Profiles) -> Profiles {
    let mut merged = config;
    for (name, profile) in credentials.by_name {
        merged.by_name.entry(name).or_default().values.extend(profile.values);
    }
    merged
}

struct Section<'a> {
    header: &'a str,
    properties: Vec<(String, String)>,
}

impl Section<'_> {
    /// A line that starts with white space goes on with the property above it.
    fn go_on(&mut self, line: &str) -> Result<(), &'static str> {
        let (_, value) = self.properties.last_mut().ok_or("Expected a property definition, found continuation")?;
        // A value that starts empty holds sub-properties (`s3 =`), which must look like properties.
        if value.is_empty() || value.starts_with('\n') {
            let (name, _) = line.split_once('=').ok_or("Expected an '=' sign defining a sub-property")?;
            if name.trim().is_empty() {
                return Err("Sub-property did not have a name");
            }
        }
        value.push('\n');
        value.push_str(line);
        Ok(())
    }
}

fn header(line: &str) -> Result<&str, &'static str> {
    let line = line.split(['#', ';']).next().unwrap_or(line).trim_end();
    line.strip_prefix('[')
        .and_then(|l| l.strip_suffix(']'))
        .map(str::trim)
        .ok_or("Profile definition must end with ']'")
}

fn property(line: &str) -> Result<(String, String), &'static str> {
    // Beside a value, a comment needs white space before it.
    let comment = line
        .char_indices()
        .zip(line.chars().skip(1))
        .find_map(|((at, before), sign)| (matches!(before, ' ' | '\t') && matches!(sign, '#' | ';')).then_some(at));
    let line = comment.map_or(line, |at| &line[..at]);
    let (key, value) = line.split_once('=').ok_or("Expected an '=' sign defining a property")?;
    let key = key.trim();
    if key.is_empty() {
        return Err("Property did not have a name");
    }
    Ok((key.to_ascii_lowercase(), value.trim().to_owned()))
}

fn collect(sections: Vec<Section<'_>>, kind: FileKind) -> Profiles {
    let mut profiles = Profiles::default();
    let long_default = sections.iter().any(|s| after_prefix(s.header) == Some("default"));
    for section in sections {
        let name = match (kind, after_prefix(section.header)) {
            (FileKind::Config, Some(name)) => name,
            // `[profile default]` beats `[default]`.
            (FileKind::Config, None) if section.header == "default" && !long_default => "default",
            (FileKind::Credentials, None) => section.header,
            _ => continue,
        };
        if !is_name(name) {
            continue;
        }
        let properties = section.properties.into_iter().filter(|(key, _)| is_name(key));
        profiles.by_name.entry(name.to_owned()).or_default().values.extend(properties);
    }
    profiles
}

fn after_prefix(header: &str) -> Option<&str> {
    let rest = header.strip_prefix("profile")?;
    rest.starts_with([' ', '\t']).then(|| rest.trim())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-/.%@:+".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn official_cases() {
        let cases: Value = serde_json::from_str(include_str!("../../tests/vectors/profile-parser-tests.json")).unwrap();
        let cases = cases["tests"].as_array().unwrap();
        assert_eq!(cases.len(), 65);
        for case in cases {
            let file = |name: &str, kind| parse(case["input"][name].as_str().unwrap_or(""), kind);
            let parsed = file("configFile", FileKind::Config)
                .and_then(|config| Ok(merge(config, file("credentialsFile", FileKind::Credentials)?)));
            match (parsed, case["output"]["errorContaining"].as_str()) {
                (Err(error), Some(want)) => assert!(error.to_string().contains(want), "{case}: {error}"),
                (Ok(profiles), None) => {
                    let got: serde_json::Map<String, Value> = profiles
                        .iter()
                        .map(|(name, p)| (name.to_owned(), p.iter().map(|(k, v)| (k, Value::from(v))).collect()))
                        .collect();
                    assert_eq!(Value::Object(got), case["output"]["config"]["profiles"], "{case}");
                }
                (got, _) => panic!("{case}: {got:?}"),
            }
        }
    }

    #[test]
    fn neither_errors_nor_debug_show_values() {
        let profiles = parse("[default]\naws_secret_access_key = hunter2\n", FileKind::Credentials).unwrap();
        assert!(!format!("{profiles:?}").contains("hunter2"));
        assert_eq!(profiles.get("default").unwrap().get("aws_secret_access_key"), Some("hunter2"));
        let error = parse("[default]\nhunter2\n", FileKind::Credentials).unwrap_err();
        assert_eq!(error.line, 2);
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}
