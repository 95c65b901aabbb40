"""Judges the exported pair with `mlx_lm`: tool against direct, exact arguments, the standard queries, drafting.

Asks the hand-written questions of `questions.toml`, then the same with names drawn at run time, then gives tool results back. Needs
`mlx-lm`, not the training packages. `python3 evaluate.py [--models DIR] [--rounds N] [--seed S] [--wrong]`.
"""

import argparse
import json
import re
import tomllib
from collections import defaultdict
from pathlib import Path
from random import Random

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load

HERE = Path(__file__).resolve().parent
SUITES = HERE.parents[2] / "probes" / "suites"
SYSTEM = "You are a code assistant. Use a tool when the question is about this code base; answer directly otherwise."
DEMO_TOOLS = ["search_code(pattern)", "find_symbol(name)", "read_file(path)", "list_files(directory)"]
MATCHES = """accounts/views.py:12: class SignupView(View):
accounts/views.py:48: class LoginView(View):
billing/views.py:7: class InvoiceListView(ListView):
shop/api/cart.py:103: def add_to_cart(request):"""


def offered(signatures: list[str]) -> list[dict]:
    """Tools in the OpenAI form, from lines such as `add(a:integer, b)`."""
    out = []
    for line in signatures:
        name, _, inner = line.rstrip(")").partition("(")
        pairs = [p.partition(":")[::2] for p in inner.replace(" ", "").split(",") if p]
        properties = {n: {"type": t or "string", "description": "The " + n} for n, t in pairs}
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        out.append({"type": "function", "function": {"name": name, "description": "A tool.", "parameters": parameters}})
    return out


def greedy(model, ids: list[int], stop: set[int], limit: int = 220) -> list[int]:
    """Greedy continuation, the stop token included."""
    cache, tokens, out = make_prompt_cache(model), mx.array(ids)[None], []
    for _ in range(limit):
        out.append(model(tokens, cache=cache)[0, -1].argmax().item())
        if out[-1] in stop:
            break
        tokens = mx.array([[out[-1]]])
    return out


def accepted(draft, ids: list[int], out: list[int], count: int) -> tuple[int, int, int]:
    """(drafted, accepted, rounds) of greedy speculation with `count` drafted tokens a round, along the target's answer."""
    # As long as drafts are accepted, the draft sees the target's own tokens: one pass over the answer tells all.
    logits = draft(mx.array(ids + out[:-1])[None])[0, len(ids) - 1 :]
    same = (logits.argmax(-1) == mx.array(out)).tolist()
    at, drafted, taken, rounds = 1, 0, 0, 0
    while at < len(out):
        ahead = min(count, len(out) - at)
        run = 0
        while run < ahead and same[at + run]:
            run += 1
        drafted, taken, rounds, at = drafted + ahead, taken + run, rounds + 1, at + run + 1
    return drafted, taken, rounds


def calls(text: str) -> list[tuple[str, dict]]:
    """The tool calls of an answer; one that does not parse counts as none."""
    found = []
    for block in re.findall(r"<tool_call>\s*(.*?)\s*</tool_call>", text, re.S):
        try:
            one = json.loads(block)
            found.append((one["name"], one["arguments"]))
        except (json.JSONDecodeError, KeyError, TypeError):
            pass
    return found


def renamed(rng: Random, question: dict) -> dict | None:
    """The same question about a name that has just been drawn, of the same shape."""
    if not question.get("names"):
        return None
    old = question["names"][0]
    new = "".join(_other(rng, c, i) for i, c in enumerate(old))
    text = json.dumps({k: v for k, v in question.items() if k != "names"}, ensure_ascii=False)
    return json.loads(text.replace(old, new))


def _other(rng: Random, c: str, at: int) -> str:
    if c.isdigit():
        return rng.choice("0123456789")
    if not c.isalpha():
        return c
    new = rng.choice("aeiou" if at % 2 else "bcdfghjklmnprstvwz") if rng.random() < 0.8 else rng.choice("abcdefghijklmnopqrstuvwxyz")
    return new.upper() if c.isupper() else new


class Judge:
    """Asks, compares and counts."""

    def __init__(self, folder: Path, wrong: bool):
        self.target, self.tokenizer = load(str(folder / "target"))
        self.draft = load(str(folder / "draft"))[0]
        self.stop = {self.tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>")}
        self.wrong, self.open_ends, self.answers = wrong, 0, []

    def ask(self, messages: list[dict], tools: list[str] | None, limit: int = 220) -> str:
        """The target's greedy answer."""
        ids = self.tokenizer.apply_chat_template(messages, tools=offered(tools) if tools else None, add_generation_prompt=True, return_dict=False)
        out = greedy(self.target, list(ids), self.stop, limit)
        self.open_ends += out[-1] not in self.stop
        self.answers.append((list(ids), out))
        return self.tokenizer.decode([t for t in out if t not in self.stop])

    def score(self, title: str, questions: list[dict]) -> None:
        """Prints how many of the questions were right, by the tool that they want."""
        table = defaultdict(lambda: [0, 0, 0])
        for q in questions:
            text = self.ask([{"role": "system", "content": SYSTEM}, {"role": "user", "content": q["ask"]}], q.get("tools", DEMO_TOOLS))
            made, want = calls(text), q.get("tool")
            kind = bool(made) == bool(want) and ("<tool_call>" in text) == bool(want)
            exact = kind and (not want or made == [(want, q["args"])])
            for row in (table["tool" if want else "direct"], table[want or "(direct)"]):
                row[0], row[1], row[2] = row[0] + 1, row[1] + kind, row[2] + exact
            if self.wrong and not exact:
                print(f"  WRONG {q['ask']!r}: {text!r}")
        tool, direct = (table.pop(k, [0, 0, 0]) for k in ("tool", "direct"))
        asked = tool[0] + direct[0]
        print(f"{title}: tool against direct {100 * (tool[1] + direct[1]) / asked:.1f} % of {asked}; call exact {100 * tool[2] / max(1, tool[0]):.1f} % of {tool[0]}")
        for name, (n, kind, exact) in sorted(table.items()):
            print(f"    {name:18} {n:4} asked {kind:4} right kind {exact:4} exact")

    def suites(self) -> None:
        """Prints the answers to the prompts of the suites, and whether the standard queries are right."""
        for file in sorted(SUITES.glob("*.toml")):
            suite = tomllib.loads(file.read_text("utf-8"))
            for q in suite["query"]:
                system = q.get("system", suite.get("system"))
                messages = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": q["prompt"]}]
                text = self.ask(messages, suite.get("tools"))
                made = calls(text)
                right = {"tool": made == [(q.get("tool"), q.get("arguments"))], "direct": not made}.get(q["expect"], "-")
                print(f"  {suite['name']}: {q['prompt'].splitlines()[0]!r} -> {text!r} [{right}]")

    def results(self, rng: Random) -> None:
        """Prints how often an answer after a tool result names the first match and calls nothing more."""
        good, rows = 0, 40
        for i in range(rows):
            name = "".join(_other(rng, c, j) for j, c in enumerate(rng.choice(("Fovemi", "MakuRedi", "tolo_vesi"))))
            lines = MATCHES.replace("Signup", name)
            lines = re.sub(r"\d+", lambda _: str(rng.randint(1, 400)), lines).splitlines()
            rng.shuffle(lines)
            lines = lines[: 1 + i % 4]
            call = {"id": "c1", "type": "function", "function": {"name": "search_code", "arguments": json.dumps({"pattern": name})}}
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"Find all uses of {name}"}, {"role": "assistant", "content": None, "tool_calls": [call]},
                        {"role": "tool", "tool_call_id": "c1", "content": "\n".join(lines)}]
            text = self.ask(messages, DEMO_TOOLS)
            path, line, _ = lines[0].split(":", 2)
            ok = path in text and line in text and name in text and "<tool_call>" not in text
            good += ok
            if self.wrong and not ok:
                print(f"  WRONG after {lines[0]!r}: {text!r}")
        print(f"after a tool result: {good} of {rows} name the thing, the first match's file and its line")

    def speculation(self) -> None:
        """Prints how the draft did along all of the answers so far."""
        for count in (2, 3, 4, 5):
            sums = [sum(x) for x in zip(*(accepted(self.draft, ids, out, count) for ids, out in self.answers))]
            print(f"drafting {count}: {100 * sums[1] / sums[0]:.1f} % of {sums[0]} drafted tokens accepted, {1 + sums[1] / sums[2]:.2f} tokens a round")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=HERE.parent)
    parser.add_argument("--rounds", type=int, default=2, help="how often the questions are asked with fresh names")
    parser.add_argument("--seed", type=int, default=None, help="seed of the fresh names; none: different each time")
    parser.add_argument("--wrong", action="store_true", help="print what was wrong")
    args = parser.parse_args()
    questions = tomllib.loads((HERE / "questions.toml").read_text("utf-8"))["question"]
    rng, judge = Random(args.seed), Judge(args.models, args.wrong)
    judge.suites()
    judge.score("hand-written questions", questions)
    fresh = [r for _ in range(args.rounds) for q in questions if (r := renamed(rng, q))]
    judge.score("the same with names drawn now", fresh)
    judge.results(rng)
    print(f"answers without an end: {judge.open_ends} of {len(judge.answers)}")
    judge.speculation()


if __name__ == "__main__":
    main()
