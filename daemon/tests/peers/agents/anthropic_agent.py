"""An agent on the Anthropic SDK's tool runner: `anthropic_agent.py QUESTION MODEL [--traced]`."""

import os
import sys
import time

from anthropic import Anthropic, beta_tool

import told

if told.TRACED:
    told.trace_provider()


@beta_tool
def search_code(pattern: str) -> str:
    """Search the code base for a pattern.

    Args:
        pattern: What to look for.
    """
    return told.search(pattern)


started = time.time_ns()
client = Anthropic(api_key=os.environ.get("ANTHROPIC_API_KEY", "unused"))
runner = client.beta.messages.tool_runner(
    model=sys.argv[2],
    max_tokens=256,
    tools=[search_code],
    messages=[{"role": "user", "content": sys.argv[1]}],
    stream="--stream" in sys.argv,
)
if "--stream" in sys.argv:
    for stream in runner:
        message = stream.get_final_message()
else:
    message = runner.until_done()
answer = "".join(block.text for block in message.content if block.type == "text")
told.tell(answer, started, time.time_ns())
