"""Hands series from standard input to Apache Otava and prints where each grew."""

import json
import sys

from otava.series import AnalysisOptions, Metric, Series

found = []
for values in json.load(sys.stdin):
    series = Series(
        "simulated",
        branch=None,
        time=list(range(len(values))),
        metrics={"seconds": Metric(-1, 1.0)},
        data={"seconds": values},
        attributes={},
    )
    points = series.analyze(AnalysisOptions()).change_points["seconds"]
    found.append([point.index for point in points if point.stats.mean_2 > point.stats.mean_1])
json.dump(found, sys.stdout)
