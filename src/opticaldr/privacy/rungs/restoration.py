"""Rung A5: networks that know the optics and learn to undo them (privacy.md 5.1).

They see the capture and, where the optics have a PSF, its Wiener restoration. One restores the
picture: it learns from the difference to the clean picture and from what one recogniser says of it;
another recogniser, which had no part in the training, is the judge. The others skip the picture and
learn what the recognisers say of the clean face (as in A3, which is told nothing of the optics).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.privacy.arena import Arena
from opticaldr.privacy.evidence import Attempt, OnProgress
from opticaldr.privacy.networks import UNet
from opticaldr.privacy.rungs.distillation import agreement, is_trainable, students
from opticaldr.privacy.rungs.known_psf import restorer_for
from opticaldr.privacy.rungs.lesson import SIDE, Lesson, Look, prepare, shrink, unit
from opticaldr.privacy.rungs.training import BATCH, draw, fit
from opticaldr.privacy.verification import stretch_contrast
from opticaldr.types import Capture, Photo, Recogniser, Scene

_RESTORER, _STUDENT = 1 / 4, 1 / 4
"""Shares of the tier's steps; knowing the optics, students need half as many as in A3."""
_BATCH = 16
_LEARNING_RATE = 2e-3
_IDENTITY_BATCH = 4
"""Pictures of each batch that the recogniser in the loss looks at, which is most of the cost."""
_IDENTITY, _GRADIENT = 0.1, 0.5
"""Weights beside the mean absolute difference."""


def restoration(arena: Arena, *, progress: OnProgress) -> Iterator[Attempt]:
    """Restored probes against clean galleries, then students of capture and restoration."""
    lesson = prepare(arena, "A5", look=_look(arena), draws=1, progress=progress)
    yield from _restored(lesson, progress)
    if arena.camera.psf is None:
        return  # without a restoration the students would be those of A3
    stretched = {name: _stretched(getattr(lesson, name)) for name in ("learn", "tune", "test")}
    lesson = replace(lesson, **stretched)
    yield from students(lesson, "A5", "student", share=_STUDENT, progress=progress)


def _look(arena: Arena) -> Look:
    """Capture and restoration in sRGB, three channels each; the capture alone without a PSF."""
    restore = restorer_for(arena) if arena.camera.psf is not None else None

    def look(captures: Capture) -> Tensor:
        shown = [captures] + ([restore(captures)] if restore else [])
        return torch.cat([linear_to_srgb(shrink(picture, SIDE)) for picture in shown], dim=1)

    return look


def _stretched(pictures: Tensor) -> Tensor:
    """The contrast of capture and restoration stretched, each for itself; (1, n, 6, s, s)."""

    def both(part: Tensor) -> Tensor:
        return torch.cat([stretch_contrast(picture) for picture in part.split(3, dim=1)], dim=1)

    return torch.cat([both(part.float()).half() for part in pictures[0].split(BATCH)])[None]


def _restored(lesson: Lesson, progress: OnProgress) -> Iterator[Attempt]:
    arena = lesson.arena
    guide = training_recogniser(arena.judges)
    steps = max(1, round(_RESTORER * arena.tier.steps))
    network = _train(lesson, guide, steps, progress)
    tune, test = (_through(network, pictures) for pictures in (lesson.tune, lesson.test))
    facts = {
        "loss": "L1, gradient" + (f", identity by {guide.name}" if guide else ""),
        "steps": steps,
        "psnr_db": round(float(np.mean(psnr(test, _clean(arena, arena.test.images)))), 2),
        **lesson.study.facts,
    }

    def embedded(judge: Recogniser, images: np.ndarray, restored: Photo) -> np.ndarray:
        def see(chosen: np.ndarray, _scene: Scene) -> Scene:
            return srgb_to_linear(restored[np.searchsorted(images, chosen)])

        return arena.embed(judge, images, see)

    for teacher in lesson.teachers:
        judge = teacher.judge
        if judge is guide:
            continue
        # what all restored faces have in common says nothing about who it is
        common = embedded(judge, lesson.study.tune.images, tune).mean(axis=0)
        probe = embedded(judge, arena.test.images, test)
        found = invention(arena, arena.embed(judge, arena.test.images), probe)
        yield arena.attempt(
            "A5", f"u-net, {judge.name}", teacher.test, unit(probe - common), **facts, **found
        )


def _through(network: nn.Module, pictures: Tensor) -> Photo:
    """The restored pictures (n, 3, SIDE, SIDE) of (1, n, c, SIDE, SIDE)."""
    with torch.inference_mode():
        return torch.cat([network(part.float()).clamp(0, 1) for part in pictures[0].split(BATCH)])


def training_recogniser(judges: tuple[Recogniser, ...]) -> Recogniser | None:
    """The one that guides the training and therefore does not judge; None if there is only one."""
    able = [judge for judge in judges if is_trainable(judge)]
    return able[0] if able and len(judges) > 1 else None


def psnr(found: Photo, truth: Photo) -> list[float]:
    """Peak signal-to-noise ratio of each picture [dB]."""
    error = (found - truth).square().mean(dim=(1, 2, 3)).clamp_min(1e-10)
    return (-10 * error.log10()).tolist()


def invention(arena: Arena, gallery: np.ndarray, probe: np.ndarray) -> dict[str, float]:
    """Whether restored pictures show the person or an invented one; rows as for arena.attempt.

    own_picture_auc: a restored picture against its own clean original, versus restored pictures of
    other people against that original (.5: everything in it is invented). alike_restored and
    alike_clean: mean cosine between pictures of different people; where the first is far larger,
    the restorer gives everybody the same face.
    """
    pairs = arena.test
    own = np.einsum("nd,nd->n", gallery, probe)
    other = arena.compare(gallery, probe)[~pairs.same]
    labels = np.r_[np.ones(len(own)), np.zeros(len(other))]
    return {
        "own_picture_auc": round(float(roc_auc_score(labels, np.r_[own, other])), 4),
        "alike_restored": round(float(arena.compare(probe, probe)[~pairs.same].mean()), 4),
        "alike_clean": round(float(arena.compare(gallery, gallery)[~pairs.same].mean()), 4),
    }


def _train(lesson: Lesson, guide: Recogniser | None, steps: int, progress: OnProgress) -> nn.Module:
    clean = _clean(lesson.arena, lesson.study.learn)
    examples = torch.cat([lesson.learn, clean[None].half()], dim=2)
    told = {teacher.judge.name: torch.from_numpy(teacher.learn) for teacher in lesson.teachers}

    def loss(network: nn.Module, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(clean), (_BATCH,), generator=generator)
        batch = draw(examples, rows, generator)
        found, truth = network(batch[:, :-3]), batch[:, -3:]
        error = found - truth
        total = error.abs().mean() + _GRADIENT * _steps_between(error).abs().mean()
        if guide is not None:
            few = slice(_IDENTITY_BATCH)
            shown = stretch_contrast(found[few].clamp(0, 1))
            wanted = told[guide.name][rows[few]].float()
            total = total + _IDENTITY * agreement(guide(shown), wanted)
        return total

    return fit(
        partial(UNet, examples.shape[2] - 3),
        loss,
        steps=steps,
        learning_rate=_LEARNING_RATE,
        generator=lesson.arena.generator("A5", "train"),
        progress=partial(progress, "restoring network"),
    )


def _clean(arena: Arena, images: np.ndarray) -> Photo:
    """(n, 3, SIDE, SIDE) sRGB."""
    return torch.cat([linear_to_srgb(shrink(scene, SIDE)) for _, scene in arena.scenes(images)])


def _steps_between(pictures: Tensor) -> Tensor:
    """Differences between neighbouring pixels, both ways, flat: edges count beside areas."""
    return torch.cat([pictures.diff(dim=-1).flatten(), pictures.diff(dim=-2).flatten()])
