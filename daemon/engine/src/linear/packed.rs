//! Quantised weights and their kernels, in every mode that MLX has. `mlx-rs` offers the affine mode only, so the kernels are
//! called through MLX's C interface.

use std::ffi::{CStr, c_int};

use mlx_rs::ops::{self, indexing};
use mlx_rs::{Array, Dtype, Stream};
use mlx_sys::{mlx_array, mlx_optional_dtype, mlx_optional_int};

use crate::checkpoint::quantisation::{Mode, Quantisation};
use crate::error::{EngineError, Result};

/// Packed rows, or those of several matrices with an axis more.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    /// `[..., rows, words]`, 32 bits each.
    pub(super) words: Array,
    /// `[..., rows, groups]`.
    pub(super) scales: Array,
    /// The same shape; only in the affine mode.
    pub(super) biases: Option<Array>,
    /// A factor on all weights that the scales could not take in.
    pub(super) factor: f32,
    pub(super) how: Quantisation,
    /// The type of unpacked numbers; that of the affine mode is its scales'.
    pub(super) unpacked: Option<Dtype>,
}

impl Packed {
    /// The weights times a number. What the affine mode holds is linear in scales and biases.
    pub(super) fn scaled(self, factor: f32) -> Result<Self> {
        let Some(biases) = &self.biases else {
            return Ok(Self { factor: self.factor * factor, ..self });
        };
        let number = Array::from_f32(factor).as_dtype(self.scales.dtype())?;
        let scales = ops::multiply(&self.scales, &number)?;
        let biases = Some(ops::multiply(biases, number)?);
        Ok(Self { scales, biases, ..self })
    }

    /// Several as one, joined by `join`; `None` when they are not held alike.
    pub(super) fn joined(
        parts: &[&Self],
        join: impl Fn(&[&Array]) -> Result<Array>,
    ) -> Result<Option<Self>> {
        let Some((first, others)) = parts.split_first() else { return Ok(None) };
        let alike = |part: &&Self| {
            part.how == first.how
                && (part.factor - first.factor).abs() <= f32::EPSILON
                && part.biases.is_some() == first.biases.is_some()
        };
        if !others.iter().all(alike) {
            return Ok(None);
        }
        let of = |array: fn(&Self) -> Option<&Array>| {
            join(&parts.iter().filter_map(|part| array(part)).collect::<Vec<_>>())
        };
        Ok(Some(Self {
            words: of(|part| Some(&part.words))?,
            scales: of(|part| Some(&part.scales))?,
            biases: match first.biases {
                Some(_) => Some(of(|part| part.biases.as_ref())?),
                None => None,
            },
            ..(*first).clone()
        }))
    }

    /// The rows that `ids` name, unpacked.
    pub(super) fn rows(&self, ids: &Array) -> Result<Array> {
        let take = |array: &Array| indexing::take_axis(array, ids, 0);
        let named = Self {
            words: take(&self.words)?,
            scales: take(&self.scales)?,
            biases: self.biases.as_ref().map(take).transpose()?,
            ..self.clone()
        };
        named.dense()
    }

    /// All weights, unpacked.
    pub(super) fn dense(&self) -> Result<Array> {
        let dtype = mlx_optional_dtype {
            value: mlx_sys::mlx_dtype__MLX_FLOAT32,
            has_value: self.unpacked == Some(Dtype::Float32),
        };
        let dense = self.call(|result, call| {
            #[expect(unsafe_code, reason = "a call into C")]
            // SAFETY: every handle is alive during the call, and `result` is written before it is read.
            unsafe {
                mlx_sys::mlx_dequantize(
                    result,
                    call.words,
                    call.scales,
                    call.biases,
                    call.group_size,
                    call.bits,
                    call.mode.as_ptr(),
                    call.none,
                    dtype,
                    call.stream.as_ptr(),
                )
            }
        })?;
        self.times_factor(dense)
    }

    /// `x`, rows of activations, times the transposed weights.
    pub(super) fn product(&self, x: &Array) -> Result<Array> {
        let product = self.call(|result, call| {
            #[expect(unsafe_code, reason = "a call into C")]
            // SAFETY: every handle is alive during the call, and `result` is written before it is read.
            unsafe {
                mlx_sys::mlx_quantized_matmul(
                    result,
                    x.as_ptr(),
                    call.words,
                    call.scales,
                    call.biases,
                    true,
                    call.group_size,
                    call.bits,
                    call.mode.as_ptr(),
                    call.stream.as_ptr(),
                )
            }
        })?;
        self.times_factor(product)
    }

    /// The same with one of several matrices for each place of `x`; see [`super::Linear::forward_chosen`].
    pub(super) fn chosen_products(
        &self,
        x: &Array,
        chosen: &Array,
        ordered: bool,
    ) -> Result<Array> {
        let product = self.call(|result, call| {
            #[expect(unsafe_code, reason = "a call into C")]
            // SAFETY: every handle is alive during the call, and `result` is written before it is read.
            unsafe {
                mlx_sys::mlx_gather_qmm(
                    result,
                    x.as_ptr(),
                    call.words,
                    call.scales,
                    call.biases,
                    call.none,
                    chosen.as_ptr(),
                    true,
                    call.group_size,
                    call.bits,
                    call.mode.as_ptr(),
                    ordered,
                    call.stream.as_ptr(),
                )
            }
        })?;
        self.times_factor(product)
    }

    /// Everything that is held.
    pub(super) fn arrays(&self) -> Vec<&Array> {
        [&self.words, &self.scales].into_iter().chain(&self.biases).collect()
    }

    fn times_factor(&self, x: Array) -> Result<Array> {
        if (self.factor - 1.0).abs() <= f32::EPSILON {
            return Ok(x);
        }
        let factor = Array::from_f32(self.factor).as_dtype(x.dtype())?;
        Ok(ops::multiply(x, factor)?)
    }

    /// Hands `kernel` what all kernels take.
    fn call(&self, kernel: impl FnOnce(*mut mlx_array, &Kernel) -> c_int) -> Result<Array> {
        let known = |value: i32| mlx_optional_int { value, has_value: true };
        let none = no_array();
        let mode = match self.how.mode {
            Mode::Affine => c"affine",
            Mode::Mxfp4 => c"mxfp4",
            Mode::Mxfp8 => c"mxfp8",
            Mode::Nvfp4 => c"nvfp4",
        };
        let call = Kernel {
            words: self.words.as_ptr(),
            scales: self.scales.as_ptr(),
            biases: self.biases.as_ref().map_or(none, Array::as_ptr),
            none,
            group_size: known(self.how.group_size),
            bits: known(self.how.bits),
            mode,
            stream: Stream::thread_local_or_default(),
        };
        let mut result = no_array();
        if kernel(&raw mut result, &call) != 0 {
            let how = format!("{:?}", self.how);
            return Err(EngineError::Mlx(format!(
                "a product with weights quantised as {how} failed"
            )));
        }
        #[expect(unsafe_code, reason = "a handle becomes an array")]
        // SAFETY: the kernel succeeded, so the handle is that of a new array which nobody else owns.
        Ok(unsafe { Array::from_ptr(result) })
    }
}

/// What all kernels take.
struct Kernel {
    words: mlx_array,
    scales: mlx_array,
    biases: mlx_array,
    none: mlx_array,
    group_size: mlx_optional_int,
    bits: mlx_optional_int,
    mode: &'static CStr,
    stream: Stream,
}

/// The handle that stands for no array; nothing has to be freed.
fn no_array() -> mlx_array {
    mlx_array { ctx: std::ptr::null_mut() }
}
