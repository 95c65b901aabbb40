//! The engine: runs MLX-format models with speculative decoding on a thread of its own. Tokens, text and timelines leave
//! it, nothing else; HTTP and runs are other crates' business.

mod admission;
pub mod backend;
pub mod fake;
mod reply;
