//! The KV cache of one model: the keys and values of the tokens seen so far, in buffers that grow by steps and are cut back
//! by moving an offset. Which tokens they belong to is the conversation's business.

use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::{Array, ops};

use crate::error::Result;

/// Positions by which the buffers grow.
const STEP: i32 = 256;

#[derive(Debug)]
struct Layer {
    keys: Array,
    values: Array,
}

/// Keys and values of every layer.
#[derive(Debug)]
pub(crate) struct KvCache {
    /// `[kv heads, capacity, head length]` each; absent before the first token.
    layers: Vec<Option<Layer>>,
    /// Positions that are filled and confirmed.
    len: i32,
}

impl KvCache {
    /// An empty cache of a model with so many layers.
    pub(crate) fn new(layers: usize) -> Self {
        Self { layers: (0..layers).map(|_| None).collect(), len: 0 }
    }

    /// Positions that are filled.
    pub(crate) const fn len(&self) -> i32 {
        self.len
    }

    /// Notes that every layer was extended by `rows`.
    pub(crate) const fn advance(&mut self, rows: i32) {
        self.len += rows;
    }

    /// Forgets what lies behind the first `len` positions.
    pub(crate) fn trim_to(&mut self, len: i32) {
        self.len = self.len.min(len.max(0));
    }

    /// Forgets everything, the buffers too.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.layers.len());
    }

    /// Appends to a layer `keys` and `values` of `[kv heads, rows, head length]` and returns all that it holds. The views
    /// must be gone before the next call: a buffer that is still referred to is copied instead of written to.
    pub(crate) fn extend(
        &mut self,
        layer: usize,
        keys: &Array,
        values: &Array,
    ) -> Result<(Array, Array)> {
        let (start, end) = (self.len, self.len + keys.dim(1));
        let held = match self.layers[layer].take() {
            Some(held) if held.keys.dim(1) >= end => held,
            Some(held) => Layer {
                keys: grown(&held.keys, end, start)?,
                values: grown(&held.values, end, start)?,
            },
            None => Layer { keys: empty(keys, end)?, values: empty(values, end)? },
        };
        let Layer { keys: mut all_keys, values: mut all_values } = held;
        all_keys.try_index_mut((.., start..end, ..), keys)?;
        all_values.try_index_mut((.., start..end, ..), values)?;
        let seen = if end == all_keys.dim(1) {
            (all_keys.clone(), all_values.clone())
        } else {
            (all_keys.try_index((.., ..end, ..))?, all_values.try_index((.., ..end, ..))?)
        };
        self.layers[layer] = Some(Layer { keys: all_keys, values: all_values });
        Ok(seen)
    }

    /// All buffers, to be evaluated.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flatten().flat_map(|layer| [&layer.keys, &layer.values])
    }

    /// All that is held, for tests.
    #[cfg(test)]
    pub(crate) fn contents(&self) -> Vec<f32> {
        if self.len == 0 {
            return Vec::new();
        }
        self.arrays()
            .flat_map(|array| {
                let filled = array.try_index((.., ..self.len, ..)).unwrap();
                ops::reshape(filled, &[-1]).unwrap().to_vec_cast::<f32>().unwrap()
            })
            .collect()
    }
}

fn capacity(len: i32) -> i32 {
    (len + STEP - 1) / STEP * STEP
}

fn empty(like: &Array, len: i32) -> Result<Array> {
    Ok(ops::zeros_dtype(&[like.dim(0), capacity(len), like.dim(2)], like.dtype())?)
}

fn grown(held: &Array, len: i32, filled: i32) -> Result<Array> {
    let more = capacity(len) - held.dim(1);
    debug_assert!(more > 0 && filled <= held.dim(1), "grows only when it must");
    let tail = ops::zeros_dtype(&[held.dim(0), more, held.dim(2)], held.dtype())?;
    Ok(ops::concatenate(&[held, &tail], 1)?)
}
