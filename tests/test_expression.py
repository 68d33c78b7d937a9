"""Expression sets: labels end in the canonical order, whatever the order of the set."""

from __future__ import annotations

import collections
import os
from pathlib import Path

import numpy as np
import pytest

from opticaldr.data.expression import load_expression
from opticaldr.data.expression_labels import FER2013_CLASSES
from opticaldr.data.faceset import FaceSet
from opticaldr.media import write_image
from opticaldr.types import EMOTIONS, InputError

CANONICAL = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's classes in words of types.EMOTIONS, written out once more by hand."""


def faces48(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 48, 48), dtype=np.uint8)


def emotions_of(faces: FaceSet) -> list[str]:
    return [EMOTIONS[record.emotion] for record in faces.records]


def test_npz(tmp_path: Path) -> None:
    images = faces48(7)
    np.savez(tmp_path / "fer.npz", x=images, y=np.arange(7), classes=np.array(FER2013_CLASSES))
    faces = load_expression(tmp_path / "fer.npz")
    assert emotions_of(faces) == list(CANONICAL)
    for index in range(7):
        np.testing.assert_array_equal(faces.image(index), np.stack([images[index]] * 3, axis=-1))
    assert len(faces.people) == 7
    assert faces[0]["image"].shape == (3, 48, 48)
    assert load_expression(tmp_path / "fer.npz", size=32).image(0).shape == (32, 32, 3)


def test_npz_classes_decide_the_meaning(tmp_path: Path) -> None:
    """Another order of classes in the file is followed, not overruled."""
    names = np.array(["Happy", "neutral", "ANGER"])
    np.savez(tmp_path / "a.npz", x=faces48(4), y=np.array([0, 1, 2, 0]), classes=names)
    assert emotions_of(load_expression(tmp_path / "a.npz")) == [
        "happy",
        "neutral",
        "anger",
        "happy",
    ]


def test_split_is_fixed_and_keeps_duplicates_together(tmp_path: Path) -> None:
    images = faces48(1500)
    images[1000:1500] = images[:500]
    np.savez(tmp_path / "a.npz", x=images, y=np.zeros(1500, int))
    splits = [record.split for record in load_expression(tmp_path / "a.npz").records]
    assert splits[1000:] == splits[:500]
    shares = collections.Counter(splits[:1000])
    # Binomial: standard deviation of the train share of 1000 is 13, of the others 9.5; 4 sigma.
    assert abs(shares["train"] - 800) < 52
    assert abs(shares["dev"] - 100) < 38
    assert abs(shares["test"] - 100) < 38


def test_split_never_moves(tmp_path: Path) -> None:
    """Otherwise a model of one version would be tested on images that it was trained on."""
    images = np.repeat(np.arange(4, dtype=np.uint8), 48 * 48).reshape(4, 48, 48)
    np.savez(tmp_path / "a.npz", x=images, y=np.zeros(4, int))
    splits = [record.split for record in load_expression(tmp_path / "a.npz").records]
    assert splits == ["dev", "test", "train", "train"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": faces48(2)}, "arrays x and y in .*, found x"),
        (
            {"x": faces48(2), "y": np.zeros(3, int)},
            r"found x \(2, 48, 48\) uint8 and y \(3,\) int64",
        ),
        ({"x": faces48(2) / 255, "y": np.zeros(2, int)}, "float64"),
        ({"x": faces48(2), "y": np.zeros(2)}, r"y \(2,\) float64"),
        ({"x": faces48(2), "y": np.array([0, 7])}, "labels 0 to 6 in .*, found 7 for image 1"),
        (
            {"x": faces48(1), "y": np.array([0]), "classes": np.array(["contempt"])},
            "found 'contempt'; use one of neutral, happy",
        ),
        ({"x": np.array([{}, {}]), "y": np.zeros(2, int)}, "does not load"),
    ],
)
def test_wrong_npz(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load_expression(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut off"])
def test_damaged_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match="found a file that does not load"):
        load_expression(tmp_path / "a.npz")


def test_fer2013_csv(tmp_path: Path) -> None:
    images = faces48(7)
    usages = ["Training", "PublicTest", "PrivateTest", *["Training"] * 4]
    lines = [
        f"{label},{' '.join(map(str, image.ravel()))},{usage}"
        for label, (image, usage) in enumerate(zip(images, usages, strict=True))
    ]
    path = tmp_path / "fer2013.csv"
    path.write_text("\n".join(["emotion,pixels,Usage", *lines]) + "\n")
    faces = load_expression(path)
    assert emotions_of(faces) == list(CANONICAL)
    assert [r.split for r in faces.records] == ["train", "dev", "test", *["train"] * 4]
    np.testing.assert_array_equal(faces.image(5)[..., 1], images[5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "columns emotion, pixels, Usage in .*, found a, b"),
        ("emotion,pixels,Usage\n", "found only a header"),
        ("emotion,pixels,Usage\n0,1 2 3,Training\n", "2304 grey values and a Usage in line 2"),
        (f"emotion,pixels,Usage\n0,{'256 ' * 2304},Training\n", "line 2"),
        (f"emotion,pixels,Usage\n0,{'1 ' * 2304},Later\n", "line 2 .*'Later'"),
        (f"emotion,pixels,Usage\n9,{'1 ' * 2304},Training\n", "labels 0 to 6 in .*, found 9"),
        ("emotion,pixels,Usage\n0\n", "line 2"),
    ],
)
def test_wrong_csv(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "fer2013.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        load_expression(tmp_path / "fer2013.csv")


def test_folder_per_class(tmp_path: Path) -> None:
    for name in ("Happiness/a.png", "angry/b.png", "angry/.hidden.png", "neutral/c.png"):
        write_image(tmp_path / name, np.full((6, 9, 3), 70, np.uint8))
    (tmp_path / "angry" / "readme.txt").touch()
    faces = load_expression(tmp_path)
    assert [record.key for record in faces.records] == [
        "Happiness/a.png",
        "angry/b.png",
        "neutral/c.png",
    ]
    assert emotions_of(faces) == ["happy", "anger", "neutral"]
    assert all(record.split in ("train", "dev", "test") for record in faces.records)
    assert faces.image(0).shape == (6, 9, 3)


def test_names_outside_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"sad/caf\xe9.png")
    write_image(tmp_path / name, np.full((4, 4, 3), 9, np.uint8))
    faces = load_expression(tmp_path)
    assert faces.image(0)[0, 0, 0] == 9
    assert faces.records[0].split in ("train", "dev", "test")


def test_folders_of_splits(tmp_path: Path) -> None:
    for name in ("test/sad/a.png", "train/sad/a.png", "Val/fear/c.png"):
        write_image(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    faces = load_expression(tmp_path, size=2)
    found = [(r.split, EMOTIONS[r.emotion]) for r in faces.records]
    assert found == [("dev", "fear"), ("test", "sad"), ("train", "sad")]
    assert faces.image(0).shape == (2, 2, 3)


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no image; name the folders neutral, happy"):
        load_expression(tmp_path)
    write_image(tmp_path / "contempt" / "a.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match="found 'contempt'; use one of neutral, happy, happiness"):
        load_expression(tmp_path)
    with pytest.raises(InputError, match="found nothing; check the path"):
        load_expression(tmp_path / "absent")
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match=r"a folder per class, found .*a\.txt"):
        load_expression(tmp_path / "a.txt")


def test_the_fer2013_subset(shared_data: Path) -> None:
    faces = load_expression(shared_data / "fer2013" / "fer2013_subset48.npz")
    assert len(faces) == 10_147
    counts = collections.Counter(emotions_of(faces))
    assert counts == {name: 547 if name == "disgust" else 1600 for name in CANONICAL}
    pixels = [faces.image(index).tobytes() for index in range(len(faces))]
    split_of: dict[bytes, set[str]] = collections.defaultdict(set)
    for content, record in zip(pixels, faces.records, strict=True):
        split_of[content].add(record.split)
    assert len(split_of) < len(faces)  # the set does contain duplicates
    assert all(len(splits) == 1 for splits in split_of.values())
