//! `~/.aws/config` and `~/.aws/credentials`, before and after the first NUL byte: no text for people holds a value that may be
//! secret.
#![no_main]

mod world;

use libfuzzer_sys::fuzz_target;
use promwatch::model::settings::{CredentialSettings, UploadSettings};
use promwatch::profile::{FileKind, Profiles, merge, parse};
use promwatch::ship::fuzzing::credentials;
use world::World;

const SECRETS: [&str; 2] = ["aws_secret_access_key", "aws_session_token"];

fuzz_target!(|text: &str| {
    let (config, keys) = text.split_once('\0').unwrap_or(("", text));
    let world = World::default().with("/aws/config", config.as_bytes()).with("/aws/credentials", keys.as_bytes());
    let read = |text, kind| parse(text, kind).unwrap_or_else(|error| {
        assert!(error.line > 0 && error.line <= text.lines().count().max(1), "{error}");
        Profiles::default()
    });
    let profiles = merge(read(config, FileKind::Config), read(keys, FileKind::Credentials));
    let mut names: Vec<Option<String>> = profiles.iter().map(|(name, _)| Some(name.to_owned())).take(4).collect();
    names.push(None);
    for profile in names {
        let settings = UploadSettings {
            credentials: CredentialSettings {
                profile,
                credentials_file: "/aws/credentials".into(),
                config_file: "/aws/config".into(),
                ..CredentialSettings::default()
            },
            ..UploadSettings::default()
        };
        let shown = credentials(&settings, world.env());
        let shown = format!("{shown} {profiles:?}");
        for (name, profile) in profiles.iter() {
            let public = |secret: &str| {
                profiles.iter().any(|(name, other)| {
                    let open = other.iter().any(|(key, value)| {
                        key.contains(secret) || !SECRETS.contains(&key) && value.contains(secret)
                    });
                    name.contains(secret) || open
                })
            };
            for secret in SECRETS.iter().filter_map(|key| profile.get(key)) {
                assert!(secret.len() < 12 || !shown.contains(secret) || public(secret), "{name}: {shown}");
            }
        }
    }
});
