//! The feed-forward part as a mixture of experts: a router chooses a few for each token, and their answers are added up by
//! its weights.

use mlx_rs::ops::indexing::{TryIndexOp, take_along_axis, take_axis};
use mlx_rs::{Array, ops};

use super::mlp::gated;
use super::norm::{self, RmsNorm};
use crate::checkpoint::config::{Activation, Experts};
use crate::error::{EngineError, Result};
use crate::linear::{Linear, Loader, Matrix};

/// From so many pairs of token and expert on they are ordered by expert, so that each expert's weights are read once.
const WORTH_ORDERING: i32 = 64;

#[derive(Debug)]
pub(super) struct Mixture {
    norm: Array,
    router: Linear,
    /// `[experts, 2 * inner, hidden]`, where gate and up are held alike, else two of half the height.
    gate_up: Vec<Linear>,
    down: Linear,
    chosen: i32,
    normalised: bool,
    activation: Activation,
}

impl Mixture {
    /// The part at the module `at`, behind the norm `before`.
    pub(super) fn load(
        loader: Loader<'_>,
        at: &str,
        before: &str,
        experts: &Experts,
    ) -> Result<Self> {
        let config = &loader.checkpoint.config;
        let hidden = config.hidden_size;
        let matrix = |name: &str, rows: i32, columns: i32| {
            loader.experts(at, name, &[experts.count, rows, columns])
        };
        let gate_up = [
            matrix("gate_proj", experts.inner, hidden)?,
            matrix("up_proj", experts.inner, hidden)?,
        ];
        let gate_up = match Matrix::stacked(&gate_up)? {
            Some(both) => vec![both],
            None => gate_up.into(),
        };
        Ok(Self {
            norm: norm::weight(loader, config, before, hidden)?,
            router: Linear::new(
                loader.storage.device,
                loader.matrix(&format!("{at}.gate"), experts.count, hidden)?,
                None,
            )?,
            gate_up: gate_up
                .into_iter()
                .map(|m| Linear::new(loader.storage.device, m, None))
                .collect::<Result<_>>()?,
            down: Linear::new(
                loader.storage.device,
                matrix("down_proj", hidden, experts.inner)?,
                None,
            )?,
            chosen: experts.chosen,
            normalised: experts.normalised,
            activation: config.mlp.activation,
        })
    }

    /// `x` and what the experts add to it.
    pub(super) fn forward(&self, x: &Array, norm: &RmsNorm) -> Result<Array> {
        let normed = norm.apply(x, Some(&self.norm))?;
        let (experts, weights) = self.route(&normed)?;
        let pairs = ops::expand_dims_axes(&normed, &[1, 2])?;
        let answers = if x.dim(0) * self.chosen < WORTH_ORDERING {
            self.answers(&pairs, &experts, false)?
        } else {
            self.ordered_answers(&pairs, &experts)?
        };
        let answers = ops::squeeze_axes(answers, &[-2])?;
        let weighted = ops::multiply(answers, ops::expand_dims(weights, -1)?)?;
        let sum = ops::sum_axis(weighted, -2, false)?;
        Ok(ops::add(x, sum.as_dtype(x.dtype())?)?)
    }

    /// The experts of every row and their weights, `[rows, chosen]` each.
    fn route(&self, x: &Array) -> Result<(Array, Array)> {
        let shares = ops::softmax_axis(self.router.forward(x)?, -1, true)?;
        let order = ops::argpartition_axis(&shares, -self.chosen, -1)?;
        let experts = order.try_index((.., -self.chosen..))?;
        let mut weights = take_along_axis(&shares, &experts, -1)?;
        if self.normalised {
            weights = ops::divide(&weights, ops::sum_axis(&weights, -1, true)?)?;
        }
        Ok((experts, weights))
    }

    /// What each row's experts say: `x` is `[rows, 1, 1, hidden]`, the answers `[rows, chosen, 1, hidden]`.
    fn answers(&self, x: &Array, experts: &Array, ordered: bool) -> Result<Array> {
        let both: Vec<Array> = self
            .gate_up
            .iter()
            .map(|linear| linear.forward_chosen(x, experts, ordered))
            .collect::<Result<_>>()?;
        let both = match both.as_slice() {
            [both] => gated(both, self.activation)?,
            parts => gated(&ops::concatenate(parts, -1)?, self.activation)?,
        };
        self.down.forward_chosen(&both, experts, ordered)
    }

    /// The same, with the pairs of row and expert put in the order of experts and back.
    fn ordered_answers(&self, x: &Array, experts: &Array) -> Result<Array> {
        let (rows, hidden) = (x.dim(0), x.dim(-1));
        let flat = ops::reshape(experts, &[-1])?;
        let order = ops::argsort_axis(&flat, 0)?;
        let back = ops::argsort_axis(&order, 0)?;
        let chosen = Array::from_int(self.chosen).as_dtype(order.dtype())?;
        let row = ops::floor_divide(&order, chosen)?;
        let x = take_axis(ops::reshape(x, &[rows, 1, hidden])?, row, 0)?;
        let experts = take_axis(flat, order, 0)?;
        let answers = take_axis(self.answers(&x, &experts, true)?, back, 0)?;
        Ok(ops::reshape(answers, &[rows, self.chosen, 1, hidden])?)
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        let linears = [&self.router, &self.down].into_iter().chain(&self.gate_up);
        linears.flat_map(Linear::arrays).chain([&self.norm]).collect()
    }
}

/// The error of a model whose layers have experts that its description does not have.
pub(super) fn undescribed() -> EngineError {
    EngineError::Mlx("a layer has experts that the model's description lacks".to_owned())
}
