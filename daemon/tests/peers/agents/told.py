"""What every agent here shares: a slow tool that notes when it ran, a note of when its client sent each request and had the answer, spans to the
endpoint of the environment with `--traced`, and one line of JSON at the end that says what the agent saw."""

import importlib

import json
import sys
import time

TRACED = "--traced" in sys.argv
TOOL_SECONDS = 0.3
seen = []
requests = []


def watch(name: str) -> None:
    """Notes the requests to models that an HTTP client sends; those of streams count as answered when their first bytes are there."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return
    send, asend = module.Client.send, module.AsyncClient.send

    def note(request, started: int) -> None:
        if request.method == "POST" and request.url.path.endswith(("/chat/completions", "/messages")):
            requests.append({"started": started, "ended": time.time_ns()})

    def watched(self, request, **options):
        started = time.time_ns()
        response = send(self, request, **options)
        note(request, started)
        return response

    async def awatched(self, request, **options):
        started = time.time_ns()
        response = await asend(self, request, **options)
        note(request, started)
        return response

    module.Client.send, module.AsyncClient.send = watched, awatched


for library in ("httpx", "httpx2"):
    watch(library)


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
    print(json.dumps({"answer": answer, "tools": seen, "requests": requests, "started": started, "ended": ended}))
