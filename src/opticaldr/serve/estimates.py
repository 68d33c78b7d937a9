"""Scores of uploads through predict.Predictor: one loaded run, any distance, nothing on disk."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opticaldr.faces.detection import (
    Box,
    Detection,
    Detector,
    DlibDetector,
    detector_installed,
)
from opticaldr.media import Frame, VideoReader
from opticaldr.model import OpticalDR
from opticaldr.predict import OnFrame, Predictor, still
from opticaldr.serve.uploads import Upload
from opticaldr.types import InputError


@dataclass(frozen=True)
class Question:
    """How an upload is to be read: as `predict` takes it. detect: False = the centre square."""

    already_captured: bool = False
    detect: bool = True
    depth_m: float = 1.0
    seed: int = 0


class OneAtATime:
    """A detector for many threads: dlib's computes without Python's lock and keeps buffers."""

    def __init__(self, detector: Detector) -> None:
        self.name = detector.name
        self._detector, self._lock = detector, threading.Lock()

    def __call__(self, image: np.ndarray) -> list[Detection]:
        with self._lock:
            return self._detector(image)

    def points_in(self, image: np.ndarray, box: Box) -> np.ndarray:
        with self._lock:
            return self._detector.points_in(image, box)


class Estimator:
    """A trained run for many threads."""

    def __init__(self, run: Path) -> None:
        self._predictor = Predictor(run)
        self._detector = OneAtATime(DlibDetector()) if detector_installed() else None

    def image(self, image: np.ndarray, name: str, question: Question) -> dict[str, Any]:
        """The line of `predict --json` of an (h, w, 3) picture; InputError if no face is found."""
        return self._predict(still(image), name, question, None)

    def video(
        self, upload: Upload, question: Question, on_frame: OnFrame, *, max_pixels: int
    ) -> dict[str, Any]:
        """As `image`; on_frame is called with the frames done, and ends the work if it raises."""
        source = io.BytesIO(upload.data)
        with VideoReader(source, name=upload.name, max_pixels=max_pixels) as frames:
            return self._predict(frames, upload.name, question, on_frame)

    def _predict(
        self, frames: Iterable[Frame], name: str, question: Question, on_frame: OnFrame | None
    ) -> dict[str, Any]:
        predictor = self._as_asked(question)
        try:
            return predictor.predict_frames(
                frames, name=name, seed=question.seed, on_frame=on_frame
            ).to_json()
        except InputError as error:
            raise InputError(str(error).replace("--no-detect", "detect=false")) from None

    def _as_asked(self, question: Question) -> Predictor:
        """A predictor with its own camera, which caches PSFs and is not meant for many threads."""
        predictor = copy.copy(self._predictor)
        model = predictor.model
        predictor.model = OpticalDR(copy.deepcopy(model.camera), model.network)
        predictor.already_captured = question.already_captured
        predictor.depth_m = round(question.depth_m, 2)
        looks = question.detect and not question.already_captured
        predictor.detector = self._detector if looks else None
        return predictor
