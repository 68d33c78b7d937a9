"""What --data means: named adapters that fill the roles of training, test and attack."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from opticaldr.config import Config, Protocol, Role
from opticaldr.data import synthetic
from opticaldr.data.avec import survey_avec
from opticaldr.data.celeba import survey_celeba
from opticaldr.data.expression import load_expression
from opticaldr.data.expression_affectnet import survey_affectnet
from opticaldr.data.expression_fer import survey_ferplus
from opticaldr.data.expression_rafdb import survey_rafdb
from opticaldr.data.faceset import FaceSet
from opticaldr.data.lfw import label_files, load_lfw, load_pairs, people_outside
from opticaldr.data.lfw_labels import label
from opticaldr.data.manifest import load_manifest
from opticaldr.data.pairs import Pairs, all_pairs
from opticaldr.data.protocol import partition
from opticaldr.data.recordings import Edition
from opticaldr.data.rendered import marked
from opticaldr.data.survey import Survey
from opticaldr.types import InputError

OnRender = Callable[[int, int], None]
MAX_NONMATED = 20000
"""Non-mated pairs drawn from a set without a pair list (privacy.md 5.2)."""


@dataclass(frozen=True)
class Sources:
    """Face sets by role. People never occur in two of training, validation, test and attack.

    The official protocols of recordings break that rule, and say so in seen_people.

    test: recordings that `evaluate` alone reads. attack, pairs: faces for verification.
    protocol: how the recordings were split; None without recordings. seen_people: people of the
    test split who have an official training or development session, see data.protocol.
    left_out: session, recording or reason -> why it is not used, or how many are not.
    """

    training: dict[Role, FaceSet] = field(default_factory=dict)
    validation: dict[Role, FaceSet] = field(default_factory=dict)
    test: FaceSet | None = None
    attack: FaceSet | None = None
    pairs: Pairs | None = None
    protocol: Protocol | None = None
    seen_people: frozenset[str] = frozenset()
    left_out: dict[str, str] = field(default_factory=dict)

    def filled_from(self, other: Sources) -> Sources:
        """These sets, and those of `other` for the roles that are still empty."""
        recordings = self if "recordings" in self.training else other
        attack = self if self.attack is not None else other
        return Sources(
            training={**other.training, **self.training},
            validation={**other.validation, **self.validation},
            test=recordings.test,
            attack=attack.attack,
            pairs=attack.pairs,
            protocol=recordings.protocol,
            seen_people=recordings.seen_people,
            left_out={**other.left_out, **self.left_out},
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
        protocol=config.protocol,
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


def _open_celeba(path: Path, config: Config) -> Sources:
    """The official partition: train, validation, and pairs of test people alone to attack."""
    survey = survey_celeba(path, size=config.lens.sensor_pixels)
    parts = {split: survey.faces.split(split) for split in ("train", "dev", "test")}
    if len(parts["test"].people) == len(parts["test"]):
        raise InputError(
            f"Expected people with several pictures in {path}, found one picture each; put "
            "identity_CelebA.txt beside the pictures."
        )
    tested, validated = set(parts["test"].people), set(parts["dev"].people)
    attack = parts["test"]
    people = [record.person for record in attack.records]
    return Sources(
        training={"faces": _without(parts["train"], tested | validated)},
        validation={"faces": _without(parts["dev"], tested)},
        attack=attack,
        pairs=all_pairs(people, max_nonmated=MAX_NONMATED, seed=config.seed),
        left_out=_counts(survey),
    )


def _open_avec(edition: Edition) -> Callable[[Path, Config], Sources]:
    """Recordings of one edition, split by the configured protocol."""

    def open_avec(path: Path, config: Config) -> Sources:
        survey = survey_avec(
            path, edition, frames=config.synthetic.frames, size=config.lens.sensor_pixels
        )
        return _recordings(marked(survey.faces, path), config, _counts(survey))

    return open_avec


def _recordings(faces: FaceSet, config: Config, left_out: dict[str, str]) -> Sources:
    """Rated recordings as the protocol of the configuration splits them."""
    parts = partition(faces, config.protocol)
    return Sources(
        training={"recordings": parts.train},
        validation={"recordings": parts.dev} if parts.dev else {},
        test=parts.test,
        protocol=parts.protocol,
        seen_people=parts.seen_people,
        left_out={**left_out, **parts.left_out},
    )


def _open_expressions(path: Path, config: Config) -> Sources:
    return _expressions(Survey(load_expression(path)))


def _open_affectnet(path: Path, config: Config) -> Sources:
    return _expressions(survey_affectnet(path, size=config.lens.sensor_pixels))


def _open_rafdb(path: Path, config: Config) -> Sources:
    return _expressions(survey_rafdb(path))


def _open_ferplus(path: Path, config: Config) -> Sources:
    return _expressions(survey_ferplus(path))


def _expressions(survey: Survey) -> Sources:
    return Sources(
        training={"expressions": survey.faces.split("train")},
        validation={"expressions": survey.faces.split("dev")},
        left_out=_counts(survey),
    )


def _open_manifest(path: Path, config: Config) -> Sources:
    """Rated recordings train the depression branch, images with an emotion the emotion branch."""
    faces = load_manifest(
        path, size=config.lens.sensor_pixels, frames_per_video=config.synthetic.frames
    )
    faces = marked(faces, path)
    rated = [i for i, record in enumerate(faces.records) if not math.isnan(record.severity)]
    felt = any(record.emotion >= 0 for record in faces.records)
    sources = Sources()
    if rated:
        without = f"{len(faces) - len(rated)} images of {path.name}"
        left_out = {without: "no score"} if len(rated) < len(faces) else {}
        sources = _recordings(faces.subset(rated), config, left_out)
    if felt or not rated:
        role: Role = "expressions" if felt else "faces"
        tested = set(sources.test.people) if sources.test else set()
        train = _without(faces.split("train"), tested)  # no emotion of a tested person, either
        dev = _without(faces.split("dev"), tested | set(train.people))
        sources = sources.filled_from(
            Sources(training={role: train}, validation={role: dev} if len(dev) else {})
        )
    return sources


def _without(faces: FaceSet, people: set[str]) -> FaceSet:
    return faces.subset([i for i, r in enumerate(faces.records) if r.person not in people])


def _counts(survey: Survey) -> dict[str, str]:
    """reason -> how many images or recordings of a set were left out, and the first of them."""
    return {
        f"{survey.faces.name}: {reason}": f"{len(what)} left out, such as {what[0]}"
        for reason, what in survey.left_out.items()
    }


ADAPTERS: dict[str, Callable[[Path, Config], Sources]] = {
    "avec2013": _open_avec("avec2013"),
    "avec2014": _open_avec("avec2014"),
    "manifest": _open_manifest,
    "celeba": _open_celeba,
    "lfw": _open_lfw,
    "affectnet": _open_affectnet,
    "rafdb": _open_rafdb,
    "ferplus": _open_ferplus,
    "expressions": _open_expressions,
}
"""Names that --data NAME=PATH knows."""


def _share(person: str, seed: int) -> float:
    """A fixed number in [0, 1) per person: held-out people do not depend on the file order."""
    digest = hashlib.sha256(f"{seed}/{person}".encode()).digest()
    return int.from_bytes(digest[:6], "little") / 2**48
