//! Parts of a layer as one operation each, where the build has them: CPUs with 32-bit numbers. Elsewhere the operations of MLX are
//! put together, by those who ask here first.

use std::ffi::c_int;

use mlx_rs::{Array, Stream};
use mlx_sys::fused;
pub(super) use mlx_sys::fused::Attention;
use mlx_sys::mlx_array;

use super::{Rows, Wanted};
use crate::cache::Layer;
use crate::checkpoint::config::Activation;
use crate::error::{EngineError, Result};

/// Whether the build has them.
#[cfg(not(test))]
pub(super) const fn are_here() -> bool {
    fused::HERE
}

/// The same; tests can do without, to see that both ways give the same.
#[cfg(test)]
pub(super) fn are_here() -> bool {
    fused::HERE && !BY_STEPS.get()
}

#[cfg(test)]
thread_local! {
    /// Whether models that are loaded and run on this thread put MLX's operations together.
    pub(crate) static BY_STEPS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether matrices of a whole model may be of 16 bits.
pub(super) fn take_16_bits() -> bool {
    are_here() && fused::takes_16_bits()
}

/// Each row of `x` over its root mean square, times `weight`.
pub(super) fn norm(x: &Array, weight: Option<&Array>, eps: f32) -> Result<Array> {
    let stream = Stream::thread_local_or_default();
    let weight = weight.map_or(no_array(), Array::as_ptr);
    made("a norm", |result| {
        #[expect(unsafe_code, reason = "a call into C")]
        // SAFETY: every handle is alive during the call, and `result` is written before it is read.
        unsafe {
            fused::fused_norm(result, x.as_ptr(), weight, eps, stream.as_ptr())
        }
    })
}

/// The activated gate times up, which lie side by side in the last axis.
pub(super) fn gated(both: &Array, activation: Activation) -> Result<Array> {
    let stream = Stream::thread_local_or_default();
    made("a gate", |result| {
        #[expect(unsafe_code, reason = "a call into C")]
        // SAFETY: every handle is alive during the call, and `result` is written before it is read.
        unsafe {
            fused::fused_gated(result, both.as_ptr(), number(activation), stream.as_ptr())
        }
    })
}

/// A dense matrix as it lies, and what is added to its products.
pub(super) type Matrix<'a> = (&'a Array, Option<&'a Array>);

/// Attention as a whole, or what lies between its products.
pub(super) struct Attending<'a> {
    pub(super) how: Attention,
    /// Buffers with room for the rows, which are written to where they lie.
    pub(super) buffers: &'a Layer,
    /// Cosines and signed sines by row, and which are the first row's.
    pub(super) turns: (&'a Array, &'a Array, i32),
    /// The weights of the heads' norm.
    pub(super) norm: Option<&'a Array>,
    /// What wrote to the buffers before.
    pub(super) after: Option<&'a Array>,
}

impl Attending<'_> {
    /// What rows of queries, keys and values, side by side, attend to: `[rows, heads * length]`.
    pub(super) fn mix(&self, qkv: &Array) -> Result<Array> {
        let stream = Stream::thread_local_or_default();
        let input = handles(&[Some(qkv)], &self.arrays());
        let (count, first) = (count(&input), self.turns.2);
        made("attention", |result| {
            #[expect(unsafe_code, reason = "a call into C")]
            // SAFETY: every handle is alive during the call and in the shape asked for, and the cache waits for what wrote to its
            // buffers.
            unsafe {
                fused::fused_mix(
                    result,
                    input.as_ptr(),
                    count,
                    &raw const self.how,
                    first,
                    stream.as_ptr(),
                )
            }
        })
    }

    /// The rows `x` and what attention adds to them, between the matrix of queries, keys and values and that of the output.
    pub(super) fn whole(
        &self,
        x: &Array,
        eps: f32,
        qkv: Matrix<'_>,
        output: Matrix<'_>,
    ) -> Result<Array> {
        let stream = Stream::thread_local_or_default();
        let matrices = [Some(x), Some(qkv.0), qkv.1, Some(output.0), output.1];
        let input = handles(&matrices, &self.arrays());
        let (count, first) = (count(&input), self.turns.2);
        made("attention", |result| {
            #[expect(unsafe_code, reason = "a call into C")]
            // SAFETY: as above.
            unsafe {
                fused::fused_whole_attention(
                    result,
                    input.as_ptr(),
                    count,
                    &raw const self.how,
                    first,
                    eps,
                    stream.as_ptr(),
                )
            }
        })
    }

    fn arrays(&self) -> [Option<&Array>; 6] {
        let Layer { keys, values } = self.buffers;
        let (cos, sin, _) = self.turns;
        [Some(keys), Some(values), Some(cos), Some(sin), self.norm, self.after]
    }
}

/// The rows `x` and what the feed-forward part between two matrices adds to them.
pub(super) fn whole_mlp(
    x: &Array,
    eps: f32,
    gate_up: Matrix<'_>,
    activation: Activation,
    down: Matrix<'_>,
) -> Result<Array> {
    let stream = Stream::thread_local_or_default();
    let input = handles(&[Some(x), Some(gate_up.0), gate_up.1, Some(down.0), down.1], &[]);
    let count = count(&input);
    made("a feed-forward part", |result| {
        #[expect(unsafe_code, reason = "a call into C")]
        // SAFETY: every handle is alive during the call, and `result` is written before it is read.
        unsafe {
            fused::fused_whole_mlp(
                result,
                input.as_ptr(),
                count,
                number(activation),
                eps,
                stream.as_ptr(),
            )
        }
    })
}

/// A model as a whole.
pub(super) struct Whole<'a> {
    pub(super) embedding: &'a Array,
    pub(super) embedding_factor: f32,
    pub(super) layers: Vec<WholeLayer<'a>>,
    pub(super) activation: Activation,
    pub(super) norm: &'a Array,
    pub(super) eps: f32,
    pub(super) head: Matrix<'a>,
    pub(super) logits_factor: f32,
    /// What wrote to the buffers before.
    pub(super) after: Option<&'a Array>,
}

/// A layer of it.
pub(super) struct WholeLayer<'a> {
    pub(super) qkv: Matrix<'a>,
    /// But for what comes before, which the model has.
    pub(super) attending: Attending<'a>,
    pub(super) output: Matrix<'a>,
    pub(super) gate_up: Matrix<'a>,
    pub(super) down: Matrix<'a>,
}

impl Whole<'_> {
    /// The logits of the rows that are wanted; where none are, a number that is there when the buffers are written.
    pub(super) fn forward(&self, tokens: &Array, rows: Rows) -> Result<Array> {
        let stream = Stream::thread_local_or_default();
        let (input, attentions) = (self.arrays(Some(tokens)), self.attentions());
        let manner = self.manner(rows);
        made("a pass", |result| {
            #[expect(unsafe_code, reason = "a call into C")]
            // SAFETY: every handle is alive during the call and in the shape asked for, there is a `how` and a `first` for each layer,
            // and the cache waits for what wrote to its buffers.
            unsafe {
                fused::fused_whole_model(
                    result,
                    input.as_ptr(),
                    count(&input),
                    attentions.hows.as_ptr(),
                    attentions.firsts.as_ptr(),
                    attentions.count(),
                    &raw const manner,
                    stream.as_ptr(),
                )
            }
        })
    }

    /// Which of the first `among` tokens are the likeliest, computed on this thread: the buffers are written when this returns.
    pub(super) fn likeliest(&self, tokens: &[u32], wanted: Wanted, among: i32) -> Result<Vec<u32>> {
        let (input, attentions) = (self.arrays(None), self.attentions());
        let (rows, count, steps) = match wanted {
            Wanted::EachRow => (Rows::All, tokens.len(), 0),
            Wanted::Behind(steps) => (Rows::Last, steps, steps),
        };
        let manner = self.manner(rows);
        let mut likeliest = vec![0; count];
        #[expect(unsafe_code, reason = "a call into C")]
        // SAFETY: as above; nobody else works on the buffers, since this thread is the only one that uses them, and the call waits
        // for what it enqueued before.
        let failed = unsafe {
            fused::fused_likeliest(
                likeliest.as_mut_ptr(),
                tokens.as_ptr(),
                c_int::try_from(tokens.len()).unwrap_or(0),
                input.as_ptr(),
                self::count(&input),
                attentions.hows.as_ptr(),
                attentions.firsts.as_ptr(),
                attentions.count(),
                &raw const manner,
                among,
                c_int::try_from(steps).unwrap_or(0),
            )
        };
        if failed == 0 { Ok(likeliest) } else { Err(uncomputed("a pass")) }
    }

    fn arrays(&self, tokens: Option<&Array>) -> Vec<mlx_array> {
        let (head, bias) = self.head;
        let first = [tokens, Some(self.embedding), Some(self.norm), Some(head), bias, self.after];
        let mut arrays = handles(&first, &[]);
        for layer in &self.layers {
            let [keys, values, cos, sin, norm, _] = layer.attending.arrays();
            arrays.extend(handles(
                &[Some(layer.qkv.0), layer.qkv.1, Some(layer.output.0), layer.output.1],
                &[keys, values, cos, sin, norm],
            ));
            arrays.extend(handles(
                &[Some(layer.gate_up.0), layer.gate_up.1, Some(layer.down.0), layer.down.1],
                &[],
            ));
        }
        arrays
    }

    fn attentions(&self) -> Attentions {
        let attending = || self.layers.iter().map(|layer| &layer.attending);
        Attentions {
            hows: attending().map(|attending| attending.how).collect(),
            firsts: attending().map(|attending| attending.turns.2).collect(),
        }
    }

    const fn manner(&self, rows: Rows) -> fused::Manner {
        fused::Manner {
            activation: number(self.activation),
            wanted: match rows {
                Rows::None => 0,
                Rows::Last => 1,
                Rows::All => 2,
            },
            eps: self.eps,
            embedding_factor: self.embedding_factor,
            logits_factor: self.logits_factor,
        }
    }
}

/// How each layer attends, and the row at which its cosines and sines begin.
struct Attentions {
    hows: Vec<Attention>,
    firsts: Vec<c_int>,
}

impl Attentions {
    fn count(&self) -> c_int {
        c_int::try_from(self.hows.len()).unwrap_or(0)
    }
}

const fn number(activation: Activation) -> c_int {
    match activation {
        Activation::Silu => 0,
        Activation::GeluTanh => 1,
    }
}

fn handles(first: &[Option<&Array>], then: &[Option<&Array>]) -> Vec<mlx_array> {
    let all = first.iter().chain(then);
    all.map(|array| array.map_or(no_array(), Array::as_ptr)).collect()
}

fn count(handles: &[mlx_array]) -> c_int {
    c_int::try_from(handles.len()).unwrap_or(0)
}

/// The array that `call` makes.
fn made(what: &str, call: impl FnOnce(*mut mlx_array) -> c_int) -> Result<Array> {
    let mut handle = no_array();
    if call(&raw mut handle) != 0 {
        return Err(uncomputed(what));
    }
    #[expect(unsafe_code, reason = "a handle becomes an array")]
    // SAFETY: the call succeeded, so the handle is that of a new array which nobody else owns.
    Ok(unsafe { Array::from_ptr(handle) })
}

fn uncomputed(what: &str) -> EngineError {
    EngineError::Mlx(format!("{what} could not be computed"))
}

/// The handle that stands for no array; nothing has to be freed.
const fn no_array() -> mlx_array {
    mlx_array { ctx: std::ptr::null_mut() }
}
