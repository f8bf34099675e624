//! What the fuzz targets in `fuzz/` call of this room. Builds without debug assertions do not have it.

use super::groups;
use crate::model::settings::TargetGroup;

/// A list of target groups in JSON.
pub fn from_json(bytes: &[u8]) -> Result<Vec<TargetGroup>, String> {
    groups::from_json(bytes)
}

/// A list of target groups in YAML.
pub fn from_yaml(bytes: &[u8]) -> Result<Vec<TargetGroup>, String> {
    groups::from_yaml(bytes)
}
