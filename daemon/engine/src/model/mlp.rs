//! The feed-forward part of a layer: gate and up in one product, the activation, down.

use std::f32::consts::FRAC_2_PI;

use mlx_rs::{Array, Dtype, ops};

use super::fused;
use super::norm::RmsNorm;
use super::residual::Residual;
use super::stacked::{Parts, Stacked};
use crate::checkpoint::config::Activation;
use crate::error::Result;
use crate::linear::Loader;

#[derive(Debug)]
pub(super) struct Mlp {
    gate_up: Stacked,
    activation: Activation,
    down: Residual,
}

impl Mlp {
    /// The part at the module `at`, behind the norm `before`, and perhaps with another behind it.
    pub(super) fn load(
        loader: Loader<'_>,
        at: &str,
        (before, behind): (&str, Option<&str>),
    ) -> Result<Self> {
        let config = &loader.checkpoint.config;
        let (hidden, mlp) = (config.hidden_size, &config.mlp);
        let parts = Parts {
            norm: before,
            matrices: &[
                (format!("{at}.gate_proj"), mlp.inner, 1.0),
                (format!("{at}.up_proj"), mlp.inner, 1.0),
            ],
            columns: hidden,
            bias: mlp.bias,
        };
        let down = (format!("{at}.down_proj"), hidden, mlp.inner, mlp.bias);
        Ok(Self {
            gate_up: Stacked::load(loader, &parts)?,
            activation: mlp.activation,
            down: Residual::load(loader, &down, behind)?,
        })
    }

    /// `x` and what the part adds to it.
    pub(super) fn forward(&self, x: &Array, norm: &RmsNorm) -> Result<Array> {
        if let (Some(eps), Some((gate_up, down))) = (norm.fused(), self.alone()) {
            return fused::whole_mlp(x, eps, gate_up, self.activation, down);
        }
        let both = self.gate_up.forward(x, norm)?;
        self.down.onto(x, &gated(&both, self.activation)?, norm)
    }

    /// The matrices before and behind the gates, where each does all that is to be done there.
    pub(super) fn alone(&self) -> Option<(fused::Matrix<'_>, fused::Matrix<'_>)> {
        self.gate_up.alone().zip(self.down.alone())
    }

    /// See [`crate::linear::Linear::halve`].
    pub(super) fn halve(&mut self) -> Result<()> {
        self.gate_up.halve()?;
        self.down.halve()
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.gate_up.arrays();
        arrays.extend(self.down.arrays());
        arrays
    }
}

/// The activated gate times up, which lie side by side in the last axis.
pub(super) fn gated(both: &Array, activation: Activation) -> Result<Array> {
    if fused::are_here() && both.dtype() == Dtype::Float32 {
        return fused::gated(both, activation);
    }
    let parts = ops::split_equal(both, 2, -1)?;
    let gate = &parts[0];
    let curve = match activation {
        Activation::Silu => ops::sigmoid(gate)?,
        // (1 + tanh z) / 2 is the sigmoid of 2 z.
        Activation::GeluTanh => {
            let number = |number: f32| Array::from_f32(number).as_dtype(gate.dtype());
            let slope = 2.0 * FRAC_2_PI.sqrt();
            let cubic = ops::multiply(ops::square(gate)?, number(slope * 0.044_715)?)?;
            ops::sigmoid(ops::multiply(gate, ops::add(cubic, number(slope)?)?)?)?
        }
    };
    Ok(ops::multiply(ops::multiply(gate, curve)?, &parts[1])?)
}
