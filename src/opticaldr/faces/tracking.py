"""One face through a video: looked for in every k-th frame, followed between two looks that agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from opticaldr.faces.detection import Box, Detection, Detector, overlap
from opticaldr.media import Frame

SAME_FACE = 0.5
"""Overlap of two boxes from which on they show one face (intersection over union)."""


@dataclass(frozen=True)
class Seen:
    """A frame and the face that is followed in it.

    face: None if there is none. faces: how many were seen at the nearest look, followed or not.
    """

    frame: Frame
    face: Detection | None
    faces: int


def follow(frames: Iterable[Frame], detector: Detector, *, every: int) -> Iterator[Seen]:
    """Finds one face in frames of one video; holds `every` frames at a time.

    The detector looks at the first, at every k-th and at the last frame. Between two looks that
    agree the box moves evenly in time, and only the points are searched in it. Where a face comes,
    goes or jumps between two looks, the detector looks at each frame in between; where both looks
    find none, there is none in between. Of several faces the one stays that overlaps with the last
    one; without such a one the largest is taken.

    Args:
        frames: in order of presentation.
        detector: finds faces and points.
        every: distance of two looks in frames, at least 1.
    """
    frames = iter(frames)
    before: Seen | None = None
    while stretch := list(islice(frames, every if before else 1)):
        *between, end = stretch
        after = _look(end, detector, before)
        last = before
        for frame in between:
            if _same(before, after):
                yield _moved(frame, before, after, detector)
            elif before.face or after.face:
                last = _look(frame, detector, last)
                yield last
            else:
                yield Seen(frame, None, 0)
        yield after
        before = after


def _look(frame: Frame, detector: Detector, last: Seen | None) -> Seen:
    """Searches a frame; a face that stayed where it was goes before a larger one."""
    seen = [Seen(frame, face, 0) for face in detector(frame.image)]
    near = [one for one in seen if last and _same(last, one)]
    chosen = max(near or seen, key=lambda one: one.face.area, default=Seen(frame, None, 0))
    return Seen(frame, chosen.face, len(seen))


def _same(first: Seen, second: Seen) -> bool:
    """Whether two looks show one face in about one place."""
    if first.face is None or second.face is None:
        return False
    return overlap(first.face.box, second.face.box) >= SAME_FACE


def _moved(frame: Frame, before: Seen, after: Seen, detector: Detector) -> Seen:
    """The face in a frame between two looks that agree; its confidence is the lesser of the two."""
    length = after.frame.time_s - before.frame.time_s
    share = (frame.time_s - before.frame.time_s) / length if length > 0 else 0.5
    sides = zip(before.face.box, after.face.box, strict=True)
    box: Box = tuple(a + share * (b - a) for a, b in sides)
    confidence = min(before.face.confidence, after.face.confidence)
    face = Detection(box, confidence, detector.points_in(frame.image, box))
    return Seen(frame, face, before.faces if share < 0.5 else after.faces)
