"""Reads what Grafana, Prometheus and Docker will read, as they do: `yaml FILE...` writes the documents as one JSON list; `schema FILE...`
writes what of dashboards Grafana's own types do not know."""

import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard
from ruamel.yaml import YAML


def unlike(ours, theirs, path):
    """The paths at which `theirs`, read and written by Grafana's types, is not what `ours` says."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key in theirs:
                yield from unlike(value, theirs[key], f"{path}.{key}")
            else:
                yield f"{path}.{key} is unknown"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, pair in enumerate(zip(ours, theirs)):
            yield from unlike(*pair, f"{path}[{index}]")
    elif ours != theirs:
        yield f"{path} is {ours!r}, read as {theirs!r}"


def problems(file):
    with open(file, encoding="utf-8") as text:
        ours = json.load(text)
    theirs = json.loads(json.dumps(dashboard.Dashboard.from_json(ours), cls=JSONEncoder))
    return [f"{file}: {problem}" for problem in unlike(ours, theirs, "$")]


def document(file):
    with open(file, encoding="utf-8") as text:
        return YAML(typ="safe", pure=True).load(text)


mode, *files = sys.argv[1:]
if mode == "yaml":
    json.dump([document(file) for file in files], sys.stdout)
else:
    register_default_plugins()
    json.dump([problem for file in files for problem in problems(file)], sys.stdout)
