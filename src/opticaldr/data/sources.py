"""What --data means: named adapters that fill the roles of training, test and attack."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from opticaldr.config import Config, Role
from opticaldr.data import synthetic
from opticaldr.data.expression import load_expression
from opticaldr.data.faceset import FaceSet
from opticaldr.data.lfw import label_files, load_lfw, load_pairs, people_outside
from opticaldr.data.lfw_labels import label
from opticaldr.data.manifest import load_manifest
from opticaldr.data.pairs import Pairs, all_pairs
from opticaldr.types import InputError

OnRender = Callable[[int, int], None]
MAX_NONMATED = 20000
"""Non-mated pairs drawn from a set without a pair list (privacy.md 5.2)."""


@dataclass(frozen=True)
class Sources:
    """Face sets by role. People never occur in two of training, validation, test and attack.

    test: recordings that `evaluate` alone reads. attack, pairs: faces for verification.
    """

    training: dict[Role, FaceSet] = field(default_factory=dict)
    validation: dict[Role, FaceSet] = field(default_factory=dict)
    test: FaceSet | None = None
    attack: FaceSet | None = None
    pairs: Pairs | None = None

    def filled_from(self, other: Sources) -> Sources:
        """These sets, and those of `other` for the roles that are still empty."""
        own_attack = self.attack is not None
        return Sources(
            training={**other.training, **self.training},
            validation={**other.validation, **self.validation},
            test=self.test or other.test,
            attack=self.attack if own_attack else other.attack,
            pairs=self.pairs if own_attack else other.pairs,
        )


def open_sources(specs: list[str], config: Config, *, on_render: OnRender | None = None) -> Sources:
    """Opens `synthetic` and NAME=PATH specifications; named sets come before synthetic ones.

    Raises InputError for an unknown name, a missing path, or two sets for one role.
    """
    opened = Sources()
    for spec in specs:
        if spec == "synthetic":
            continue
        name, separator, path = spec.partition("=")
        if name not in ADAPTERS or not separator:
            raise InputError(
                f"Expected --data synthetic or NAME=PATH with NAME one of {', '.join(ADAPTERS)}, "
                f"found '{spec}'."
            )
        found = ADAPTERS[name](Path(path), config)
        twice = set(found.training) & set(opened.training)
        if twice:
            raise InputError(
                f"Expected one data set for '{min(twice)}', found two (the second is '{spec}'); "
                "leave one out."
            )
        opened = opened.filled_from(found)
    if "synthetic" in specs:
        opened = opened.filled_from(open_synthetic(config, on_render=on_render))
    return opened


def open_synthetic(config: Config, *, on_render: OnRender | None = None) -> Sources:
    """The embedded rendered people; ranges of person numbers keep the parts disjoint."""
    size, seed = config.synthetic, config.seed

    def photos(first: int, people: int, each: int, split: str) -> FaceSet:
        return synthetic.photos(
            range(first, first + people), each, seed=seed, size=size.size, split=split,
            progress=on_render,
        )  # fmt: skip

    def recordings(first: int, people: int, split: str) -> FaceSet:
        return synthetic.recordings(
            range(first, first + people), size.frames, seed=seed, size=size.size, split=split,
            cue_gain=size.cue_gain, progress=on_render,
        )  # fmt: skip

    faces = photos(0, size.train_people, size.photos_per_person, "train")
    dev = photos(100_000, max(4, size.train_people // 4), size.photos_per_person, "dev")
    attack = photos(500_000, size.attack_people, size.attack_photos, "test")
    people = [record.person for record in attack.records]
    return Sources(
        training={
            "faces": faces,
            "expressions": faces,
            "recordings": recordings(200_000, size.train_recordings, "train"),
        },
        validation={
            "faces": dev,
            "expressions": dev,
            "recordings": recordings(300_000, size.dev_recordings, "dev"),
        },
        test=recordings(400_000, size.test_recordings, "test"),
        attack=attack,
        pairs=all_pairs(people, max_nonmated=MAX_NONMATED, seed=seed),
    )


def _open_lfw(path: Path, config: Config) -> Sources:
    """View-2 pairs for the attack; every person outside them for training, a tenth to validate."""
    faces = load_lfw(path)
    pairs = load_pairs(path, faces)
    outside = label(people_outside(faces, pairs), label_files(path))
    held_out = {person for person in outside.people if _share(person, config.seed) < 0.1}
    train = [i for i, record in enumerate(outside.records) if record.person not in held_out]
    dev = [i for i, record in enumerate(outside.records) if record.person in held_out]
    return Sources(
        training={"faces": outside.subset(train)},
        validation={"faces": outside.subset(dev)},
        attack=faces,
        pairs=pairs,
    )


def _open_expressions(path: Path, config: Config) -> Sources:
    faces = load_expression(path)
    return Sources(
        training={"expressions": faces.split("train")},
        validation={"expressions": faces.split("dev")},
    )


def _open_manifest(path: Path, config: Config) -> Sources:
    """Rows with a severity train the depression branch, rows with an emotion the emotion branch."""
    faces = load_manifest(path, frames_per_video=config.synthetic.frames)
    rated = any(record.severity == record.severity for record in faces.records)
    felt = any(record.emotion >= 0 for record in faces.records)
    roles: list[Role] = (["recordings"] if rated else []) + (["expressions"] if felt else [])
    train, dev = faces.split("train"), faces.split("dev")
    has_test = rated and any(record.split == "test" for record in faces.records)
    return Sources(
        training=dict.fromkeys(roles or ["faces"], train),
        validation=dict.fromkeys(roles or ["faces"], dev),
        test=faces.split("test") if has_test else None,
    )


ADAPTERS: dict[str, Callable[[Path, Config], Sources]] = {
    "lfw": _open_lfw,
    "expressions": _open_expressions,
    "manifest": _open_manifest,
}
"""Names that --data NAME=PATH knows."""


def _share(person: str, seed: int) -> float:
    """A fixed number in [0, 1) per person: held-out people do not depend on the file order."""
    digest = hashlib.sha256(f"{seed}/{person}".encode()).digest()
    return int.from_bytes(digest[:6], "little") / 2**48
