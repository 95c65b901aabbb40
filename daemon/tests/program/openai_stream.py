"""Asks the same question with and without streaming through OpenAI's own client, and prints both answers as one line of JSON.

Takes the question and a JSON value for `tool_choice` as its arguments.
"""

import json
import sys

from openai import OpenAI

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {"type": "object", "properties": {parameter: {"type": "string"}}, "required": [parameter]},
        },
    }
    for name, description, parameter in [
        ("search_code", "Search the code base for a pattern.", "pattern"),
        ("read_file", "Read a file of the code base.", "path"),
    ]
]

client = OpenAI()
asked = {
    "model": "builtin",
    "messages": [{"role": "user", "content": sys.argv[1]}],
    "tools": TOOLS,
    "tool_choice": json.loads(sys.argv[2]),
    "temperature": 0,
}


def told(completion, deltas):
    choice = completion.choices[0]
    calls = [{"name": call.function.name, "arguments": call.function.arguments} for call in choice.message.tool_calls or []]
    usage = completion.usage.completion_tokens_details
    return {
        "content": choice.message.content or "",
        "calls": calls,
        "finish": choice.finish_reason,
        "reasoning_tokens": usage.reasoning_tokens,
        "deltas": deltas,
    }


deltas = []
with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
    for event in stream:
        if event.type == "tool_calls.function.arguments.delta":
            deltas.append(event.arguments_delta)
    streamed = told(stream.get_final_completion(), deltas)
whole = told(client.chat.completions.create(**asked), [])
print(json.dumps({"streamed": streamed, "whole": whole}))
