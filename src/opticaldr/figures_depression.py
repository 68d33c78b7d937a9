"""Drawings of the severity section: agreement of scores and labels, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from opticaldr.figures import FIRST, INK, MUTED, SECOND, new_canvas, quiet, svg
from opticaldr.types import BDI_MAX

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Place = Callable[[float, float], tuple[float, float]]
"""(label, score) to the place of its dot."""

Points = Sequence[tuple[float, float, bool]]
"""(label, score, person seen in train or dev) of each unit, in BDI-II points."""


def agreement(points: Points, *, sem: float) -> str:
    """Score over label with the line of perfect agreement and the questionnaire's noise around it.

    sem: standard error of the label [points], drawn as a band of that half width.
    """
    with new_canvas(3.6, 3.4) as canvas:
        axes = canvas.subplots()
        ends = np.array([0.0, BDI_MAX])
        axes.fill_between(ends, ends - sem, ends + sem, color=MUTED, alpha=0.18, lw=0)
        axes.plot(ends, ends, color=MUTED, lw=1, ls=(0, (3, 3)))
        _dots(axes, points, lambda label, score: (label, score))
        axes.set_xlim(-1, BDI_MAX + 1)
        axes.set_ylim(-1, BDI_MAX + 1)
        axes.set_aspect("equal")
        axes.set_xlabel("BDI-II label", color=MUTED, fontsize=8)
        axes.set_ylabel("score", color=MUTED, fontsize=8)
        quiet(axes)
        return svg(canvas)


def differences(points: Points, *, bias: float, limits: tuple[float, float]) -> str:
    """Bland and Altman: score minus label over their mean, with bias and limits of agreement."""
    with new_canvas(3.6, 3.4) as canvas:
        axes = canvas.subplots()
        axes.axhline(0, color=MUTED, lw=1, ls=(0, (3, 3)))
        axes.axhline(bias, color=INK, lw=1.2)
        for limit in limits:
            axes.axhline(limit, color=INK, lw=0.9, ls=":")
        _dots(axes, points, lambda label, score: ((label + score) / 2, score - label))
        axes.set_xlabel("mean of score and label", color=MUTED, fontsize=8)
        axes.set_ylabel("score minus label", color=MUTED, fontsize=8)
        quiet(axes)
        return svg(canvas)


def _dots(axes: Axes, points: Points, place: Place) -> None:
    """Strangers in the first colour, people of the official train or dev set in the second."""
    for wanted, colour in ((False, FIRST), (True, SECOND)):
        at = [place(label, score) for label, score, seen in points if seen is wanted]
        if at:
            axes.plot(*zip(*at, strict=True), "o", color=colour, ms=3.2, alpha=0.65, mew=0)
