"""Trains one model of the pair: `python3 train.py target --tokens 20e6 --out target.npz`.

Muon for the matrices inside the layers, Adam for the rest; the rate warms up, stays, and falls linearly to zero. In the last phase
the weights are rounded as the export will round them. With `--teacher` a draft learns the distribution of the finished
target instead of the text. JAX on a CPU; two cores are enough. Reproducible by seed on the same machine.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

import data
import model
import shapes

HERE = Path(__file__).resolve().parent


def orthogonal(g):
    """Newton-Schulz iteration on a stack of matrices: towards singular values of one (the step of Muon)."""
    turn = g.shape[-2] > g.shape[-1]
    x = g.mT if turn else g
    x = x / (jnp.sqrt((x * x).sum((-2, -1), keepdims=True)) + 1e-7)
    for a, b, c in ((4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037), (2.8769, -3.1427, 1.2046)):
        y = x @ x.mT
        x = a * x + (b * y + c * (y @ y)) @ x
    return x.mT if turn else x


def update(p, m, v, grads, rate, count, muon):
    """One step of the optimiser; `rate` is Muon's, Adam's is half of it."""
    scale = jnp.minimum(1.0, 1.0 / (jnp.sqrt(sum((g * g).sum() for g in grads.values())) + 1e-6))
    new_p, new_m, new_v = {}, {}, {}
    for key, w in p.items():
        g = grads[key] * scale
        if muon and key in model.MATRICES:
            new_m[key], new_v[key] = 0.95 * m[key] + g, v[key]
            change = orthogonal(g + 0.95 * new_m[key]) * (0.2 * max(w.shape[-2:]) ** 0.5)
            new_p[key] = w * (1 - 0.1 * rate) - rate * change
            continue
        new_m[key], new_v[key] = 0.9 * m[key] + 0.1 * g, 0.98 * v[key] + 0.02 * g * g
        change = new_m[key] / (1 - 0.9**count) / (jnp.sqrt(new_v[key] / (1 - 0.98**count)) + 1e-8)
        new_p[key] = w - rate / 2 * change
    return new_p, new_m, new_v


def gradient(name: str, bits: int, teacher):
    """A compiled function from parameters and a batch to loss and gradients; `bits` 0 trains without rounding."""

    def objective(p, tokens, where, labels, weights):
        q = model.rounded(p, bits) if bits else p
        if teacher is None:
            return model.loss(q, name, tokens, where, labels, weights)
        goal = jax.nn.log_softmax(model.logits(teacher, "target", tokens, where), -1)
        return 0.7 * model.distance(q, name, goal, tokens, where, weights) + 0.3 * model.loss(q, name, tokens, where, labels, weights)

    return jax.jit(jax.value_and_grad(objective))


def rate_at(done: float, peak: float) -> float:
    """Warm-up over 2 %, flat to 50 %, then linear to 2 % of the peak."""
    if done < 0.02:
        return peak * (done + 0.001) / 0.021
    return peak if done < 0.5 else peak * max(0.02, 1 - (done - 0.5) / 0.5)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(shapes.SHAPES))
    parser.add_argument("--tokens", type=float, default=20e6)
    parser.add_argument("--batch", type=int, default=2240, help="tokens per step")
    parser.add_argument("--short", type=float, default=0, help="so many tokens at first come from short dialogues")
    parser.add_argument("--core", type=float, default=0, help="share of short dialogues about code")
    parser.add_argument("--drill", type=float, default=0, help="share of short dialogues of the kinds learnt late")
    parser.add_argument("--rate", type=float, default=0.005)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--adam", action="store_true", help="Adam for all parameters")
    parser.add_argument("--rounded", type=float, default=0.12, help="share of the steps that train the rounded weights")
    parser.add_argument("--minutes", type=float, default=1e9, help="shorten the schedule so that it ends in this time")
    parser.add_argument("--replay", type=Path, help="the .json of an earlier run: follow its schedule to the step")
    parser.add_argument("--teacher", type=Path, help="weights of the target")
    parser.add_argument("--start", type=Path, help="weights to begin with")
    parser.add_argument("--out", type=Path, default=Path("weights.npz"))
    return parser.parse_args()


def load(file: Path) -> dict:
    """Parameters as saved by this script."""
    with np.load(file) as f:
        return {k: jnp.asarray(f[k]) for k in f.files}


def main() -> None:
    args = arguments()
    tokenizer = Tokenizer.from_file(str(HERE.parent / args.name / "tokenizer.json"))
    p = load(args.start) if args.start else model.start(args.name, tokenizer.get_vocab_size(), args.seed)
    m, v = ({k: jnp.zeros_like(w) for k, w in p.items()} for _ in range(2))
    print(f"{args.name}: {sum(w.size for w in p.values())} parameters", flush=True)
    teacher = model.rounded(load(args.teacher), shapes.BITS["target"]) if args.teacher else None
    plain, last = gradient(args.name, 0, teacher), gradient(args.name, shapes.BITS[args.name], teacher)
    change = jax.jit(update, static_argnums=6, donate_argnums=(0, 1, 2))
    begin, seen, count, done, recent, log = time.time(), 0, 0, 0.0, [], []
    replay = json.loads(args.replay.read_text())["progress"] if args.replay else None
    progress = []
    for batch in data.batches(tokenizer, args.seed, args.batch, args.short, args.core, args.drill):
        if count % 20 == 0:
            # Progress is noted where it is used, so that a run that was scheduled by time can be repeated to the step.
            done = max(seen / args.tokens, (time.time() - begin) / 60 / args.minutes)
            if replay:
                done = replay[len(progress)] if len(progress) < len(replay) else 1.0
            progress.append(round(done, 5))
            if done >= 1:
                break
        count += 1
        value, grads = (last if done > 1 - args.rounded else plain)(p, *batch)
        p, m, v = change(p, m, v, grads, rate_at(done, args.rate), count, not args.adam)
        recent.append(float(value))
        seen += batch[0].size
        if count % 100 == 0:
            spent, mean = time.time() - begin, sum(recent[-100:]) / 100
            log.append((count, seen, round(spent), round(mean, 4)))
            print(f"step {count} tokens {seen} {spent:.0f} s loss {mean:.4f} {seen / spent:.0f} tokens/s", flush=True)
            np.savez(args.out, **p)
    np.savez(args.out, **p)
    final = sum(recent[-100:]) / len(recent[-100:])
    args.out.with_suffix(".json").write_text(json.dumps({"tokens": seen, "steps": count, "seconds": round(time.time() - begin), "loss": round(final, 4), "log": log, "progress": progress}))
    print(f"done: {seen} tokens, {count} steps, {time.time() - begin:.0f} s, loss {final:.4f}")


if __name__ == "__main__":
    main()
