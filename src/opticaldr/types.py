"""Names of the tensors and records that travel between the boxes of the picture in ARCHITECTURE.md.

No computation lives here. Shapes use jaxtyping letters: b images, k depths, s sensor pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from opticaldr.errors import InputError as InputError

Scene = Float[Tensor, "b 3 s s"]
"""Linear irradiance in [0, 1] of the ideal (unblurred) image on the sensor, channels in R, G, B order."""
Irradiance = Float[Tensor, "b 3 s s"]
"""Linear irradiance that reaches the sensor after the lens, in [0, 1]."""
Capture = Float[Tensor, "b 3 s s"]
"""What the camera stores: linear, after read noise, clipping and quantisation, in [0, 1]."""
Psf = Float[Tensor, "k 3 m m"]
"""Point spread functions, one per depth and colour; each sums to the share of light kept (1)."""
Photo = Float[Tensor, "b 3 h w"]
"""sRGB-encoded face crop in [0, 1], aligned to the five-point template (see faces.alignment)."""
Embedding = Float[Tensor, "b d"]
"""L2-normalised identity embedding."""

EMOTIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger")
"""The one canonical order of expression labels; every data adapter maps its own order to this one."""

FACE_SHARE = 100 / 160
"""Share of the crop between the ears: 100 of 160 px in crops aligned to the five-point template."""

BDI_MAX = 63.0
"""Largest BDI-II score (21 items, 0-3 each; Beck, Steer & Brown 1996)."""


@dataclass(frozen=True)
class FaceRecord:
    """One labelled face image (a photograph or a video frame). Unknown labels stay at their default.

    key: file, archive member or frame id; names the image in every error.
    person: identity. A person never crosses train / dev / test.
    recording: the video that the frame belongs to; "" for photographs.
    session: what a label belongs to, such as "203_1"; its tasks are recordings. "" if unknown.
    task: what is done in the recording, such as "Freeform"; "" if unknown.
    time_s: time of the frame in its recording [s].
    split: "train", "dev", "test" or "".
    emotion: index into EMOTIONS, -1 if unknown.
    severity: BDI-II score in [0, 63], NaN if unknown.
    attributes: one value in [0, 1] per name in FaceSet.attribute_names (NaN if unknown).
    landmarks: five points (eyes, nose tip, mouth corners; image left first) x1, y1 .. x5, y5
        as a fraction of the crop side (0 = left/top edge, 1 = right/bottom edge).
    groups: one value per name in FaceSet.group_names ("" if unknown), such as the person's sex.
    """

    key: str
    person: str
    recording: str = ""
    time_s: float = 0.0
    split: str = ""
    emotion: int = -1
    severity: float = math.nan
    attributes: tuple[float, ...] = ()
    landmarks: tuple[float, ...] = ()
    session: str = ""
    task: str = ""
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What the network reads from a capture; b images.

    attributes: (b, A) logits. landmarks: (b, 10) fractions of the crop side.
    emotion: (b, 7) logits in the order of EMOTIONS. severity: (b,) BDI-II score.
    """

    attributes: Tensor
    landmarks: Tensor
    emotion: Tensor
    severity: Tensor


class Recogniser(Protocol):
    """A face recogniser: sRGB aligned crops in, L2-normalised embeddings out.

    `name` identifies it in tables; `differentiable` says whether gradients reach the image.
    Crops of any size are accepted: every recogniser cuts its own chip by one constant affine map.
    """

    name: str
    differentiable: bool

    def __call__(self, photos: Photo) -> Embedding: ...


class CaptureFn(Protocol):
    """The camera as an attacker sees it: scene in, capture out. Attacks get nothing else."""

    def __call__(self, scene: Scene, *, generator: torch.Generator) -> Capture: ...
