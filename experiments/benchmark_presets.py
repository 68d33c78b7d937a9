"""What a lens costs on the synthetic presets, where the best possible reader is known.

    python experiments/benchmark_presets.py --lens RUN --out presets.json

About 30 minutes on two free cores with four cameras; every preset is written when it is done.
Rendered people, session by session (labels as the presets define them). Every camera looks at the
same pictures from 1 m; a reader is fitted to the captures of each camera alone:

- behaviour: a small network reads head pose and nine facial actions from every frame
  (action_reader.py; taught on captures of the same camera, of people who are in no study), and
  ridge regression reads severity from their means, spreads and changes over a recording. One score
  per recording, a session is the mean of its tasks.
- remembering: labels of known sessions, weighted by how alike the faces are (dlib's embedding of
  the captures; thumbnails where dlib is missing), mixed with their mean. It knows nobody's
  behaviour. Its recogniser is not retrained on captures, so what it finds is a lower bound of what
  can be remembered.
- true motion, true cues: the same ridge on what the faces really do in these frames, and on the
  cues themselves: what so few frames, and so few training sessions, allow at best.

Readers are fitted to train and dev together, cross-validated there, and read test once. Gain: mean
absolute error of the mean label minus that of the reader, BDI-II points. Kept: gain as a share of
that of the Bayes-optimal observer on the same sessions, who sees the true cues and, under
identity-shortcut, knows the labels of people's other sessions. Intervals resample people (95 %),
seeds pooled. Synthetic: says nothing about patients.
"""

from __future__ import annotations

import argparse
import copy
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
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional

from action_reader import ActionReader, captures, describe, motion_of, recordings_of, teach
from opticaldr.attackable import open_camera
from opticaldr.data.faceset import FaceSet
from opticaldr.data.synthetic import benchmark
from opticaldr.data.synthetic.optimum import best_predictions, optimum, optimum_of
from opticaldr.data.synthetic.presets import PRESETS
from opticaldr.data.synthetic.sessions import TASKS, BenchmarkSession, draw_sessions
from opticaldr.evaluate import RecordingScore
from opticaldr.faces import load_recogniser
from opticaldr.group_errors import group_rows
from opticaldr.metrics import ClusterBootstrap, mae
from opticaldr.privacy.cameras import CameraUnderAttack
from opticaldr.results import write_json
from opticaldr.types import BDI_MAX, InputError, Recogniser

SHARES = (0.5, 0.1, 0.4)
"""Of sessions in train, dev and test: the reader has few parameters, intervals need test people."""
TEACHING_SEED = 777
EPOCHS, EPOCHS_AFTER = 10, 4
"""Of the action reader, on clear faces and then on the captures of another camera."""
CONTROLS = ("identity-shortcut", "null")
PENALTIES = np.logspace(0, 5, 21)
WIDTHS, MIXES = (0.02, 0.05, 0.1, 0.2), np.linspace(0.0, 1.0, 21)
"""Of the remembering reader: fall-off of weight with cosine, cosine at which the mean weighs 1."""


@dataclass(frozen=True)
class Scored:
    """Test sessions of one seed with predictions of one reader, and what it is compared with."""

    sessions: list[BenchmarkSession]
    score: np.ndarray
    mean: float
    best: np.ndarray
    seed: int


# --- What a capture shows -------------------------------------------------------------------------


@dataclass(frozen=True)
class Taught:
    """A camera, and a reader that was taught on its captures."""

    camera: CameraUnderAttack
    reader: ActionReader


def teach_all(
    cameras: dict[str, CameraUnderAttack], given: argparse.Namespace
) -> dict[str, Taught]:
    """Readers of all cameras; the first camera is clear, and its reader is where the others start."""
    start, law = time.perf_counter(), PRESETS["null"]
    sessions = draw_sessions(law, given.teachers, seed=TEACHING_SEED, shares=SHARES)
    found: dict[str, Taught] = {}
    with TemporaryDirectory() as cache:
        faces = benchmark(
            law, given.teachers, seed=TEACHING_SEED, size=given.size, frames=12, step_s=1.5,
            shares=SHARES, cache_dir=Path(cache),
        )  # fmt: skip
        motion = motion_of(faces, sessions, seed=TEACHING_SEED)
        torch.manual_seed(TEACHING_SEED)
        first = ActionReader()
        for name, camera in cameras.items():
            grey, _ = captures(camera, faces, seed=TEACHING_SEED)
            epochs = EPOCHS_AFTER if found else EPOCHS
            reader = teach(copy.deepcopy(first), grey, motion, epochs=epochs, seed=TEACHING_SEED)
            first = first if found else reader
            found[name] = Taught(camera, reader)
            say(f"taught on {name}: {len(faces)} frames", start)
    return found


def read_actions(taught: Taught, faces: FaceSet, grey: np.ndarray) -> np.ndarray:
    """Features (sessions, tasks, d) of what the reader sees in every recording."""
    signals = taught.reader.read(grey)
    described = [describe(signals[rows]) for rows in recordings_of(faces)]
    return np.array(described).reshape(-1, len(TASKS), len(described[0]))


@torch.no_grad()
def embed(recogniser: Recogniser | None, photos: Tensor) -> np.ndarray:
    """(sessions, e) unit embeddings from one picture of each task."""
    found = torch.cat([(recogniser or thumbnail)(part) for part in photos.split(16)])
    of_session = found.reshape(-1, len(TASKS), found.shape[1]).mean(1)
    return functional.normalize(of_session, dim=1).numpy()


def thumbnail(photos: Tensor) -> Tensor:
    """Stands in for a recogniser: 16 x 16 colour pictures, centred and normalised."""
    small = functional.adaptive_avg_pool2d(photos, 16).flatten(1)
    return functional.normalize(small - small.mean(1, keepdim=True), dim=1)


# --- Readers --------------------------------------------------------------------------------------


def ridge(
    features: np.ndarray, label: np.ndarray, sessions: Sequence[BenchmarkSession]
) -> np.ndarray:
    """Score of every session from features (n, tasks, d), fitted to what is not test.

    The penalty is chosen by five folds of people.
    """
    own = np.array([s.split != "test" for s in sessions])
    person = np.array([s.person for s in sessions])[own]
    errors = np.zeros(len(PENALTIES))
    for fit, held in GroupKFold(5).split(label[own], groups=person):
        x, y = features[own], label[own]
        for i, penalty in enumerate(PENALTIES):
            guess = _fitted(x[fit], y[fit], penalty)(x[held])
            errors[i] += np.square(guess - y[held]).sum()
    return _fitted(features[own], label[own], PENALTIES[errors.argmin()])(features)


def _fitted(x: np.ndarray, y: np.ndarray, penalty: float) -> Callable[[np.ndarray], np.ndarray]:
    """Ridge regression of recordings; it returns the score of a session, the mean of its tasks."""
    reader = make_pipeline(StandardScaler(), Ridge(penalty))
    reader.fit(x.reshape(-1, x.shape[2]), np.repeat(y, x.shape[1]))

    def score(features: np.ndarray) -> np.ndarray:
        flat = reader.predict(features.reshape(-1, features.shape[2]))
        return flat.reshape(features.shape[:2]).mean(1).clip(0, BDI_MAX)

    return score


def remember(
    embeddings: np.ndarray, label: np.ndarray, sessions: Sequence[BenchmarkSession]
) -> np.ndarray:
    """Score of every session from the other sessions outside test with a similar face.

    Width and mix are chosen by leaving out one session at a time.
    """
    own = np.array([s.split != "test" for s in sessions])
    known, mean = label[own], float(label[own].mean())
    alike = embeddings @ embeddings[own].T
    alike[np.flatnonzero(own), np.arange(own.sum())] = -np.inf  # nobody is remembered from now
    best, scores = np.inf, np.full(len(label), mean)
    for width in WIDTHS:
        for mix in MIXES:
            weight = np.exp((alike - mix) / width)
            every = (weight @ known + mean) / (weight.sum(1) + 1)
            error = float(np.square(every[own] - known).mean())
            if error < best:
                best, scores = error, every
    return scores


# --- Study ----------------------------------------------------------------------------------------


def summarise(parts: Sequence[Scored], group_names: Sequence[str] = ()) -> dict[str, Any]:
    """Figures of one reader over all seeds; people of different seeds are different people."""
    label = np.concatenate([[s.label for s in part.sessions] for part in parts]).astype(float)
    score = np.concatenate([part.score for part in parts])
    best = np.concatenate([part.best for part in parts])
    mean = np.concatenate([np.full(len(part.sessions), part.mean) for part in parts])
    people = tuple(f"{part.seed}/{s.person_id}" for part in parts for s in part.sessions)
    bootstrap = ClusterBootstrap(people)

    def gain(of: np.ndarray) -> Callable[[np.ndarray | None], np.ndarray]:
        return lambda w: mae(mean, label, w) - mae(of, label, w)

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
    cameras: dict[str, Taught],
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
        is_test = np.array([s.split == "test" for s in sessions])
        test, mean = np.flatnonzero(is_test), float(label[~is_test].mean())
        best = best_predictions(law, sessions, known=law.overlap)[1]
        scores = {"true cues": ridge(np.array([[s.standard] for s in sessions]), label, sessions)}
        if np.ptp(best) > 0:  # otherwise there is nothing to find
            scores["Bayes-optimal"] = best
        with TemporaryDirectory() as cache:
            faces = benchmark(
                preset, given.persons, seed=seed, size=given.size, frames=given.frames,
                step_s=given.step, shares=SHARES, cache_dir=Path(cache),
            )  # fmt: skip
            names = faces.group_names if preset == "group-shift" else ()
            motion = motion_of(faces, sessions, seed=seed)
            motion = (motion - motion.mean(0)) / motion.std(0)
            described = np.array([describe(motion[rows]) for rows in recordings_of(faces)])
            described = described.reshape(len(sessions), len(TASKS), -1)
            scores["true motion"] = ridge(described, label, sessions)
            say(f"{preset}, seed {seed}: rendered {len(faces)} frames", start)
            middles = [rows[len(rows) // 2] for rows in recordings_of(faces)] if remembers else []
            for name, taught in cameras.items():
                grey, photos = captures(taught.camera, faces, seed=seed, keep=middles)
                scores[f"{name}: behaviour"] = ridge(
                    read_actions(taught, faces, grey), label, sessions
                )
                if remembers:
                    scores[f"{name}: remembering"] = remember(
                        embed(recogniser, photos), label, sessions
                    )
                say(f"{preset}, seed {seed}: {name}", start)
        exact[str(seed)] = asdict(optimum_of(law, sessions))
        for name, every in scores.items():
            chosen = [sessions[i] for i in test]
            parts.setdefault(name, []).append(Scored(chosen, every[test], mean, best[test], seed))
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
    parser.add_argument("--teachers", type=int, default=150, help="people of the action reader")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--control-seeds", type=int, nargs="+", default=[0], help="of identity-shortcut and null"
    )
    parser.add_argument(
        "--presets", nargs="+", default=["behaviour-only", *CONTROLS, "group-shift"]
    )
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
        "teachers": given.teachers,
        "frames": given.frames,
        "step_s": given.step,
        "shares": list(SHARES),
        "cameras": {name: camera.optics.describe() for name, camera in cameras.items()},
        "recogniser": "dlib" if recogniser else "thumbnails",
        "presets": {},
    }
    taught = teach_all(cameras, given)
    for preset in given.presets:
        seeds = given.control_seeds if preset in CONTROLS else given.seeds
        content["presets"][preset] = study(preset, taught, seeds, given, recogniser)
        content["seconds"] = time.perf_counter() - start
        write_json(given.out, content)  # what is done is kept
    sys.stdout.write(table(content) + "\n")


if __name__ == "__main__":
    main()
