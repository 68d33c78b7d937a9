"""AffectNet, RAF-DB and FER+: each set's own labels end in the one canonical order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from opticaldr.config import load_config
from opticaldr.data import expression_labels
from opticaldr.data.expression_affectnet import survey_affectnet
from opticaldr.data.expression_fer import survey_ferplus
from opticaldr.data.expression_labels import emotion_numbers, train_or_dev
from opticaldr.data.expression_rafdb import survey_rafdb
from opticaldr.data.sources import open_sources
from opticaldr.faces.alignment import FIVE_POINTS
from opticaldr.media import write_image
from opticaldr.types import EMOTIONS, InputError

# --- one map per set, written out once more by hand from each set's own documentation ------------

MEANINGS = {
    "FER2013_CLASSES": ["anger", "disgust", "fear", "happy", "sad", "surprise", "neutral"],
    "FERPLUS_CLASSES": ["neutral", "happy", "surprise", "sad", "anger", "disgust", "fear",
                        None, None, None],
    "AFFECTNET_CLASSES": ["neutral", "happy", "sad", "surprise", "fear", "disgust", "anger",
                          None, None, None, None],
    "RAFDB_CLASSES": ["surprise", "fear", "disgust", "happy", "sad", "anger", "neutral"],
}  # fmt: skip


@pytest.mark.parametrize("name", MEANINGS)
def test_labels_mean_what_the_set_says(name):
    numbers = emotion_numbers(getattr(expression_labels, name))
    assert [EMOTIONS[n] if n >= 0 else None for n in numbers] == MEANINGS[name]


def test_the_canonical_order_has_not_moved():
    assert EMOTIONS == ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger")


def emotions(survey) -> dict[str, str]:
    return {record.key: EMOTIONS[record.emotion] for record in survey.faces.records}


# --- AffectNet ----------------------------------------------------------------------------------


def affectnet_npy(root: Path, count: int = 11) -> Path:
    """The .npy release: image i has label i in either part; the first label is stored as text."""
    for part in ("train_set", "val_set"):
        (root / part / "annotations").mkdir(parents=True)
        for number in range(count):
            image = np.full((8, 8, 3), 10 * number, np.uint8)
            write_image(root / part / "images" / f"{number}.jpg", image)
            label = np.array(str(number)) if number == 0 else np.array(number)
            np.save(root / part / "annotations" / f"{number}_exp.npy", label)
            np.save(root / part / "annotations" / f"{number}_val.npy", np.array("0.5"))
    return root


@pytest.mark.parametrize("above", ["", "AffectNet"])
def test_affectnet_npy(tmp_path, above):
    survey = survey_affectnet(affectnet_npy(tmp_path / above) if above else affectnet_npy(tmp_path))
    found = emotions(survey)
    assert [found[f"val_set/images/{n}.jpg"] for n in range(7)] == MEANINGS["AFFECTNET_CLASSES"][:7]
    assert {reason: len(keys) for reason, keys in survey.left_out.items()} == {
        "labelled contempt": 2, "labelled none": 2, "labelled uncertain": 2, "labelled no face": 2,
    }  # fmt: skip
    splits = {record.key: record.split for record in survey.faces.records}
    assert {splits[f"val_set/images/{n}.jpg"] for n in range(7)} == {"test"}
    assert {splits[f"train_set/images/{n}.jpg"] for n in range(7)} <= {"train", "dev"}
    last = survey.faces.records[-1]
    assert survey.faces.read(last)[0, 0, 0] == 10 * int(Path(last.key).stem)


def test_affectnet_npy_mistakes(tmp_path):
    root = affectnet_npy(tmp_path)
    (root / "train_set" / "annotations" / "3_exp.npy").unlink()
    assert survey_affectnet(root).left_out["no label"] == ("train_set/images/3.jpg",)
    np.save(root / "train_set" / "annotations" / "4_exp.npy", np.array(11))
    with pytest.raises(InputError, match=r"label from 0 to 10 for train_set/images/4\.jpg, .*'11'"):
        survey_affectnet(root)
    (root / "train_set" / "annotations" / "4_exp.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"a label in .*4_exp\.npy, found a file that does not"):
        survey_affectnet(root)


def marks(shift: float, scale: float) -> np.ndarray:
    """68 landmarks (iBUG order) whose five points are the template, moved and scaled [px]."""
    points = np.full((68, 2), 80.0)
    for places, point in (([*range(36, 42)], 0), ([*range(42, 48)], 1), ([30], 2), ([48], 3)):
        points[places] = FIVE_POINTS[point]
    points[54] = FIVE_POINTS[4]
    points[0] = (40, 80)
    return scale * points + shift


def affectnet_csv(root: Path, images: str = "Manually_Annotated_Images") -> Path:
    header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
    header += "expression,valence,arousal"
    for part, labels in (("training", [0, 1, 2, 7, 9]), ("validation", [6, 8])):
        lines = [header]
        for number, label in enumerate(labels):
            name = f"{number}/{part}{number}.jpg"
            image = np.full((240, 260, 3), 40, np.uint8)
            points = marks(20.0, 1.25)
            x, y = points[30].round().astype(int)
            image[y - 3 : y + 4, x - 3 : x + 4] = 255
            write_image(root / images / name, image)
            cell = ";".join(f"{value:.2f}" for value in points.ravel())
            lines.append(f"{name},1,1,200,200,{cell},{label},0.1,-2")
        (root / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize(
    "images",
    ["Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "."],
)
def test_affectnet_original_release(tmp_path, images):
    survey = survey_affectnet(affectnet_csv(tmp_path, images), size=160)
    found = {Path(key).name: emotion for key, emotion in emotions(survey).items()}
    assert found == {
        "training0.jpg": "neutral", "training1.jpg": "happy", "training2.jpg": "sad",
        "validation0.jpg": "anger",
    }  # fmt: skip
    assert {r: len(k) for r, k in survey.left_out.items()} == {
        "labelled contempt": 1, "labelled uncertain": 1, "labelled none": 1,
    }  # fmt: skip
    assert survey.faces.records[-1].split == "test"
    # the landmarks align the face: the white nose lies on the template's nose
    x, y = FIVE_POINTS[2].round().astype(int)
    crop = survey.faces.image(0)
    assert crop.shape == (160, 160, 3)
    assert crop[y, x].min() > 200
    assert crop[y + 10, x].max() < 60


def test_affectnet_rows_without_landmarks_or_picture(tmp_path):
    root = affectnet_csv(tmp_path)
    table = root / "training.csv"
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace(lines[1].split(",")[5], "")
    lines[2] = lines[2].replace("training1", "absent")
    table.write_text("\n".join(lines) + "\n")
    left_out = survey_affectnet(root).left_out
    assert left_out["no landmarks"] == ("Manually_Annotated_Images/0/training0.jpg",)
    assert left_out["listed, but the picture is absent"] == (
        "Manually_Annotated_Images/1/absent.jpg",
    )
    table.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"expression, facial_landmarks, .* found a, b"):
        survey_affectnet(root)


def test_no_affectnet(tmp_path):
    with pytest.raises(InputError, match=r"neither train_set nor training\.csv"):
        survey_affectnet(tmp_path)
    (tmp_path / "train_set" / "images").mkdir(parents=True)
    with pytest.raises(InputError, match=r"found none \(no picture\)"):
        survey_affectnet(tmp_path)


# --- RAF-DB -------------------------------------------------------------------------------------


def rafdb(root: Path, *, train: int = 7, test: int = 7) -> Path:
    """Image i of a part has label 1 + i mod 7."""
    lines = []
    for part, count in (("train", train), ("test", test)):
        for number in range(count):
            name = f"{part}_{number + 1:05d}"
            image = np.full((10, 10, 3), number, np.uint8)
            write_image(root / "Image" / "aligned" / f"{name}_aligned.jpg", image)
            lines.append(f"{name}.jpg {1 + number % 7}")
    (root / "EmoLabel").mkdir(parents=True)
    (root / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("above", ["", "basic"])
def test_rafdb(tmp_path, above):
    rafdb(tmp_path / above)
    survey = survey_rafdb(tmp_path)
    found = [EMOTIONS[r.emotion] for r in survey.faces.records if r.split == "test"]
    assert found == MEANINGS["RAFDB_CLASSES"]
    assert {r.split for r in survey.faces.records[:7]} <= {"train", "dev"}
    assert survey.findings[0] == "7 pictures are listed in train; a complete copy has 12,271"
    assert survey.faces.image(3).shape == (10, 10, 3)


def test_rafdb_pictures_that_are_absent_are_counted(tmp_path):
    root = rafdb(tmp_path)
    (root / "Image/aligned/train_00002_aligned.jpg").unlink()
    survey = survey_rafdb(root)
    assert len(survey.faces) == 13
    assert survey.left_out == {
        "listed, but the picture is absent": ("Image/aligned/train_00002_aligned.jpg",)
    }


@pytest.mark.parametrize("line", ["train_00001.jpg 8", "train_00001.jpg 12", "train_00001.jpg",
                                  "valid_00001.jpg 1", "train_00001.jpg 0"])  # fmt: skip
def test_rafdb_wrong_lines(tmp_path, line):
    root = rafdb(tmp_path)
    (root / "EmoLabel" / "list_patition_label.txt").write_text(f"train_00001.jpg 5\n{line}\n")
    with pytest.raises(InputError, match=f"found '{line}' in line 2"):
        survey_rafdb(root)


def test_no_rafdb(tmp_path):
    with pytest.raises(InputError, match=r"no list_patition_label\.txt; arrange"):
        survey_rafdb(tmp_path)


def test_a_tenth_of_train_selects_and_never_moves():
    """Otherwise a model of one version would be selected on what another was trained on."""
    splits = [train_or_dev(f"train_{n:05d}.jpg".encode()) for n in range(2000)]
    # binomial, standard deviation 13.4: four of them
    assert abs(Counter(splits)["dev"] - 200) < 54
    assert [n for n, split in enumerate(splits[:40]) if split == "dev"] == FIRST_DEV


FIRST_DEV = [12, 16]
"""Of the first 40 names of RAF-DB."""


# --- FER+ ---------------------------------------------------------------------------------------

USAGES = ("Training", "PublicTest", "PrivateTest")
VOTES = {
    (8, 1, 1, 0, 0, 0, 0, 0, 0, 0): "neutral",
    (0, 9, 1, 0, 0, 0, 0, 0, 0, 0): "happy",
    (0, 0, 4, 3, 3, 0, 0, 0, 0, 0): "surprise",
    (0, 0, 0, 10, 0, 0, 0, 0, 0, 0): "sad",
    (0, 0, 0, 0, 6, 4, 0, 0, 0, 0): "anger",
    (0, 0, 0, 0, 4, 6, 0, 0, 0, 0): "disgust",
    (0, 0, 0, 0, 0, 0, 10, 0, 0, 0): "fear",
    (0, 0, 0, 0, 0, 0, 0, 9, 1, 0): "most votes for contempt",
    (1, 0, 0, 0, 0, 0, 0, 0, 9, 0): "most votes for unknown",
    (0, 0, 0, 0, 0, 0, 0, 0, 0, 10): "most votes for NF",
    (5, 0, 0, 5, 0, 0, 0, 0, 0, 0): "votes are tied",
}
"""Votes of ten people in the order of the file -> what they come to."""


def ferplus(root: Path, *, usages: list[str] | None = None, header: str = "") -> Path:
    pixels = " ".join(["7"] * 48 * 48)
    own = [USAGES[n % 3] for n in range(len(VOTES))]
    images = [f"3,{pixels},{usage}" for usage in own]
    (root / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *images]) + "\n")
    header = header or (
        "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    )
    votes = [
        f"{usage},fer{n:07d}.png,{','.join(map(str, vote))}"
        for n, (usage, vote) in enumerate(zip(usages or own, VOTES, strict=False))
    ]
    (root / "fer2013new.csv").write_text("\n".join([header, *votes]) + "\n")
    return root


def test_ferplus_takes_the_votes_not_the_first_labels(tmp_path):
    survey = survey_ferplus(ferplus(tmp_path))
    wanted = {f"fer2013.csv#{n}": text for n, text in enumerate(VOTES.values())}
    found = emotions(survey)
    for reason, keys in survey.left_out.items():
        found |= dict.fromkeys(keys, reason)
    assert found == wanted
    assert [r.split for r in survey.faces.records[:3]] == ["train", "dev", "test"]
    assert survey.faces.name == "ferplus"
    assert len(survey_ferplus(tmp_path / "fer2013new.csv").faces) == 7


def test_rows_of_the_two_files_must_belong_together(tmp_path):
    usages = [USAGES[n % 3] for n in range(len(VOTES))]
    usages[4] = "Training"
    with pytest.raises(InputError, match=r"same Usage in row 5 .*'dev' and 'Training'"):
        survey_ferplus(ferplus(tmp_path, usages=usages))
    with pytest.raises(InputError, match=r"as many rows .*\(11\), found 2"):
        survey_ferplus(ferplus(tmp_path, usages=["Training", "PublicTest"]))
    with pytest.raises(InputError, match="found no sadness"):
        survey_ferplus(ferplus(tmp_path, header=(tmp_path / "fer2013new.csv").read_text()
                               .splitlines()[0].replace("sadness", "grief")))  # fmt: skip
    (tmp_path / "fer2013.csv").unlink()
    with pytest.raises(InputError, match=r"found no fer2013\.csv; put the images"):
        survey_ferplus(tmp_path)


# --- as sources ---------------------------------------------------------------------------------


def test_named_sets_fill_the_expressions(tmp_path):
    tiny = load_config("tiny")
    root = rafdb(tmp_path, train=40)
    sources = open_sources([f"rafdb={root}"], tiny)
    assert len(sources.training["expressions"]) == 37
    chosen = [record.key[-17:-12] for record in sources.validation["expressions"].records]
    assert chosen == ["00012", "00016", "00040"]
    (tmp_path / "f").mkdir()
    sources = open_sources([f"ferplus={ferplus(tmp_path / 'f')}"], tiny)
    assert {r.split for r in sources.validation["expressions"].records} == {"dev"}
    assert sources.left_out["ferplus: votes are tied"] == "1 left out, such as fer2013.csv#10"
