"""Reads metrics from standard input, strictly, and prints them as JSON by family."""

import json
import sys

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics


def exemplar(sample):
    if sample.exemplar is None:
        return None
    return {"labels": sample.exemplar.labels, "value": sample.exemplar.value}


def family(metric):
    samples = [
        {"name": s.name, "labels": s.labels, "value": s.value, "exemplar": exemplar(s)}
        for s in metric.samples
    ]
    return {"type": metric.type, "unit": metric.unit, "help": metric.documentation, "samples": samples}


read = openmetrics if sys.argv[1] == "openmetrics" else parser
families = {}
for metric in read.text_string_to_metric_families(sys.stdin.read()):
    assert metric.name not in families, metric.name
    families[metric.name] = family(metric)
json.dump(families, sys.stdout)
