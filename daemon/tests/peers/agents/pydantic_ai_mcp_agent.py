"""A PydanticAI agent whose tools are those of a FastMCP server in a process of its own: framework, MCP client and MCP server each tell of the same
tool call: `pydantic_ai_mcp_agent.py QUESTION MODEL [--traced]`."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.openai import OpenAIChatModel

import told

if told.TRACED:
    told.trace_provider()
    Agent.instrument_all()

script = str(Path(__file__).with_name("fastmcp_server.py"))
flags = ["--traced"] if told.TRACED else []
server = Client(StdioTransport(sys.executable, [script, *flags], env=dict(os.environ)))
agent = Agent(
    OpenAIChatModel(sys.argv[2]), system_prompt="You are a code assistant.", toolsets=[MCPToolset(server)]
)


async def main(question: str) -> str:
    async with agent:
        result = await agent.run(question)
        told.seen += json.loads((await server.read_resource("told://seen"))[0].text)
        return result.output


started = time.time_ns()
answer = asyncio.run(main(sys.argv[1]))
told.tell(answer, started, time.time_ns())
