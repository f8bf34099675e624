//! `common-config.toml`: credentials, proxy and certificates that the CloudWatch agent's tools share.

use super::finding::{Finding, Severity};
use super::toml::{self, Scalar};
use super::values::nearest;
use crate::env::Disk;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Where the agent has it.
const DEFAULT_PATH: &str = "/opt/aws/amazon-cloudwatch-agent/etc/common-config.toml";

const MAX_FILE_BYTES: u64 = 1 << 20;

const KEYS: &[&str] = &[
    "credentials.shared_credential_profile",
    "credentials.shared_credential_file",
    "proxy.http_proxy",
    "proxy.https_proxy",
    "proxy.no_proxy",
    "ssl.ca_bundle_path",
    "imds.imds_retries",
];

/// The file's settings; what is empty is not set.
#[derive(Default)]
pub(super) struct CommonConfig {
    pub file: String,
    values: Vec<(String, String)>,
}

impl CommonConfig {
    /// A value by section and key, such as `proxy.http_proxy`.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.values.iter().rev().find(|(name, _)| name == key)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// The environment as the agent's own process sees it: with these proxies in it.
    pub(super) fn proxied(&self, vars: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut vars = vars.clone();
        for (key, name) in
            [("proxy.http_proxy", "HTTP_PROXY"), ("proxy.https_proxy", "HTTPS_PROXY"), ("proxy.no_proxy", "NO_PROXY")]
        {
            if let Some(value) = self.get(key) {
                vars.insert(name.to_owned(), value.to_owned());
            }
        }
        vars
    }
}

/// Reads the file. One that was named must exist; the agent's own place may be empty.
pub(super) fn read(path: Option<&Path>, disk: &dyn Disk, findings: &mut Vec<Finding>) -> CommonConfig {
    let file = path.unwrap_or(Path::new(DEFAULT_PATH));
    let mut common = CommonConfig { file: file.display().to_string(), values: Vec::new() };
    let mut fail = |position, text| {
        let (file, key, fix) = (common.file.clone(), String::new(), String::new());
        findings.push(Finding { severity: Severity::Error, file, position, key, text, fix });
    };
    let bytes = match disk.read(file, MAX_FILE_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
            common.file.clear();
            return common;
        }
        Err(error) => {
            fail(None, format!("cannot be read: {error}"));
            return common;
        }
    };
    let entries = match std::str::from_utf8(&bytes).map(toml::parse) {
        Ok(Ok(entries)) => entries,
        Ok(Err((line, column, error))) => {
            fail(Some((line, column)), format!("is not TOML: {error}"));
            return common;
        }
        Err(_) => {
            fail(None, "is not UTF-8".to_owned());
            return common;
        }
    };
    for entry in entries {
        let (severity, text, fix) = match entry.value {
            _ if entry.key == "imds.imds_retries" => {
                let text = "has no effect: the instance metadata service is not asked";
                (Severity::Note, text.to_owned(), String::new())
            }
            _ if !KEYS.contains(&entry.key.as_str()) => {
                let near = nearest(&entry.key, KEYS.iter().copied());
                let fix = near.map_or(String::new(), |near| format!("did you mean {near}?"));
                (Severity::Warning, "unknown key, ignored as the CloudWatch agent does".to_owned(), fix)
            }
            Scalar::Text(value) => {
                common.values.push((entry.key, value));
                continue;
            }
            Scalar::Other => (Severity::Error, "must be a text".to_owned(), String::new()),
        };
        let (file, key, position) = (common.file.clone(), entry.key, Some((entry.line, 1)));
        findings.push(Finding { severity, file, position, key, text, fix });
    }
    common
}
