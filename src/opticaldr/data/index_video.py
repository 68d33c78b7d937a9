"""One recording indexed: faces followed, a sidecar written, images stored if asked; done once."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from opticaldr.data.aligned_video import aligned_batches, row_of
from opticaldr.data.recordings import Recording
from opticaldr.data.sidecar import FrameRow, Sidecar, read_sidecar, write_sidecar
from opticaldr.faces.detection import Detector
from opticaldr.faces.tracking import Seen, follow
from opticaldr.media import Frame, VideoReader, shown, write_image
from opticaldr.types import InputError

CROP_SIDE = 256
"""Of stored clear crops [px] (depression.md 1.3)."""
BATCH = 16

OnSecond = Callable[[int, int], None]
"""Called with the seconds of a video that are done and its length."""


class Recorder(Protocol):
    """What turns aligned faces into the images that are stored.

    folder: where they go, below the output folder. captured_by: sha256 of the lens.json, "" for
    clear faces. size: side [px]. settings: whatever else changes the pixels, as JSON values.
    """

    folder: str
    captured_by: str
    size: int
    settings: dict[str, Any]

    def __call__(self, faces: np.ndarray, *, key: str) -> np.ndarray:
        """(b, size, size, 3) uint8 sRGB faces to images of that shape; noise depends on the key."""
        ...


class ClearCrops:
    """Stores the aligned faces as they are."""

    folder = "crops"
    captured_by = ""
    size = CROP_SIDE

    def __init__(self) -> None:
        self.settings = {"clear crops": CROP_SIDE}

    def __call__(self, faces: np.ndarray, *, key: str) -> np.ndarray:
        return faces


class Unusable(InputError):
    """A recording that cannot be used; the others go on."""


@dataclass(frozen=True)
class Indexer:
    """How the recordings of one index are read; see data.index.index_recordings."""

    out: Path
    detector: Detector
    step_s: float
    detect_every: int
    recorder: Recorder | None

    def index(self, recording: Recording, on_second: OnSecond | None) -> tuple[Sidecar, bool]:
        """The sidecar of a recording, and whether it was made before and still holds.

        Raises:
            Unusable: the recording is no video that opens.
        """
        path = self.out / "frames" / f"{file_stem(recording)}.parquet"
        made_from = self._made_from(recording.path)
        if old := self._still_good(path, recording, made_from):
            return old, True
        try:
            video = VideoReader(recording.path)
        except InputError as error:
            raise Unusable(str(error)) from None
        with video:
            frames = _watched(video.sampled(self.step_s), video.duration_s, on_second)
            seen = follow(frames, self.detector, every=self.detect_every)
            rows = tuple(self._stored(recording, seen) if self.recorder else map(row_of, seen))
            sidecar = Sidecar(made_from, rows, video.error or "")
        write_sidecar(path, sidecar)  # last: a sidecar says that all images are there
        return sidecar, False

    def image_path(self, recording: Recording, row: FrameRow) -> Path:
        """Where the image of a frame is stored."""
        folder = self.out / self.recorder.folder / file_stem(recording)
        return folder / f"{row.frame:06d}.png"

    def _stored(self, recording: Recording, seen: Iterable[Seen]) -> Iterator[FrameRow]:
        for rows, faces in aligned_batches(seen, size=self.recorder.size, batch=BATCH):
            if len(faces):
                key = f"{recording.id}/{rows[0].frame}"
                images = self.recorder(faces, key=key)
                valid = (row for row in rows if row.success)
                for row, image in zip(valid, images, strict=True):
                    write_image(self.image_path(recording, row), image)
            yield from rows

    def _made_from(self, path: Path) -> dict[str, Any]:
        try:
            state = path.stat()
        except OSError as error:
            raise Unusable(
                f"Expected a video at {shown(path)}, found '{error.strerror}'; check the path."
            ) from None
        if path.is_dir():
            raise Unusable(
                f"Expected a video, found the folder {shown(path)}; frames that are aligned "
                "already need no index: train on them as they are."
            )
        return {
            "bytes": state.st_size,
            "modified_ns": state.st_mtime_ns,
            "step_s": self.step_s,
            "detector": self.detector.name,
            "detect_every": self.detect_every,
            "stored": self.recorder.settings if self.recorder else None,
        }

    def _still_good(
        self, path: Path, recording: Recording, made_from: dict[str, Any]
    ) -> Sidecar | None:
        """An earlier sidecar of the same video and settings, whose images are all there."""
        if not path.exists():
            return None
        try:
            old = read_sidecar(path)
        except InputError:  # damaged: made anew
            return None
        if old.made_from != made_from:
            return None
        if self.recorder and not all(self.image_path(recording, r).exists() for r in old.valid):
            return None
        return old


def file_stem(recording: Recording) -> str:
    """A file name for a recording: person.session.task; a digest tells unusual names apart."""
    if re.fullmatch(r"[A-Za-z0-9_/-]{1,200}", recording.id):
        return recording.id.replace("/", ".")
    digest = hashlib.sha256(os.fsencode(recording.id)).hexdigest()[:12]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", recording.id)[:60] + "." + digest


def _watched(
    frames: Iterable[Frame], length_s: float | None, on_second: OnSecond | None
) -> Iterator[Frame]:
    """The same frames, reported once a second of video."""
    done = -1
    for frame in frames:
        if on_second and int(frame.time_s) > done:
            done = int(frame.time_s)
            on_second(done, max(done, int(length_s or 0)))
        yield frame
