"""Puts the dialogues of the training corpus together, leaves the held-out ones out, and renders them as text.

Needs nothing but Python's standard library. `python3 dialogues.py --seed 1 --count 5` prints some.
"""

import argparse
import hashlib
import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import concepts
import intents
import tasks
import tools
from names import path as make_path

HERE = Path(__file__).resolve().parent
SUITES = HERE.parents[2] / "probes" / "suites"
DEMO_SYSTEM = "You are a code assistant. Use a tool when the question is about this code base; answer directly otherwise."
STANDARD_QUERIES = (
    "Find all Django views in the codebase",
    "Show me the UserSerializer implementation",
    "What is dependency injection?",
    "Find all uses of async/await",
    "What's the difference between ORM and raw SQL?",
)
INTENTS = {"search": intents.search, "symbol": intents.symbol, "read": intents.read, "list": intents.listing, "tests": intents.tests}


@dataclass
class Turn:
    """One message as rendered: what the model reads, or writes and is trained on."""

    role: str
    text: str
    trained: bool = False


@dataclass
class Dialogue:
    """A conversation: system prompt, offered tools, turns."""

    system: str | None
    offered: list
    turns: list = field(default_factory=list)

    def questions(self) -> list[str]:
        """What the user says."""
        return [t.text for t in self.turns if t.role == "user"]


def normal(text: str) -> str:
    """A text for comparison: lower case, everything but letters and digits collapsed to one space."""
    return " ".join(re.sub(r"[\W_]+", " ", text.lower()).split())


class HeldOut:
    """The prompts and names that must not occur in the training data."""

    def __init__(self, suites: Path = SUITES, questions: Path = HERE / "questions.toml"):
        prompts = list(STANDARD_QUERIES)
        for file in sorted(suites.glob("*.toml")):
            prompts += [q["prompt"] for q in tomllib.loads(file.read_text("utf-8")).get("query", [])]
        self.names: set[str] = set()
        if questions.exists():
            for q in tomllib.loads(questions.read_text("utf-8")).get("question", []):
                prompts.append(q["ask"])
                self.names.update(q.get("names", []))
        self.prompts = {normal(p) for p in prompts}
        found = sorted(re.escape(n.lower()) for n in self.names)
        self._names = re.compile("|".join(found)) if found else None

    def hits(self, dialogue: Dialogue) -> bool:
        """Whether a dialogue holds a question, or a name, that is held out."""
        if any(normal(q) in self.prompts for q in dialogue.questions()):
            return True
        if self._names is None:
            return False
        return any(self._names.search(t.text.lower()) for t in dialogue.turns)


def call_text(name: str, args: dict, compact: bool = False) -> str:
    """One tool call in the Qwen form."""
    separators = (",", ":") if compact else (", ", ": ")
    inner = json.dumps(args, ensure_ascii=False, separators=separators)
    return f'<tool_call>\n{{"name": "{name}", "arguments": {inner}}}\n</tool_call>'


def tool_line(tool: tools.Tool) -> str:
    """How the chat template shows a tool: name, parameters, `:type` unless a string, `?` when optional."""
    params = [n + ("" if r else "?") + ("" if t == "string" else ":" + t) for n, t, r in tool.params]
    return f"{tool.name}({', '.join(params)})"


def head(dialogue: Dialogue) -> str:
    """The system block, or nothing when there is neither a system prompt nor a tool."""
    parts = [dialogue.system] if dialogue.system else []
    if dialogue.offered:
        parts.append("Tools:\n" + "\n".join(tool_line(t) for t in dialogue.offered))
    return "<|im_start|>system\n" + "\n".join(parts) + "<|im_end|>\n" if parts else ""


def segments(dialogue: Dialogue) -> list[tuple[str, bool]]:
    """The dialogue as pieces of text, each with whether the model is trained on it."""
    out, prompt = [], head(dialogue)
    for turn in dialogue.turns:
        if turn.role != "assistant":
            prompt += f"<|im_start|>{turn.role}\n{turn.text}<|im_end|>\n"
            continue
        prompt += "<|im_start|>assistant\n"
        if turn.trained:
            out += [(prompt, False), (turn.text + "<|im_end|>", True)]
            prompt = "\n"
        else:
            prompt += turn.text + "<|im_end|>\n"
    if prompt.strip():
        out.append((prompt, False))
    return out


def _system(rng: Random, offered: bool) -> str | None:
    x = rng.random()
    if x < 0.25:
        return None
    if x < 0.40 and offered:
        return DEMO_SYSTEM
    if x < 0.50:
        return "You are a helpful assistant."
    if x < 0.85:
        role = rng.choice(("code assistant", "helpful assistant", "senior engineer", "coding agent", "programming tutor", "friendly bot", "research assistant", "software developer", "concise assistant", "Python expert",
                           "helpful code assistant", "pair programmer", "support agent", "travel assistant", "calculator"))
        extra = rng.choice(("", "", " Be brief.", " Use the tools when they help.", " Answer directly when no tool is needed.", " Use tools to look at the code.", " Answer in one or two sentences.", " You have access to tools.", " Keep answers short.",
                            " Think before you answer.", " Use a tool for questions about the code base.", " Never guess.", " You work on a large code base.", " Reply concisely.", " Call a tool if the user asks about code; otherwise reply directly."))
        return f"{rng.choice(('You are a', 'You are a', 'Act as a', 'You are an experienced'))} {role}.{extra}"
    if x < 0.93:
        return rng.choice(("Be concise.", "Answer the question.", "Use the tools.", "Use the provided tools to answer the question.", "Help the user with the code.", "Be brief and precise.", "Use tools where they help.", "You can call tools.", "Reply in English.",
                           "Answer questions about the code base with the tools.", "Use a tool to find out about the code and answer concept questions yourself."))
    a, b = intents.quoted(rng, intents.camel(rng)), intents.snake(rng)
    return rng.choice((f"You work for {a}.", f"The project is called {b}.", f"Your name is {a}. Be kind.", f"You are the assistant of the {b} team.", f"You are {a}, a code agent."))


def _offer(rng: Random) -> tuple[list, list]:
    """A set of tools, in some order: code tools and generic ones."""
    x = rng.random()
    if x < 0.28:
        return [tools.code_tool(rng, f, 1.0) for f in tools.STANDARD], []
    if x < 0.70:
        families = rng.sample(tools.CODE, rng.randint(1, 5))
        code, plain = [tools.code_tool(rng, f) for f in families], []
        if rng.random() < 0.2:
            plain = [tools.generic(rng)]
    elif x < 0.94:
        code, plain = [], tools.alike(rng) if rng.random() < 0.3 else [tools.generic(rng) for _ in range(rng.choice((1, 2, 2, 2, 3, 3, 4)))]
    else:
        code = [tools.code_tool(rng, f) for f in rng.sample(tools.CODE, 2)]
        plain = [tools.generic(rng) for _ in range(2)]
    seen, kept = {t.name for t in code}, []
    for g in plain:
        if g.tool.name not in seen:
            kept.append(g)
            seen.add(g.tool.name)
    return code, kept


def _by_family(code: list) -> dict:
    table = {t.family: t for t in code}
    if "symbol" not in table and "search" in table:
        table["symbol"] = table["search"]
    return table


def _tool_question(rng: Random, code: list, plain: list):
    """A question that one of the offered tools answers: (text, tool, arguments, label)."""
    if plain and (not code or rng.random() < 0.5):
        g = rng.choice(plain)
        values = [tools.generic_value(rng, g.kind, i > 0) for i, _ in enumerate(g.tool.params)]
        ask, names = rng.choice(g.asks), dict(zip("xy", values))
        label = g.label.format(**names)
        if isinstance(values[0], str) and values[0].isalpha() and values[0].islower() and rng.random() < 0.3:
            names["x"] = rng.choice(("a ", "the ", "the ", "an " if values[0][0] in "aeiou" else "a ")) + values[0]
        text = ask.format(**names)
        if ask.endswith("?"):
            text = rng.choice(("", "", "", "", "Please tell me: ", "Hi, ")) + text if text[0].isupper() else text
        else:
            text = intents.dress(rng, text[0].lower() + text[1:] if not text[:2].isupper() else text, False)
        return intents.finish(rng, text), g.tool, g.tool.arguments(*values), label
    table = _by_family(code)
    names = [n for n in INTENTS if n in table]
    weight = {"search": 4, "symbol": 4, "read": 2, "list": 1.3, "tests": 1}
    if not names:
        return None
    intent = rng.choices(names, [weight[n] for n in names])[0]
    text, value = INTENTS[intent](rng)
    tool = table[intent]
    return text, tool, tool.arguments(value), ""


def _double_question(rng: Random, code: list, plain: list):
    """Two things asked at once; returns (text, [two of (tool, arguments, label)]) or None."""
    first, second = _tool_question(rng, code, plain), _tool_question(rng, code, plain)
    if not first or not second:
        return None
    a, b = first[0].rstrip("?.! "), second[0]
    for tail in (" please", ", please", " for me", ", thanks", " now", " if you can"):
        a = a.removesuffix(tail)
    for lead in intents.LEAD:
        if lead and b.startswith(lead):
            b = b[len(lead):]
    lowered = b[0].lower() + b[1:] if b[:1].isupper() and b[1:2].islower() else b
    joint = rng.choice((" and ", " and ", " and ", ", and ", ", then ", " and then ", "; also ", " and also "))
    text = a + joint + lowered if rng.random() < 0.8 else f"{a}. {rng.choice(('Also ', 'Then ', 'And '))}{lowered}"
    return text, [first[1:], second[1:]]


def _calls(wanted: list, compact: bool = False) -> str:
    """The calls of one answer, a block each."""
    return "\n".join(call_text(tool.name, args, compact) for tool, args, _ in wanted)


def _add_tool_exchange(rng: Random, dialogue: Dialogue, code: list, plain: list) -> bool:
    if rng.random() < 0.11:
        double = _double_question(rng, code, plain)
        if not double:
            return False
        text, wanted = double
    else:
        single = _tool_question(rng, code, plain)
        if not single:
            return False
        text, wanted = single[0], [single[1:]]
    compact = rng.random() < 0.06
    dialogue.turns += [Turn("user", text), Turn("assistant", _calls(wanted, compact), not compact)]
    if not compact and rng.random() < 0.35:
        return False
    reports = []
    for tool, args, label in wanted:
        result, report = tools.result_and_report(rng, tool, args, label)
        dialogue.turns.append(Turn("tool", result))
        reports.append(report)
    dialogue.turns.append(Turn("assistant", " ".join(reports), True))
    return True


def _add_concept(rng: Random, dialogue: Dialogue) -> None:
    if rng.random() < 0.24:
        text, a, b = intents.two_concepts(rng)
        reply = concepts.comparison(a, b)
    else:
        text, name, why, brief = intents.single_concept(rng)
        reply = concepts.answer(name, why, brief)
    dialogue.turns += [Turn("user", text), Turn("assistant", reply, True)]


def _without_tool(rng: Random, dialogue: Dialogue) -> None:
    """A question that wants a tool where none fits."""
    intent = rng.choice(("search", "symbol", "read", "list", "generic"))
    if intent == "generic":
        found = _tool_question(rng, [], [tools.generic(rng)])
        text, reply = found[0], f"{found[3]}: I have no tool for that."
    else:
        text, value = INTENTS[intent](rng)
        reply = f"I cannot look at the code from here, so I do not know about {value}." if intent != "read" else f"I cannot open {value} from here."
    dialogue.turns += [Turn("user", text), Turn("assistant", reply, True)]


def _core(rng: Random) -> Dialogue:
    """A short dialogue about code: most often the usual tools, one question, and the call or the answer."""
    if rng.random() < 0.55:
        code = [tools.code_tool(rng, f, 1.0) for f in tools.STANDARD]
    else:
        code = [tools.code_tool(rng, f, 0.8) for f in rng.sample(tools.CODE, rng.randint(2, 5))]
    out = Dialogue(DEMO_SYSTEM if rng.random() < 0.4 else _system(rng, True), code)
    if rng.random() < 0.4:
        _add_concept(rng, out)
    elif rng.random() < 0.05:
        _, user, reply = tasks.talk(rng)
        out.turns += [Turn("user", user), Turn("assistant", reply, True)]
    elif rng.random() < 0.08:
        text, wanted = _double_question(rng, code, [])
        out.turns += [Turn("user", text), Turn("assistant", _calls(wanted), True)]
    else:
        text, tool, args, label = _tool_question(rng, code, [])
        out.turns += [Turn("user", text), Turn("assistant", call_text(tool.name, args), True)]
        if rng.random() < 0.25:
            result, report = tools.result_and_report(rng, tool, args, label)
            out.turns += [Turn("tool", result), Turn("assistant", report, True)]
    return out


def _drill(rng: Random) -> Dialogue:
    """A short dialogue of a kind that is learnt late: tools that are alike, code tools under rare names, or a search for what looks like a path."""
    x = rng.random()
    if x < 0.55:
        plain = tools.alike(rng) if x < 0.3 else [tools.generic(rng) for _ in range(rng.choice((2, 2, 3)))]
        if len({g.tool.name for g in plain}) < len(plain):
            return _drill(rng)
        rng.shuffle(plain)
        if rng.random() < 0.15:
            text, wanted = _double_question(rng, [], plain)
            return Dialogue(_system(rng, True), [g.tool for g in plain], [Turn("user", text), Turn("assistant", _calls(wanted), True)])
        text, tool, args, _ = _tool_question(rng, [], plain)
        return Dialogue(_system(rng, True), [g.tool for g in plain], [Turn("user", text), Turn("assistant", call_text(tool.name, args), True)])
    if x < 0.7:
        code = [tools.code_tool(rng, f, 0.1) for f in rng.sample(tools.CODE, rng.choice((2, 2, 3)))]
        plain = [tools.generic(rng)] if rng.random() < 0.2 else []
        text, tool, args, _ = _tool_question(rng, code, plain)
        return Dialogue(DEMO_SYSTEM if rng.random() < 0.5 else _system(rng, True), code + [g.tool for g in plain], [Turn("user", text), Turn("assistant", call_text(tool.name, args), True)])
    code = [tools.code_tool(rng, f, 1.0) for f in tools.STANDARD]
    text, value = intents.search_odd(rng)
    call = Turn("assistant", call_text(code[0].name, code[0].arguments(value)), True)
    return Dialogue(DEMO_SYSTEM if rng.random() < 0.5 else _system(rng, True), code, [Turn("user", text), call])


def dialogue(rng: Random, core: float = 0.0, drill: float = 0.0) -> Dialogue:
    """One dialogue of the corpus; with the probabilities `core` and `drill` a short one of these kinds."""
    if drill and rng.random() < drill:
        return _drill(rng)
    if core and rng.random() < core:
        return _core(rng)
    x = rng.random()
    if x < 0.10:
        system, user, reply = rng.choice((tasks.relation, tasks.query, tasks.affinity))(rng)
        return Dialogue(system, [], [Turn("user", user), Turn("assistant", reply, True)])
    with_tools = x < 0.86
    code, plain = _offer(rng) if with_tools else ([], [])
    offered = code + [g.tool for g in plain]
    if len(code) != 4 or plain or rng.random() < 0.2:
        rng.shuffle(offered)
    out = Dialogue(_system(rng, with_tools), offered)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        y = rng.random()
        if y < 0.025:
            _, user, reply = tasks.talk(rng)
            out.turns += [Turn("user", user), Turn("assistant", reply, True)]
        elif with_tools and y < 0.72:
            if not _add_tool_exchange(rng, out, code, plain):
                break
        elif not with_tools and y < 0.2:
            _without_tool(rng, out)
        else:
            _add_concept(rng, out)
    return out if out.turns else dialogue(rng)


def corpus(seed: int, count: int, held_out: HeldOut | None = None, core: float = 0.0, drill: float = 0.0):
    """Yields `count` dialogues that hold nothing held out; the same ones for the same seed."""
    rng, held_out = Random(seed), held_out or HeldOut()
    done = 0
    while done < count:
        one = dialogue(rng, core, drill)
        if held_out.hits(one):
            continue
        done += 1
        yield one


def digest(seed: int, count: int) -> tuple[str, int]:
    """SHA-256 and size in bytes of the rendered corpus."""
    sha, size = hashlib.sha256(), 0
    for one in corpus(seed, count):
        data = "".join(text for text, _ in segments(one)).encode()
        sha.update(data)
        size += len(data)
    return sha.hexdigest(), size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--digest", action="store_true", help="print only the hash and the size")
    args = parser.parse_args()
    if args.digest:
        print(*digest(args.seed, args.count))
        return
    for one in corpus(args.seed, args.count):
        print("".join(f"\033[1m{t}\033[0m" if trained else t for t, trained in segments(one)), end="\n----\n")


if __name__ == "__main__":
    main()


__all__ = ["Dialogue", "HeldOut", "Turn", "corpus", "digest", "make_path", "normal", "segments"]
