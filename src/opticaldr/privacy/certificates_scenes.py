"""What a camera makes of many scenes, without noise: the material of its certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import norm

from opticaldr.data.faceset import FaceSet
from opticaldr.privacy.cameras import CameraUnderAttack
from opticaldr.privacy.certificates_simulator import thumbnail
from opticaldr.privacy.verification import scene_of

BATCH = 32
"""Images worked on at once: 12 MB of float64 at 128 px."""


@dataclass(frozen=True)
class SeenScenes:
    """What the camera makes of n images, without noise.

    people: (n,) int. records: H x, (n, 3 s s) float32, linear light. thumbnails: by k, (n, 3 k k)
    float64, of the scenes. power: S_f of the scenes, (3, s, s), upper 95 % limit.
    """

    people: np.ndarray
    records: np.ndarray
    thumbnails: dict[int, np.ndarray]
    power: torch.Tensor

    def batches(self) -> Iterator[np.ndarray]:
        """The records, a few rows at a time, float64."""
        edges = [*range(0, len(self.records), BATCH), len(self.records)]
        return (self.records[a:b].astype(float) for a, b in pairwise(edges))


def see_scenes(
    camera: CameraUnderAttack,
    faces: FaceSet,
    images: np.ndarray,
    *,
    scene_size: int,
    thumbnail_sizes: Sequence[int],
    watch: Callable[[int], None],
) -> SeenScenes:
    """Reads and blurs the images; watch is called with the number done since the last call."""
    names = [faces.records[int(i)].person for i in images]
    _, people = np.unique(names, return_inverse=True)
    records = np.empty((len(images), 3 * scene_size**2), dtype=np.float32)
    small: dict[int, list[np.ndarray]] = {k: [] for k in thumbnail_sizes}
    power = Moments()
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            chosen = images[start : start + BATCH]
            scenes = torch.cat([scene_of(faces.image(int(i)), scene_size) for i in chosen])
            end = start + len(chosen)
            records[start:end] = camera.optics(scenes).flatten(1).numpy()
            for k, found in small.items():
                found.append(thumbnail(scenes.double(), k).flatten(1).numpy())
            power.add(_scene_power(scenes).numpy())
            watch(len(chosen))
    return SeenScenes(
        people=people,
        records=records,
        thumbnails={k: np.concatenate(found) for k, found in small.items()},
        power=torch.from_numpy(power.upper(people)),
    )


def _scene_power(scenes: torch.Tensor) -> torch.Tensor:
    """Power of each scene in a unitary DFT, Hann window, weighted mean removed, (b, 3, s, s)."""
    size = scenes.shape[-1]
    hann = torch.hann_window(size, periodic=False, dtype=torch.float64)
    window = hann[:, None] * hann
    mean = (scenes * window).sum((-2, -1), keepdim=True) / window.sum()
    detail = (scenes - mean) * window / window.square().mean().sqrt()
    return torch.fft.fft2(detail, norm="ortho").abs().square()


class Moments:
    """Running mean and spread of arrays, for an upper 95 % limit of the mean."""

    def __init__(self) -> None:
        self.total = self.squares = 0.0
        self.count = 0

    def add(self, values: np.ndarray) -> None:
        """values: (b, ...)."""
        self.total = self.total + values.sum(axis=0, dtype=float)
        self.squares = self.squares + np.square(values, dtype=float).sum(axis=0)
        self.count += len(values)

    def upper(self, people: np.ndarray) -> np.ndarray:
        """Mean + 1.645 standard errors, as if all pictures of one person were equal (Kish)."""
        mean = self.total / self.count
        variance = np.maximum(self.squares / self.count - mean**2, 0)
        effective = self.count**2 / np.square(np.bincount(people), dtype=float).sum()
        return mean + norm.ppf(0.95) * np.sqrt(variance / effective)
