"""What every agent here shares: a slow tool that notes when it ran, spans to the endpoint of the environment with `--traced`, and one line of
JSON at the end that says what the agent saw."""

import json
import sys
import time

TRACED = "--traced" in sys.argv
TOOL_SECONDS = 0.3
seen = []


def trace_provider():
    """A tracer provider that sends to where the environment says, set as the global one."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def search(pattern: str) -> str:
    """The tool's work: it takes `TOOL_SECONDS`."""
    started = time.time_ns()
    time.sleep(TOOL_SECONDS)
    seen.append({"tool": "search_code", "argument": pattern, "started": started, "ended": time.time_ns()})
    return f"billing/tasks.py:14: {pattern}\nbilling/tasks.py:52: {pattern}"


def read(path: str) -> str:
    """A tool that takes no time."""
    now = time.time_ns()
    seen.append({"tool": "read_file", "argument": path, "started": now, "ended": time.time_ns()})
    return "import logging\n\nlog = logging.getLogger(__name__)\n"


def tell(answer: str, started: int, ended: int) -> None:
    """`started` and `ended` are when the agent was asked and had answered."""
    print(json.dumps({"answer": answer, "tools": seen, "started": started, "ended": ended}))
