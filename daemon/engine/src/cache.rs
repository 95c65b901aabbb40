//! The KV cache of one model: the keys and values of the tokens seen so far, in buffers that grow by steps and are cut back
//! by moving an offset. Which tokens they belong to is the conversation's business.

use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::{Array, ops, transforms};

use crate::error::Result;

/// Positions by which the buffers grow.
pub(crate) const STEP: i32 = 256;

#[derive(Debug)]
struct Layer {
    keys: Array,
    values: Array,
}

impl Layer {
    fn bytes(&self) -> u64 {
        (self.keys.nbytes() + self.values.nbytes()) as u64
    }
}

/// Keys and values of every layer.
#[derive(Debug)]
pub(crate) struct KvCache {
    /// `[kv heads, capacity, head length]` each; absent before the first token.
    layers: Vec<Option<Layer>>,
    /// Positions that are filled and confirmed.
    len: i32,
    bytes: u64,
}

impl KvCache {
    /// An empty cache of a model with so many layers.
    pub(crate) fn new(layers: usize) -> Self {
        Self { layers: (0..layers).map(|_| None).collect(), len: 0, bytes: 0 }
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

    /// Moves everything out, the buffers too, and leaves an empty cache.
    pub(crate) fn take(&mut self) -> Self {
        let empty = Self::new(self.layers.len());
        std::mem::replace(self, empty)
    }

    /// A copy of the first `len` positions in buffers of its own, so that neither cache holds up the other's writing.
    pub(crate) fn beginning(&self, len: i32) -> Result<Self> {
        let len = len.clamp(0, self.len);
        let mut copy = Self::new(self.layers.len());
        for (index, held) in self.layers.iter().enumerate().filter(|_| len > 0) {
            let Some(held) = held else { continue };
            let keys = held.keys.try_index((.., ..len, ..))?;
            let values = held.values.try_index((.., ..len, ..))?;
            copy.extend(index, &keys, &values)?;
        }
        copy.advance(len);
        // The views go with this.
        transforms::eval(copy.arrays())?;
        Ok(copy)
    }

    /// Bytes by which the buffers grow; 0 before the first token.
    pub(crate) fn step_bytes(&self) -> u64 {
        let capacity = self.layers.iter().flatten().next().map_or(0, |layer| layer.keys.dim(1));
        self.bytes / u64::from((capacity / STEP).unsigned_abs()).max(1)
    }

    /// Bytes of all buffers.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
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
            held => self.enlarged(held.as_ref(), (keys, values), end)?,
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

    /// Buffers of a layer with room for `end` positions.
    fn enlarged(
        &mut self,
        held: Option<&Layer>,
        (keys, values): (&Array, &Array),
        end: i32,
    ) -> Result<Layer> {
        let layer = match held {
            Some(held) => Layer {
                keys: grown(&held.keys, end, self.len)?,
                values: grown(&held.values, end, self.len)?,
            },
            None => Layer { keys: empty(keys, end)?, values: empty(values, end)? },
        };
        self.bytes -= held.map_or(0, Layer::bytes);
        self.bytes += layer.bytes();
        Ok(layer)
    }

    /// All buffers, to be evaluated.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flatten().flat_map(|layer| [&layer.keys, &layer.values])
    }

    /// Where each buffer lies in memory, for tests.
    #[cfg(test)]
    pub(crate) fn addresses(&self) -> Vec<usize> {
        self.arrays().map(|array| array.as_slice::<f32>().as_ptr() as usize).collect()
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

/// Positions in a buffer with room for `len`: always more, because what fills a buffer from its first to its last position
/// would not be copied into it but take its place, and may be a view of something larger.
fn capacity(len: i32) -> i32 {
    (len / STEP + 1) * STEP
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
