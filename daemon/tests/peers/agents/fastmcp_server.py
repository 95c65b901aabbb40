"""A FastMCP server with two tools, over standard input and output: `fastmcp_server.py [--traced]`."""

import json

from fastmcp import FastMCP

import told

if told.TRACED:
    told.trace_provider()

server = FastMCP("code base")


@server.tool
def search_code(pattern: str) -> str:
    """Search the code base for a pattern."""
    return told.search(pattern)


@server.tool
def read_file(path: str) -> str:
    """Read a file of the code base."""
    return told.read(path)


@server.resource("told://seen")
def seen() -> str:
    """When the tools ran."""
    return json.dumps(told.seen)


server.run(show_banner=False, log_level="WARNING")
