"""Aligned face crops: cut from one image by five points, or from a video by its sidecar."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from opticaldr.data.sidecar import FrameRow, read_sidecar
from opticaldr.faces.alignment import FIVE_POINTS, REFERENCE_SIDE, fit_similarity
from opticaldr.faces.tracking import Seen
from opticaldr.media import VideoReader
from opticaldr.types import InputError

MARGIN_PX = 3
"""Around what is cut out, for the filters that resize and turn it [px of the crop]."""

LARGEST_SHARE = 8
"""Of the image's long side that a crop may span; more is a mistake in the points."""


def cut(image: np.ndarray, points: np.ndarray, size: int) -> np.ndarray:
    """The face crop whose five points lie on the template (faces.alignment.FIVE_POINTS).

    The surroundings of the face are reduced with an antialiasing filter to the resolution of the
    crop, then moved and turned once. Beyond the image its border is repeated.

    Args:
        image: (h, w, 3) uint8 sRGB, upright.
        points: ten numbers or (5, 2): x, y of eyes, nose tip and mouth corners, image left first
            [px]; whole numbers are pixel centres.
        size: side of the crop [px].

    Returns:
        (size, size, 3) uint8 sRGB.
    """
    points = np.asarray(points, dtype=np.float64).reshape(5, 2)
    height, width = image.shape[:2]
    matrix = _crop_to_image(points, image, size)
    if matrix is None:
        raise InputError(
            f"Expected five points of a face in an image of {width} x {height} px, found "
            f"{points.round(1).tolist()}; give pixels of the upright image."
        )
    ends = np.array([-MARGIN_PX, size + MARGIN_PX])
    corners = matrix @ (np.repeat(ends, 2), np.tile(ends, 2), np.ones(4))
    low = np.floor(corners.min(1)).astype(int)
    high = np.ceil(corners.max(1)).astype(int)
    (left, top), (right, bottom) = low.clip(0), high.clip(None, (width, height))
    region = Image.fromarray(image[top:bottom, left:right])
    shrink = max(math.hypot(*matrix[:, 0]), 1.0)  # image px per crop px
    region = region.resize(
        (math.ceil(region.width / shrink), math.ceil(region.height / shrink)),
        Image.Resampling.HAMMING,
    )
    ratio = np.array([region.width / (right - left), region.height / (bottom - top)])
    before = np.ceil(((left, top) - low) * ratio).astype(int)
    after = np.ceil((high - (right, bottom)) * ratio).astype(int)
    padded = np.pad(region, (*zip(before[::-1], after[::-1], strict=True), (0, 0)), mode="edge")
    matrix[:, 2] -= (left, top)
    matrix *= ratio[:, None]
    matrix[:, 2] += before
    crop = Image.fromarray(padded).transform(
        (size, size), Image.Transform.AFFINE, tuple(matrix.ravel()), Image.Resampling.BICUBIC
    )
    return np.array(crop)


def aligned_batches(
    seen: Iterable[Seen], *, size: int, batch: int
) -> Iterator[tuple[list[FrameRow], np.ndarray]]:
    """Frames as they are followed, as rows and crops; no more than `batch` crops are held.

    Yields:
        Rows of successive frames, with a face or without, and the (n, size, size, 3) uint8 crops of
        those with a face, in the same order; n is 0 in a long stretch without a face.
    """
    rows: list[FrameRow] = []
    crops: list[np.ndarray] = []
    for one in seen:
        rows.append(row_of(one))
        if rows[-1].success:
            crops.append(cut(one.frame.image, one.face.points, size))
        if len(crops) == batch or len(rows) == 4 * batch:
            yield rows, _stacked(crops, size)
            rows, crops = [], []
    if rows:
        yield rows, _stacked(crops, size)


def row_of(seen: Seen) -> FrameRow:
    """The sidecar's row about a frame; a face whose middle lies outside the image is none."""
    frame, face = seen.frame, seen.face
    if face and _crop_to_image(face.points, frame.image, REFERENCE_SIDE) is None:
        face = None
    own = (frame.number, frame.pts, frame.time_s, face is not None, seen.faces)
    if face is None:
        return FrameRow(*own)
    return FrameRow(*own, face.confidence, face.box, tuple(face.points.ravel().tolist()))


def aligned_frames(
    video: Path, sidecar: Path, *, size: int
) -> Iterator[tuple[FrameRow, np.ndarray]]:
    """The frames of a video in which its sidecar has a face, cut to the template, in one pass.

    Yields:
        The sidecar's row and the (size, size, 3) uint8 crop.
    """
    wanted = {row.frame: row for row in read_sidecar(sidecar).rows if row.success}
    with VideoReader(video) as reader:
        for frame in reader:
            if row := wanted.get(frame.number):
                if row.pts != frame.pts:
                    raise InputError(
                        f"Expected frame {row.frame} of {video} at tick {row.pts} as in {sidecar}, "
                        f"found it at {frame.pts}; the video was changed: index it again."
                    )
                yield row, cut(frame.image, row.points, size)


def _crop_to_image(points: np.ndarray, image: np.ndarray, size: int) -> np.ndarray | None:
    """(2, 3) from crop to image, 0 being the edge of either; None if the points are no face."""
    height, width = image.shape[:2]
    wanted = (FIVE_POINTS + 0.5) * (size / REFERENCE_SIDE)
    matrix = fit_similarity(wanted, points + 0.5)
    side = math.hypot(*matrix[:, 0]) * size
    centre = matrix @ (size / 2, size / 2, 1)
    # NaN fails every comparison
    inside = (centre >= 0).all() and (centre <= (width, height)).all()
    return matrix if inside and 0 < side <= LARGEST_SHARE * max(height, width) else None


def _stacked(crops: list[np.ndarray], size: int) -> np.ndarray:
    return np.stack(crops) if crops else np.empty((0, size, size, 3), np.uint8)
