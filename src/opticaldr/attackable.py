"""Cameras as attackers see them: adapters of a trained lens, a measured PSF and the plain blurs."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from opticaldr.camera import Camera, describe_camera, load_camera
from opticaldr.config import PRESETS
from opticaldr.lens import Lens
from opticaldr.optics.system import focus_curvature_per_m
from opticaldr.privacy.cameras import (
    Border,
    CameraUnderAttack,
    NoiseLaw,
    NoLens,
    Optics,
    Pixelation,
    PlainBlur,
    PsfOptics,
    check_psf,
    convolve,
)
from opticaldr.privacy.deconvolution import trim
from opticaldr.types import InputError, Irradiance, Psf, Scene

FARTHEST_M = 1e4
"""Stands for infinity: 1e-4 dioptres, far less than any lens here resolves."""
PLAIN = ("gaussian", "disc", "box", "pixelation")
SPECS = "gaussian:0.30, disc:1.0, box:0.5, pixelation:16, none, psf:FILE.png or psf:FILE.npy"
_LOST = 0.01
"""Light that a PSF image may lose to its square crop, and by which its sum may differ from 1."""


@dataclass(frozen=True)
class LensOptics:
    """A lens at one distance [m]; sha256 of its lens.json; strength 1 = as it was trained."""

    lens: Lens = field(repr=False)
    depth_m: float
    border: Border = "reflect"
    sha256: str = ""
    strength: float = 1.0

    @property
    def label(self) -> str:
        return f"lens {self.sha256[:8]}"

    @cached_property
    def psf(self) -> Psf:
        with torch.no_grad():
            psf = self.lens.psf(torch.tensor([min(self.depth_m, FARTHEST_M)]))
        return trim(psf, largest=2 * self.lens.config.sensor_pixels - 1)

    def __call__(self, scene: Scene) -> Irradiance:
        pixels = self.lens.config.sensor_pixels
        if scene.shape[-1] != pixels:
            raise InputError(
                f"Expected scenes of {pixels} px, the lens's sensor, found {scene.shape[-1]} px; "
                "open the camera at that size."
            )
        return convolve(scene, self.psf, self.border)

    def at_strength(self, factor: float) -> LensOptics:
        """The surface moved towards the one in focus, c <- f + factor (c - f): so much less blur."""
        lens = copy.deepcopy(self.lens)
        own = lens.coefficients
        curvature = focus_curvature_per_m(lens.system, self.depth_m)
        focus = own.new_tensor(lens.system.shape(own.numel()).like_parabola(curvature))
        with torch.no_grad():
            own.copy_(focus + factor * (own - focus))
        return replace(self, lens=lens, strength=self.strength * factor)

    def at_depth(self, depth_m: float) -> LensOptics:
        return replace(self, depth_m=depth_m)

    def describe(self) -> dict[str, Any]:
        named = {"sha256": self.sha256, "depth_m": self.depth_m, "strength": self.strength}
        return {"kind": "lens", **named, "border": self.border}


def camera_under_attack(
    camera: Camera,
    *,
    name: str = "lens",
    depth_m: float = 1.0,
    border: Border = "reflect",
    frame_rate_hz: float = 30.0,
) -> CameraUnderAttack:
    """A frozen camera with the face at depth_m [m], and the noise law of its sensor.

    border: the attacker's scene goes on beyond the frame, whatever the lens was trained with.
    """
    sha256 = describe_camera(camera)["sha256"]
    sensor = camera.sensor.config
    return CameraUnderAttack(
        name=name,
        optics=LensOptics(camera.lens, depth_m, border, sha256),
        noise=NoiseLaw(read_noise=sensor.read_noise_test, bits=sensor.bits),
        frame_rate_hz=frame_rate_hz,
        depth_m=depth_m,
        sha256=sha256,
        trained_against=camera.trained_against,
        aperture_m=2 * camera.lens.system.aperture_radius_m,
    )


def open_camera(
    spec: str,
    *,
    pixels: int | None = None,
    depth_m: float = 1.0,
    border: Border = "reflect",
    frame_rate_hz: float = 30.0,
    read_noise: float | None = None,
    full_well_e: float | None = None,
    bits: int | None = None,
) -> CameraUnderAttack:
    """The camera that a specification on the command line names.

    Args:
        spec: a run folder, lens.json or preset; "gaussian:W", "disc:W", "box:W" (W in face widths),
            "pixelation:N" (blocks across a face), "none", or "psf:FILE" (a measured PSF, one sample
            per sensor pixel).
        pixels: side of the scene [px]; None = the sensor of the lens (plain cameras need it).
        depth_m: distance of the face [m], where distance matters.
        read_noise, full_well_e, bits: instead of the camera's own noise law (see NoiseLaw).
    """
    kind, _, value = spec.partition(":")
    if spec in PRESETS or Path(spec).exists():
        opened = camera_under_attack(
            load_camera(spec, sensor_pixels=pixels),
            name=_name_of(spec),
            depth_m=depth_m,
            border=border,
            frame_rate_hz=frame_rate_hz,
        )
    elif pixels is None:
        raise InputError(f"Expected the side of the scene in pixels for camera '{spec}'; give one.")
    else:
        optics = _plain_optics(kind, value, spec, pixels, border)
        opened = CameraUnderAttack(optics.label, optics, frame_rate_hz=frame_rate_hz)
    given = {"read_noise": read_noise, "full_well_e": full_well_e, "bits": bits}
    given = {name: number for name, number in given.items() if number is not None}
    return replace(opened, noise=replace(opened.noise, **given))


def _name_of(spec: str) -> str:
    path = Path(spec)
    return path.resolve().parent.name if path.is_file() else path.name or path.resolve().name


def _plain_optics(kind: str, value: str, spec: str, pixels: int, border: Border) -> Optics:
    if spec == "none":
        return NoLens(border=border)
    if kind == "psf" and value:
        path = Path(value)
        return PsfOptics(f"psf {path.stem}", read_psf(path), border)
    if kind not in PLAIN:
        raise InputError(
            f"Expected a run folder, a lens.json, a preset ({', '.join(PRESETS)}) or one of "
            f"{SPECS}, found '{spec}'; check the spelling or the path."
        )
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise InputError(f"Expected a number above 0 behind '{kind}:', found '{value}'.")
    if kind == "pixelation":
        return Pixelation(number, border)
    return PlainBlur(kind, number, pixels, border)


def read_psf(path: Path) -> Psf:
    """A measured PSF (1, 3, m, m) from a .npy array or a picture, the axis at its centroid.

    The file holds linear light with the dark level subtracted, (h, w) or (h, w, 3), one sample per
    sensor pixel. An array must sum to 1 in each colour (within 1 %); a picture has no scale of its
    own and is divided by its sum.
    """
    values = _read_array(path)
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    if values.ndim != 3 or values.shape[2] != 3 or not values.size:
        raise InputError(
            f"Expected a PSF (h, w) or (h, w, 3) in {path}, found shape {values.shape}; save one "
            "point's picture."
        )
    if not np.isfinite(values).all():
        raise InputError(f"Expected a finite PSF in {path}, found NaN or infinity; save it again.")
    if path.suffix.lower() != ".npy":
        light = values.sum(axis=(0, 1))
        if not (light > 0).all():
            raise InputError(f"Expected light in every colour of {path}, found none; check it.")
        values = values / light
    check_psf(_as_psf(_square(values)), str(path))  # before cropping: what is wrong with the file
    cropped = _about_centroid(values, path)
    return _as_psf(cropped / cropped.sum(axis=(0, 1)))


def _read_array(path: Path) -> np.ndarray:
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False).astype(np.float64)
        with Image.open(path) as picture:
            kept = picture if picture.mode in ("L", "I", "I;16", "F") else picture.convert("RGB")
            return np.asarray(kept, dtype=np.float64)
    except FileNotFoundError:
        raise InputError(f"Expected a PSF in {path}, found no file; check the path.") from None
    except (ValueError, OSError, UnidentifiedImageError) as error:
        raise InputError(
            f"Expected a .npy array or a picture in {path}, found something else ({error}); save "
            "the PSF again."
        ) from None


def _square(values: np.ndarray) -> np.ndarray:
    """(h, w, 3) with darkness added below or on the right."""
    height, width, _ = values.shape
    side = max(height, width)
    return np.pad(values, ((0, side - height), (0, side - width), (0, 0)))


def _about_centroid(values: np.ndarray, path: Path) -> np.ndarray:
    """The largest square of odd side about the centroid of all colours."""
    light = values.sum(axis=2)
    height, width = light.shape
    y = round(float(light.sum(axis=1) @ np.arange(height) / light.sum()))
    x = round(float(light.sum(axis=0) @ np.arange(width) / light.sum()))
    half = min(y, x, height - 1 - y, width - 1 - x)
    cropped = values[y - half : y + half + 1, x - half : x + half + 1]
    lost = 1 - cropped.sum() / values.sum()
    if lost > _LOST:
        raise InputError(
            f"Expected the PSF in the middle of {path}, found its centroid at row {y}, column {x}, "
            f"where the largest square about it loses {lost:.0%} of the light; add a dark margin."
        )
    return cropped


def _as_psf(values: np.ndarray) -> Psf:
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))[None]).float()
