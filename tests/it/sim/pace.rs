//! Courses of clocks.
