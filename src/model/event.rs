//! What goes to CloudWatch Logs.

use std::rc::Rc;

/// A log group and a log stream in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// The log group's name.
    pub group: String,
    /// The log stream's name.
    pub stream: String,
}

/// One log event, finished: from here on it is bytes and a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where it goes.
    pub key: Rc<StreamKey>,
    /// The event's time, milliseconds since 1970; the message's own `Timestamp` says the same.
    pub timestamp_ms: i64,
    /// The exposition gave the time: it is never moved when the clock turns out to have been wrong.
    pub own_time: bool,
    /// The JSON object.
    pub message: String,
}

impl Event {
    /// What CloudWatch Logs adds to each message when it sums up an event or a batch, in bytes (PutLogEvents, API reference).
    pub const OVERHEAD_BYTES: usize = 26;

    /// What the event counts against the limits of an event and of a batch, in bytes.
    pub fn billed_bytes(&self) -> usize {
        self.message.len() + Self::OVERHEAD_BYTES
    }
}
