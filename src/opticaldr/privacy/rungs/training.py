"""How attackers train: one loop, randomness from one generator, embeddings of picture and mirror."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 64

Loss = Callable[[nn.Module, torch.Generator], Tensor]
"""(network in training, generator) -> loss of one freshly drawn batch."""


def fit(
    make: Callable[[], nn.Module],
    loss: Loss,
    *,
    steps: int,
    learning_rate: float,
    generator: torch.Generator,
    progress: Callable[[int, int], None],
) -> nn.Module:
    """The network that `make` returns, trained with AdamW for `steps` batches and frozen."""
    with torch.random.fork_rng(devices=[]):
        # Layer initialisation and dropout draw from torch's global generator; lend it ours.
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        # channels last: a quarter faster on a CPU
        network = make().train().to(memory_format=torch.channels_last)
        optimiser = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=5e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
        for step in range(steps):
            optimiser.zero_grad()
            loss(network, generator).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            progress(step + 1, steps)
    return network.eval().requires_grad_(False)


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate: rises over the first tenth of the steps, then half a cosine."""
    return min(1, (step + 1) / (0.1 * steps + 1)) * (1 + math.cos(math.pi * step / steps)) / 2


def draw(pictures: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
    """(b, 3, s, s) float32 of the images `rows`: one of their recorded draws, half of them mirrored.

    Args:
        pictures: (draws, n, 3, s, s). rows: (b,).
    """
    which = torch.randint(len(pictures), (len(rows),), generator=generator)
    batch = pictures[which, rows].float()
    mirrored = torch.rand(len(rows), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, batch.flip(-1), batch)


def embed(network: nn.Module, pictures: Tensor) -> np.ndarray:
    """(n, 3, s, s) to unit rows (n, d) float64: mean of the picture and its mirror image."""
    with torch.inference_mode():
        parts = [part.float() for part in pictures.split(BATCH)]
        found = torch.cat([network(part) + network(part.flip(-1)) for part in parts])
        return F.normalize(found.double(), dim=1).numpy()


def contrast(found: Tensor, wanted: Tensor, *, temperature: float) -> Tensor:
    """Each row of `found` must be closest to its own row of `wanted` (InfoNCE; unit rows)."""
    return F.cross_entropy(found @ wanted.T / temperature, torch.arange(len(found)))
