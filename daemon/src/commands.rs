//! The commands: what each does with its arguments. Every command takes its arguments and where the store is, and returns
//! the exit code; errors are told by `main`.

pub mod bench;
pub mod demo;
pub mod run;
pub mod runs;
pub mod serve;
pub mod where_;
