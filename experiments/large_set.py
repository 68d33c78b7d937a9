"""Step 1 on a set of CelebA's size: does memory stay flat, and is reading hidden behind the step?

Noise pictures, made on demand, stand in for 200,000 photos; only memory and time mean anything.

    python experiments/large_set.py --records 200000 --read-s 0.01 --readers 2
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from opticaldr.config import Config, Stage, load_config
from opticaldr.data.faceset import FaceSet
from opticaldr.model import build_model
from opticaldr.train import Trainer, TrainingData
from opticaldr.types import FaceRecord

POINTS = (0.3, 0.4, 0.7, 0.4, 0.5, 0.55, 0.35, 0.75, 0.65, 0.75)


def noise_faces(count: int, first: int, *, read_s: float, attributes: int = 40) -> FaceSet:
    """Twenty pictures of 178 px per person; each takes read_s [s] to read."""

    def read(record: FaceRecord) -> np.ndarray:
        time.sleep(read_s)
        return np.random.default_rng(int(record.key)).integers(0, 256, (178, 178, 3), np.uint8)

    records = tuple(
        FaceRecord(
            key=str(first + i),
            person=str((first + i) // 20),
            attributes=tuple(float((i >> j) & 1) for j in range(attributes)),
            landmarks=POINTS,
        )
        for i in range(count)
    )
    return FaceSet("noise", records, read, tuple(f"a{j}" for j in range(attributes)), True)


def configured(preset: str, steps: int, groups: int, settings: list[str]) -> Config:
    """A preset whose step 1 has these steps and groups, and the task loss alone."""
    names = "[" + ", ".join(f'"a{j}"' for j in range(40)) + "]"
    config = load_config(preset, [f"network.attribute_names={names}", *settings])
    changes = {"steps": steps, "validate_every": steps, "groups_per_batch": groups}
    step1 = config.stages.step1.model_copy(
        update={**changes, "per_group": 4, "losses": ("utility",)}
    )
    return config.model_copy(update={"stages": config.stages.model_copy(update={"step1": step1})})


def resident_mib() -> float:
    """Memory of this process that is in RAM now [MiB]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="tiny")
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--read-s", type=float, default=0.01, help="reading one picture [s]")
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--groups", type=int, default=8, help="people per batch, 4 photos each")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    given = parser.parse_args()
    memory, ends = [resident_mib()], []

    def note(number: int, stage: Stage, done: int, metrics: dict[str, float]) -> None:
        memory.append(resident_mib())
        ends.append(time.perf_counter())

    settings = [f"training.loader_workers={given.readers}", *given.settings]
    config = configured(given.config, given.steps, given.groups, settings)
    data = TrainingData(
        {"faces": noise_faces(given.records, 0, read_s=given.read_s)},
        {"faces": noise_faces(4 * given.groups, 10**6, read_s=0.0)},
    )
    table = resident_mib()
    with tempfile.TemporaryDirectory() as run:
        model = build_model(config)
        Trainer(model, config, data, Path(run), surrogate=None, on_step=note).fit([1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    step = float(np.median(np.diff(ends))) if len(ends) > 1 else float("nan")
    quarters = [memory[1 + i * (len(memory) - 2) // 4] for i in range(5)]
    sys.stdout.write(
        f"{given.records} records, {given.readers} readers, {given.read_s} s a picture: "
        f"{step:.3f} s a step; MiB at start {memory[0]:.0f}, with records {table:.0f}, "
        f"over the steps {', '.join(f'{m:.0f}' for m in quarters)}, peak {peak:.0f}\n"
    )


if __name__ == "__main__":
    main()
