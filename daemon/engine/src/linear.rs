//! Matrices: dense or quantised, loaded by the rule that a module is quantised when it has scales, and multiplied by what
//! suits the device.

mod packed;

use mlx_rs::ops::{self, indexing};
use mlx_rs::{Array, Dtype};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::quantisation::{Mode, Quantisation};
use crate::error::{EngineError, Result};
use packed::Packed;

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
        let small_floats = weights.is_of_bytes(&scales)?;
        // What config.json says of a module itself counts; its default may be wrong for single modules.
        let how = self.checkpoint.config.quantisations.named(path);
        let how = how.or_else(|| Quantisation::seen(*columns, words, groups, small_floats));
        let how = how.ok_or_else(|| {
            let problem = format!(
                "{words} words and {groups} scales for {columns} columns fit no quantisation that is supported"
            );
            weights.wrong(&name, problem)
        })?;
        if columns % how.group_size != 0 {
            let problem = format!("{columns} columns are no multiple of {}", how.group_size);
            return Err(weights.wrong(&name, problem));
        }
        let of = |columns: i32| -> Vec<i32> { above.iter().copied().chain([columns]).collect() };
        let groups = of(columns / how.group_size);
        let packed = weights.take(&name, &of(columns * how.bits / 32))?;
        if packed.dtype() != Dtype::Uint32 {
            return Err(weights.wrong(&name, "packed weights must be of type U32"));
        }
        let affine = how.mode == Mode::Affine;
        if affine == small_floats {
            let problem = format!("scales of this type do not belong to the mode {:?}", how.mode);
            return Err(weights.wrong(&scales, problem));
        }
        let group = |part: &str| weights.take(&format!("{path}.{part}"), &groups);
        let scales = group("scales")?;
        let packed = Packed {
            words: packed,
            scales: if affine { self.storage.cast(scales)? } else { scales },
            biases: affine.then(|| self.storage.cast(group("biases")?)).transpose()?,
            factor: 1.0,
            how,
            unpacked: (self.storage.device == Device::Cpu).then_some(Dtype::Float32),
        };
        if self.storage.unpack {
            Ok(Matrix::Dense(packed.dense()?))
        } else {
            Ok(Matrix::Packed(packed))
        }
    }
}

/// Rows of weights; of several matrices, one for each expert, with an axis more.
#[derive(Clone, Debug)]
pub(crate) enum Matrix {
    Dense(Array),
    Packed(Packed),
}

impl Matrix {
    /// The rows, unless they are packed.
    pub(crate) const fn dense(&self) -> Option<&Array> {
        match self {
            Self::Dense(rows) => Some(rows),
            Self::Packed(_) => None,
        }
    }

    /// The matrix times a number.
    pub(crate) fn scaled(self, factor: f32) -> Result<Self> {
        if (factor - 1.0).abs() <= f32::EPSILON {
            return Ok(self);
        }
        Ok(match self {
            Self::Dense(rows) => {
                let factor = Array::from_f32(factor).as_dtype(rows.dtype())?;
                Self::Dense(ops::multiply(rows, factor)?)
            }
            Self::Packed(packed) => Self::Packed(packed.scaled(factor)?),
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
            packed @ Self::Packed(_) => Ok(packed),
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
        let (mut dense, mut packed) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Self::Dense(rows) => dense.push(rows),
                Self::Packed(rows) => packed.push(rows),
            }
        }
        if packed.is_empty() {
            return Ok(Some(Self::Dense(join(&dense)?)));
        }
        if dense.is_empty() {
            return Ok(Packed::joined(&packed, join)?.map(Self::Packed));
        }
        Ok(None)
    }

    /// The rows that `ids` name, as activations.
    pub(crate) fn rows(&self, ids: &Array) -> Result<Array> {
        match self {
            Self::Dense(rows) => Ok(indexing::take_axis(rows, ids, 0)?),
            Self::Packed(packed) => packed.rows(ids),
        }
    }

    /// Everything that is held.
    pub(crate) fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Dense(rows) => vec![rows],
            Self::Packed(packed) => packed.arrays(),
        }
    }
}

/// A product with a matrix from the right, transposed, and an added vector.
#[derive(Clone, Debug)]
pub(crate) enum Linear {
    /// Transposed beforehand.
    Dense { columns: Array, bias: Option<Array> },
    /// Packed rows.
    Packed { rows: Packed, bias: Option<Array> },
}

impl Linear {
    /// A product with a matrix that nothing else uses.
    pub(crate) fn new(device: Device, matrix: Matrix, bias: Option<Array>) -> Result<Self> {
        Ok(match matrix {
            // By columns a CPU multiplies several rows with it in little more time than one.
            Matrix::Dense(rows) if rows.ndim() == 2 && device == Device::Cpu => {
                Self::Dense { columns: rows.transpose()?.contiguous()?, bias }
            }
            matrix => Self::sharing(matrix, bias)?,
        })
    }

    /// The same with a matrix that is used elsewhere too: it stays as it lies, and is held once.
    pub(crate) fn sharing(matrix: Matrix, bias: Option<Array>) -> Result<Self> {
        Ok(match matrix {
            Matrix::Dense(rows) => Self::Dense { columns: ops::swap_axes(&rows, -1, -2)?, bias },
            Matrix::Packed(rows) => Self::Packed { rows, bias },
        })
    }

    /// The matrix by which rows are multiplied from the right, and what is added, unless it is packed.
    pub(crate) const fn dense(&self) -> Option<(&Array, Option<&Array>)> {
        match self {
            Self::Dense { columns, bias } => Some((columns, bias.as_ref())),
            Self::Packed { .. } => None,
        }
    }

    /// Holds a dense matrix in 16 bits from now on. For operations that widen its numbers as they read them.
    pub(crate) fn halve(&mut self) -> Result<()> {
        if let Self::Dense { columns, .. } = self {
            *columns = columns.as_dtype(Dtype::Float16)?;
        }
        Ok(())
    }

    /// `x`, rows of activations, times the matrix.
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Dense { columns, bias: None } => Ok(ops::matmul(x, columns)?),
            Self::Dense { columns, bias: Some(bias) } => {
                Ok(ops::addmm(bias, x, columns, None, None)?)
            }
            Self::Packed { rows, bias } => {
                let product = rows.product(x)?;
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
            Self::Packed { rows, .. } => rows.chosen_products(x, chosen, ordered),
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
