//! Reading version 1 of the format: every event that it wrote comes back byte by byte, for ever.
//!
//! For spools, exports and backlogs from before version 2. Refuses to write: what is appended is of the present version.
//! Limits: as the format's; templates of one segment take at most 4 MiB.

mod record;
mod shape;

pub use record::{Decoded, decode};
pub use shape::Templates;
