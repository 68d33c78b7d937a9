"""Renders the images of one person or session; imports no torch, so worker processes start fast."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from opticaldr.data.synthetic.cues import Session, draw_session
from opticaldr.data.synthetic.mesh import Mesh, build_mesh
from opticaldr.data.synthetic.nuisances import (
    disturb_image,
    disturb_scene,
    draw_conditions,
    draw_hand,
)
from opticaldr.data.synthetic.person import draw_person
from opticaldr.data.synthetic.presets import Nuisances
from opticaldr.data.synthetic.render import render
from opticaldr.data.synthetic.scenes import ATTRIBUTES, attributes, photo_scene, recording_scenes
from opticaldr.data.synthetic.texture import add_detail

LABELS = ("emotion", "severity", "time_s", *ATTRIBUTES, *(f"landmark_{i}" for i in range(10)))
"""Columns of the label table of a set."""


@dataclass(frozen=True)
class Job:
    """Images of one person: `count` photographs, or frames of a recording if duration_s > 0."""

    seed: int
    index: int
    count: int
    size: int
    duration_s: float = 0.0
    cue_gain: float = 1.0


def render_person(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, size, size, 3) uint8 and labels (count, len(LABELS)) float32."""
    mesh = build_mesh(draw_person(job.seed, job.index))
    if job.duration_s > 0:
        session = draw_session(job.seed, job.index, cue_gain=job.cue_gain)
        times = frame_times(job.count, job.duration_s)
        scenes = recording_scenes(mesh, session, times)
        known = [(-1.0, float(session.severity), float(time)) for time in times]
    else:
        drawn = [photo_scene(mesh.person, number) for number in range(job.count)]
        scenes = [scene for scene, _ in drawn]
        known = [(float(emotion), np.nan, 0.0) for _, emotion in drawn]
    images = np.empty((job.count, job.size, job.size, 3), dtype=np.uint8)
    labels = np.empty((job.count, len(LABELS)), dtype=np.float32)
    for i, scene in enumerate(scenes):
        images[i], landmarks = render(mesh, scene, job.size)
        seen = attributes(mesh.person, scene.coefficients)
        labels[i] = [*known[i], *seen, *landmarks.ravel()]
    return images, labels


def portrait(index: int, size: int) -> np.ndarray:
    """(size, size, 3) uint8 sRGB: one photo of a person of seed 0; no cache is read or written."""
    images, _ = render_person(Job(0, index, 1, size))
    return images[0]


def frame_times(count: int, duration_s: float) -> np.ndarray:
    """Equally spaced times [s], in the middle of `count` equal parts of the recording."""
    return (np.arange(count) + 0.5) * (duration_s / count)


@dataclass(frozen=True)
class Take:
    """One recording: cues as acted in its task, share of time with speech, times of its frames."""

    acted: Session
    speech: float
    times_s: tuple[float, ...]


@dataclass(frozen=True)
class SessionJob:
    """All frames of one benchmark session, task after task.

    number: of the session, from 1. blotches: factor on the blotches of the skin. detail: contrast of
    fine skin detail, 0 = none, from so many cycles per face on (detail_cutoff).
    """

    seed: int
    index: int
    number: int
    size: int
    takes: tuple[Take, ...]
    nuisances: Nuisances
    blotches: float
    detail: float
    detail_cutoff: float

    @property
    def count(self) -> int:
        return sum(len(take.times_s) for take in self.takes)


def render_session(job: SessionJob) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, size, size, 3) uint8 and labels (count, len(LABELS)) float32."""
    conditions = draw_conditions(
        job.nuisances, np.random.default_rng([job.seed, job.index, 13, job.number])
    )
    mesh = _mesh_of_session(job, glasses=conditions.glasses)
    images = np.empty((job.count, job.size, job.size, 3), dtype=np.uint8)
    labels = np.empty((job.count, len(LABELS)), dtype=np.float32)
    row = 0
    for task, take in enumerate(job.takes, start=1):
        rng = np.random.default_rng([job.seed, job.index, 14, job.number, task])
        hand = draw_hand(job.nuisances, mesh.person.skin, take.times_s[-1], rng)
        scenes = recording_scenes(
            mesh,
            take.acted,
            np.array(take.times_s),
            visit=(job.number,),
            task=(task,),
            speech=take.speech,
        )
        for time, scene in zip(take.times_s, scenes, strict=True):
            image, landmarks = render(mesh, disturb_scene(scene, conditions), job.size)
            images[row] = disturb_image(image, conditions, hand, time)
            seen = attributes(mesh.person, scene.coefficients)
            labels[row] = [-1.0, take.acted.severity, time, *seen, *landmarks.ravel()]
            row += 1
    return images, labels


def _mesh_of_session(job: SessionJob, *, glasses: bool) -> Mesh:
    """The person as they came: with or without glasses, blotches, fine skin detail."""
    person = draw_person(job.seed, job.index)
    person = replace(
        person,
        glasses=person.glasses if glasses else None,
        blotches=person.blotches * job.blotches,
    )
    mesh = build_mesh(person)
    if job.detail > 0:
        seed = (job.seed, job.index, 15)
        texture = add_detail(mesh.texture, contrast=job.detail, cutoff=job.detail_cutoff, seed=seed)
        mesh = replace(mesh, texture=texture)
    return mesh
