//! The way to CloudWatch Logs: region, endpoint, role, credentials, proxy, certificates, out of the agent JSON,
//! `common-config.toml`, the environment and the AWS profile files, in the CloudWatch agent's order of precedence.

use super::common_config::CommonConfig;
use super::files::Documents;
use super::finding::{Finding, Severity};
use super::schema::{duration_of, size_of, whole};
use super::values::{OPEN_FILE_FIX, OPEN_SECRETS, expand, open_to_others, plain_host};
use super::{Surroundings, set};
use crate::env::Disk;
use crate::model::settings::{CredentialSettings, ProxySettings, Secret, TlsSettings, UploadSettings};
use crate::profile::{self, FileKind, Profile, Profiles};
use std::io;
use std::path::{Path, PathBuf};

/// The profile that the agent reads on premises when `common-config.toml` names none.
const AGENT_PROFILE: &str = "AmazonCloudWatchAgent";

const MAX_PROFILE_FILE_BYTES: u64 = 1 << 20;

/// Resolves everything that delivery needs.
pub(super) fn resolve(
    documents: &Documents,
    common: &CommonConfig,
    surroundings: &Surroundings,
    disk: &dyn Disk,
    findings: &mut Vec<Finding>,
) -> UploadSettings {
    let vars = &surroundings.vars;
    let expanded = |path: &str| documents.text(path).map(|text| expand(text, vars)).filter(|text| !text.is_empty());
    let mut upload = UploadSettings {
        credentials: credentials(common, surroundings),
        role_arn: expanded("/logs/credentials/role_arn").or_else(|| expanded("/agent/credentials/role_arn")),
        user_agent: documents.text("/agent/user_agent").filter(|text| !text.is_empty()).map(str::to_owned),
        dualstack: documents.flag("/agent/use_dualstack_endpoint")
            || surroundings.is_true("AWS_USE_DUALSTACK_ENDPOINT"),
        fips: surroundings.is_true("AWS_USE_FIPS_ENDPOINT"),
        sts_endpoint: sts_endpoint(surroundings, findings),
        // Tells devices apart in CloudTrail; `ship` makes it legal.
        role_session_name: Some(format!("promwatch-{}", surroundings.host_of(documents))),
        ..UploadSettings::default()
    };
    if upload.user_agent.as_ref().is_some_and(|text| !text.bytes().all(|b| matches!(b, b' '..=b'~'))) {
        let text = "must be printable ASCII: it becomes a header of every request".to_owned();
        findings.push(documents.finding(Severity::Error, "/agent/user_agent", text, ""));
    }
    for path in ["/logs/credentials/role_arn", "/agent/credentials/role_arn"] {
        // The agent does the same in silence: it may write to the wrong account.
        if documents.text(path).is_some_and(|text| !text.is_empty() && expand(text, vars).is_empty()) {
            let text = "names a variable that is not set: no role is assumed, the base credentials serve";
            let fix = "set the variable, or remove role_arn";
            findings.push(documents.finding(Severity::Warning, path, text.to_owned(), fix));
        }
    }
    let profiles = read_profiles(&upload.credentials, disk, findings);
    let candidates = candidates(&upload.credentials, &profiles);
    upload.region = region(documents, surroundings, &candidates);
    let region = upload.region.as_deref().unwrap_or("");
    let trouble = if region.is_empty() {
        let text = "no region: nothing can be delivered, all events are buffered".to_owned();
        Some((Severity::Warning, text, "set agent.region or AWS_REGION"))
    } else if !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        Some((Severity::Error, format!("{region:?} is no region"), "such as eu-west-1"))
    } else {
        None
    };
    findings.extend(trouble.map(|(severity, text, fix)| documents.finding(severity, "/agent/region", text, fix)));
    warn_of_missing_credentials(documents, &upload.credentials, &candidates, findings);
    upload.endpoint = endpoint(documents, surroundings, disk, findings);
    upload.proxy = proxy(common, surroundings, disk, findings);
    upload.tls = tls(common, surroundings, disk, findings);
    set(&mut upload.flush_interval_ms, documents, "/logs/force_flush_interval", |value| {
        whole(value).and_then(|seconds| u64::try_from(seconds).ok()).map(|seconds| seconds.saturating_mul(1_000))
    });
    let ours = "/promwatch/upload";
    set(&mut upload.backlog_requests_per_second, documents, &format!("{ours}/backlog_requests_per_second"), |value| {
        value.as_f64()
    });
    set(&mut upload.backlog_bytes_per_second, documents, &format!("{ours}/backlog_bytes_per_second"), size_of);
    set(&mut upload.jitter_ms, documents, &format!("{ours}/jitter"), duration_of);
    set(&mut upload.compress, documents, &format!("{ours}/compress"), |value| value.as_bool());
    upload
}

fn credentials(common: &CommonConfig, surroundings: &Surroundings) -> CredentialSettings {
    let shared = common.get("credentials.shared_credential_file").map(PathBuf::from);
    let folder = surroundings.home.join(".aws");
    // The agent looks for `config` beside the file that common-config names.
    let config_file = surroundings.var("AWS_CONFIG_FILE").map(PathBuf::from);
    let config_file = config_file.or_else(|| Some(shared.as_ref()?.with_file_name("config")));
    CredentialSettings {
        profile: common.get("credentials.shared_credential_profile").map(str::to_owned),
        config_file: config_file.unwrap_or_else(|| folder.join("config")),
        credentials_file: shared
            .or_else(|| surroundings.var("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from))
            .unwrap_or_else(|| folder.join("credentials")),
        env_profile: surroundings
            .var("AWS_PROFILE")
            .or_else(|| surroundings.var("AWS_DEFAULT_PROFILE"))
            .map(str::to_owned),
        env_key_id: surroundings.var("AWS_ACCESS_KEY_ID").map(str::to_owned),
        env_secret_key: surroundings.secret("AWS_SECRET_ACCESS_KEY"),
        env_session_token: surroundings
            .secret("AWS_SESSION_TOKEN")
            .or_else(|| surroundings.secret("AWS_SECURITY_TOKEN")),
    }
}

fn read_profiles(credentials: &CredentialSettings, disk: &dyn Disk, findings: &mut Vec<Finding>) -> Profiles {
    let mut read = |path: &Path, kind| {
        let mut fail = |position, text| {
            findings.push(Finding { position, ..warning(&path.display().to_string(), "", text, "") });
        };
        let bytes = match disk.read(path, MAX_PROFILE_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    fail(None, format!("cannot be read: {error}"));
                }
                return Profiles::default();
            }
        };
        let text = String::from_utf8_lossy(&bytes);
        const SECRET: &str = "aws_secret_access_key";
        let line = text.lines().position(|line| line.trim_start().starts_with(SECRET));
        let profiles = profile::parse(&text, kind).unwrap_or_else(|error| {
            fail(Some((error.line, 1)), error.text.to_owned());
            Profiles::default()
        });
        if let Some(line) = line
            && open_to_others(disk, path)
        {
            let finding = warning(&path.display().to_string(), SECRET, OPEN_SECRETS.to_owned(), OPEN_FILE_FIX);
            findings.push(Finding { position: Some((line + 1, 1)), ..finding });
        }
        profiles
    };
    let config = read(&credentials.config_file, FileKind::Config);
    profile::merge(config, read(&credentials.credentials_file, FileKind::Credentials))
}

/// The profiles that count, first the one that wins: common-config's alone, or `AmazonCloudWatchAgent` and `AWS_PROFILE`
/// (`default`).
fn candidates<'a>(credentials: &CredentialSettings, profiles: &'a Profiles) -> Vec<&'a Profile> {
    let names = match credentials.profile.as_deref() {
        Some(name) => vec![name],
        None => vec![AGENT_PROFILE, credentials.env_profile.as_deref().unwrap_or("default")],
    };
    names.into_iter().filter_map(|name| profiles.get(name)).collect()
}

fn region(documents: &Documents, surroundings: &Surroundings, profiles: &[&Profile]) -> Option<String> {
    let given = documents.text("/agent/region").map(|text| expand(text, &surroundings.vars));
    let of_profile = || profiles.iter().find_map(|profile| profile.get("region").filter(|text| !text.is_empty()));
    let variable = || surroundings.var("AWS_REGION").or_else(|| surroundings.var("AWS_DEFAULT_REGION"));
    given.filter(|text| !text.is_empty()).or_else(|| variable().or_else(of_profile).map(str::to_owned))
}

/// Whether the credentials are any good only a request shows; that there are none can be said at once.
fn warn_of_missing_credentials(
    documents: &Documents,
    credentials: &CredentialSettings,
    profiles: &[&Profile],
    findings: &mut Vec<Finding>,
) {
    let has = |keys: &[&str]| profiles.iter().any(|profile| keys.iter().any(|key| profile.get(key).is_some()));
    let by_variable = credentials.profile.is_none() && credentials.env_key_id.is_some();
    if by_variable || has(&["aws_access_key_id", "role_arn"]) {
        return;
    }
    let profile = credentials.profile.as_deref().or(credentials.env_profile.as_deref()).unwrap_or("default");
    let mut text = format!(
        "no credentials: nothing can be delivered, all events are buffered; looked in {} and {} (profile {profile}) and \
         in the environment",
        credentials.credentials_file.display(),
        credentials.config_file.display(),
    );
    if has(&["credential_process", "sso_session", "sso_start_url", "web_identity_token_file"]) {
        text.push_str("; the profile asks for a kind of credentials that is not served");
    }
    let fix = "see docs/configuration.md, Region and credentials";
    findings.push(documents.finding(Severity::Warning, "/agent/credentials", text, fix));
}

fn endpoint(
    documents: &Documents,
    surroundings: &Surroundings,
    disk: &dyn Disk,
    findings: &mut Vec<Finding>,
) -> Option<String> {
    const PATH: &str = "/logs/endpoint_override";
    let ignored = surroundings.is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    let names = ["AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "AWS_ENDPOINT_URL"];
    let variable = names.into_iter().filter(|_| !ignored).find_map(|name| Some((name, surroundings.var(name)?)));
    let given = documents.text(PATH).map(|text| expand(text, &surroundings.vars)).filter(|text| !text.is_empty());
    let by_file = given.is_some();
    let url = given.or_else(|| variable.map(|(_, url)| url.to_owned()))?;
    // The SDK takes a bare host for HTTPS.
    let url = if url.contains("://") { url } else { format!("https://{url}") };
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if host.is_none_or(|host| {
        host.is_empty() || host.starts_with('/') || host.contains(|c: char| c.is_whitespace() || c.is_control())
    }) {
        let text = "the endpoint is no http:// or https:// URL".to_owned();
        findings.push(documents.finding(Severity::Error, PATH, text, "such as https://logs.eu-west-1.amazonaws.com"));
    } else if let Some(host) = plain_host(&url) {
        let text = format!("events go unencrypted to {host}: they can be read and changed on the way");
        match variable {
            // One warning for a variable that serves both is enough.
            Some((name, _)) if !by_file => {
                if !findings.iter().any(|finding| finding.file == name) {
                    findings.push(warning(name, "", text, USE_HTTPS));
                }
            }
            _ => findings.push(documents.finding(Severity::Warning, PATH, text, USE_HTTPS)),
        }
    }
    if by_file && url.contains('@') && open_to_others(disk, Path::new(documents.file_of(PATH))) {
        findings.push(documents.finding(Severity::Warning, PATH, OPEN_SECRETS.to_owned(), OPEN_FILE_FIX));
    }
    Some(url)
}

const USE_HTTPS: &str = "use https://, or a network that nobody else is in";

fn warning(file: &str, key: &str, text: String, fix: &str) -> Finding {
    let (file, key, fix) = (file.to_owned(), key.to_owned(), fix.to_owned());
    Finding { severity: Severity::Warning, file, position: None, key, text, fix }
}

fn sts_endpoint(surroundings: &Surroundings, findings: &mut Vec<Finding>) -> Option<String> {
    if surroundings.is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") {
        return None;
    }
    let names = ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"];
    let (name, url) = names.into_iter().find_map(|name| Some((name, surroundings.var(name)?)))?;
    if let Some(host) = plain_host(url) {
        findings.push(warning(name, "", format!("credentials come unencrypted from {host}"), USE_HTTPS));
    }
    Some(url.to_owned())
}

/// common-config's proxies replace the environment's one by one, as the agent exports them into its own environment.
fn proxy(
    common: &CommonConfig,
    surroundings: &Surroundings,
    disk: &dyn Disk,
    findings: &mut Vec<Finding>,
) -> ProxySettings {
    let mut pick = |key: &str, variable: &str| {
        let (file, url) = match common.get(key) {
            Some(url) => (common.file.as_str(), url),
            None => (variable, surroundings.proxy_var(variable)?),
        };
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        if !url.starts_with("http://") {
            // A proxy that is itself spoken to over TLS, or SOCKS. Not the URL: it may hold a password.
            let scheme = url.split("://").next().unwrap_or("");
            findings.push(Finding {
                severity: Severity::Error,
                file: file.to_owned(),
                position: None,
                key: key.to_owned(),
                text: format!("proxies of the kind {scheme:?} are not served"),
                fix: "http://[user:password@]host:port".to_owned(),
            });
        } else if url.contains('@') {
            if let Some(host) = plain_host(&url) {
                let text = format!("the proxy's user and password go unencrypted to {host}");
                findings.push(warning(file, key, text, "use a proxy on this machine or one without a password"));
            }
            // A variable is no file; one warning for the file is enough.
            let said = findings.iter().any(|finding| finding.file == file && finding.text == OPEN_SECRETS);
            if !said && open_to_others(disk, Path::new(file)) {
                findings.push(warning(file, key, OPEN_SECRETS.to_owned(), OPEN_FILE_FIX));
            }
        }
        Some(Secret::Inline(url))
    };
    ProxySettings {
        http: pick("proxy.http_proxy", "HTTP_PROXY"),
        https: pick("proxy.https_proxy", "HTTPS_PROXY"),
        no_proxy: common.get("proxy.no_proxy").or_else(|| surroundings.proxy_var("NO_PROXY")).unwrap_or("").to_owned(),
        connect_headers: Vec::new(),
    }
}

fn tls(
    common: &CommonConfig,
    surroundings: &Surroundings,
    disk: &dyn Disk,
    findings: &mut Vec<Finding>,
) -> TlsSettings {
    const KEY: &str = "ssl.ca_bundle_path";
    const VARIABLE: &str = "AWS_CA_BUNDLE";
    let (file, path) = match (common.get(KEY), surroundings.var(VARIABLE)) {
        (Some(path), _) => (common.file.as_str(), path),
        (None, Some(path)) => (VARIABLE, path),
        (None, None) => return TlsSettings::default(),
    };
    if let Err(error) = disk.stat(Path::new(path)) {
        findings.push(Finding {
            severity: Severity::Warning,
            file: file.to_owned(),
            position: None,
            key: KEY.to_owned(),
            text: format!("{path}: {error}; nothing can be delivered over HTTPS until it is there"),
            fix: String::new(),
        });
    }
    TlsSettings { ca: Some(Secret::File(path.into())), ..TlsSettings::default() }
}
