//! Where an event goes.

/// A log group and a log stream in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// The log group's name.
    pub group: String,
    /// The log stream's name.
    pub stream: String,
}
