"""A scripted server of OpenAI's Realtime API, on the library `websockets`: prints its port, then for each connection answers one question after
`SECONDS`, word by word: `realtime_server.py SECONDS`."""

import json
import sys
import time
from http import HTTPStatus

from websockets.sync.server import serve

WORDS = ["It ", "is ", "in ", "invoices/parser.py."]


def allow(connection, request):
    if request.headers.get("Authorization") != "Bearer sk-realtime":
        return connection.respond(HTTPStatus.UNAUTHORIZED, "no key\n")
    if request.path != "/v1/realtime?model=gpt-realtime":
        return connection.respond(HTTPStatus.NOT_FOUND, request.path + "\n")
    return None


def talk(connection):
    def say(kind, **rest):
        connection.send(json.dumps({"type": kind, "event_id": "e", **rest}))

    say("session.created", session={"type": "realtime"})
    for message in connection:
        if json.loads(message)["type"] != "response.create":
            continue
        time.sleep(float(sys.argv[1]))
        place = {"response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}
        for word in WORDS:
            say("response.output_text.delta", delta=word, **place)
        say("response.done", response={"id": "r", "object": "realtime.response", "status": "completed"})


with serve(talk, "127.0.0.1", 0, process_request=allow) as server:
    print(server.socket.getsockname()[1], flush=True)
    server.serve_forever()
