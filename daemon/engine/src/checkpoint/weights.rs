//! Tensors by name out of one or several safetensors files. Each is checked for presence and shape when it is taken.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use mlx_rs::{Array, Dtype};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as StoredDtype, TensorInfo};
use serde_json::Value;

use super::{Bytes, Source};
use crate::error::{EngineError, Result};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Before the length of the header and the header itself.
const LENGTH_BYTES: usize = 8;

/// The weights of one checkpoint.
#[derive(Debug)]
pub(crate) struct Weights {
    model: String,
    files: Vec<Bytes>,
    /// Name to file, place of the data in it, and description.
    tensors: BTreeMap<String, (usize, usize, TensorInfo)>,
    /// Names that were asked for.
    taken: RefCell<HashSet<String>>,
}

impl Weights {
    /// Opens the single file, or all that the index names.
    pub(crate) fn open(source: &Source) -> Result<Self> {
        let names: Vec<String> = match source.json(INDEX)? {
            None => vec![SINGLE.to_owned()],
            Some(index) => {
                let map = index.get("weight_map").and_then(Value::as_object);
                let map = map.ok_or_else(|| source.refuse(INDEX, "it has no weight_map"))?;
                let files: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
                files.into_iter().map(str::to_owned).collect()
            }
        };
        let mut weights = Self {
            model: source.name(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            taken: RefCell::default(),
        };
        for name in names {
            let bytes = source.need(&name)?;
            let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| {
                source.refuse(&name, format!("not a safetensors file: {error}"))
            })?;
            let data = LENGTH_BYTES + header;
            for (tensor, info) in metadata.tensors() {
                if bytes.len() < data + info.data_offsets.1 {
                    return Err(source.refuse(&name, format!("it ends before {tensor} does")));
                }
                weights.tensors.insert(tensor, (weights.files.len(), data, info.clone()));
            }
            weights.files.push(bytes);
        }
        Ok(weights)
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    /// The tensors that nobody has taken.
    pub(crate) fn untaken(&self) -> impl Iterator<Item = &str> {
        let taken = self.taken.borrow().clone();
        self.tensors.keys().map(String::as_str).filter(move |tensor| !taken.contains(*tensor))
    }

    /// Every tensor's name and number of elements.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.tensors.iter().map(|(tensor, (_, _, info))| {
            (tensor.as_str(), info.shape.iter().map(|dim| *dim as u64).product())
        })
    }

    /// The shape of a tensor.
    pub(crate) fn shape(&self, tensor: &str) -> Result<Vec<i32>> {
        let (_, _, info) = self.find(tensor)?;
        info.shape
            .iter()
            .map(|dim| i32::try_from(*dim))
            .collect::<Result<_, _>>()
            .map_err(|_| self.wrong(tensor, format!("its shape {:?} is too large", info.shape)))
    }

    /// Whether the tensor's elements are single bytes.
    pub(crate) fn is_of_bytes(&self, tensor: &str) -> Result<bool> {
        Ok(self.find(tensor)?.2.dtype == StoredDtype::U8)
    }

    /// The tensor, which must have this shape.
    pub(crate) fn take(&self, tensor: &str, shape: &[i32]) -> Result<Array> {
        let (file, data, info) = self.find(tensor)?;
        let found = self.shape(tensor)?;
        if found != shape {
            return Err(self.wrong(tensor, format!("its shape is {found:?}, expected {shape:?}")));
        }
        let (dtype, width) = dtype(info.dtype)
            .ok_or_else(|| self.wrong(tensor, format!("its type is {:?}", info.dtype)))?;
        self.taken.borrow_mut().insert(tensor.to_owned());
        let (start, end) = info.data_offsets;
        let bytes = &self.files[*file][data + start..data + end];
        // As bytes first, then seen as what they are: one copy, and no alignment asked of the file.
        let mut byte_shape = shape.to_vec();
        let Some(last) = byte_shape.last_mut() else {
            return Err(self.wrong(tensor, "it is a single number"));
        };
        *last = last.saturating_mul(width);
        Ok(Array::from_slice(bytes, &byte_shape).view_dtype(dtype)?)
    }

    /// The error that says that a tensor is not what it should be.
    pub(crate) fn wrong(&self, tensor: &str, problem: impl Into<String>) -> EngineError {
        EngineError::Tensor {
            model: self.model.clone(),
            tensor: tensor.to_owned(),
            problem: problem.into(),
        }
    }

    fn find(&self, tensor: &str) -> Result<&(usize, usize, TensorInfo)> {
        self.tensors.get(tensor).ok_or_else(|| self.wrong(tensor, "it is missing"))
    }
}

/// The type and its size in bytes.
fn dtype(stored: StoredDtype) -> Option<(Dtype, i32)> {
    match stored {
        StoredDtype::F32 => Some((Dtype::Float32, 4)),
        StoredDtype::F16 => Some((Dtype::Float16, 2)),
        StoredDtype::BF16 => Some((Dtype::Bfloat16, 2)),
        StoredDtype::U32 => Some((Dtype::Uint32, 4)),
        StoredDtype::U8 => Some((Dtype::Uint8, 1)),
        _ => None,
    }
}
