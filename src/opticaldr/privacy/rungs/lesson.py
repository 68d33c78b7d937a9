"""What trained attackers learn from: captures as pictures, teachers, and who is kept for tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor

from opticaldr.data.pairs import Pairs
from opticaldr.optics.colour import linear_to_srgb
from opticaldr.privacy.arena import Arena
from opticaldr.privacy.evidence import OnProgress, RungName
from opticaldr.privacy.verification import stretch_contrast
from opticaldr.types import Capture, InputError, Photo, Recogniser

SIDE = 64
"""Side of the whole frame as the attackers' networks see it [px]: 20 cycles per face width."""

ENOUGH_PEOPLE, ENOUGH_IMAGES = 5000, 200_000
"""Below this an attacker counts as under-powered (privacy.md 5.2)."""


def shrink(picture: Capture, side: int) -> Capture:
    """(b, 3, s, s) to (b, 3, side, side), antialiased."""
    if picture.shape[-1] == side:
        return picture
    return F.interpolate(
        picture, size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )


def as_photo(captures: Capture) -> Photo:
    """Linear captures to sRGB with the contrast of each stretched, as the recognisers get them."""
    return stretch_contrast(linear_to_srgb(captures))


@dataclass(frozen=True)
class Study:
    """The attacker's people, dealt into those whom he learns from and those he tunes on.

    learn: (n,) images. people: (n,) int code of the person of each. tune: pairs of others.
    """

    learn: np.ndarray
    people: np.ndarray
    tune: Pairs

    @property
    def facts(self) -> dict[str, object]:
        """What the card says about the size of the study."""
        people = len(np.unique(self.people))
        small = people < ENOUGH_PEOPLE or len(self.learn) < ENOUGH_IMAGES
        return {
            "training_images": len(self.learn),
            "training_people": people,
            "under_powered": small,
        }


def study(arena: Arena) -> Study:
    """At most a third of the people with several images are for tuning, the rest is for learning."""
    pairs = arena.validation
    everyone = np.array(arena.people_of(arena.attacker))
    _, counts = np.unique(everyone, return_counts=True)
    tuned = np.unique(arena.people_of(pairs.images))[: (counts >= 2).sum() // 3]
    if len(tuned) < 2:
        raise InputError(
            "Expected at least six people with two images each to train and tune attacks on, found "
            f"{int((counts >= 2).sum())}; give the attacker more people."
        )
    first, second = (np.isin(arena.people_of(side), tuned) for side in (pairs.first, pairs.second))
    kept = first & second
    learns = ~np.isin(everyone, tuned)
    return Study(
        learn=arena.attacker[learns],
        people=np.unique(everyone[learns], return_inverse=True)[1],
        tune=Pairs(pairs.first[kept], pairs.second[kept], pairs.same[kept]),
    )


Look = Callable[[Capture], Tensor]
"""Linear captures (b, 3, s, s) to what a network is shown, (b, c, SIDE, SIDE)."""


def look_plainly(captures: Capture) -> Photo:
    """The whole frame, small, with its contrast stretched."""
    return as_photo(shrink(captures, SIDE))


@torch.no_grad()
def pictures(
    arena: Arena,
    images: np.ndarray,
    *key: object,
    look: Look,
    draws: int,
    progress: OnProgress,
) -> Tensor:
    """What a network is shown of each image, recorded anew: (draws, n, c, SIDE, SIDE) float16.

    25 kB for three channels; float16 resolves 1/2048 of the range.

    Args:
        key: names the stream of the noise.
    """
    generator = arena.generator("pictures", *key)
    found, done = [], 0
    for chosen, scene in arena.scenes(images):
        light = arena.camera.optics(scene)
        records = [arena.camera.noise.record(light, generator=generator) for _ in range(draws)]
        found.append(torch.stack([look(record).half() for record in records]))
        done += len(chosen)
        progress(f"captures, {' '.join(map(str, key))}", done, len(images))
    return torch.cat(found, dim=1)


@dataclass(frozen=True)
class Teacher:
    """What an off-the-shelf recogniser says of the clean pictures: unit rows less their mean.

    learn: of study.learn. tune: of study.tune.images. test: of arena.test.images.
    """

    judge: Recogniser
    learn: np.ndarray
    tune: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Lesson:
    """What attackers train, tune and strike with: pictures (draws, n, c, SIDE, SIDE) float16.

    learn: of study.learn, several draws. tune: of study.tune.images. test: of arena.test.images.
    """

    arena: Arena
    study: Study
    learn: Tensor
    tune: Tensor
    test: Tensor
    teachers: tuple[Teacher, ...]

    def tuned_auc(self, gallery: np.ndarray, probe: np.ndarray) -> float:
        """AUC among the attacker's own people; unit rows for study.tune.images."""
        pairs = self.study.tune
        return float(roc_auc_score(pairs.same, self.arena.compare(gallery, probe, pairs)))


def prepare(
    arena: Arena, rung: RungName, *, look: Look = look_plainly, draws: int, progress: OnProgress
) -> Lesson:
    """Records everything that the attackers of a rung look at.

    Args:
        draws: records of each training image; a batch takes one of them, and half of them mirrored.
    """
    dealt = study(arena)
    groups = {"learn": dealt.learn, "tune": dealt.tune.images, "test": arena.test.images}
    seen = {
        name: pictures(
            arena, images, rung, name,
            look=look, draws=draws if name == "learn" else 1, progress=progress,
        )
        for name, images in groups.items()
    }  # fmt: skip
    teachers = tuple(_teacher(arena, dealt, judge, progress) for judge in arena.judges)
    return Lesson(arena, dealt, teachers=teachers, **seen)


def _teacher(arena: Arena, dealt: Study, judge: Recogniser, progress: OnProgress) -> Teacher:
    """Embeds the clean pictures. The mean face says nothing about who it is, so it is removed."""
    groups = {"learn": dealt.learn, "tune": dealt.tune.images, "test": arena.test.images}
    rows = {
        name: arena.embed(
            judge, images, progress=partial(progress, f"clean pictures, {judge.name}")
        )
        for name, images in groups.items()
    }
    mean = rows["learn"].mean(axis=0)
    return Teacher(judge, **{name: unit(found - mean) for name, found in rows.items()})


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def fuse(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Unit rows of several attackers side by side: the cosine becomes the mean of their cosines."""
    return np.concatenate(rows, axis=1) / len(rows) ** 0.5
