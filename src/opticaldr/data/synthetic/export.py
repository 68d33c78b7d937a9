"""Writes the benchmark as files: frames or videos with a manifest, or the tree of AVEC 2014."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from opticaldr.data.faceset import FaceSet
from opticaldr.data.manifest import write_manifest
from opticaldr.data.synthetic.benchmark_set import STATEMENT, benchmark, truth
from opticaldr.data.synthetic.presets import Preset
from opticaldr.data.synthetic.sessions import SHARES
from opticaldr.data.synthetic.store import Progress
from opticaldr.media import VideoWriter, write_image
from opticaldr.results import write_json
from opticaldr.types import InputError

Layout = Literal["frames", "video", "avec2014"]
MARK = "SYNTHETIC"
"""First word of README.txt in every folder that is written here."""
PARTITIONS = {"train": "Training", "dev": "Development", "test": "Testing"}
THIRDS = (1 / 3, 1 / 3, 1 / 3)
"""AVEC's partitions are of equal size."""
FIRST_PERSON = 203
"""Person 0 under AVEC names (AVEC's numbers start near 200)."""
TICKS_PER_S = 1000


def write_benchmark(
    out: Path,
    preset: Preset,
    persons: int,
    *,
    seed: int,
    size: int = 128,
    frames: int = 32,
    step_s: float = 0.5,
    layout: Layout = "frames",
    progress: Progress | None = None,
    workers: int | None = None,
) -> dict[str, object]:
    """Renders a benchmark into a new folder and returns the content of its truth.json.

    Args:
        out: folder, which must be empty or missing.
        layout: "frames": a PNG per frame; "video": an MP4 per recording; both with manifest.csv.
            "avec2014": videos and label files under AVEC 2014's names, split into thirds.
        preset, persons, seed, size, frames, step_s, progress, workers: see benchmark().
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"Expected {out} to be new or empty, found files; choose another --out.")
    shares = THIRDS if layout == "avec2014" else SHARES
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out, prefix=".rendering-") as cache:
        faces = benchmark(
            preset, persons, seed=seed, size=size, frames=frames, step_s=step_s, shares=shares,
            cache_dir=Path(cache), progress=progress, workers=workers,
        )  # fmt: skip
        (out / "README.txt").write_text(_readme(preset, persons, seed), encoding="utf-8")
        if layout == "frames":
            _write_frames(out, faces)
        else:
            _write_videos(out, faces, step_s, avec=layout == "avec2014")
    content = truth(preset, persons, seed=seed, shares=shares)
    content["pictures"] = {"size": size, "frames": frames, "step_s": step_s, "layout": layout}
    write_json(out / "truth.json", content)
    return content


def is_marked_synthetic(folder: Path) -> bool:
    """True if README.txt of a data folder says that its people are rendered."""
    try:
        with (folder / "README.txt").open(encoding="utf-8", errors="replace") as file:
            return file.read(len(MARK)) == MARK
    except OSError:
        return False


def _write_frames(out: Path, faces: FaceSet) -> None:
    records = []
    for index, record in enumerate(faces.records):
        name = f"frames/{record.key}.png"
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(out / name, faces.image(index))
        records.append(replace(record, key=name))
    write_manifest(out / "manifest.csv", replace(faces, records=tuple(records)))


def _write_videos(out: Path, faces: FaceSet, step_s: float, *, avec: bool) -> None:
    rows: dict[str, list[int]] = {}
    for index, record in enumerate(faces.records):
        rows.setdefault(record.recording, []).append(index)
    records = []
    for members in rows.values():
        record = faces.records[members[0]]
        name = f"videos/{record.session}_{record.task}.mp4"
        if avec:
            number, visit = record.session.removeprefix("s").split("_")
            session = f"{int(number) + FIRST_PERSON}_{visit}"
            name = f"{PARTITIONS[record.split]}/{record.task}/{session}_{record.task}_video.mp4"
            _write_label(out / f"label/DepressionLabels/{session}_Depression.csv", record.severity)
        rate = Fraction(1 / step_s).limit_denominator(1000)
        with VideoWriter(out / name, time_base=Fraction(1, TICKS_PER_S), rate=rate) as video:
            for index in members:
                start = faces.records[index].time_s - step_s / 2
                video.write(faces.image(index), round(start * TICKS_PER_S))
        records.append(replace(record, key=name, time_s=0.0, attributes=(), landmarks=()))
    if not avec:
        whole = replace(faces, records=tuple(records), attribute_names=())
        write_manifest(out / "manifest.csv", whole)


def _write_label(path: Path, severity: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{int(severity)}\n", encoding="utf-8")


def _readme(preset: Preset, persons: int, seed: int) -> str:
    return (
        f"{MARK} people, rendered by opticaldr. {STATEMENT}\n"
        f"Preset {preset.name}: {preset.shows}. {persons} persons, seed {seed}.\n"
        "truth.json holds the generating law and the best possible errors. Names of files may\n"
        "follow a real data set; nothing in them comes from one.\n"
    )
