"""Hands series from standard input to Apache Otava, with its usual settings, and prints where each grew."""

import json
import sys

from otava.analysis import compute_change_points
from otava.series import AnalysisOptions

options = AnalysisOptions()
found = []
for values in json.load(sys.stdin):
    points, _ = compute_change_points(
        values,
        window_len=options.window_len,
        max_pvalue=options.max_pvalue,
        min_magnitude=options.min_magnitude,
    )
    found.append([int(point.index) for point in points if point.stats.mean_2 > point.stats.mean_1])
json.dump(found, sys.stdout)
