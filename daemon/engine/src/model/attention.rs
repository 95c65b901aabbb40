//! The attention of a layer, from the norm before it to the sum with what came in. How scores are computed differs by device.

mod cpu;
mod gpu;

use mlx_rs::{Array, ops};

use super::fused::{self, Attending};
use super::norm::{self, RmsNorm};
use super::positions::{Step, Turn};
use super::residual::Residual;
use super::stacked::{Parts, Stacked};
use crate::cache::{KvCache, Layer as Buffers};
use crate::checkpoint::config::Layer;
use crate::error::{EngineError, Result};
use crate::linear::{Device, Loader};

/// Queries, keys and values in one product where they are held alike, and the product that brings the heads together.
#[derive(Debug)]
pub(super) struct Attention {
    qkv: Stacked,
    mixing: Mixing,
    output: Residual,
}

/// What happens between the two products.
#[derive(Debug)]
struct Mixing {
    heads: i32,
    kv_heads: i32,
    length: i32,
    /// Factor on the scores that the fused kernels apply; elsewhere the queries have it already.
    scale: f32,
    norm: Option<HeadNorm>,
    layer: Layer,
}

/// The norm of every head of queries and keys.
#[derive(Debug)]
struct HeadNorm {
    norm: RmsNorm,
    /// What is added to the mean square.
    eps: f32,
    /// By head: `[heads, 1, length]` for the fused kernels, else with the last axis in the form of the rotation.
    weight: Array,
}

impl Attention {
    /// The attention of the layer at the module `at`, behind the norm `before`, and perhaps with another behind it.
    pub(super) fn load(
        loader: Loader<'_>,
        at: &str,
        layer: Layer,
        (before, behind): (&str, Option<&str>),
    ) -> Result<Self> {
        let config = &loader.checkpoint.config;
        let attention = &config.attention;
        let (hidden, length) = (config.hidden_size, attention.head_dim);
        let (queries, keys) = (attention.heads * length, attention.kv_heads * length);
        // The fused kernels scale the scores themselves.
        let scale = match loader.storage.device {
            Device::Cpu => attention.scale,
            Device::Gpu => 1.0,
        };
        let query_scale = if attention.head_norms { 1.0 } else { scale };
        let qkv = Parts {
            norm: before,
            matrices: &[
                (format!("{at}.q_proj"), queries, query_scale),
                (format!("{at}.k_proj"), keys, 1.0),
                (format!("{at}.v_proj"), keys, 1.0),
            ],
            columns: hidden,
            bias: attention.bias,
        };
        let norm =
            attention.head_norms.then(|| HeadNorm::load(loader, at, layer, scale)).transpose()?;
        let output = (format!("{at}.o_proj"), hidden, queries, attention.output_bias);
        Ok(Self {
            qkv: Stacked::load(loader, &qkv)?,
            mixing: Mixing {
                heads: attention.heads,
                kv_heads: attention.kv_heads,
                length,
                scale: attention.scale,
                norm,
                layer,
            },
            output: Residual::load(loader, &output, behind)?,
        })
    }

    /// `x` and what attention adds to it, over the cached layer.
    pub(super) fn forward(
        &self,
        x: &Array,
        norm: &RmsNorm,
        step: &Step<'_>,
        cache: (&mut KvCache, usize),
    ) -> Result<Array> {
        if let Some(eps) = norm.fused() {
            let (cache, layer) = cache;
            let (kv_heads, length) = self.heads();
            let start = cache.len();
            let lent = cache.lend(layer, (kv_heads, x.dim(0), length))?;
            if let Some(attending) = self.attending(step, start, lent) {
                if let Some((qkv, output)) = self.alone() {
                    return attending.whole(x, eps, qkv, output);
                }
                let mixed = attending.mix(&self.qkv.forward(x, norm)?)?;
                return self.output.onto(x, &mixed, norm);
            }
            return Err(EngineError::Mlx("fused sums are for CPUs".to_owned()));
        }
        let view = step.view(self.mixing.layer.sliding);
        let qkv = self.qkv.forward(x, norm)?;
        let mixed = match step.turn(self.mixing.layer.rope) {
            Turn::Cpu { turns, traditional } => {
                cpu::attend(&self.mixing, (turns, *traditional), view, &qkv, cache)?
            }
            Turn::Gpu { kernel, start } => {
                gpu::attend(&self.mixing, (kernel, *start), view, &qkv, cache)?
            }
        };
        self.output.onto(x, &mixed, norm)
    }

    /// The matrices before and behind what attends, where each does all that is to be done there.
    pub(super) fn alone(&self) -> Option<(fused::Matrix<'_>, fused::Matrix<'_>)> {
        self.qkv.alone().zip(self.output.alone())
    }

    /// See [`crate::linear::Linear::halve`].
    pub(super) fn halve(&mut self) -> Result<()> {
        self.qkv.halve()?;
        self.output.halve()
    }

    /// What attends between them over buffers that were lent, from `start` on; `None` on GPUs.
    pub(super) fn attending<'a>(
        &'a self,
        step: &'a Step<'_>,
        start: i32,
        lent: (&'a Buffers, Option<&'a Array>),
    ) -> Option<Attending<'a>> {
        let Turn::Cpu { turns, traditional } = step.turn(self.mixing.layer.rope) else {
            return None;
        };
        let view = step.view(self.mixing.layer.sliding);
        Some(cpu::attending(&self.mixing, (turns, *traditional), (view, start), lent))
    }

    /// Key heads, and numbers in a head.
    pub(super) const fn heads(&self) -> (i32, i32) {
        (self.mixing.kv_heads, self.mixing.length)
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.qkv.arrays();
        arrays.extend(self.output.arrays());
        arrays.extend(self.mixing.norm.iter().map(|norm| &norm.weight));
        arrays
    }
}

impl HeadNorm {
    /// `scale` goes into the weights of the queries.
    fn load(loader: Loader<'_>, at: &str, layer: Layer, scale: f32) -> Result<Self> {
        let config = &loader.checkpoint.config;
        let (attention, length) = (&config.attention, config.attention.head_dim);
        let device = loader.storage.device;
        let weight = |name: &str, heads: i32, scale: f32| {
            let weight = norm::weight(loader, config, &format!("{at}.{name}"), length)?;
            let scale = Array::from_f32(scale).as_dtype(weight.dtype())?;
            Ok::<_, EngineError>(ops::broadcast_to(
                ops::multiply(weight, scale)?,
                &[heads, 1, length],
            )?)
        };
        let both =
            [weight("q_norm", attention.heads, scale)?, weight("k_norm", attention.kv_heads, 1.0)?];
        let mut weight = ops::concatenate(&both, 0)?;
        if device == Device::Cpu {
            let (outer, inner) = split(length, config.ropes[layer.rope].traditional);
            weight = ops::reshape(&weight, &[weight.dim(0), 1, outer, inner])?;
        }
        Ok(Self { norm: RmsNorm::new(device, length, config.eps)?, eps: config.eps, weight })
    }
}

/// The form of a head whose pairs are halves, or neighbours in the traditional form.
const fn split(length: i32, traditional: bool) -> (i32, i32) {
    if traditional { (length / 2, 2) } else { (2, length / 2) }
}
