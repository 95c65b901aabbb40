"""A plain loop over the OpenAI client whose tools are those of a FastMCP server in a process of its own:
`fastmcp_agent.py QUESTION MODEL [--traced]`."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from openai import AsyncOpenAI

import told

if told.TRACED:
    told.trace_provider()


async def main(question: str, model: str) -> str:
    api = AsyncOpenAI()
    messages = [{"role": "system", "content": "You are a code assistant."}, {"role": "user", "content": question}]
    script = str(Path(__file__).with_name("fastmcp_server.py"))
    flags = ["--traced"] if told.TRACED else []
    async with Client(StdioTransport(sys.executable, [script, *flags], env=dict(os.environ))) as mcp:
        tools = [
            {"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}}
            for tool in await mcp.list_tools()
        ]
        while True:
            completion = await api.chat.completions.create(model=model, messages=messages, tools=tools)
            message = completion.choices[0].message
            messages.append(message.model_dump(exclude_none=True))
            if not message.tool_calls:
                told.seen += json.loads((await mcp.read_resource("told://seen"))[0].text)
                return message.content
            for call in message.tool_calls:
                result = await mcp.call_tool(call.function.name, json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result.content[0].text})


started = time.time_ns()
answer = asyncio.run(main(sys.argv[1], sys.argv[2]))
told.tell(answer, started, time.time_ns())
