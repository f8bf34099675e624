//! Scenarios with a known course: what happens is written in the test's name.

mod bodies;
mod clocks;
mod disks;
mod links;
mod restarts;
mod targets;
mod troubles;
