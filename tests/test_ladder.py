"""The ladder: controls that void an attack, scores on disk, and a stop half-way that changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score

from opticaldr.data.pairs import all_pairs
from opticaldr.privacy import controls
from opticaldr.privacy.arena import Arena
from opticaldr.privacy.cameras import CameraUnderAttack, NoiseLaw, PlainBlur
from opticaldr.privacy.evidence import Attempt, Identification, OnProgress
from opticaldr.privacy.ladder import Ladder, climb
from opticaldr.privacy.ledger import Ledger, open_ledger, settings_of
from opticaldr.privacy.tiers import TIERS
from opticaldr.types import InputError

TIER = replace(TIERS["smoke"], bootstrap=50, control_people=6)


class Pixels:
    """A judge: the fine texture of the picture."""

    name = "pixels"
    differentiable = True

    def __call__(self, photos: torch.Tensor) -> torch.Tensor:
        coarse = torch.nn.functional.avg_pool2d(photos, 5, stride=1, padding=2)
        return torch.nn.functional.normalize((photos - coarse).flatten(1), dim=1)


@pytest.fixture
def arena(draw_faces) -> Arena:
    """Eight drawn people under a blur of .15 face widths; four others for the attacker."""
    faces = draw_faces(range(12), 3)
    people = [record.person for record in faces.records[:24]]
    return Arena(
        camera=CameraUnderAttack("blur", PlainBlur("gaussian", 0.15, 32), NoiseLaw(0.01)),
        faces=faces,
        test=all_pairs(people, max_nonmated=200, seed=0),
        attacker=np.arange(24, 36),
        judges=(Pixels(),),
        scene_size=32,
        seed=0,
        tier=TIER,
    )


def look(arena: Arena, *, progress: OnProgress) -> Iterator[Attempt]:
    """A rung that works: capture against clean picture."""
    (judge,) = arena.judges
    images = arena.test.images
    probe = arena.embed(judge, images, arena.captured("look"))
    yield arena.attempt("A1", "look", arena.embed(judge, images), probe, width=0.2)
    progress("looking", 1, 1)


def guess(arena: Arena, *, progress: OnProgress) -> Iterator[Attempt]:
    """A broken attack: answers that have nothing to do with the pictures."""
    rng = np.random.default_rng(5)
    yield arena.attempt("A2", "guess", *rng.normal(size=(2, len(arena.test.images), 64)))


def name_them(arena: Arena, *, progress: OnProgress) -> Iterator[Identification]:
    """An insider: nearest clean picture of each person, all but the last picture enrolled."""
    (judge,) = arena.judges
    images = arena.test.images
    people = np.array(arena.people_of(images))
    names = np.unique(people)
    tried = np.array([np.flatnonzero(people == name)[-1] for name in names])
    known = np.setdiff1d(np.arange(len(images)), tried)
    probe = arena.embed(judge, images, arena.captured("insider"))[tried]
    score = probe @ arena.embed(judge, images)[known].T
    best = np.stack([score[:, people[known] == name].max(axis=1) for name in names], axis=1)
    rank = 1 + (best > np.diagonal(best)[:, None]).sum(axis=1)
    yield Identification("A9", "insider", 1, len(names), rank, np.arange(len(names)))


def cheat(arena: Arena, *, progress: OnProgress) -> Iterator[Identification]:
    """A leak: an attack that reads the names it should find."""
    people = len(set(arena.people_of(arena.test.images)))
    yield Identification("A9", "cheat", 1, people, np.ones(people, dtype=int), np.arange(people))


def nothing(arena: Arena, *, progress: OnProgress) -> Iterator[Attempt]:
    """A rung that does not apply to the camera."""
    yield from ()


RUNGS = {"A1": look, "A2": guess, "A9": name_them, "A4": nothing}


def ledger_for(arena: Arena, folder: Path, **more: object) -> Ledger:
    restart = more.pop("restart", False)
    return open_ledger(folder, settings_of(arena, version="1", **more), restart=restart)


def silent(what: str, done: int, total: int) -> None:
    """No progress bar."""


@pytest.fixture
def ladder(arena: Arena, tmp_path: Path) -> Ladder:
    return climb(arena, RUNGS, ledger=ledger_for(arena, tmp_path), progress=silent)


def rows_of(ladder: Ladder, rung: str) -> list[dict]:
    return [row for row in ladder.rows if row["rung"] == rung]


def test_the_error_of_an_auc_is_that_of_the_normal_model():
    # two normal distributions one SD apart: AUC = Phi(1 / sqrt 2) = .760
    rng = np.random.default_rng(0)
    mated, nonmated = rng.normal(1, 1, (4000, 40)), rng.normal(0, 1, (4000, 40))
    found = (mated[:, :, None] > nonmated[:, None, :]).mean((1, 2))
    # Hanley & McNeil assume exponential tails, good to about 10 %; 4,000 trials add 1 %
    assert controls.auc_error(float(found.mean()), 40) == pytest.approx(found.std(), rel=0.12)


# --- controls ---------------------------------------------------------------------------------


def test_an_attack_that_breaks_the_weak_lens_is_valid(ladder):
    (row,) = rows_of(ladder, "A1")
    assert row["controls"]["positive"] == row["controls"]["negative"] == "pass"
    # a quarter of the blur leaves more of the texture than half of it, and that more than all
    assert row["controls"]["auc_at_25"] > 0.9
    assert row["controls"]["auc_at_25"] >= row["controls"]["auc_at_50"] >= row["auc"]["value"]


def test_an_attack_that_cannot_break_the_weak_lens_is_void(ladder):
    (row,) = rows_of(ladder, "A2")
    assert row["controls"]["positive"] == "fail"


def test_identification_must_beat_chance_five_times(ladder):
    (row,) = rows_of(ladder, "A9")  # all six control people named where chance is 1 in 6
    assert row["controls"]["positive"] == row["controls"]["negative"] == "pass"
    assert controls.positive({0.25: [{"rank1": 0.4, "chance": 0.1}]}, people=80) == "fail"
    assert controls.positive({0.25: [{"rank1": 0.5, "chance": 0.1}]}, people=80) == "pass"


def test_only_weak_lenses_count_for_the_positive_control():
    broken, unbroken = [{"auc": 0.95}, {"auc": 0.4}], [{"auc": 0.8}]
    assert controls.positive({0.25: unbroken, 0.5: broken}, people=80) == "fail"
    assert controls.positive({0.25: broken, 0.5: unbroken}, people=80) == "pass"
    assert controls.positive({0.1: broken, 0.25: unbroken}, people=80) == "pass"
    # .89 of 80 people may be .9; of 10,000 people it is less
    assert controls.positive({0.25: [{"auc": 0.89}]}, people=80) == "pass"
    assert controls.positive({0.25: [{"auc": 0.89}]}, people=10_000) == "fail"
    naive, others = controls.strengths("A1", TIER), controls.strengths("A4", TIER)
    assert (min(naive), min(others)) == (0.1, 0.25)


def test_an_attack_that_knows_the_names_fails_the_negative_control(arena, tmp_path):
    ladder = climb(arena, {"A9": cheat}, ledger=ledger_for(arena, tmp_path), progress=silent)
    assert ladder.rows[0]["controls"]["negative"] == "fail"


def test_wrong_names_never_join_two_pictures_of_one_person(arena):
    wrong = controls.permuted_people(arena)
    before, after = (np.array(a.people_of(arena.test.images)) for a in (arena, wrong))
    assert sorted(before) == sorted(after)
    together = (before[:, None] == before) & (after[:, None] == after)
    assert together.sum() == len(before)  # each picture with itself
    assert wrong.people_of(arena.attacker) == arena.people_of(arena.attacker)


def test_a_rung_without_findings_is_named(ladder):
    assert ladder.untested == ("A4: does not apply to blur",)
    assert not rows_of(ladder, "A4")


def test_ceiling_and_thumbnails_stand_beside_the_rungs(ladder):
    assert ladder.ceiling["pixels"]["value"] > 0.95
    assert set(ladder.thumbnails) >= {"1", "8"}
    # drawn people differ in a texture finer than an eighth of the frame, which thumbnails lose
    assert ladder.thumbnails["1"]["value"] < ladder.ceiling["pixels"]["value"]


def test_labels_found_in_permuted_scores_fail_the_negative_control():
    row = {"rung": "A1", "permuted_auc": {"value": 0.6, "ci95": [0.55, 0.65], "n": 9}}
    assert controls.negative(row) == "fail"
    row["permuted_auc"]["ci95"] = [0.505, 0.565]  # misses .5 at 95 %, as one in twenty does
    assert controls.negative(row) == "pass"


@pytest.mark.parametrize(
    ("series", "margin"),
    [
        ({0.25: 0.95, 0.5: 0.54, 1.0: 0.51}, 0.5),
        ({0.25: 0.95, 0.5: 0.80, 1.0: 0.54}, 1.0),
        ({0.25: 0.95, 0.5: 0.53, 1.0: 0.70}, None),  # works on the camera itself
    ],
)
def test_safety_margin_is_the_least_strength_from_which_on_a_rung_fails(series, margin):
    assert controls.safety_margin(series, 0.05) == margin


# --- scores on disk ---------------------------------------------------------------------------


def test_raw_scores_reproduce_the_table(ladder, arena, tmp_path):
    (row,) = rows_of(ladder, "A1")
    table = pq.read_table(tmp_path / "A1.scores.parquet").to_pydict()
    assert set(table) == {"rung", "variant", "frames", "strength", "pair", "score"}
    assert table["pair"] == list(range(len(arena.test)))
    pairs = pq.read_table(tmp_path / "pairs.parquet").to_pydict()
    assert pairs["same"] == arena.test.same.tolist()
    area = roc_auc_score(pairs["same"], table["score"])
    assert area == pytest.approx(row["auc"]["value"], abs=1e-12)
    ranks = pq.read_table(tmp_path / "A9.ranks.parquet").to_pydict()
    (named,) = rows_of(ladder, "A9")
    assert np.mean(np.array(ranks["rank"]) == 1) == named["rank1"]["value"]


def test_scores_of_weaker_lenses_belong_to_the_control_pairs(ladder, tmp_path):
    pairs = pq.read_table(tmp_path / "control_pairs.parquet").to_pydict()
    table = pq.read_table(tmp_path / "A1-25.scores.parquet").to_pydict()
    assert len(set(pairs["first_person"])) == TIER.control_people
    assert set(table["strength"]) == {0.25}
    (row,) = rows_of(ladder, "A1")
    area = roc_auc_score(pairs["same"], table["score"])
    assert area == pytest.approx(row["controls"]["auc_at_25"], abs=1e-12)


def test_no_name_and_no_picture_is_written(ladder, arena, tmp_path):
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(record.key.encode() in written for record in arena.faces.records)
    suffixes = {path.name.split(".", 1)[1] for path in tmp_path.iterdir()}
    assert suffixes <= {"json", "parquet", "scores.parquet", "ranks.parquet"}


# --- stop and go on ---------------------------------------------------------------------------


def counting(rungs: dict, calls: list[str], stop_at: int | None = None) -> dict:
    """The same rungs; every call is noted, and call number `stop_at` is interrupted."""

    def wrap(name: str, rung: Callable) -> Callable:
        def run(arena: Arena, *, progress: OnProgress) -> Iterator:
            calls.append(f"{name} {arena.camera.name}")
            for found in rung(arena, progress=progress):
                if len(calls) == stop_at:
                    raise KeyboardInterrupt
                yield found

        return run

    return {name: wrap(name, rung) for name, rung in rungs.items()}


@pytest.mark.parametrize("stop_at", [1, 2, 5])
def test_a_stopped_attack_goes_on_to_the_same_numbers(stop_at, ladder, arena, tmp_path):
    folder, calls = tmp_path / "again", []
    with pytest.raises(KeyboardInterrupt):
        climb(
            arena, counting(RUNGS, calls, stop_at),
            ledger=ledger_for(arena, folder), progress=silent,
        )  # fmt: skip
    assert len(calls) == stop_at
    left = [path.name for path in folder.iterdir()]
    assert not [name for name in left if name.endswith(".partial")]
    resumed = climb(
        arena, counting(RUNGS, calls), ledger=ledger_for(arena, folder), progress=silent
    )
    assert resumed == ladder
    # four rungs at three strengths, A1 and A2 at a tenth too, A9 on wrong names; one unit twice
    assert len(calls) == 15 + 1
    first = pq.read_table(tmp_path / "A1-50.scores.parquet")
    assert pq.read_table(folder / "A1-50.scores.parquet").equals(first)


def test_a_finished_attack_is_read_not_repeated(ladder, arena, tmp_path):
    calls: list[str] = []
    again = climb(
        arena, counting(RUNGS, calls), ledger=ledger_for(arena, tmp_path), progress=silent
    )
    assert calls == []
    assert again == ladder


CHANGES = {
    "seed": lambda arena: replace(arena, seed=1),
    "noise": lambda arena: replace(arena, camera=replace(arena.camera, noise=NoiseLaw(0.02))),
    "psf": lambda arena: replace(
        arena, camera=replace(arena.camera, optics=PlainBlur("gaussian", 0.21, 32))
    ),
    "tier": lambda arena: replace(arena, tier=replace(TIER, steps=61)),
    "attacker": lambda arena: replace(arena, attacker=arena.attacker[:-1]),
    "pairs": lambda arena: replace(
        arena, test=all_pairs([r.person for r in arena.faces.records[:21]], max_nonmated=9, seed=0)
    ),
    "recognisers": lambda arena: replace(arena, judges=(*arena.judges, Other())),
}


class Other(Pixels):
    name = "other"


@pytest.mark.parametrize("setting", CHANGES)
def test_a_changed_setting_never_reuses_scores(setting, arena, tmp_path):
    climb(arena, {"A1": look}, ledger=ledger_for(arena, tmp_path), progress=silent)
    changed = ledger_for(CHANGES[setting](arena), tmp_path)
    assert setting in changed.changed
    assert changed.rows("A1") is None
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_other_pictures_under_the_same_names_are_noticed(arena, tmp_path):
    ledger_for(arena, tmp_path)
    darker = replace(arena.faces, read=lambda record: arena.faces.read(record) // 2)
    assert ledger_for(replace(arena, faces=darker), tmp_path).changed == ("data",)


def test_another_restorer_concerns_a6_alone(arena, tmp_path):
    ledger = ledger_for(arena, tmp_path)
    climb(arena, {"A1": look, "A6": look}, ledger=ledger, progress=silent)
    changed = ledger_for(arena, tmp_path, restorer="f" * 64)
    assert changed.changed == ("restorer",)
    assert changed.rows("A6") is None is changed.rows("A6-25")
    assert changed.rows("A1") is not None


def test_restart_forgets_everything(arena, tmp_path):
    climb(arena, {"A1": look}, ledger=ledger_for(arena, tmp_path), progress=silent)
    assert ledger_for(arena, tmp_path, restart=True).rows("A1") is None


def test_a_foreign_folder_is_left_alone(arena, tmp_path):
    (tmp_path / "mine.json").write_text("{}")
    ledger_for(arena, tmp_path, restart=True)
    assert json.loads((tmp_path / "mine.json").read_text()) == {}


# --- bad input --------------------------------------------------------------------------------


def test_nan_embeddings_are_an_error(arena, tmp_path):
    class Broken(Pixels):
        def __call__(self, photos: torch.Tensor) -> torch.Tensor:
            return super().__call__(photos) * float("nan")

    blind = replace(arena, judges=(Broken(),), cache={})
    with pytest.raises(InputError, match=r"expected finite embeddings, found NaN"):
        climb(blind, {"A1": look}, ledger=ledger_for(blind, tmp_path), progress=silent)


def test_an_attacker_who_knows_the_test_people_is_an_error(arena):
    with pytest.raises(InputError, match=r"found 1 in both \(such as p7\)"):
        replace(arena, attacker=np.arange(23, 36))
