"""Rungs A1 and A2 of the attack ladder: off-the-shelf recognisers on what the camera stored.

A1 (naive) compares a clean gallery picture with a captured probe; A2 (parrot) compares two captured
pictures. Both attackers do what any attacker would: stretch the contrast of each picture and
average the embeddings of the picture and its mirror image. The face's place is known (oracle
crop), because a missed detection is not privacy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from opticaldr.data.faceset import FaceSet
from opticaldr.data.pairs import Pairs
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.privacy import statistics
from opticaldr.privacy.statistics import Scores
from opticaldr.results import Figure
from opticaldr.types import CaptureFn, Embedding, InputError, Photo, Recogniser, Scene

Rung = Literal["A1", "A2"]
Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""

_TARGET_MEAN, _TARGET_STD = 0.5, 0.18  # of a stretched picture, sRGB-encoded
_SCORE_DECIMALS = 10
"""Scores are rounded to this many decimals, so that equal pictures tie.

Batches of different size round embeddings differently (1e-7), which moves the cosine of equal
pictures by 1e-14 and of different ones by less than anything that a recogniser can resolve.
"""


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of the images that occur in a pair list, under the two conditions.

    images: (n,) sorted indices into FaceSet.records. clean, captured: (n, d) float64, unit rows.
    """

    recogniser: str
    images: np.ndarray
    clean: np.ndarray
    captured: np.ndarray


@dataclass(frozen=True)
class AttackResult:
    """What one rung found with one recogniser.

    clean_auc: the ceiling, both pictures clean. captured_auc: the attack. scores: of the attack.
    permuted_auc: negative control, labels dealt at random; its interval must contain 0.5.
    """

    rung: Rung
    recogniser: str
    clean_auc: Figure
    captured_auc: Figure
    leak_ratio_1e2: Figure
    leak_ratio_1e3: Figure
    permuted_auc: Figure
    pairs: int
    people: int
    pair_sha256: str
    scores: Scores

    def to_json(self, *, lens: str) -> dict[str, Any]:
        """One row of "attacks" in results.json; `lens` says what was attacked ("trained", ...)."""
        return {
            "rung": self.rung,
            "recogniser": self.recogniser,
            "lens": lens,
            "clean_auc": self.clean_auc.to_json(),
            "captured_auc": self.captured_auc.to_json(),
            "leak_ratio_1e-2": self.leak_ratio_1e2.to_json(),
            "leak_ratio_1e-3": self.leak_ratio_1e3.to_json(),
            "permuted_auc": self.permuted_auc.to_json(),
            "pairs": self.pairs,
            "people": self.people,
            "pair_sha256": self.pair_sha256,
        }


def stretch_contrast(photos: Photo) -> Photo:
    """Each picture to mean 0.5 and standard deviation 0.18 over its pixels and colours, clipped."""
    mean = photos.mean(dim=(1, 2, 3), keepdim=True)
    spread = photos.std(dim=(1, 2, 3), keepdim=True, correction=0)
    # The floor only keeps a picture without any contrast from being divided by zero.
    stretched = (photos - mean) * (_TARGET_STD / spread.clamp_min(1e-6)) + _TARGET_MEAN
    return stretched.clamp(0, 1)


def attack_embedding(recogniser: Recogniser, photos: Photo) -> Embedding:
    """The attacker's embedding: contrast stretched, picture and mirror image averaged."""
    stretched = stretch_contrast(photos)
    total = recogniser(stretched) + recogniser(stretched.flip(-1))
    return F.normalize(total.double(), dim=1)


def embed_all(
    faces: FaceSet,
    images: np.ndarray,
    *,
    capture: CaptureFn,
    recogniser: Recogniser,
    scene_size: int,
    generator: torch.Generator,
    batch_size: int,
    clean: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Embeddings:
    """Embeds each image once clean and once as the camera captures it.

    Args:
        faces: aligned crops. images: (n,) indices of those to embed.
        capture: the camera, all that the attacker gets of it.
        scene_size: side of the scene handed to the camera [px]; crops are resized to it.
        generator: of the camera's noise; camera and recogniser must be on its device.
        clean: (n, d) clean embeddings of an earlier call for the same images and scene size.
    """
    found_clean, found_captured = [], []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            chosen = images[start : start + batch_size]
            scene = torch.cat([scene_of(faces.image(int(i)), scene_size) for i in chosen])
            scene = scene.to(generator.device)
            stored = capture(scene, generator=generator)
            wanted = [(found_captured, stored)]
            if clean is None:
                wanted.append((found_clean, scene))
            for found, light in wanted:
                embedding = attack_embedding(recogniser, linear_to_srgb(light))
                found.append(embedding.cpu().numpy())
            if progress:
                progress(start + len(chosen), len(images))
    if clean is None:
        clean = np.concatenate(found_clean)
    return Embeddings(recogniser.name, images, clean, np.concatenate(found_captured))


def scene_of(image: np.ndarray, size: int) -> Scene:
    """(h, w, 3) uint8 sRGB to the linear scene (1, 3, size, size), antialiased."""
    encoded = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    if encoded.shape[-2:] != (size, size):
        encoded = F.interpolate(
            encoded, size=(size, size), mode="bilinear", align_corners=False, antialias=True
        )
    return srgb_to_linear(encoded.clamp(0, 1))


def pair_scores(first: np.ndarray, second: np.ndarray, faces: FaceSet, pairs: Pairs) -> Scores:
    """Cosines of the pairs; `first` and `second` hold one unit row per pair."""
    cosine = np.einsum("nd,nd->n", first, second).round(_SCORE_DECIMALS)
    if not np.isfinite(cosine).all():
        raise InputError(
            "Expected finite embeddings, found NaN or infinity in "
            f"{int((~np.isfinite(cosine)).sum())} of {len(cosine)} pairs; check the camera's "
            "output and the recogniser's mean and std."
        )
    names = sorted({record.person for record in faces.records})
    code = {name: number for number, name in enumerate(names)}
    person = np.array([code[record.person] for record in faces.records])
    people = np.stack([person[pairs.first], person[pairs.second]], axis=1)
    return Scores(
        mated=cosine[pairs.same],
        nonmated=cosine[~pairs.same],
        mated_person=people[pairs.same, 0],
        nonmated_people=people[~pairs.same],
    )


def score_rung(
    rung: Rung, embeddings: Embeddings, faces: FaceSet, pairs: Pairs, *, bootstrap: int, seed: int
) -> AttackResult:
    """Scores one rung from embeddings that are already there.

    Args:
        bootstrap: number of resampled sets of people for each interval.
    """
    first = np.searchsorted(embeddings.images, pairs.first)
    second = np.searchsorted(embeddings.images, pairs.second)
    clean, captured = embeddings.clean, embeddings.captured
    gallery = {"A1": clean, "A2": captured}[rung]
    ceiling = pair_scores(clean[first], clean[second], faces, pairs)
    scores = pair_scores(gallery[first], captured[second], faces, pairs)

    def figure(statistic: statistics.Statistic, of: Scores) -> Figure:
        return statistics.bootstrap(statistic, of, replicates=bootstrap, seed=seed)

    return AttackResult(
        rung=rung,
        recogniser=embeddings.recogniser,
        clean_auc=figure(statistics.auc, ceiling),
        captured_auc=figure(statistics.auc, scores),
        leak_ratio_1e2=figure(statistics.leak_ratio(1e-2), scores),
        leak_ratio_1e3=figure(statistics.leak_ratio(1e-3), scores),
        permuted_auc=figure(statistics.auc, statistics.permuted(scores, seed=seed)),
        pairs=len(pairs),
        people=scores.people,
        pair_sha256=pairs.sha256,
        scores=scores,
    )


def run_rung(
    rung: Rung,
    *,
    capture: CaptureFn,
    recogniser: Recogniser,
    faces: FaceSet,
    pairs: Pairs,
    scene_size: int,
    generator: torch.Generator,
    batch_size: int,
    bootstrap: int,
    progress: Progress | None = None,
) -> AttackResult:
    """Embeds and scores one rung; for several rungs call embed_all once and score_rung for each."""
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    embeddings = embed_all(
        faces,
        pairs.images,
        capture=capture,
        recogniser=recogniser,
        scene_size=scene_size,
        generator=generator,
        batch_size=batch_size,
        progress=progress,
    )
    return score_rung(rung, embeddings, faces, pairs, bootstrap=bootstrap, seed=seed)
