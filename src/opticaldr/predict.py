"""Severity estimates of pictures and videos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from opticaldr.capture import FRAMES_PER_BATCH, OnFrame, capture_photos, in_batches, to_photos
from opticaldr.data.aligned_video import aligned_batches
from opticaldr.data.sidecar import FrameRow
from opticaldr.evaluate import CLIP_FRAMES
from opticaldr.faces.detection import Detector
from opticaldr.faces.tracking import follow
from opticaldr.media import Frame, Input, VideoReader, read_image, shown, square_crop
from opticaldr.metrics import BANDS, band_numbers
from opticaldr.model import OpticalDR, load_model
from opticaldr.notices import DISCLAIMER
from opticaldr.optics.colour import srgb_to_linear
from opticaldr.results import read_json
from opticaldr.types import BDI_MAX, InputError

DETECT_EVERY = 5
"""Of the frames of a video, the detector looks at every so-many-th (faces.tracking)."""
SHORT = 10
"""A score from fewer frames with a face is flagged: intervals are measured on whole recordings."""


@dataclass(frozen=True)
class Estimate:
    """A BDI-II estimate of one image or video.

    score: in [0, 63]: the mean over valid frames. ci90: 90 % interval from the errors on validation
    recordings, None if the run has no calibration. frames: that were looked at; valid_frames: those
    that were scored. frame_scores: one per valid frame, at frame_times [s].
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
        return BANDS[int(band_numbers(np.array(self.score)))][1]

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
    detector: finds the face, which is aligned as in training; None takes the centre square of every
    frame. Captures are always taken whole: no detector finds a face in them.
    """

    def __init__(
        self,
        run: Path,
        *,
        already_captured: bool = False,
        depth_m: float = 1.0,
        detector: Detector | None = None,
    ) -> None:
        self.model: OpticalDR = load_model(run)
        self.already_captured = already_captured
        self.depth_m = depth_m
        self.detector = None if already_captured else detector
        self.half_width = read_half_width(run / "calibration.json")

    def predict(self, source: Input, *, seed: int = 0, on_frame: OnFrame | None = None) -> Estimate:
        """Estimates one image or video; frames are scored as they are read, none is kept.

        Raises:
            InputError: the file cannot be read, or no frame shows a face.
        """
        with _opened(source) as frames:
            return self.predict_frames(
                frames, name=shown(source.path), seed=seed, on_frame=on_frame
            )

    def predict_frames(
        self,
        seen: Iterable[Frame],
        *,
        name: str,
        seed: int = 0,
        on_frame: OnFrame | None = None,
    ) -> Estimate:
        """As predict, for frames of one recording in the order of their times; name: as it is shown."""
        generator = torch.Generator().manual_seed(seed)
        frames = crowded = 0
        end_s = 0.0
        times: list[float] = []
        scores: list[float] = []
        for rows, faces in self._faces(seen):
            seen_s = [row.time_s for row in rows if row.success]
            if len(faces):
                scores += self._score(faces, seen_s, generator).tolist()
            times += seen_s
            frames, end_s = frames + len(rows), rows[-1].time_s
            crowded += sum(row.faces > 1 for row in rows)
            if on_frame:
                on_frame(frames)
        damage = seen.error if isinstance(seen, VideoReader) else None
        if not scores:
            raise InputError(
                f"Expected a face in {name}, found none in {_count(frames)}; "
                "check the input, or take the centre of the picture with --no-detect."
            )
        flags = [] if self.detector else ["centre crop: no face was looked for"]
        if len(scores) < frames:
            flags.append(f"no face found in {frames - len(scores)} of {_count(frames)}")
        if crowded:
            flags.append(
                f"several faces in {crowded} of {_count(frames)}: the largest is followed as long "
                "as it stays in place"
            )
        if len(scores) < SHORT:
            flags.append(f"short: {_count(len(scores))}; intervals are those of whole recordings")
        if damage:
            flags.append(f"damaged video, scored up to {end_s:.2f} s: {damage}")
        if self.half_width is None:
            flags.append("no calibration: interval unknown")
        return self._estimate(name, scores, times, frames, flags)

    def _faces(self, frames: Iterable[Frame]) -> Iterator[tuple[list[FrameRow], np.ndarray]]:
        """What was seen in successive frames, and the crops of those with a face."""
        size = self.model.camera.lens.config.sensor_pixels
        whole_clips = self.model.network.config.temporal != "frames"
        batch = CLIP_FRAMES if whole_clips else FRAMES_PER_BATCH
        if self.detector:
            seen = follow(frames, self.detector, every=DETECT_EVERY)
            yield from aligned_batches(seen, size=size, batch=batch)
            return
        for some in in_batches(frames, batch):
            rows = [FrameRow(f.number or 0, f.pts, f.time_s, True, 0) for f in some]
            yield rows, np.stack([square_crop(frame.image, size) for frame in some])

    @torch.no_grad()
    def _score(
        self, images: np.ndarray, times_s: list[float], generator: torch.Generator
    ) -> Tensor:
        photos = to_photos(images, self.model.camera.lens.config.sensor_pixels)
        if self.already_captured:
            capture = srgb_to_linear(photos)
        else:
            capture = capture_photos(
                self.model.camera, photos, depth_m=self.depth_m, generator=generator
            )
        together = torch.zeros(len(images), dtype=torch.long)  # the frames of one window
        times = torch.tensor(times_s, dtype=torch.float64)
        return self.model.network(capture, together, times).severity

    def _estimate(
        self,
        name: str,
        scores: list[float],
        times: list[float],
        frames: int,
        flags: list[str],
    ) -> Estimate:
        if not all(np.isfinite(scores)):
            raise InputError(
                f"Expected finite scores for {name}, found NaN; the weights of the run are damaged: "
                "train it again."
            )
        score = float(np.clip(np.mean(scores), 0.0, BDI_MAX))
        interval = None
        if self.half_width is not None:
            interval = (max(0.0, score - self.half_width), min(BDI_MAX, score + self.half_width))
        return Estimate(
            source=name,
            score=score,
            ci90=interval,
            frames=frames,
            valid_frames=len(scores),
            frame_times=times,
            frame_scores=scores,
            flags=flags,
        )


def still(image: np.ndarray) -> list[Frame]:
    """An (h, w, 3) uint8 image as the one frame that it is."""
    return [Frame(image, 0, Fraction(1), 0)]


@contextmanager
def _opened(source: Input) -> Iterator[VideoReader | list[Frame]]:
    """The frames of a video or of an image."""
    if source.kind == "image":
        yield still(read_image(source.path))
    else:
        with VideoReader(source.path) as video:
            yield video


def _count(frames: int) -> str:
    return "1 frame" if frames == 1 else f"{frames} frames"
