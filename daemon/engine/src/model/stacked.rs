//! A norm and the matrices that are applied to its rows, as one product where they are held alike.

use mlx_rs::{Array, ops};

use super::fused;
use super::norm::{self, RmsNorm};
use crate::error::Result;
use crate::linear::{Device, Linear, Loader, Matrix};

#[derive(Debug)]
pub(super) struct Stacked {
    /// The norm's weight, unless the matrices have taken it in.
    norm: Option<Array>,
    linears: Vec<Linear>,
}

/// What a [`Stacked`] is made of.
pub(super) struct Parts<'a> {
    /// The norm's module.
    pub(super) norm: &'a str,
    /// Modules, rows, and factors on the products.
    pub(super) matrices: &'a [(String, i32, f32)],
    pub(super) columns: i32,
    pub(super) bias: bool,
}

impl Stacked {
    pub(super) fn load(loader: Loader<'_>, parts: &Parts<'_>) -> Result<Self> {
        let norm = norm::weight(loader, &loader.checkpoint.config, parts.norm, parts.columns)?;
        let mut matrices = Vec::new();
        let mut biases = Vec::new();
        for (path, rows, factor) in parts.matrices {
            matrices.push(loader.matrix(path, *rows, parts.columns)?.scaled(*factor)?);
            if parts.bias {
                let bias = loader.vector(&format!("{path}.bias"), *rows)?;
                let factor = Array::from_f32(*factor).as_dtype(bias.dtype())?;
                biases.push(ops::multiply(bias, factor)?);
            }
        }
        // Saves an operation a call, which counts where dispatching costs more than computing.
        let fold = loader.storage.device == Device::Cpu && matrices.iter().all(Matrix::is_dense);
        if fold {
            matrices = matrices
                .into_iter()
                .map(|matrix| matrix.with_columns_scaled(&norm))
                .collect::<Result<_>>()?;
        }
        if let Some(matrix) = Matrix::stacked(&matrices)? {
            matrices = vec![matrix];
            if parts.bias {
                biases = vec![ops::concatenate(&biases, 0)?];
            }
        }
        let mut biases = biases.into_iter();
        let linears = matrices
            .into_iter()
            .map(|matrix| Linear::new(loader.storage.device, matrix, biases.next()));
        Ok(Self { norm: (!fold).then_some(norm), linears: linears.collect::<Result<_>>()? })
    }

    /// The one dense matrix that does all, if that is so.
    pub(super) fn alone(&self) -> Option<fused::Matrix<'_>> {
        match (&self.norm, self.linears.as_slice()) {
            (None, [linear]) => linear.dense(),
            _ => None,
        }
    }

    /// See [`Linear::halve`].
    pub(super) fn halve(&mut self) -> Result<()> {
        self.linears.iter_mut().try_for_each(Linear::halve)
    }

    /// The products of the normed rows, side by side.
    pub(super) fn forward(&self, x: &Array, norm: &RmsNorm) -> Result<Array> {
        let normed = norm.apply(x, self.norm.as_ref())?;
        if let [linear] = self.linears.as_slice() {
            return linear.forward(&normed);
        }
        let parts: Vec<Array> =
            self.linears.iter().map(|linear| linear.forward(&normed)).collect::<Result<_>>()?;
        Ok(ops::concatenate(&parts, 1)?)
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        self.linears.iter().flat_map(Linear::arrays).chain(&self.norm).collect()
    }
}
