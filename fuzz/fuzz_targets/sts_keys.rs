//! An AssumeRole answer. Between NUL bytes stand id, secret, token and time: written as STS writes them they come back as
//! they were. All of it is also read as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promwatch::ship::fuzzing::sts_keys;

fuzz_target!(|text: &str| {
    if let Some(keys) = sts_keys(text.as_bytes()) {
        assert!(!keys.shown.contains(&keys.secret) || keys.id.contains(&keys.secret) || keys.secret.len() < 20);
    }
    let mut parts = text.split('\0');
    let (Some(id), Some(secret), Some(token)) = (parts.next(), parts.next(), parts.next()) else { return };
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let xml = format!(
        "<AssumeRoleResponse><Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
         <SessionToken>{}</SessionToken><Expiration>2026-11-22T12:00:00Z</Expiration></Credentials></AssumeRoleResponse>",
        escaped(id),
        escaped(secret),
        escaped(token)
    );
    let keys = sts_keys(xml.as_bytes()).expect("an answer");
    assert_eq!((keys.id.as_str(), keys.secret.as_str()), (id.trim(), secret.trim()));
    assert_eq!(keys.token.as_deref(), Some(token.trim()));
    assert_eq!(keys.expires_ms, Some(1_795_348_800_000));
});
