//! (room under construction)

mod finding;
pub mod prometheus;

pub use finding::{Finding, Severity};
