"""Sets of synthetic faces: photographs and recordings, rendered once and cached."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from opticaldr.data.faceset import FaceSet
from opticaldr.data.synthetic.scenes import ATTRIBUTES
from opticaldr.data.synthetic.store import Progress, Rows, load
from opticaldr.data.synthetic.worker import LABELS, Job, render_person
from opticaldr.types import FaceRecord, InputError


def photos(
    people: range,
    per_person: int,
    *,
    seed: int,
    size: int = 128,
    split: str = "",
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> FaceSet:
    """Photographs of synthetic people, aligned to the five-point template.

    Expression (an emotion label), pose, light and background change from image to image.

    Args:
        people: numbers of the people; a person is the same in every set with the same seed.
        per_person: images of each.
        seed: of everything that is drawn.
        size: side of the images [px].
        split: written into every record.
        cache_dir: where rendered sets are kept; default $OPTICALDR_CACHE, else
            ~/.cache/opticaldr/synthetic. If it cannot be written the images stay in memory.
        progress: called with (images done, images in all).
        workers: processes; default one per core. The images do not depend on it.
    """
    jobs = [Job(seed, index, per_person, size) for index in _checked(people, per_person, size)]
    images, labels = load(
        "photos", jobs, render_person, cache_dir=cache_dir, progress=progress, workers=workers
    )
    return _face_set("synthetic photos", jobs, images, labels, split)


def recordings(
    people: range,
    frames: int,
    *,
    seed: int,
    size: int = 128,
    split: str = "",
    duration_s: float = 20.0,
    cue_gain: float = 1.0,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> FaceSet:
    """One recording per synthetic person: equally spaced frames, labelled with severity.

    The crop is fixed for a recording (aligned on the neutral frontal face), so that head motion
    is seen as a fixed camera sees it. Arguments as for `photos`; duration_s in seconds; cue_gain
    above 1 exaggerates every cue of severity (see cues.draw_session).
    """
    if duration_s <= 0:
        raise InputError(f"Expected a duration above 0 s, found {duration_s}; give more seconds.")
    checked = _checked(people, frames, size)
    jobs = [Job(seed, index, frames, size, duration_s, cue_gain) for index in checked]
    images, labels = load(
        "recordings", jobs, render_person, cache_dir=cache_dir, progress=progress, workers=workers
    )
    return _face_set("synthetic recordings", jobs, images, labels, split)


def _checked(people: range, count: int, size: int) -> range:
    if len(people) == 0 or min(people) < 0 or count < 1 or size < 16:
        raise InputError(
            "Expected at least one person (numbers from 0), one image each and 16 pixels, found "
            f"{people}, {count} images, {size} pixels; change these numbers."
        )
    return people


def _face_set(
    name: str, jobs: list[Job], images: np.ndarray, labels: np.ndarray, split: str
) -> FaceSet:
    """Records and images of a set; `split` is written into every record."""
    records, row_of = [], {}
    for row, values in enumerate(labels.tolist()):
        job = jobs[row // jobs[0].count]
        person = f"synthetic-{job.index:05d}"
        label = dict(zip(LABELS, values, strict=True))
        recording = f"{person}-s1" if job.duration_s > 0 else ""
        key = f"{recording or person}/{row % job.count:04d}"
        row_of[key] = row
        records.append(
            FaceRecord(
                key=key,
                person=person,
                recording=recording,
                time_s=label["time_s"],
                split=split,
                emotion=int(label["emotion"]),
                severity=label["severity"],
                attributes=tuple(label[name] for name in ATTRIBUTES),
                landmarks=tuple(values[-10:]),
            )
        )

    return FaceSet(name, tuple(records), Rows(images, row_of), ATTRIBUTES, synthetic=True)
