#![doc = include_str!("../README.md")]

/// Bindings that bindgen wrote from mlx-c's headers.
mod bindings {
    #![allow(
        missing_docs,
        missing_debug_implementations,
        non_camel_case_types,
        non_snake_case,
        non_upper_case_globals,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::undocumented_unsafe_blocks,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;

/// The version of MLX that is linked, as `0.32.2`.
pub const MLX_VERSION: &str = env!("MLX_VERSION");

/// Matrix products on the CPU are made by a BLAS written for speed: OpenBLAS on Linux, Accelerate
/// on macOS. Without one, `f32` products are 4 to 40 times slower, and quantised weights beat them.
pub const FAST_BLAS: bool = cfg!(fast_blas);
