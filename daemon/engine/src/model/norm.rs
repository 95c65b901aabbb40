//! Rows over their root mean square, by the fused kernel or, where there is none, in as few operations as possible.

use mlx_rs::{Array, fast, ops};

use super::fused;
use crate::checkpoint::config::{ModelConfig, Norms};
use crate::error::Result;
use crate::linear::{Device, Loader};

/// The norm of rows of one length.
#[derive(Debug)]
pub(super) enum RmsNorm {
    /// A column of 1 / length, a product with which is the mean, and what is added to it.
    Cpu { mean: Array, eps: Array },
    /// What is added to the mean, in one operation of ours.
    Fused { eps: f32 },
    /// The same in one of MLX's.
    Gpu { eps: f32 },
}

impl RmsNorm {
    pub(super) fn new(device: Device, length: i32, eps: f32) -> Result<Self> {
        Ok(match device {
            Device::Cpu if fused::are_here() => Self::Fused { eps },
            Device::Cpu => Self::Cpu {
                mean: ops::full::<f32>(&[length, 1], Array::from_f32(1.0 / length as f32))?,
                eps: Array::from_slice(&[eps], &[1, 1]),
            },
            Device::Gpu => Self::Gpu { eps },
        })
    }

    /// What is added to the mean, where parts of a layer are one operation.
    pub(super) const fn fused(&self) -> Option<f32> {
        match self {
            Self::Fused { eps } => Some(*eps),
            _ => None,
        }
    }

    /// Each row of `x` over its root mean square, times `weight` unless the next matrix has taken that in.
    pub(super) fn apply(&self, x: &Array, weight: Option<&Array>) -> Result<Array> {
        match self {
            Self::Fused { eps } => fused::norm(x, weight, *eps),
            Self::Gpu { eps } => Ok(fast::rms_norm(x, weight, *eps)?),
            Self::Cpu { mean, eps } => {
                let mean_square = ops::addmm(eps, ops::square(x)?, mean, None, None)?;
                let normed = ops::multiply(x, ops::rsqrt(mean_square)?)?;
                weight.map_or(Ok(normed.clone()), |weight| Ok(ops::multiply(&normed, weight)?))
            }
        }
    }
}

/// A norm's weight, as what it stands for.
pub(super) fn weight(
    loader: Loader<'_>,
    config: &ModelConfig,
    path: &str,
    length: i32,
) -> Result<Array> {
    let weight = loader.vector(&format!("{path}.weight"), length)?;
    match config.norms {
        Norms::Before => Ok(weight),
        Norms::AroundPlusOne => {
            let one = Array::from_f32(1.0).as_dtype(weight.dtype())?;
            Ok(ops::add(one, weight)?)
        }
    }
}
