//! STS AssumeRole (STS API reference): a form in, XML out.

use super::{Keys, Role};
use crate::ship::answer::xml_text;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

/// `Content-Type` of the query protocol.
pub(in crate::ship) const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// The body of an AssumeRole request.
pub(in crate::ship) fn assume_role_body(role: &Role, session_name: Option<&str>) -> String {
    let session = role.session_name.as_deref().or(session_name).unwrap_or("promwatch");
    let mut body = String::from("Action=AssumeRole&Version=2011-06-15");
    push_field(&mut body, "RoleArn", &role.arn);
    push_field(&mut body, "RoleSessionName", &legal_session_name(session));
    if let Some(seconds) = role.duration_seconds {
        // Outside these bounds STS refuses every request.
        push_field(&mut body, "DurationSeconds", &seconds.clamp(900, 43_200).to_string());
    }
    if let Some(id) = &role.external_id {
        push_field(&mut body, "ExternalId", id);
    }
    body
}

/// Two to 64 of the characters that STS allows; others become a hyphen.
fn legal_session_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || "_+=,.@-".contains(c) { c } else { '-' };
    let mut name: String = name.chars().take(64).map(legal).collect();
    while name.len() < 2 {
        name.push('-');
    }
    name
}

fn push_field(body: &mut String, name: &str, value: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    body.push('&');
    body.push_str(name);
    body.push('=');
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            body.push(char::from(byte));
        } else {
            body.push('%');
            body.push(char::from(HEX[usize::from(byte >> 4)]));
            body.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// The keys in an AssumeRole answer; nothing when it is not one.
pub(in crate::ship) fn keys(body: &[u8]) -> Option<Keys> {
    let xml = std::str::from_utf8(body).ok()?;
    let expiration = xml_text(xml, "Expiration")?;
    Some(Keys {
        id: xml_text(xml, "AccessKeyId")?,
        secret: xml_text(xml, "SecretAccessKey")?,
        token: Some(xml_text(xml, "SessionToken")?),
        expires_ms: Some(DateTime::from_str(&expiration, Format::DateTime).ok()?.to_millis().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_encoded_and_kept_within_what_sts_allows() {
        let role = Role {
            arn: "arn:aws:iam::1:role/edge".to_owned(),
            session_name: None,
            external_id: Some("a b&c".to_owned()),
            duration_seconds: Some(60),
        };
        assert_eq!(
            assume_role_body(&role, Some("pi 1/é")),
            "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fedge&RoleSessionName=pi-1--\
             &DurationSeconds=900&ExternalId=a%20b%26c"
        );
        assert!(assume_role_body(&Role::of("x"), None).ends_with("&RoleSessionName=promwatch"));
        assert_eq!(legal_session_name("a"), "a-");
        assert_eq!(legal_session_name(&"x".repeat(99)).len(), 64);
    }

    #[test]
    fn the_answer_gives_keys() {
        let xml = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA</AccessKeyId>\
            <SecretAccessKey>a/+</SecretAccessKey><SessionToken>t==</SessionToken><Expiration>2026-11-22T12:00:00Z</Expiration>\
            </Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let found = keys(xml.as_bytes()).unwrap();
        assert_eq!((found.id.as_str(), found.secret.as_str(), found.token.as_deref()), ("ASIA", "a/+", Some("t==")));
        assert_eq!(found.expires_ms, Some(1_795_348_800_000));
        assert!(keys(b"<html>").is_none());
        assert!(keys(xml.replace("2026", "soon").as_bytes()).is_none());
    }
}
