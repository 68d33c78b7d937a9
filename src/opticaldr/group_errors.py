"""Does the network err more for some groups of people? One row per value of every known group.

A group is compared with all other people whose value is known, by the mean absolute error and by the
gain (slope of the score on the label: how much of a difference in severity reaches the score). The
interval of a difference resamples people and is widened for the number of comparisons (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from opticaldr.conformal import coverage_figure
from opticaldr.evaluate import RecordingScore
from opticaldr.metrics import ClusterBootstrap, Scores, Values, Weights, bias, mae, rmse, slope

FEWEST = 20
"""Recordings or people below which a group is "not estimable" (depression.md 5)."""

Metric = Callable[[Scores, Scores, Weights], Values]


def gain(scores: Scores, labels: Scores, weights: Weights = None) -> Values:
    """Slope of the score on the label; 1 is all of the difference, 0 none."""
    return slope(labels, scores, weights)


COMPARED: dict[str, tuple[Metric, int]] = {"mae": (mae, 1), "gain": (gain, -1)}
"""What is compared between groups, and the sign of a difference that is worse."""


def group_rows(
    rows: Sequence[RecordingScore], group_names: Sequence[str], *, width: float | None
) -> list[dict[str, Any]]:
    """Errors by group, with n and people; figures only where there are at least FEWEST of both.

    width: half width of the 90 % interval for "coverage", None if the run has none. "worse" names
    what is worse than in the other people, as far as the corrected interval excludes 0.
    """
    values = [
        (name, value, np.array([row.groups[at] == value for row in rows]))
        for at, name in enumerate(group_names)
        for value in sorted({row.groups[at] for row in rows} - {""})
    ]
    known = {
        name: np.array([row.groups[at] != "" for row in rows])
        for at, name in enumerate(group_names)
    }
    pairs = [
        (inside, known[name] & ~inside) if _enough(rows, inside) else None
        for name, _, inside in values
    ]
    pairs = [pair if pair and _enough(rows, pair[1]) else None for pair in pairs]
    # a group of two values is one comparison, seen from both sides
    distinct = {frozenset(side.tobytes() for side in pair) for pair in pairs if pair}
    level = 1 - 0.05 / max(1, len(distinct) * len(COMPARED))
    found = []
    for (name, value, inside), pair in zip(values, pairs, strict=True):
        chosen = [row for row, member in zip(rows, inside, strict=True) if member]
        row: dict[str, Any] = {
            "group": name,
            "value": value,
            "n": len(chosen),
            "people": len({member.person for member in chosen}),
            "estimable": _enough(rows, inside),
            "worse": [],
        }
        if row["estimable"]:
            row |= _figures(chosen, width)
        if pair:
            row["differences"] = _differences(rows, *pair, level=level)
            row["worse"] = [
                measure
                for measure, difference in row["differences"].items()
                if min(COMPARED[measure][1] * limit for limit in difference["interval"]) > 0
            ]
        found.append(row)
    return found


def _enough(rows: Sequence[RecordingScore], inside: np.ndarray) -> bool:
    people = {row.person for row, member in zip(rows, inside, strict=True) if member}
    return int(inside.sum()) >= FEWEST and len(people) >= FEWEST


def _figures(rows: Sequence[RecordingScore], width: float | None) -> dict[str, Any]:
    scores = np.array([row.score for row in rows])
    labels = np.array([row.label for row in rows])
    bootstrap = ClusterBootstrap(tuple(row.person for row in rows))
    measures: dict[str, Metric] = {"mae": mae, "rmse": rmse, "bias": bias, "gain": gain}
    found: dict[str, Any] = {}
    for name, metric in measures.items():
        figure = bootstrap.figure(lambda w, m=metric: m(scores, labels, w))
        found[name] = figure and figure.to_json()
    found["coverage"] = None if width is None else coverage_figure(rows, width).to_json()
    return found


def _differences(
    rows: Sequence[RecordingScore], inside: np.ndarray, outside: np.ndarray, *, level: float
) -> dict[str, Any]:
    """Group minus the other people, with an interval of this level; undefined ones are left out."""
    scores = np.array([row.score for row in rows])
    labels = np.array([row.label for row in rows])
    bootstrap = ClusterBootstrap(tuple(row.person for row in rows))
    found = {}
    for name, (metric, _) in COMPARED.items():

        def difference(weights: Weights, metric: Metric = metric) -> Values:
            every = np.ones(len(rows)) if weights is None else weights
            here, there = (metric(scores, labels, every * side) for side in (inside, outside))
            return here - there

        value, limits = float(difference(None)), bootstrap.interval(difference, level=level)
        if limits is not None and np.isfinite(value):
            found[name] = {"value": value, "interval": list(limits), "level": level}
    return found
