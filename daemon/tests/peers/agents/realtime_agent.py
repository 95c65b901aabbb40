"""A client of OpenAI's Realtime API, whose library speaks WebSocket: `realtime_agent.py QUESTION MODEL`. Prints the answer as JSON."""

import json
import sys

from openai import OpenAI

answer = ""
with OpenAI().realtime.connect(model=sys.argv[2]) as connection:
    connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
    text = {"type": "input_text", "text": sys.argv[1]}
    connection.conversation.item.create(item={"type": "message", "role": "user", "content": [text]})
    connection.response.create()
    for event in connection:
        if event.type == "response.output_text.delta":
            answer += event.delta
        elif event.type == "response.done":
            break
print(json.dumps({"answer": answer}))
