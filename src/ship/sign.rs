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
