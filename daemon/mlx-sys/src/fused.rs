//! Parts of a transformer's layer as one operation each, for rows of 32-bit numbers on CPUs, where `mlx-c` has dozens. What
//! they compute is said in `shim/fused.h`.

use std::ffi::{c_float, c_int, c_uint};

use crate::{mlx_array, mlx_stream};

/// How the rows of one pass attend.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Heads of queries.
    pub heads: c_int,
    /// Heads of keys and values: as many, or a part of them.
    pub kv_heads: c_int,
    /// Numbers in a head.
    pub length: c_int,
    /// Not 0: neighbours are paired by the rotation, and not halves.
    pub traditional: c_int,
    /// Position of the first row.
    pub start: c_int,
    /// The first position that any row sees.
    pub from: c_int,
    /// Positions that a row sees, its own among them; 0 for all.
    pub window: c_int,
    /// What is added to a head's mean square, where heads are normed.
    pub eps: c_float,
}

/// What is the same for all of a model, and what is wanted of a pass.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// What makes gates factors; see [`fused_gated`].
    pub activation: c_int,
    /// Whose logits are wanted: 0 for none, 1 for the last row's, 2 for all.
    pub wanted: c_int,
    /// What is added to the mean square of a row.
    pub eps: c_float,
    /// What the embedding's rows are multiplied by.
    pub embedding_factor: c_float,
    /// What logits are multiplied by.
    pub logits_factor: c_float,
}

/// Whether this build has them; without them the functions here fail.
pub const HERE: bool = cfg!(all(fast_blas, target_os = "linux"));

/// Declares functions of the shim, and, where it is not linked, such that fail.
macro_rules! functions {
    ($($(#[doc = $doc:expr])* fn $name:ident($($argument:ident: $of:ty),* $(,)?);)*) => {
        #[cfg(all(fast_blas, target_os = "linux"))]
        unsafe extern "C" {
            $($(#[doc = $doc])* pub fn $name($($argument: $of),*) -> c_int;)*
        }
        $(
            #[cfg(not(all(fast_blas, target_os = "linux")))]
            $(#[doc = $doc])*
            #[must_use]
            pub unsafe fn $name($($argument: $of),*) -> c_int {
                let _ = ($($argument,)*);
                1
            }
        )*
    };
}

/// Whether matrices may be of 16 bits (IEEE 754 binary16) where [`HERE`]: this processor widens them as it reads them.
#[must_use]
pub fn takes_16_bits() -> bool {
    #[cfg(all(fast_blas, target_os = "linux"))]
    {
        unsafe extern "C" {
            safe fn products_of_16_bits() -> c_int;
        }
        products_of_16_bits() != 0
    }
    #[cfg(not(all(fast_blas, target_os = "linux")))]
    false
}

functions! {
    /// Rows over their root mean square, times `weight` unless that is no array. Returns 0, or tells the error handler.
    ///
    /// # Safety
    /// Every handle must be alive, of 32-bit numbers, and `result` one to write to.
    fn fused_norm(
        result: *mut mlx_array,
        x: mlx_array,
        weight: mlx_array,
        eps: c_float,
        stream: mlx_stream,
    );

    /// The first halves of rows, activated (0: SiLU, 1: GELU by tanh), times their second halves. Returns 0, or tells the error handler.
    ///
    /// # Safety
    /// Every handle must be alive, of 32-bit numbers in an even last axis, and `result` one to write to.
    fn fused_gated(
        result: *mut mlx_array,
        both: mlx_array,
        activation: c_int,
        stream: mlx_stream,
    );

    /// What rows attend to. Takes 7 arrays: rows of queries, keys and values side by side; the buffers of keys and of values,
    /// `[kv heads, capacity, length]`, which are written to where they lie; cosines and signed sines by row, those of the first row at
    /// `first`; the weights of the heads' norm or none; what has to be computed before, or none. Returns 0, or tells the error handler.
    ///
    /// # Safety
    /// `input` must point to `count` handles of 32-bit numbers in these shapes, with room in the buffers behind `start`, and
    /// `result` be one to write to. Whoever reads the buffers has to wait for the result before.
    fn fused_mix(
        result: *mut mlx_array,
        input: *const mlx_array,
        count: c_int,
        how: *const Attention,
        first: c_int,
        stream: mlx_stream,
    );

    /// Rows and what attention adds to them. Takes 11 arrays: the rows; the matrix of queries, keys and values and its bias or none; that of
    /// the output and its bias or none; the last six of [`fused_mix`]. Returns 0, or tells the error handler.
    ///
    /// # Safety
    /// As for [`fused_mix`].
    fn fused_whole_attention(
        result: *mut mlx_array,
        input: *const mlx_array,
        count: c_int,
        how: *const Attention,
        first: c_int,
        eps: c_float,
        stream: mlx_stream,
    );

    /// Rows and what the feed-forward part adds to them. Takes 5 arrays: the rows; the matrix of gate and up and its bias or none; that
    /// of down and its bias or none. Returns 0, or tells the error handler.
    ///
    /// # Safety
    /// `input` must point to `count` handles of 32-bit numbers in these shapes, and `result` be one to write to.
    fn fused_whole_mlp(
        result: *mut mlx_array,
        input: *const mlx_array,
        count: c_int,
        activation: c_int,
        eps: c_float,
        stream: mlx_stream,
    );

    /// A model as a whole, from token ids to logits. Takes 6 arrays: ids, the embedding, the last norm's weight, the head's matrix and
    /// its bias or none, what has to be computed before or none; and 13 for each layer: those of [`fused_whole_attention`] but the
    /// first and the last, and those of [`fused_whole_mlp`] but the first. Returns 0, or tells the error handler.
    ///
    /// # Safety
    /// As for [`fused_mix`]; `how` and `first` must point to one for each of `layers`.
    fn fused_whole_model(
        result: *mut mlx_array,
        input: *const mlx_array,
        count: c_int,
        how: *const Attention,
        first: *const c_int,
        layers: c_int,
        manner: *const Manner,
        stream: mlx_stream,
    );

    /// The same for `rows` tokens, which stand in the place of the first array, computed by the calling thread before it returns: of each
    /// row that is wanted, which of the first `among` logits is the largest. With `steps` above 0 so many tokens, each the likeliest
    /// behind the one before, the first behind the last row, the only one that may be wanted; no row may be limited by a window then.
    /// Waits for arrays that are not computed yet. Returns 0, or tells the error handler.
    ///
    /// # Safety
    /// As for [`fused_whole_model`]; `tokens` must point to as many as there are rows, `likeliest` to as many as come; buffers and
    /// rotations must have room for all of them but the last.
    fn fused_likeliest(
        likeliest: *mut c_uint,
        tokens: *const c_uint,
        rows: c_int,
        input: *const mlx_array,
        count: c_int,
        how: *const Attention,
        first: *const c_int,
        layers: c_int,
        manner: *const Manner,
        among: c_int,
        steps: c_int,
    );
}
