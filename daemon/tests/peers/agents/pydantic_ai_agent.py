"""A PydanticAI agent with two tools: `pydantic_ai_agent.py QUESTION MODEL [--traced] [--stream]`."""

import asyncio
import sys
import time

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel

import told

if told.TRACED:
    told.trace_provider()
    Agent.instrument_all()

agent = Agent(OpenAIChatModel(sys.argv[2]), system_prompt="You are a code assistant.")


@agent.tool_plain
def search_code(pattern: str) -> str:
    """Search the code base for a pattern."""
    return told.search(pattern)


@agent.tool_plain
def read_file(path: str) -> str:
    """Read a file of the code base."""
    return told.read(path)


async def streamed(question: str) -> str:
    async with agent.run_stream(question) as result:
        return await result.get_output()


started = time.time_ns()
if "--stream" in sys.argv:
    answer = asyncio.run(streamed(sys.argv[1]))
else:
    answer = agent.run_sync(sys.argv[1]).output
told.tell(answer, started, time.time_ns())
