//! What the fuzz targets in `fuzz/` call of this room. Builds without debug assertions do not have it.

use crate::agent::status::Status;

/// What `promwatch status` prints of a status file; nothing for one that it refuses.
pub fn status_text(file: &str) -> Option<String> {
    let status = miniserde::json::from_str::<Status>(file).ok()?;
    Some(super::status::describe(&status).0)
}
