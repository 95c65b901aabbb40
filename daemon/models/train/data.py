"""Tokens and batches: encodes dialogues, sorts them into widths, and packs batches of about equal cost."""

from random import Random

import numpy as np

import dialogues

WIDTHS = (80, 128, 176, 240, 320, 400, 560)
SHORT = 176


def encode(tokenizer, one, limit: int) -> tuple[list[int], list[bool]] | None:
    """Token ids and which of them are trained; the end is cut where the dialogue is too wide."""
    ids, trained, end = [], [], 0
    for text, wanted in dialogues.segments(one):
        piece = tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) + len(piece) > limit:
            break
        ids += piece
        trained += [wanted] * len(piece)
        if wanted:
            end = len(ids)
    return (ids[:end], trained[:end]) if end else None


def batches(tokenizer, seed: int, budget: int, short: float = 0, core: float = 0.0, drill: float = 0.0):
    """Yields (tokens, where, labels, weights) without end, each of at most `budget` tokens.

    While fewer than `short` tokens are out, dialogues are cut to a few exchanges: copying is learnt sooner in short texts.
    """
    rng, shelf = Random(seed * 7919), {w: [] for w in WIDTHS}
    held_out = dialogues.HeldOut()
    source, waiting, out = dialogues.corpus(seed, 10**12, held_out, core, drill), [], 0
    while True:
        while len(waiting) < 8:
            for _ in range(512):
                item = encode(tokenizer, next(source), SHORT if out < short else WIDTHS[-1])
                if item is None:
                    continue
                width = next(w for w in WIDTHS if w >= len(item[0]))
                shelf[width].append(item)
                if len(shelf[width]) == budget // width:
                    waiting.append((width, shelf[width]))
                    shelf[width] = []
        rng.shuffle(waiting)
        while len(waiting) >= 8:
            batch = pack(*waiting.pop(), budget)
            out += batch[0].size
            yield batch


def pack(width: int, items: list, budget: int):
    """One batch as arrays; the number of trained positions is padded to half of the tokens."""
    rows = len(items)
    tokens = np.zeros((rows, width), np.int32)
    where, labels = [], []
    for r, (ids, trained) in enumerate(items):
        tokens[r, : len(ids)] = ids
        for i in range(1, len(ids)):
            if trained[i]:
                where.append(r * width + i - 1)
                labels.append(ids[i])
    room = budget // 2
    weights = np.zeros(room, np.float32)
    weights[: len(where)] = 1
    pad = [0] * max(0, room - len(where))
    return tokens, np.array((where + pad)[:room], np.int32), np.array((labels + pad)[:room], np.int32), weights
