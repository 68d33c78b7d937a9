"""A3, distillation: networks that see a capture and say what a recogniser says of the clean picture.

Then a captured probe can be compared with a clean gallery. A student from scratch learns from all
recognisers at once; a copy of a recogniser learns to see through the blur.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opticaldr.privacy.evidence import Attempt, OnProgress, RungName
from opticaldr.privacy.networks import ResidualNet
from opticaldr.privacy.rungs.lesson import Lesson, as_photo, unit
from opticaldr.privacy.rungs.training import BATCH, contrast, draw, embed, fit
from opticaldr.types import Recogniser

_TEMPERATURE = 0.05
_CONTRAST = 0.1
"""Weight of the contrast between the people of a batch beside 1 - cosine."""
_LEARNING_RATE = 2e-3
_STUDENT = 1 / 2
"""Share of the tier's steps for a student: on 4,000 images it gains little from more."""
_TUNED = 1 / 20
"""Share of the tier's steps for a copied recogniser, of which one costs as much as ten."""
_TUNED_BATCH, _TUNED_RATE = 32, 3e-4


def distillation(lesson: Lesson, *, progress: OnProgress) -> Iterator[Attempt]:
    """Students from scratch for every recogniser, and a fine-tuned copy of one of them."""
    yield from students(lesson, "A3", "student", share=_STUDENT, progress=progress)
    yield from _fine_tuned(lesson, progress)


def agreement(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean of 1 - cosine, and each answer must be closest to its own teacher row; (b, e) each."""
    found = F.normalize(found, dim=1)
    near = (1 - (found * wanted).sum(dim=1)).mean()
    return near + _CONTRAST * contrast(found, wanted, temperature=_TEMPERATURE)


def students(
    lesson: Lesson, rung: RungName, variant: str, *, share: float, progress: OnProgress
) -> Iterator[Attempt]:
    """Probe through the students against clean galleries of each teacher, and against captured ones.

    Args:
        share: of the tier's steps, for each random start.
    """
    arena, teachers = lesson.arena, lesson.teachers
    widths = [teacher.learn.shape[1] for teacher in teachers]
    wanted = [torch.from_numpy(teacher.learn).float() for teacher in teachers]
    steps = max(1, round(share * arena.tier.steps))

    def loss(network: nn.Module, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(wanted[0]), (BATCH,), generator=generator)
        answers = network(draw(lesson.learn, rows, generator)).split(widths, dim=1)
        pairs = zip(answers, wanted, strict=True)
        return torch.stack([agreement(found, target[rows]) for found, target in pairs]).mean()

    networks = []
    for restart in range(arena.tier.restarts):
        networks.append(
            fit(
                partial(ResidualNet, sum(widths), channels=lesson.learn.shape[2]),
                loss,
                steps=steps,
                learning_rate=_LEARNING_RATE,
                generator=arena.generator(rung, variant, restart),
                progress=partial(progress, f"{variant}, start {restart + 1}"),
            )
        )
    tune = [_answers(network, lesson.tune[0], widths) for network in networks]
    test = [_answers(network, lesson.test[0], widths) for network in networks]
    for number, teacher in enumerate(teachers):
        each = [lesson.tuned_auc(teacher.tune, found[number]) for found in tune]
        facts = {"steps": steps, "validation_auc_each": [round(auc, 4) for auc in each]}
        facts |= lesson.study.facts
        rows = unit(sum(found[number] for found in test))
        name = f"{variant}, {teacher.judge.name}"
        yield arena.attempt(rung, name, teacher.test, rows, **facts)
        yield arena.attempt(rung, f"{name}, both captured", rows, rows, **facts)


def _answers(network: nn.Module, pictures: Tensor, widths: list[int]) -> list[np.ndarray]:
    """Unit rows (n, e) for each teacher."""
    ends = np.cumsum(widths)[:-1]
    return [unit(part) for part in np.split(embed(network, pictures), ends, axis=1)]


def _fine_tuned(lesson: Lesson, progress: OnProgress) -> Iterator[Attempt]:
    """The first recogniser whose weights can be trained, on captures at full resolution."""
    trainable = (t for t in lesson.teachers if is_trainable(t.judge))
    teacher = next(trainable, None)
    if teacher is None:
        return
    arena, dealt = lesson.arena, lesson.study
    name = teacher.judge.name
    wanted = torch.from_numpy(teacher.learn).float()
    steps = max(1, round(_TUNED * arena.tier.steps))
    noise = arena.generator("A3", "captures for fine-tuning", name)

    def loss(network: nn.Module, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(wanted), (_TUNED_BATCH,), generator=generator)
        scene = torch.cat([scene for _, scene in arena.scenes(dealt.learn[rows.numpy()])])
        with torch.no_grad():
            seen = as_photo(arena.camera.capture(scene, generator=noise))
        mirrored = torch.rand(len(rows), 1, 1, 1, generator=generator) < 0.5
        return agreement(network(torch.where(mirrored, seen.flip(-1), seen)), wanted[rows])

    network = fit(
        lambda: copy.deepcopy(teacher.judge).requires_grad_(True),
        loss,
        steps=steps,
        learning_rate=_TUNED_RATE,
        generator=arena.generator("A3", "fine-tuned", name),
        progress=partial(progress, f"fine-tuned {name}"),
    )
    rows = arena.embed(network, arena.test.images, arena.captured("A3", "fine-tuned", name))
    facts = {"steps": steps, "batch": _TUNED_BATCH, **dealt.facts}
    yield arena.attempt("A3", f"fine-tuned {name}", teacher.test, rows, **facts)


def is_trainable(judge: Recogniser) -> bool:
    """Whether an attacker can copy the recogniser's weights and train them."""
    return judge.differentiable and isinstance(judge, nn.Module)
