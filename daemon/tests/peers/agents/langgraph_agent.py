"""A LangGraph agent with two tools: `langgraph_agent.py QUESTION MODEL [--traced]`. Traced means LangSmith's OpenTelemetry mode."""

import os
import sys
import time

import told

if told.TRACED:
    os.environ |= {"LANGSMITH_TRACING": "true", "LANGSMITH_TRACING_MODE": "otel", "LANGSMITH_API_KEY": "unused"}

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition


@tool
def search_code(pattern: str) -> str:
    """Search the code base for a pattern."""
    return told.search(pattern)


@tool
def read_file(path: str) -> str:
    """Read a file of the code base."""
    return told.read(path)


tools = [search_code, read_file]
model = ChatOpenAI(model=sys.argv[2]).bind_tools(tools)
graph = StateGraph(MessagesState)
graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
graph.add_node("tools", ToolNode(tools))
graph.add_edge(START, "model")
graph.add_conditional_edges("model", tools_condition)
graph.add_edge("tools", "model")
flow = graph.compile(name="code assistant")

question = [("system", "You are a code assistant."), ("user", sys.argv[1])]
started = time.time_ns()
answer = flow.invoke({"messages": question})["messages"][-1].content
ended = time.time_ns()
if told.TRACED:
    from langsmith import Client
    from langchain_core.tracers.langchain import wait_for_all_tracers

    wait_for_all_tracers()
told.tell(answer, started, ended)
