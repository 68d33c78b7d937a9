"""Scores of recordings, read from frozen captures, and what they are counted by: recording or session.

The numbers made of them stand in depression_report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from opticaldr.camera import describe_camera
from opticaldr.data.batches import GroupedFaces, load_batch
from opticaldr.data.faceset import FaceSet
from opticaldr.data.protocol import session_of
from opticaldr.model import OpticalDR
from opticaldr.optics.colour import srgb_to_linear
from opticaldr.seeds import generator_for
from opticaldr.types import BDI_MAX, FaceRecord, InputError

TEST_DEPTH_M = 1.0
"""Distance at which a model is tested unless told otherwise [m]."""

CLIP_FRAMES = 64
"""Most frames of a recording that go through the network together; bounds the memory."""

TRIM = 0.1
"""Share of frame scores that the trimmed mean leaves out at either end."""


@dataclass(frozen=True)
class RecordingScore:
    """One scored recording (or session): its BDI-II label and the mean of its frame scores.

    score: in [0, 63]. frames: how many were scored. session: what the label belongs to
    (protocol.session_of); "" = the recording itself. groups: see FaceSet.group_names.
    frame_scores: in time order, not clamped.
    """

    recording: str
    person: str
    label: float
    score: float
    frames: int
    session: str = ""
    task: str = ""
    groups: tuple[str, ...] = ()
    frame_scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class SessionLabel:
    """What somebody could remember of a session: whose it is, and its BDI-II label."""

    person: str
    label: float


@torch.no_grad()
def score_recordings(
    model: OpticalDR,
    faces: FaceSet,
    *,
    seed: int,
    depth_m: float = TEST_DEPTH_M,
    on_recording: Callable[[int, int], None] | None = None,
) -> list[RecordingScore]:
    """Scores every recording: mean over its frames, clamped to [0, 63] (paper.md 7.6).

    Frames go through the network in time order, in clips of at most CLIP_FRAMES; as every frame
    counts once, clips are weighted by their frames. The noise of a recording depends on the seed and
    its id alone, so its score does not depend on what else is scored. Images that the camera itself
    recorded (faces.captured_by) meet no simulated lens. The model keeps its mode and device.

    Raises:
        InputError: frames without a BDI-II label or with two of them, captures of another lens, or
            scores that are not finite.
    """
    captured = _are_captures_of(model, faces)
    device = next(model.network.parameters()).device
    size = model.camera.lens.config.sensor_pixels
    grouped = GroupedFaces.of(faces, "recordings")
    scores = []
    for number, members in enumerate(grouped.groups):
        records = [faces.records[index] for index in members]
        label = _one_label(records)
        stream = generator_for(seed, "score", records[0].recording).initial_seed()
        generator = torch.Generator(device).manual_seed(stream)
        in_time = sorted(members, key=lambda index: faces.records[index].time_s)
        frame_scores: list[float] = []
        for clip in np.array_split(in_time, math.ceil(len(in_time) / CLIP_FRAMES)):
            batch = load_batch(faces, clip.tolist(), [0] * len(clip), size=size).to(device)
            scene = srgb_to_linear(batch.photos)
            if captured:
                prediction = model.network(scene, batch.group, batch.time_s)
            else:
                depth = torch.full((len(clip),), depth_m, device=device)
                prediction = model(scene, depth, batch.group, batch.time_s, generator=generator)
            frame_scores += prediction.severity.tolist()
        scores.append(
            RecordingScore(
                recording=records[0].recording,
                person=records[0].person,
                label=label,
                score=pool(frame_scores, records[0].recording),
                frames=len(frame_scores),
                session=session_of(records[0]),
                task=records[0].task,
                groups=records[0].groups,
                frame_scores=tuple(frame_scores),
            )
        )
        if on_recording:
            on_recording(number + 1, len(grouped.groups))
    return scores


def pool(frame_scores: Sequence[float], recording: str, how: str = "mean") -> float:
    """One score in [0, 63] from frame scores; how: "mean", "median" or "trimmed" (a tenth a side).

    recording: named if there are no finite scores (InputError).
    """
    from scipy.stats import trim_mean

    scores = np.asarray(frame_scores)
    if not len(scores) or not np.isfinite(scores).all():
        raise InputError(
            f"Expected finite frame scores for recording '{recording}', found "
            f"{'NaN or infinity' if len(scores) else 'no frame'}; check the recording and the "
            "weights of the run."
        )
    ways = {"mean": np.mean, "median": np.median, "trimmed": lambda v: trim_mean(v, TRIM)}
    return float(np.clip(ways[how](scores), 0.0, BDI_MAX))


def pooled(rows: Sequence[RecordingScore], how: str) -> list[RecordingScore]:
    """The same recordings with their frame scores pooled another way."""
    return [
        replace(row, score=pool(row.frame_scores or (row.score,), row.recording, how))
        for row in rows
    ]


def by_session(rows: Sequence[RecordingScore]) -> list[RecordingScore]:
    """One row per session: the mean of its recordings (tasks), each counting once.

    A group that differs between the recordings of a session is unknown ("") for the session.
    """
    members: dict[str, list[RecordingScore]] = {}
    for row in rows:
        members.setdefault(row.session or row.recording, []).append(row)
    sessions = []
    for session, held in members.items():
        first = held[0]
        other = next((r for r in held if (r.label, r.person) != (first.label, first.person)), None)
        if other is not None:
            raise InputError(
                f"Expected one person and one BDI-II label in session '{session}', found "
                f"{first.label:g} in '{first.recording}' and {other.label:g} in "
                f"'{other.recording}'; correct the labels."
            )
        kinds = zip(*(row.groups for row in held), strict=True)
        sessions.append(
            RecordingScore(
                recording=session,
                person=first.person,
                label=first.label,
                score=float(np.mean([row.score for row in held])),
                frames=sum(row.frames for row in held),
                session=session,
                groups=tuple(kind[0] if len(set(kind)) == 1 else "" for kind in kinds),
            )
        )
    return sessions


def session_labels(faces: FaceSet) -> list[SessionLabel]:
    """The label of each session, in order of first appearance."""
    found: dict[str, FaceRecord] = {}
    for record in faces.records:
        found.setdefault(session_of(record), record)
    return [SessionLabel(record.person, record.severity) for record in found.values()]


def _are_captures_of(model: OpticalDR, faces: FaceSet) -> bool:
    """True if the model's own camera recorded the images; InputError if another one did."""
    own = describe_camera(model.camera)["sha256"]
    if faces.captured_by in ("", own):
        return faces.captured_by == own
    raise InputError(
        f"{faces.name}: expected clear faces or captures of the lens {own[:12]}, found captures of "
        f"the lens {faces.captured_by[:12]}; use the run that this lens belongs to."
    )


def _one_label(records: Sequence[FaceRecord]) -> float:
    """The BDI-II label that all frames of a recording share."""
    label = records[0].severity
    if not 0 <= label <= BDI_MAX:
        raise InputError(
            f"Expected a BDI-II label in [0, 63] for recording '{records[0].recording}', found "
            f"{label}; fill the label or leave the recording out."
        )
    other = next((r for r in records if (r.severity, r.person) != (label, records[0].person)), None)
    if other is not None:
        raise InputError(
            f"Expected one person and one BDI-II label in recording '{records[0].recording}', found "
            f"'{records[0].person}' with {label:g} and '{other.person}' with {other.severity:g}; "
            "correct the table."
        )
    return label
