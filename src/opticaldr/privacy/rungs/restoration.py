"""Rung A5: a network learns to restore the picture; then a recogniser compares (privacy.md 5.1).

The network sees the capture and, where the optics have a PSF, its Wiener restoration. It learns from
the difference to the clean picture and from what one recogniser says of it; another recogniser,
which had no part in the training, is the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.privacy.arena import BATCH, Arena
from opticaldr.privacy.evidence import Attempt, OnProgress
from opticaldr.privacy.networks import UNet
from opticaldr.privacy.rungs.distillation import agreement, is_trainable
from opticaldr.privacy.rungs.known_psf import restorer_for
from opticaldr.privacy.rungs.lesson import SIDE, Study, Teacher, shrink, study, teacher
from opticaldr.privacy.rungs.training import draw, fit
from opticaldr.privacy.verification import stretch_contrast
from opticaldr.types import Capture, Photo, Recogniser, Scene

_BATCH = 16
_LEARNING_RATE = 2e-3
_SHARE = 1 / 3
"""Share of the tier's steps: one costs as much as three of a network that only compares."""
_IDENTITY_BATCH = 4
"""Pictures of each batch that the recogniser in the loss looks at, which is most of the cost."""
_IDENTITY, _GRADIENT = 0.1, 0.5
"""Weights beside the mean absolute difference."""

Clues = Callable[[Capture], Tensor]


def restoration(arena: Arena, *, progress: OnProgress) -> Iterator[Attempt]:
    """Restored probes against clean galleries, for each judge that the training did not see."""
    dealt = study(arena)
    guide = training_recogniser(arena.judges)
    guided = guide and teacher(arena, dealt, guide, progress=progress)
    clues = clue_maker(arena)
    steps = max(1, round(_SHARE * arena.tier.steps))
    network = _train(arena, dealt, clues, guided, steps, progress)
    facts = {
        "loss": "L1, gradient" + (f", identity by {guide.name}" if guide else ""),
        "steps": steps,
        **dealt.facts,
    }
    for judge in arena.judges:
        if judge is guide:
            continue
        quality: list[float] = []
        generator = arena.generator("A5", "capture")

        def restored(_chosen: np.ndarray, scene: Scene) -> Scene:
            record = arena.camera.capture(scene, generator=generator)  # noqa: B023
            found = network(clues(record)).clamp(0, 1)
            quality.extend(psnr(found, linear_to_srgb(shrink(scene, SIDE))))  # noqa: B023
            return srgb_to_linear(found)

        gallery = arena.embed(judge, arena.test.images)
        probe = arena.embed(judge, arena.test.images, restored)
        yield arena.attempt(
            "A5", f"u-net, {judge.name}", gallery, probe,
            psnr_db=round(float(np.mean(quality)), 2), **invention(arena, gallery, probe), **facts,
        )  # fmt: skip


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


# --- training -------------------------------------------------------------------------------


def clue_maker(arena: Arena) -> Clues:
    """Linear captures to what the network sees: (b, 3 or 6, SIDE, SIDE) in sRGB."""
    restore = restorer_for(arena) if arena.camera.psf is not None else None

    def clues(captures: Capture) -> Tensor:
        pictures = [captures] + ([restore(captures)] if restore else [])
        return torch.cat([linear_to_srgb(shrink(picture, SIDE)) for picture in pictures], dim=1)

    return clues


def _train(
    arena: Arena,
    dealt: Study,
    clues: Clues,
    guided: Teacher | None,
    steps: int,
    progress: OnProgress,
) -> nn.Module:
    examples = _examples(arena, dealt, clues, progress)
    wanted = None if guided is None else torch.from_numpy(guided.learn).float()

    def loss(network: nn.Module, generator: torch.Generator) -> Tensor:
        rows = torch.randint(examples.shape[1], (_BATCH,), generator=generator)
        batch = draw(examples, rows, generator)
        found, truth = network(batch[:, :-3]), batch[:, -3:]
        error = found - truth
        total = error.abs().mean() + _GRADIENT * _steps_between(error).abs().mean()
        if guided is not None:
            shown = stretch_contrast(found[:_IDENTITY_BATCH].clamp(0, 1))
            told = guided.judge(shown)
            total = total + _IDENTITY * agreement(told, wanted[rows[:_IDENTITY_BATCH]])
        return total

    return fit(
        lambda: UNet(examples.shape[2] - 3),
        loss,
        steps=steps,
        learning_rate=_LEARNING_RATE,
        generator=arena.generator("A5", "train"),
        progress=lambda done, total: progress("restoring network", done, total),
    )


def _steps_between(pictures: Tensor) -> Tensor:
    """Differences between neighbouring pixels, both ways, flat: edges count beside areas."""
    return torch.cat([pictures.diff(dim=-1).flatten(), pictures.diff(dim=-2).flatten()])


def _examples(arena: Arena, dealt: Study, clues: Clues, progress: OnProgress) -> Tensor:
    """(1, n, channels + 3, SIDE, SIDE) float16: clues of each image, then the clean picture."""
    generator = arena.generator("A5", "examples")
    found = []
    for chosen, scene in arena.scenes(dealt.learn):
        record = arena.camera.capture(scene, generator=generator)
        clean = linear_to_srgb(shrink(scene, SIDE))
        found.append(torch.cat([clues(record), clean], dim=1).half()[None])
        progress("examples to restore", BATCH * (len(found) - 1) + len(chosen), len(dealt.learn))
    return torch.cat(found, dim=1)
