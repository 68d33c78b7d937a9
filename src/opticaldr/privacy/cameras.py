"""The camera under attack: all that an attacker may know of it, and how it records.

    record = Q(clip(H x + noise)),   H linear optics, x scene in linear light            (privacy.md 4.0)

One small interface for every camera: a trained lens (adapter in opticaldr.attackable), a measured
PSF, plain blur, pixelation, no lens at all. Attackers know H and the noise law (Kerckhoffs).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from scipy.stats import norm
from torch import Tensor

from opticaldr.types import FACE_SHARE, Capture, InputError, Irradiance, Psf, Scene

Border = Literal["reflect", "zero"]
"""What lies beyond the edge of the scene: its mirror image, or darkness."""

EXACT_FRAMES = 10
"""Up to this many frames are drawn one by one; the mean of more is normal to within 1e-3 of its
standard deviation (central limit), with the exact mean and variance of clipped, rounded samples."""


# --- optics ---------------------------------------------------------------------------------


class Optics(Protocol):
    """Linear optics H: the scene's linear light in, the light on the sensor out.

    label: what to call it. psf: (1, 3, m, m), axis in pixel (m // 2, m // 2), each channel sums to
    1 or less; None where no PSF describes it (pixelation). border: what lies beyond the frame.
    """

    label: str
    border: Border

    @property
    def psf(self) -> Psf | None: ...

    def __call__(self, scene: Scene) -> Irradiance: ...

    def at_strength(self, factor: float) -> Optics:
        """The same optics with `factor` times the blur: what positive controls attack."""
        ...

    def at_depth(self, depth_m: float) -> Optics | None:
        """The optics for a face at another distance [m]; None if distance is no part of it."""
        ...

    def describe(self) -> dict[str, Any]:
        """What identifies the optics on the card, JSON values."""
        ...


def convolve(scene: Scene, psf: Psf, border: Border) -> Irradiance:
    """y(p) = sum_m psf(m) x(p - m + m_axis), the part on the sensor. psf: (1, 3, m, m)."""
    size, extent = scene.shape[-1], psf.shape[-1]
    before, after = extent - 1 - extent // 2, extent // 2
    margins = (before, after, before, after)
    if border == "reflect" and max(margins) < size:
        scene = F.pad(scene, margins, mode="reflect")
    elif border == "reflect":
        raise InputError(
            f"Expected a blur of less than {size} px for border 'reflect', found {max(margins)} px "
            "on one side; use border 'zero' or a larger scene."
        )
    else:
        scene = F.pad(scene, margins)
    length = [next_fast_len(scene.shape[-1] + extent - 1, real=True)] * 2
    spectrum = torch.fft.rfft2(scene, s=length) * torch.fft.rfft2(psf.to(scene), s=length)
    start = extent - 1
    return torch.fft.irfft2(spectrum, s=length)[..., start : start + size, start : start + size]


def check_psf(psf: Tensor, label: str) -> None:
    """InputError unless psf is (1, 3, m, m), finite, not negative, and each channel sums to 1."""
    if psf.ndim != 4 or psf.shape[:2] != (1, 3) or psf.shape[2] != psf.shape[3]:
        raise InputError(f"{label}: expected a PSF (1, 3, m, m), found shape {tuple(psf.shape)}.")
    if not bool(torch.isfinite(psf).all()):
        raise InputError(f"{label}: expected a finite PSF, found NaN or infinity.")
    if float(psf.min()) < 0:
        raise InputError(
            f"{label}: expected a PSF without negative values, found {float(psf.min()):.3g}; "
            "subtract the dark level and clip at 0."
        )
    total = psf.double().sum((-2, -1))
    if float((total - 1).abs().max()) > 1e-2:
        raise InputError(
            f"{label}: expected each channel of the PSF to sum to 1, found "
            f"{[round(v, 4) for v in total.flatten().tolist()]}; divide each channel by its sum."
        )


@dataclass(frozen=True)
class PsfOptics:
    """Optics that one PSF describes: a measured one, or that of a lens at one distance.

    kernel: (1, 3, m, m). Strength scales it about its axis.
    """

    label: str
    kernel: Psf = field(repr=False)
    border: Border = "reflect"

    def __post_init__(self) -> None:
        check_psf(self.kernel, self.label)

    @property
    def psf(self) -> Psf:
        return self.kernel

    def __call__(self, scene: Scene) -> Irradiance:
        return convolve(scene, self.kernel, self.border)

    def at_strength(self, factor: float) -> PsfOptics:
        scaled = scale_psf(self.kernel, factor)
        return replace(self, label=f"{self.label} x {factor:g}", kernel=scaled)

    def at_depth(self, depth_m: float) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return {"kind": "psf", "label": self.label, "border": self.border}


def scale_psf(psf: Psf, factor: float) -> Psf:
    """The PSF shrunk to `factor` (0 < factor <= 2) of its width about its axis, light kept."""
    if not 0 < factor <= 2:
        raise InputError(f"Expected a strength in (0, 2], found {factor}.")
    grown = math.ceil(max(0, factor - 1) * psf.shape[-1] / 2)
    psf = F.pad(psf, (grown,) * 4)  # the axis moves from m // 2 to (m + 2 grown) // 2
    m = psf.shape[-1]
    # area-averaging over `sub` sub-samples, so that a PSF smaller than a pixel stays one pixel
    sub = max(1, math.ceil(1 / factor))
    offset = (torch.arange(m * sub, dtype=torch.float64) + 0.5) / sub - 0.5 - m // 2
    source = offset / factor + m // 2  # pixel coordinates in the old kernel
    unit = (2 * source + 1) / m - 1
    grid = torch.stack(torch.meshgrid(unit, unit, indexing="ij")[::-1], dim=-1)[None]
    fine = F.grid_sample(psf.double(), grid, mode="bilinear", align_corners=False)
    scaled = F.avg_pool2d(fine, sub)
    scaled = scaled * (psf.double().sum((-2, -1), True) / scaled.sum((-2, -1), True))
    return scaled.to(psf)


@dataclass(frozen=True)
class PlainBlur:
    """The textbook blurs, on `pixels` across the frame; width in face widths.

    shape: "gaussian" (width = standard deviation), "disc" (diameter; defocus of geometric optics)
    or "box" (side).
    """

    shape: Literal["gaussian", "disc", "box"]
    width: float
    pixels: int
    border: Border = "reflect"

    def __post_init__(self) -> None:
        if not 0 < self.width <= 2:
            raise InputError(f"Expected a blur of 0 to 2 face widths, found {self.width}.")

    @property
    def label(self) -> str:
        return f"{self.shape} {self.width:g}"

    @cached_property
    def psf(self) -> Psf:
        width = self.width * FACE_SHARE * self.pixels
        reach = {"gaussian": 4 * width, "disc": width / 2 + 1, "box": width / 2 + 1}[self.shape]
        half = min(math.ceil(reach), self.pixels - 1)
        sub = 9  # sub-samples per pixel and axis: the area of a pixel to 1 %
        axis = (torch.arange((2 * half + 1) * sub, dtype=torch.float64) + 0.5) / sub - half - 0.5
        y, x = axis[:, None], axis[None, :]
        fine = {
            "gaussian": lambda: torch.exp(-(x**2 + y**2) / (2 * width**2)),
            "disc": lambda: (x**2 + y**2 <= (width / 2) ** 2).double(),
            "box": lambda: ((x.abs() <= width / 2) & (y.abs() <= width / 2)).double(),
        }[self.shape]()
        pooled = F.avg_pool2d(fine[None, None], sub)
        return (pooled / pooled.sum()).float().expand(1, 3, -1, -1)

    def __call__(self, scene: Scene) -> Irradiance:
        return convolve(scene, self.psf, self.border)

    def at_strength(self, factor: float) -> PlainBlur:
        return replace(self, width=self.width * factor)

    def at_depth(self, depth_m: float) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        named = {"shape": self.shape, "width_faces": self.width, "border": self.border}
        return {"kind": "blur", "pixels": self.pixels, **named}


@dataclass(frozen=True)
class Pixelation:
    """Means over square blocks, `blocks` of them across a face; the picture keeps its size."""

    blocks: float
    border: Border = "reflect"
    psf: None = None

    @property
    def label(self) -> str:
        return f"pixelation {self.blocks:g}"

    def __call__(self, scene: Scene) -> Irradiance:
        size = scene.shape[-1]
        across = max(1, round(self.blocks / FACE_SHARE))
        if across >= size:
            return scene
        return F.interpolate(
            F.interpolate(scene, size=(across, across), mode="area"), size=(size, size)
        )

    def at_strength(self, factor: float) -> Pixelation:
        return replace(self, blocks=self.blocks / factor)

    def at_depth(self, depth_m: float) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return {"kind": "pixelation", "blocks_per_face": self.blocks}


@dataclass(frozen=True)
class NoLens:
    """A perfect camera without any blur."""

    label: str = "no lens"
    border: Border = "reflect"

    @property
    def psf(self) -> Psf:
        return torch.ones(1, 3, 1, 1)

    def __call__(self, scene: Scene) -> Irradiance:
        return scene

    def at_strength(self, factor: float) -> NoLens:
        return self

    def at_depth(self, depth_m: float) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return {"kind": "none"}


# --- noise ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoiseLaw:
    """What the sensor adds to one sample of one frame; independent between samples and frames.

    read_noise: standard deviation as a share of full scale. full_well_e: electrons at full scale,
    which set the shot noise (variance = level / full_well_e); infinity = none. bits: of the
    converter; 0 = not rounded. Rounding alone is no noise: read_noise must be above 0.
    """

    read_noise: float = 0.01
    full_well_e: float = math.inf
    bits: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.read_noise < math.inf:
            raise InputError(
                f"Expected read noise above 0 (share of full scale), found {self.read_noise}; a "
                "simulation without noise says nothing about privacy."
            )
        if not self.full_well_e > 0 or not 0 <= self.bits <= 16:
            raise InputError(
                "Expected a full well above 0 electrons and 0 to 16 bits, found "
                f"{self.full_well_e} and {self.bits}."
            )

    def std(self, level: Tensor) -> Tensor:
        """Standard deviation of one sample at an irradiance level, before clipping and rounding."""
        return (self.read_noise**2 + level.clamp_min(0) / self.full_well_e).sqrt()

    def record(
        self, irradiance: Irradiance, *, generator: torch.Generator, frames: int = 1
    ) -> Capture:
        """The mean of `frames` recorded frames of a still scene (1: what the sensor stores)."""
        if frames < 1:
            raise InputError(f"Expected at least 1 frame, found {frames}.")
        draw = {"generator": generator, "device": generator.device}
        if frames <= EXACT_FRAMES:
            total = torch.zeros_like(irradiance)
            spread = self.std(irradiance)
            for _ in range(frames):
                total += self._convert(
                    irradiance + spread * torch.randn(irradiance.shape, **draw).to(irradiance)
                )
            return total / frames
        mean, std = (table.to(irradiance) for table in _sample_moments(self))
        place = irradiance.clamp(0, 1) * (len(mean) - 1)
        low = place.floor().long().clamp_max(len(mean) - 2)
        share = place - low
        level = torch.lerp(mean[low], mean[low + 1], share)
        spread = torch.lerp(std[low], std[low + 1], share) / math.sqrt(frames)
        return level + spread * torch.randn(irradiance.shape, **draw).to(irradiance)

    def _convert(self, signal: Tensor) -> Tensor:
        clipped = signal.clamp(0, 1)
        if not self.bits:
            return clipped
        levels = 2**self.bits - 1
        return torch.round(clipped * levels) / levels


@lru_cache(maxsize=8)
def _sample_moments(noise: NoiseLaw) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of one clipped, rounded sample at equally spaced levels 0 .. 1.

    Eight levels in a standard deviation: interpolation is then right to 1e-3 of it.
    """
    level = np.linspace(0, 1, max(1024, math.ceil(8 / noise.read_noise)) + 1)[:, None]
    std = np.sqrt(noise.read_noise**2 + level / noise.full_well_e)
    steps = 2 ** (noise.bits or 12) - 1  # without rounding, 12 bits stand for a continuum
    reach = math.ceil(6 * float(std.max()) * steps) + 1  # steps to either side that noise covers
    value = np.round(level * steps) + np.arange(-reach, reach + 1)
    edges = np.concatenate([value - 0.5, value[:, -1:] + 0.5], axis=1) / steps
    share = np.diff(norm.cdf((edges - level) / std), axis=1)
    value = np.clip(value / steps, 0, 1)
    mean = (share * value).sum(1)
    spread = np.sqrt(np.maximum((share * value**2).sum(1) - mean**2, 0))
    return torch.from_numpy(mean), torch.from_numpy(spread)


# --- the camera -----------------------------------------------------------------------------


@dataclass(frozen=True)
class CameraUnderAttack:
    """One camera: optics and noise law, and how many frames it records each second.

    depth_m: distance of the face that `optics` stands for; None if distance is no part of it.
    sha256: of its lens.json, "" without one. trained_against: recognisers in the loss that shaped
    the lens, which may not judge it. aperture_m: diameter of the clear aperture [m], None if
    unknown.
    """

    name: str
    optics: Optics
    noise: NoiseLaw = NoiseLaw()
    frame_rate_hz: float = 30.0
    depth_m: float | None = None
    sha256: str = ""
    trained_against: tuple[str, ...] = ()
    aperture_m: float | None = None

    @property
    def psf(self) -> Psf | None:
        return self.optics.psf

    def capture(self, scene: Scene, *, generator: torch.Generator, frames: int = 1) -> Capture:
        """What is stored of a still scene; with frames > 1 the mean over that many frames."""
        return self.noise.record(self.optics(scene), generator=generator, frames=frames)

    def at_strength(self, factor: float) -> CameraUnderAttack:
        """The camera with `factor` times its blur, same noise."""
        return replace(
            self, name=f"{self.name} x {factor:g}", optics=self.optics.at_strength(factor)
        )

    def at_depth(self, depth_m: float) -> CameraUnderAttack | None:
        """The camera with the face at another distance [m]; None if distance changes nothing."""
        optics = self.optics.at_depth(depth_m)
        return optics and replace(self, optics=optics, depth_m=depth_m)
