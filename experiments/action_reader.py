"""A small network that reads head pose and facial actions from captures: the fixed reader of studies.

It stands for a reader trained on coded faces (FACS). The rendered people of its teaching set are
nobody of any study, and tell nothing about severity; what their faces do is known exactly. It is
taught on clear faces first, and then on the captures of each camera, so that blur costs what it
must and not what a reader misses that never saw it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from opticaldr.data.faceset import FaceSet
from opticaldr.data.synthetic.behaviour import move
from opticaldr.data.synthetic.head import load_head
from opticaldr.data.synthetic.person import draw_person
from opticaldr.data.synthetic.sessions import SPEECH_FRACTION, TASKS, BenchmarkSession
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.privacy.cameras import CameraUnderAttack
from opticaldr.types import Irradiance, Scene

ACTIONS = (
    *("eyeBlinkLeft", "eyeLookDownLeft", "mouthSmileLeft", "jawOpen", "browDownLeft"),
    *("browInnerUp", "mouthDimpleLeft", "mouthShrugLower", "cheekSquintLeft"),
)
"""What is read beside yaw, pitch and roll; the right side does what the left one does."""
SIGNS = torch.tensor([-1.0, 1.0, -1.0] + [1.0] * len(ACTIONS))
"""What a mirror does to yaw, pitch, roll and actions."""
FACE = 0.75
"""The middle of the picture that is looked at: the face without most of the background."""
FLOOR = 0.02
"""Spread of a signal that counts as stillness, in SDs of the teaching set."""


def blur_of(camera: CameraUnderAttack, size: int) -> Callable[[Scene], Irradiance]:
    """The camera's optics; where the PSF is a product of a row and a column, many times as fast."""
    psf = camera.psf
    if psf is None:
        return camera.optics
    u, s, v = torch.linalg.svd(psf[0].double())
    if bool((s[:, 1:].sum(1) > 1e-6 * s[:, 0]).any()) or camera.optics.border != "reflect":
        return camera.optics
    m = psf.shape[-1]
    before, after = m - 1 - m // 2, m // 2

    def matrix(kernels: Tensor) -> Tensor:
        line = functional.pad(torch.eye(size).double()[:, None], (before, after), mode="reflect")
        return functional.conv1d(line, kernels.flip(1)[:, None]).permute(1, 2, 0).float()

    root = s[:, :1].sqrt()
    down, across = matrix(u[:, :, 0] * root), matrix(v[:, 0] * root)

    def blur(scene: Scene) -> Irradiance:
        return down @ scene @ across.mT

    probe = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(blur(probe), camera.optics(probe), atol=1e-4, rtol=0)
    return blur


@torch.no_grad()
def captures(
    camera: CameraUnderAttack, faces: FaceSet, *, seed: int, keep: Sequence[int] = ()
) -> tuple[np.ndarray, Tensor]:
    """Grey middles (n, 1, f, f) uint8 sRGB of the captures of all frames, and whole colour captures
    (sRGB in [0, 1]) of the frames in `keep`."""
    generator = torch.Generator().manual_seed(seed)
    wanted, grey, whole = set(keep), [], {}
    blur = blur_of(camera, faces.image(0).shape[0])
    for start in range(0, len(faces), 32):
        numbers = range(start, min(start + 32, len(faces)))
        images = np.stack([faces.image(i) for i in numbers]).transpose(0, 3, 1, 2)
        light = blur(srgb_to_linear(torch.from_numpy(images).float() / 255))
        stored = linear_to_srgb(camera.noise.record(light, generator=generator, frames=1))
        whole |= {i: stored[i - start] for i in numbers if i in wanted}
        edge = round(stored.shape[-1] * (1 - FACE) / 2)
        middle = stored.mean(1, keepdim=True)[..., edge:-edge, edge:-edge]
        grey.append((255 * middle).round().byte().numpy())
    kept = torch.stack([whole[i] for i in keep]) if keep else torch.zeros(0)
    return np.concatenate(grey), kept


def motion_of(faces: FaceSet, sessions: Sequence[BenchmarkSession], *, seed: int) -> np.ndarray:
    """(n, 3 + actions): what head and face really do in every frame."""
    names = load_head().action_names
    columns = [names.index(name) for name in ACTIONS]
    found = np.zeros((len(faces), len(SIGNS)), dtype=np.float32)
    by_id = {session.id: session for session in sessions}
    for rows in recordings_of(faces):
        record = faces.records[rows[0]]
        session, task = by_id[record.session], record.task
        motion = move(
            session.acted(task),
            np.array([faces.records[i].time_s for i in rows]),
            seed=seed,
            index=session.person,
            lid_rest=draw_person(seed, session.person).lid_rest,
            take=(session.number, TASKS.index(task) + 1),
            speech=SPEECH_FRACTION[task],
        )
        pose = [motion.yaw, motion.pitch, motion.roll]
        found[rows] = np.column_stack([*pose, motion.coefficients[:, columns]])
    return found


def recordings_of(faces: FaceSet) -> list[list[int]]:
    """Frames of each recording, in order."""
    rows: dict[str, list[int]] = {}
    for index, record in enumerate(faces.records):
        rows.setdefault(record.recording, []).append(index)
    return list(rows.values())


class ActionReader(nn.Module):
    """(b, 1, f, f) grey pictures in 0..255 to (b, 3 + actions), standardised."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, 64, 96)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            kernel = 5 if inputs == 1 else 3
            layers += [nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(6), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(96 * 36, 128), nn.ReLU(), nn.Linear(128, len(SIGNS)))

    def forward(self, grey: Tensor) -> Tensor:
        grey = grey.float() / 255
        centred = grey - grey.mean((1, 2, 3), keepdim=True)
        return self.head(self.body(centred / (grey.std((1, 2, 3), keepdim=True) + 1e-3)))

    @torch.no_grad()
    def read(self, grey: np.ndarray) -> np.ndarray:
        """(n, 3 + actions) of every picture."""
        parts = [torch.from_numpy(grey[i : i + 256]) for i in range(0, len(grey), 256)]
        return torch.cat([self(part) for part in parts]).numpy()


def teach(
    reader: ActionReader, grey: np.ndarray, motion: np.ndarray, *, epochs: int, seed: int
) -> ActionReader:
    """Trains the reader in place; pictures are shifted by up to 3 px and mirrored."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.from_numpy((motion - motion.mean(0)) / motion.std(0))
    # a mirrored yaw is -yaw only about 0: the mean of a symmetric population
    pictures = torch.from_numpy(grey)
    steps = epochs * (len(pictures) // 64)
    optimiser = torch.optim.AdamW(reader.parameters(), lr=2e-3, weight_decay=1e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    reader.train()
    for _ in range(epochs):
        order = torch.randperm(len(pictures), generator=generator)
        for rows in order[: len(order) // 64 * 64].view(-1, 64):
            batch, wanted = pictures[rows], target[rows]
            shift = torch.randint(-3, 4, (2,), generator=generator).tolist()
            batch = torch.roll(batch, shift, (2, 3))
            if torch.rand((), generator=generator) < 0.5:
                batch, wanted = batch.flip(3), wanted * SIGNS
            loss = functional.mse_loss(reader(batch), wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            plan.step()
    return reader.eval()


def describe(signals: np.ndarray) -> np.ndarray:
    """(3 d,) of signals (n, d) of one recording: mean, logarithms of spread and of change."""
    change = np.sqrt(np.square(np.diff(signals, axis=0)).mean(0)) if len(signals) > 1 else 0.0
    spread = signals.std(0)
    return np.concatenate(
        [signals.mean(0), np.log(spread + FLOOR), np.log(change + 0 * spread + FLOOR)]
    )
