"""What a training step sees, drawn for the whole batch and then cut into parts.

A draw depends on its generator alone, so it can be made ahead of its step, and it is the same on
every process, whatever part of it that process works on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from opticaldr.config import Config, Role, Stage
from opticaldr.data.batches import GroupedFaces

DEPTH_LEVELS = 64
"""Depths are drawn from this many levels, so that a frozen lens computes each PSF once."""


@dataclass(frozen=True)
class Draw:
    """Rows of one set in one step: their indices, their groups and their depths [m]."""

    indices: tuple[int, ...]
    groups: tuple[int, ...]
    depths: Float[Tensor, "b"]


def draw_step(
    sets: dict[Role, GroupedFaces],
    stage: Stage,
    config: Config,
    *,
    generator: torch.Generator,
) -> dict[Role, Draw]:
    """The whole batch of a step of a stage."""
    draws = {}
    for role in stage.data:
        indices, groups = sets[role].draw(
            groups=stage.groups_per_batch,
            per_group=stage.per_group,
            generator=generator,
            clips=config.network.temporal == "dynamics",
        )
        depths = draw_depths(
            torch.tensor(groups),
            config.lens.depth_range_m,
            distinct=stage.depths_per_batch,
            per_group=role == "recordings",
            generator=generator,
        )
        draws[role] = Draw(tuple(indices), tuple(groups), depths)
    return draws


def draw_depths(
    groups: Int[Tensor, "b"],
    depth_range_m: tuple[float, float],
    *,
    distinct: int,
    per_group: bool,
    generator: torch.Generator,
) -> Float[Tensor, "b"]:
    """One depth per image [m], from `distinct` depths uniform over the range.

    groups: person or recording of each image. per_group: one depth for all images of a group.
    """
    near, far = depth_range_m
    levels = torch.randint(DEPTH_LEVELS, (distinct,), generator=generator)
    depths = near + (far - near) * levels / (DEPTH_LEVELS - 1)
    which = torch.arange(len(groups))
    if per_group:
        _, which = torch.unique(groups, return_inverse=True)
    pick = torch.randint(distinct, (int(which.max()) + 1,), generator=generator)
    return depths[pick[which]]


def cut(groups: Sequence[int], parts: int, first: int = 0) -> list[range]:
    """Rows in `parts` runs of whole groups, as even as groups allow; rows count from `first`.

    groups: the group of each row; rows of a group stand together. With fewer groups than parts
    some runs are empty.
    """
    starts = [row for row, group in enumerate(groups) if row == 0 or group != groups[row - 1]]
    edges = [*starts, len(groups)]
    bounds = [first + edges[part * len(starts) // parts] for part in range(parts + 1)]
    return [range(start, end) for start, end in pairwise(bounds)]


def cut_for(draw: Draw, processes: int, pieces: int) -> list[list[range]]:
    """Rows of each piece and, within it, of each process: pieces do not depend on the processes."""
    blocks = cut(draw.groups, pieces)
    return [cut(draw.groups[block.start : block.stop], processes, block.start) for block in blocks]


def groups_drawn(grouped: GroupedFaces, stage: Stage) -> int:
    """How many groups a draw of a stage has."""
    wanted = stage.groups_per_batch
    if grouped.role == "expressions":
        wanted *= stage.per_group
    return min(wanted, len(grouped.groups))
