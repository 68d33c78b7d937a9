"""What a stage trains and how fast: frozen groups, optimisers, learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from opticaldr.config import OptimiserConfig, Stage
from opticaldr.model import OpticalDR


def learning_rate_factor(stage: Stage, step: int) -> float:
    """Linear warm-up, then constant or a half cosine down to 0; step counts from 0."""
    warm = min(1.0, (step + 1) / stage.warmup_steps) if stage.warmup_steps else 1.0
    if not stage.cosine:
        return warm
    return warm * 0.5 * (1 + math.cos(math.pi * step / max(1, stage.steps)))


def make_optimiser(module: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Adadelta (rho .9, eps 1e-6) or Adam on the parameters of a group."""
    kinds = {"adadelta": torch.optim.Adadelta, "adam": torch.optim.AdamW}  # AdamW at 0 is Adam
    decay = config.weight_decay
    return kinds[config.kind](module.parameters(), lr=config.lr, weight_decay=decay)


def set_trained_groups(model: OpticalDR, stage: Stage) -> None:
    """Freezes every group but the stage's; frozen networks also keep their batch statistics."""
    for name in ("lens", "emotion", "depression"):
        module, chosen = model.group(name), stage.optimisers.get(name)
        module.requires_grad_(chosen is not None).train(chosen is not None)
        if chosen is not None and chosen.head_only:
            module.extract.requires_grad_(False).eval()
        if stage.keep_batch_statistics:
            for part in module.modules():
                if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                    part.eval()
    model.camera.sensor.train()
