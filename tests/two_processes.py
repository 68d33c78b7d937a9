"""What test_scale runs on one process and on two: python two_processes.py FOLDER.

Each scenario trains in FOLDER/NAME; the end of each, as this process saw it, goes into
FOLDER/NAME.RANK.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from conftest import make_faces
from opticaldr.config import Config, load_config
from opticaldr.data.faceset import FaceSet
from opticaldr.train import Trainer, TrainingData
from opticaldr.types import FaceRecord, InputError
from training import drawn_data, trainer_for, with_stage

RANK = int(os.environ.get("RANK", "0"))
BAD = "p39/1"
"""A frame of `damaged` that cannot be read; of two processes, the second meets it in stage 3."""


def base_config() -> Config:
    """The tiny preset with batches of three groups (an uneven cut), dropout and batch norm."""
    config = load_config(
        "tiny", ['network.attribute_names=["light"]', 'network.temporal="moments"']
    )
    for number in (1, 2, 3, 4):
        config = with_stage(config, number, steps=4, validate_every=2, groups_per_batch=3)
    return config


def unreadable(faces: FaceSet, is_bad: Callable[[FaceRecord], bool]) -> FaceSet:
    """The same set, but some files are broken."""

    def read(record: FaceRecord):
        if is_bad(record):
            raise InputError(f"Expected an image in {record.key}, found none; restore it.")
        return faces.read(record)

    return replace(faces, read=read)


def damaged(data: TrainingData, is_bad: Callable[[FaceRecord], bool]) -> TrainingData:
    """The same data, but with ten training recordings of which some files are broken."""
    recordings = unreadable(make_faces(range(30, 40), 3, recordings=True), is_bad)
    return replace(data, training={**data.training, "recordings": recordings})


def with_pairs(run: Path) -> Trainer:
    """Stage 1: pairs of faces across processes, batch norm, a lens that learns."""
    trainer = trainer_for(base_config(), drawn_data(), run)
    trainer.fit([1])
    return trainer


def with_dropout(run: Path) -> Trainer:
    """Stage 3: dropout and batch norm in the head, frames of a recording together, a bad file."""
    trainer = trainer_for(base_config(), damaged(drawn_data(), lambda r: r.key == BAD), run)
    trainer.fit([3])
    return trainer


def in_pieces(run: Path) -> Trainer:
    """Stage 4: two sets, worked on in two pieces of two groups each."""
    config = with_stage(base_config(), 4, groups_per_batch=4, steps=1)
    training = config.training.model_copy(update={"gradient_accumulation": 2})
    trainer = trainer_for(config.model_copy(update={"training": training}), drawn_data(), run)
    trainer.fit([4])
    return trainer


def interrupted(run: Path) -> None:
    """The last process alone gets Ctrl-C in step 3 of stage 2, between two checkpoints."""
    trainer, real = trainer_for(base_config(), drawn_data(), run), Trainer._train_step

    def step(number, stage, share, *rest):
        metrics = real(trainer, number, stage, share, *rest)
        if share.step == 2 and trainer.accelerator.num_processes - 1 == RANK:
            os.kill(os.getpid(), signal.SIGINT)
        return metrics

    trainer._train_step = step
    trainer.fit([2])


def broken(run: Path) -> None:
    """The last process alone cannot read a single file."""
    data = drawn_data()
    last = int(os.environ.get("WORLD_SIZE", "1")) - 1
    trainer_for(base_config(), damaged(data, lambda r: last == RANK), run).fit([3])


SCENARIOS = {f.__name__: f for f in (with_pairs, with_dropout, in_pieces, interrupted, broken)}


def play(name: str, folder: Path) -> None:
    """Runs one scenario and writes how it ended."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    try:
        SCENARIOS[name](folder / name)
        end = "done"
    except (InputError, KeyboardInterrupt) as error:
        end = f"{type(error).__name__}: {error}"
    (folder / f"{name}.{RANK}.json").write_text(json.dumps({"end": end}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for scenario in SCENARIOS:
        play(scenario, Path(sys.argv[1]))
