//! Raw bindings to mlx-c on every platform; safe ones are `mlx-rs`'s business.
//!
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

pub mod fused;

pub use bindings::*;

/// The version of MLX that is linked, as `0.32.2`.
pub const MLX_VERSION: &str = env!("MLX_VERSION");

/// Matrix products on the CPU are made by a BLAS written for speed: OpenBLAS on Linux, Accelerate
/// on macOS. Without one, `f32` products are 4 to 40 times slower, and quantised weights beat them.
pub const FAST_BLAS: bool = cfg!(fast_blas);

/// How many threads share one matrix product on the CPU, from now on, in the whole process. Small products are over before a
/// second thread has woken up, and on a busy machine it waits for its turn while the others spin. Does nothing where the
/// BLAS is not OpenBLAS. `OPENBLAS_NUM_THREADS` sets what it begins with.
pub fn set_blas_threads(threads: u8) {
    #[cfg(all(fast_blas, target_os = "linux"))]
    {
        unsafe extern "C" {
            fn scipy_openblas_set_num_threads(threads: std::ffi::c_int);
        }
        // SAFETY: takes any positive number, has a lock of its own, and may be called at any time.
        unsafe { scipy_openblas_set_num_threads(std::ffi::c_int::from(threads.max(1))) }
    }
    #[cfg(not(all(fast_blas, target_os = "linux")))]
    let _: u8 = threads;
}
