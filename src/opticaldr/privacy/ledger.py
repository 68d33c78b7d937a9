"""The ledger of a ladder: raw scores on disk as Parquet, and what is already done after a stop.

One unit of work is a rung at one strength of the lens. A finished unit leaves

    UNIT.json             its measured rows; written last, so it marks the unit as done
    UNIT.scores.parquet   rung, variant, frames, strength, pair, score
    UNIT.ranks.parquet    rung, variant, frames, strength, probe, person, rank
    UNIT.traits.parquet   rung, variant, frames, strength, trait, probe, person, truth, guess

`pair` is a row of pairs.parquet (control_pairs.parquet where strength is below 1). People are
codes: no name, picture or embedding is written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opticaldr.privacy.arena import Arena
from opticaldr.privacy.evidence import Attempt, Finding, Identification, TraitReading
from opticaldr.results import read_json, write_json
from opticaldr.types import InputError

LADDER_VERSION = "v1"
"""Raise it whenever a rung, a statistic or a control changes: stored scores are then not reused."""

Row = dict[str, Any]
"""One line of the ladder table, JSON values."""

_PICTURES_HASHED = 32
"""Images of the attack whose pixels are hashed: tells an aligned copy of a set from another."""
_CONCERNS = {"restorer": "A6*"}
"""Settings that only some units rest on; the others concern all ("*")."""


def settings_of(arena: Arena, *, version: str, restorer: str = "") -> dict[str, str]:
    """Fingerprints, by name, of all that scores depend on.

    version: of the package. restorer: SHA-256 of the user's restoration network, if any.
    """
    camera, psf = arena.camera, arena.camera.psf
    images = np.concatenate([arena.test.images, arena.attacker])
    records = [arena.faces.records[int(i)] for i in images]
    some = images[:: -(-len(images) // _PICTURES_HASHED)]
    parts: dict[str, object] = {
        "camera": [camera.name, camera.sha256, camera.optics.describe(), camera.depth_m],
        # six decimals: a PSF that is computed anew may differ in its last bits
        "psf": None if psf is None else _hash((psf.double().numpy().round(6) + 0.0).tobytes()),
        "noise": [asdict(camera.noise), camera.frame_rate_hz],
        "data": [
            [(record.key, record.person) for record in records],
            [_hash(arena.faces.image(int(i)).tobytes()) for i in some],
        ],
        "pairs": arena.test.sha256,
        "attacker": arena.attacker.tolist(),
        "recognisers": [judge.name for judge in arena.judges],
        "scene size": arena.scene_size,
        "seed": arena.seed,
        "tier": asdict(arena.tier),
        "version": [LADDER_VERSION, version],
        "restorer": restorer,
    }
    return {name: _hash(json.dumps(part, sort_keys=True).encode()) for name, part in parts.items()}


@dataclass(frozen=True)
class Ledger:
    """The finished units in `folder`; changed: settings that made earlier units invalid."""

    folder: Path
    changed: tuple[str, ...] = ()

    def rows(self, unit: str) -> list[Row] | None:
        """The measured rows of a finished unit; None if it must still be computed."""
        path = self.folder / f"{unit}.json"
        return read_json(path)["rows"] if path.exists() else None

    def keep(
        self,
        unit: str,
        findings: Sequence[Finding],
        rows: Sequence[Row],
        *,
        strength: float,
        seconds: float,
    ) -> None:
        """Writes a finished unit; a stop half-way leaves it unfinished, never half-finished."""
        for kind, belongs, columns in (
            ("scores", Attempt, _scores),
            ("ranks", Attempt | Identification, _ranks),
            ("traits", TraitReading, _traits),
        ):
            parts = (
                {**_mark(found), "strength": strength, **columns(found)}
                for found in findings
                if isinstance(found, belongs)
            )
            _write_table(self.folder / f"{unit}.{kind}.parquet", parts)
        content = {"strength": strength, "seconds": round(seconds, 2), "rows": list(rows)}
        write_json(self.folder / f"{unit}.json", content)

    def scores(self, unit: str, variant: str, frames: int) -> np.ndarray:
        """(n,) raw scores of one attempt of a finished unit, in the order of the pairs."""
        import pyarrow.parquet as pq

        wanted = [("variant", "=", variant), ("frames", "=", frames)]
        table = pq.read_table(self.folder / f"{unit}.scores.parquet", filters=wanted)
        return table["score"].to_numpy()

    def keep_pairs(self, name: str, arena: Arena) -> None:
        """Writes the comparisons of an arena: image numbers, person codes, mated or not."""
        pairs = arena.test
        named = arena.people_of(np.concatenate([pairs.first, pairs.second]))
        codes = np.unique(named, return_inverse=True)[1].reshape(2, -1)
        columns = {
            "first_image": pairs.first,
            "second_image": pairs.second,
            "first_person": codes[0],
            "second_person": codes[1],
            "same": pairs.same,
        }
        _write_table(self.folder / f"{name}.parquet", [columns])


def open_ledger(folder: Path, settings: Mapping[str, str], *, restart: bool = False) -> Ledger:
    """The ledger in a folder. Units that rest on other settings are removed, all of them on restart.

    settings: from settings_of().
    """
    try:
        import pyarrow.parquet  # noqa: F401  before hours of work, not after
    except ImportError:
        raise InputError(
            "Expected the package pyarrow, which writes the raw scores, found none; "
            "run: pip install 'opticaldr[attack]'."
        ) from None
    path = folder / "settings.json"
    known = read_json(path) if path.exists() else {}
    changed = tuple(name for name in settings if known and known.get(name) != settings[name])
    patterns = {"*"} if restart else {_CONCERNS.get(name, "*") for name in changed}
    for pattern in patterns if known else ():
        for suffix in ("json", "parquet"):
            for old in folder.glob(f"{pattern}.{suffix}"):
                old.unlink()
    write_json(path, dict(settings))
    return Ledger(folder, changed)


def _mark(finding: Finding) -> dict[str, object]:
    return {"rung": finding.rung, "variant": finding.variant, "frames": finding.frames}


def _scores(found: Attempt) -> dict[str, object]:
    return {"pair": np.arange(len(found.scores)), "score": found.scores.astype(np.float64)}


def _ranks(found: Attempt | Identification) -> dict[str, object]:
    probe, rank = np.arange(len(found.rank)), found.rank.astype(np.int64)
    person = found.person if isinstance(found, Identification) else probe
    return {"probe": probe, "person": person.astype(np.int64), "rank": rank}


def _traits(found: TraitReading) -> dict[str, object]:
    codes = {name: getattr(found, name).astype(np.int64) for name in ("person", "truth", "guess")}
    return {"trait": found.trait, "probe": np.arange(len(found.truth)), **codes}


def _write_table(path: Path, parts: Iterable[dict[str, object]]) -> None:
    """One row group per part; a column is a vector, or one value for all rows of its part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    writer = None
    for columns in parts:
        length = max(len(c) for c in columns.values() if isinstance(c, np.ndarray))
        table = pa.table(
            {
                name: pa.array(c) if isinstance(c, np.ndarray) else pa.repeat(c, length)
                for name, c in columns.items()
            }
        )
        writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
        writer.write_table(table)
    if writer:
        writer.close()
        os.replace(temporary, path)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
