"""What a lens costs on the synthetic presets, where the best possible reader is known.

    python experiments/benchmark_presets.py --lens RUN --out presets.json

Rendered people, session by session (labels as the presets define them). Every camera looks at the
same pictures from 1 m; a reader is fitted to the captures of each camera alone:

- behaviour: ridge regression on what can be measured in any capture, blurred or not: the mean
  picture (16 x 16), logarithm of its variance over time and of frame-to-frame change at every
  place, head shift by least squares on the gradients, energy in four octaves of detail on a 4 x 4
  grid. Penalty chosen on dev. One score per recording, a session is the mean of its tasks.
- remembering: scores of training sessions, weighted by how alike the faces are (dlib's embedding of
  the captures; thumbnails where dlib is missing), mixed with the training median. It knows nobody's
  behaviour. Width and mix chosen on dev. Its recogniser is not retrained on captures, so what it
  finds is a lower bound of what can be remembered.
- true cues: the same ridge on the cues themselves, what so few training sessions allow at best.

Gain: mean absolute error of the training median minus that of the reader, BDI-II points. Kept: gain
as a share of that of the Bayes-optimal observer on the same sessions, who sees the true cues and,
under identity-shortcut, knows the labels of people's training sessions. Intervals resample people
(95 %), seeds pooled. Synthetic: says nothing about patients.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional

from opticaldr.attackable import open_camera
from opticaldr.data.faceset import FaceSet
from opticaldr.data.synthetic import benchmark
from opticaldr.data.synthetic.optimum import best_predictions, optimum, optimum_of
from opticaldr.data.synthetic.presets import PRESETS
from opticaldr.data.synthetic.sessions import BenchmarkSession, draw_sessions
from opticaldr.evaluate import RecordingScore
from opticaldr.faces import load_recogniser
from opticaldr.group_errors import group_rows
from opticaldr.metrics import ClusterBootstrap, mae
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.privacy.cameras import CameraUnderAttack
from opticaldr.results import write_json
from opticaldr.types import BDI_MAX, InputError, Recogniser

SHARES = (0.5, 0.1, 0.4)
"""Of sessions in train, dev and test: the reader has few parameters, intervals need test people."""
CONTROLS = ("identity-shortcut", "null", "group-shift")
PENALTIES = np.logspace(1, 6, 21)
WIDTHS, MIXES = (0.02, 0.05, 0.1, 0.2), np.linspace(0.0, 1.0, 21)
"""Of the remembering reader: fall-off of weight with cosine, cosine at which the median weighs 1."""


@dataclass(frozen=True)
class Seen:
    """What a camera shows of every session: features (n, tasks, d), embeddings (n, e) or None."""

    features: np.ndarray
    embeddings: np.ndarray | None


@dataclass(frozen=True)
class Scored:
    """Test sessions of one seed with predictions of one reader, and what it is compared with."""

    sessions: list[BenchmarkSession]
    score: np.ndarray
    median: float
    best: np.ndarray
    seed: int


# --- What a capture shows -------------------------------------------------------------------------


def measure(capture: Tensor) -> np.ndarray:
    """Features of one recording from its captures (n, 3, s, s) in linear light."""
    grey = linear_to_srgb(capture).mean(1, keepdim=True)
    small = functional.adaptive_avg_pool2d(grey, 32)
    small = (small - small.mean()) / (small.std() + 1e-6)
    mean = small.mean(0, keepdim=True)
    away, change = small - mean, small.diff(dim=0)

    def pooled(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, 2).flatten()

    found = [
        pooled(mean),
        (pooled(away.square().mean(0, keepdim=True)) + 1e-4).log(),
        (pooled(change.square().mean(0, keepdim=True)) + 1e-4).log(),
    ]
    down, right = torch.gradient(mean[0, 0])
    design = torch.stack([right, down, mean[0, 0], torch.ones_like(right)]).flatten(1)
    path = torch.linalg.lstsq(design.T, away.flatten(1).T).solution  # (4, n)
    found += [(path.std(1) + 1e-3).log(), (path.diff(dim=1).square().mean(1).sqrt() + 1e-3).log()]
    for _ in range(4):
        low = functional.avg_pool2d(grey, 2)
        octave = grey - functional.interpolate(low, scale_factor=2, mode="bilinear")
        energy = functional.adaptive_avg_pool2d(octave.square(), 4).mean(0)
        found.append((energy.flatten() + 1e-7).log())
        grey = low
    return torch.cat(found).numpy()


@torch.no_grad()
def look(
    camera: CameraUnderAttack,
    faces: FaceSet,
    sessions: Sequence[BenchmarkSession],
    *,
    recogniser: Recogniser | None,
    remember: bool,
    seed: int,
) -> Seen:
    """Captures of every frame, measured; faces embedded from one frame of each task."""
    generator = torch.Generator().manual_seed(seed)
    rows: dict[str, dict[str, list[int]]] = {session.id: {} for session in sessions}
    for index, record in enumerate(faces.records):
        rows[record.session].setdefault(record.task, []).append(index)
    features, embeddings = [], []
    for tasks in rows.values():
        of_tasks, faces_of_session = [], []
        for members in tasks.values():
            images = np.stack([faces.image(i) for i in members]).transpose(0, 3, 1, 2)
            scene = srgb_to_linear(torch.from_numpy(images).float() / 255)
            capture = camera.capture(scene, generator=generator)
            of_tasks.append(measure(capture))
            if remember:
                one = linear_to_srgb(capture[len(members) // 2][None])
                faces_of_session.append(recogniser(one) if recogniser else thumbnail(one))
        features.append(of_tasks)
        if remember:
            embeddings.append(torch.cat(faces_of_session).mean(0))
    return Seen(
        np.array(features),
        functional.normalize(torch.stack(embeddings), dim=1).numpy() if remember else None,
    )


def thumbnail(photos: Tensor) -> Tensor:
    """Stands in for a recogniser: 16 x 16 colour pictures, centred and normalised."""
    small = functional.adaptive_avg_pool2d(photos, 16).flatten(1)
    return functional.normalize(small - small.mean(1, keepdim=True), dim=1)


# --- Readers --------------------------------------------------------------------------------------


def ridge(features: np.ndarray, label: np.ndarray, split: np.ndarray) -> np.ndarray:
    """Score of every session from features (n, tasks, d); fitted to train, chosen on dev."""
    tasks = features.shape[1]

    def flat(where: np.ndarray) -> np.ndarray:
        return features[where].reshape(-1, features.shape[2])

    train, dev = split == "train", split == "dev"
    best, scores = np.inf, np.zeros(len(label))
    for penalty in PENALTIES:
        reader = make_pipeline(StandardScaler(), Ridge(penalty))
        reader.fit(flat(train), np.repeat(label[train], tasks))
        every = reader.predict(flat(np.ones_like(train))).reshape(-1, tasks).mean(1)
        every = every.clip(0, BDI_MAX)
        error = float(np.square(every[dev] - label[dev]).mean())
        if error < best:
            best, scores = error, every
    return scores


def remember(embeddings: np.ndarray, label: np.ndarray, split: np.ndarray) -> np.ndarray:
    """Score of every session from training sessions with a similar face."""
    train, dev = split == "train", split == "dev"
    median = float(np.median(label[train]))
    alike = embeddings @ embeddings[train].T
    best, scores = np.inf, np.full(len(label), median)
    for width in WIDTHS:
        for mix in MIXES:
            weight = np.exp((alike - mix) / width)
            every = (weight @ label[train] + median) / (weight.sum(1) + 1)
            error = float(np.abs(every[dev] - label[dev]).mean())
            if error < best:
                best, scores = error, every
    return scores


# --- Study ----------------------------------------------------------------------------------------


def summarise(parts: Sequence[Scored], group_names: Sequence[str] = ()) -> dict[str, Any]:
    """Figures of one reader over all seeds; people of different seeds are different people."""
    label = np.concatenate([[s.label for s in part.sessions] for part in parts]).astype(float)
    score = np.concatenate([part.score for part in parts])
    best = np.concatenate([part.best for part in parts])
    median = np.concatenate([np.full(len(part.sessions), part.median) for part in parts])
    people = tuple(f"{part.seed}/{s.person_id}" for part in parts for s in part.sessions)
    bootstrap = ClusterBootstrap(people)

    def gain(of: np.ndarray) -> Callable[[np.ndarray | None], np.ndarray]:
        return lambda w: mae(median, label, w) - mae(of, label, w)

    found: dict[str, Any] = {
        "mae": bootstrap.figure(lambda w: mae(score, label, w)).to_json(),
        "gain": bootstrap.figure(gain(score)).to_json(),
        "people": len(set(people)),
        "mae_by_seed": {
            str(part.seed): float(
                np.abs(part.score - np.array([s.label for s in part.sessions])).mean()
            )
            for part in parts
        },
    }
    if np.ptp(best) > 0:  # null: nothing to keep

        def kept(weights: np.ndarray | None) -> np.ndarray:
            most = np.asarray(gain(best)(weights))
            return gain(score)(weights) / np.where(most > 0, most, np.nan)

        share = bootstrap.figure(kept)
        found["kept"] = share and share.to_json()
    if group_names:
        rows = [
            RecordingScore(s.id, person, float(s.label), float(value), 1, s.id, "", s.groups)
            for s, person, value in zip(
                [s for part in parts for s in part.sessions], people, score, strict=True
            )
        ]
        found["groups"] = group_rows(rows, group_names, width=None)
    return found


def study(
    preset: str,
    cameras: dict[str, CameraUnderAttack],
    seeds: Sequence[int],
    given: argparse.Namespace,
    recogniser: Recogniser | None,
) -> dict[str, Any]:
    """All readers of all cameras on one preset."""
    law, remembers = PRESETS[preset], preset == "identity-shortcut"
    parts: dict[str, list[Scored]] = {}
    names: tuple[str, ...] = ()
    exact = {}
    for seed in seeds:
        start = time.perf_counter()
        sessions = draw_sessions(law, given.persons, seed=seed, shares=SHARES)
        label = np.array([s.label for s in sessions], dtype=float)
        split = np.array([s.split for s in sessions])
        test = np.flatnonzero(split == "test")
        median = float(np.median(label[split == "train"]))
        best = best_predictions(law, sessions, known=law.overlap)[1]
        scores = {
            "Bayes-optimal": best,
            "true cues": ridge(np.array([[s.standard] for s in sessions]), label, split),
        }
        with TemporaryDirectory() as cache:
            faces = benchmark(
                preset, given.persons, seed=seed, size=given.size, frames=given.frames,
                step_s=given.step, shares=SHARES, cache_dir=Path(cache),
            )  # fmt: skip
            names = faces.group_names if preset == "group-shift" else ()
            say(f"{preset}, seed {seed}: rendered {len(faces)} frames", start)
            for name, camera in cameras.items():
                seen = look(
                    camera, faces, sessions, recogniser=recogniser, remember=remembers, seed=seed
                )
                scores[f"{name}: behaviour"] = ridge(seen.features, label, split)
                if seen.embeddings is not None:
                    scores[f"{name}: remembering"] = remember(seen.embeddings, label, split)
                say(f"{preset}, seed {seed}: {name}", start)
        exact[str(seed)] = asdict(optimum_of(law, sessions))
        for name, every in scores.items():
            chosen = [sessions[i] for i in test]
            parts.setdefault(name, []).append(Scored(chosen, every[test], median, best[test], seed))
    return {
        "seeds": list(seeds),
        "optimum": asdict(optimum(law)),
        "optimum_of_test_split": exact,
        "readers": {name: summarise(found, names) for name, found in parts.items()},
    }


def say(what: str, start: float) -> None:
    sys.stderr.write(f"{what} ({time.perf_counter() - start:.0f} s)\n")


def table(content: dict[str, Any]) -> str:
    """The JSON's main figures as markdown."""
    lines = ["| preset | reader | MAE | gain | kept | n |", "|---|---|---|---|---|---|"]
    for preset, found in content["presets"].items():
        for reader, row in found["readers"].items():
            cells = [_figure(row.get(key), digits) for key, digits in
                     (("mae", 2), ("gain", 2), ("kept", 2))]  # fmt: skip
            lines.append(f"| {preset} | {reader} | {' | '.join(cells)} | {row['mae']['n']} |")
    shift = content["presets"].get("group-shift", {"readers": {}})
    lines += ["", "| reader | group | MAE | slope | n | worse |", "|---|---|---|---|---|---|"]
    for reader, row in shift["readers"].items():
        for one in row["groups"]:
            if one["group"] == "group":
                worse = ", ".join(one["worse"]) or "-"
                figures = [_figure(one.get(key), 2) for key in ("mae", "gain")]
                lines.append(
                    f"| {reader} | {one['value']} | {' | '.join(figures)} | {one['n']} | {worse} |"
                )
    return "\n".join(lines)


def _figure(figure: dict[str, Any] | None, digits: int) -> str:
    if not figure:
        return "-"
    low, high = figure["ci95"]
    return f"{figure['value']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--persons", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="behaviour-only")
    parser.add_argument("--control-seeds", type=int, nargs="+", default=[0], help="other presets")
    parser.add_argument("--presets", nargs="+", default=["behaviour-only", *CONTROLS])
    parser.add_argument("--lens", help="a trained lens: run folder or lens.json")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--step", type=float, default=0.75, help="between frames [s]")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("benchmark_presets.json"))
    return parser.parse_args()


def main() -> None:
    given, start = parse(), time.perf_counter()
    specs = {"clear": "none", "focused": "focused", "Gaussian .30": "gaussian:0.30"}
    if given.lens:
        specs["trained"] = given.lens
    cameras = {name: open_camera(spec, pixels=given.size) for name, spec in specs.items()}
    try:
        recogniser = load_recogniser("dlib")
    except InputError:
        recogniser = None
    content: dict[str, Any] = {
        "synthetic": True,
        "persons": given.persons,
        "frames": given.frames,
        "step_s": given.step,
        "shares": list(SHARES),
        "cameras": {name: camera.optics.describe() for name, camera in cameras.items()},
        "recogniser": "dlib" if recogniser else "thumbnails",
        "presets": {},
    }
    for preset in given.presets:
        seeds = given.seeds if preset == "behaviour-only" else given.control_seeds
        content["presets"][preset] = study(preset, cameras, seeds, given, recogniser)
        content["seconds"] = time.perf_counter() - start
        write_json(given.out, content)  # what is done is kept
    sys.stdout.write(table(content) + "\n")


if __name__ == "__main__":
    main()
