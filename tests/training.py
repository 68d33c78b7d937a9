"""Shared by the tests of training: a toy recogniser, drawn data, trainers, what a run leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from conftest import make_faces
from opticaldr.config import Config, Stage
from opticaldr.model import build_model
from opticaldr.train import Trainer, TrainingData
from opticaldr.types import Embedding, Photo


class ToyRecogniser(nn.Module):
    """Knows people by their fine texture: the photo without its 5 px mean, as a unit vector."""

    name = "toy"
    differentiable = True

    def forward(self, photos: Photo) -> Embedding:
        grey = photos.mean(1, keepdim=True)
        detail = grey - functional.avg_pool2d(grey, 5, 1, 2, count_include_pad=False)
        return functional.normalize(detail.flatten(1), dim=1)


def with_stage(config: Config, number: int, **changes: object) -> Config:
    """The configuration with some settings of one stage changed."""
    stages = config.stages
    stage = Stage.model_validate({**stages.numbered()[number].model_dump(), **changes})
    return config.model_copy(update={"stages": stages.model_copy(update={f"step{number}": stage})})


def drawn_data() -> TrainingData:
    """Drawn faces in all three roles."""
    faces, dev = make_faces(range(6), 4), make_faces(range(20, 24), 4)
    return TrainingData(
        training={
            "faces": faces,
            "expressions": faces,
            "recordings": make_faces(range(6, 12), 3, recordings=True),
        },
        validation={
            "faces": dev,
            "expressions": dev,
            "recordings": make_faces(range(24, 28), 3, recordings=True),
        },
    )


def trainer_for(config: Config, data: TrainingData, run: Path, *, on_step=None) -> Trainer:
    return Trainer(
        build_model(config), config, data, run, surrogate=ToyRecogniser(), on_step=on_step
    )


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def metrics_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
