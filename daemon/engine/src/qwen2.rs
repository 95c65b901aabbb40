//! The Qwen2 architecture: embedding, layers of attention and gated MLP, head. Works on rows without a batch axis, because
//! the engine serves one conversation at a time.

mod cpu;
mod gpu;

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops, transforms};

use crate::cache::KvCache;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::config::ModelConfig;
use crate::error::Result;
use crate::linear::{Device, Linear, Loader, Matrix, Storage};

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

/// A model with its weights.
#[derive(Debug)]
pub(crate) struct Model {
    config: ModelConfig,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Array,
    head: Linear,
    path: Path,
    /// Logits behind this many ids are not looked at: padding of the matrix, or ids the other model of the pair lacks.
    vocab: i32,
}

/// The parts that differ by device.
#[derive(Debug)]
enum Path {
    Cpu(cpu::Tables),
    Gpu,
}

#[derive(Debug)]
struct Layer {
    /// Queries, keys and values in one product where they are held alike.
    qkv: Stacked,
    output: Linear,
    gate_up: Stacked,
    down: Linear,
}

/// A norm and the matrices that are applied to its rows.
#[derive(Debug)]
struct Stacked {
    /// The norm's weight, unless the matrices have taken it in.
    norm: Option<Array>,
    linears: Vec<Linear>,
}

/// What a [`Stacked`] is made of.
struct Parts<'a> {
    norm: String,
    /// Paths, rows, and factors on the products.
    matrices: &'a [(String, i32, f32)],
    columns: i32,
    bias: bool,
}

impl Stacked {
    fn load(loader: Loader<'_>, parts: &Parts<'_>) -> Result<Self> {
        let norm = loader.vector(&parts.norm, parts.columns)?;
        let mut matrices = Vec::new();
        let mut biases = Vec::new();
        for (path, rows, factor) in parts.matrices {
            let matrix = loader.matrix(path, *rows, parts.columns)?;
            let scaled = (*factor - 1.0).abs() > f32::EPSILON;
            matrices.push(if scaled { matrix.scaled(*factor)? } else { matrix });
            if parts.bias {
                let bias = loader.vector(&format!("{path}.bias"), *rows)?;
                biases.push(if scaled {
                    ops::multiply(&bias, Array::from_f32(*factor).as_dtype(bias.dtype())?)?
                } else {
                    bias
                });
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
        let linears = matrices.into_iter().map(|matrix| Linear::new(matrix, biases.next()));
        Ok(Self { norm: (!fold).then_some(norm), linears: linears.collect::<Result<_>>()? })
    }

    /// The products side by side.
    fn forward(&self, x: &Array) -> Result<Array> {
        if let [linear] = self.linears.as_slice() {
            return linear.forward(x);
        }
        let parts: Vec<Array> =
            self.linears.iter().map(|linear| linear.forward(x)).collect::<Result<_>>()?;
        Ok(ops::concatenate(&parts, 1)?)
    }

    fn arrays(&self) -> Vec<&Array> {
        self.linears.iter().flat_map(Linear::arrays).chain(&self.norm).collect()
    }
}

impl Model {
    /// Loads and evaluates every weight.
    pub(crate) fn load(checkpoint: &Checkpoint, storage: Storage) -> Result<Self> {
        let config = checkpoint.config.clone();
        let loader = Loader { checkpoint, storage };
        let (hidden, vocab) = (config.hidden_size, config.vocab_size);
        let embedding = loader.matrix("model.embed_tokens", vocab, hidden)?;
        let head = if config.tied {
            embedding.clone()
        } else {
            loader.matrix("lm_head", vocab, hidden)?
        };
        let model = Self {
            embedding,
            layers: (0..config.layers)
                .map(|index| Layer::load(loader, index))
                .collect::<Result<_>>()?,
            norm: loader.vector("model.norm.weight", hidden)?,
            head: Linear::new(head, None)?,
            path: match storage.device {
                Device::Cpu => Path::Cpu(cpu::Tables::new(&config)?),
                Device::Gpu => Path::Gpu,
            },
            vocab,
            config,
        };
        transforms::eval(model.arrays())?;
        Ok(model)
    }

    /// Number of layers.
    pub(crate) const fn layers(&self) -> usize {
        self.layers.len()
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
        let mut x = self.embedding.rows(tokens)?;
        let step = match &self.path {
            Path::Cpu(tables) => Step::Cpu(tables.step(&self.config, cache.len(), count)?),
            Path::Gpu => Step::Gpu,
        };
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = self.norm(&x, layer.qkv.norm.as_ref())?;
            let qkv = layer.qkv.forward(&normed)?;
            let mixed = match &step {
                Step::Cpu(step) => cpu::attend(&self.config, step, &qkv, (cache, index))?,
                Step::Gpu => gpu::attend(&self.config, &qkv, (cache, index))?,
            };
            x = layer.output.forward_onto(&x, &mixed)?;
            let normed = self.norm(&x, layer.gate_up.norm.as_ref())?;
            let both = layer.gate_up.forward(&normed)?;
            let parts = ops::split_equal(&both, 2, 1)?;
            let gated =
                ops::multiply(ops::multiply(&parts[0], ops::sigmoid(&parts[0])?)?, &parts[1])?;
            x = layer.down.forward_onto(&x, &gated)?;
        }
        cache.advance(count);
        let x = match rows {
            Rows::None => return Ok(None),
            Rows::Last if count > 1 => x.try_index((count - 1..count, ..))?,
            Rows::Last | Rows::All => x,
        };
        let logits = self.head.forward(&self.norm(&x, Some(&self.norm))?)?;
        if self.vocab < self.config.vocab_size {
            return Ok(Some(logits.try_index((.., ..self.vocab))?));
        }
        Ok(Some(logits))
    }

    /// Numbers in the largest matrix of a layer.
    pub(crate) fn largest_matrix(&self) -> u64 {
        let dims = [self.config.hidden_size, 2 * self.config.intermediate_size];
        dims.into_iter().map(|dim| u64::from(dim.unsigned_abs())).product()
    }

    fn norm(&self, x: &Array, weight: Option<&Array>) -> Result<Array> {
        match &self.path {
            Path::Cpu(tables) => tables.norm(x, weight),
            Path::Gpu => Ok(mlx_rs::fast::rms_norm(x, weight, self.config.rms_norm_eps)?),
        }
    }

    fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.embedding.arrays();
        arrays.extend(self.head.arrays());
        arrays.push(&self.norm);
        for layer in &self.layers {
            arrays.extend(layer.qkv.arrays());
            arrays.extend(layer.output.arrays());
            arrays.extend(layer.gate_up.arrays());
            arrays.extend(layer.down.arrays());
        }
        arrays
    }
}

enum Step {
    Cpu(cpu::Step),
    Gpu,
}

impl Layer {
    fn load(loader: Loader<'_>, index: usize) -> Result<Self> {
        let config = &loader.checkpoint.config;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let at = |module: &str| format!("model.layers.{index}.{module}");
        let kv = config.kv_heads * config.head_dim();
        // The fused kernels scale the scores themselves.
        let scale = match loader.storage.device {
            Device::Cpu => (config.head_dim() as f32).sqrt().recip(),
            Device::Gpu => 1.0,
        };
        let attention = Parts {
            norm: at("input_layernorm.weight"),
            matrices: &[
                (at("self_attn.q_proj"), hidden, scale),
                (at("self_attn.k_proj"), kv, 1.0),
                (at("self_attn.v_proj"), kv, 1.0),
            ],
            columns: hidden,
            bias: true,
        };
        let mlp = Parts {
            norm: at("post_attention_layernorm.weight"),
            matrices: &[(at("mlp.gate_proj"), inner, 1.0), (at("mlp.up_proj"), inner, 1.0)],
            columns: hidden,
            bias: false,
        };
        let plain = |path: &str, rows: i32, columns: i32| {
            Linear::new(loader.matrix(&at(path), rows, columns)?, None)
        };
        Ok(Self {
            qkv: Stacked::load(loader, &attention)?,
            output: plain("self_attn.o_proj", hidden, hidden)?,
            gate_up: Stacked::load(loader, &mlp)?,
            down: plain("mlp.down_proj", hidden, inner)?,
        })
    }
}
