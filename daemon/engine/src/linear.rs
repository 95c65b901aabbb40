//! Matrices: dense or quantised, loaded by the rule that a module is quantised when it has scales, and multiplied by what
//! suits the device.

use mlx_rs::ops::{self, indexing};
use mlx_rs::{Array, Dtype};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::quantisation::Quantisation;
use crate::error::{EngineError, Result};

/// What kind of processor computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    Cpu,
    Gpu,
}

/// How weights are held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage {
    pub(crate) device: Device,
    /// Unpack quantised weights into 32-bit ones: on CPUs four times faster a product, and eight times the memory of 4 bits.
    pub(crate) unpack: bool,
}

impl Storage {
    /// The type of activations and of everything that is not packed: CPUs are slow at anything but 32 bits.
    fn cast(self, array: Array) -> Result<Array> {
        match self.device {
            Device::Cpu => Ok(array.as_dtype(Dtype::Float32)?),
            Device::Gpu => Ok(array),
        }
    }
}

/// Takes named weights out of a checkpoint in the form that the device wants.
#[derive(Clone, Copy)]
pub(crate) struct Loader<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) storage: Storage,
}

impl Loader<'_> {
    /// A vector of `len` numbers.
    pub(crate) fn vector(&self, tensor: &str, len: i32) -> Result<Array> {
        self.storage.cast(self.checkpoint.weights.take(tensor, &[len])?)
    }

    /// The matrix at the module `path`, of `rows` by `columns`.
    pub(crate) fn matrix(&self, path: &str, rows: i32, columns: i32) -> Result<Matrix> {
        self.matrices(path, &[rows, columns])
    }

    /// The matrices called `name` of a mixture of experts at the module `at`, `[experts, rows, columns]`, whether the
    /// checkpoint has them as one tensor or one by one.
    pub(crate) fn experts(&self, at: &str, name: &str, shape: &[i32; 3]) -> Result<Matrix> {
        let [count, rows, columns] = *shape;
        let one_by_one = format!("{at}.experts.0.{name}.weight");
        if !self.checkpoint.weights.has(&one_by_one) {
            return self.matrices(&format!("{at}.switch_mlp.{name}"), shape);
        }
        let path = |expert: i32| format!("{at}.experts.{expert}.{name}");
        let each: Vec<Matrix> = (0..count)
            .map(|expert| self.matrix(&path(expert), rows, columns))
            .collect::<Result<_>>()?;
        Matrix::piled(&each)?.ok_or_else(|| {
            let problem = "the experts of one layer are not quantised alike";
            self.checkpoint.weights.wrong(&one_by_one, problem)
        })
    }

    /// Rows of the last length of `shape`, quantised if they have scales.
    fn matrices(&self, path: &str, shape: &[i32]) -> Result<Matrix> {
        let weights = &self.checkpoint.weights;
        let name = format!("{path}.weight");
        let scales = format!("{path}.scales");
        if !weights.has(&scales) {
            return Ok(Matrix::Dense(self.storage.cast(weights.take(&name, shape)?)?));
        }
        let (columns, above) = shape.split_last().unwrap_or((&0, &[]));
        let last = |tensor: &str| Ok::<_, EngineError>(weights.shape(tensor)?.last().copied());
        let (words, groups) = (last(&name)?.unwrap_or(0), last(&scales)?.unwrap_or(0));
        // What config.json says of a module itself counts; its default may be wrong for single modules.
        let how = self.checkpoint.config.quantisations.named(path);
        let how = how.or_else(|| Quantisation::seen(*columns, words, groups)).ok_or_else(|| {
            weights.wrong(
                &name,
                format!("{words} words and {groups} scales for {columns} columns fit no quantisation that is supported"),
            )
        })?;
        let of = |columns: i32| -> Vec<i32> { above.iter().copied().chain([columns]).collect() };
        if columns % how.group_size != 0 {
            let problem = format!("{columns} columns are no multiple of {}", how.group_size);
            return Err(weights.wrong(&name, problem));
        }
        let groups = of(columns / how.group_size);
        let packed = weights.take(&name, &of(columns * how.bits / 32))?;
        if packed.dtype() != Dtype::Uint32 {
            return Err(weights.wrong(&name, "packed weights must be of type U32"));
        }
        let group =
            |part: &str| self.storage.cast(weights.take(&format!("{path}.{part}"), &groups)?);
        let matrix =
            Matrix::Packed { packed, scales: group("scales")?, biases: group("biases")?, how };
        if self.storage.unpack { matrix.unpacked() } else { Ok(matrix) }
    }
}

/// Rows of weights; of several matrices, one for each expert, with an axis more.
#[derive(Clone, Debug)]
pub(crate) enum Matrix {
    Dense(Array),
    Packed { packed: Array, scales: Array, biases: Array, how: Quantisation },
}

impl Matrix {
    fn unpacked(&self) -> Result<Self> {
        match self {
            Self::Dense(_) => Ok(self.clone()),
            Self::Packed { packed, scales, biases, how } => {
                Ok(Self::Dense(ops::dequantize(packed, scales, biases, how.group_size, how.bits)?))
            }
        }
    }

    /// The matrix times a number. Packed ones too: what they hold is linear in scales and biases.
    pub(crate) fn scaled(self, factor: f32) -> Result<Self> {
        if (factor - 1.0).abs() <= f32::EPSILON {
            return Ok(self);
        }
        let scaled =
            |array: &Array| ops::multiply(array, Array::from_f32(factor).as_dtype(array.dtype())?);
        Ok(match self {
            Self::Dense(rows) => Self::Dense(scaled(&rows)?),
            Self::Packed { packed, scales, biases, how } => {
                Self::Packed { packed, scales: scaled(&scales)?, biases: scaled(&biases)?, how }
            }
        })
    }

    /// Whether rows can be multiplied into it.
    pub(crate) const fn is_dense(&self) -> bool {
        matches!(self, Self::Dense(_))
    }

    /// Each column times its number in `weight`; packed ones stay as they are.
    pub(crate) fn with_columns_scaled(self, weight: &Array) -> Result<Self> {
        match self {
            Self::Dense(rows) => Ok(Self::Dense(ops::multiply(rows, weight)?)),
            packed @ Self::Packed { .. } => Ok(packed),
        }
    }

    /// One matrix above the other; `None` when they are not held alike.
    pub(crate) fn stacked(parts: &[Self]) -> Result<Option<Self>> {
        Self::joined(parts, |arrays| Ok(ops::concatenate(arrays, -2)?))
    }

    /// One matrix behind the other, with an axis more; `None` when they are not held alike.
    fn piled(parts: &[Self]) -> Result<Option<Self>> {
        Self::joined(parts, |arrays| Ok(ops::stack(arrays, 0)?))
    }

    fn joined(parts: &[Self], join: impl Fn(&[&Array]) -> Result<Array>) -> Result<Option<Self>> {
        let mut dense = Vec::new();
        let mut packed = [Vec::new(), Vec::new(), Vec::new()];
        let mut shared = None;
        for part in parts {
            match part {
                Self::Dense(rows) => dense.push(rows),
                Self::Packed { packed: rows, scales, biases, how } => {
                    if *shared.get_or_insert(*how) != *how {
                        return Ok(None);
                    }
                    for (list, array) in packed.iter_mut().zip([rows, scales, biases]) {
                        list.push(array);
                    }
                }
            }
        }
        Ok(match shared {
            None => Some(Self::Dense(join(&dense)?)),
            Some(how) if dense.is_empty() => {
                let [rows, scales, biases] = &packed;
                let (packed, scales, biases) = (join(rows)?, join(scales)?, join(biases)?);
                Some(Self::Packed { packed, scales, biases, how })
            }
            Some(_) => None,
        })
    }

    /// The rows that `ids` name, as activations.
    pub(crate) fn rows(&self, ids: &Array) -> Result<Array> {
        match self {
            Self::Dense(rows) => Ok(indexing::take_axis(rows, ids, 0)?),
            Self::Packed { packed, scales, biases, how } => {
                let biases = indexing::take_axis(biases, ids, 0)?;
                Ok(ops::dequantize(
                    indexing::take_axis(packed, ids, 0)?,
                    indexing::take_axis(scales, ids, 0)?,
                    &biases,
                    how.group_size,
                    how.bits,
                )?)
            }
        }
    }

    /// Everything that is held.
    pub(crate) fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Dense(rows) => vec![rows],
            Self::Packed { packed, scales, biases, .. } => vec![packed, scales, biases],
        }
    }
}

/// A product with a matrix from the right, transposed, and an added vector.
#[derive(Clone, Debug)]
pub(crate) enum Linear {
    /// Transposed beforehand.
    Dense { columns: Array, bias: Option<Array> },
    /// Packed rows.
    Packed { rows: Matrix, bias: Option<Array> },
}

impl Linear {
    pub(crate) fn new(matrix: Matrix, bias: Option<Array>) -> Result<Self> {
        Ok(match matrix {
            Matrix::Dense(rows) => Self::Dense { columns: ops::swap_axes(&rows, -1, -2)?, bias },
            packed @ Matrix::Packed { .. } => Self::Packed { rows: packed, bias },
        })
    }

    /// `x`, rows of activations, times the matrix.
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Dense { columns, bias: None } => Ok(ops::matmul(x, columns)?),
            Self::Dense { columns, bias: Some(bias) } => {
                Ok(ops::addmm(bias, x, columns, None, None)?)
            }
            Self::Packed { rows, bias } => {
                let product = packed_product(x, rows)?;
                match bias {
                    None => Ok(product),
                    Some(bias) => Ok(ops::add(product, bias)?),
                }
            }
        }
    }

    /// `residual` plus the product; a matrix that has a vector to add is not used this way.
    pub(crate) fn forward_onto(&self, residual: &Array, x: &Array) -> Result<Array> {
        match self {
            Self::Dense { columns, bias: None } => {
                Ok(ops::addmm(residual, x, columns, None, None)?)
            }
            _ => Ok(ops::add(residual, self.forward(x)?)?),
        }
    }

    /// Each of the matrices that `chosen` names, times its place in `x`, `[..., 1, columns]`, whose leading axes are those of
    /// `chosen` or 1. `ordered` says that the names rise. Nothing is added.
    pub(crate) fn forward_chosen(&self, x: &Array, chosen: &Array, ordered: bool) -> Result<Array> {
        match self {
            Self::Dense { columns, .. } => Ok(ops::gather_mm(x, columns, None, chosen, ordered)?),
            Self::Packed { rows: Matrix::Packed { packed, scales, biases, how }, .. } => {
                let (size, bits) = (how.group_size, how.bits);
                let rows = (packed, scales, biases);
                Ok(ops::gather_qmm(
                    x, rows.0, rows.1, rows.2, None, chosen, true, size, bits, ordered,
                )?)
            }
            Self::Packed { .. } => Err(mistaken()),
        }
    }

    /// Everything that is held.
    pub(crate) fn arrays(&self) -> Vec<&Array> {
        let (mut arrays, bias) = match self {
            Self::Dense { columns, bias } => (vec![columns], bias),
            Self::Packed { rows, bias } => (rows.arrays(), bias),
        };
        arrays.extend(bias);
        arrays
    }
}

fn packed_product(x: &Array, rows: &Matrix) -> Result<Array> {
    let Matrix::Packed { packed, scales, biases, how } = rows else {
        return Err(mistaken());
    };
    Ok(ops::quantized_matmul(x, packed, scales, biases, true, how.group_size, how.bits)?)
}

fn mistaken() -> EngineError {
    EngineError::Mlx("a dense matrix was taken for a packed one".to_owned())
}
