"""Who is attacked and who teaches the attacker: disjoint people, whatever the set looks like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opticaldr.data.attack_set import AttackSet, Sizes, open_attack
from opticaldr.types import InputError

SMALL = Sizes(people=3, photos=3, nonmated=50, attacker_images=12)


def save_picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def lfw(
    root: Path, images: dict[str, int], listed: tuple[str, ...], *, copies: bool = False
) -> str:
    """A small LFW: so many images of each person; `listed` stand in pairs.txt (View 2)."""
    for p, (name, count) in enumerate(images.items()):
        for n in range(count):
            save_picture(root / name / f"{name}_{n + 1:04d}.jpg", 0 if copies else 100 * p + n)
    mated = [f"{name} 1 2" for name in listed]
    crossed = [f"{a} 1 {b} 2" for a, b in zip(listed, listed[1:] + listed[:1], strict=True)]
    (root / "pairs.txt").write_text("\n".join([f"1 {len(listed)}", *mated, *crossed]) + "\n")
    return f"lfw={root}"


def manifest(root: Path, rows: list[tuple[str, str, str]]) -> str:
    """A manifest of (subject, session, split), one picture a row."""
    lines = ["path,subject,session,split"]
    for number, (subject, session, split) in enumerate(rows):
        save_picture(root / f"{number}.png", number)
        lines.append(f"{number}.png,{subject},{session},{split}")
    (root / "set.csv").write_text("\n".join(lines) + "\n")
    return f"manifest={root / 'set.csv'}"


def opened(spec: str, sizes: Sizes = SMALL, **more: object) -> AttackSet:
    return open_attack(spec, sizes, image_size=16, seed=0, **more)


def people(found: AttackSet, images: np.ndarray) -> set[str]:
    return {found.faces.records[int(i)].person for i in images}


IMAGES = {"Ann": 4, "Bo": 3, "Cy": 2, "Di": 3, "Ed": 5, "Flo": 2, "Gus": 3, "Hal": 1}


def test_lfw_roles_share_nobody(tmp_path):
    listed = ("Ann", "Bo", "Cy", "Di", "Ed", "Flo")
    found = opened(lfw(tmp_path, IMAGES, listed))
    tested, taught = people(found, found.test.images), people(found, found.attacker)
    assert not tested & taught
    assert tested | taught <= set(listed)  # lenses train on the others
    assert found.lens_people == 2
    assert len(tested) == 3
    assert tested <= {"Ann", "Bo", "Di", "Ed"}  # those with three pictures go first
    assert found.test.same.sum() == 3 * 3  # three pictures of each: three mated pairs
    assert found.sessions_disjoint is None


def test_roles_in_the_whole_of_lfw(shared_data):
    """Sizes of the standard tier: enough people with four pictures, and an attacker beside them."""
    spec = f"lfw={shared_data / 'lfw' / 'lfw_aligned160.tar'}"
    found = opened(spec, Sizes(people=500, photos=4, nonmated=20_000, attacker_images=4000))
    tested, taught = people(found, found.test.images), people(found, found.attacker)
    assert (len(tested), len(found.test.images), len(found.attacker)) == (500, 2000, 4000)
    assert not tested & taught
    assert (found.test.same.sum(), (~found.test.same).sum()) == (3000, 20_000)
    assert found.lens_people == 5749 - 4281  # everyone outside View 2


def test_the_choice_depends_on_the_seed_alone(tmp_path):
    spec = lfw(tmp_path, IMAGES, ("Ann", "Bo", "Cy", "Di", "Ed", "Flo"))
    first, again = opened(spec), opened(spec)
    other = open_attack(spec, SMALL, image_size=16, seed=1)
    assert first.test.sha256 == again.test.sha256 != other.test.sha256
    assert np.array_equal(first.attacker, again.attacker)


def test_official_pairs_are_the_list_itself(tmp_path):
    spec = lfw(tmp_path, IMAGES, ("Ann", "Bo", "Cy"))
    found = opened(spec, official_pairs=True)
    assert (len(found.test), found.test.same.sum()) == (6, 3)
    assert people(found, found.attacker) == {"Di", "Ed", "Flo", "Gus"}  # Hal has one picture
    assert "lens" in found.notes[0]
    with pytest.raises(InputError, match=r"Expected --pairs official with lfw=PATH"):
        opened("synthetic", official_pairs=True)


def test_copies_of_a_picture_are_left_out(tmp_path):
    spec = lfw(tmp_path, {"Ann": 3, "Bo": 3, "Cy": 3, "Di": 3}, ("Ann", "Bo", "Cy", "Di"))
    for name in ("Ann", "Bo", "Cy", "Di"):
        copy = (tmp_path / name / f"{name}_0001.jpg").read_bytes()
        (tmp_path / name / f"{name}_0003.jpg").write_bytes(copy)
    found = opened(spec)
    assert found.notes == ("2 identical pictures left out",)  # of the two people tested
    assert len(found.test.images) == 4


def test_a_set_of_one_picture_is_refused(tmp_path):
    spec = lfw(tmp_path, dict.fromkeys(("Ann", "Bo", "Cy", "Di"), 2), ("Ann", "Bo", "Cy", "Di"),
               copies=True)  # fmt: skip
    with pytest.raises(InputError, match=r"two different images each, found \d copies"):
        opened(spec)


def test_one_picture_a_person_is_refused(tmp_path):
    rows = [(f"p{n}", "", "") for n in range(8)]
    with pytest.raises(
        InputError, match=r"expected at least 4 people with two images each .* 0 of"
    ):
        opened(manifest(tmp_path, rows))


def test_one_identity_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"found 1 of 1 people"):
        opened(manifest(tmp_path, [("only", "", "")] * 6))


def test_a_manifest_keeps_its_splits(tmp_path):
    rows = [(f"{split}{n}", "", split) for split in ("train", "dev", "test") for n in (1, 1, 2, 2)]
    found = opened(manifest(tmp_path, rows))
    assert people(found, found.test.images) == {"test1", "test2"}
    assert people(found, found.attacker) == {"dev1", "dev2"}
    assert found.lens_people == 2
    assert found.sessions_disjoint is None  # no session column


def test_pictures_of_one_session_are_not_compared(tmp_path):
    rows = [(f"p{n}", session, "") for n in range(6) for session in ("s1", "s1", "s2")]
    found = opened(manifest(tmp_path, rows))
    session = [record.recording for record in found.faces.records]
    mated = found.test.same
    assert mated.sum() == 3 * 2  # of three pairs of each person, one is within s1
    assert all(
        session[a] != session[b]
        for a, b in zip(found.test.first[mated], found.test.second[mated], strict=True)
    )
    assert found.sessions_disjoint is True
    one_session = opened(manifest(tmp_path, [(p, "s1", split) for p, _, split in rows]))
    assert one_session.sessions_disjoint is False


def test_rendered_people_are_dealt_in_order(synthetic_cache):
    sizes = replace(SMALL, people=2, photos=2, attacker_images=5)
    found = opened("synthetic", sizes)
    assert found.people(found.test.images) == 2
    assert found.people(found.attacker) == 3
    assert not people(found, found.test.images) & people(found, found.attacker)
    assert found.sessions_disjoint is True
    assert min(people(found, found.test.images)) >= "synthetic-700000"  # nobody trains on these


@pytest.mark.parametrize("spec", ["expressions=x.npz", "rafdb=x", "lfw", ""])
def test_an_unknown_set(spec):
    with pytest.raises(
        InputError, match=r"Expected --data synthetic, lfw=PATH, celeba=PATH or manifest="
    ):
        opened(spec)
