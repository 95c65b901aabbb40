//! The product at the end of a layer's part, and its sum with what came into the part: a norm or a factor may come between.

use mlx_rs::{Array, Dtype, ops};

use super::fused;
use super::norm::{self, RmsNorm};
use super::positions::unless_one;
use crate::error::Result;
use crate::linear::{Device, Linear, Loader};

/// The largest number of 16 bits.
pub(super) const LARGEST_FLOAT16: f32 = 65504.0;

#[derive(Debug)]
pub(super) struct Residual {
    linear: Linear,
    /// The weight of the norm behind the product.
    norm: Option<Array>,
    /// The factor on the product, unless the matrix has taken it in.
    factor: Option<Array>,
}

impl Residual {
    /// The matrix at a module, its rows and columns, and whether it has something to add; `behind` is the norm's module.
    pub(super) fn load(
        loader: Loader<'_>,
        (path, rows, columns, bias): &(String, i32, i32, bool),
        behind: Option<&str>,
    ) -> Result<Self> {
        let config = &loader.checkpoint.config;
        let mut matrix = loader.matrix(path, *rows, *columns)?;
        let mut bias = bias.then(|| loader.vector(&format!("{path}.bias"), *rows)).transpose()?;
        let mut factor = unless_one(config.factors.residual);
        // In 16 bits the weights would be rounded again.
        if loader.storage.device == Device::Cpu && behind.is_none() {
            matrix = matrix.scaled(config.factors.residual)?;
            if let (Some(bias), Some(factor)) = (&mut bias, factor) {
                *bias = ops::multiply(&*bias, factor)?;
            }
            factor = None;
        }
        let norm = behind.map(|behind| norm::weight(loader, config, behind, *rows)).transpose()?;
        Ok(Self { linear: Linear::new(loader.storage.device, matrix, bias)?, norm, factor })
    }

    /// The one dense matrix that does all, if that is so.
    pub(super) fn alone(&self) -> Option<fused::Matrix<'_>> {
        let nothing_else = self.norm.is_none() && self.factor.is_none();
        self.linear.dense().filter(|_| nothing_else)
    }

    /// See [`Linear::halve`].
    pub(super) fn halve(&mut self) -> Result<()> {
        self.linear.halve()
    }

    /// `residual` plus the product with `x`.
    pub(super) fn onto(&self, residual: &Array, x: &Array, norm: &RmsNorm) -> Result<Array> {
        if self.norm.is_none() && self.factor.is_none() {
            return self.linear.forward_onto(residual, x);
        }
        let mut product = self.linear.forward(x)?;
        if let Some(weight) = &self.norm {
            product = norm.apply(&product, Some(weight))?;
        }
        if let Some(factor) = &self.factor {
            product = ops::multiply(&product, factor.as_dtype(product.dtype())?)?;
        }
        if self.norm.is_some() && residual.dtype() == Dtype::Float16 {
            return bounded_sum(residual, &product);
        }
        Ok(ops::add(residual, product)?)
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        self.linear.arrays().into_iter().chain(&self.norm).collect()
    }
}

/// The sum, kept from overflowing: models made for bfloat16 have activations that 16-bit floats lack.
fn bounded_sum(a: &Array, b: &Array) -> Result<Array> {
    let sum = ops::add(a.as_dtype(Dtype::Float32)?, b.as_dtype(Dtype::Float32)?)?;
    let most = Array::from_f32(LARGEST_FLOAT16);
    let sum = ops::maximum(ops::minimum(sum, &most)?, ops::negative(&most)?)?;
    Ok(sum.as_dtype(Dtype::Float16)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_that_16_bits_lack_is_the_largest_they_have() {
        let halves =
            |numbers: &[f32]| Array::from_slice(numbers, &[3]).as_dtype(Dtype::Float16).unwrap();
        let (a, b) = (halves(&[60000.0, 1.0, -60000.0]), halves(&[60000.0, 2.0, -60000.0]));
        let sum = bounded_sum(&a, &b).unwrap();
        assert_eq!(sum.dtype(), Dtype::Float16);
        assert_eq!(sum.to_vec_cast::<f32>().unwrap(), [65504.0, 3.0, -65504.0]);
    }
}
