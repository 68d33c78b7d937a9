"""Depression scores of recordings through the frozen camera, and their metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from opticaldr.data.batches import GroupedFaces, load_batch
from opticaldr.data.faceset import FaceSet
from opticaldr.metrics import ClusterBootstrap, ccc, mae, rmse
from opticaldr.model import OpticalDR
from opticaldr.optics.colour import srgb_to_linear
from opticaldr.types import BDI_MAX, InputError

TEST_DEPTH_M = 1.0
"""Distance at which a model is tested unless told otherwise [m]."""


@dataclass(frozen=True)
class RecordingScore:
    """One scored recording: its BDI-II label and the mean of its frame scores, in [0, 63]."""

    recording: str
    person: str
    label: float
    score: float
    frames: int


@torch.no_grad()
def score_recordings(
    model: OpticalDR,
    faces: FaceSet,
    *,
    seed: int,
    depth_m: float = TEST_DEPTH_M,
    on_recording: Callable[[int, int], None] | None = None,
) -> list[RecordingScore]:
    """Scores every recording: mean over its frames, clamped to [0, 63] (paper.md 7.6).

    The model keeps its mode and device; frames without a severity label are an InputError.
    """
    device = next(model.network.parameters()).device
    size = model.camera.lens.config.sensor_pixels
    generator = torch.Generator(device).manual_seed(seed)
    grouped = GroupedFaces.of(faces, "recordings")
    scores = []
    for number, members in enumerate(grouped.groups):
        record = faces.records[members[0]]
        if not 0 <= record.severity <= BDI_MAX:
            raise InputError(
                f"Expected a BDI-II label in [0, 63] for recording '{record.recording}', found "
                f"{record.severity}; fill the label or leave the recording out."
            )
        batch = load_batch(faces, list(members), [number] * len(members), size=size).to(device)
        depth = torch.full((len(members),), depth_m, device=device)
        prediction = model(srgb_to_linear(batch.photos), depth, batch.group, generator=generator)
        mean_score = float(prediction.severity.mean().clamp(0.0, BDI_MAX))
        scores.append(
            RecordingScore(
                record.recording, record.person, record.severity, mean_score, len(members)
            )
        )
        if on_recording:
            on_recording(number + 1, len(grouped.groups))
    return scores


def depression_results(scores: list[RecordingScore], train_labels: np.ndarray) -> dict[str, Any]:
    """The "depression" object of results.json: MAE, RMSE, CCC beside constant predictors.

    train_labels: one BDI-II label per training recording; their mean and median are the trivial
    predictors. gain_over_train_mean is paired: the same resampled people for both.
    """
    score = np.array([row.score for row in scores])
    label = np.array([row.label for row in scores])
    constant = {
        "train mean": float(train_labels.mean()),
        "train median": float(np.median(train_labels)),
    }
    mean = np.full_like(label, constant["train mean"])
    bootstrap = ClusterBootstrap(tuple(row.person for row in scores))
    figures = {
        "mae": bootstrap.figure(lambda i: mae(score[i], label[i])),
        "rmse": bootstrap.figure(lambda i: rmse(score[i], label[i])),
        "ccc": bootstrap.figure(lambda i: ccc(score[i], label[i])),
        "train_mean_mae": bootstrap.figure(lambda i: mae(mean[i], label[i])),
        "gain_over_train_mean": bootstrap.figure(
            lambda i: mae(mean[i], label[i]) - mae(score[i], label[i])
        ),
    }
    baselines = []
    for name, value in constant.items():
        guess = np.full_like(label, value)
        baselines.append(
            {
                "name": name,
                "mae": bootstrap.figure(lambda i, g=guess: mae(g[i], label[i])).to_json(),
                "rmse": bootstrap.figure(lambda i, g=guess: rmse(g[i], label[i])).to_json(),
            }
        )
    return {
        **{name: figure.to_json() for name, figure in figures.items()},
        "baselines": baselines,
        "people": len(set(bootstrap.people)),
    }
