"""The sampling audit of `lens check`: does the simulation compute the lens, or its own grid?

Every check is one number against one limit, with a reason in words. Shares of misplaced light
(total variation, TV) are measured on sensor pixels, for the colour that is worst, at the end of
the depth range where the blur is widest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from opticaldr.optics import propagation, transfer
from opticaldr.optics.checks import check_lens
from opticaldr.optics.imaging import box_sum
from opticaldr.optics.system import OpticalSystem
from opticaldr.types import InputError

Engine = Literal["direct", "two_fft"]
OnProgress = Callable[[str, int, int], None]

MISPLACED_LIMIT = 2e-3
"""Largest accepted share of misplaced light: the error bound of the engine (optics.md 7)."""
OUTSIDE_LIMIT = 5e-3
"""Largest accepted share of light outside the window: twice the diffraction rings outside 256
samples of a lens in focus (optics.md 4: 0.26 %)."""
EXACT_LIMIT = 1e-2
"""Largest accepted difference from the exact angular spectrum, whose own stop is a staircase of
samples here: that alone misplaces 2e-3 to 4e-3 (bench.reference, with a grey edge, finds 2e-3)."""
NYQUIST = 1.0
"""Phase step of pi between neighbouring samples."""


@dataclass(frozen=True)
class Check:
    """One line of the audit: passes while value <= limit."""

    name: str
    value: float
    limit: float
    reason: str

    @property
    def passed(self) -> bool:
        """False also for a value that is not a number."""
        return self.value <= self.limit


def misplaced(a: Tensor, b: Tensor) -> float:
    """Total variation of two sets of PSFs (k, 3, m, m) of unit sum: the largest half L1 distance."""
    return float((0.5 * (a.double() - b.double()).abs().sum((-2, -1))).max())


@torch.no_grad()
def audit(
    coefficients_um: Tensor,
    system: OpticalSystem,
    *,
    engine: Engine,
    depth_range_m: tuple[float, float],
    max_window: int = propagation.WINDOWS[-1],
    on_progress: OnProgress | None = None,
) -> list[Check]:
    """Checks one engine on one lens; InputError for a lens or a depth that is no number.

    on_progress: called with ("auditing", checks done, checks in all).
    """
    if engine not in ("direct", "two_fft"):
        raise InputError(
            f"Expected engine direct or two_fft, found '{engine}'; choose one of them."
        )
    lens = coefficients_um.detach().float().cpu()
    ends = torch.tensor(sorted(set(depth_range_m)))
    check_lens(lens, ends)
    fill = propagation.window_fill(lens, ends, system, window=propagation.WINDOWS[0])
    widest = ends[fill.argmax()][None]
    steps = _direct_checks if engine == "direct" else _two_fft_checks
    checks: list[Check] = []
    makers = steps(lens, widest, system, max_window)
    for number, make in enumerate(makers, start=1):
        checks.append(make())
        if on_progress:
            on_progress("auditing", number, len(makers))
        if not checks[0].passed and engine == "direct":
            break  # no window holds this blur: there is nothing else to measure
    return checks


# --- the direct engine ----------------------------------------------------------------------


def _direct_checks(
    lens: Tensor, depth: Tensor, system: OpticalSystem, max_window: int
) -> list[Callable[[], Check]]:
    def fits() -> Check:
        try:
            window = _window(lens, depth, system, max_window)
        except InputError as error:
            coarse = propagation.WINDOWS[0]
            blur = coarse * float(propagation.window_fill(lens, depth, system, window=coarse))
            return Check("fill of the window", blur / max_window, propagation.SAFE_FILL, str(error))
        fill = float(propagation.window_fill(lens, depth, system, window=window))
        return Check(
            "fill of the window",
            fill,
            propagation.SAFE_FILL,
            f"the blur fills {fill:.0%} of the {window} samples; edge fringe of the residual phase "
            f"{fill:.2f} x Nyquist",
        )

    @cache
    def at_twice() -> Tensor:
        return propagation.psf_direct(
            lens, depth, system, window=2 * _window(lens, depth, system, max_window)
        )

    def outside() -> Check:
        kept = _cut(at_twice(), at_twice().shape[-1] // 2)
        share = float((1 - kept.double().sum((-2, -1))).max())
        return Check(
            "light outside the window",
            share,
            OUTSIDE_LIMIT,
            f"{share:.2%} of the light falls beyond the window and is wrapped back in",
        )

    def converged() -> Check:
        window = _window(lens, depth, system, max_window)
        narrow = propagation.psf_direct(lens, depth, system, window=window)
        wrong = misplaced(_unit(narrow), _unit(_cut(at_twice(), narrow.shape[-1])))
        return Check(
            "N against 2N samples",
            wrong,
            MISPLACED_LIMIT,
            f"{wrong:.2%} of the light moves when the pupil is sampled twice as finely as by "
            f"{window} samples",
        )

    def exact() -> Check:
        sampled = replace(system, sensor_pixels=system.grid)
        grid = system.grid
        if max(edge_fringe(lens, depth, system)) < 0.9 * NYQUIST:
            reference = transfer.psf_angular_spectrum(lens, depth, sampled)
        else:
            fine = _refined(system, lens.numel())
            grid = fine.grid
            reference = _onto_coarse_samples(transfer.psf_angular_spectrum(lens, depth, fine))
        direct = propagation.psf_direct(lens, depth, sampled)
        wrong = _misplaced_on_sensor(direct, reference, sampled, system)
        return Check(
            "paraxial error",
            wrong,
            EXACT_LIMIT,
            f"{wrong:.2%} of the light differs from the exact angular spectrum on {grid} samples",
        )

    return [fits, outside, converged, exact]


def _window(lens: Tensor, depth: Tensor, system: OpticalSystem, max_window: int) -> int:
    return propagation.choose_window(lens, depth, system, largest=max_window)


# --- the lineage's two-FFT engine -----------------------------------------------------------


def _two_fft_checks(
    lens: Tensor, depth: Tensor, system: OpticalSystem, max_window: int
) -> list[Callable[[], Check]]:
    del max_window  # this engine always computes the whole frame
    fine = _refined(system, lens.numel())

    @cache
    def at_twice() -> Tensor:
        return transfer.psf_two_fft(lens, depth, fine)

    def fringe() -> Check:
        per_colour = edge_fringe(lens, depth, system)
        worst = max(per_colour)
        text = "/".join(f"{value:.2f}" for value in per_colour)
        return Check(
            "edge fringe",
            worst,
            NYQUIST,
            f"the wave at the rim turns {text} (R/G/B) times as fast as {system.grid} samples can hold",
        )

    def outside() -> Check:
        kept = transfer.light_kept(lens, depth, system)
        share = float((1 - kept).max())
        return Check(
            "light outside the window",
            share,
            OUTSIDE_LIMIT,
            f"{share:.1%} of the light leaves the frame and the division by the sum hides it",
        )

    def converged() -> Check:
        once = transfer.psf_two_fft(lens, depth, replace(system, sensor_pixels=system.grid))
        twice = _onto_coarse_samples(at_twice())
        wrong = misplaced(_on_sensor(once, system), _on_sensor(_unit(twice), system))
        return Check(
            "N against 2N samples",
            wrong,
            MISPLACED_LIMIT,
            f"{wrong:.2%} of the light moves when the wave is sampled twice as finely",
        )

    def exact() -> Check:
        reference = transfer.psf_angular_spectrum(lens, depth, fine)
        wrong = _misplaced_on_sensor(at_twice(), reference, fine, system)
        return Check(
            "paraxial error",
            wrong,
            EXACT_LIMIT,
            f"{wrong:.2%} of the light is misplaced by Fresnel's approximation (angular spectrum, "
            f"{fine.grid} samples)",
        )

    return [fringe, outside, converged, exact]


def edge_fringe(
    coefficients_um: Tensor, depths_m: Tensor, system: OpticalSystem
) -> tuple[float, ...]:
    """Largest phase step of the wave behind the plate between samples of the wavefront grid / pi.

    One number per colour (R, G, B), the largest over depths; 1 is the Nyquist limit (paper.md 2.2,
    finding B). Taken between neighbours inside the aperture, in float64.
    """
    axis = (torch.arange(system.grid, dtype=torch.float64) - system.grid // 2) * system.pitch_m
    r2 = axis[:, None] ** 2 + axis[None, :] ** 2
    inside = r2.sqrt() < system.aperture_radius_m
    height = transfer.height_map(coefficients_um, system)
    worst = []
    for wavelength, index in zip(system.wavelengths_m, system.indices, strict=True):
        steps = []
        for depth in depths_m.double():
            path = (index - 1) * height + r2 / ((r2 + depth**2).sqrt() + depth)
            rows = (path.diff(dim=0).abs() * (inside[1:] & inside[:-1])).max()
            columns = (path.diff(dim=1).abs() * (inside[:, 1:] & inside[:, :-1])).max()
            steps.append(float(torch.maximum(rows, columns)) * 2 / wavelength)
        worst.append(max(steps))
    return tuple(worst)


# --- comparing PSFs on different grids -------------------------------------------------------


def _refined(system: OpticalSystem, count: int) -> OpticalSystem:
    """The same plate and stop on 2N samples of half the pitch, read out sample by sample."""
    return replace(
        system,
        grid=2 * system.grid,
        pitch_m=system.pitch_m / 2,
        sensor_pixels=2 * system.grid,
        stop_diameter_m=2 * system.aperture_radius_m,
        surface=system.shape(count),
    )


def _cut(psf: Tensor, size: int) -> Tensor:
    """The central size x size part; the axis stays at size / 2."""
    start = psf.shape[-1] // 2 - size // 2
    return psf[..., start : start + size, start : start + size]


def _unit(psf: Tensor) -> Tensor:
    return psf / psf.sum((-2, -1), keepdim=True)


def _on_sensor(psf: Tensor, system: OpticalSystem) -> Tensor:
    """Samples of the wavefront pitch summed to pixels about as wide as the sensor's."""
    factor = max(1, round(system.sensor_pitch_m / system.pitch_m))
    return box_sum(psf, factor)


def _misplaced_on_sensor(a: Tensor, b: Tensor, fine: OpticalSystem, system: OpticalSystem) -> float:
    """TV on sensor pixels of two PSFs in samples of `fine`, of the light in the common window."""
    size = min(a.shape[-1], b.shape[-1])
    factor = max(1, round(system.sensor_pitch_m / fine.sensor_pitch_m))
    pooled = [_unit(box_sum(_cut(psf, size), factor)) for psf in (a, b)]
    return misplaced(*pooled)


def _onto_coarse_samples(psf: Tensor) -> Tensor:
    """2N samples to N: weights 1/2, 1, 1/2 about every second one, so that the axis stays put."""
    for axis in (-1, -2):
        left = psf.roll(1, axis)
        right = psf.roll(-1, axis)
        psf = (psf + (left + right) / 2).movedim(axis, -1)[..., ::2].movedim(-1, axis)
    return psf


def summary(checks: list[Check]) -> str:
    """One sentence: pass, or the names of what failed."""
    failed = [check.name for check in checks if not check.passed]
    if not failed:
        return "The simulation samples this lens."
    return f"Do not trust this simulation: {', '.join(failed)} beyond the limit."
