"""A PydanticAI agent with two tools, as a user would write it; prints what its tools saw and the answer as one line of JSON.

Takes the question as its argument. Where the model is, it reads from the environment, like any agent.
"""

import json
import sys
import time

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel

seen = []
agent = Agent(OpenAIChatModel("builtin"), system_prompt="You are a code assistant.")


@agent.tool_plain
def search_code(pattern: str) -> str:
    """Search the code base for a pattern."""
    started = time.time_ns()
    time.sleep(0.3)
    seen.append({"tool": "search_code", "argument": pattern, "started": started, "ended": time.time_ns()})
    return f"billing/tasks.py:14: {pattern}\nbilling/tasks.py:52: {pattern}"


@agent.tool_plain
def read_file(path: str) -> str:
    """Read a file of the code base."""
    started = time.time_ns()
    text = "import logging\n\nlog = logging.getLogger(__name__)\n"
    seen.append({"tool": "read_file", "argument": path, "started": started, "ended": time.time_ns()})
    return text


result = agent.run_sync(sys.argv[1])
print(json.dumps({"answer": result.output, "tools": seen}))
