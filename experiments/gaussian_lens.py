"""A smooth plate that spreads light like a Gaussian, in focus at no distance: writes its lens.json.

    python experiments/gaussian_lens.py --sd 0.30 --out gaussian_lens.json

In ray optics a ray through the pupil at radius r lands on the sensor at

    x(r) = r (1 + z/d) + z (n - 1) h'(r),                                                   (1)

z from plate to sensor, d from object to plate. The share of the light inside r is r^2 / R^2; a spot
of density (1 - x^2/a^2)^p, which is nearly Gaussian and ends without an edge, holds
1 - (1 - x^2/a^2)^(p+1) inside x. Equal shares (1 = 2) give the surface:

    x(r) = a sqrt(1 - (1 - r^2/R^2)^(1/(p+1))),     SD along one axis = a / sqrt(2 (p + 2)).       (2)

x > 0 for every r: rays spread and never cross, and the nearer the object the more, so that there is
no distance at which the plate is in focus (rung A8 looks for one). The spline of (1) has few
controls: more of them follow the steep rim and ripple. What diffraction adds is then polished away:
Adam on the control heights against the bits that FRAMES records of a still face leak (privacy.md
4.4), at distances drawn from RANGE_M. Three minutes on one core; seed 0.

Prints SD and modulation transfer by distance beside those of a Gaussian and of a disc. No faces.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from opticaldr.camera import Camera, save_camera
from opticaldr.config import LensConfig, SensorConfig, SurfaceConfig
from opticaldr.lens import Lens
from opticaldr.optics.bands import face_power, signal_to_noise
from opticaldr.optics.propagation import WINDOWS, psf_direct
from opticaldr.optics.surfaces import MICROMETRE
from opticaldr.sensor import Sensor
from opticaldr.types import FACE_SHARE

FOCUS_M, GREEN = 1.0, 1
DISTANCES_M = (0.1, 0.2, 0.33, 1.0, 3.0, 100.0)
CYCLES = (1, 2, 3, 4, 6, 8, 12)
FRAMES, NOISE, RANGE_M, STEP_UM = 300, 0.01, (0.33, 5.0), 0.05


def gaussian_lens(sd: float, *, falloff: float, controls: int, pixels: int) -> LensConfig:
    """The plate whose spot has SD `sd` [face widths] for an object 1 m away.

    falloff: p of (2); 0 is a disc. controls: of the radial spline. pixels: of the sensor.
    """
    empty = LensConfig(surface=SurfaceConfig(kind="spline", size=controls), sensor_pixels=pixels)
    system = Lens(empty).system
    radius, z = system.aperture_radius_m, system.sensor_distance_m
    edge = sd * FACE_SHARE * empty.grid * empty.pitch_m * math.sqrt(2 * (falloff + 2))
    r = torch.linspace(0, radius, 4001, dtype=torch.float64)
    inside = (1 - (r / radius) ** 2).clamp_min(0)
    x = edge * (1 - inside ** (1 / (falloff + 1))).sqrt()  # (2)
    slope = (x - r * (1 + z / FOCUS_M)) / (z * (system.indices[GREEN] - 1))  # (1)
    basis = system.shape(controls).basis(r, torch.zeros_like(r)).T
    slopes = (basis[2:] - basis[:-2]) / (r[2] - r[0])
    weight = r[1:-1, None].sqrt()  # of equal areas
    wanted = slope[1:-1, None] / MICROMETRE
    heights = torch.linalg.lstsq(slopes * weight, wanted * weight, driver="gelsd").solution[:, 0]
    heights = heights - basis[0] @ heights  # no height on the axis
    surface = empty.surface.model_copy(update={"parameters": tuple(heights.tolist())})
    return empty.model_copy(update={"surface": surface})


def polish(config: LensConfig, *, steps: int) -> LensConfig:
    """The plate with the fewest leaked bits near this one, 0.5 sum log2(1 + SNR_f)."""
    system, (near, far) = Lens(config).system, RANGE_M
    heights = torch.tensor(config.surface.parameters).requires_grad_()
    power = face_power(config.sensor_pixels, FACE_SHARE * config.sensor_pixels)
    optimiser = torch.optim.Adam([heights], lr=STEP_UM)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        depth = near * (far / near) ** torch.rand(1, generator=generator)
        psf = psf_direct(heights, depth, system, window=WINDOWS[-1])
        snr = signal_to_noise(psf, power, noise=NOISE, frames=FRAMES)
        bits = 0.5 * torch.log2(1 + snr).sum((-2, -1)).mean()
        optimiser.zero_grad()
        bits.backward()
        optimiser.step()
        decay.step()
    parameters = tuple(heights.detach().double().tolist())
    surface = config.surface.model_copy(update={"parameters": parameters})
    return config.model_copy(update={"surface": surface})


def spread(psf: np.ndarray, face_pixels: float) -> tuple[float, list[float]]:
    """SD along x [face widths] and modulation transfer at CYCLES per face width of an (m, m) PSF."""
    place = np.arange(len(psf)) - len(psf) // 2
    line = psf.sum(0) / psf.sum()
    at = [abs(np.exp(-2j * np.pi * k / face_pixels * place) @ line) for k in CYCLES]
    return math.sqrt(line @ place**2) / face_pixels, at


def main() -> None:
    """Writes lens.json; prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sd", type=float, default=0.30)
    parser.add_argument("--falloff", type=float, default=9.0)
    parser.add_argument("--controls", type=int, default=14)
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--steps", type=int, default=400, help="of the polishing")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    config = gaussian_lens(
        given.sd, falloff=given.falloff, controls=given.controls, pixels=given.pixels
    )
    lens = Lens(polish(config, steps=given.steps)).requires_grad_(False).eval()
    save_camera(Camera(lens, Sensor(SensorConfig())), given.out)
    print(f"| at | SD | MTF at {', '.join(map(str, CYCLES))} cycles per face |\n|---|---|---|")  # noqa: T201
    for distance in DISTANCES_M:
        psf = lens.psf(torch.tensor([distance]))[0, GREEN].numpy().astype(float)
        sd, transfer = spread(psf, FACE_SHARE * given.pixels)
        row = " ".join(f"{value:.1e}" for value in transfer)
        print(f"| {distance:g} m | {sd:.3f} | {row} |")  # noqa: T201
    ideal = " ".join(f"{math.exp(-2 * (math.pi * given.sd * k) ** 2):.1e}" for k in CYCLES)
    print(f"| Gaussian | {given.sd:.3f} | {ideal} |")  # noqa: T201


if __name__ == "__main__":
    main()
