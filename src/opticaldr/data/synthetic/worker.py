"""Renders all images of one person; imports no torch, so worker processes start fast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opticaldr.data.synthetic.cues import draw_session
from opticaldr.data.synthetic.mesh import build_mesh
from opticaldr.data.synthetic.person import draw_person
from opticaldr.data.synthetic.render import render
from opticaldr.data.synthetic.scenes import ATTRIBUTES, attributes, photo_scene, recording_scenes

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


def frame_times(count: int, duration_s: float) -> np.ndarray:
    """Equally spaced times [s], in the middle of `count` equal parts of the recording."""
    return (np.arange(count) + 0.5) * (duration_s / count)
