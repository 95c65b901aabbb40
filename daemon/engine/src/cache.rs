//! The KV cache of one model: the keys and values of the tokens seen so far, in buffers that grow by steps and are cut back
//! by moving an offset. Which tokens they belong to is the conversation's business.

use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::{Array, Dtype, ops, transforms};

use crate::error::Result;

/// Positions by which the buffers grow.
pub(crate) const STEP: i32 = 256;

/// The buffers of a layer, `[kv heads, capacity, head length]` each.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) keys: Array,
    pub(crate) values: Array,
}

impl Layer {
    fn bytes(&self) -> u64 {
        (self.keys.nbytes() + self.values.nbytes()) as u64
    }
}

/// Keys and values of every layer.
#[derive(Debug)]
pub(crate) struct KvCache {
    /// Absent before the first token.
    layers: Vec<Option<Layer>>,
    /// Positions that are filled and confirmed.
    len: i32,
    bytes: u64,
    /// What has to be computed before the buffers hold what they should, where an operation writes to them as they lie.
    writer: Option<Array>,
    /// Whether that is left to a thread beside, and nobody has waited for it.
    beside: bool,
}

impl KvCache {
    /// An empty cache of a model with so many layers.
    pub(crate) fn new(layers: usize) -> Self {
        Self {
            layers: (0..layers).map(|_| None).collect(),
            len: 0,
            bytes: 0,
            writer: None,
            beside: false,
        }
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
        self.settle()?;
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
        let shape = (keys.dim(0), keys.dim(1), keys.dim(2));
        let held = self.with_room(layer, shape, keys.dtype())?;
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

    /// Lends the buffers of a layer, with room for rows of `[kv heads, rows, head length]`, to an operation that writes to them where
    /// they lie, and what it has to come after. Whoever runs the operation tells with [`Self::written_by`] what to wait for.
    pub(crate) fn lend(
        &mut self,
        layer: usize,
        shape: (i32, i32, i32),
    ) -> Result<(&Layer, Option<&Array>)> {
        let held = self.with_room(layer, shape, Dtype::Float32)?;
        Ok((self.layers[layer].insert(held), self.writer.as_ref()))
    }

    /// The same with the buffers of all layers.
    pub(crate) fn lend_all(
        &mut self,
        shape: (i32, i32, i32),
    ) -> Result<(Vec<&Layer>, Option<&Array>)> {
        for layer in 0..self.layers.len() {
            self.lend(layer, shape)?;
        }
        Ok((self.layers.iter().flatten().collect(), self.writer.as_ref()))
    }

    /// The buffers are as they should be once this is computed.
    pub(crate) fn written_by(&mut self, writer: Array) {
        (self.writer, self.beside) = (Some(writer), false);
    }

    /// What writes to the buffers is left to a thread beside.
    pub(crate) const fn leave_beside(&mut self) {
        self.beside = true;
    }

    /// Whether it was, and nobody has waited for it.
    pub(crate) const fn is_beside(&self) -> bool {
        self.beside
    }

    /// The buffers are as they should be.
    pub(crate) fn is_written(&mut self) {
        (self.writer, self.beside) = (None, false);
    }

    /// Takes out the buffers of a layer, with room for rows of `[kv heads, rows, head length]`.
    fn with_room(
        &mut self,
        layer: usize,
        (heads, rows, length): (i32, i32, i32),
        dtype: Dtype,
    ) -> Result<Layer> {
        let end = self.len + rows;
        let new = match self.layers[layer].take() {
            Some(held) if held.keys.dim(1) >= end => return Ok(held),
            Some(held) => {
                self.settle()?;
                self.bytes -= held.bytes();
                Layer {
                    keys: grown(&held.keys, end, self.len)?,
                    values: grown(&held.values, end, self.len)?,
                }
            }
            None => {
                let empty = || ops::zeros_dtype(&[heads, capacity(end), length], dtype);
                Layer { keys: empty()?, values: empty()? }
            }
        };
        self.bytes += new.bytes();
        Ok(new)
    }

    /// Waits for what writes to the buffers where they lie.
    pub(crate) fn settle(&self) -> Result<()> {
        Ok(transforms::eval(&self.writer)?)
    }

    /// All buffers, and what writes to them, to be evaluated.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.buffers().chain(&self.writer)
    }

    fn buffers(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flatten().flat_map(|layer| [&layer.keys, &layer.values])
    }

    /// Where each buffer lies in memory, for tests.
    #[cfg(test)]
    pub(crate) fn addresses(&self) -> Vec<usize> {
        self.buffers().map(|array| array.as_slice::<f32>().as_ptr() as usize).collect()
    }

    /// All that is held, for tests.
    #[cfg(test)]
    pub(crate) fn contents(&self) -> Vec<f32> {
        if self.len == 0 {
            return Vec::new();
        }
        self.settle().unwrap();
        self.buffers()
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

fn grown(held: &Array, len: i32, filled: i32) -> Result<Array> {
    let more = capacity(len) - held.dim(1);
    debug_assert!(more > 0 && filled <= held.dim(1), "grows only when it must");
    let tail = ops::zeros_dtype(&[held.dim(0), more, held.dim(2)], held.dtype())?;
    Ok(ops::concatenate(&[held, &tail], 1)?)
}
