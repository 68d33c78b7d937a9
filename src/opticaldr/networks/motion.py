"""How the frames of a recording move: what is followed in each frame, and how fast it changes.

Head and face motion are the cues of severity that a blur leaves best (depression.md 6.1). Positions
are in units of the crop side, speeds per second: neither depends on the frame rate, on the order of
the frames in a batch or on the contrast of a picture.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from opticaldr.types import Photo

GRID = 16
"""Side of the thumbnail in which motion is followed [px]: coarser than any blur of interest."""
WINDOW = 0.2
"""Width (one SD) of the window around the middle of the face, in crop sides: less background."""
SHIFTS, POSES, TRAITS = 4, 6, 3
"""What is followed in a frame: displacement, pose of the five points, projections of features."""
USUAL_CHANGE = 0.015
"""Typical RMS change of a place over a lag, in crop sides; that of a trait is 1. Only a scale."""
SPEED_FLOOR = 1e-3
"""Speed below which motion is noise [1/s]: a tenth of a pixel a second in a crop of 100 px."""


class MotionSummary(nn.Module):
    """How fast recordings move: (r, width), a row per recording.

    Logarithm of the mean square speed of traits, displacement and pose at every lag, on a scale
    where 0 is usual. Traits are projections of normalised network features on TRAITS directions
    that are drawn once and stay: directions that learn, and means beside speeds, remember the
    people of some hundred recordings. No statistics of a batch take part, so that a recording is
    summarised the same in any company.
    """

    def __init__(self, features: int, *, lags_s: tuple[float, ...]) -> None:
        super().__init__()
        self.lags_s = lags_s
        directions = nn.init.normal_(torch.empty(features, TRAITS), std=features**-0.5)
        self.register_buffer("directions", directions)  # drawn once, as weights are, and kept
        self.width = (TRAITS + SHIFTS + POSES) * len(lags_s)

    def forward(
        self,
        features: Float[Tensor, "b f"],
        tracks: Float[Tensor, "b 10"],
        which: Int[Tensor, "b"],
        time_s: Float[Tensor, "b"],
    ) -> Float[Tensor, "r w"]:
        """features, tracks (see follow) and time_s [s]: of frames. which: as in mean_square_speed."""
        traits = functional.layer_norm(features, features.shape[1:]) @ self.directions
        moving = torch.cat([traits, tracks / USUAL_CHANGE], dim=1)
        floor = (SPEED_FLOOR / USUAL_CHANGE) ** 2
        speeds = []
        for lag in self.lags_s:
            speed, known = mean_square_speed(moving, which, time_s, lag_s=lag)
            speeds.append(known * (lag**2 * (speed + floor)).log())
        return torch.cat(speeds, dim=1)


def follow(
    images: Photo, landmarks: Float[Tensor, "b 10"], recordings: Int[Tensor, "b"]
) -> Float[Tensor, "b 10"]:
    """Where the head is in each frame: shift (4), then pose (6)."""
    return torch.cat([shift(images, recordings), pose(landmarks)], dim=1)


def pose(landmarks: Float[Tensor, "b 10"]) -> Float[Tensor, "b 6"]:
    """Where five points put the head: x, y, size, roll, yaw, pitch, all in crop sides.

    Yaw and pitch are those of the nose against the middle of eyes and mouth, small-angle.
    """
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks.view(-1, 5, 2).unbind(1)
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    middle = (eyes + mouth) / 2
    width, height = (right_eye - left_eye)[:, 0], (mouth - eyes)[:, 1]
    roll = (right_eye - left_eye)[:, 1]
    return torch.cat([middle, ((width + height) / 2)[:, None], roll[:, None], nose - middle], dim=1)


def shift(images: Photo, recordings: Int[Tensor, "b"]) -> Float[Tensor, "b 4"]:
    """Displacement of each frame against the mean frame M of its recording, from the pixels alone.

    M, moved by small amounts p of shift, enlargement and turn, is M - G p, so that least squares in
    a window on the face gives p = (G'WG)^-1 G'W (M - I) (Lucas & Kanade 1981). It is exact for
    motions that are small against the details of M: what a blur takes in detail it gives in range.

    Returns:
        x, y, enlargement and turn in crop sides (the last two half a side from the middle).
    """
    _, which = torch.unique(recordings, return_inverse=True)
    grey = functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), GRID).flatten(1)
    mean = average(grey, which)
    basis, window = moves(mean)
    weighted = (basis * window[:, None]).mT
    normal = weighted @ basis
    floor = 1e-3 * normal.diagonal(dim1=1, dim2=2).mean(1) + 1e-6  # an even picture moves nowhere
    normal = normal + floor[:, None, None] * torch.eye(SHIFTS).to(normal)
    return torch.linalg.solve(normal, weighted @ (mean - grey)[:, :, None])[:, :, 0]


def moves(mean: Float[Tensor, "k p"]) -> tuple[Float[Tensor, "k p 4"], Float[Tensor, "p"]]:
    """G of shift for mean frames of p = GRID^2 pixels, and the weights W of the window on the face."""
    padded = functional.pad(mean.view(-1, 1, GRID, GRID), (1, 1, 1, 1), mode="replicate")[:, 0]
    slope_x = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * (GRID / 2)
    slope_y = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * (GRID / 2)
    place = (torch.arange(GRID).to(mean) + 0.5) / GRID - 0.5
    y, x = place[:, None], place[None, :]
    window = torch.exp(-(x.square() + y.square()) / (2 * WINDOW**2)).flatten()
    basis = [slope_x, slope_y, 2 * (x * slope_x + y * slope_y), 2 * (x * slope_y - y * slope_x)]
    return torch.stack([move.flatten(1) for move in basis], dim=2), window


def average(values: Float[Tensor, "b d"], which: Int[Tensor, "b"]) -> Float[Tensor, "b d"]:
    """Mean over the rows of each recording, given back to every row of it."""
    count = torch.bincount(which).to(values)[:, None]
    total = values.new_zeros(len(count), values.shape[1]).index_add(0, which, values)
    return (total / count)[which]


def mean_square_speed(
    signals: Float[Tensor, "b d"],
    which: Int[Tensor, "b"],
    time_s: Float[Tensor, "b"],
    *,
    lag_s: float,
) -> tuple[Float[Tensor, "r d"], Float[Tensor, "r 1"]]:
    """Mean of ((x(t + lag) - x(t)) / lag)^2 over each recording [1/s^2]; 1 where it is known, or 0.

    A fixed lag in seconds makes the speed independent of the frame rate, noise included. Between
    frames x is interpolated; frames before a long gap count less, because interpolation across it
    would look like a face that holds still. A recording shorter than the lag is compared over its
    whole length; one frame (or frames without a time) moves at speed 0, which is not known.

    Args:
        signals: d numbers per frame, in any order of frames.
        which: recording of each frame, numbered from 0 without a gap.
        time_s: time of each frame in its recording [s].
        lag_s: the lag [s].
    """
    time = time_s.double()
    recordings = int(which.max()) + 1
    start = time.new_full((recordings,), torch.inf).scatter_reduce(0, which, time, "amin")
    span = time.new_zeros(recordings).scatter_reduce(0, which, time - start[which], "amax")
    lag = span.clamp(max=lag_s)
    offset = torch.arange(recordings).to(time) * (span.max() + 1)  # one recording after the other
    axis, order = torch.sort(time - start[which] + offset[which])
    row = which[order]
    target, end = axis + lag[row], (span + offset)[row]
    inside = (target <= end + 1e-6) & (lag[row] > 0)
    target = torch.minimum(target, end)
    right = torch.searchsorted(axis, target)
    left = (right - 1).clamp_min(0)
    gap = (axis[right] - axis[left]).clamp_min(1e-9)
    share = ((target - axis[left]) / gap).to(signals)[:, None]
    weight = torch.where(inside, (lag[row] / torch.maximum(gap, lag[row])).square(), 0.0)
    ordered = signals[order]
    change = ordered[left] * (1 - share) + ordered[right] * share - ordered
    weight = weight.to(signals)[:, None]
    total = signals.new_zeros(recordings, signals.shape[1]).index_add(
        0, row, weight * change.square()
    )
    weights = signals.new_zeros(recordings, 1).index_add(0, row, weight)
    known = (span > 0)[:, None]
    per_s2 = weights * lag.clamp_min(1e-9).square().to(signals)[:, None]
    return torch.where(known, total / per_s2.clamp_min(1e-30), 0.0), known.to(signals)
