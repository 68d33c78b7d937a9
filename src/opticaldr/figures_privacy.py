"""Drawings of the privacy card: numbers in, one inline SVG (text) out. Style as in figures.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from opticaldr.figures import FIRST, INK, MUTED, SECOND, new_canvas, quiet, svg
from opticaldr.results import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLES = ("-", "--", "-.", ":")
_RATES = (1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
"""Ticks of probit axes."""


@dataclass(frozen=True)
class RungLine:
    """One line of the ladder: a rung and its strongest attack; None = not run.

    broken: this attack fails the camera. note: what to print instead of an interval.
    """

    label: str
    auc: Figure | None
    broken: bool = False
    note: str = ""


@dataclass(frozen=True)
class DetCurve:
    """Detection error trade-off: share of mated pairs missed at each false match rate, (k,) each.

    low, high: 95 % band of fnmr.
    """

    label: str
    fmr: np.ndarray
    fnmr: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Series:
    """AUC against x for one attack; low and high may be empty (no intervals)."""

    label: str
    x: Sequence[float]
    auc: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def ladder(
    rungs: Sequence[RungLine], *, bracket: tuple[float, float] | None, held: float, failed: float
) -> str:
    """AUC of the strongest attack of each rung with its 95 % interval, and the bracket below.

    bracket: AUC of the strongest attack found and the most that any attack can reach.
    held, failed: limits up to which an attack counts as held, and beyond which it fails.
    """
    rows = len(rungs) + (bracket is not None)
    with new_canvas(5.0, 0.7 + 0.22 * rows) as canvas:
        axes = canvas.subplots()
        lowest = min([0.45, *(line.auc.ci95[0] - 0.02 for line in rungs if line.auc)])
        axes.axvspan(lowest, held, color=FIRST, alpha=0.10, lw=0)
        axes.axvspan(failed, 1.02, color=SECOND, alpha=0.10, lw=0)
        axes.axvline(0.5, color=MUTED, lw=1, ls=(0, (3, 3)))
        for place, line in enumerate(rungs):
            if line.auc is None:
                axes.text(0.505, place, line.note, color=MUTED, fontsize=8, va="center")
                continue
            colour = SECOND if line.broken else FIRST
            axes.plot(line.auc.ci95, [place] * 2, color=colour, lw=2.4, alpha=0.55)
            axes.plot([line.auc.value], [place], "o", color=colour, ms=5)
            if line.note:
                right = line.auc.ci95[1] < 0.75
                beside = line.auc.ci95[1] + 0.012 if right else line.auc.ci95[0] - 0.012
                alignment = "left" if right else "right"
                style = {"color": MUTED, "fontsize": 8, "va": "center", "ha": alignment}
                axes.text(beside, place, line.note, **style)
        labels = [line.label for line in rungs]
        if bracket:
            _bracket(axes, bracket, len(rungs))
            labels.append("bracket")
        axes.set_yticks(range(rows), labels)
        axes.set_ylim(rows - 0.45, -0.55)
        axes.set_xlim(lowest, 1.02)
        axes.set_xlabel("AUC: .5 is chance, 1 is certainty", color=MUTED, fontsize=8)
        quiet(axes)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=9)
        return svg(canvas)


def _bracket(axes: Axes, bracket: tuple[float, float], place: int) -> None:
    """A bar from the strongest attack found to the certificate: in between nobody knows."""
    low, high = bracket
    axes.plot([low, high], [place] * 2, color=INK, lw=1.4)
    for end in bracket:
        axes.plot([end] * 2, [place - 0.25, place + 0.25], color=INK, lw=1.4)


def det(curves: Sequence[DetCurve]) -> str:
    """False non-match rate against false match rate on normal-deviate (probit) axes, with bands."""
    from scipy.special import ndtri

    lowest = min(float(curve.fmr.min()) for curve in curves)
    edge = (max(lowest, 1e-4), 0.97)
    with new_canvas(4.4, 3.4) as canvas:
        axes = canvas.subplots()
        line = np.array([edge[0], 1 - edge[0]])
        axes.plot(ndtri(line), ndtri(1 - line), color=MUTED, lw=1, ls=(0, (3, 3)), label="chance")
        for number, curve in enumerate(curves):
            colour = (SECOND, FIRST, INK)[number % 3]
            x = ndtri(curve.fmr)
            low, middle, high = (
                ndtri(np.clip(rate, 1e-4, 1 - 1e-4)) for rate in (curve.low, curve.fnmr, curve.high)
            )
            axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
            style = _STYLES[number % len(_STYLES)]
            axes.plot(x, middle, color=colour, lw=1.5, ls=style, label=curve.label)
        for axis, span in ((axes.xaxis, edge), (axes.yaxis, (5e-3, 1 - 5e-4))):
            shown = [rate for rate in _RATES if span[0] <= rate <= span[1]]
            axis.set_ticks(ndtri(shown), [f"{100 * rate:g} %" for rate in shown])
        axes.set_xlim(*ndtri(edge))
        axes.set_ylim(*ndtri((5e-3, 1 - 5e-4)))
        axes.set_xlabel("strangers taken for the same person", color=MUTED, fontsize=8)
        axes.set_ylabel("same person missed", color=MUTED, fontsize=8)
        quiet(axes)
        _legend(axes, loc="upper right")
        return svg(canvas)


def aucs(series: Sequence[Series], *, label: str, log: bool, held: float) -> str:
    """AUC against frames or strength, one line per attack, named at its right end.

    held: the AUC up to which an attack counts as held (dashed), above chance (dotted).
    """
    strongest = max(series, key=lambda one: one.auc[-1])
    with new_canvas(4.4, 2.7) as canvas:
        axes = canvas.subplots()
        axes.axhline(0.5, color=MUTED, lw=0.9, ls=":")
        axes.axhline(held, color=MUTED, lw=1, ls=(0, (3, 3)))
        for one in series:
            colour = SECOND if one is strongest else FIRST
            axes.plot(one.x, one.auc, color=colour, lw=1.4, marker="o", ms=3.2)
            if len(one.low):
                axes.fill_between(one.x, one.low, one.high, color=colour, alpha=0.12, lw=0)
        if log:
            axes.set_xscale("log")
        ticks = sorted({x for one in series for x in one.x})
        axes.set_xticks(ticks, [f"{x:,g}" if log else f"{100 * x:g} %" for x in ticks])
        axes.set_xticks([], minor=True)
        lowest = min(0.45, *(min([*one.auc, *one.low]) - 0.02 for one in series))
        axes.set_ylim(lowest, 1.02)
        heights = _apart([one.auc[-1] for one in series], 0.075 * (1.02 - lowest))
        right = max(one.x[-1] for one in series)
        for one, height in zip(series, heights, strict=True):
            axes.annotate(
                one.label, (right, height), xytext=(5, 0), textcoords="offset points", fontsize=8,
                color=SECOND if one is strongest else FIRST, va="center", parse_math=False,
                annotation_clip=False,
            )  # fmt: skip
        axes.set_xlabel(label, color=MUTED, fontsize=8)
        axes.set_ylabel("AUC", color=MUTED, fontsize=8)
        quiet(axes)
        return svg(canvas)


def _apart(heights: Sequence[float], step: float) -> list[float]:
    """The same heights moved up as little as keeps labels at least `step` apart."""
    moved = [0.0] * len(heights)
    last = -np.inf
    for index in sorted(range(len(heights)), key=heights.__getitem__):
        last = max(heights[index], last + step)
        moved[index] = last
    # what was pushed past the top comes down again, order kept
    ceiling = 1.02
    for index in sorted(range(len(heights)), key=moved.__getitem__, reverse=True):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - step
    return moved


def _legend(axes: Axes, **place: str) -> None:
    legend = axes.legend(frameon=False, fontsize=7.5, labelcolor=INK, handlelength=1.8, **place)
    for text in legend.get_texts():
        text.set_parse_math(False)  # names that users give may hold a dollar sign
