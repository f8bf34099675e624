//! The whole agent in a simulation: time, disk and network are made here, one seed decides everything.
//!
//! A [`Device`] has exporters whose every event can be told from every other, a link that can be up, down, black-holed or
//! slow, a strict CloudWatch Logs behind it that keeps a receipt of every body, a disk that forgets, a clock that lies and
//! steps. [`Device::step`] lets the agent do one unit of work and has the [`Watch`] compare its counts with the receipts;
//! between any two units, and in the middle of a request, a test may kill the process, cut the power or set the clock. What
//! must hold at the end is in [`verdict`].

#![allow(dead_code)] // a stock of events: not every scenario uses all of them

mod clock;
mod courses;
mod device;
mod exporter;
mod golden;
mod net;
mod pace;
mod scenarios;
mod seeds;
mod truth;
mod verdict;
mod watch;

pub use clock::{BEGIN_MS, BootClock, DAY_MS, HOUR_MS, RIGHT_MS};
pub use device::{Device, agent_json, prometheus};
pub use exporter::Exporter;
pub use net::Link;
pub use verdict::each;
pub use watch::{End, Watch};

/// The endpoint in every simulation.
pub const ENDPOINT: &str = "http://logs.sim";
/// The log group in every simulation.
pub const GROUP: &str = "/sim/prom";
/// promwatch's settings in most simulations.
pub const STATE: &str = r#"{"state_dir": "/state"}"#;
