"""A batch cut into parts: into pieces worked on one after the other, and those by process.

Groups stay whole. Labels are few and go to every process, so that each can compute the loss of all
rows of a piece.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from opticaldr.data.batches import Batch
from opticaldr.data.draws import Draw, cut_for
from opticaldr.data.loading import rows_of
from opticaldr.parallel import gather_rows


@dataclass(frozen=True)
class Part:
    """Rows of one set that a process works on at a time, and what the loss of all rows needs.

    rows: the images. first: row of the whole batch that they begin with. counts: rows per process.
    labels: of those rows, all processes together. whole: labels of the whole batch. (The photos of
    the last two are not used.) captured: the images are captures, so no lens is simulated.
    """

    rows: Batch
    first: int
    counts: tuple[int, ...]
    labels: Batch
    whole: Batch
    captured: bool = False

    @classmethod
    def all_of(cls, batch: Batch, *, captured: bool = False) -> Part:
        """The whole batch as one part, on one process."""
        return cls(batch, 0, (len(batch.group),), batch, batch, captured)

    def share(self, known: Callable[[Batch], Tensor]) -> float:
        """Share of the whole batch's labels that this piece has: what its mean counts for."""
        if self.labels is self.whole:
            return 1.0
        return int(known(self.labels).sum()) / max(1, int(known(self.whole).sum()))


def rated_recordings(batch: Batch) -> Tensor:
    """True once per recording whose severity is known."""
    return torch.unique(batch.group[~batch.severity.isnan()]) >= 0


def rows_for(draw: Draw, *, process: int, processes: int, pieces: int) -> tuple[int, ...]:
    """All rows that a process works on, piece after piece."""
    return tuple(row for piece in cut_for(draw, processes, pieces) for row in piece[process])


def parts_of(
    mine: Batch, draw: Draw, *, process: int, processes: int, pieces: int, captured: bool
) -> list[Part]:
    """The pieces of one process. mine: its rows (rows_for), on the device where it works."""
    cuts = cut_for(draw, processes, pieces)
    whole, begin, found = _labels_of_all(mine, draw, processes, pieces), 0, []
    for piece in cuts:
        rows = piece[process]
        labels = whole if pieces == 1 else rows_of(whole, range(piece[0].start, piece[-1].stop))
        found.append(
            Part(
                rows=rows_of(mine, range(begin, begin + len(rows))),
                first=rows.start,
                counts=tuple(map(len, piece)),
                labels=labels,
                whole=whole,
                captured=captured,
            )
        )
        begin += len(rows)
    return found


def _labels_of_all(mine: Batch, draw: Draw, processes: int, pieces: int) -> Batch:
    """Labels of the whole batch in its order; the photos stay where they are."""
    if processes == 1:
        return mine
    held = [
        rows_for(draw, process=process, processes=processes, pieces=pieces)
        for process in range(processes)
    ]
    order = torch.tensor([row for rows in held for row in rows]).argsort()
    labels = {"photos": mine.photos[:0]}
    for name in (field.name for field in fields(Batch) if field.name != "photos"):
        gathered = gather_rows(getattr(mine, name), [len(rows) for rows in held])
        labels[name] = gathered[order.to(gathered.device)]
    return Batch(**labels)
