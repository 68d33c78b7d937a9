"""The learnable lens: owns the coefficients of its surface, turns a scene into irradiance."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from opticaldr.config import LensConfig, LossConfig
from opticaldr.optics import propagation, transfer
from opticaldr.optics.checks import check_lens
from opticaldr.optics.diffusers import EngineeredDiffuser, RandomDiffuser
from opticaldr.optics.imaging import convolve
from opticaldr.optics.materials import refractive_index
from opticaldr.optics.penalties import manufacturing_penalties
from opticaldr.optics.surfaces import (
    EvenAsphere,
    FreeForm,
    RadialSpline,
    Surface,
    SurfaceSum,
    ZernikeSurface,
)
from opticaldr.optics.system import OpticalSystem, focus_curvature_per_m
from opticaldr.types import Irradiance, Psf, Scene

MAX_CACHED_DEPTHS = 128
"""PSFs kept of a frozen lens: twice the depth levels of training."""


def build_system(config: LensConfig) -> OpticalSystem:
    """The fixed geometry that a lens section describes, with its surface."""
    system = OpticalSystem(
        grid=config.grid,
        pitch_m=config.pitch_m,
        sensor_distance_m=config.sensor_distance_m,
        wavelengths_m=config.wavelengths_m,
        indices=config.indices,
        sensor_pixels=config.sensor_pixels,
        normalisation=config.normalisation,
        stop_diameter_m=config.stop_diameter_m,
    )
    return replace(system, surface=_surface(config, system))


def _surface(config: LensConfig, system: OpticalSystem) -> Surface | None:
    """None = Noll terms alone, the one surface that needs no description."""
    wanted, radius = config.surface, system.normalisation_radius_m
    if wanted.kind == "asphere":
        curvature = focus_curvature_per_m(system, wanted.focus_m)
        base: Surface = EvenAsphere(wanted.size or 3, radius, curvature)
    elif wanted.kind == "spline":
        base = RadialSpline(wanted.size or 16, radius)
    elif wanted.kind == "freeform":
        base = FreeForm(wanted.size or 32, radius)
    elif wanted.diffuser == "none":
        return None
    else:
        base = ZernikeSurface(len(config.coefficients_um), radius, config.normalisation)
    if wanted.diffuser == "none":
        return base
    plate = RandomDiffuser if wanted.diffuser == "random" else EngineeredDiffuser
    return SurfaceSum((base, plate(wanted.slope_rms, wanted.grain_m, radius, wanted.seed)))


def _start(config: LensConfig, system: OpticalSystem) -> Tensor:
    """Parameters that a lens section describes: of the lens, then the strength of its diffuser."""
    wanted = config.surface
    own = config.coefficients_um if wanted.kind == "zernike" else wanted.parameters
    strength = () if wanted.diffuser == "none" else (wanted.strength,)
    if not own:
        sphere = focus_curvature_per_m(system, wanted.focus_m)
        own = system.shape(0).like_parabola(sphere)
        own = own[: len(own) - len(strength)]
    start = torch.tensor((*own, *strength), dtype=torch.float32)
    system.shape(len(start)).check_count(start)
    return start


class Lens(nn.Module):
    """A thin plate in front of the sensor (paper.md 2.1); Zernike (Noll 1..J) unless configured.

    coefficients: parameters of its surface, learned, dimensionless: micrometres for "zernike" (RMS
    for "noll"). Of Noll terms only config.trainable receive a gradient: piston has no effect, tilts
    only shift the image.
    """

    def __init__(self, config: LensConfig) -> None:
        super().__init__()
        if config.material != "given":
            indices = tuple(refractive_index(config.material, w) for w in config.wavelengths_m)
            config = config.model_copy(update={"indices": indices})
        self.config = config
        self.system = build_system(config)
        coefficients = _start(config, self.system)
        self.coefficients = nn.Parameter(coefficients)
        learns = torch.ones_like(coefficients)
        if config.surface.kind == "zernike":
            learns[: len(config.coefficients_um)] = 0.0
            learns[[j - 1 for j in config.trainable]] = 1.0
        self.register_buffer("learns", learns, persistent=False)
        self._frozen_for: tuple[str | float, ...] = ()
        self._frozen_psfs: dict[float, Tensor] = {}

    @property
    def is_frozen(self) -> bool:
        """True if the coefficients receive no gradient."""
        return not self.coefficients.requires_grad

    def psf(self, depths_m: Float[Tensor, "k"]) -> Psf:
        """Point spread functions for point sources at depths_m [m]; cached while frozen."""
        if not self.is_frozen:
            return self._compute(self._learning(), depths_m)
        fixed = self.coefficients.detach()
        if self._frozen_for != (key := (str(fixed.device), *fixed.tolist())):
            self._frozen_for, self._frozen_psfs = key, {}
        missing = [d for d in depths_m.tolist() if d not in self._frozen_psfs]
        if missing:
            if len(self._frozen_psfs) + len(missing) > MAX_CACHED_DEPTHS:
                self._frozen_psfs.clear()
                missing = list(dict.fromkeys(depths_m.tolist()))
            fresh = self._compute(fixed, torch.tensor(missing, device=fixed.device))
            self._frozen_psfs.update(zip(missing, fresh, strict=True))
        return torch.stack([self._frozen_psfs[d] for d in depths_m.tolist()])

    def _learning(self) -> Tensor:
        """The coefficients, with a gradient where they learn."""
        return self.coefficients * self.learns + self.coefficients.detach() * (1 - self.learns)

    def _compute(self, coefficients: Tensor, depths_m: Tensor) -> Psf:
        if self.config.engine == "two_fft":
            return transfer.psf_two_fft(coefficients, depths_m, self.system)
        window = self._window(coefficients, depths_m)
        return propagation.psf_direct(coefficients, depths_m, self.system, window=window)

    def _window(self, coefficients: Tensor, depths_m: Tensor) -> int:
        # blur is widest at an end of the depth range, so all depths share one window
        ends = torch.cat([depths_m, depths_m.new_tensor(self.config.depth_range_m)])
        check_lens(coefficients, ends, self.system)
        return propagation.choose_window(
            coefficients, ends, self.system, largest=self.config.max_window
        )

    @torch.no_grad()
    def pull_into_window(self) -> bool:
        """Shrinks the surface towards focus until config.max_window can sample its blur.

        The blur is linear in the distance from the focusing surface, so c <- f + s (c - f) with
        s = allowed / found lands on the limit; an asphere is not quite linear and takes a few
        rounds. Returns True if anything was changed.
        """
        near, far = self.config.depth_range_m
        depths = self.coefficients.new_tensor([near, far])
        count = self.coefficients.numel()
        sphere = focus_curvature_per_m(self.system, 2 / (1 / near + 1 / far))
        focus = self.coefficients.new_tensor(self.system.shape(count).like_parabola(sphere))
        coarse = propagation.coarse_window(self.system, count)
        allowed = propagation.SAFE_FILL * self.config.max_window / coarse
        for attempt in range(20):
            found = float(
                propagation.window_fill(self.coefficients, depths, self.system, window=coarse).max()
            )
            if found <= allowed or not math.isfinite(found):
                return attempt > 0
            shrunk = focus + 0.99 * allowed / found * (self.coefficients - focus)
            self.coefficients.copy_(torch.where(self.learns > 0, shrunk, self.coefficients))
        return True

    def penalties(self, limits: LossConfig) -> dict[str, Tensor]:
        """What a workshop cannot cut, by name, for the names with a weight (optics.penalties)."""
        names = ("sag_range", "slope", "feature", "smoothness")
        wanted = [name for name in names if getattr(limits, name) > 0]
        if not wanted:
            return {}
        found = manufacturing_penalties(
            self._learning(),
            self.system,
            sag_limit_m=limits.sag_limit_m,
            slope_limit=limits.slope_limit,
            curvature_limit_per_m=limits.curvature_limit_per_m,
        )
        return {name: found[name] for name in wanted}

    @torch.no_grad()
    def defocus_um(self) -> float:
        """Z4 coefficient [um] of the surface, in the normalisation of the configuration."""
        if self.config.surface.kind == "zernike":
            return float(self.coefficients[3])
        radius = self.system.normalisation_radius_m
        axis = radius * (torch.arange(-63.5, 64, dtype=torch.float64) / 64)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        inside = torch.hypot(x, y) < radius
        height = self.surface_height(x[inside], y[inside])
        term = 2 * (x[inside] ** 2 + y[inside] ** 2) / radius**2 - 1
        term = term - term.mean()
        z4 = 1e6 * float((height * term).sum() / term.square().sum())
        return z4 / (math.sqrt(3) if self.config.normalisation == "noll" else 1.0)

    @torch.no_grad()
    def surface_height(self, x: Tensor, y: Tensor) -> Tensor:
        """Height of the surface [m] at positions x, y on the plate [m], any shape, float64."""
        parameters = self.coefficients.double().cpu()
        return self.system.shape(parameters.numel()).height(parameters, x, y)

    def described(self) -> LensConfig:
        """The configuration with the coefficients as they are now: all that lens.json holds."""
        wanted, values = self.config.surface, tuple(self.coefficients.tolist())
        surface: dict[str, object] = {}
        if wanted.diffuser != "none":
            *values, surface["strength"] = values
        if wanted.kind == "zernike":
            changed: dict[str, object] = {"coefficients_um": tuple(values)}
        else:
            changed, surface["parameters"] = {}, tuple(values)
        return self.config.model_copy(
            update={**changed, "surface": wanted.model_copy(update=surface)}
        )

    def height_map(self) -> Float[Tensor, "n n"]:
        """Height of the surface [m] on the wavefront grid, zero outside the aperture."""
        return transfer.height_map(self.coefficients.detach(), self.system)

    def forward(self, scene: Scene, depth: Float[Tensor, "b"]) -> Irradiance:
        """Irradiance on the sensor of a flat scene at depth [m], one depth per image."""
        depths, which = torch.unique(depth, return_inverse=True)
        return convolve(scene, self.psf(depths), which, border=self.config.border)
