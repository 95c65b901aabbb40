//! The route `/v1/chat/completions`: [`Request`] and the replies [`Response`] and [`Stream`] for those who serve it,
//! [`Answer`] for those who call it.

mod answer;
mod reply;
mod request;

pub use answer::Answer;
pub use reply::{Response, Stream};
pub use request::{Request, ToolChoice};
pub(super) use request::{read_include_usage, read_model};
