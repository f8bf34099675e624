//! Everything that is tested from outside the library, in one crate so that it is linked once.

mod baselines_golden;
mod cloudwatch;
mod configuration;
mod convert;
mod differential_relabel;
mod golden;
mod hands;
mod host;
mod net;
mod net_dns;
mod net_hostile;
mod net_proxy;
mod net_tls;
mod scrape;
mod ship;
mod ship_over_tcp;
mod sim;
mod sim_disk;
mod spool;
mod spool_bench;
mod spool_books;
mod spool_crash;
mod spool_export;
mod spool_golden;
mod spool_model;
mod tidy;
