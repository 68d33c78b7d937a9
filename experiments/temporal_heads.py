"""Which head reads severity from the motion of a face: frames, moments, dynamics or a GRU, synthetic.

    python experiments/temporal_heads.py --lenses clear focused literal --seeds 3 4 5 --cue-gain 1.0

Per seed 210 rendered people with one recording each (24 frames, 0.4 s apart, 64 px): 120 train,
30 for selection, 60 for the test. Test people of all seeds are pooled; intervals are over people
(2,000 resamples, paired between heads). A small SANet learns attributes, expressions and landmarks
on captures of photographs of other people; both branches are copies of it and stay frozen, so that
only heads learn from severity: AdamW with a cosine, 300 steps of 32 recordings, learning rate
(1e-3 or 1e-2) and step chosen by the MAE of the 30 people, all heads alike. "dynamics" was chosen
on other people (seed 100 and a first look at seeds 0 to 2). Rows "true cues" are linear readers of
the simulator's own cues, without pictures, fitted on the same 120 + 30 people.

Prints a markdown table. Synthetic: it says nothing about patients.
"""

from __future__ import annotations

import argparse
import math
import time
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from opticaldr import losses
from opticaldr.camera import load_camera
from opticaldr.config import NetworkConfig, load_config
from opticaldr.data import synthetic
from opticaldr.data.batches import load_batch
from opticaldr.data.faceset import FaceSet
from opticaldr.data.synthetic.cues import CUES, ceiling, draw_session
from opticaldr.metrics import ClusterBootstrap, Weights, ccc, mae, rmse
from opticaldr.networks.face_reader import EmotionBranch, FaceReader
from opticaldr.networks.motion import POSES, SHIFTS, TRAITS, follow
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.results import Figure
from opticaldr.sensor import Sensor
from opticaldr.types import BDI_MAX

SIZE, FRAMES, STEP_S = 64, 24, 0.4
TRAIN, DEV, TEST = 120, 30, 60
PHOTO_PEOPLE, PHOTOS_EACH, FACE_STEPS = range(1000, 1120), 8, 300
NETWORK = NetworkConfig(width=4, blocks=1, hidden=64)
HEADS = ("frames", "moments", "dynamics", "GRU")
HEAD_STEPS, CHECK_EVERY, BATCH = 300, 25, 32
MOTION_CUES = ("head_speed_deg_s", "head_rms_deg", "motion_energy")
Rows = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Features, tracks, recording, time [s] and severity of frames; recordings stand one after another."""


class Eye:
    """A camera at 1 m (preset, lens.json or run), or none ("clear"): a sensor alone."""

    def __init__(self, name: str) -> None:
        self.sensor = Sensor(load_config("focused").sensor).eval()
        self.camera = None if name == "clear" else load_camera(name, sensor_pixels=SIZE)

    @torch.no_grad()
    def see(self, photos: Tensor, generator: torch.Generator) -> Tensor:
        """What the networks get of photos: the capture, sRGB-encoded and centred."""
        scene = srgb_to_linear(photos)
        if self.camera is None:
            capture = self.sensor(scene, generator=generator)
        else:
            capture = self.camera(scene, torch.ones(len(scene)), generator=generator)
        return (linear_to_srgb(capture) - 0.5) / 0.25


def learn_faces(eye: Eye, photos: FaceSet) -> EmotionBranch:
    """A small network that reads attributes, expression and landmarks from captures."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    config = NETWORK.model_copy(update={"attribute_names": photos.attribute_names})
    branch = EmotionBranch(config).train()
    every = list(range(len(photos)))
    batch = load_batch(photos, every, every, size=SIZE)
    images = torch.cat([eye.see(part, generator) for part in batch.photos.split(64)])
    optimiser = torch.optim.Adam(branch.parameters(), lr=3e-3)
    for step in range(FACE_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 1.5e-3 * (1 + math.cos(math.pi * step / FACE_STEPS))
        rows = torch.randperm(len(images), generator=generator)[:64]
        shared = branch.extract(images[rows])
        loss = (
            losses.attribute_loss(branch.attributes(shared), batch.attributes[rows])
            + losses.emotion_loss(branch.emotion(shared), batch.emotion[rows])
            + 10 * losses.landmark_loss(branch.landmarks(shared), batch.landmarks[rows])
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return branch.eval()


@torch.no_grad()
def read_frames(eye: Eye, branch: EmotionBranch, faces: FaceSet, seed: int) -> Rows:
    """Everything the heads need of every frame, computed once."""
    generator = torch.Generator().manual_seed(seed)
    features, tracks, times, severity = [], [], [], []
    for first in range(0, len(faces), 8 * FRAMES):
        rows = list(range(first, min(first + 8 * FRAMES, len(faces))))
        batch = load_batch(faces, rows, [row // FRAMES for row in rows], size=SIZE)
        images = eye.see(batch.photos, generator)
        shared = branch.extract(images)
        features.append(torch.cat([shared, shared], dim=1))  # the depression branch is a copy
        tracks.append(follow(images, branch.landmarks(shared), batch.group))
        times.append(batch.time_s)
        severity.append(batch.severity)
    which = torch.arange(len(faces)) // FRAMES
    return torch.cat(features), torch.cat(tracks), which, torch.cat(times), torch.cat(severity)


class RecurrentHead(nn.Module):
    """The other candidate: a GRU over projected features and tracks, pooled by attention."""

    def __init__(self, features: int, *, hidden: int = 16) -> None:
        super().__init__()
        self.traits = nn.Linear(features, TRAITS)
        self.gru = nn.GRU(TRAITS + SHIFTS + POSES + 1, hidden, batch_first=True)
        self.attend = nn.Linear(hidden, 1)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(hidden, 1))
        nn.init.zeros_(self.head[-1].weight)

    def score(self, features: Tensor, tracks: Tensor, which: Tensor, times: Tensor) -> Tensor:
        """As DepressionBranch.score, for recordings of FRAMES frames in time order."""
        traits = self.traits(functional.layer_norm(features, features.shape[1:]))
        steps = torch.diff(times.view(-1, FRAMES), prepend=times.view(-1, FRAMES)[:, :1])
        inputs = torch.cat([traits, tracks / 0.03], dim=1).view(-1, FRAMES, TRAITS + SHIFTS + POSES)
        states, _ = self.gru(torch.cat([inputs, steps[:, :, None].float()], dim=2))
        pooled = (torch.softmax(self.attend(states), dim=1) * states).sum(1)
        return BDI_MAX * self.head(pooled).squeeze(1).repeat_interleave(FRAMES)


def make_head(name: str, seed: int) -> tuple[nn.Module, list[nn.Parameter]]:
    """A head and the parameters of it that learn (a frozen extractor's do not)."""
    torch.manual_seed(seed)
    if name == "GRU":
        head: nn.Module = RecurrentHead(64 * NETWORK.width)
        return head, list(head.parameters())
    head = FaceReader(NETWORK.model_copy(update={"temporal": name})).depression
    return head, [p for key, p in head.named_parameters() if not key.startswith("extract")]


def of_people(rows: Rows, people: Tensor) -> Rows:
    """The rows of some recordings, in their order."""
    index = (people[:, None] * FRAMES + torch.arange(FRAMES)).flatten()
    return tuple(part[index] for part in rows)


def by_recording(values: Tensor) -> Tensor:
    """One value per recording: the mean of its frames'."""
    return values.view(-1, FRAMES).mean(1)


def fit(name: str, learn: Rows, choose: Rows, seed: int) -> nn.Module:
    """The head with the lowest MAE on the selection people, over learning rates and steps."""
    best, lowest = None, math.inf
    for rate in (1e-3, 1e-2):
        head, parameters = make_head(name, seed)
        nn.init.constant_(head.head[-1].bias, float(learn[4].mean()) / BDI_MAX)
        optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.1)
        generator = torch.Generator().manual_seed(seed)
        for step in range(HEAD_STEPS + 1):
            for group in optimiser.param_groups:
                group["lr"] = rate / 2 * (1 + math.cos(math.pi * step / HEAD_STEPS))
            if step % CHECK_EVERY == 0:
                head.eval()
                with torch.no_grad():
                    error = by_recording(head.score(*choose[:4])) - by_recording(choose[4])
                if float(error.abs().mean()) < lowest:
                    lowest, best = float(error.abs().mean()), deepcopy(head)
                head.head.train()
            people = torch.randperm(TRAIN, generator=generator)[:BATCH]
            *seen, severity = of_people(learn, people)
            loss = losses.depression_loss(head.score(*seen), severity, seen[2])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return best


def read_cues(names: tuple[str, ...], seed: int, gain: float) -> np.ndarray:
    """Scores of the test people by least squares on true cues, on the scale on which they are normal."""
    sessions = [draw_session(seed, person, cue_gain=gain) for person in range(TRAIN + DEV + TEST)]
    columns = [np.ones(len(sessions))]
    for cue in CUES:
        if cue.name in names:
            values = np.array([session.cues[cue.name] for session in sessions])
            if cue.kind != "linear":
                values = np.log(values if cue.kind == "log" else values / (1 - values))
            columns.append(values)
    table, severity = np.stack(columns, axis=1), np.array([s.severity for s in sessions], float)
    known = slice(0, TRAIN + DEV)
    weights, *_ = np.linalg.lstsq(table[known], severity[known], rcond=None)
    return np.clip(table[TRAIN + DEV :] @ weights, 0, BDI_MAX)


@dataclass
class Table:
    """Scores of the pooled test people, row by row; label and train mean of each."""

    label: np.ndarray
    constant: np.ndarray

    def line(self, name: str, parameters: str, score: np.ndarray, other: np.ndarray) -> str:
        """A row: MAE, gain over the train mean and over another row, R^2 and CCC with intervals."""
        label, constant = self.label, self.constant
        boot = ClusterBootstrap(tuple(map(str, range(len(label)))))

        def squares(values: np.ndarray, weights: Weights) -> np.ndarray:
            return rmse(values, label, weights) ** 2

        def gain(against: np.ndarray) -> Figure | None:
            return boot.figure(lambda w: mae(against, label, w) - mae(score, label, w))

        figures = [
            boot.figure(lambda w: mae(score, label, w)),
            gain(constant),
            gain(other),
            boot.figure(lambda w: 1 - squares(score, w) / squares(constant, w)),
            boot.figure(lambda w: ccc(score, label, w)),
        ]
        shown = [
            "not defined" if f is None else f"{f.value:.2f} [{f.ci95[0]:.2f}, {f.ci95[1]:.2f}]"
            for f in figures
        ]
        return f"| {name} | {parameters} | " + " | ".join(shown) + " |"


def say(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)  # noqa: T201


def main() -> None:
    """Trains every head on every lens and seed; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lenses", nargs="+", default=["clear", "focused", "literal"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 4, 5])
    parser.add_argument("--cue-gain", type=float, default=1.0)
    given = parser.parse_args()
    started, people = time.perf_counter(), range(TRAIN + DEV + TEST)
    photos = synthetic.photos(PHOTO_PEOPLE, PHOTOS_EACH, seed=0, size=SIZE, workers=1)
    sets = [
        synthetic.recordings(
            people,
            FRAMES,
            seed=seed,
            size=SIZE,
            duration_s=FRAMES * STEP_S,
            cue_gain=given.cue_gain,
            workers=1,
        )
        for seed in given.seeds
    ]
    severity = np.array([[f.records[p * FRAMES].severity for p in people] for f in sets])
    label = severity[:, TRAIN + DEV :].ravel()
    table = Table(label, np.repeat(severity[:, : TRAIN + DEV].mean(1), TEST))
    say(f"rendered after {time.perf_counter() - started:.0f} s; n = {len(label)} test people")
    say(f"ceiling of a linear reader of all cues: R^2 = {ceiling(given.cue_gain):.2f}\n")
    say("| row | weights learned | MAE | gain over train mean | gain over frames | R^2 | CCC |")
    say("|---|---|---|---|---|---|---|")
    say(table.line("train mean", "0", table.constant, table.constant))
    for title, names in (
        ("true cues: all", tuple(cue.name for cue in CUES)),
        ("true cues: head speed, head RMS, motion energy", MOTION_CUES),
    ):
        found = [read_cues(names, seed, given.cue_gain) for seed in given.seeds]
        say(table.line(title, str(len(names) + 1), np.concatenate(found), table.constant))
    for lens in given.lenses:
        eye = Eye(lens)
        branch = learn_faces(eye, photos)
        scores: dict[str, list[np.ndarray]] = {name: [] for name in HEADS}
        for seed, faces in zip(given.seeds, sets, strict=True):
            rows = read_frames(eye, branch, faces, seed)
            learn, choose, test = (
                of_people(rows, part)
                for part in torch.arange(len(people)).split([TRAIN, DEV, TEST])
            )
            for name in HEADS:
                head = fit(name, learn, choose, seed).eval()
                with torch.no_grad():
                    found = by_recording(head.score(*test[:4])).clamp(0, BDI_MAX)
                scores[name].append(found.numpy().astype(float))
        pooled = {name: np.concatenate(found) for name, found in scores.items()}
        for name in HEADS:
            weights = f"{sum(p.numel() for p in make_head(name, 0)[1]):,}"
            say(table.line(f"{lens}: {name}", weights, pooled[name], pooled["frames"]))
    say(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
