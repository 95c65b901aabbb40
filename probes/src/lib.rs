//! Measuring, as a library: what dwell measures and how it is turned into the account of a run.
//!
//! Pure functions of given times: no async, no sockets, no files but the suites compiled in, no MLX. Modules stand in the
//! order in which data flows: [`time`] → [`phase`] → [`timeline`] → [`span`] → [`call`] → [`run`] → [`account`].

pub mod account;
pub mod call;
pub mod category;
pub mod classify;
pub mod names;
pub mod phase;
pub mod run;
pub mod span;
pub mod speculation;
pub mod time;
pub mod timeline;
