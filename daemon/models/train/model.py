"""The Qwen2 forward pass for training, in JAX: shapes, start values, rounding and loss.

Layers are stacked along the first axis. `mlx_lm` and the engine run the exported files; `export.py` gives them their names.
"""

import jax
import jax.numpy as jnp

from shapes import EPS, GROUP, ROPE_BASE, SHAPES

MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


def start(name: str, vocabulary: int, seed: int) -> dict:
    """Random start values; biases of q, k and v are zero."""
    s = SHAPES[name]
    h, m, n = s["hidden_size"], s["intermediate_size"], s["num_hidden_layers"]
    kv = h // s["num_attention_heads"] * s["num_key_value_heads"]
    keys = iter(jax.random.split(jax.random.key(seed), 8))

    def normal(rows, columns, scale):
        return jax.random.normal(next(keys), (n, rows, columns)) * scale

    wide, small = h**-0.5, h**-0.5 * (2 * n) ** -0.5
    return {
        "embed": jax.random.normal(next(keys), (vocabulary, h)) * 0.02, "norm": jnp.ones(h), "norm1": jnp.ones((n, h)), "norm2": jnp.ones((n, h)),
        "q": normal(h, h, wide), "k": normal(kv, h, wide), "v": normal(kv, h, wide), "o": normal(h, h, small),
        "gate": normal(m, h, wide), "up": normal(m, h, wide), "down": normal(h, m, small),
        "q_bias": jnp.zeros((n, h)), "k_bias": jnp.zeros((n, kv)), "v_bias": jnp.zeros((n, kv)),
    }


def _round(w, bits: int):
    """MLX's affine rounding: per group, the end of the range that is larger in size is met exactly."""
    top = 2**bits - 1
    g = w.reshape(*w.shape[:-1], -1, GROUP)
    high, low = g.max(-1, keepdims=True), g.min(-1, keepdims=True)
    side = jnp.abs(low) > jnp.abs(high)
    scale = jnp.maximum((high - low) / top, 1e-7)
    scale = jnp.where(side, scale, -scale)
    edge = jnp.where(side, low, high)
    steps = jnp.round(edge / scale)
    scale = jnp.where(steps != 0, edge / jnp.where(steps != 0, steps, 1), scale)
    bias = jnp.where(steps != 0, edge, 0)
    return (jnp.clip(jnp.round((g - bias) / scale), 0, top) * scale + bias).reshape(w.shape)


def rounded(p: dict, bits: int) -> dict:
    """The parameters as quantisation will store them; gradients pass straight through."""
    return {k: w + jax.lax.stop_gradient(_round(w, bits) - w) if k in MATRICES or k == "embed" else w for k, w in p.items()}


def _norm(x, w):
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + EPS) * w


def _rope(x):
    half = x.shape[-1] // 2
    angle = jnp.arange(x.shape[1])[:, None] * ROPE_BASE ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angle)[None, :, None], jnp.sin(angle)[None, :, None]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def logits(p: dict, name: str, tokens, where):
    """Next-token logits at the flat positions `where`: (positions, vocabulary)."""
    s = SHAPES[name]
    heads, kv = s["num_attention_heads"], s["num_key_value_heads"]
    rows, width = tokens.shape
    size = s["hidden_size"] // heads
    x = p["embed"][tokens]
    mask = jnp.where(jnp.tril(jnp.ones((width, width), bool)), 0.0, -1e9)
    for i in range(s["num_hidden_layers"]):
        y = _norm(x, p["norm1"][i])
        q = _rope((y @ p["q"][i].T + p["q_bias"][i]).reshape(rows, width, heads, size)).reshape(rows, width, kv, heads // kv, size)
        k = _rope((y @ p["k"][i].T + p["k_bias"][i]).reshape(rows, width, kv, size))
        v = (y @ p["v"][i].T + p["v_bias"][i]).reshape(rows, width, kv, size)
        weights = jax.nn.softmax(jnp.einsum("rwgcd,rvgd->rgcwv", q, k) * size**-0.5 + mask, -1)
        x = x + jnp.einsum("rgcwv,rvgd->rwgcd", weights, v).reshape(rows, width, heads * size) @ p["o"][i].T
        y = _norm(x, p["norm2"][i])
        x = x + (jax.nn.silu(y @ p["gate"][i].T) * (y @ p["up"][i].T)) @ p["down"][i].T
    return _norm(x, p["norm"]).reshape(-1, s["hidden_size"])[where] @ p["embed"].T


def loss(p: dict, name: str, tokens, where, labels, weights):
    """Mean cross-entropy at the positions `where`, whose next tokens are `labels`."""
    z = logits(p, name, tokens, where)
    miss = jax.nn.logsumexp(z, -1) - jnp.take_along_axis(z, labels[:, None], -1)[:, 0]
    return (miss * weights).sum() / weights.sum()


def distance(p: dict, name: str, goal, tokens, where, weights):
    """Mean cross-entropy to the distribution `goal` of a larger model (log-probabilities at `where`)."""
    z = jax.nn.log_softmax(logits(p, name, tokens, where), -1)
    return -((jnp.exp(goal) * z).sum(-1) * weights).sum() / weights.sum()
