"""Point spread functions by this package, by the lineage's two FFTs, and by packages of others.

Fairness: every peer propagates the same pupil field, made here with the numerically stable source
phase r^2 / (sqrt(r^2 + d^2) + d) in float64 (pado's own spherical wave in float32 is wrong by
0.5 rad at 1 m). It is sampled between the middles of the grid, as torchoptics does, so that pooled
pixels line up with ours. Each peer runs in float32 with its exact angular spectrum, which takes no
longer than its Fresnel form and is 50 times nearer to the reference, and with the least padding
that it offers and that suffices: torchoptics a quarter of the grid on each side (its default is
twice the grid), pado half the grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from opticaldr.bench.reference import Axis
from opticaldr.optics.imaging import box_sum
from opticaldr.optics.propagation import psf_direct
from opticaldr.optics.surfaces import MICROMETRE
from opticaldr.optics.system import OpticalSystem
from opticaldr.optics.transfer import psf_two_fft
from opticaldr.optics.zernike import zernike_basis
from opticaldr.types import Psf

PsfFunction = Callable[[Tensor, Tensor, OpticalSystem], Psf]


@dataclass(frozen=True)
class Engine:
    """A way to compute PSFs. module: what must be importable. package: its name on PyPI."""

    psf: PsfFunction
    axis: Axis = "pixel"
    module: str = "opticaldr"
    package: str = "opticaldr"

    @property
    def missing(self) -> str | None:
        """What to run, if the engine is not installed."""
        return None if find_spec(self.module) else f"pip install {self.package}"


def pupil_fields(coefficients_um: Tensor, depths_m: Tensor, system: OpticalSystem) -> Tensor:
    """A exp(i k [(n-1) h + source path]) behind the plate, (k, 3, N, N) complex64."""
    basis, r2, amplitude = _pupil(system, coefficients_um.numel(), coefficients_um.device)
    height = torch.einsum("j,jyx->yx", coefficients_um.double() * MICROMETRE, basis)
    fields = []
    for depth in depths_m.double():
        source = r2 / ((r2 + depth**2).sqrt() + depth)
        for wavelength, index in zip(system.wavelengths_m, system.indices, strict=True):
            phase = 2 * math.pi / wavelength * ((index - 1) * height + source)
            fields.append(torch.polar(amplitude, phase).to(torch.complex64))
    return torch.stack(fields).unflatten(0, (len(depths_m), 3))


@lru_cache(maxsize=2)
def _pupil(system: OpticalSystem, terms: int, device: torch.device) -> tuple[Tensor, ...]:
    line = torch.arange(system.grid, dtype=torch.float64, device=device)
    line = (line - (system.grid - 1) / 2) * system.pitch_m
    y, x = torch.meshgrid(line, line, indexing="ij")
    norm, r2 = system.normalisation_radius_m, x**2 + y**2
    basis = zernike_basis(terms, x / norm, y / norm, normalisation=system.normalisation)
    amplitude = (r2.sqrt() < system.aperture_radius_m).double()
    return basis * amplitude, r2, amplitude


def _to_sensor(light: Tensor, system: OpticalSystem) -> Psf:
    """(k, 3, N, N) intensity, axis between the middle samples -> PSF, axis in pixel S/2."""
    q = system.grid // system.sensor_pixels
    pooled = box_sum(torch.roll(light, (q // 2, q // 2), dims=(-2, -1)), q)
    return pooled / pooled.sum((-2, -1), keepdim=True)


def psf_torchoptics(coefficients_um: Tensor, depths_m: Tensor, system: OpticalSystem) -> Psf:
    """torchoptics: one batched Field per wavelength."""
    import torchoptics

    torchoptics.set_default_dtype(torch.float32)
    fields = pupil_fields(coefficients_um, depths_m, system)
    pad = (system.grid // 4,) * 2
    light = []
    for colour, wavelength in enumerate(system.wavelengths_m):
        field = torchoptics.Field(fields[:, colour], wavelength, spacing=system.pitch_m)
        sensor = field.to(fields.device).propagate_to_z(
            system.sensor_distance_m, propagation_method="ASM", asm_pad=pad
        )
        light.append(sensor.intensity())
    return _to_sensor(torch.stack(light, dim=1), system)


def psf_pado(coefficients_um: Tensor, depths_m: Tensor, system: OpticalSystem) -> Psf:
    """pado: all depths and wavelengths in one call, band-limited."""
    from pado.light import Light
    from pado.propagator import Propagator

    fields = pupil_fields(coefficients_um, depths_m, system)
    light = Light(
        tuple(fields.shape),
        system.pitch_m,
        list(system.wavelengths_m),
        fields,
        device=str(fields.device),
    )
    sensor = Propagator("ASM").forward(light, system.sensor_distance_m)
    return _to_sensor(sensor.field.abs().square(), system)


OURS = "opticaldr"
ENGINES: dict[str, Engine] = {
    OURS: Engine(psf_direct),
    "two-FFT": Engine(psf_two_fft, axis="sample"),
    "torchoptics": Engine(psf_torchoptics, module="torchoptics", package="torchoptics"),
    "pado": Engine(psf_pado, module="pado", package="pado-optics"),
}
"""Ours first; the others are its peers. "two-FFT" is the literal Sitzmann-style path."""
