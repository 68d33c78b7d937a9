"""LFW: folder and tar, the View 2 list, and what a broken copy says."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from opticaldr.data.lfw import load_lfw, load_pairs, people_outside
from opticaldr.types import InputError

PEOPLE = {"Ann_Lee": 3, "Bo_Ek": 2, "Cy_Oh": 1, "Di_Ng": 1}


def write_lfw(root: Path, pairs: str = "1 2\nAnn_Lee 1 3\nBo_Ek 1 2\nAnn_Lee 2 Bo_Ek 1\n") -> Path:
    """A small copy: one top folder, one grey level per image; Cy_Oh and one more in no pair."""
    top = root / "aligned"
    level = 0
    for person, images in PEOPLE.items():
        (top / person).mkdir(parents=True)
        for number in range(1, images + 1):
            level += 20
            picture = Image.fromarray(np.full((40, 40, 3), level, np.uint8))
            picture.save(top / person / f"{person}_{number:04d}.jpg", quality=95)
    (top / "pairs.txt").write_text(pairs + "Bo_Ek 2 Di_Ng 1\n")
    return root


def as_tar(root: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.add(root, arcname=".")
    return path


@pytest.fixture(params=["folder", "tar"])
def lfw(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    root = write_lfw(tmp_path / "lfw")
    return root if request.param == "folder" else as_tar(root, tmp_path / "lfw.tar")


def test_records_are_sorted_and_read_their_own_image(lfw: Path) -> None:
    faces = load_lfw(lfw)
    assert [record.person for record in faces.records] == ["Ann_Lee"] * 3 + ["Bo_Ek"] * 2 + [
        "Cy_Oh",
        "Di_Ng",
    ]
    assert faces.records[1].key == "aligned/Ann_Lee/Ann_Lee_0002.jpg"
    for index in range(len(faces)):
        image = faces.image(index)
        assert image.shape == (40, 40, 3)
        assert abs(int(image[20, 20, 1]) - 20 * (index + 1)) <= 2  # JPEG rounding of a flat picture


def test_data_loader_processes_read_the_same(tmp_path: Path) -> None:
    """A spawned worker gets a copy of the set and opens the archive itself."""
    faces = load_lfw(as_tar(write_lfw(tmp_path / "lfw"), tmp_path / "lfw.tar"))
    loader = DataLoader(faces, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    for index, example in enumerate(loader):
        assert torch.equal(example["image"], faces[index]["image"])
    assert index == len(faces) - 1


def test_pairs_are_indices_into_the_records(lfw: Path) -> None:
    faces = load_lfw(lfw)
    pairs = load_pairs(lfw, faces)
    assert pairs.first.tolist() == [0, 3, 1, 4]
    assert pairs.second.tolist() == [2, 4, 3, 6]
    assert pairs.same.tolist() == [True, True, False, False]
    assert [record.person for record in people_outside(faces, pairs).records] == ["Cy_Oh"]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("1 2\nAnn_Lee 1 4\n", r"pairs\.txt line 2 names Ann_Lee_0004\.jpg, .* 7 images"),
        ("1 2\nAnn_Lee 1\n", r"line 2: expected 'name n m' or 'name n name m', found 'Ann_Lee 1'"),
        ("1 3\nAnn_Lee 1 3\n", r"expected 6 pairs \(first line '1 3'\), found 2"),
        ("Ann_Lee 1 3\n", r"expected a first line such as '10 300', found 'Ann_Lee 1 3'"),
    ],
)
def test_broken_pair_lists_name_file_and_line(tmp_path: Path, pairs: str, message: str) -> None:
    root = write_lfw(tmp_path, pairs)
    with pytest.raises(InputError, match=message):
        load_pairs(root, load_lfw(root))


def test_missing_pair_list(tmp_path: Path) -> None:
    root = write_lfw(tmp_path)
    (root / "aligned" / "pairs.txt").unlink()
    with pytest.raises(InputError, match=r"Expected one pairs\.txt in .*, found 0"):
        load_pairs(root, load_lfw(root))


def test_wrong_paths_and_archives(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Expected LFW at .*absent"):
        load_lfw(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"Expected images PERSON/PERSON_0001\.jpg in .*empty"):
        load_lfw(tmp_path / "empty")
    (tmp_path / "text.tar").write_text("hello")
    with pytest.raises(InputError, match=r"text\.tar to be an uncompressed tar"):
        load_lfw(tmp_path / "text.tar")
    whole = as_tar(write_lfw(tmp_path / "lfw"), tmp_path / "lfw.tar")
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"cut\.tar to be an uncompressed tar"):
        load_lfw(tmp_path / "cut.tar")


def test_two_copies_in_one_folder_are_refused(tmp_path: Path) -> None:
    write_lfw(tmp_path / "a")
    write_lfw(tmp_path / "b")
    with pytest.raises(InputError, match=r"found a/aligned/Ann_Lee.* and b/aligned/Ann_Lee"):
        load_lfw(tmp_path)


def test_broken_images_are_named_when_read(tmp_path: Path) -> None:
    root = write_lfw(tmp_path)
    folder = root / "aligned" / "Ann_Lee"
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "Ann_Lee_0001.jpg")
    whole = (folder / "Ann_Lee_0001.jpg").read_bytes()
    (folder / "Ann_Lee_0001.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "Ann_Lee_0002.jpg").write_text("not a picture")
    faces = load_lfw(root)
    (folder / "Ann_Lee_0003.jpg").unlink()
    for index in range(3):
        with pytest.raises(InputError, match=rf"Ann_Lee_000{index + 1}\.jpg"):
            faces.image(index)


def test_the_real_set_has_its_published_size(shared_data: Path) -> None:
    path = shared_data / "lfw" / "lfw_aligned160.tar"
    faces = load_lfw(path)
    pairs = load_pairs(path, faces)
    assert (len(faces), len(faces.people)) == (13233, 5749)  # Huang et al. 2007
    assert (len(pairs), int(pairs.same.sum()), len(pairs.images)) == (6000, 3000, 7701)
    outside = people_outside(faces, pairs)
    tested = {faces.records[i].person for i in pairs.images}
    assert tested.isdisjoint(outside.people)
    assert len(tested) + len(outside.people) == 5749
    assert faces.image(0).shape == (160, 160, 3)
