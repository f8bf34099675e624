//! SigV4, by the crate that AWS's own SDK uses.

use super::credentials::Keys;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use std::time::{Duration, UNIX_EPOCH};

/// The latest time that a signature can name, milliseconds since 1970: the end of the year 9999.
const LAST_MS: i64 = 253_402_300_799_000;

/// What a signature covers.
pub(super) struct Unsigned<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a str,
    /// Every one of them is signed, so only those that no proxy changes; `host` among them.
    pub(super) headers: &'a [(String, String)],
    /// As sent, compressed or not.
    pub(super) body: &'a [u8],
    pub(super) region: &'a str,
    /// The signing name: `logs` or `sts`.
    pub(super) service: &'a str,
    /// By the service's clock, milliseconds since 1970.
    pub(super) time_ms: i64,
}

/// The headers that sign the request: `x-amz-date`, `authorization` and, with a session token, `x-amz-security-token`.
///
/// # Errors
/// The URL or a header is not legal HTTP; the text holds no secret.
pub(super) fn signature_headers(unsigned: &Unsigned<'_>, keys: &Keys) -> Result<Vec<(String, String)>, String> {
    let identity = Credentials::new(keys.id.clone(), keys.secret.clone(), keys.token.clone(), None, "promwatch").into();
    let time = UNIX_EPOCH + Duration::from_millis(unsigned.time_ms.clamp(0, LAST_MS).unsigned_abs());
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(unsigned.region)
        .name(unsigned.service)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let headers = unsigned.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let body = SignableBody::Bytes(unsigned.body);
    let request = SignableRequest::new(unsigned.method, unsigned.url, headers, body)
        .map_err(|_| "the URL cannot be signed".to_owned())?;
    let (instructions, _) = sign(request, &parameters)
        .map_err(|_| "the request cannot be signed: is a key or a header illegal?")?
        .into_parts();
    Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// The official vectors, through our own function and settings.
    #[test]
    fn signatures_agree_with_the_official_vectors() {
        let vectors: Vec<Value> = serde_json::from_str(include_str!("../../tests/vectors/sigv4.json")).unwrap();
        let (mut checked, mut left_out) = (0, Vec::new());
        for vector in &vectors {
            let context = &vector["context"];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let name = text(&vector["name"]);
            // Ways of signing that only S3 (paths as they are) and few other services use. And one whose path the crate's copy
            // holds encoded, although its signature is over one that is not.
            let other_way = name == "get-space-normalized"
                || context["normalize"] == false
                || context["omit_session_token"] == true;
            if other_way {
                left_out.push(name);
                continue;
            }
            let request = text(&vector["request"]);
            let (head, body) = request.split_once("\n\n").unwrap_or((&request, ""));
            let mut lines = head.lines();
            let (method, rest) = lines.next().unwrap().split_once(' ').unwrap();
            let path = rest.rsplit_once(' ').unwrap().0;
            let mut headers: Vec<(String, String)> = Vec::new();
            for line in lines {
                match line.split_once(':').filter(|_| !line.starts_with(' ')) {
                    Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
                    // An old header's second line; no client can send such a thing today.
                    None => headers.last_mut().unwrap().1 += &format!(" {}", line.trim()),
                }
            }
            if context["sign_body"] == true {
                let hash = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
                let hex = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                headers.push(("x-amz-content-sha256".to_owned(), hex));
            }
            let keys = Keys {
                id: text(&context["credentials"]["access_key_id"]),
                secret: text(&context["credentials"]["secret_access_key"]),
                token: context["credentials"]["token"].as_str().map(str::to_owned),
                expires_ms: None,
            };
            let unsigned = Unsigned {
                method,
                url: &format!("https://example.amazonaws.com{path}"),
                headers: &headers,
                body: body.as_bytes(),
                region: context["region"].as_str().unwrap(),
                service: context["service"].as_str().unwrap(),
                time_ms: 1_440_938_160_000,
            };
            assert_eq!(context["timestamp"], "2015-08-30T12:36:00Z");
            let signed = signature_headers(&unsigned, &keys).unwrap();
            let header = |name: &str| signed.iter().find_map(|(n, v)| (n == name).then_some(v.as_str()));
            let expected = format!("Signature={}", text(&vector["signature"]));
            assert!(header("authorization").unwrap().ends_with(&expected), "{name}: {signed:?}");
            assert_eq!(header("x-amz-date"), Some("20150830T123600Z"), "{name}");
            assert_eq!(header("x-amz-security-token"), keys.token.as_deref(), "{name}");
            checked += 1;
        }
        assert_eq!((checked, left_out.len()), (29, 9), "{left_out:?}");
    }
}
