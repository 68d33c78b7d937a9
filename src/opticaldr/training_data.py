"""The face sets of a run by role, and what a stage needs of them before it starts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opticaldr.camera import Camera, describe_camera
from opticaldr.config import Protocol, Role, Stage
from opticaldr.data.batches import GroupedFaces
from opticaldr.data.draws import groups_drawn
from opticaldr.data.faceset import FaceSet
from opticaldr.types import InputError


@dataclass(frozen=True)
class TrainingData:
    """Face sets per role. A role without a validation set selects nothing: its last weights stay.

    People of `validation` occur in no training set, except in recordings whose protocol says so.
    """

    training: dict[Role, FaceSet]
    validation: dict[Role, FaceSet]
    protocol: Protocol = "subject-disjoint"

    def __post_init__(self) -> None:
        for role, faces in self.validation.items():
            if role not in self.training:
                continue
            if role == "recordings" and self.protocol != "subject-disjoint":
                continue
            shared = set(faces.people) & set(self.training[role].people)
            if shared:
                raise InputError(
                    f"Expected training and validation people to differ in '{role}', found "
                    f"{len(shared)} in both (such as {min(shared)}); split by person."
                )

    def check(self, number: int, stage: Stage, camera: Camera, *, parts: int) -> None:
        """InputError unless a stage can train on these sets behind a camera.

        parts: how many parts a batch is cut into; each needs a group of its own.
        """
        for role in stage.data:
            if role not in self.training:
                raise InputError(
                    f"Expected data for '{role}' in stage {number} ({stage.title}), found none; "
                    "give it with --data or leave the stage out with --stages."
                )
            groups = groups_drawn(GroupedFaces.of(self.training[role], role), stage)
            if groups < parts:
                raise InputError(
                    f"Expected a group of '{role}' for each of {parts} parts of a batch in stage "
                    f"{number} (processes x training.gradient_accumulation), found {groups}; use "
                    f"fewer parts or raise stages.step{number}.groups_per_batch."
                )
            for faces in (self.training[role], self.validation.get(role)):
                if faces is not None and faces.captured_by:
                    _check_captures(number, stage, camera, faces)


def recording_labels(faces: FaceSet) -> np.ndarray:
    """One BDI-II label per recording, in order of first appearance."""
    grouped = GroupedFaces.of(faces, "recordings")
    return np.array([faces.records[members[0]].severity for members in grouped.groups])


def _check_captures(number: int, stage: Stage, camera: Camera, faces: FaceSet) -> None:
    """InputError unless a stage may learn from captures: they are of this lens, and it stays."""
    learns = (*stage.optimisers, *stage.losses)
    clear = next((name for name in ("lens", "identity") if name in learns), None)
    if clear:
        raise InputError(
            f"Expected clear faces in stage {number}, which needs them for '{clear}', found captures "
            f"in {faces.name}; give clear faces or leave the stage out with --stages."
        )
    own = describe_camera(camera)["sha256"]
    if faces.captured_by != own:
        raise InputError(
            f"Expected captures of this run's lens {own[:12]} in {faces.name}, found captures of "
            f"{faces.captured_by[:12]}; train with --resume in the run of that lens, or capture the "
            "set again."
        )
