"""Batches for training: which images, in which groups, augmented how. Every draw has a generator."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from opticaldr.config import Role
from opticaldr.data.faceset import FaceSet
from opticaldr.types import FaceRecord, Photo

FLIPPED_POINTS = [2, 3, 0, 1, 4, 5, 8, 9, 6, 7]
"""Order of landmark coordinates after a horizontal flip (left and right points change places)."""


@dataclass(frozen=True)
class Batch:
    """Photos (b, 3, s, s) sRGB in [0, 1] and labels; `group` numbers people or recordings.

    time_s: time of each image in its recording [s], float64; 0 for photographs.
    """

    photos: Photo
    group: Int[Tensor, "b"]
    time_s: Float[Tensor, "b"]
    emotion: Int[Tensor, "b"]
    severity: Float[Tensor, "b"]
    attributes: Float[Tensor, "b a"]
    landmarks: Float[Tensor, "b 10"]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def group_key(record: FaceRecord, role: Role) -> str:
    """What belongs together: a person's photos, a recording's frames, or each image alone."""
    return {"faces": record.person, "recordings": record.recording, "expressions": record.key}[role]


@dataclass(frozen=True)
class GroupedFaces:
    """A face set and the indices of each of its groups."""

    faces: FaceSet
    role: Role
    groups: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, faces: FaceSet, role: Role) -> GroupedFaces:
        """Groups records by person, recording or image, in order of first appearance."""
        groups: dict[str, list[int]] = {}
        for index, record in enumerate(faces.records):
            groups.setdefault(group_key(record, role), []).append(index)
        return cls(faces, role, tuple(tuple(members) for members in groups.values()))

    def draw(
        self, *, groups: int, per_group: int, generator: torch.Generator, clips: bool = False
    ) -> tuple[list[int], list[int]]:
        """Indices and group numbers of `groups` distinct groups with `per_group` members each.

        A group with too few members repeats them (augmentation makes the views differ); a set with
        too few groups gives all it has. Images without a group are drawn one by one.

        clips: a recording gives `per_group` frames that follow one another in time, from a random
        start, instead of a random subset. A shorter one gives all its frames once: a repeated frame
        would look like a face that holds still.
        """
        if self.role == "expressions":
            groups, per_group = groups * per_group, 1
        chosen = torch.randperm(len(self.groups), generator=generator)[:groups].tolist()
        indices, numbers = [], []
        for number in chosen:
            members = self.groups[number]
            if clips and self.role == "recordings":
                clip = self._clip(members, per_group, generator)
                indices += clip
                numbers += [number] * len(clip)
                continue
            order = torch.randperm(len(members), generator=generator).tolist()
            repeats = -(-per_group // len(members))
            indices += [members[i] for i in (order * repeats)[:per_group]]
            numbers += [number] * per_group
        return indices, numbers

    def _clip(self, members: tuple[int, ...], length: int, generator: torch.Generator) -> list[int]:
        """Up to `length` frames that follow one another in time, from a random start."""
        in_time = sorted(members, key=lambda index: self.faces.records[index].time_s)
        starts = max(1, len(in_time) - length + 1)
        start = int(torch.randint(starts, (), generator=generator))
        return in_time[start : start + length]


def load_batch(faces: FaceSet, indices: list[int], groups: list[int], *, size: int) -> Batch:
    """Reads images and labels; images of another size are resized with antialiasing."""
    examples = [faces[index] for index in indices]
    photos = torch.stack([resize(example["image"][None] / 255.0, size)[0] for example in examples])
    labels = {
        name: torch.stack([example[name] for example in examples])
        for name in ("emotion", "severity", "attributes", "landmarks")
    }
    times = [faces.records[index].time_s for index in indices]
    return Batch(
        photos=photos,
        group=torch.tensor(groups),
        time_s=torch.tensor(times, dtype=torch.float64),
        **labels,
    )


def resize(photos: Photo, size: int) -> Photo:
    """Bilinear resize to (b, 3, size, size) with antialiasing."""
    if photos.shape[-2:] == (size, size):
        return photos
    return functional.interpolate(photos, (size, size), mode="bilinear", antialias=True)


def augment(
    batch: Batch, *, per_group: bool, generator: torch.Generator, strength: float = 0.2
) -> Batch:
    """Flip and colour jitter *before* the lens: the scene changes, never the capture.

    per_group: one draw for all frames of a recording (jitter per frame would destroy dynamics)
    instead of one per image. strength: largest relative change of brightness, contrast, saturation.
    """
    which = torch.arange(len(batch.group))
    if per_group:
        _, which = torch.unique(batch.group, return_inverse=True)
    count = int(which.max()) + 1
    flip = (torch.rand(count, generator=generator) < 0.5)[which]
    jitter = 1 + strength * (2 * torch.rand(count, 3, generator=generator) - 1)[which]
    photos = torch.where(flip[:, None, None, None], batch.photos.flip(-1), batch.photos)
    brightness, contrast, saturation = (jitter[:, i, None, None, None] for i in range(3))
    photos = photos * brightness
    photos = photos.mean((1, 2, 3), keepdim=True) * (1 - contrast) + photos * contrast
    photos = photos.mean(1, keepdim=True) * (1 - saturation) + photos * saturation
    landmarks = batch.landmarks[:, FLIPPED_POINTS].clone()
    landmarks[:, 0::2] = 1 - landmarks[:, 0::2]
    return Batch(
        photos=photos.clamp(0, 1),
        group=batch.group,
        time_s=batch.time_s,
        emotion=batch.emotion,
        severity=batch.severity,
        attributes=batch.attributes,
        landmarks=torch.where(flip[:, None], landmarks, batch.landmarks),
    )
