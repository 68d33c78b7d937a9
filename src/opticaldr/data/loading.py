"""Images of the next steps, read ahead by threads; a file that cannot be read is replaced and named.

Draws are known before their step (data.draws), so the next batches are read while the network
works. Memory holds AHEAD batches, however large the set. Threads and not processes: decoding
releases the interpreter's lock, and nothing needs to be sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import chain

import numpy as np
import torch

from opticaldr.config import Role
from opticaldr.data.batches import Batch, GroupedFaces, augment, load_batch
from opticaldr.data.draws import Draw, cut
from opticaldr.seeds import generator_for
from opticaldr.types import InputError

AHEAD = 2
"""Steps that are read ahead: one waits while the next is read."""
MAX_BAD_SHARE = 0.05
"""Share of unreadable files above which a set is broken rather than blemished."""
ENOUGH_FILES = 100
"""Files after which a share means something."""

Images = Callable[[int], np.ndarray]
"""Image of a row of a set; raises InputError if it cannot be read."""


@dataclass(frozen=True)
class BadFile:
    """A file that could not be read: its set, its key, and what its reader said."""

    data: str
    key: str
    problem: str


@dataclass(frozen=True)
class Share:
    """What one process needs of a step: the draws and, of each, the rows that it works on."""

    step: int
    draws: dict[Role, Draw]
    rows: dict[Role, Sequence[int]]


class Loader:
    """Reads rows of face sets, and remembers files that turned out to be bad.

    augmented_by: key of the random stream of flips and jitter, such as (seed, stage); None = none.
    """

    def __init__(
        self,
        sets: dict[Role, GroupedFaces],
        *,
        size: int,
        augmented_by: tuple[object, ...] | None = None,
    ) -> None:
        self.sets = sets
        self._fresh: deque[BadFile] = deque()
        self._size = size
        self._augmented_by = augmented_by
        self._known = {role: bytearray(len(grouped.faces)) for role, grouped in sets.items()}

    def take_fresh(self) -> list[BadFile]:
        """Bad files met since the last call."""
        return [self._fresh.popleft() for _ in range(len(self._fresh))]

    def load(self, share: Share, images: dict[Role, Images] | None = None) -> dict[Role, Batch]:
        """The batch of each role: rows of a share, augmented group by group."""
        read = images or {role: self.sets[role].faces.image for role in share.draws}
        return {role: self._load(role, share, read[role]) for role in share.draws}

    def ahead(self, shares: Iterator[Share], workers: int) -> Iterator[tuple[Share, dict]]:
        """(share, its batches) one after the other; `workers` threads read images meanwhile."""
        if workers == 0:
            for share in shares:
                yield share, self.load(share)
            return
        readers, builder = ThreadPoolExecutor(workers), ThreadPoolExecutor(1)

        def begin(share: Share) -> tuple[Share, Future]:
            images = {role: self._begin_reading(role, share, readers) for role in share.draws}
            return share, builder.submit(self.load, share, images)

        waiting: deque[tuple[Share, Future]] = deque()
        try:
            for share in shares:
                waiting.append(begin(share))
                if len(waiting) > AHEAD:
                    ready, batches = waiting.popleft()
                    yield ready, batches.result()
            while waiting:
                ready, batches = waiting.popleft()
                yield ready, batches.result()
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            builder.shutdown(wait=True, cancel_futures=True)

    def _begin_reading(self, role: Role, share: Share, readers: ThreadPoolExecutor) -> Images:
        draw, faces = share.draws[role], self.sets[role].faces
        wanted = {draw.indices[row] for row in share.rows[role]}
        started = {index: readers.submit(faces.image, index) for index in wanted}

        def image(index: int) -> np.ndarray:
            return started[index].result() if index in started else faces.image(index)

        return image

    def _load(self, role: Role, share: Share, images: Images) -> Batch:
        draw, rows = share.draws[role], share.rows[role]
        chosen = [self._readable(role, draw, row, images) for row in rows]
        faces = self.sets[role].faces
        records = tuple(faces.records[index] for index, _, _ in chosen)
        held = {id(record): image for record, (_, _, image) in zip(records, chosen, strict=True)}
        read = replace(faces, records=records, read=lambda record: held[id(record)])
        groups = [group for _, group, _ in chosen]
        batch = load_batch(read, list(range(len(groups))), groups, size=self._size)
        if self._augmented_by is None:
            return batch
        drawn = [draw.groups[row] for row in rows]
        parts = []
        for part in cut(drawn, len(set(drawn))):
            key = (*self._augmented_by, share.step, role, drawn[part.start])
            parts.append(
                augment(
                    rows_of(batch, part),
                    per_group=role == "recordings",
                    generator=generator_for(*key, "augment"),
                )
            )
        return joined(parts)

    def _readable(
        self, role: Role, draw: Draw, row: int, images: Images
    ) -> tuple[int, int, np.ndarray]:
        """(index, group, image) of a row, or of what takes its place if it cannot be read.

        That is the next member of its group, or a member of the next group that is not in the draw.
        """
        grouped, held = self.sets[role], set(draw.groups)
        index, number = draw.indices[row], draw.groups[row]
        members, count = grouped.groups[number], len(grouped.groups)
        at = members.index(index)
        following = ((number + step) % count for step in range(1, count))
        others = ((group, grouped.groups[group]) for group in following if group not in held)
        for group, candidates in chain([(number, members[at:] + members[:at])], others):
            for candidate in candidates:
                image = self._image(role, candidate, images)
                if image is not None:
                    return candidate, group, image
        raise InputError(
            f"{grouped.faces.name}: expected images that can be read, found none in place of "
            f"{grouped.faces.records[index].key}; check the files."
        )

    def _image(self, role: Role, index: int, images: Images) -> np.ndarray | None:
        """The image of a row, or None if it is bad."""
        known = self._known[role]
        if known[index] == 2:
            return None
        try:
            image = images(index)
        except (InputError, OSError) as error:
            known[index] = 2
            faces = self.sets[role].faces
            self._fresh.append(BadFile(faces.name, faces.records[index].key, str(error)))
            self._give_up_if_broken(role, str(error))
            return None
        known[index] = 1
        return image

    def _give_up_if_broken(self, role: Role, last: str) -> None:
        known, faces = self._known[role], self.sets[role].faces
        bad, tried = known.count(2), len(known) - known.count(0)
        if bad > MAX_BAD_SHARE * max(tried, min(ENOUGH_FILES, len(known))):
            raise InputError(
                f"{faces.name}: expected at most {MAX_BAD_SHARE:.0%} unreadable files, found {bad} "
                f"of {tried} read so far; run opticaldr data check and restore them. Last: {last}"
            )


def rows_of(batch: Batch, rows: range) -> Batch:
    """Some rows of a batch."""
    part = slice(rows.start, rows.stop)
    return Batch(**{field.name: getattr(batch, field.name)[part] for field in fields(Batch)})


def joined(batches: list[Batch]) -> Batch:
    """The rows of several batches, one after the other."""
    names = [field.name for field in fields(Batch)]
    return Batch(**{name: torch.cat([getattr(b, name) for b in batches]) for name in names})
