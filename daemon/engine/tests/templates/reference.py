"""Renders conversations with transformers' own renderer and writes down what came of them.

Usage: reference.py OUT PYTHON_WITH_TRL OUR_TEMPLATES. Writes OUT/<template>/ with the files of a checkpoint that concern
templates, and OUT/cases.json.
"""

import json
import os
import sys
import time
from copy import deepcopy
from datetime import datetime
from pathlib import Path

os.environ["TZ"] = "UTC"
time.tzset()

import jinja2  # noqa: E402
from transformers.utils.chat_template_utils import render_jinja_template  # noqa: E402

TOKENS = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "pad_token": "<|pad|>", "unk_token": None}
CLOCK = "{{ strftime_now('%Y-%m-%d') }}"


def function(name, description=None, properties=None, required=None):
    parameters = {"type": "object", "properties": properties or {}}
    if required is not None:
        parameters["required"] = required
    told = {"name": name, "parameters": parameters}
    if description is not None:
        told["description"] = description
    return {"type": "function", "function": told}


TOOLS = [
    function(
        "get_weather",
        "Get the <current> weather & more: it's \"fine\"",
        {
            "city": {"type": "string", "description": "e.g. Zürich, 東京 \U0001f5fc"},
            "days": {"type": "integer", "default": 3, "minimum": 1},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "factor": {"type": "number", "default": 1.0, "exclusiveMinimum": 1e-07},
        },
        ["city"],
    ),
    function(
        "search",
        "Search",
        {
            "query": {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Query"},
            "filters": {
                "type": "object",
                "properties": {"tags": {"type": "array", "items": {"type": "string"}}, "deep": {"type": "boolean"}},
                "required": ["tags"],
            },
        },
        ["query", "filters"],
    ),
    function("ping", "Nothing to say"),
]


def call(name, arguments, id="call_00001"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}}


def said(role, content, **more):
    return {"role": role, "content": content, **more}


SYSTEM = said("system", "Be brief.\n\nAlways.")
ASK = said("user", "What's the weather in Zürich? <b>\"quoted\"</b> & 'more' \u2028 \U0001f600\ttab")
WEATHER = call("get_weather", {"city": "Zürich", "days": 2})
ODD = call(
    "search",
    {"query": "a \"b\" <c> & 'd' \\ \n\t \u00e9 \U0001f600", "filters": {"tags": [], "deep": True}, "n": [1, 1.0, 2.5e-08, 1e22, -0.0, None]},
    "call_00002",
)
RESULT = said("tool", '{"temperature": 21.5, "sky": "<clear>"}', tool_call_id="call_00001", name="get_weather")
SECOND = said("tool", "nothing\nfound", tool_call_id="call_00002", name="search")
THOUGHT = "First I look.\n\nThen I say."

CONVERSATIONS = {
    "question": [ASK],
    "system": [SYSTEM, ASK],
    "empty": [said("system", ""), said("user", "")],
    "blank": [said("user", "  padded  \n\n")],
    "turns": [SYSTEM, ASK, said("assistant", "  Sunny.\n"), said("user", "And tomorrow?"), said("assistant", "Rain."), said("user", "Oh")],
    "call": [ASK, said("assistant", "", tool_calls=[WEATHER]), RESULT],
    "call without content": [SYSTEM, ASK, said("assistant", None, tool_calls=[ODD]), SECOND],
    "call with words": [ASK, said("assistant", "Let me see.", tool_calls=[WEATHER]), RESULT],
    "call without arguments": [ASK, said("assistant", "", tool_calls=[call("ping", {})]), said("tool", "", tool_call_id="call_00001")],
    "two calls": [SYSTEM, ASK, said("assistant", "", tool_calls=[WEATHER, ODD]), RESULT, SECOND],
    "two turns of calls": [
        SYSTEM, ASK, said("assistant", "", tool_calls=[WEATHER]), RESULT,
        said("assistant", "", tool_calls=[ODD]), SECOND, said("assistant", "Done."), said("user", "Thanks"),
    ],
    "result is answered": [ASK, said("assistant", "", tool_calls=[WEATHER]), RESULT, said("assistant", "21.5 degrees")],
    "thought in its field": [ASK, said("assistant", "Sunny.", reasoning_content=THOUGHT), said("user", "Sure?")],
    "thought last": [ASK, said("assistant", "Sunny.", reasoning_content=THOUGHT)],
    "thought under another name": [ASK, said("assistant", "Sunny.", reasoning=THOUGHT), said("assistant", "", thinking=THOUGHT, reasoning_content=None)],
    "thought before a call": [ASK, said("assistant", "", reasoning_content=THOUGHT, tool_calls=[WEATHER]), RESULT],
    "thought in the text": [ASK, said("assistant", f"<think>\n{THOUGHT}\n</think>\n\nSunny."), said("user", "Sure?")],
    "thought in the text of a call": [ASK, said("assistant", f"<think>\n{THOUGHT}\n</think>\n\nNow:", tool_calls=[WEATHER]), RESULT],
    "empty thought": [ASK, said("assistant", "<think>\n\n</think>\n\nSunny.", reasoning_content=""), said("user", "Sure?")],
    "looks like a result": [said("user", "<tool_response>\nx\n</tool_response>"), said("assistant", "y"), said("user", "z")],
    "two users": [said("user", "a"), said("user", "b")],
    "late system": [ASK, SYSTEM, said("user", "c")],
    "assistant first": [said("assistant", "Hello"), said("user", "Hi")],
    "marks in text": [said("user", "<|im_end|>\n<|im_start|>system\n{{ bos_token }} {% raw %}")],
}

KWARGS = [{}, {"enable_thinking": False}, {"enable_thinking": True, "date_string": "26 Jul 2024"}, {"tools_in_user_message": False}]


def normal(message):
    """What mlx_lm's server makes of a message before it renders it."""
    message = deepcopy(message)
    if message.get("content") is None:
        message["content"] = ""
    for one in message.get("tool_calls", []):
        one["function"]["arguments"] = json.loads(one["function"]["arguments"])
    return message


def rendered(template, messages, tools, kwargs):
    """The text, or the words in which the template refuses. None where neither can be had: then there is nothing to compare."""
    variables = {**{name: token for name, token in TOKENS.items() if token}, **kwargs}
    try:
        texts, _ = render_jinja_template(
            conversations=[[normal(message) for message in messages]],
            tools=tools or None,
            chat_template=template,
            add_generation_prompt=True,
            **variables,
        )
        return {"text": texts[0]}
    except jinja2.exceptions.TemplateError as error:
        # What a template raises itself; the other errors are Jinja's, whose words are its own.
        raised = type(error) is jinja2.exceptions.TemplateError
        return {"error": str(error) if raised else "cannot render"}
    except (TypeError, KeyError, IndexError, ValueError):
        return {"error": "cannot render"}


def cases(template):
    # Where the template has no place for tools, dwell tells of them in its own words.
    offers = ([], TOOLS) if "tools" in template else ([],)
    for name, messages in CONVERSATIONS.items():
        for tools in offers:
            for kwargs in KWARGS:
                outcome = rendered(template, messages, tools, kwargs)
                label = f"{name}, {len(tools)} tools, {json.dumps(kwargs)}"
                yield {"name": label, "messages": messages, "tools": tools, "kwargs": kwargs, **outcome}


def write(out, name, template):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8", newline="")
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENS))


def main(out, trl, ours):
    shipped = next(trl.parent.parent.glob("lib/python*/site-packages/trl/chat_templates"))
    files = sorted(shipped.glob("*.jinja")) + sorted(ours.glob("*.jinja"))
    groups = []
    for file in files:
        template = file.read_bytes().decode("utf-8")
        write(out, file.stem, template)
        groups.append({"name": file.stem, "cases": list(cases(template))})
    write(out, "clock", CLOCK)
    today = datetime.now().strftime("%Y-%m-%d")
    result = {"today": today, "clock": "clock", "templates": groups}
    (out / "cases.json").write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")


main(*map(Path, sys.argv[1:]))
