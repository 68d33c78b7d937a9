"""The learnable lens: owns the coefficients of its surface, turns a scene into irradiance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from opticaldr.config import LensConfig
from opticaldr.optics import propagation
from opticaldr.optics.imaging import convolve
from opticaldr.optics.system import OpticalSystem
from opticaldr.types import Irradiance, Psf, Scene

MAX_CACHED_DEPTHS = 128
"""PSFs kept of a frozen lens: twice the depth levels of training."""


class Lens(nn.Module):
    """A thin Zernike element (Noll 1..J) in front of the sensor (paper.md 2.1).

    coefficients: (J,) learned, dimensionless numbers that mean micrometres (RMS for "noll").
    Only the Noll indices in config.trainable receive a gradient: piston has no effect, tilts only
    shift the image.
    """

    def __init__(self, config: LensConfig) -> None:
        super().__init__()
        self.config = config
        self.system = OpticalSystem(
            grid=config.grid,
            pitch_m=config.pitch_m,
            sensor_distance_m=config.sensor_distance_m,
            wavelengths_m=config.wavelengths_m,
            indices=config.indices,
            sensor_pixels=config.sensor_pixels,
            normalisation=config.normalisation,
        )
        coefficients = torch.tensor(config.coefficients_um, dtype=torch.float32)
        self.coefficients = nn.Parameter(coefficients)
        learns = torch.zeros_like(coefficients)
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
            held = self.coefficients.detach() * (1 - self.learns)
            return self._compute(self.coefficients * self.learns + held, depths_m)
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

    def _compute(self, coefficients: Tensor, depths_m: Tensor) -> Psf:
        if self.config.engine == "two_fft":
            return propagation.psf_two_fft(coefficients, depths_m, self.system)
        # blur is widest at an end of the depth range, so all depths share this window
        ends = torch.cat([depths_m, depths_m.new_tensor(self.config.depth_range_m)])
        propagation.check_lens(coefficients, ends)
        window = propagation.choose_window(coefficients, ends, self.system)
        return propagation.psf_direct(coefficients, depths_m, self.system, window=window)

    def height_map(self) -> Float[Tensor, "n n"]:
        """Height of the surface [m] on the wavefront grid, zero outside the aperture."""
        return propagation.height_map(self.coefficients.detach(), self.system)

    def forward(self, scene: Scene, depth: Float[Tensor, "b"]) -> Irradiance:
        """Irradiance on the sensor of a flat scene at depth [m], one depth per image."""
        depths, which = torch.unique(depth, return_inverse=True)
        return convolve(scene, self.psf(depths), which, border=self.config.border)
