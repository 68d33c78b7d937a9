"""What a branch reads from the frames of one window, in operators that ONNX has.

The same numbers as `networks` gives for a batch that holds one recording (there, any number): ONNX
has no linear solve, no search in a sorted list and no sums by label. Results have one row.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from opticaldr.networks import motion
from opticaldr.networks.face_reader import MOTION_FLOOR, DepressionBranch
from opticaldr.networks.motion import GRID, SHIFTS, MotionSummary
from opticaldr.types import BDI_MAX, Photo


def severity_of(
    branch: DepressionBranch,
    features: Float[Tensor, "n f"],
    images: Photo,
    landmarks: Float[Tensor, "n 10"],
    times_s: Float[Tensor, "n"] | None,
) -> Tensor:
    """BDI-II scores of the frames of one window: (n,) with "frames", otherwise (1,).

    images: as the branch sees them. times_s: of the frames [s], for "dynamics" only.
    """
    if branch.temporal == "moments":
        features = moments(features)
    if branch.temporal == "dynamics":
        tracks = torch.cat([shift(images), motion.pose(landmarks)], dim=1)
        features = summary(branch.motion, features, tracks, times_s)
    return BDI_MAX * branch.head(features).squeeze(1)


def moments(features: Float[Tensor, "n f"]) -> Float[Tensor, "1 2f"]:
    """Mean and log variance over the window (networks.face_reader.moments)."""
    mean = features.mean(0, keepdim=True)
    spread = (features - mean).square().mean(0, keepdim=True)
    return torch.cat([mean, (spread + MOTION_FLOOR).log()], dim=1)


def summary(
    parts: MotionSummary,
    features: Float[Tensor, "n f"],
    tracks: Float[Tensor, "n 10"],
    times_s: Float[Tensor, "n"],
) -> Float[Tensor, "1 w"]:
    """How fast things move in the window (networks.motion.MotionSummary)."""
    traits = functional.layer_norm(features, features.shape[1:]) @ parts.directions
    moving = torch.cat([traits, tracks / motion.USUAL_CHANGE], dim=1)
    floor = (motion.SPEED_FLOOR / motion.USUAL_CHANGE) ** 2
    speeds = []
    for lag in parts.lags_s:
        speed, known = mean_square_speed(moving, times_s, lag_s=lag)
        speeds.append(known * (lag**2 * (speed + floor)).log())
    return torch.cat(speeds)[None]


def shift(images: Photo) -> Float[Tensor, "n 4"]:
    """Displacement of each frame against the mean frame of the window (networks.motion.shift)."""
    grey = functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), GRID).flatten(1)
    mean = grey.mean(0)
    basis, window = motion.moves(mean[None])
    basis = basis[0]
    weighted = (basis * window[:, None]).mT
    normal = weighted @ basis
    floor = 1e-3 * (normal * torch.eye(SHIFTS)).sum() / SHIFTS + 1e-6
    normal = normal + floor * torch.eye(SHIFTS)
    return solve(normal, weighted @ (mean - grey).mT).mT


def solve(matrix: Float[Tensor, "m m"], right: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """matrix^-1 right by Gauss-Jordan, in float64; no pivoting, so for positive definite ones."""
    rows = torch.cat([matrix, right], dim=1).double()
    for k in range(len(matrix)):
        pivot = rows[k : k + 1] / rows[k : k + 1, k : k + 1]
        rest = rows - rows[:, k : k + 1] * pivot
        rows = torch.cat([rest[:k], pivot, rest[k + 1 :]])
    return rows[:, len(matrix) :].to(right)


def mean_square_speed(
    signals: Float[Tensor, "n d"], times_s: Float[Tensor, "n"], *, lag_s: float
) -> tuple[Float[Tensor, "d"], Tensor]:
    """Mean square speed [1/s^2] over the window and whether it is known, 1 or 0 (networks.motion)."""
    axis, order = torch.sort(times_s.double() - times_s.double().min())
    ordered = signals[order]
    span = axis[-1]
    lag = span.clamp(max=lag_s)
    target, inside = axis + lag, (axis + lag <= span + 1e-6) & (lag > 0)
    target = torch.minimum(target, span)
    right = (axis[None, :] < target[:, None]).sum(1)
    left = (right - 1).clamp_min(0)
    gap = (axis[right] - axis[left]).clamp_min(1e-9)
    share = ((target - axis[left]) / gap).to(signals)[:, None]
    change = ordered[left] * (1 - share) + ordered[right] * share - ordered
    weight = torch.where(inside, (lag / torch.maximum(gap, lag)).square(), 0.0).to(signals)
    per_s2 = weight.sum() * lag.clamp_min(1e-9).square().to(signals)
    speed = (weight[:, None] * change.square()).sum(0) / per_s2.clamp_min(1e-30)
    known = (span > 0).to(signals)
    return known * speed, known
