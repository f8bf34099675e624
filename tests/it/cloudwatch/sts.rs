//! STS AssumeRole over the query protocol.

use super::{FakeAnswer, FakeCloudWatch, FakeKey, FakeRequest};
use std::collections::BTreeMap;

pub(super) fn serve(fake: &mut FakeCloudWatch, request: &FakeRequest<'_>) -> FakeAnswer {
    let parameters = parameters(request.body);
    let parameter = |name: &str| parameters.get(name).map_or("", String::as_str);
    if parameter("Action") != "AssumeRole" || parameter("Version") != "2011-06-15" {
        return FakeAnswer::xml_error(400, "InvalidAction", "Could not find operation for version");
    }
    let session = parameter("RoleSessionName");
    let legal = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    if !(2..=64).contains(&session.len()) || !session.chars().all(legal) {
        return FakeAnswer::xml_error(
            400,
            "ValidationError",
            "Value at 'roleSessionName' failed to satisfy constraint",
        );
    }
    let duration_ms = match parameter("DurationSeconds") {
        "" => fake.role_lifetime_ms,
        text => match text.parse::<i64>() {
            Ok(seconds) if (900..=43_200).contains(&seconds) => seconds * 1000,
            _ => return FakeAnswer::xml_error(400, "ValidationError", "Value at 'durationSeconds' is out of range"),
        },
    };
    let duration_ms = fake.roles_expired_ms.map_or(duration_ms, |ms| -ms);
    let role = parameter("RoleArn");
    let external = parameters.get("ExternalId");
    let allowed = fake.roles.get(role).is_some_and(|wanted| wanted.is_none() || wanted.as_ref() == external);
    if !allowed {
        let text =
            format!("User: arn:aws:iam::1:user/edge is not authorized to perform: sts:AssumeRole on resource: {role}");
        return FakeAnswer::xml_error(403, "AccessDenied", &text);
    }
    let id = fake.next_id();
    let key = FakeKey {
        id: format!("ASIA{id:016}"),
        secret: format!("secret/+{id:032}"),
        token: Some(format!("token/+{id:032}==")),
        expires_ms: Some(request.now_ms + duration_ms),
    };
    let body = format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <AssumeRoleResult>\n    <AssumedRoleUser>\n      \
         <AssumedRoleId>AROA:{session}</AssumedRoleId>\n      <Arn>{role}/{session}</Arn>\n    </AssumedRoleUser>\n    <Credentials>\n      \
         <AccessKeyId>{}</AccessKeyId>\n      <SecretAccessKey>{}</SecretAccessKey>\n      <SessionToken>{}</SessionToken>\n      \
         <Expiration>{}</Expiration>\n    </Credentials>\n  </AssumeRoleResult>\n  <ResponseMetadata>\n    \
         <RequestId>{id}</RequestId>\n  </ResponseMetadata>\n</AssumeRoleResponse>\n",
        key.id,
        key.secret,
        key.token.as_deref().unwrap_or_default(),
        timestamp(request.now_ms + duration_ms),
    );
    fake.keys.push(key);
    FakeAnswer::ok(id, "text/xml", body)
}

/// The form's fields, decoded.
pub(super) fn parameters(body: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(body);
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decode(name), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next().unwrap_or(b'?'), rest.next().unwrap_or(b'?')];
                let digits = std::str::from_utf8(&digits).unwrap_or("?");
                bytes.push(u8::from_str_radix(digits, 16).unwrap_or(b'?'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `2026-11-22T12:00:00Z`
fn timestamp(ms: i64) -> String {
    let date = httpdate::HttpDate::from(super::server_time(ms)).to_string();
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|m| *m == &date[8..11]).unwrap_or(0) + 1;
    format!("{}-{month:02}-{}T{}Z", &date[12..16], &date[5..7], &date[17..25])
}
