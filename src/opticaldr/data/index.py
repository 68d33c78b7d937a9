"""Indexes recordings once: where the face is, when, and which frames can be used.

    OUT/manifest.csv          one row a usable frame; training streams from it (data.manifest)
    OUT/errors.csv            recordings that were left out, and why
    OUT/flags.csv             recordings that were used with a reservation
    OUT/frames/ID.parquet     one row a frame that was looked at (data.sidecar)
    OUT/captures/ID/*.png     only with a camera: what it records of the aligned faces
    OUT/crops/ID/*.png        only if asked for: the aligned clear faces

A recording whose sidecar was made from the same file by the same settings is not read again.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from opticaldr.data.index_video import ClearCrops, Indexer, Recorder, Unusable
from opticaldr.data.manifest_table import GROUP_PREFIX, POINT_COLUMNS
from opticaldr.data.recordings import Recording, parse_name
from opticaldr.data.sidecar import FrameRow, Sidecar, load_pyarrow
from opticaldr.faces.detection import Detector
from opticaldr.media import find_inputs, shown, written_whole
from opticaldr.types import InputError

STEP_S = 0.2
"""Frames are looked at so far apart [s] (depression.md 1.3: 5 to 10 a second)."""
DETECT_EVERY = 5
MIN_VALID = 10
"""A recording with fewer usable frames is left out: two seconds at STEP_S."""
FEW_VALID = 0.9
"""A recording with a smaller share of usable frames is flagged."""

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Note:
    """What is to be said about one recording, in one sentence."""

    path: str
    recording: str
    reason: str


@dataclass(frozen=True)
class IndexReport:
    """What index_recordings did.

    rows: of the manifest. used: recordings in it. reused: recordings that were not read again.
    errors: recordings that were left out. flags: reservations about recordings that were used.
    """

    manifest: Path
    rows: int
    used: int
    reused: int
    errors: tuple[Note, ...]
    flags: tuple[Note, ...]


def index_recordings(
    recordings: Sequence[Recording],
    out: Path,
    *,
    detector: Detector,
    step_s: float = STEP_S,
    detect_every: int = DETECT_EVERY,
    through: Recorder | None = None,
    crops: bool = False,
    min_valid: int = MIN_VALID,
    group_names: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> IndexReport:
    """Finds and aligns the faces of recordings; writes sidecars, a manifest and an account.

    Memory does not grow with the length of a video; work that was stopped goes on.

    Args:
        recordings: videos and what is known about them.
        out: folder for everything that is written.
        step_s: distance of the frames that are looked at [s].
        detect_every: the detector looks at every so-many-th of them (faces.tracking).
        through: a camera: its captures are stored and listed instead of the videos, so that no
            clear face is stored.
        crops: store aligned clear faces and list them instead of the videos.
        min_valid: a recording with fewer frames with a face becomes an error row.
        group_names: names of Recording.groups.
        on_progress: called with what, done, total.

    Raises:
        InputError: no recording can be used (errors.csv says why), captures would lie beside clear
            crops, or the folder cannot be written.
    """
    if through and (crops or (out / ClearCrops.folder).exists()):
        raise InputError(
            f"Expected only captures in {out}, found clear crops there or asked for; choose another "
            "folder, or leave one of --through and --crops out."
        )
    load_pyarrow()  # missing, it is noticed before hours of work
    recorder = through or (ClearCrops() if crops else None)
    indexer = Indexer(out, detector, step_s, detect_every, recorder)
    on_second = on_progress and (lambda done, total: on_progress("seconds of video", done, total))
    errors: list[Note] = []
    flags: list[Note] = []
    path_of: dict[str, Path] = {}
    rows = used = reused = 0
    with written_whole(out / "manifest.csv") as partial:
        with partial.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(_header(group_names, recorder))
            for number, recording in enumerate(recordings, start=1):
                try:
                    _check_name(recording, path_of, recorder)
                    sidecar, made_before = indexer.index(recording, on_second)
                    reused += made_before
                    _check_enough(recording, sidecar, min_valid)
                except Unusable as error:
                    errors.append(Note(shown(recording.path), recording.id, str(error)))
                else:
                    table.writerows(_rows(recording, sidecar, indexer))
                    rows, used = rows + len(sidecar.valid), used + 1
                    flags += [
                        Note(shown(recording.path), recording.id, reason)
                        for reason in _reservations(sidecar)
                    ]
                if on_progress:
                    on_progress("recordings", number, len(recordings))
        _write_notes(out / "errors.csv", errors)
        _write_notes(out / "flags.csv", flags)
        if not used:
            raise InputError(
                f"Expected at least one recording that can be used, found {len(recordings)} that "
                f"cannot, such as: {errors[0].reason if errors else 'none'}"
            )
    return IndexReport(out / "manifest.csv", rows, used, reused, tuple(errors), tuple(flags))


def recordings_in_folder(folder: Path) -> list[Recording]:
    """The videos of a folder about which nothing else is known: no label, no split.

    The person is read from an AVEC name; any other video counts as a person of its own, which is
    for the user to correct in the manifest.

    Raises:
        InputError: the folder is missing or holds no video.
    """
    if not folder.is_dir():
        raise InputError(f"Expected a folder at {shown(folder)}, found none; check the path.")
    found = []
    for item in find_inputs([folder]):
        if item.kind != "video":
            continue
        name = parse_name(item.path.stem)
        if name:
            found.append(Recording(item.path, name.person, name.session, name.task))
        else:
            own = shown(item.path.relative_to(folder).with_suffix("")).replace(os.sep, "_")
            found.append(Recording(item.path, own, own))
    if not found:
        raise InputError(
            f"Expected videos in folder {shown(folder)}, found 0; put files such as .mp4 there."
        )
    return found


def _check_name(recording: Recording, path_of: dict[str, Path], recorder: Recorder | None) -> None:
    """Raises Unusable for a second file of one recording, and for a name no table can hold."""
    path = recording.path
    first = path_of.setdefault(recording.id, path)
    if first != path:
        raise Unusable(
            f"Expected each recording once, found {recording.id} as {shown(first)} and as "
            f"{shown(path)}; rename or remove one of them."
        )
    if recorder is None and shown(path) != str(path):
        raise Unusable(
            f"Expected a file name in UTF-8, found {shown(path)}; rename the file, so that the "
            "manifest can name it."
        )


def _check_enough(recording: Recording, sidecar: Sidecar, min_valid: int) -> None:
    if len(sidecar.valid) < min_valid:
        raise Unusable(
            f"Expected at least {min_valid} frames with a face in {shown(recording.path)}, found "
            f"{len(sidecar.valid)} of {len(sidecar.rows)}; look at the video, or ask for fewer "
            "with --min-valid."
        )


def _reservations(sidecar: Sidecar) -> Iterator[str]:
    """What a user should know about a recording that is used."""
    rows, valid = len(sidecar.rows), len(sidecar.valid)
    crowded = sum(row.faces > 1 for row in sidecar.rows)
    if crowded:
        yield (
            f"several faces in {crowded} of {rows} frames: the largest is followed as long as it "
            "stays in place"
        )
    if valid < FEW_VALID * rows:
        yield f"no face in {rows - valid} of {rows} frames"
    if sidecar.damage:
        yield f"used up to {sidecar.rows[-1].time_s:.2f} s: {sidecar.damage}"


def _header(group_names: Sequence[str], recorder: Recorder | None) -> list[str]:
    last = POINT_COLUMNS if recorder is None else ("captured_by",) if recorder.captured_by else ()
    groups = [f"{GROUP_PREFIX}{name}" for name in group_names]
    return ["path", "subject", "session", "task", "split", "time", "bdi", *groups, *last]


def _rows(recording: Recording, sidecar: Sidecar, indexer: Indexer) -> Iterator[list[object]]:
    """Lines of the manifest: one a frame with a face."""
    recorder = indexer.recorder
    severity = "" if math.isnan(recording.severity) else f"{recording.severity:g}"
    labels = [recording.person, recording.session, recording.task, recording.split]

    def last(row: FrameRow) -> list[object]:
        if recorder is None:
            return [round(value, 2) for value in row.points]
        return [recorder.captured_by] if recorder.captured_by else []

    for row in sidecar.valid:
        image = recording.path if recorder is None else indexer.image_path(recording, row)
        path = os.path.relpath(image, indexer.out)
        yield [path, *labels, round(row.time_s, 6), severity, *recording.groups, *last(row)]


def _write_notes(path: Path, notes: Sequence[Note]) -> None:
    with written_whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "recording", "reason"])
        table.writerows([note.path, note.recording, note.reason] for note in notes)
