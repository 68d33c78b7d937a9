"""The two graphs that are exported, as modules that the ONNX exporter can follow.

HeadOnly   what a real camera recorded -> readings
WithLens   clear pictures -> lens at one depth -> sensor -> capture and readings

The frames of a call are one window: a picture, pictures of their own ("frames"), or successive
frames of one person ("moments", "dynamics"). Colour encoding and normalisation are inside.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from opticaldr.camera import Camera
from opticaldr.networks.face_reader import FaceReader
from opticaldr.onnx_window import severity_of
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.types import Capture, Irradiance, Photo, Scene

WINDOWED = ("moments", "dynamics")
"""Values of network.temporal with which a window has one score; with "frames" each frame has."""


class Readings(nn.Module):
    """FaceReader for the frames of one window: (severity, emotion, landmarks[, attributes]).

    names: of the outputs; attributes are left out of a network that reads none.
    """

    def __init__(self, network: FaceReader) -> None:
        super().__init__()
        self.network = network
        attributes = ["attributes"] if network.config.attribute_names else []
        self.names = ["severity", "emotion", "landmarks", *attributes]
        self.needs_times = network.config.temporal == "dynamics"

    def forward(self, photos: Photo, times_s: Float[Tensor, "n"] | None) -> tuple[Tensor, ...]:
        """photos: sRGB captures in [0, 1]. times_s: of the frames [s], if needs_times."""
        emotion, depression = self.network.emotion, self.network.depression
        images = (photos - 0.5) / 0.25
        shared = emotion.extract(images)
        both = torch.cat([shared, depression.extract(images)], dim=1)
        landmarks = emotion.landmarks(shared)
        severity = severity_of(depression, both, images, landmarks, times_s)
        readings = (severity, emotion.emotion(shared), landmarks)
        if "attributes" in self.names:
            readings += (emotion.attributes(shared),)
        return readings


class HeadOnly(nn.Module):
    """For a real camera with this lens: its sRGB pictures in, readings out."""

    name = "head_only"

    def __init__(self, network: FaceReader) -> None:
        super().__init__()
        self.readings = Readings(network)
        self.inputs = ["picture"] + (["times_s"] if self.readings.needs_times else [])
        self.outputs = self.readings.names

    def forward(self, picture: Photo, times_s: Tensor | None = None) -> tuple[Tensor, ...]:
        """picture: (n, 3, s, s) sRGB in [0, 1]."""
        return self.readings(picture.clamp(0.0, 1.0), times_s)


class WithLens(nn.Module):
    """Simulated camera and network: clear sRGB pictures in, captures and readings out."""

    name = "with_lens"

    def __init__(self, camera: Camera, network: FaceReader, *, depth_m: float) -> None:
        super().__init__()
        self.lens = LensAtDepth(camera, depth_m)
        self.sigma = camera.sensor.config.read_noise_test
        self.levels = 2**camera.sensor.config.bits - 1
        self.readings = Readings(network)
        self.inputs = ["picture", "noise"] + (["times_s"] if self.readings.needs_times else [])
        self.outputs = ["capture", *self.readings.names]

    def forward(
        self, picture: Photo, noise: Float[Tensor, "n 3 s s"], times_s: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """picture: (n, 3, s, s) sRGB in [0, 1]. noise: a standard normal draw, or zeros for none."""
        light = self.before_rounding(self.lens(srgb_to_linear(picture.clamp(0.0, 1.0))), noise)
        capture: Capture = (light * self.levels).round() / self.levels
        return capture, *self.readings(linear_to_srgb(capture), times_s)

    def before_rounding(self, light: Irradiance, noise: Tensor) -> Irradiance:
        """What the sensor rounds to its levels (Sensor.forward)."""
        return (light + self.sigma * noise).clamp(0.0, 1.0)


class LensAtDepth(nn.Module):
    """Lens.forward for one depth: convolution with a constant point spread function.

    The Fourier transforms are products with constant matrices of waves: unlike an FFT they need no
    handy size, cut off what is not wanted on the way, and run everywhere (onnxruntime's DFT takes
    longer than the network). Circular of a side so long that what wraps round falls outside the
    part that is kept.
    """

    def __init__(self, camera: Camera, depth_m: float) -> None:
        super().__init__()
        psf = camera.lens.psf(torch.tensor([depth_m]))[0].double()
        size, extent = camera.lens.config.sensor_pixels, psf.shape[-1]
        self.margin = extent // 2 if camera.lens.config.border == "reflect" else 0
        start, wide = extent // 2 + self.margin, size + 2 * self.margin
        side = max(wide + extent - 1 - start, start + size, extent)
        transfer = torch.fft.rfft2(psf, s=(side, side))
        bins = transfer.shape[-1]
        twice = torch.full((bins, 1), 2.0)  # for the half of the spectrum that is left out
        twice[0] = 1.0
        twice[side // 2 :] = 1.0 if side % 2 == 0 else 2.0
        scene, kept = torch.arange(wide), torch.arange(start, start + size)
        constants = {
            "real": transfer.real,
            "imaginary": transfer.imag,
            "along": torch.cat(_waves(scene, torch.arange(bins), side), dim=1),
            "down": _complex(*_waves(torch.arange(side), scene, side)),
            "up": _complex(*_waves(kept, -torch.arange(side), side)) / side,
            "back": torch.cat(_waves(torch.arange(bins), kept, side)) * twice.repeat(2, 1) / side,
        }
        for name, values in constants.items():
            self.register_buffer(name, values.float())

    def forward(self, scene: Scene) -> Irradiance:
        """(n, 3, s, s) linear light in [0, 1] to the same shape."""
        if self.margin:
            scene = nn.functional.pad(scene, (self.margin,) * 4, mode="reflect")
        rows = (scene @ self.along).chunk(2, dim=-1)  # real and imaginary parts of every row
        real, imaginary = (self.down @ torch.cat(rows, dim=-2)).chunk(2, dim=-2)
        blurred = [
            real * self.real - imaginary * self.imaginary,
            real * self.imaginary + imaginary * self.real,
        ]
        rows = (self.up @ torch.cat(blurred, dim=-2)).chunk(2, dim=-2)
        return torch.cat(rows, dim=-1) @ self.back


def _waves(first: Tensor, second: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of exp(-2 pi i first second / side), (len(first), len(second))."""
    turns = (first[:, None] * second[None, :]).remainder(side).double() / side
    return (2 * torch.pi * turns).cos(), -(2 * torch.pi * turns).sin()


def _complex(real: Tensor, imaginary: Tensor) -> Tensor:
    """The matrix of a complex product on stacked parts: [real; imaginary] -> [real; imaginary]."""
    return torch.cat([torch.cat([real, -imaginary], 1), torch.cat([imaginary, real], 1)])
