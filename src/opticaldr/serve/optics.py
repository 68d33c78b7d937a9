"""Live captures: the lens at any distance and strength, and what restoration brings back."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch

from opticaldr.attackable import LensOptics
from opticaldr.camera import Camera, describe_camera
from opticaldr.capture import to_images, to_photos
from opticaldr.data.synthetic.worker import portrait
from opticaldr.faces import load_recogniser
from opticaldr.lens import Lens
from opticaldr.optics.bands import face_spectrum
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.optics.imaging import convolve
from opticaldr.optics.propagation import WINDOWS
from opticaldr.privacy import cameras
from opticaldr.privacy.deconvolution import (
    ScenePrior,
    SensorCrop,
    mirror_suits,
    solve,
    trim,
    wiener,
)
from opticaldr.sensor import Sensor
from opticaldr.types import FACE_SHARE, InputError, Photo, Psf, Recogniser, Scene

DEPTH_RANGE_M = (0.2, 3.0)
"""Distances that the sliders offer [m]."""
STRENGTH_RANGE = (0.0, 1.0)
"""0 = in focus at the distance asked for, 1 = as designed."""
NOISE_RANGE = (0.0, 0.2)
"""Read noise, share of full scale."""
SURFACE_FOCUS_M = 1.0
"""Where the surface of strength 0 is in focus in the picture of the surface [m]."""
SURFACE_SIDE = 256
CACHED_BYTES = 256 * 2**20
"""PSFs that are kept: every step of the distance slider for a PSF as wide as the picture."""
QUIETEST = 1e-4
"""Stands for no noise in the mean of many frames, which needs some: 1/40 of a step of 8 bits."""


@dataclass(frozen=True)
class Shot:
    """How a picture is taken. size: side [px]; depth_m [m]; noise: None = the sensor's own.

    Distance is rounded to 1 cm, strength to 0.01 and noise to 0.0001, so that a PSF that was
    computed serves again.
    """

    size: int
    depth_m: float = 1.0
    strength: float = 1.0
    noise: float | None = None
    seed: int = 0

    @property
    def optics(self) -> tuple[int, float, float]:
        """What the PSF depends on."""
        return self.size, round(self.depth_m, 2), round(self.strength, 2)


class LiveCamera:
    """One camera for many threads."""

    def __init__(self, camera: Camera) -> None:
        self.description = describe_camera(camera)
        self.pixels = camera.lens.config.sensor_pixels
        self.sizes = tuple(dict.fromkeys(max(16, self.pixels // k) for k in (4, 2, 1)))
        self._config = camera.lens.described().model_copy(update={"max_window": WINDOWS[-1]})
        self._lens, self._sensor = self._with_sensor(self.pixels), camera.sensor.config
        self._psfs: OrderedDict[tuple[int, float, float], Psf] = OrderedDict()
        self._lock, self._computing = threading.Lock(), threading.Lock()

    def psf(self, shot: Shot) -> Psf:
        """(1, 3, m, m), sampled by the pixels of a sensor of shot.size."""
        key = shot.optics
        if (known := self._cached(key)) is not None:
            return known
        # one at a time: the first of a far distance takes seconds and gigabytes
        with self._computing:
            if (known := self._cached(key)) is None:
                known = self._compute(*key)
                self._keep(key, known)
            return known

    def capture(self, image: np.ndarray, shot: Shot) -> np.ndarray:
        """(size, size, 3) uint8: what the camera stores of an (h, w, 3) uint8 sRGB picture.

        As designed and with the sensor's own noise, it is capture.capture_photos bit for bit.
        """
        with torch.no_grad():
            scene = srgb_to_linear(to_photos([image], shot.size))
            one = torch.zeros(1, dtype=torch.long)
            irradiance = convolve(scene, self.psf(shot), one, border=self._lens.config.border)
            changed = {"read_noise_test": self._noise(shot)}
            sensor = Sensor(self._sensor.model_copy(update=changed)).eval()
            stored = sensor(irradiance, generator=torch.Generator().manual_seed(shot.seed))
            return to_images(linear_to_srgb(stored))[0]

    def restore(
        self, image: np.ndarray, shot: Shot, frames: int
    ) -> tuple[np.ndarray, float | None]:
        """What restoration with the known PSF makes of the mean of `frames` records.

        The scene goes on beyond the frame (mirrored), as it does for the attacks of the ladder: by
        the Wiener filter where the PSF allows that, else iteratively with the same prior.

        Returns:
            (size, size, 3) uint8 sRGB, and the cosine between the restored and the clear picture by
            a recogniser that expects faces in the template position; None without recogniser.
        """
        with torch.no_grad():
            photos = to_photos([image], shot.size)
            psf = trim(self.psf(shot), largest=2 * shot.size - 1)
            irradiance = cameras.convolve(srgb_to_linear(photos), psf, "reflect")
            law = cameras.NoiseLaw(max(self._noise(shot), QUIETEST), bits=self._sensor.bits)
            generator = torch.Generator().manual_seed(shot.seed)
            record = law.record(irradiance, generator=generator, frames=frames)
            rounding = (2**law.bits - 1) ** -2 / 12
            variance, prior = (law.read_noise**2 + rounding) / frames, face_prior(record)
            if mirror_suits(psf):
                restored = wiener(
                    record, psf, prior=prior, noise_variance=variance, border="reflect"
                )
            else:
                crop = SensorCrop(psf, shot.size)
                restored = solve(record, crop, prior=prior, noise_variance=variance)
            shown = linear_to_srgb(restored)
            return to_images(shown)[0], self._similarity(photos, shown)

    def surface(self, strength: float) -> np.ndarray:
        """(n, n) height of the surface [m], NaN outside the plate."""
        lens = self._at_strength(self._lens, SURFACE_FOCUS_M, round(strength, 2))
        radius = lens.system.aperture_radius_m
        axis = radius * (torch.arange(SURFACE_SIDE, dtype=torch.float64) + 0.5)
        axis = axis / (SURFACE_SIDE / 2) - radius
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        height = torch.full_like(x, torch.nan)
        plate = torch.hypot(x, y) < radius
        height[plate] = lens.surface_height(x[plate], y[plate])
        return height.numpy()

    def _cached(self, key: tuple[int, float, float]) -> Psf | None:
        with self._lock:
            if key in self._psfs:
                self._psfs.move_to_end(key)
            return self._psfs.get(key)

    def _keep(self, key: tuple[int, float, float], psf: Psf) -> None:
        with self._lock:
            self._psfs[key] = psf
            held = sum(kept.nbytes for kept in self._psfs.values())
            while held > CACHED_BYTES and len(self._psfs) > 1:
                held -= self._psfs.popitem(last=False)[1].nbytes

    def _noise(self, shot: Shot) -> float:
        return self._sensor.read_noise_test if shot.noise is None else round(shot.noise, 4)

    def _compute(self, size: int, depth_m: float, strength: float) -> Psf:
        lens = self._lens if size == self.pixels else self._with_sensor(size)
        with torch.no_grad():
            return self._at_strength(lens, depth_m, strength).psf(torch.tensor([depth_m]))

    def _with_sensor(self, size: int) -> Lens:
        """The lens over a sensor of so many pixels, at distances for which it was never trained."""
        config = self._config.model_copy(update={"sensor_pixels": size})
        return Lens(config).requires_grad_(False)

    @staticmethod
    def _at_strength(lens: Lens, depth_m: float, strength: float) -> Lens:
        """A copy, so that the lens itself keeps no PSFs; with strength 1 it is the same to a bit."""
        if strength == 1:
            return copy.deepcopy(lens)
        return LensOptics(lens, depth_m).at_strength(strength).lens

    @cached_property
    def _recogniser(self) -> Recogniser | None:
        if "dlib" in self.description["trained_against"]:
            return None  # what shaped the lens may not judge it
        try:
            return load_recogniser("dlib")
        except InputError:
            return None

    def _similarity(self, clear: Photo, restored: Photo) -> float | None:
        with self._lock:
            recogniser = self._recogniser
        if recogniser is None:
            return None
        first, second = recogniser(torch.cat([clear, restored]))
        return float(first @ second)


def face_prior(record: Scene) -> ScenePrior:
    """What the attacker expects: the record's own colour, and the spectrum of faces in general.

    No average face is put in: whatever is seen in the restored picture came through the lens.
    """
    size = record.shape[-1]
    face_pixels = FACE_SHARE * size
    radius = torch.linspace(0, 0.75, 256, dtype=torch.float64)  # beyond the corner, 0.71
    curve = face_spectrum(radius * face_pixels) * face_pixels**2
    mean = record.mean((-2, -1), keepdim=True).expand(-1, -1, size, size)
    return ScenePrior(mean, radius, curve.expand(3, -1))


person = lru_cache(maxsize=16)(portrait)
"""A rendered person, the last few kept in memory."""
