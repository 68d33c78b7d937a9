"""Where an attack happens: camera, faces, pairs, the attacker's own people, judges and streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch

from opticaldr.data.faceset import FaceSet
from opticaldr.data.pairs import Pairs, all_pairs
from opticaldr.optics.colour import linear_to_srgb
from opticaldr.privacy.cameras import CameraUnderAttack
from opticaldr.privacy.evidence import Attempt, Finding, OnProgress, RungName
from opticaldr.privacy.tiers import Tier
from opticaldr.privacy.verification import attack_embedding, scene_of
from opticaldr.seeds import generator_for
from opticaldr.types import InputError, Recogniser, Scene

BATCH = 32

See = Callable[[np.ndarray, Scene], Scene]
"""(image indices (b,), their scenes) -> the linear pictures (b, 3, s, s) that the judge is shown."""


@dataclass(frozen=True)
class Arena:
    """Everything that a rung gets. Test people are in none of the attacker's images.

    faces: all images; `test` and `attacker` are indices into its records, oracle-aligned crops.
    test: the pairs; first = gallery, second = probe.
    attacker: (a,) images of other people, which attackers may learn and tune on.
    judges: recognisers, none of which shaped the lens.
    scene_size: side of the scene handed to the camera [px].
    seed: of every stream, see generator().
    cache: clean embeddings by (judge, images); shared by all arenas on the same faces.
    """

    camera: CameraUnderAttack
    faces: FaceSet
    test: Pairs
    attacker: np.ndarray
    judges: tuple[Recogniser, ...]
    scene_size: int
    seed: int
    tier: Tier
    cache: dict[tuple[str, bytes], np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        both = set(self.people_of(self.test.images)) & set(self.people_of(self.attacker))
        if both:
            raise InputError(
                "Expected an attacker who trains on other people than the test's, found "
                f"{len(both)} in both (such as {min(both)}); split the images by person."
            )
        if not self.judges:
            raise InputError("Expected at least one recogniser, found none; name one.")

    def people_of(self, images: np.ndarray) -> list[str]:
        """The person of each image."""
        return [self.faces.records[int(i)].person for i in images]

    def generator(self, *key: object) -> torch.Generator:
        """A stream that depends on the seed, the camera and the key, not on what ran before."""
        return generator_for(self.seed, self.camera.name, *key)

    def scenes(self, images: np.ndarray) -> Iterator[tuple[np.ndarray, Scene]]:
        """Batches of (indices, linear scenes (b, 3, s, s))."""
        for start in range(0, len(images), BATCH):
            chosen = images[start : start + BATCH]
            read = [scene_of(self.faces.image(int(i)), self.scene_size) for i in chosen]
            yield chosen, torch.cat(read)

    def embed(
        self,
        judge: Recogniser,
        images: np.ndarray,
        see: See | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Unit embeddings (n, d) of what `see` makes of each image; None = the clean picture."""
        key = (judge.name, images.tobytes())
        if see is None and key in self.cache:
            return self.cache[key]
        found, done = [], 0
        with torch.inference_mode():
            for chosen, scene in self.scenes(images):
                picture = scene if see is None else see(chosen, scene)
                shown = linear_to_srgb(picture.clamp(0, 1))
                found.append(attack_embedding(judge, shown).cpu().numpy())
                done += len(chosen)
                if progress:
                    progress(done, len(images))
        embeddings = np.concatenate(found)
        if see is None:
            self.cache[key] = embeddings
        return embeddings

    def captured(self, *key: object, frames: int = 1) -> See:
        """`see` for embed: what the camera stores, noise from the stream named by `key`."""
        generator = self.generator("capture", *key, frames)
        return lambda chosen, scene: self.camera.capture(scene, generator=generator, frames=frames)

    def compare(
        self, gallery: np.ndarray, probe: np.ndarray, pairs: Pairs | None = None
    ) -> np.ndarray:
        """Cosine (n,) of each pair, given unit rows (m, d) for the sorted images of the pairs."""
        pairs = pairs or self.test
        first = np.searchsorted(pairs.images, pairs.first)
        second = np.searchsorted(pairs.images, pairs.second)
        return np.einsum("nd,nd->n", gallery[first], probe[second]).round(10)

    def attempt(
        self,
        rung: RungName,
        variant: str,
        gallery: np.ndarray,
        probe: np.ndarray,
        *,
        frames: int = 1,
        **facts: object,
    ) -> Attempt:
        """What a rung found: unit rows (m, d) of what stands for test.images on either side."""
        if not (np.isfinite(gallery).all() and np.isfinite(probe).all()):
            raise InputError(
                f"{rung}, {variant}: expected finite embeddings, found NaN or infinity; check the "
                "camera's output and the recogniser."
            )
        scores = self.compare(gallery, probe)
        return Attempt(rung, variant, frames, scores, self.ranks(gallery, probe), facts)

    def ranks(self, gallery: np.ndarray, probe: np.ndarray) -> np.ndarray:
        """(p,) place of the true person; each person's first image is enrolled, the second tried."""
        people = np.array(self.people_of(self.test.images))
        names, counts = np.unique(people, return_counts=True)
        twice = [np.flatnonzero(people == name)[:2] for name in names[counts >= 2]]
        if not twice:
            return np.empty(0, dtype=np.int64)
        enrolled, tried = np.array(twice).T
        score = (probe[tried] @ gallery[enrolled].T).round(10)
        own = np.diagonal(score)[:, None]
        better, equal = (score > own).sum(axis=1), (score == own).sum(axis=1) - 1
        return 1 + better + (equal + 1) // 2

    @cached_property
    def validation(self) -> Pairs:
        """Pairs among the attacker's own people, on which attacks are tuned."""
        people = np.array(self.people_of(self.attacker))
        names, counts = np.unique(people, return_counts=True)
        several = names[counts >= 2][: self.tier.validation_people]
        if len(several) < 2:
            raise InputError(
                "Expected at least two people with two images each to tune attacks on, found "
                f"{len(several)}; give the attacker more people."
            )
        images = np.concatenate([self.attacker[people == name][:2] for name in several])
        local = all_pairs(self.people_of(images), max_nonmated=20 * len(several), seed=self.seed)
        return Pairs(images[local.first], images[local.second], local.same)

    def against(self, camera: CameraUnderAttack, *, people: int | None = None) -> Arena:
        """The same attack on another camera; people: only pairs among the first so many."""
        if people is None:
            return replace(self, camera=camera)
        names = sorted(set(self.people_of(self.test.images)))[:people]
        kept = [a in names and b in names for a, b in zip(
            self.people_of(self.test.first), self.people_of(self.test.second), strict=True
        )]  # fmt: skip
        pairs = Pairs(self.test.first[kept], self.test.second[kept], self.test.same[kept])
        return replace(self, camera=camera, test=pairs)


class RungFn(Protocol):
    """One rung: attacks arena.camera, yields findings; draws only from arena.generator(...)."""

    def __call__(self, arena: Arena, *, progress: OnProgress) -> Iterable[Finding]: ...
