//! Plain data that every room shares: labels, samples, events, settings.
//!
//! Refuses: input and output of any kind, clocks, policy. Everything here can be built in a test with a literal.

pub mod batch;
mod duration;
mod event;
mod labels;
mod number;
mod ranges;
mod sample;
pub mod settings;
mod shown;
mod target;

pub use duration::{format_duration, parse_duration_ms, parse_size};
pub use event::{Event, StreamKey};
pub use labels::{Labels, LabelsBuilder};
pub use number::push_integer;
pub use ranges::{Ranges, order_by_key};
pub use sample::{MetricType, Page, Report, Sample};
pub use shown::{NAME_BYTES_MAX, TEXT_BYTES_MAX, push_shown, short};
pub use target::{Endpoint, Target};
