"""Face-analysis labels for LFW: five points and attributes from its 68-point landmark file.

LFW has no official labels of this kind. Where `lfw_lm68.npz` (68 points on the deep-funneled 250 px
images) and the gender lists stand beside the images, they give the utility loss something real to
read; without them the labels stay unknown.
"""

from __future__ import annotations

import dataclasses
import io
from pathlib import PurePosixPath

import numpy as np

from opticaldr.data.faceset import FaceSet
from opticaldr.types import InputError

ATTRIBUTES = ("Male", "Mouth_Slightly_Open", "Smiling", "Narrow_Eyes")
TEMPLATE = np.array(
    [(61.79, 75.57), (98.03, 75.37), (80.03, 96.19), (65.14, 117.40), (95.15, 117.24)]
)
"""The five template points in the 160 px crop (ArcFace template scaled by 0.72)."""
CROP = 160.0
MOUTH_OPEN, SMILE_WIDTH, NARROW_EYE = 0.12, 0.90, 0.236
"""Thresholds of lip gap / mouth width, mouth width / eye distance, eye height / width: about the
median, the median and the lower quartile over all of LFW."""


def label(faces: FaceSet, files: dict[str, bytes]) -> FaceSet:
    """Adds landmarks and ATTRIBUTES where `files` (name -> content) has the label files."""
    if "lfw_lm68.npz" not in files:
        return faces
    with np.load(io.BytesIO(files["lfw_lm68.npz"]), allow_pickle=False) as stored:
        missing = {"lm", "ok", "files"} - set(stored.files)
        if missing:
            raise InputError(
                f"Expected arrays lm, ok, files in lfw_lm68.npz, found no {min(missing)}; restore it."
            )
        points = {
            PurePosixPath(str(name)).name: marks
            for name, marks, found in zip(stored["files"], stored["lm"], stored["ok"], strict=True)
            if found
        }
    gender = {
        name.strip(): value
        for list_name, value in (("male_names.txt", 1.0), ("female_names.txt", 0.0))
        for name in files.get(list_name, b"").decode().split()
    }
    records = []
    for record in faces.records:
        name = PurePosixPath(record.key).name
        male = gender.get(name, np.nan)
        landmarks, attributes = (), (male, np.nan, np.nan, np.nan)
        if name in points:
            crop = to_crop(points[name].astype(float))
            landmarks = tuple((five_points(crop) / CROP).ravel().tolist())
            attributes = (male, *expressions(crop))
        records.append(dataclasses.replace(record, landmarks=landmarks, attributes=attributes))
    return dataclasses.replace(faces, records=tuple(records), attribute_names=ATTRIBUTES)


def five_points(marks: np.ndarray) -> np.ndarray:
    """Eye centres, nose tip, mouth corners (5, 2) of 68 points (iBUG order)."""
    return np.stack([marks[36:42].mean(0), marks[42:48].mean(0), marks[30], marks[48], marks[54]])


def to_crop(marks: np.ndarray) -> np.ndarray:
    """68 points in the 160 px crop: least-squares similarity of the five points to the template.

    With points as complex numbers, crop = a z + b; a carries scale and rotation.
    """
    source = five_points(marks) @ (1, 1j)
    target = TEMPLATE @ (1, 1j)
    design = np.stack([source, np.ones(5)], axis=1)
    (a, b), *_ = np.linalg.lstsq(design, target, rcond=None)
    crop = a * (marks @ (1, 1j)) + b
    return np.stack([crop.real, crop.imag], axis=1)


def expressions(crop: np.ndarray) -> tuple[float, float, float]:
    """Mouth open, smiling, narrow eyes (0 or 1) from ratios of distances between 68 points."""

    def distance(i: int, j: int) -> float:
        return float(np.linalg.norm(crop[i] - crop[j]))

    width = distance(48, 54)
    gap = (distance(61, 67) + distance(62, 66) + distance(63, 65)) / 3
    eyes = float(np.linalg.norm(five_points(crop)[0] - five_points(crop)[1]))
    lids = [(37, 41, 36, 39), (38, 40, 36, 39), (43, 47, 42, 45), (44, 46, 42, 45)]
    aperture = float(np.mean([distance(a, b) / max(distance(c, d), 1e-6) for a, b, c, d in lids]))
    return (
        float(gap / width > MOUTH_OPEN),
        float(width / eyes > SMILE_WIDTH),
        float(aperture < NARROW_EYE),
    )
