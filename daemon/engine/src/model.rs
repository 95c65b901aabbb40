//! A model: embedding, layers of attention and feed-forward part, head. Works on rows without a batch axis, because the
//! engine serves one conversation at a time. What layers are made of is in the files below; which families there are and
//! what their layers have is in `families`.

mod attention;
pub(crate) mod families;
mod fused;
mod mlp;
mod moe;
mod norm;
mod positions;
mod residual;
pub(crate) mod rope;
mod stacked;

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype, ops, transforms};

use crate::cache::KvCache;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::config::{Head, Layer, ModelConfig, Norms};
use crate::error::{EngineError, Result};
use crate::linear::{Linear, Loader, Matrix, Storage};
use attention::Attention;
use fused::{Whole, WholeLayer};
use mlp::Mlp;
use moe::Mixture;
use norm::RmsNorm;
use positions::{Positions, Step, unless_one};
use residual::LARGEST_FLOAT16;

#[cfg(test)]
pub(crate) use fused::BY_STEPS;

/// Which rows' logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// None: only the cache is filled.
    None,
    /// The last row's.
    Last,
    /// Every row's.
    All,
}

/// Which likeliest tokens are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The one behind each row.
    EachRow,
    /// So many behind the last row, at least one, each following on the one before.
    Behind(usize),
}

/// A model with its weights.
#[derive(Debug)]
pub(crate) struct Model {
    config: ModelConfig,
    embedding: Matrix,
    embedding_factor: Option<Array>,
    blocks: Vec<Block>,
    norm: RmsNorm,
    last_norm: Array,
    head: Linear,
    /// Whether the head is the embedding.
    tied: bool,
    logits_factor: Option<Array>,
    positions: Positions,
    /// Logits behind this many ids are not looked at: padding of the matrix, or ids the other model of the pair lacks.
    vocab: i32,
}

/// A layer.
#[derive(Debug)]
struct Block {
    attention: Attention,
    feed_forward: FeedForward,
}

#[derive(Debug)]
enum FeedForward {
    Dense(Mlp),
    Experts(Mixture),
}

impl Model {
    /// Loads and evaluates every weight.
    pub(crate) fn load(checkpoint: &Checkpoint, storage: Storage) -> Result<Self> {
        let config = checkpoint.config.clone();
        let loader = Loader { checkpoint, storage };
        let (hidden, vocab, body) = (config.hidden_size, config.vocab_size, config.body);
        let embedding = loader.matrix(&format!("{body}.embed_tokens"), vocab, hidden)?;
        let tied = match config.head {
            Head::Tied => true,
            Head::Own => false,
            Head::OwnIfPresent => !checkpoint.weights.has(&format!("{}.weight", config.head_path)),
        };
        let head = if tied {
            Linear::sharing(embedding.clone(), None)?
        } else {
            Linear::new(storage.device, loader.matrix(config.head_path, vocab, hidden)?, None)?
        };
        let blocks = config.layers.iter().enumerate();
        let model = Self {
            embedding,
            embedding_factor: unless_one(config.factors.embedding),
            blocks: blocks
                .map(|(index, layer)| Block::load(loader, index, *layer))
                .collect::<Result<_>>()?,
            norm: RmsNorm::new(storage.device, hidden, config.eps)?,
            last_norm: norm::weight(loader, &config, &format!("{body}.norm"), hidden)?,
            head,
            tied,
            logits_factor: unless_one(config.factors.logits),
            positions: Positions::new(&config, storage.device)?,
            vocab,
            config,
        };
        checkpoint.refuse_unknown(tied)?;
        transforms::eval(model.arrays())?;
        Ok(model)
    }

    /// Number of layers.
    pub(crate) const fn layers(&self) -> usize {
        self.blocks.len()
    }

    /// Holds the matrices in 16 bits from now on, where that is possible: a pass over a few rows takes as long as reading them does. For
    /// models whose logits need not be the checkpoint's to the last bit, as those of drafts. Whether it is so now.
    pub(crate) fn halve(&mut self) -> Result<bool> {
        if !self.is_whole() || !fused::take_16_bits() || !self.fits_16_bits()? {
            return Ok(false);
        }
        if let Some(embedding) = self.embedding.dense() {
            self.embedding = Matrix::Dense(embedding.as_dtype(Dtype::Float16)?);
        }
        if self.tied {
            self.head = Linear::sharing(self.embedding.clone(), None)?;
        } else {
            self.head.halve()?;
        }
        for block in &mut self.blocks {
            block.attention.halve()?;
            if let FeedForward::Dense(mlp) = &mut block.feed_forward {
                mlp.halve()?;
            }
        }
        transforms::eval(self.arrays())?;
        Ok(true)
    }

    /// Whether no number of a matrix is beyond those of 16 bits.
    fn fits_16_bits(&self) -> Result<bool> {
        let matrices = self.blocks.iter().filter_map(Block::alone);
        let matrices = matrices.flat_map(|((a, b), (c, d))| [a.0, b.0, c.0, d.0]);
        let outer = [self.embedding.dense(), self.head.dense().map(|head| head.0)];
        for matrix in matrices.chain(outer.into_iter().flatten()) {
            let most = ops::max(ops::abs(matrix)?, None)?;
            let most: f32 =
                most.try_item_cast().map_err(|error| EngineError::Mlx(error.to_string()))?;
            if most.is_nan() || most > LARGEST_FLOAT16 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Looks only at the first `vocab` logits from now on.
    pub(crate) fn narrow(&mut self, vocab: i32) {
        self.vocab = self.vocab.min(vocab);
    }

    /// Runs `tokens`, a vector of ids, behind what `cache` holds, and returns the logits asked for, one row each.
    pub(crate) fn forward(
        &self,
        tokens: &Array,
        cache: &mut KvCache,
        rows: Rows,
    ) -> Result<Option<Array>> {
        let count = tokens.dim(0);
        if let Some(logits) = self.at_once(tokens, cache, rows)? {
            cache.advance(count);
            cache.written_by(logits.clone());
            return if rows == Rows::None { Ok(None) } else { self.narrowed(logits).map(Some) };
        }
        let mut x = self.embedding.rows(tokens)?;
        if let Some(factor) = &self.embedding_factor {
            x = ops::multiply(&x, factor.as_dtype(x.dtype())?)?;
        }
        let step = self.positions.step(cache.len(), count)?;
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, &self.norm, &step, (cache, index))?;
        }
        cache.advance(count);
        if self.is_fused() {
            cache.written_by(x.clone());
        }
        let x = match rows {
            Rows::None => return Ok(None),
            Rows::Last if count > 1 => x.try_index((count - 1..count, ..))?,
            Rows::Last | Rows::All => x,
        };
        let mut logits = self.head.forward(&self.norm.apply(&x, Some(&self.last_norm))?)?;
        if let Some(factor) = &self.logits_factor {
            logits = ops::multiply(&logits, factor.as_dtype(logits.dtype())?)?;
        }
        self.narrowed(logits).map(Some)
    }

    /// The logits that are looked at.
    fn narrowed(&self, logits: Array) -> Result<Array> {
        if self.vocab < self.config.vocab_size {
            return Ok(logits.try_index((.., ..self.vocab))?);
        }
        Ok(logits)
    }

    /// Whether its parts are operations of ours; see [`fused`].
    pub(crate) const fn is_fused(&self) -> bool {
        self.norm.fused().is_some()
    }

    /// Whether [`Self::likeliest`] gives any.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_fused()
            && self.embedding.dense().is_some()
            && self.head.dense().is_some()
            && self.blocks.iter().all(|block| block.alone().is_some())
    }

    /// Likeliest tokens, when `tokens` follow what `cache` holds. Where the whole pass is one operation this thread computes it,
    /// without a graph of MLX's; else nothing is done, and `None`. The last token that comes is not in the cache.
    pub(crate) fn likeliest(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        wanted: Wanted,
    ) -> Result<Option<Vec<u32>>> {
        if !self.is_whole() {
            return Ok(None);
        }
        if let Wanted::Behind(steps @ 2..) = wanted
            && self.config.window.is_some()
        {
            return self.one_by_one(tokens, cache, steps);
        }
        let behind = if let Wanted::Behind(steps) = wanted { steps.saturating_sub(1) } else { 0 };
        let count = i32::try_from(tokens.len() + behind).unwrap_or(i32::MAX);
        let step = self.positions.step(cache.len(), count)?;
        let Some(whole) = self.whole((&step, count), cache)? else { return Ok(None) };
        let likeliest = whole.likeliest(tokens, wanted, self.vocab)?;
        cache.advance(count);
        cache.is_written();
        Ok(Some(likeliest))
    }

    /// The same for several tokens where what a row sees has to be found out for each.
    fn one_by_one(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        steps: usize,
    ) -> Result<Option<Vec<u32>>> {
        let mut all = Vec::with_capacity(steps);
        let mut input = tokens.to_vec();
        for _ in 0..steps {
            let next = self.likeliest(&input, cache, Wanted::Behind(1))?;
            let Some(next) = next else { return Ok(None) };
            all.extend_from_slice(&next);
            input = next;
        }
        Ok(Some(all))
    }

    /// The whole pass as one operation, where every part of the model can be a part of it.
    fn at_once(&self, tokens: &Array, cache: &mut KvCache, rows: Rows) -> Result<Option<Array>> {
        if !self.is_fused() {
            return Ok(None);
        }
        let step = self.positions.step(cache.len(), tokens.dim(0))?;
        let whole = self.whole((&step, tokens.dim(0)), cache)?;
        whole.map(|whole| whole.forward(tokens, rows)).transpose()
    }

    /// The model as one operation on so many rows, where every part of it can be a part of that.
    fn whole<'a>(
        &'a self,
        (step, count): (&'a Step<'_>, i32),
        cache: &'a mut KvCache,
    ) -> Result<Option<Whole<'a>>> {
        let parts = (self.norm.fused(), self.embedding.dense(), self.head.dense());
        let (Some(eps), Some(embedding), Some(head)) = parts else { return Ok(None) };
        let Some(shape) = self.blocks.first().map(|block| block.attention.heads()) else {
            return Ok(None);
        };
        let matrices: Option<Vec<_>> = self.blocks.iter().map(Block::alone).collect();
        let Some(matrices) = matrices else { return Ok(None) };
        let start = cache.len();
        let (buffers, after) = cache.lend_all((shape.0, count, shape.1))?;
        let blocks = self.blocks.iter().zip(matrices).zip(buffers);
        let layers: Option<Vec<WholeLayer<'_>>> = blocks
            .map(|((block, ((qkv, output), (gate_up, down))), buffers)| {
                let attending = block.attention.attending(step, start, (buffers, None))?;
                Some(WholeLayer { qkv, attending, output, gate_up, down })
            })
            .collect();
        let Some(layers) = layers else { return Ok(None) };
        Ok(Some(Whole {
            embedding,
            embedding_factor: self.config.factors.embedding,
            layers,
            activation: self.config.mlp.activation,
            norm: &self.last_norm,
            eps,
            head,
            logits_factor: self.config.factors.logits,
            after,
        }))
    }

    /// Numbers in the largest matrix of a layer.
    pub(crate) fn largest_matrix(&self) -> u64 {
        let dense = self.config.layers.iter().any(|layer| !layer.experts);
        let dense = dense.then_some(self.config.mlp.inner);
        let experts = self.config.experts.as_ref().map(|experts| experts.inner);
        let inner = dense.max(experts).unwrap_or_default();
        let dims = [self.config.hidden_size, 2 * inner];
        dims.into_iter().map(|dim| u64::from(dim.unsigned_abs())).product()
    }

    fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.embedding.arrays();
        arrays.extend(self.head.arrays());
        arrays.push(&self.last_norm);
        for block in &self.blocks {
            arrays.extend(block.attention.arrays());
            arrays.extend(match &block.feed_forward {
                FeedForward::Dense(mlp) => mlp.arrays(),
                FeedForward::Experts(mixture) => mixture.arrays(),
            });
        }
        arrays
    }
}

/// The matrix before and the one behind what each part of a layer does.
type Matrices<'a> =
    ((fused::Matrix<'a>, fused::Matrix<'a>), (fused::Matrix<'a>, fused::Matrix<'a>));

impl Block {
    fn load(loader: Loader<'_>, index: usize, layer: Layer) -> Result<Self> {
        let config = &loader.checkpoint.config;
        let at = |module: &str| format!("{}.layers.{index}.{module}", config.body);
        let (first, second) = (at("input_layernorm"), at("post_attention_layernorm"));
        let around = [at("pre_feedforward_layernorm"), at("post_feedforward_layernorm")];
        // The norm behind attention has the name that the one before the feed-forward part has where there is none behind.
        let ((before, behind), (then, finally)) = match config.norms {
            Norms::Before => ((&first, None), (&second, None)),
            Norms::AroundPlusOne => {
                ((&first, Some(second.as_str())), (&around[0], Some(around[1].as_str())))
            }
        };
        let mlp = at("mlp");
        Ok(Self {
            attention: Attention::load(loader, &at("self_attn"), layer, (before, behind))?,
            feed_forward: if layer.experts {
                let experts = config.experts.as_ref().ok_or_else(moe::undescribed)?;
                FeedForward::Experts(Mixture::load(loader, &mlp, then, experts)?)
            } else {
                FeedForward::Dense(Mlp::load(loader, &mlp, (then, finally))?)
            },
        })
    }

    /// The matrices of attention and of the feed-forward part, where these are all that there is.
    fn alone(&self) -> Option<Matrices<'_>> {
        match &self.feed_forward {
            FeedForward::Dense(mlp) => self.attention.alone().zip(mlp.alone()),
            FeedForward::Experts(_) => None,
        }
    }

    fn forward(
        &self,
        x: &Array,
        norm: &RmsNorm,
        step: &Step<'_>,
        cache: (&mut KvCache, usize),
    ) -> Result<Array> {
        let x = self.attention.forward(x, norm, step, cache)?;
        match &self.feed_forward {
            FeedForward::Dense(mlp) => mlp.forward(&x, norm),
            FeedForward::Experts(mixture) => mixture.forward(&x, norm),
        }
    }
}

#[cfg(test)]
mod tests;
