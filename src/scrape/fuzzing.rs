//! What the fuzz targets in `fuzz/` call of this room. Builds without debug assertions do not have it.

use super::exposition::Format;
use super::{content_type, textfile};
use crate::env::Env;
use crate::model::settings::ScrapeProtocol;
use std::path::Path;

/// The page that a folder of `*.prom` files makes, and what was left out of it.
pub fn textfile_page(dir: &Path, env: Env<'_>) -> (Vec<u8>, Vec<String>) {
    let (mut page, mut problems) = (Vec::new(), Vec::new());
    textfile::read(dir, env, &mut problems, &mut |piece| page.extend_from_slice(piece));
    (page, problems)
}

/// The format that a `Content-Type` names.
pub fn format_of(content_type: &str) -> Result<Format, &'static str> {
    content_type::format_of(Some(content_type), ScrapeProtocol::Text004)
}
