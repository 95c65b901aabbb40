//! The engine: runs MLX-format models with speculative decoding on a thread of its own. Tokens, text and timelines leave
//! it, nothing else; HTTP and runs are other crates' business.

#[cfg(feature = "mlx")]
mod accept;
mod admission;
#[cfg(feature = "mlx")]
mod answer;
pub mod backend;
#[cfg(feature = "mlx")]
mod cache;
#[cfg(feature = "mlx")]
mod call;
#[cfg(feature = "mlx")]
mod checkpoint;
#[cfg(feature = "mlx")]
mod conversation;
#[cfg(feature = "mlx")]
mod draft;
#[cfg(feature = "mlx")]
mod engine;
pub mod error;
pub mod fake;
pub mod fit;
#[cfg(feature = "mlx")]
mod gain;
#[cfg(feature = "mlx")]
mod linear;
#[cfg(feature = "mlx")]
mod logprob;
#[cfg(feature = "mlx")]
mod lookup;
#[cfg(feature = "mlx")]
mod memory;
#[cfg(feature = "mlx")]
mod model;
#[cfg(feature = "mlx")]
mod pace;
#[cfg(feature = "mlx")]
mod prefix;
#[cfg(feature = "mlx")]
mod reasoning;
mod reply;
#[cfg(feature = "mlx")]
mod sampler;
#[cfg(feature = "mlx")]
mod scheduler;
#[cfg(feature = "mlx")]
mod segments;
#[cfg(feature = "mlx")]
mod speculate;
#[cfg(feature = "mlx")]
mod stop;
#[cfg(feature = "mlx")]
mod template;
#[cfg(feature = "mlx")]
mod threads;
#[cfg(feature = "mlx")]
mod tokenizer;
#[cfg(feature = "mlx")]
mod tools;
#[cfg(all(test, feature = "mlx"))]
mod toy;
#[cfg(feature = "mlx")]
mod worker;

#[cfg(feature = "mlx")]
pub use checkpoint::{Source, refusal};
#[cfg(feature = "mlx")]
pub use engine::{Engine, EngineConfig, MAX_DRAFT_TOKENS};
pub use error::EngineError;
#[cfg(feature = "mlx")]
pub use template::ChatTemplate;
