"""What was found in each frame of a video: a Parquet file beside the recordings, one row a frame.

| column | content |
|---|---|
| `frame` | place among the frames of the video that decode, from 0 |
| `pts`, `time_s` | presentation time in ticks of the video and in seconds |
| `success` | whether the followed face is there |
| `faces` | how many faces were seen |
| `confidence` | of the detector; null without a face |
| `left` `top` `right` `bottom` | box of the face [px of the upright frame]; null without a face |
| `p1x` `p1y` .. `p5x` `p5y` | eyes, nose tip, mouth corners, image left first [px]; null likewise |
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from opticaldr.data.manifest_table import POINT_COLUMNS
from opticaldr.media import written_whole
from opticaldr.types import InputError

VERSION = 1
BOX_COLUMNS = ("left", "top", "right", "bottom")
META_KEY = b"opticaldr"


@dataclass(frozen=True)
class FrameRow:
    """One frame of a sidecar.

    box: left, top, right, bottom [px]; points: ten numbers [px]; both empty without a face.
    """

    frame: int
    pts: int
    time_s: float
    success: bool
    faces: int
    confidence: float | None = None
    box: tuple[float, ...] = ()
    points: tuple[float, ...] = ()


@dataclass(frozen=True)
class Sidecar:
    """All rows of one video, and how they came about.

    made_from: video and settings; another video or setting asks for another sidecar.
    damage: what was wrong with the video, "" if nothing was.
    """

    made_from: dict[str, Any]
    rows: tuple[FrameRow, ...]
    damage: str = ""

    @property
    def valid(self) -> tuple[FrameRow, ...]:
        """The rows with a face."""
        return tuple(row for row in self.rows if row.success)


def write_sidecar(path: Path, sidecar: Sidecar) -> None:
    """Writes a sidecar whole or not at all."""
    arrow, parquet = load_pyarrow()
    rows = sidecar.rows
    columns = {
        "frame": arrow.array([row.frame for row in rows], arrow.int32()),
        "pts": arrow.array([row.pts for row in rows], arrow.int64()),
        "time_s": arrow.array([row.time_s for row in rows], arrow.float64()),
        "success": arrow.array([row.success for row in rows], arrow.bool_()),
        "faces": arrow.array([row.faces for row in rows], arrow.int16()),
        "confidence": arrow.array([row.confidence for row in rows], arrow.float32()),
    }
    for names, values in (
        (BOX_COLUMNS, [row.box for row in rows]),
        (POINT_COLUMNS, [row.points for row in rows]),
    ):
        for place, name in enumerate(names):
            cells = [numbers[place] if numbers else None for numbers in values]
            columns[name] = arrow.array(cells, arrow.float32())
    meta = {"version": VERSION, "made_from": sidecar.made_from, "damage": sidecar.damage}
    table = arrow.table(columns).replace_schema_metadata({META_KEY: json.dumps(meta)})
    with written_whole(path) as partial:
        parquet.write_table(table, partial)


def read_sidecar(path: Path) -> Sidecar:
    """The sidecar in a file.

    Raises:
        InputError: the file is missing, damaged or of another version.
    """
    arrow, parquet = load_pyarrow()
    try:
        table = parquet.read_table(path)
        meta = json.loads((table.schema.metadata or {})[META_KEY])
        if meta["version"] != VERSION:
            raise KeyError(f"version {meta['version']}")
        rows = tuple(_row(cells) for cells in table.to_pylist())
        return Sidecar(meta["made_from"], rows, meta["damage"])
    except (OSError, arrow.ArrowException, KeyError, ValueError) as error:
        raise InputError(
            f"Expected a sidecar of `opticaldr data index` at {path}, found '{error}'; "
            "delete it and index the video again."
        ) from None


def _row(cells: dict[str, Any]) -> FrameRow:
    def numbers(names: Sequence[str]) -> tuple[float, ...]:
        return tuple(cells[name] for name in names) if cells["success"] else ()

    own = ("frame", "pts", "time_s", "success", "faces", "confidence")
    return FrameRow(
        **{name: cells[name] for name in own},
        box=numbers(BOX_COLUMNS),
        points=numbers(POINT_COLUMNS),
    )


def load_pyarrow() -> tuple[ModuleType, ModuleType]:
    """pyarrow and pyarrow.parquet; without them an InputError says what to install."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            "Expected the package pyarrow for sidecars, found none; "
            "run: pip install 'opticaldr[video]'."
        ) from None
    return pyarrow, pyarrow.parquet
