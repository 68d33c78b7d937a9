"""Prediction intervals that hold for new people: split-conformal, one vote per person.

Recordings of one person are alike, so they are not exchangeable with those of a new person; people
are. Every calibration person therefore has the same total weight 1 / (K + 1), shared by that
person's recordings, and the new person has the last 1 / (K + 1) at infinity (Lee, Barber & Willett
2023, arXiv 2306.06342). A recording of a new person is then covered with at least the wanted
probability, whatever the network does. With one recording per person this is the usual rule: the
ceil((K + 1) coverage)-th smallest error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from opticaldr.evaluate import RecordingScore, by_session
from opticaldr.metrics import BANDS, ClusterBootstrap, Scores, band_numbers
from opticaldr.results import Figure
from opticaldr.types import BDI_MAX

LEVELS = (0.8, 0.9)
"""Coverages that are calibrated and measured."""

SHOWN = 0.9
"""Coverage of the interval that `predict` shows."""


def half_width(people: Sequence[str], errors: Scores, coverage: float) -> float:
    """Half width [points] of the interval around a score; 63 if there are too few people for it.

    people: the person of each calibration recording; errors: its absolute error.
    """
    _, person, count = np.unique(np.array(people), return_inverse=True, return_counts=True)
    weight = 1 / ((len(count) + 1) * count[person])
    order = np.argsort(errors)
    enough = np.flatnonzero(np.cumsum(weight[order]) >= coverage - 1e-9)  # sums of 1 / (K + 1)
    return float(errors[order][enough[0]]) if len(enough) else BDI_MAX


def calibrate(scores: Sequence[RecordingScore]) -> dict[str, Any]:
    """What calibration.json holds, from recordings of people whom training never saw.

    coverage, half_width: of `predict`, which scores a recording. widths: half widths by unit and
    coverage. n: calibration people, which the promise rests on.
    """
    widths = {}
    for unit, rows in (("recording", scores), ("session", by_session(scores))):
        people = [row.person for row in rows]
        errors = np.array([abs(row.score - row.label) for row in rows])
        widths[unit] = {f"{level:g}": half_width(people, errors, level) for level in LEVELS}
    return {
        "coverage": SHOWN,
        "half_width": widths["recording"][f"{SHOWN:g}"],
        "n": len({row.person for row in scores}),
        "recordings": len(scores),
        "widths": widths,
    }


def measured_coverage(
    rows: Sequence[RecordingScore], calibration: dict[str, Any], unit: str
) -> list[dict[str, Any]]:
    """What share of test labels lay inside, per level: coverage, mean width after clamping, bands."""
    scores = np.array([row.score for row in rows])
    labels = np.array([row.label for row in rows])
    found = []
    for level, width in calibration["widths"][unit].items():
        inside = covered(rows, width)
        low, high = np.maximum(scores - width, 0), np.minimum(scores + width, BDI_MAX)
        bands = []
        for number, (_, name) in enumerate(BANDS):
            here = inside[band_numbers(labels) == number]
            share = float(here.mean()) if len(here) else None
            bands.append({"band": name, "n": len(here), "coverage": share})
        found.append(
            {
                "level": float(level),
                "half_width": width,
                "coverage": coverage_figure(rows, width).to_json(),
                "mean_width": float((high - low).mean()),
                "bands": bands,
            }
        )
    return found


def covered(rows: Sequence[RecordingScore], width: float) -> Scores:
    """1 for every row whose label lies within the half width of its score, else 0."""
    errors = np.array([abs(row.score - row.label) for row in rows])
    return (errors <= width + 1e-9).astype(float)


def coverage_figure(rows: Sequence[RecordingScore], width: float) -> Figure:
    """Share of rows inside, with an interval over people.

    Where nobody was missed, resampling shows no doubt; the lower end is then the exact binomial one
    for that many people.
    """
    inside = covered(rows, width)
    bootstrap = ClusterBootstrap(tuple(row.person for row in rows))

    def share(weights: Scores | None) -> Scores:
        return inside.mean() if weights is None else weights @ inside / weights.sum(-1)

    figure = bootstrap.figure(share)
    if figure.value == 1:
        return replace(figure, ci95=(0.025 ** (1 / len(set(bootstrap.people))), 1.0))
    return figure
