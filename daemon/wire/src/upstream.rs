//! Other servers' APIs, as seen by somebody who passes their bytes on: which API a path belongs to, what a request asks, what an
//! answer says. All of it is read from copies, generously: what cannot be read is counted and never anybody's error.
//!
//! [`Api`] tells the APIs apart, [`Asked`] is a request as facts, [`Reader`] turns an answer's bytes into [`Facts`] as they
//! come, however they are cut, [`refusal()`] writes errors in each API's own form, and [`ModelName`] finds the one field of a
//! request by which it is routed before the rest has arrived.

mod anthropic;
mod api;
mod ask;
mod facts;
mod figures;
mod lines;
mod lmstudio;
mod model_name;
mod ollama;
mod openai;
mod reader;
mod refusal;
mod responses;

pub use api::{Api, Form};
pub use ask::Asked;
pub use facts::{Facts, ToolAsked};
pub use figures::header as header_figures;
pub use model_name::{ModelName, Sought};
pub use reader::{Reader, Seen};
pub use refusal::{Problem, refusal};
