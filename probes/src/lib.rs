//! Measuring, as a library: what dwell measures and how it is turned into the account of a run.
//!
//! Pure functions of given times: no async, no sockets, no files but what the host tells of this process, no MLX. Data
//! flows through the modules in this order: [`time`] → [`phase`] → [`timeline`] → [`relay`] → [`call`] → [`trace`] → [`span`] → [`run`] →
//! [`infer`] → [`account`] → [`report`] → [`regression`].

pub mod account;
pub mod cache;
pub mod call;
pub mod category;
pub mod classify;
pub mod error;
pub mod histogram;
pub mod host;
pub mod infer;
pub mod metrics;
pub mod names;
pub mod phase;
pub mod regression;
pub mod relay;
pub mod report;
pub mod run;
pub mod server_times;
pub mod span;
pub mod speculation;
pub mod suite;
pub mod time;
pub mod timeline;
pub mod trace;

#[cfg(test)]
mod sample;
