"""Answers questions with mlx_lm and says how long it took: one JSON object a line in, one out.

It is the other side of `dwell bench`. Nothing but the answers goes to standard output.
"""

import json
import sys
import time

target, draft = sys.argv[1], sys.argv[2]
out, sys.stdout = sys.stdout, sys.stderr

import mlx_lm  # noqa: E402
from mlx_lm import load, stream_generate  # noqa: E402

model, tokenizer = load(target)
draft_model = load(draft)[0] if draft else None
ends = set(tokenizer.eos_token_ids)


def tokens_of(asked):
    """The prompt as tokens: a text as it is, or a conversation by the chat template."""
    if "text" in asked:
        return tokenizer.encode(asked["text"])
    return tokenizer.apply_chat_template(
        asked["messages"], tools=asked["tools"] or None, add_generation_prompt=True
    )


def answer(asked):
    """Times one answer from the question to the last token."""
    options = {}
    if asked["draft_tokens"]:
        options = {"draft_model": draft_model, "num_draft_tokens": asked["draft_tokens"]}
    # A text is continued up to the token limit, whatever comes.
    tokenizer.eos_token_ids = set() if "text" in asked else ends
    start = time.perf_counter_ns()
    prompt = tokens_of(asked)
    first = None
    for response in stream_generate(
        model, tokenizer, prompt, max_tokens=asked["max_tokens"], **options
    ):
        first = first or time.perf_counter_ns()
    end = time.perf_counter_ns()
    return {
        "prompt_tokens": len(prompt),
        "tokens": response.generation_tokens,
        "first_token_ns": first - start,
        "wall_ns": end - start,
    }


def say(what):
    print(json.dumps(what), file=out, flush=True)


say({"version": mlx_lm.__version__})
for line in sys.stdin:
    say(answer(json.loads(line)))
