//! Secrets and certificates that lie in files.

use super::patience::failure;
use crate::env::{Disk, NetError, NetErrorKind, RealDisk, Stamp};
use crate::model::settings::Secret;

/// More than any certificate bundle holds.
const MAX_FILE_BYTES: u64 = 2 << 20;

/// The secret itself, white space around it taken off.
pub(super) fn reveal(secret: &Secret, what: &str) -> Result<String, NetError> {
    match secret {
        Secret::Inline(text) => Ok(text.trim().to_string()),
        Secret::File(_) => {
            let bytes = contents(secret, what)?;
            let text =
                String::from_utf8(bytes).map_err(|_| failure(NetErrorKind::Config, format!("{what}: not UTF-8")))?;
            Ok(text.trim().to_string())
        }
    }
}

/// The bytes as they are.
pub(super) fn contents(secret: &Secret, what: &str) -> Result<Vec<u8>, NetError> {
    match secret {
        Secret::Inline(text) => Ok(text.clone().into_bytes()),
        Secret::File(path) => RealDisk
            .read(path, MAX_FILE_BYTES)
            .map_err(|error| failure(NetErrorKind::Config, format!("{what}: {}: {error}", path.display()))),
    }
}

/// Changes when the file does; the same for ever for a secret that is not in a file.
pub(super) fn stamp(secret: Option<&Secret>) -> Stamp {
    match secret {
        Some(Secret::File(path)) => RealDisk.stat(path).unwrap_or_default(),
        _ => Stamp::default(),
    }
}
