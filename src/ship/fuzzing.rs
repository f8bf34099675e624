//! What the fuzz targets in `fuzz/` call of this room. Builds without debug assertions do not have it.

use super::answer::{self, Rejected, ServiceError};
use super::credentials::{Credentials, Keys, Ready, sts};
use crate::env::{Env, Head};
use crate::model::settings::UploadSettings;

/// The longest text of a service's error, in bytes: code, status and message.
pub const MAX_ERROR_BYTES: usize = answer::MAX_CODE_BYTES + 16 + answer::MAX_MESSAGE_BYTES + 3;

/// Which events a PutLogEvents answer rejects.
pub fn rejected(body: &[u8], events: u32) -> Rejected {
    answer::rejected(body, events)
}

/// An error of a JSON service, or of a query service: its text for people, and what it means.
pub fn service_error(head: &Head, body: &[u8], xml: bool) -> (String, String) {
    let error = if xml { ServiceError::from_xml(head, body) } else { ServiceError::from_json(head, body) };
    (error.to_string(), format!("{:?} {:?}", error.meaning(), error.asked))
}

/// What an AssumeRole answer holds.
#[derive(Debug, PartialEq, Eq)]
pub struct StsKeys {
    /// The key's id.
    pub id: String,
    /// The secret.
    pub secret: String,
    /// The session's token.
    pub token: Option<String>,
    /// Milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// How a log would show them.
    pub shown: String,
}

/// The keys in an AssumeRole answer.
pub fn sts_keys(body: &[u8]) -> Option<StsKeys> {
    let keys = sts::keys(body)?;
    let shown = format!("{keys:?}");
    let Keys { id, secret, token, expires_ms } = keys;
    Some(StsKeys { id, secret, token, expires_ms, shown })
}

/// Reads the profile files and says, as the log would, what came of them.
pub fn credentials(settings: &UploadSettings, env: Env<'_>) -> String {
    let mut credentials = Credentials::new(settings);
    credentials.look(env, 0);
    match credentials.ready(0, 0) {
        Ready::Missing(text) => text.to_owned(),
        ready => format!("{ready:?} {:?}", credentials.source()),
    }
}
