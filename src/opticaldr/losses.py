"""Loss functions of paper.md 7.3: pure functions of tensors. Weights live in config.LossConfig.

Unknown labels (NaN, or -1 for emotion) take no part; a loss without a single known label is 0.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from opticaldr.types import BDI_MAX, Photo


def stretch_contrast(photos: Photo) -> Photo:
    """Maps each photo's darkest value to 0 and brightest to 1, as any attacker would."""
    low = photos.amin((1, 2, 3), keepdim=True)
    high = photos.amax((1, 2, 3), keepdim=True)
    return (photos - low) / (high - low).clamp_min(1e-3)


def identity_loss(
    clean: Float[Tensor, "b d"],
    captured: Float[Tensor, "b d"],
    people: Int[Tensor, "b"],
    *,
    margin: float,
    verification: float,
) -> Float[Tensor, ""]:
    """L_i: what a recogniser f (L2-normalised embeddings) still finds in the captures y of x.

    L_i = mean relu(cos(f(x), f(y)) - margin)
          + verification * mean over mated pairs (a, p) of
            relu(cos(f(y_a), f(y_p)) - mean over non-mated n of cos(f(y_a), f(y_n)))

    The first term separates capture from photograph (rung A1), the second captures from captures
    (rung A2). Without a mated pair in the batch the second term is 0.
    """
    resemblance = functional.relu((clean * captured).sum(1) - margin).mean()
    cosine = captured @ captured.T
    same = people[:, None] == people[None, :]
    mated = same & ~torch.eye(len(people), dtype=torch.bool, device=people.device)
    if not bool(mated.any()) or bool(same.all()):
        return resemblance
    others = (cosine * ~same).sum(1) / (~same).sum(1).clamp_min(1)
    excess = functional.relu(cosine - others[:, None])[mated].mean()
    return resemblance + verification * excess


def attribute_loss(logits: Float[Tensor, "b a"], labels: Float[Tensor, "b a"]) -> Float[Tensor, ""]:
    """Binary cross-entropy over the known attributes."""
    known = ~labels.isnan()
    if not bool(known.any()):
        return logits.sum() * 0
    return functional.binary_cross_entropy_with_logits(logits[known], labels[known])


def landmark_loss(
    points: Float[Tensor, "b 10"], labels: Float[Tensor, "b 10"]
) -> Float[Tensor, ""]:
    """Smooth L1 (beta .05 of the crop side) over the known landmark coordinates."""
    known = ~labels.isnan()
    if not bool(known.any()):
        return points.sum() * 0
    return functional.smooth_l1_loss(points[known], labels[known], beta=0.05)


def emotion_loss(logits: Float[Tensor, "b 7"], labels: Int[Tensor, "b"]) -> Float[Tensor, ""]:
    """Cross-entropy over the images whose emotion is known (label >= 0)."""
    known = labels >= 0
    if not bool(known.any()):
        return logits.sum() * 0
    return functional.cross_entropy(logits[known], labels[known])


def depression_loss(
    scores: Float[Tensor, "b"], labels: Float[Tensor, "b"], recordings: Int[Tensor, "b"]
) -> Float[Tensor, ""]:
    """L_d = MSE + SmoothL1 of (s_hat - s) / 63, s_hat = mean over the frames of a recording.

    Scores and labels are on the BDI-II scale; averaging first makes training match how a
    recording is scored.
    """
    known = ~labels.isnan()
    if not bool(known.any()):
        return scores.sum() * 0
    _, which = torch.unique(recordings[known], return_inverse=True)
    count = torch.bincount(which).to(scores)
    mean_score = scores.new_zeros(len(count)).index_add(0, which, scores[known]) / count
    mean_label = scores.new_zeros(len(count)).index_add(0, which, labels[known]) / count
    error = (mean_score - mean_label) / BDI_MAX
    return error.square().mean() + functional.smooth_l1_loss(error, torch.zeros_like(error))
