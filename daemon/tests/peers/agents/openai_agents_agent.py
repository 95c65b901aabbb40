"""An agent of the OpenAI Agents SDK with two tools: `openai_agents_agent.py QUESTION MODEL [--traced | --instrumented]`. Instrumented from outside it
reports spans without a word about them here."""

import sys
import time

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

import told

if told.TRACED:
    from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    OpenAIAgentsInstrumentor().instrument(tracer_provider=told.trace_provider(), exclusive_processor=True)
elif "--instrumented" not in sys.argv:
    # Its own tracing goes to OpenAI.
    set_tracing_disabled(True)


@function_tool
def search_code(pattern: str) -> str:
    """Search the code base for a pattern."""
    return told.search(pattern)


@function_tool
def read_file(path: str) -> str:
    """Read a file of the code base."""
    return told.read(path)


agent = Agent(
    name="code assistant",
    instructions="You are a code assistant.",
    model=OpenAIChatCompletionsModel(sys.argv[2], openai_client=AsyncOpenAI()),
    tools=[search_code, read_file],
)
started = time.time_ns()
answer = Runner.run_sync(agent, sys.argv[1]).final_output
told.tell(answer, started, time.time_ns())
