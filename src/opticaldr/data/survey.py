"""What an adapter found in a folder: the faces that can be used, and why the rest cannot."""

from __future__ import annotations

from dataclasses import dataclass, field

from opticaldr.data.faceset import FaceSet


@dataclass(frozen=True)
class Survey:
    """Usable faces, and an account of everything else; nothing is dropped without a word.

    left_out: reason -> what was left out for it (recordings, files or rows).
    findings: sentences that a user should read before trusting the data.
    """

    faces: FaceSet
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
