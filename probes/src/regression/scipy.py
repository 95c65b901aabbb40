"""Answers questions about pairs of samples, from standard input, with SciPy."""

import json
import sys

import numpy
from scipy import stats


def rank_test(first, second, low, high):
    first, second = numpy.array(first), numpy.array(second)
    ties = len(set(first) | set(second)) < len(first) + len(second)
    method = "exact" if not ties and len(first) * len(second) <= 900 else "asymptotic"
    test = stats.mannwhitneyu(second, first, method=method)
    differences = numpy.subtract.outer(second, first).ravel()
    step = 1e-9

    def p(shift):
        moved = second - shift
        return float(stats.mannwhitneyu(moved, first, method="asymptotic", use_continuity=False).pvalue)

    return {
        "u": float(test.statistic),
        "p": float(test.pvalue),
        "method": method,
        "ties": ties,
        "shift": float(numpy.median(differences)),
        "low": [p(low - step), p(low + step)],
        "high": [p(high + step), p(high - step)],
    }


def quantile(first, second, share):
    def shift(first, second, axis):
        return numpy.quantile(second, share, axis=axis) - numpy.quantile(first, share, axis=axis)

    found = stats.bootstrap(
        (first, second), shift, method="percentile", n_resamples=4000, rng=numpy.random.default_rng(1)
    ).confidence_interval
    value = shift(numpy.array(first), numpy.array(second), 0)
    return {"value": float(value), "low": float(found.low), "high": float(found.high)}


questions = json.load(sys.stdin)
json.dump([quantile(**one) if "share" in one else rank_test(**one) for one in questions], sys.stdout)
