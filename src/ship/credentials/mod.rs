//! Which keys sign the next request, and when they must be renewed.
//!
//! ```text
//! files, environment --read--> base keys --AssumeRole, once per role--> keys that sign
//!        ^ stamps looked at every 10 s,            ^ renewed at half of their life;
//!          read anew every 5 min                     the old ones serve while that fails
//! ```
//!
//! Order of the sources: `shared_credential_profile` of common-config.toml, the profile `AmazonCloudWatchAgent` where it
//! exists, the environment, `AWS_PROFILE`, the profile `default`. A profile is static keys, or a role over another profile.
//! Further kinds of a profile (`credential_process`, web identity, SSO) and further sources (container, IoT, instance
//! metadata) belong into [`sources`], each as another way to get base keys; until then a profile that asks for one is
//! refused by name. The instance metadata service is never probed: off EC2 that address is often a black hole.
//!
//! Expiry is judged by the service's clock. Refuses: showing a secret in any output.

mod sources;
pub(super) mod sts;

use crate::env::{Disk, Env, Stamp, read_secret};
use crate::model::settings::{CredentialSettings, Secret, UploadSettings};
use crate::profile::{self, FileKind, Profiles};
use sources::Chain;
pub(super) use sources::Role;
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

/// How often the files' stamps are looked at, in milliseconds.
pub(super) const LOOK_MS: u64 = 10_000;
/// How often the files are read although their stamps are the same.
const READ_MS: u64 = 300_000;
/// The least time between two renewals that AWS's refusals bring about, and between two tries to renew keys that still serve.
const RENEW_MS: u64 = 60_000;
/// The least time between two AssumeRole requests for one role that succeeded.
const ASSUME_MS: u64 = 10_000;
/// No profile file is longer.
const MAX_FILE_BYTES: u64 = 256 << 10;

/// An access key with all that belongs to it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
    /// Milliseconds since 1970.
    pub(super) expires_ms: Option<i64>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({}, expires_ms: {:?})", self.id, self.expires_ms)
    }
}

/// What to do for keys.
#[derive(Debug)]
pub(super) enum Ready<'a> {
    /// Sign with these.
    Keys(&'a Keys),
    /// Assume this role first, signing with these, and hand the outcome to [`Credentials::assumed`] or
    /// [`Credentials::assume_failed`].
    Assume { index: usize, role: &'a Role, with: &'a Keys },
    /// There are none; for people, why.
    Missing(&'a str),
}

/// The keys and their upkeep. Times since boot are `boot_ms`, the service's clock is `service_ms`.
pub(super) struct Credentials {
    settings: CredentialSettings,
    role_arn: Option<String>,
    chain: Result<Chain, String>,
    /// Keys of the roles in the chain, as far as they were obtained.
    roles: Vec<Option<Assumed>>,
    stamps: [Option<Stamp>; 2],
    looked_boot_ms: Option<u64>,
    read_boot_ms: u64,
    renewed_boot_ms: Option<u64>,
    assume_pause_boot_ms: u64,
}

struct Assumed {
    keys: Keys,
    obtained_ms: i64,
    obtained_boot_ms: u64,
}

impl Assumed {
    fn is_alive(&self, service_ms: i64) -> bool {
        self.keys.expires_ms.is_none_or(|at| service_ms < at)
    }

    fn is_due(&self, service_ms: i64) -> bool {
        self.keys.expires_ms.is_some_and(|at| service_ms >= self.obtained_ms.midpoint(at))
    }
}

impl Credentials {
    pub(super) fn new(settings: &UploadSettings) -> Self {
        Self {
            settings: settings.credentials.clone(),
            role_arn: settings.role_arn.clone(),
            chain: Err("credentials have not been looked for yet".to_owned()),
            roles: Vec::new(),
            stamps: [None, None],
            looked_boot_ms: None,
            read_boot_ms: 0,
            renewed_boot_ms: None,
            assume_pause_boot_ms: 0,
        }
    }

    /// Whether these settings give the same credentials.
    pub(super) fn serves(&self, settings: &UploadSettings) -> bool {
        self.settings == settings.credentials && self.role_arn == settings.role_arn
    }

    /// Looks at the files if it is time to.
    pub(super) fn look(&mut self, env: Env<'_>, boot_ms: u64) {
        if self.looked_boot_ms.is_some_and(|at| boot_ms.saturating_sub(at) < LOOK_MS) {
            return;
        }
        let stamps = [&self.settings.credentials_file, &self.settings.config_file].map(|path| env.disk.stat(path).ok());
        let unread = self.looked_boot_ms.is_none() || boot_ms.saturating_sub(self.read_boot_ms) >= READ_MS;
        self.looked_boot_ms = Some(boot_ms);
        if unread || stamps != self.stamps {
            self.stamps = stamps;
            let found = self.read(env, boot_ms);
            // A file that is just being rewritten must not cost us keys that work.
            if found.is_ok() || self.chain.is_err() {
                self.adopt(found);
            }
        }
    }

    /// What to do for keys now.
    pub(super) fn ready(&self, boot_ms: u64, service_ms: i64) -> Ready<'_> {
        let chain = match &self.chain {
            Ok(chain) => chain,
            Err(text) => return Ready::Missing(text),
        };
        let paused = boot_ms < self.assume_pause_boot_ms;
        let soon = |assumed: &Assumed| boot_ms.saturating_sub(assumed.obtained_boot_ms) < ASSUME_MS;
        let serves = |assumed: &Option<Assumed>| {
            assumed.as_ref().is_some_and(|a| a.is_alive(service_ms) && (paused || soon(a) || !a.is_due(service_ms)))
        };
        // The last role's keys sign; if they do not serve, go back to keys that can assume the next role.
        let index = self.roles.iter().rposition(serves).map_or(0, |at| at + 1);
        let with = match index.checked_sub(1).and_then(|at| self.roles[at].as_ref()) {
            Some(assumed) => &assumed.keys,
            None => &chain.base,
        };
        let asked = self.roles.get(index).and_then(Option::as_ref).is_some_and(soon);
        match chain.roles.get(index) {
            Some(_) if asked => Ready::Missing("the keys that STS gives last no longer than seconds"),
            Some(role) => Ready::Assume { index, role, with },
            None => Ready::Keys(with),
        }
    }

    /// A role was assumed. False when its keys have expired already: asking again at once would give the same.
    pub(super) fn assumed(&mut self, index: usize, keys: Keys, boot_ms: u64, service_ms: i64) -> bool {
        let assumed = Assumed { keys, obtained_ms: service_ms, obtained_boot_ms: boot_ms };
        let alive = assumed.is_alive(service_ms);
        if alive && let Some(slot) = self.roles.get_mut(index) {
            *slot = Some(assumed);
        }
        alive
    }

    /// A role could not be assumed. True when the keys of before still serve; they do, for a minute, before the next try.
    pub(super) fn assume_failed(&mut self, boot_ms: u64, service_ms: i64) -> bool {
        let alive = self.roles.last().and_then(Option::as_ref).is_some_and(|a| a.is_alive(service_ms));
        if alive {
            self.assume_pause_boot_ms = boot_ms.saturating_add(RENEW_MS);
        }
        alive
    }

    /// AWS refused the keys. True when others can be had at once; at most once a minute.
    pub(super) fn renew(&mut self, env: Env<'_>, boot_ms: u64) -> bool {
        if self.renewed_boot_ms.is_some_and(|at| boot_ms.saturating_sub(at) < RENEW_MS) {
            return false;
        }
        self.renewed_boot_ms = Some(boot_ms);
        let had_assumed = self.roles.iter().any(Option::is_some);
        self.roles.iter_mut().for_each(|assumed| *assumed = None);
        let found = self.read(env, boot_ms);
        let changed = found != self.chain;
        self.adopt(found);
        had_assumed || changed
    }

    /// Where the keys come from, for people.
    pub(super) fn source(&self) -> Option<String> {
        let chain = self.chain.as_ref().ok()?;
        let mut text = chain.source.clone();
        for role in &chain.roles {
            text = format!("role {} over {text}", role.arn);
        }
        Some(text)
    }

    /// When the keys that sign expire, milliseconds since 1970.
    pub(super) fn expires_ms(&self) -> Option<i64> {
        match self.roles.last() {
            Some(assumed) => assumed.as_ref().and_then(|a| a.keys.expires_ms),
            None => self.chain.as_ref().ok().and_then(|chain| chain.base.expires_ms),
        }
    }

    fn adopt(&mut self, found: Result<Chain, String>) {
        let same_roles = match (&self.chain, &found) {
            (Ok(old), Ok(new)) => old.roles == new.roles,
            _ => false,
        };
        if !same_roles {
            let count = found.as_ref().map_or(0, |chain| chain.roles.len());
            self.roles = std::iter::repeat_with(|| None).take(count).collect();
        }
        self.chain = found;
    }

    fn read(&mut self, env: Env<'_>, boot_ms: u64) -> Result<Chain, String> {
        self.read_boot_ms = boot_ms;
        let mut faults = Vec::new();
        let mut file = |path: &Path, kind| match read_profiles(env.disk, path, kind) {
            Ok(profiles) => profiles,
            Err(fault) => {
                faults.push(fault);
                Profiles::default()
            }
        };
        let config = file(&self.settings.config_file, FileKind::Config);
        let credentials = file(&self.settings.credentials_file, FileKind::Credentials);
        let profiles = profile::merge(config, credentials);
        let environment = self.environment(env).unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        let found = sources::find(&self.settings, &profiles, environment).map(|mut chain| {
            chain.roles.extend(self.role_arn.as_deref().map(Role::of));
            chain
        });
        found.map_err(|text| if faults.is_empty() { text } else { format!("{text} ({})", faults.join("; ")) })
    }

    /// The environment's keys; nothing where it has none.
    fn environment(&self, env: Env<'_>) -> Result<Option<Keys>, String> {
        let secret = |secret: &Option<Secret>| match secret {
            Some(secret) => read_secret(secret, env).map_err(|error| error.text),
            None => Ok(String::new()),
        };
        let id = self.settings.env_key_id.clone().unwrap_or_default();
        let key = secret(&self.settings.env_secret_key)?;
        if id.is_empty() || key.is_empty() {
            return Ok(None);
        }
        let token = secret(&self.settings.env_session_token)?;
        Ok(Some(Keys { id, secret: key, token: Some(token).filter(|token| !token.is_empty()), expires_ms: None }))
    }
}

fn read_profiles(disk: &dyn Disk, path: &Path, kind: FileKind) -> Result<Profiles, String> {
    let bytes = match disk.read(path, MAX_FILE_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Profiles::default()),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let text = String::from_utf8(bytes).map_err(|_| format!("{}: not UTF-8", path.display()))?;
    profile::parse(&text, kind).map_err(|error| format!("{}: {error}", path.display()))
}
