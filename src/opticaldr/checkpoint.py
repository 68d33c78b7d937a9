"""What a run keeps so that it can continue exactly: weights, optimisers, progress, metrics.

safetensors and JSON only; a checkpoint is complete or absent, never half-written.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from opticaldr.data.loading import BadFile
from opticaldr.results import read_json
from opticaldr.tensors import save_tensors
from opticaldr.types import InputError

STATE = "state"
BAD_FILES = "bad_files.jsonl"


@dataclass(frozen=True)
class Best:
    """Weights of the best validation so far; smaller selection is better."""

    selection: float
    step: int
    weights: dict[str, Tensor]


def best_of(model: nn.Module, selection: float, step: int) -> Best:
    """A copy of the model's weights with the value that chose them."""
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return Best(selection, step, weights)


@dataclass(frozen=True)
class Progress:
    """How far a run is: current stage, its steps done, finished stages, seconds per stage."""

    stage: int
    step: int
    finished: tuple[int, ...]
    seconds: dict[int, float]

    @classmethod
    def read(cls, run: Path) -> Progress | None:
        """Progress of a run, or None if it has no checkpoint yet."""
        folder = _state_folder(run)
        if folder is None:
            return None
        with _complete(folder):
            content = read_json(folder / "progress.json")
            seconds = {int(stage): value for stage, value in content["seconds"].items()}
            return cls(content["stage"], content["step"], tuple(content["finished"]), seconds)


def save_state(
    run: Path,
    model: nn.Module,
    optimisers: dict[str, torch.optim.Optimizer],
    best: Best | None,
    progress: Progress,
) -> None:
    """Writes a checkpoint beside the old one, then swaps the two.

    Whenever the machine stops, `state` or `state.old` is complete: every file is on the disk before
    a folder gets its name, and progress.json, without which a folder is none, is written last.
    """
    fresh, old = run / f"{STATE}.new", run / f"{STATE}.old"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_tensors(model.state_dict(), fresh / "model.safetensors")
    if best is not None:
        extra = {"selection": repr(best.selection), "step": str(best.step)}
        save_tensors(best.weights, fresh / "best.safetensors", extra)
    for name, optimiser in optimisers.items():
        state = optimiser.state_dict()
        tensors = {
            f"{index}.{key}": torch.as_tensor(value)
            for index, entries in state["state"].items()
            for key, value in entries.items()
        }
        groups = json.dumps(state["param_groups"])
        save_tensors(tensors, fresh / f"optimiser_{name}.safetensors", {"param_groups": groups})
    for path in fresh.iterdir():
        _force_to_disk(path)
    (fresh / "progress.json").write_text(json.dumps(asdict(progress)))
    _force_to_disk(fresh / "progress.json")
    _force_to_disk(fresh)
    if (run / STATE).exists():  # else .old is the only complete checkpoint: keep it until the swap
        shutil.rmtree(old, ignore_errors=True)
        (run / STATE).rename(old)
    fresh.rename(run / STATE)
    _force_to_disk(run)
    shutil.rmtree(old, ignore_errors=True)


def load_state(
    run: Path, model: nn.Module, optimisers: dict[str, torch.optim.Optimizer]
) -> Best | None:
    """Restores model and optimisers from a run's checkpoint; returns the best weights so far."""
    folder = _state_folder(run)
    if folder is None:
        raise InputError(
            f"Expected a checkpoint in {run / STATE}, found none; train without --resume."
        )
    with _complete(folder):
        _load_matching(model, _read_tensors(folder / "model.safetensors")[0], folder)
        for name, optimiser in optimisers.items():
            tensors, extra = _read_tensors(folder / f"optimiser_{name}.safetensors")
            state: dict[int, dict[str, Any]] = {}
            for key, value in tensors.items():
                index, entry = key.split(".", 1)
                state.setdefault(int(index), {})[entry] = value
            groups = json.loads(extra["param_groups"])
            optimiser.load_state_dict({"state": state, "param_groups": groups})
        best_file = folder / "best.safetensors"
        if not best_file.exists():
            return None
        weights, extra = _read_tensors(best_file)
        return Best(float(extra["selection"]), int(extra["step"]), weights)


def load_checkpoint(run: Path, model: nn.Module) -> None:
    """Restores the model alone (to continue with the next stage)."""
    folder = _state_folder(run)
    if folder is None:
        raise InputError(
            f"Expected a checkpoint in {run / STATE}, found none; train without --resume."
        )
    with _complete(folder):
        _load_matching(model, _read_tensors(folder / "model.safetensors")[0], folder)


class Trackers:
    """metrics.jsonl and TensorBoard of one stage; lines after a resumed step are dropped first."""

    def __init__(self, run: Path, stage: int, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        run.mkdir(parents=True, exist_ok=True)
        self._path = run / "metrics.jsonl"
        self._stage = stage
        if self._path.exists():
            kept = [
                line
                for line in self._path.read_text().splitlines()
                if self._keeps(line, first_step)
            ]
            partial = self._path.with_name(self._path.name + ".partial")
            partial.write_text("".join(line + "\n" for line in kept))
            partial.replace(self._path)
        self._file = self._path.open("a", buffering=1)
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=max(0, first_step))

    def _keeps(self, line: str, first_step: int) -> bool:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # the line that was being written when a run died
            return False
        return (entry["stage"], entry["step"]) <= (self._stage, first_step)

    def write(self, split: str, step: int, metrics: dict[str, float]) -> None:
        """One line and one TensorBoard point per metric."""
        entry = {"stage": self._stage, "step": step, "split": split, **metrics}
        self._file.write(json.dumps(entry) + "\n")
        for name, value in metrics.items():
            self._board.add_scalar(f"stage{self._stage}/{split}/{name}", value, step)

    def close(self) -> None:
        """Flushes both."""
        self._file.close()
        self._board.close()


def log_bad_files(run: Path, files: list[BadFile]) -> None:
    """Adds files that could not be read to bad_files.jsonl, each once; warns about the first one."""
    log = run / BAD_FILES
    known = set(log.read_text().splitlines()) if log.exists() else set()
    if not known:
        warnings.warn(
            f"{files[0].problem} It was replaced by another image; {log} lists every such file.",
            stacklevel=2,
        )
    lines = dict.fromkeys(json.dumps(asdict(file), ensure_ascii=False) for file in files)
    with log.open("a") as file:
        file.writelines(line + "\n" for line in lines if line not in known)


@contextmanager
def _complete(folder: Path) -> Iterator[None]:
    """Turns what a damaged checkpoint raises while it is read into one sentence."""
    try:
        yield
    except (SafetensorError, FileNotFoundError, KeyError) as error:
        raise InputError(
            f"Expected a complete checkpoint in {folder}, found a damaged one ({error}); "
            "delete the folder and train without --resume."
        ) from None


def _force_to_disk(path: Path) -> None:
    """Waits until a file or the names in a folder are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _state_folder(run: Path) -> Path | None:
    for name in (STATE, f"{STATE}.old"):  # .old alone: the run died between the two renames
        if (run / name / "progress.json").exists():
            return run / name
    return None


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _load_matching(model: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    model_state = model.state_dict()
    for name in [*model_state, *tensors]:
        expected = tuple(model_state[name].shape) if name in model_state else "nothing"
        found = tuple(tensors[name].shape) if name in tensors else "nothing"
        if found != expected:
            raise InputError(
                f"Expected '{name}' of shape {expected} in {folder}, found {found}; the "
                "checkpoint belongs to another configuration: resume with its own config.toml."
            )
    model.load_state_dict(tensors)
