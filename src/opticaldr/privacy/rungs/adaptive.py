"""Rung A3: attackers who retrain on captures of people other than the test's (privacy.md 5.1).

Linear ones, networks from scratch, and recognisers taught to see through the blur. All look at one
recorded frame of the whole scene.
"""

from __future__ import annotations

from collections.abc import Iterator

from opticaldr.privacy.arena import Arena
from opticaldr.privacy.evidence import Attempt, OnProgress
from opticaldr.privacy.rungs.distillation import distillation
from opticaldr.privacy.rungs.lesson import prepare
from opticaldr.privacy.rungs.linear import fit_lda as fit_lda
from opticaldr.privacy.rungs.linear import linear
from opticaldr.privacy.rungs.metric_learning import metric_learning


def adaptive(arena: Arena, *, progress: OnProgress) -> Iterator[Attempt]:
    """All retrained attackers on arena.camera."""
    lesson = prepare(arena, "A3", draws=3, progress=progress)
    yield from linear(lesson, progress=progress)
    yield from metric_learning(lesson, progress=progress)
    yield from distillation(lesson, progress=progress)
