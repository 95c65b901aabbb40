"""A PydanticAI agent with two tools, as a user would write it; prints what its tools saw and the answer as one line of JSON.

Takes the question as its argument, and `--traced` to report its spans. Where the model and the traces are wanted, it reads
from the environment, like any agent.
"""

import json
import sys
import time

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel

if "--traced" in sys.argv:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    Agent.instrument_all()

seen = []
agent = Agent(OpenAIChatModel("builtin"), system_prompt="You are a code assistant.")


def tool_ran(tool: str, argument: str, started: int) -> None:
    seen.append({"tool": tool, "argument": argument, "started": started, "ended": time.time_ns()})


@agent.tool_plain
def search_code(pattern: str) -> str:
    """Search the code base for a pattern."""
    started = time.time_ns()
    time.sleep(0.3)
    tool_ran("search_code", pattern, started)
    return f"billing/tasks.py:14: {pattern}\nbilling/tasks.py:52: {pattern}"


@agent.tool_plain
def read_file(path: str) -> str:
    """Read a file of the code base."""
    started = time.time_ns()
    tool_ran("read_file", path, started)
    return "import logging\n\nlog = logging.getLogger(__name__)\n"


result = agent.run_sync(sys.argv[1])
print(json.dumps({"answer": result.output, "tools": seen}))
