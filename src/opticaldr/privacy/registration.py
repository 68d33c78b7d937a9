"""Many frames of one face: a head that moves before a still camera, frames averaged in register.

Takes are numbers of frames: takes (1, 30) of a scene are its first frame alone and the mean of 30.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from opticaldr.privacy.cameras import CameraUnderAttack
from opticaldr.types import FACE_SHARE, Capture, Irradiance, Scene

Offsets = Float[Tensor, "b 2"]
"""Displacement of each picture [px], down and right."""

SWAY = 0.025
"""Root mean square motion of a talking head per axis, in face widths: 4 mm."""

_UNSEEN = 1e-6
"""Weight of mirrored pixels in the mean: they count where no frame has seen more."""
_LEVELS, _STEPS = 3, 5
"""Sizes, each half the one before, and Gauss-Newton steps at each: 4 px of motion are 1 px at the
smallest."""
_INNER = 8  # least side of what is compared [px]


# --- recording ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class StillHead:
    """Records a face that does not move; every take is recorded anew."""

    camera: CameraUnderAttack
    takes: tuple[int, ...]

    def __call__(self, scene: Scene, generator: torch.Generator) -> list[Capture]:
        light = self.camera.optics(scene)
        noise = self.camera.noise
        return [noise.record(light, generator=generator, frames=n) for n in self.takes]


@dataclass(frozen=True)
class MovingHead:
    """Records a face that sways about its place, and averages the frames in register.

    The path is known (oracle alignment): no estimate of it can do better. Each face has a path of
    its own of `positions` places, each held for its share of the frames. The mean lies on the
    scene's grid, which is finer than the samples of a camera that pixelates: there this average is
    shift-and-add super-resolution.
    """

    camera: CameraUnderAttack
    takes: tuple[int, ...]
    positions: int

    def __call__(self, scene: Scene, generator: torch.Generator) -> list[Capture]:
        path = head_path(
            len(scene), self.positions, sway=sway_px(scene.shape[-1]), generator=generator
        )
        still = None if self.camera.psf is None else self.camera.optics(scene)
        totals = [torch.zeros_like(scene) for _ in self.takes]
        weights = [torch.zeros_like(scene[:, :1]) for _ in self.takes]
        for place in range(self.positions):
            offsets = path[:, place]
            light, seen = self._light(scene, still, offsets), _covered(scene, offsets)
            for total, weight, take in zip(totals, weights, self.takes, strict=True):
                frames = take // self.positions + (place < take % self.positions)
                if frames:
                    record = self.camera.noise.record(light, generator=generator, frames=frames)
                    share = frames * (seen + _UNSEEN)
                    total += share * shift(record, -offsets)
                    weight += share
        return [total / weight for total, weight in zip(totals, weights, strict=True)]

    def _light(self, scene: Scene, still: Irradiance | None, offsets: Offsets) -> Irradiance:
        if still is not None:  # a convolution commutes with motion, borders apart
            return shift(still, offsets)
        return self.camera.optics(shift(scene, offsets).clamp(0, 1))


def _covered(scene: Scene, offsets: Offsets) -> Float[Tensor, "b 1 s s"]:
    """1 where a frame in register shows what it recorded, 0 where it had left the sensor."""
    size = scene.shape[-1]
    at = torch.arange(size) + offsets[..., None]  # (b, 2, s): where each pixel stood
    inside = ((at >= 0) & (at <= size - 1)).to(scene)
    return inside[:, None, 0, :, None] * inside[:, None, 1, None, :]


def sway_px(scene_size: int) -> float:
    """The head's root mean square motion [px] in scenes of this side [px]."""
    return SWAY * FACE_SHARE * scene_size


def head_path(
    faces: int, positions: int, *, sway: float, generator: torch.Generator
) -> Float[Tensor, "b t 2"]:
    """Random walks about their own mean, root mean square `sway` [px] on each axis."""
    path = torch.randn(faces, positions, 2, generator=generator).cumsum(1)
    path = path - path.mean(1, keepdim=True)
    return path * (sway / path.square().mean(1, keepdim=True).sqrt().clamp_min(1e-9))


# --- shifting -----------------------------------------------------------------------------------


def shift(pictures: Float[Tensor, "b c h w"], offsets: Offsets) -> Float[Tensor, "b c h w"]:
    """Pictures moved by a fraction of a pixel: exact for band-limited ones (Fourier shift)."""
    height, width = pictures.shape[-2:]
    gap = min(4 * math.ceil(float(offsets.abs().max())) + 4, min(height, width) - 2)
    # an odd length has no Nyquist frequency, whose shift would not be real
    closed = _close(_close(pictures, gap + (width + gap + 1) % 2), gap + (height + gap + 1) % 2, -2)
    rows, columns = closed.shape[-2:]
    y, x = (offset[:, None, None, None] for offset in offsets.to(closed).unbind(1))
    turns = torch.fft.fftfreq(rows).to(closed)[:, None] * y
    turns = turns + torch.fft.rfftfreq(columns).to(closed) * x
    phase = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
    moved = torch.fft.irfft2(torch.fft.rfft2(closed) * phase, s=(rows, columns))
    return moved[..., :height, :width]


def _close(pictures: Tensor, gap: int, axis: int = -1) -> Tensor:
    """Pictures continued by `gap` pixels that fade from one edge's mirror image to the other's.

    The end meets the beginning without a jump, whose ringing would reach far into the picture.
    """
    pictures = pictures.movedim(axis, -1)
    end, beginning = pictures[..., -1 - gap : -1].flip(-1), pictures[..., 1 : gap + 1].flip(-1)
    fade = torch.arange(1, gap + 1).to(pictures) / (gap + 1)
    return torch.cat([pictures, torch.lerp(end, beginning, fade)], dim=-1).movedim(-1, axis)


def estimate_shift(reference: Float[Tensor, "b c h w"], moved: Float[Tensor, "b c h w"]) -> Offsets:
    """How far each picture is displaced against its reference.

    Least squares on grey levels from coarse to fine (Lucas and Kanade 1981): the most likely shift
    under white noise. Phase correlation weights all frequencies alike, which fails where a blur
    has left only the lowest ones above the noise.
    """
    found = torch.zeros(len(reference), 2).to(reference)
    for level in reversed(range(_LEVELS)):
        scale = 2**level
        still, moving = (F.avg_pool2d(pictures, scale) for pictures in (reference, moved))
        edge = 2 + still.shape[-1] // 16  # mirrored margins move the wrong way
        if min(still.shape[-2:]) - 2 * edge < _INNER:
            continue
        inner = (..., slice(edge, -edge), slice(edge, -edge))
        slope = torch.stack(torch.gradient(still, dim=(-2, -1)))[inner]  # (2, b, c, h, w)
        normal = torch.einsum("ibchw,jbchw->bij", slope, slope)
        normal = normal + 1e-9 * torch.eye(2).to(normal)  # a picture without contrast stays put
        for _ in range(_STEPS):
            error = (still - shift(moving, -found / scale))[inner]
            step = torch.linalg.solve(normal, torch.einsum("ibchw,bchw->bi", slope, error))
            found = found + scale * step
    return found
