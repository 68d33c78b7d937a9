"""A3, metric learning: networks trained from scratch on captures to tell people apart.

Two networks of different kind, each from several random starts; both pictures are captured. Every
batch holds two pictures of each of 32 people, and each picture must be closest to its partner
(supervised contrastive learning, Khosla et al. 2020). Somebody with one image is his own partner,
recorded anew and perhaps mirrored.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opticaldr.privacy.evidence import Attempt, OnProgress
from opticaldr.privacy.networks import PatchMixer, ResidualNet
from opticaldr.privacy.rungs.lesson import Lesson, fuse
from opticaldr.privacy.rungs.training import BATCH, draw, embed, fit

ARCHITECTURES = {"residual": ResidualNet, "mixer": PatchMixer}
_DIMENSIONS = 128
_TEMPERATURE = 0.1
_SHARE = 1 / 3
"""Share of the tier's steps for each random start, so that two architectures fit the time."""
_LEARNING_RATE = 1e-3


def metric_learning(lesson: Lesson, *, progress: OnProgress) -> Iterator[Attempt]:
    """One attempt for each architecture; the networks of all random starts answer together."""
    arena = lesson.arena
    steps = max(1, round(_SHARE * arena.tier.steps))
    sampler = PairSampler(lesson.study.people)

    def loss(network: nn.Module, generator: torch.Generator) -> Tensor:
        rows = sampler.draw(generator)
        found = F.normalize(network(draw(lesson.learn, rows, generator)), dim=1)
        alike = found @ found.T / _TEMPERATURE - 1e4 * torch.eye(len(rows))
        return F.cross_entropy(alike, torch.arange(len(rows)) ^ 1)

    for name, architecture in ARCHITECTURES.items():
        tune, test = [], []
        for restart in range(arena.tier.restarts):
            network = fit(
                partial(architecture, _DIMENSIONS),
                loss,
                steps=steps,
                learning_rate=_LEARNING_RATE,
                generator=arena.generator("A3", "metric learning", name, restart),
                progress=partial(progress, f"{name} network, start {restart + 1}"),
            )
            tune.append(embed(network, lesson.tune[0]))
            test.append(embed(network, lesson.test[0]))
        rows = fuse(test)
        facts = {"validation_auc_each": [round(lesson.tuned_auc(t, t), 4) for t in tune]}
        yield arena.attempt(
            "A3", f"{name} network, both captured", rows, rows,
            steps=steps, **facts, **lesson.study.facts,
        )  # fmt: skip


class PairSampler:
    """Draws people, and two images of each (the same one twice if there is no other)."""

    def __init__(self, people: np.ndarray) -> None:
        """people: (n,) codes 0, 1, .."""
        self.order = torch.from_numpy(np.argsort(people, kind="stable"))
        self.count = torch.from_numpy(np.bincount(people))
        self.start = self.count.cumsum(0) - self.count

    def draw(self, generator: torch.Generator) -> Tensor:
        """(b,) images; 2i and 2i + 1 show one person, nobody else does."""
        chosen = torch.randperm(len(self.count), generator=generator)[: BATCH // 2]
        count, start = self.count[chosen], self.start[chosen]
        share = torch.rand(2, len(chosen), generator=generator)
        first = (share[0] * count).long()
        step = 1 + (share[1] * (count - 1)).long()
        second = (first + step) % count
        return self.order[torch.stack([start + first, start + second], dim=1).flatten()]
