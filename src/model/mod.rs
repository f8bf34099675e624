//! Plain data that every room shares: labels, samples, layouts and their numbers, settings.
//!
//! Refuses: input and output of any kind, clocks, policy. Everything here can be built in a test with a literal.

pub mod batch;
mod duration;
pub mod index;
mod intake;
pub mod json;
mod labels;
mod layout;
mod message;
mod number;
mod ranges;
mod sample;
pub mod settings;
mod shown;
mod stream;
mod target;

pub use duration::{format_duration, parse_duration_ms, parse_size};
pub use intake::{Intake, PAGE_BYTES_MAX, PageIntake, page_too_large};
pub use labels::{Labels, LabelsBuilder};
pub use layout::{Event, Form, LabelValues, Layout, Marks, Piece, Shape, ShapeBuilder};
pub use number::{DECIMAL_BYTES_MAX, Digits, decimal_bytes, integer_bytes, push_decimal, push_integer};
pub use ranges::{Ranges, order_by_key};
pub use sample::{MetricType, Page, Report, Sample};
pub use shown::{NAME_BYTES_MAX, TEXT_BYTES_MAX, push_shown, short};
pub use stream::StreamKey;
pub use target::{Endpoint, Target};
