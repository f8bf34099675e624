//! promwatch scrapes Prometheus exporters on small Linux boxes and writes the samples, as the Amazon CloudWatch agent
//! would, to CloudWatch Logs. When the link is down it parks them in a bounded spool on disk.
//!
//! In scope: the agent's `logs.metrics_collected.prometheus`, the Prometheus configuration it names, the delivery.
//! Out of scope, for good: log tailing, traces, StatsD and collectd, alert rules, PromQL, a query API, plugins, service
//! discovery of Kubernetes and ECS, Windows.
//!
//! Data goes one way, and `agent` carries it from room to room:
//!
//! ```text
//! config -> discovery -> relabel -> scrape -> convert -> (live lane | spool) -> ship
//! ```

pub mod agent;
pub mod cli;
pub mod clock;
pub mod config;
pub mod convert;
pub mod deflate;
pub mod discovery;
pub mod env;
pub mod gzip;
pub mod host;
pub mod logger;
pub mod model;
pub mod notify;
pub mod pattern;
pub mod profile;
pub mod relabel;
pub mod scrape;
pub mod ship;
pub mod spool;
pub mod yaml;
