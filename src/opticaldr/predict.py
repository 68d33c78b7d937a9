"""Captures and severity estimates of pictures and videos: uint8 sRGB outside, tensors inside."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from opticaldr.camera import Camera
from opticaldr.media import Input, VideoReader, VideoWriter, read_image, square_crop, write_image
from opticaldr.model import OpticalDR, load_model
from opticaldr.notices import DISCLAIMER
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.results import read_json
from opticaldr.types import BDI_MAX, Capture, InputError, Photo

FRAMES_PER_BATCH = 16
BANDS = ((13, "minimal"), (19, "mild"), (28, "moderate"), (63, "severe"))
"""Upper ends of the BDI-II bands (manual; depression.md 5)."""

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


def in_batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of up to `size` items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


@dataclass(frozen=True)
class Estimate:
    """A BDI-II estimate of one image or video.

    score: in [0, 63]. ci90: 90 % interval from the errors on validation recordings, None if the run
    has no calibration. frame_scores: one per frame at frame_times [s].
    """

    source: str
    score: float
    ci90: tuple[float, float] | None
    frames: int
    valid_frames: int
    frame_times: list[float] = field(default_factory=list)
    frame_scores: list[float] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)

    @property
    def band(self) -> str:
        """BDI-II band of the score, halves rounded up (28.5 is severe)."""
        return next(name for upper, name in BANDS if math.floor(self.score + 0.5) <= upper)

    def to_json(self) -> dict[str, Any]:
        """One line of `predict --json`."""
        return {
            "input": self.source,
            "score": round(self.score, 2),
            "ci90": None if self.ci90 is None else [round(bound, 2) for bound in self.ci90],
            "band": self.band,
            "frames": self.frames,
            "valid_frames": self.valid_frames,
            "frame_times": [round(time, 4) for time in self.frame_times],
            "frame_scores": [round(score, 2) for score in self.frame_scores],
            "flags": self.flags,
            "disclaimer": DISCLAIMER,
        }


def read_half_width(path: Path) -> float | None:
    """Half width of the 90 % interval in a calibration.json; None if there is no such file."""
    if not path.exists():
        return None
    half_width = read_json(path).get("half_width")
    if not isinstance(half_width, int | float) or not half_width >= 0:
        raise InputError(
            f"Expected a half_width of 0 or more in {path}, found {half_width}; delete the file "
            "(no interval is shown then) or train the run again."
        )
    return half_width


class Predictor:
    """Severity of images and videos through a trained run.

    already_captured: the input was recorded by the camera itself, so no lens is simulated.
    """

    def __init__(self, run: Path, *, already_captured: bool = False, depth_m: float = 1.0) -> None:
        self.model: OpticalDR = load_model(run)
        self.already_captured = already_captured
        self.depth_m = depth_m
        self.half_width = read_half_width(run / "calibration.json")

    def predict(self, source: Input, *, seed: int = 0, on_frame: OnFrame | None = None) -> Estimate:
        """Estimates one image or video; frames are scored as they are read, none is kept."""
        generator = torch.Generator().manual_seed(seed)
        flags = ["centre crop: no face was looked for"]
        if self.half_width is None:
            flags.append("no calibration: interval unknown")
        if source.kind == "image":
            scores = self._score([read_image(source.path)], generator)
            return self._estimate(source, scores.tolist(), [0.0], flags)
        scores, times = [], []
        with VideoReader(source.path) as video:
            for frames in in_batches(video, FRAMES_PER_BATCH):
                scores += self._score([frame.image for frame in frames], generator).tolist()
                times += [frame.time_s for frame in frames]
                if on_frame:
                    on_frame(len(scores))
        if video.error:
            flags.append(f"damaged video, scored up to {times[-1]:.2f} s: {video.error}")
        return self._estimate(source, scores, times, flags)

    @torch.no_grad()
    def _score(self, images: list[np.ndarray], generator: torch.Generator) -> Tensor:
        photos = to_photos(images, self.model.camera.lens.config.sensor_pixels)
        if self.already_captured:
            capture = srgb_to_linear(photos)
        else:
            capture = capture_photos(
                self.model.camera, photos, depth_m=self.depth_m, generator=generator
            )
        together = torch.zeros(len(images), dtype=torch.long)  # the frames of one window
        return self.model.network(capture, together).severity

    def _estimate(
        self, source: Input, scores: list[float], times: list[float], flags: list[str]
    ) -> Estimate:
        if not all(np.isfinite(scores)):
            raise InputError(
                f"Expected finite scores for {source.path.name}, found NaN; the weights of the run "
                "are damaged: train it again."
            )
        score = float(np.clip(np.mean(scores), 0.0, BDI_MAX))
        interval = None
        if self.half_width is not None:
            interval = (max(0.0, score - self.half_width), min(BDI_MAX, score + self.half_width))
        return Estimate(
            source=str(source.path),
            score=score,
            ci90=interval,
            frames=len(scores),
            valid_frames=len(scores),
            frame_times=times,
            frame_scores=scores,
            flags=flags,
        )
