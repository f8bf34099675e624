//! Sends batches of events to CloudWatch Logs and says what became of each.
//!
//! [`Batch::encode`] makes a body once; [`Shipper::step`] does at most one HTTP exchange for it and tells the caller what to
//! do next. The caller keeps the batch until it is delivered or can never be.
//!
//! ```text
//!              step(batch)
//!                  |
//!   waiting? ------+--> Wait (nothing goes), Hold (only this stream waits)
//!   no date yet,   |        the certificate's dates were refused: ask for `Date` without credentials  --> Progress
//!   no keys yet    |        assume a role                                                               --> Progress
//!                  v
//!            PutLogEvents --ok--> Delivered { rejected }
//!                  | not found --> CreateLogStream --not found--> CreateLogGroup --> CreateLogStream    --> Progress, each
//!                  | our batch is no good --> Split, or Drop when it is one event
//!                  | clock, keys --> corrected or renewed once, at once                                 --> Progress
//!                  | network, throttling, 5xx --> Wait          | policy --> Hold
//! ```
//!
//! PutLogEvents has no deduplication: a retry after a lost answer stores a batch twice. So a batch is small, is never sent
//! twice for want of time, and is the same to the byte on every retry.
//!
//! Limits: answers of 64 KiB; waits of 10 s in the first ten minutes of an outage and 60 s later; renewed keys and created
//! streams at most once a minute and once in 5 s; 1,000 streams that wait by themselves.
//!
//! Refuses: knowing scrapes, metrics and the spool; dropping anything for the network's, the service's or a policy's sake;
//! probing instance metadata.

mod answer;
mod backoff;
mod batch;
mod body;
mod credentials;
mod endpoint;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod fuzzing;
mod press;
mod request;
mod shipper;
mod sign;
mod skew;
mod status;

pub use answer::Rejected;
pub use batch::{Batch, billed};
pub use shipper::{Shipper, Step};
pub use status::{Trouble, UploadStatus};
