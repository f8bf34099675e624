//! What a Prometheus `http_config` adds to a request: who we are, and headers of the user's own.

use super::{CertificateTime, Env, Limits, NetError, NetErrorKind, Request, Route};
use crate::model::settings::{Auth, HttpClient, OAuth2, Secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use miniserde::json::{Number, Value};
use std::ops::ControlFlow;

/// The longest secret in a file, in bytes.
const SECRET_MAX_BYTES: u64 = 64 << 10;
/// The longest answer of a token endpoint, in bytes.
const TOKEN_ANSWER_MAX_BYTES: usize = 64 << 10;
/// A token is replaced this long before it expires, as golang.org/x/oauth2 does it.
const EXPIRY_MARGIN_MS: u64 = 10_000;

/// Tokens of the OAuth2 client credentials grant, kept in memory until they expire.
#[derive(Default)]
pub struct TokenCache {
    tokens: Vec<Token>,
}

struct Token {
    grant: OAuth2,
    secret: String,
    authorization: String,
    expires_ms: Option<u64>,
}

/// A secret's text, white space around it removed. A file is read anew each time.
///
/// # Errors
/// Kind [`NetErrorKind::Config`]; the text names the file and what is wrong with it, never its content.
pub fn read_secret(secret: &Secret, env: Env<'_>) -> Result<String, NetError> {
    let path = match secret {
        Secret::Inline(text) => return Ok(text.clone()),
        Secret::File(path) => path,
    };
    let bytes =
        env.disk.read(path, SECRET_MAX_BYTES).map_err(|error| config_error(format!("{}: {error}", path.display())))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(_) => Err(config_error(format!("{}: not UTF-8", path.display()))),
    }
}

/// Appends `Authorization` and the user's own headers. Fetches an OAuth2 token where none is at hand.
///
/// # Errors
/// A secret that cannot be read and a token endpoint that refuses are [`NetErrorKind::Config`]; else as the exchange failed.
pub fn authorize(
    http: &HttpClient,
    cache: &mut TokenCache,
    env: Env<'_>,
    limits: Limits,
    headers: &mut Vec<(String, String)>,
) -> Result<(), NetError> {
    for (name, value) in &http.headers {
        headers.push((name.clone(), read_secret(value, env)?));
    }
    let authorization = match &http.auth {
        Auth::None => return Ok(()),
        Auth::Basic { username, password } => basic(&read_secret(username, env)?, &read_secret(password, env)?),
        Auth::Header { scheme, credentials } => format!("{scheme} {}", read_secret(credentials, env)?),
        Auth::OAuth2(grant) => cache.authorization(grant, env, limits)?,
    };
    headers.push(("Authorization".to_owned(), authorization));
    Ok(())
}

impl TokenCache {
    /// Drops the token that a server has just refused, so that the next request brings a new one: a token server that lost its
    /// keys must not cost the rest of the token's life.
    pub fn forget(&mut self, auth: &Auth) {
        if let Auth::OAuth2(grant) = auth {
            self.tokens.retain(|token| token.grant != **grant);
        }
    }

    fn authorization(&mut self, grant: &OAuth2, env: Env<'_>, limits: Limits) -> Result<String, NetError> {
        let now_ms = env.clock.monotonic_ms();
        let secret = read_secret(&grant.client_secret, env)?;
        self.tokens.retain(|token| token.expires_ms.is_none_or(|at| now_ms + EXPIRY_MARGIN_MS < at));
        if let Some(token) = self.tokens.iter().find(|token| token.grant == *grant && token.secret == secret) {
            return Ok(token.authorization.clone());
        }
        // The secret in a header first, then in the form: RFC 6749 section 2.3.1 has both and servers know one of them.
        // golang.org/x/oauth2, which Prometheus uses, finds out in this order too.
        let (authorization, lifetime_ms) = match fetch(grant, &secret, true, env, limits) {
            Err(error) if error.kind == NetErrorKind::Config => {
                let spent_ms = env.clock.monotonic_ms().saturating_sub(now_ms);
                let left = Limits { total_ms: limits.total_ms.saturating_sub(spent_ms).max(1), ..limits };
                fetch(grant, &secret, false, env, left)?
            }
            other => other?,
        };
        self.tokens.retain(|token| token.grant != *grant);
        self.tokens.push(Token {
            grant: grant.clone(),
            secret,
            authorization: authorization.clone(),
            expires_ms: lifetime_ms.map(|lifetime_ms| now_ms.saturating_add(lifetime_ms)),
        });
        Ok(authorization)
    }
}

fn fetch(
    grant: &OAuth2,
    secret: &str,
    secret_in_header: bool,
    env: Env<'_>,
    limits: Limits,
) -> Result<(String, Option<u64>), NetError> {
    let mut form = String::from("grant_type=client_credentials");
    let scope = grant.scopes.join(" ");
    if !scope.is_empty() {
        field(&mut form, "scope", &scope);
    }
    for (name, value) in &grant.endpoint_params {
        field(&mut form, name, value);
    }
    let mut headers = vec![("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
    if secret_in_header {
        let (mut id, mut escaped) = (String::new(), String::new());
        escape(&mut id, &grant.client_id);
        escape(&mut escaped, secret);
        headers.push(("Authorization".to_owned(), basic(&id, &escaped)));
    } else {
        field(&mut form, "client_id", &grant.client_id);
        field(&mut form, "client_secret", secret);
    }
    let route = Route { tls: grant.tls.clone(), proxy: grant.proxy.clone(), unix_socket: None, follow_redirects: true };
    let request = Request {
        method: "POST",
        url: &grant.token_url,
        headers: &headers,
        body: form.as_bytes(),
        route: &route,
        limits,
        certificate_time: CertificateTime::Clock,
        new_connection: false,
        stop_grace_ms: Request::STOP_GRACE_MS,
    };
    let mut body = Vec::new();
    let exchange = env.net.exchange(&request, &mut |_, piece| {
        if body.len() + piece.len() > TOKEN_ANSWER_MAX_BYTES {
            return ControlFlow::Break(());
        }
        body.extend_from_slice(piece);
        ControlFlow::Continue(())
    });
    let exchange = exchange.map_err(|error| NetError { text: format!("OAuth2 token: {}", error.text), ..error })?;
    match exchange.head.status {
        200..=299 => {
            token_of(&body).ok_or_else(|| config_error(format!("{}: no access_token in the answer", grant.token_url)))
        }
        status @ 500.. => Err(NetError {
            kind: NetErrorKind::Broken,
            text: format!("OAuth2 token: {} answered with status {status}", grant.token_url),
            sent: true,
        }),
        status => {
            let reason = reason_of(&body).map_or_else(String::new, |reason| format!(": {reason}"));
            Err(config_error(format!("OAuth2 token: {} answered with status {status}{reason}", grant.token_url)))
        }
    }
}

/// RFC 6749 section 5.2: the error's code. All else in the body may quote the request, so it is not told, nor is what has
/// not the form of a code.
pub(super) fn reason_of(body: &[u8]) -> Option<String> {
    let Value::Object(answer) = miniserde::json::from_str(std::str::from_utf8(body).ok()?).ok()? else { return None };
    match answer.get("error") {
        Some(Value::String(code)) if code.len() <= 40 && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
            Some(code.clone())
        }
        _ => None,
    }
}

/// RFC 6749 section 5.1: the `Authorization` header's value, and the lifetime in milliseconds where one is given.
pub(super) fn token_of(body: &[u8]) -> Option<(String, Option<u64>)> {
    let Value::Object(answer) = miniserde::json::from_str(std::str::from_utf8(body).ok()?).ok()? else { return None };
    let text = |key: &str| match answer.get(key) {
        Some(Value::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let token = text("access_token").filter(|token| !token.is_empty())?;
    let scheme = match text("token_type").unwrap_or("") {
        kind if kind.is_empty() || kind.eq_ignore_ascii_case("bearer") => "Bearer",
        kind if kind.eq_ignore_ascii_case("mac") => "MAC",
        kind if kind.eq_ignore_ascii_case("basic") => "Basic",
        kind => kind,
    };
    let seconds = match answer.get("expires_in") {
        Some(Value::Number(Number::U64(seconds))) => Some(*seconds),
        Some(Value::Number(Number::F64(seconds))) => Some(*seconds as u64),
        // Some servers send the number as text.
        Some(Value::String(seconds)) => seconds.parse().ok(),
        _ => None,
    };
    let lifetime_ms = seconds.filter(|seconds| *seconds > 0).map(|seconds| seconds.saturating_mul(1000));
    Some((format!("{scheme} {token}"), lifetime_ms))
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

fn field(form: &mut String, name: &str, value: &str) {
    form.push('&');
    escape(form, name);
    form.push('=');
    escape(form, value);
}

/// `application/x-www-form-urlencoded`
fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
}

fn config_error(text: String) -> NetError {
    NetError { kind: NetErrorKind::Config, text, sent: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_escaped_as_forms() {
        let mut out = String::new();
        escape(&mut out, "a b&ü~+");
        assert_eq!(out, "a+b%26%C3%BC~%2B");
    }

    #[test]
    fn only_a_code_is_told_of_a_refusal() {
        let reason = |text: &str| reason_of(text.as_bytes());
        let answer = r#"{"error":"invalid_client","error_description":"secret s3cret is wrong"}"#;
        assert_eq!(reason(answer).as_deref(), Some("invalid_client"));
        for bad in ["", "[]", r#"{"error":"the secret s3cret is wrong"}"#, r#"{"error":1}"#] {
            assert_eq!(reason(bad), None, "{bad}");
        }
    }

    #[test]
    fn token_answers() {
        let token = |text: &str| token_of(text.as_bytes());
        let bearer = Some(("Bearer t".to_owned(), Some(60_000)));
        assert_eq!(token(r#"{"access_token":"t","token_type":"bearer","expires_in":60,"extra":[]}"#), bearer);
        assert_eq!(token(r#"{"access_token":"t","expires_in":"60"}"#), bearer);
        assert_eq!(token(r#"{"access_token":"t","token_type":"Odd"}"#), Some(("Odd t".to_owned(), None)));
        assert_eq!(token(r#"{"access_token":"t","expires_in":0}"#), Some(("Bearer t".to_owned(), None)));
        for bad in ["", "{}", "[]", r#"{"access_token":""}"#, r#"{"access_token":1}"#] {
            assert_eq!(token(bad), None, "{bad}");
        }
    }
}
