"""`lens tolerance`: Monte Carlo of what a workshop and a mount get wrong, and what it does.

Each error alone, at both ends of its size, says which one matters; then cameras with all of them
are drawn (optics.manufacture). Each is compared with the one on the drawing: k*, Strehl ratio, and
misplaced light after the image has been shifted back (a shift of the picture is no harm).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from opticaldr.optics.analysis import fine_system, strehl
from opticaldr.optics.bands import (
    IDENTITY_BAND,
    face_frequencies,
    face_power,
    recoverable_band,
    signal_to_noise,
)
from opticaldr.optics.geometry import FaceGeometry
from opticaldr.optics.manufacture import (
    Camera,
    Draw,
    Errors,
    built,
    check_sizes,
    draw,
    extremes,
)
from opticaldr.optics.off_axis import Sag, widen
from opticaldr.optics.system import OpticalSystem
from opticaldr.types import InputError, Psf

OnProgress = Callable[[str, int, int], None]
Task = Callable[[Psf], dict[str, float]]
"""Effect of a changed camera on a task: PSFs at the nominal depths -> named numbers."""
FRAMES = (1, 30, 1800)
"""Frames that an attacker averages: a picture, a second, a minute of video at 30 per second."""
MEANINGFUL_STREHL = 0.01
"""Below this the peak of a PSF is a speckle."""
QUANTILES = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)


class _Measure:
    """Effects of one camera against the one on the drawing, as a dictionary of numbers."""

    def __init__(self, drawn: Camera, *, noise: float, task: Task | None) -> None:
        self.drawn, self.noise, self.task = drawn, noise, task
        self.reference, self.centroid = drawn.psf(), drawn.centroid()
        self.sharp = self._strehl(drawn) >= MEANINGFUL_STREHL

    def __call__(self, camera: Camera) -> dict[str, float]:
        psf = camera.psf()
        pixels = self.drawn.system.sensor_pixels
        face_pixels = FaceGeometry(self.drawn.system).face_pixels
        cycles, power = face_frequencies(pixels, face_pixels), face_power(pixels, face_pixels)
        snr = signal_to_noise(psf, power, noise=self.noise).sum(1)
        identity = (cycles >= IDENTITY_BAND[0]) & (cycles <= IDENTITY_BAND[1])
        size = max(psf.shape[-1], self.reference.shape[-1])
        wrong = 0.5 * (widen(psf, size) - widen(self.reference, size)).abs().sum((-2, -1))
        shift = math.dist(camera.centroid(), self.centroid)
        effect = {
            **{f"band_{n}": float(recoverable_band(n * snr, cycles).max()) for n in FRAMES},
            "band_snr_db": float(snr[:, identity].clamp_min(1e-12).log10().mean(1).max()) * 10,
            "misplaced": float(wrong.mean(0).max()),
            "shift_px": shift / self.drawn.system.sensor_pitch_m,
        }
        if self.sharp:
            effect["strehl"] = self._strehl(camera)
        return effect | (self.task(psf) if self.task else {})

    def _strehl(self, camera: Camera) -> float:
        """Green, at the best depth; 0 for a blur too wide for the fine samples."""
        fine = fine_system(camera.system)
        try:
            return float(strehl(camera.psf(fine), fine)[:, 1].max())
        except InputError:
            return 0.0


def run_tolerance(
    sag: Sag,
    depths_m: Tensor,
    system: OpticalSystem,
    *,
    errors: Errors,
    draws: int,
    seed: int,
    noise: float,
    task: Task | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Draws cameras and measures each; the result is ready for JSON.

    Args:
        sag: the surface on the drawing.
        depths_m: distances of the face [m].
        system: the camera on the drawing.
        errors: their sizes.
        draws: number of cameras.
        seed: of everything that is drawn.
        noise: of the sensor, per sample and frame [full scale], for k*.
        task: measured on every camera, too.
        on_progress: called with ("building cameras", done, in all).

    Returns: the settings; "nominal": effects of the camera on the drawing; "alone": per error that
    is not zero, effects of it alone, the farther of its two extremes; "draws": errors and effects
    of each camera; "summary": per effect the nominal value, mean, 5th, 50th and 95th percentile.
    Effects: band_1, band_30, band_1800, k* of so many frames [c/face], all colours together, at
    the sharpest depth; band_snr_db, mean SNR of one frame in the identity band [dB], likewise;
    strehl, green, at the best depth (only for a lens that is near focus); misplaced, share of light
    in the wrong place, mean over depths, worst colour; shift_px, how far the image moved [sensor
    px]; then those of the task.
    """
    if draws < 1:
        raise InputError(f"Expected at least 1 draw, found {draws}; give --draws 100.")
    check_sizes(errors, system)
    alone = extremes(errors)
    total, done = draws + sum(map(len, alone.values())), 0

    def effects_of(one: Draw) -> dict[str, float]:
        nonlocal done
        effects, done = measure(built(sag, depths_m, system, errors, one)), done + 1
        if on_progress:
            on_progress("building cameras", done, total)
        return effects

    measure = _Measure(built(sag, depths_m, system, errors, Draw()), noise=noise, task=task)
    nominal = measure(measure.drawn)
    single = {
        name: _farthest([effects_of(one) for one in ends], nominal) for name, ends in alone.items()
    }
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(draws):
        one = draw(errors, generator=generator)
        rows.append({"errors": asdict(one), "effects": effects_of(one)})
    return {
        "errors": asdict(errors),
        "seed": seed,
        "depths_m": depths_m.tolist(),
        "noise": noise,
        "nominal": nominal,
        "alone": single,
        "draws": rows,
        "summary": {
            name: _spread([row["effects"][name] for row in rows], value)
            for name, value in nominal.items()
        },
    }


def _farthest(found: list[dict[str, float]], nominal: dict[str, float]) -> dict[str, float]:
    """Each effect of the camera in which it is farthest from the drawing."""
    return {
        name: max((effects[name] for effects in found), key=lambda value: abs(value - drawn))
        for name, drawn in nominal.items()
    }


def _spread(values: list[float], nominal: float) -> dict[str, float]:
    low, middle, high = torch.tensor(values).double().quantile(QUANTILES).tolist()
    mean = sum(values) / len(values)
    return {"nominal": nominal, "mean": mean, "p5": low, "p50": middle, "p95": high}
