"""Checks that the chat template renders dialogues as the training text has them. Needs `jinja2`; a few seconds."""

import json
import re
import sys
from pathlib import Path

import jinja2

import dialogues

HERE = Path(__file__).resolve().parent


def _calls(text: str, as_text: bool) -> list[dict]:
    """The `tool_calls` of an assistant's turn, with the arguments as an object or as the text of one."""
    out = []
    for block in re.findall(r"<tool_call>\n(.*?)\n</tool_call>", text, re.S):
        one = json.loads(block)
        arguments = block.split('"arguments": ', 1)[1][:-1] if as_text else one["arguments"]
        out.append({"id": "call", "type": "function", "function": {"name": one["name"], "arguments": arguments}})
    return out


def request(one: dialogues.Dialogue, as_text: bool) -> dict:
    """A dialogue as a client of the OpenAI interface would send it."""
    messages = [{"role": "system", "content": one.system}] if one.system else []
    for turn in one.turns:
        if turn.text.startswith("<tool_call>"):
            messages.append({"role": "assistant", "content": None, "tool_calls": _calls(turn.text, as_text or not turn.trained)})
        else:
            messages.append({"role": turn.role, "content": turn.text})
    tools = []
    for t in one.offered:
        parameters = {"type": "object", "properties": {n: {"type": k} for n, k, _ in t.params}, "required": [n for n, _, r in t.params if r]}
        tools.append({"type": "function", "function": {"name": t.name, "description": "A tool.", "parameters": parameters}})
    return {"messages": messages, "tools": tools or None, "add_generation_prompt": False}


def main() -> int:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string((HERE / "chat_template.jinja").read_text("utf-8").rstrip("\n"))
    for i, one in enumerate(dialogues.corpus(11, 3000)):
        want = "".join(text for text, _ in dialogues.segments(one)).removesuffix("\n") + "\n"
        got = template.render(**request(one, i % 2 == 0))
        if got != want:
            print(f"rendered\n{got}\ntrained on\n{want}", file=sys.stderr)
            return 1
    print("the template renders 3000 dialogues as they are trained on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
