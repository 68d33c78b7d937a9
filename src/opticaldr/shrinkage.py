"""The last touch of training: scores that are spread too widely are drawn in on validation people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from opticaldr.evaluate import RecordingScore
from opticaldr.model import OpticalDR
from opticaldr.types import BDI_MAX


@dataclass(frozen=True)
class Line:
    """score <- intercept + slope score, in BDI-II points."""

    intercept: float
    slope: float


def fit_line(scores: Sequence[RecordingScore]) -> Line:
    """The least-squares line from scores to labels with its slope kept in [0, 1].

    An over-fitted reader spreads its scores too widely; the slope takes that back.
    """
    score = np.array([row.score for row in scores])
    label = np.array([row.label for row in scores])
    spread = float(score.var())
    covariance = float(((score - score.mean()) * (label - label.mean())).mean())
    slope = min(1.0, max(0.0, covariance / spread)) if spread > 0 else 1.0
    return Line(float(label.mean() - slope * score.mean()), slope)


@torch.no_grad()
def fold_in(line: Line, model: OpticalDR) -> None:
    """Folds a line into the last layer of the severity head.

    The checkpoint in state/ keeps the weights as trained, so training on continues exactly.
    """
    last = model.network.depression.head[-1]
    last.weight.mul_(line.slope)
    last.bias.mul_(line.slope).add_(line.intercept / BDI_MAX)


def without_own_person(scores: Sequence[RecordingScore]) -> list[RecordingScore]:
    """Each recording's score after the line that the *other* people give.

    Errors of these scores tell what happens to a new person; errors of a line that was fitted to
    the same people would be too small. A single person keeps the scores.
    """
    people = sorted({row.person for row in scores})
    if len(people) < 2:
        return list(scores)
    lines = {p: fit_line([row for row in scores if row.person != p]) for p in people}
    return [
        replace(
            row,
            score=float(
                np.clip(
                    lines[row.person].intercept + lines[row.person].slope * row.score, 0, BDI_MAX
                )
            ),
        )
        for row in scores
    ]
