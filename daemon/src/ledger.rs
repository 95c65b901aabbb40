//! The runs: one task owns them, everybody else sends it closed enums and reads immutable snapshots. It knows the measuring
//! vocabulary and nothing of HTTP, SQLite or OTLP: what it concludes leaves through channels.

mod book;
mod entry;
mod event;
mod handle;
mod hear;
mod meter;
mod outlets;
mod stitch;
#[cfg(test)]
mod tests;
mod work;

pub use event::{
    Arrival, Departure, Event, Link, Record, RunDeclared, RunKeys, Snapshot, Spans, Unread,
};
pub use handle::{Handle, Ledger, Place, Room, Running};
pub use outlets::Outlets;
