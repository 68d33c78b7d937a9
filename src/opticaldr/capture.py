"""What a camera records of pictures and videos: uint8 sRGB outside, tensors inside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opticaldr.camera import Camera, describe_camera
from opticaldr.media import Input, VideoReader, VideoWriter, read_image, square_crop, write_image
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.seeds import generator_for
from opticaldr.types import Capture, Photo

FRAMES_PER_BATCH = 16

OnFrame = Callable[[int], None]


def to_photos(images: Iterable[np.ndarray], size: int) -> Photo:
    """(h, w, 3) uint8 images to (b, 3, size, size) sRGB in [0, 1]: centre square, resized."""
    squares = np.stack([square_crop(image, size) for image in images])
    return torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255


def to_images(photos: Photo) -> np.ndarray:
    """(b, 3, s, s) sRGB in [0, 1] to (b, s, s, 3) uint8."""
    return (photos.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def capture_photos(
    camera: Camera, photos: Photo, *, depth_m: float, generator: torch.Generator
) -> Capture:
    """What the camera stores of sRGB photos held at depth_m [m]; linear, (b, 3, s, s)."""
    depth = torch.full((photos.shape[0],), depth_m)
    return camera(srgb_to_linear(photos), depth, generator=generator)


def capture_file(
    camera: Camera,
    source: Input,
    target: Path,
    *,
    depth_m: float,
    seed: int,
    on_frame: OnFrame | None = None,
) -> str | None:
    """Writes what the camera would record of an image or a video (timestamps kept, sound dropped).

    Returns None, or what was wrong with a video of which only a part could be read.
    """
    generator = torch.Generator().manual_seed(seed)
    size = camera.lens.config.sensor_pixels
    if source.kind == "image":
        photos = to_photos([read_image(source.path)], size)
        stored = capture_photos(camera, photos, depth_m=depth_m, generator=generator)
        write_image(target, to_images(linear_to_srgb(stored))[0])
        return None
    with (
        VideoReader(source.path) as video,
        VideoWriter(target, time_base=video.time_base, rate=video.rate) as out,
    ):
        done = 0
        for frames in in_batches(video, FRAMES_PER_BATCH):
            photos = to_photos([frame.image for frame in frames], size)
            stored = capture_photos(camera, photos, depth_m=depth_m, generator=generator)
            for image, frame in zip(to_images(linear_to_srgb(stored)), frames, strict=True):
                out.write(image, frame.pts)
            done += len(frames)
            if on_frame:
                on_frame(done)
    return video.error


class FaceRecorder:
    """A camera that records aligned faces as capture_file does (data.index_video.Recorder).

    The noise of a batch depends on the seed and its key alone, so work that was stopped goes on
    bit for bit.
    """

    folder = "captures"

    def __init__(self, camera: Camera, *, depth_m: float, seed: int) -> None:
        self.captured_by: str = describe_camera(camera)["sha256"]
        self.size = camera.lens.config.sensor_pixels
        self.settings = {"captured_by": self.captured_by, "depth_m": depth_m, "seed": seed}
        self._camera = camera
        self._depth_m = depth_m
        self._seed = seed

    @property
    def is_sharp(self) -> bool:
        """Whether half the light or more falls within a pixel of its place: faces stay clear."""
        psf = self._camera.lens.psf(torch.tensor([self._depth_m]))
        axis = psf.shape[-1] // 2
        near = slice(axis - 1, axis + 2)
        return bool(psf[..., near, near].sum((-2, -1)).max() >= 0.5)

    def __call__(self, faces: np.ndarray, *, key: str) -> np.ndarray:
        """(b, size, size, 3) uint8 sRGB faces to captures of the same shape."""
        photos = to_photos(faces, self.size)
        generator = generator_for(self._seed, "capture", key)
        stored = capture_photos(self._camera, photos, depth_m=self._depth_m, generator=generator)
        return to_images(linear_to_srgb(stored))


def in_batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of up to `size` items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
