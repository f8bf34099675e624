//! Which source gives the base keys, and which roles are assumed over them.

use super::Keys;
use crate::model::settings::CredentialSettings;
use crate::profile::{Profile, Profiles};

/// The CloudWatch agent's own profile on machines outside AWS.
const AGENT_PROFILE: &str = "AmazonCloudWatchAgent";
/// Profiles may lean on each other so many times.
const MAX_DEPTH: u8 = 5;

/// Base keys, and the roles to assume over them, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// For people.
    pub(super) source: String,
    pub(super) base: Keys,
    pub(super) roles: Vec<Role>,
}

/// A role and how to ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ship) struct Role {
    pub(in crate::ship) arn: String,
    pub(in crate::ship) session_name: Option<String>,
    pub(in crate::ship) external_id: Option<String>,
    pub(in crate::ship) duration_seconds: Option<u32>,
}

impl Role {
    /// A role without further conditions.
    pub(super) fn of(arn: &str) -> Self {
        Self { arn: arn.to_owned(), session_name: None, external_id: None, duration_seconds: None }
    }
}

/// Goes through the sources in their order.
///
/// # Errors
/// None has keys, or one that must not be passed over is unusable; the text names what was looked at.
pub(super) fn find(
    settings: &CredentialSettings,
    profiles: &Profiles,
    environment: Option<Keys>,
) -> Result<Chain, String> {
    let finder = Finder { profiles, environment: environment.as_ref(), settings };
    // A profile that was chosen by name is the only source: keys of another one could write to another account.
    if let Some(name) = &settings.profile {
        return finder.chain(name, 0)?.ok_or_else(|| {
            format!(
                "no credentials: [credentials] shared_credential_profile names {name}, which has none in {}",
                files(settings)
            )
        });
    }
    if let Some(chain) = finder.chain(AGENT_PROFILE, 0)? {
        return Ok(chain);
    }
    if let Some(base) = environment {
        return Ok(Chain { source: "environment".to_owned(), base, roles: Vec::new() });
    }
    let name = settings.env_profile.as_deref().unwrap_or("default");
    finder.chain(name, 0)?.ok_or_else(|| {
        format!(
            "no credentials: looked at profile {AGENT_PROFILE}, AWS_ACCESS_KEY_ID and profile {name} in {}",
            files(settings)
        )
    })
}

struct Finder<'a> {
    profiles: &'a Profiles,
    environment: Option<&'a Keys>,
    settings: &'a CredentialSettings,
}

impl Finder<'_> {
    /// What a profile comes to; nothing if it is missing or holds no credentials.
    fn chain(&self, name: &str, depth: u8) -> Result<Option<Chain>, String> {
        let Some(profile) = self.profiles.get(name) else { return Ok(None) };
        if let Some(arn) = value(profile, "role_arn") {
            return self.role(name, profile, arn, depth).map(Some);
        }
        if let Some(chain) = self.static_keys(name, profile)? {
            return Ok(Some(chain));
        }
        for (key, what) in [
            ("credential_process", "credential_process"),
            ("sso_session", "SSO"),
            ("sso_start_url", "SSO"),
            ("web_identity_token_file", "a web identity"),
        ] {
            if profile.get(key).is_some() {
                return Err(unserved(name, what));
            }
        }
        Ok(None)
    }

    fn role(&self, name: &str, profile: &Profile, arn: &str, depth: u8) -> Result<Chain, String> {
        if profile.get("mfa_serial").is_some() {
            return Err(unserved(name, "a code from a person (mfa_serial)"));
        }
        let mut chain = if let Some(source) = value(profile, "source_profile") {
            if depth >= MAX_DEPTH {
                return Err(format!(
                    "no credentials: profile {name}: source_profile goes round in circles, or too deep"
                ));
            }
            // A profile that names itself gives its own static keys.
            let found = match self.profiles.get(source) {
                Some(same) if source == name => self.static_keys(name, same)?,
                _ => self.chain(source, depth + 1)?,
            };
            found.ok_or_else(|| format!("no credentials: profile {name}: its source_profile {source} has none"))?
        } else {
            match value(profile, "credential_source") {
                Some("Environment") => Chain {
                    source: "environment".to_owned(),
                    base: self.environment.cloned().ok_or_else(|| {
                        format!("no credentials: profile {name}: credential_source is Environment, which has no AWS_ACCESS_KEY_ID")
                    })?,
                    roles: Vec::new(),
                },
                Some(other) => return Err(unserved(name, other)),
                None if profile.get("web_identity_token_file").is_some() => return Err(unserved(name, "a web identity")),
                None => return Err(format!("no credentials: profile {name}: role_arn needs source_profile or credential_source")),
            }
        };
        let duration_seconds = value(profile, "duration_seconds").and_then(|text| text.parse().ok());
        chain.roles.push(Role {
            arn: arn.to_owned(),
            session_name: value(profile, "role_session_name").map(str::to_owned),
            external_id: value(profile, "external_id").map(str::to_owned),
            duration_seconds,
        });
        Ok(chain)
    }

    fn static_keys(&self, name: &str, profile: &Profile) -> Result<Option<Chain>, String> {
        let (id, secret) = (value(profile, "aws_access_key_id"), value(profile, "aws_secret_access_key"));
        let (id, secret) = match (id, secret) {
            (Some(id), Some(secret)) => (id, secret),
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(format!("no credentials: profile {name} has no aws_secret_access_key")),
            (None, Some(_)) => return Err(format!("no credentials: profile {name} has no aws_access_key_id")),
        };
        Ok(Some(Chain {
            source: format!("profile {name} in {}", files(self.settings)),
            base: Keys {
                id: id.to_owned(),
                secret: secret.to_owned(),
                token: value(profile, "aws_session_token").map(str::to_owned),
                expires_ms: None,
            },
            roles: Vec::new(),
        }))
    }
}

fn files(settings: &CredentialSettings) -> String {
    format!("{} and {}", settings.credentials_file.display(), settings.config_file.display())
}

fn value<'p>(profile: &'p Profile, key: &str) -> Option<&'p str> {
    profile.get(key).filter(|value| !value.is_empty())
}

fn unserved(name: &str, what: &str) -> String {
    format!("no credentials: profile {name} asks for {what}, which this version does not serve")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{FileKind, merge, parse};

    const STATIC: &str = "[default]\naws_access_key_id = DEFAULT\naws_secret_access_key = s\n\
        [AmazonCloudWatchAgent]\naws_access_key_id = AGENT\naws_secret_access_key = s\naws_session_token = t\n\
        [other]\naws_access_key_id = OTHER\naws_secret_access_key = s\n[empty]\nregion = eu-west-1\n\
        [half]\naws_access_key_id = HALF\n";

    fn found(
        settings: &CredentialSettings,
        config: &str,
        credentials: &str,
        environment: bool,
    ) -> Result<String, String> {
        let profiles =
            merge(parse(config, FileKind::Config).unwrap(), parse(credentials, FileKind::Credentials).unwrap());
        let keys = Keys { id: "ENVIRONMENT".to_owned(), secret: "s".to_owned(), token: None, expires_ms: None };
        find(settings, &profiles, environment.then_some(keys)).map(|chain| {
            let roles: String = chain.roles.iter().map(|role| format!(">{}", role.arn)).collect();
            chain.base.id + &roles
        })
    }

    fn chosen(profile: Option<&str>, env_profile: Option<&str>) -> CredentialSettings {
        CredentialSettings {
            profile: profile.map(str::to_owned),
            env_profile: env_profile.map(str::to_owned),
            credentials_file: "/c/credentials".into(),
            config_file: "/c/config".into(),
            ..CredentialSettings::default()
        }
    }

    #[test]
    fn sources_are_tried_in_their_order() {
        let no_agent = STATIC.replace("[AmazonCloudWatchAgent]", "[x]");
        for (profile, env_profile, file, environment, expected) in [
            (Some("other"), None, STATIC, true, "OTHER"),
            (None, None, STATIC, true, "AGENT"),
            (None, Some("other"), STATIC, true, "AGENT"),
            (None, Some("other"), &no_agent, true, "ENVIRONMENT"),
            (None, Some("other"), &no_agent, false, "OTHER"),
            (None, None, &no_agent, false, "DEFAULT"),
            (None, None, "[AmazonCloudWatchAgent]\nregion = x\n", true, "ENVIRONMENT"),
        ] {
            assert_eq!(
                found(&chosen(profile, env_profile), "", file, environment).as_deref(),
                Ok(expected),
                "{expected}"
            );
        }
    }

    #[test]
    fn a_profile_that_was_chosen_is_never_passed_over() {
        for profile in ["missing", "empty", "half"] {
            let error = found(&chosen(Some(profile), None), "", STATIC, true).unwrap_err();
            assert!(error.contains(profile), "{error}");
        }
        let error = found(&chosen(None, Some("missing")), "", "", false).unwrap_err();
        assert!(
            error.contains("missing") && error.contains("/c/credentials") && error.contains("AmazonCloudWatchAgent")
        );
    }

    #[test]
    fn roles_lean_on_other_profiles() {
        let config = "[profile device]\nrole_arn = A\nsource_profile = other\nexternal_id = e\nduration_seconds = 900\n\
            [profile chained]\nrole_arn = B\nsource_profile = device\n\
            [profile own]\nrole_arn = C\nsource_profile = own\naws_access_key_id = OWN\naws_secret_access_key = s\n\
            [profile env]\nrole_arn = D\ncredential_source = Environment\n\
            [profile loop]\nrole_arn = E\nsource_profile = pool\n[profile pool]\nrole_arn = F\nsource_profile = loop\n\
            [profile nobase]\nrole_arn = G\n[profile imds]\nrole_arn = H\ncredential_source = Ec2InstanceMetadata\n\
            [profile process]\ncredential_process = /bin/false\n[profile mfa]\nrole_arn = I\nsource_profile = other\nmfa_serial = x\n";
        let found = |name| found(&chosen(Some(name), None), config, STATIC, true);
        assert_eq!(found("device").as_deref(), Ok("OTHER>A"));
        assert_eq!(found("chained").as_deref(), Ok("OTHER>A>B"));
        assert_eq!(found("own").as_deref(), Ok("OWN>C"));
        assert_eq!(found("env").as_deref(), Ok("ENVIRONMENT>D"));
        for (name, says) in [
            ("loop", "circles"),
            ("nobase", "source_profile"),
            ("imds", "Ec2InstanceMetadata"),
            ("process", "credential_process"),
            ("mfa", "mfa_serial"),
        ] {
            let error = found(name).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let keys =
            Keys { id: "AKID".into(), secret: "hunter2".into(), token: Some("hunter3".into()), expires_ms: None };
        assert!(!format!("{keys:?}").contains("hunter"));
    }
}
