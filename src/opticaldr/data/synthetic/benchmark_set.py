"""The benchmark as a FaceSet, and truth.json: what is known about it because we made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from opticaldr.data.faceset import FaceSet
from opticaldr.data.synthetic.cues import SLOWING
from opticaldr.data.synthetic.nuisances import kept_frames
from opticaldr.data.synthetic.optimum import describe_optimum
from opticaldr.data.synthetic.presets import Preset, find_preset
from opticaldr.data.synthetic.scenes import ATTRIBUTES
from opticaldr.data.synthetic.sessions import (
    ALL_CUES,
    DETAIL,
    GROUP_NAMES,
    GROUPS,
    SHARES,
    SPEECH_FRACTION,
    TASKS,
    BenchmarkSession,
    draw_sessions,
    loadings,
)
from opticaldr.data.synthetic.store import Progress, Rows, load
from opticaldr.data.synthetic.worker import LABELS, SessionJob, Take, render_session
from opticaldr.types import FaceRecord, InputError

STATEMENT = "Rendered people: a result on them says nothing about patients."
BLOTCHES_PER_SD = 0.6
"""Logarithm of the factor on the skin's blotches that one SD of the confound makes; ours."""


def benchmark(
    preset: Preset | str,
    persons: int,
    *,
    seed: int,
    size: int = 128,
    frames: int = 32,
    step_s: float = 0.5,
    shares: Sequence[float] = SHARES,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> FaceSet:
    """Recordings of rendered people under a preset: 1 to 3 sessions each, two tasks a session.

    The crop of a recording is fixed (aligned on the neutral frontal face), so that head motion is
    seen as a fixed camera sees it. Equal arguments give equal bytes.

    Args:
        preset: one of presets.PRESETS by name, or a law of your own.
        persons: number of people; 83 give the 150 sessions of AVEC 2014.
        seed: of everything that is drawn.
        size: side of the images [px].
        frames: of each recording; some may be dropped (Nuisances.dropped).
        step_s: time between frames [s].
        shares: of the sessions in train, dev and test.
        cache_dir, progress, workers: as for sets.photos.
    """
    law = find_preset(preset) if isinstance(preset, str) else preset
    if frames < 1 or step_s <= 0 or size < 16:
        raise InputError(
            f"Expected at least one frame, a step above 0 s and 16 px, found {frames} frames, "
            f"{step_s} s and {size} px; change these numbers."
        )
    sessions = draw_sessions(law, persons, seed=seed, shares=shares)
    jobs = [_job(law, session, seed, size, frames, step_s) for session in sessions]
    images, labels = load(
        "benchmark", jobs, render_session, cache_dir=cache_dir, progress=progress, workers=workers
    )
    records, row_of = [], {}
    rows = iter(labels.tolist())
    for session, job in zip(sessions, jobs, strict=True):
        for task, take in zip(TASKS, job.takes, strict=True):
            for number in range(len(take.times_s)):
                record = _record(session, task, number, next(rows))
                row_of[record.key] = len(records)
                records.append(record)
    return FaceSet(
        f"synthetic {law.name}",
        tuple(records),
        Rows(images, row_of),
        ATTRIBUTES,
        synthetic=True,
        group_names=GROUP_NAMES,
    )


def truth(
    preset: Preset | str, persons: int, *, seed: int, shares: Sequence[float] = SHARES
) -> dict[str, object]:
    """The content of truth.json: law, best possible errors, and what this draw happens to be."""
    law = find_preset(preset) if isinstance(preset, str) else preset
    sessions = draw_sessions(law, persons, seed=seed, shares=shares)
    return {
        "schema_version": "1.0",
        "synthetic": True,
        "statement": STATEMENT,
        "seed": seed,
        "persons": persons,
        "shares": list(shares),
        "preset": asdict(law),
        "optimum": describe_optimum(law, sessions),
        "cues": _cue_table(law, sessions),
        "sessions": [
            {
                "session": s.id,
                "split": s.split,
                "severity": s.severity,
                "label": s.label,
                **dict(zip(GROUP_NAMES, s.groups, strict=True)),
            }
            for s in sessions
        ],
    }


def _cue_table(preset: Preset, sessions: Sequence[BenchmarkSession]) -> list[dict[str, object]]:
    """Correlation of each cue with severity: in the law, and in the first session of each person."""
    first = [s for s in sessions if s.number == 1]
    severity = np.array([s.severity for s in first], dtype=float)
    values = np.array([s.standard for s in first])
    rows = []
    for k, cue in enumerate(ALL_CUES):
        specified = {g: round(SLOWING * float(loadings(preset, g)[k]), 4) for g in GROUPS}
        measured = float(np.corrcoef(values[:, k], severity)[0, 1]) if severity.std() > 0 else None
        r = np.mean(list(specified.values()))
        rows.append(
            {
                "cue": cue.name,
                "r": specified if preset.group_gain != 1 else specified["A"],
                "r_here": measured,
                "standard_error": float((1 - r**2) / np.sqrt(len(first))),
            }
        )
    return rows


def _job(
    preset: Preset, session: BenchmarkSession, seed: int, size: int, frames: int, step_s: float
) -> SessionJob:
    takes = []
    for number, task in enumerate(TASKS, start=1):
        rng = np.random.default_rng([seed, session.person, 16, session.number, number])
        kept = kept_frames(preset.nuisances, frames, rng)
        times = tuple(round(float(i + 0.5) * step_s, 6) for i in kept)
        takes.append(Take(session.acted(task), SPEECH_FRACTION[task], times))
    sd = float(np.clip(session.confound, -2.4, 2.4)) if preset.confound else 0.0
    return SessionJob(
        seed=seed,
        index=session.person,
        number=session.number,
        size=size,
        takes=tuple(takes),
        nuisances=preset.nuisances,
        blotches=float(np.exp(BLOTCHES_PER_SD * sd)),
        detail=takes[0].acted.cues[DETAIL.name] if preset.detail_r else 0.0,
        detail_cutoff=preset.detail_cutoff,
    )


def _record(session: BenchmarkSession, task: str, number: int, values: list[float]) -> FaceRecord:
    label = dict(zip(LABELS, values, strict=True))
    return FaceRecord(
        key=f"{session.id}_{task}/{number:05d}",
        person=session.person_id,
        recording=f"{session.person_id}/{session.id}/{task}",
        time_s=round(label["time_s"], 4),  # stored as float32
        split=session.split,
        severity=float(session.label),
        attributes=tuple(label[name] for name in ATTRIBUTES),
        landmarks=tuple(values[-10:]),
        session=session.id,
        task=task,
        groups=session.groups,
    )
