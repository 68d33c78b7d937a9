"""CelebA in every layout that is in use; pictures are drawn, names and label formats are real."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from torch.utils.data import DataLoader

from opticaldr.config import load_config
from opticaldr.data.attack_set import Sizes, open_attack
from opticaldr.data.celeba import EXPECTED, load_celeba, survey_celeba
from opticaldr.data.celeba_crops import in_crop
from opticaldr.data.sources import open_sources
from opticaldr.faces.alignment import FIVE_POINTS, REFERENCE_SIDE
from opticaldr.types import InputError

WIDTH, HEIGHT = 178, 218
ATTRIBUTES = ("Male", "Smiling", "Young")
POINTS = np.array([(69, 109), (108, 111), (88, 136), (73, 152), (105, 151)])
"""Five points of an ordinary CelebA picture, and below they are drawn as dots [px]."""

PICTURES = {
    "000001.jpg": (2880, 0, (1, -1, 1)),
    "000002.jpg": (2937, 0, (-1, -1, -1)),
    "000003.jpg": (2880, 0, (1, 1, 1)),
    "000004.jpg": (11, 1, (1, 1, -1)),
    "000005.jpg": (12, 2, (-1, 1, 1)),
    "000006.jpg": (12, 2, (-1, 1, -1)),
    "000007.jpg": (13, 2, (1, -1, -1)),
    "000008.jpg": (13, 2, (1, -1, 1)),
}
"""Name -> identity, partition, attributes; all made up."""

COMPLETE_COPY = "a complete copy has"


def points_of(name: str) -> np.ndarray:
    """Points of a picture: turned and moved a little from one to the next."""
    number = int(name[:6])
    turn = np.exp(1j * np.deg2rad(3 * number - 12)) * (1 + 0.02 * number)
    moved = ((POINTS - POINTS.mean(0)) @ (1, 1j)) * turn
    points = np.stack([moved.real, moved.imag], 1) + POINTS.mean(0) + (number, -number)
    return points.round().astype(int)


def picture(name: str) -> np.ndarray:
    """A grey picture whose brightness names it, with a white dot at each of its five points."""
    image = np.full((HEIGHT, WIDTH, 3), 20 * int(name[:6]), np.uint8)
    for x, y in points_of(name):
        image[y - 2 : y + 3, x - 2 : x + 3] = 255
    return image


def jpeg(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(name)).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def label_texts(*, csv: bool = False) -> dict[str, str]:
    """The four label files in the official format, or as Kaggle has them (no identities there)."""
    points = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    header = [f"{point}_{axis}" for point in points for axis in "xy"]
    marks = {name: [str(value) for value in points_of(name).ravel()] for name in PICTURES}
    if csv:
        attributes = [",".join([n, *map(str, a)]) for n, (_, _, a) in PICTURES.items()]
        partition = [f"{n},{part}" for n, (_, part, _) in PICTURES.items()]
        landmarks = [",".join([n, *marks[n]]) for n in PICTURES]
        return {
            "list_attr_celeba.csv": "\n".join([f"image_id,{','.join(ATTRIBUTES)}", *attributes]),
            "list_eval_partition.csv": "\n".join(["image_id,partition", *partition]),
            "list_landmarks_align_celeba.csv": "\n".join(
                [f"image_id,{','.join(header)}", *landmarks]
            ),
        }
    # the official attribute list has one or two spaces between values
    attributes = [
        n + "".join(f" {v}" if v < 0 else f"  {v}" for v in a) for n, (_, _, a) in PICTURES.items()
    ]
    return {
        "list_attr_celeba.txt": "\n".join([str(len(PICTURES)), " ".join(ATTRIBUTES), *attributes]),
        "identity_CelebA.txt": "\n".join(f"{n} {i}" for n, (i, _, _) in PICTURES.items()),
        "list_eval_partition.txt": "\n".join(f"{n} {p}" for n, (_, p, _) in PICTURES.items()),
        "list_landmarks_align_celeba.txt": "\n".join(
            [str(len(PICTURES)), " ".join(header)]
            + [f"{n}  " + "  ".join(marks[n]) for n in PICTURES]
        ),
    }


def write_folder(root: Path, images: str = "img_align_celeba", *, csv: bool = False) -> Path:
    (root / images).mkdir(parents=True)
    for name in PICTURES:
        (root / images / name).write_bytes(jpeg(name))
    for name, text in label_texts(csv=csv).items():
        (root / name).write_text(text + "\n")
    return root


def write_zip(path: Path, folder: str = "img_align_celeba/", *, method: int = zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in PICTURES:
            archive.writestr(folder + name, jpeg(name))
    return path


def check_labels(faces) -> None:
    splits = {0: "train", 1: "dev", 2: "test"}
    for record, (identity, part, attributes) in zip(faces.records, PICTURES.values(), strict=True):
        assert (record.person, record.split) == (str(identity), splits[part])
        assert record.attributes == tuple((1 + value) / 2 for value in attributes)
    assert faces.attribute_names == ATTRIBUTES


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The torchvision layout; never changed."""
    return write_folder(tmp_path_factory.mktemp("celeba"))


def dots(crop: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Centres of the white dots within 9 px of five places [px]."""
    light = crop.mean(2).astype(float)
    y, x = np.mgrid[: len(light), : len(light)]
    centres = []
    for px, py in near:
        inside = np.hypot(x - px, y - py) < 9
        weight = np.where(inside, light - np.median(light), 0).clip(0)
        centres.append(((weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()))
    return np.array(centres)


# --- layouts ------------------------------------------------------------------------------------


def test_txt_labels_and_a_folder(folder):
    faces = load_celeba(folder)
    check_labels(faces)
    assert faces.image(0).shape == (REFERENCE_SIDE, REFERENCE_SIDE, 3)
    # the corner of the crop has the brightness that names the picture
    assert [round(faces.image(i)[3, 80].mean() / 20) for i in (0, 6)] == [1, 7]


@pytest.mark.parametrize("number", range(8))
def test_crops_are_aligned_and_landmarks_lie_on_the_points(folder, number):
    faces = load_celeba(folder)
    found = REFERENCE_SIDE * np.array(faces.records[number].landmarks).reshape(5, 2) - 0.5
    # the drawn points are a similarity of one another, not of the template: within 6 px of 160
    np.testing.assert_allclose(found, FIVE_POINTS, atol=6)
    # a dot is 5 px wide, and stored as JPEG: its centre is known to a fraction of a pixel
    np.testing.assert_allclose(dots(faces.image(number), found), found, atol=0.3)


def test_landmarks_on_the_template_are_the_template():
    """Any turn, scale and shift of the template ends on the template, to rounding."""
    z = FIVE_POINTS @ (1, 1j)
    moved = [(2.3 * np.exp(0.4j) * z + 7 - 3j), (0.4 * np.exp(-1j) * z + 90)]
    points = np.array([np.stack([w.real, w.imag], 1).ravel() for w in moved])
    expected = np.tile(((FIVE_POINTS + 0.5) / REFERENCE_SIDE).ravel(), (2, 1))
    np.testing.assert_allclose(in_crop(points), expected, atol=1e-9)


@pytest.mark.parametrize("place", ["img_align_celeba/img_align_celeba", "Img/img_align_celeba"])
def test_other_folders(tmp_path, place):
    check_labels(load_celeba(write_folder(tmp_path, place)))


def test_labels_below_anno_and_eval(tmp_path):
    root = write_folder(tmp_path)
    for name in label_texts():
        target = root / ("Eval" if "partition" in name else "Anno") / name
        target.parent.mkdir(exist_ok=True)
        (root / name).rename(target)
    check_labels(load_celeba(root))


def test_kaggle_csv_without_identities(tmp_path):
    root = write_folder(tmp_path, "img_align_celeba/img_align_celeba", csv=True)
    survey = survey_celeba(root)
    assert [r.person for r in survey.faces.records] == [name[:6] for name in PICTURES]
    assert survey.faces.attribute_names == ATTRIBUTES
    assert [r.split for r in survey.faces.records][3:5] == ["dev", "test"]
    assert any(text.startswith("no identity_CelebA.txt") for text in survey.findings)
    with pytest.raises(InputError, match=r"several pictures in .*put identity_CelebA\.txt"):
        open_sources([f"celeba={root}"], load_config("tiny"))
    (root / "identity_CelebA.txt").write_text(label_texts()["identity_CelebA.txt"])
    check_labels(load_celeba(root))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_of_pictures_is_read_in_place(folder, tmp_path, method):
    for name, text in label_texts().items():
        (tmp_path / name).write_text(text)
    path = write_zip(tmp_path / "img_align_celeba.zip", method=method)
    for given in (tmp_path, path):
        faces = load_celeba(given)
        check_labels(faces)
        np.testing.assert_array_equal(faces.image(5), load_celeba(folder).image(5))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*label_texts(), path.name])
    (batch,) = DataLoader(faces, 8, num_workers=1, multiprocessing_context="fork")
    np.testing.assert_array_equal(batch["image"][5].permute(1, 2, 0), faces.image(5))


def test_zip_of_everything(tmp_path):
    """Kaggle's archive: the double folder and the csv files in one zip."""
    path = write_zip(tmp_path / "archive.zip", "img_align_celeba/img_align_celeba/")
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in label_texts(csv=True).items():
            archive.writestr(name, text)
    survey = survey_celeba(path)
    assert len(survey.faces) == 8
    assert survey.faces.attribute_names == ATTRIBUTES


def write_shards(root: Path, *, identities: bool = True) -> None:
    root.mkdir(exist_ok=True)
    for part, name in enumerate(["train", "valid", "test"]):
        rows = [(n, i, a) for n, (i, p, a) in PICTURES.items() if p == part]
        columns = {"image": [{"bytes": jpeg(n), "path": n} for n, _, _ in rows]}
        if identities:
            columns["celeb_id"] = [identity for _, identity, _ in rows]
        for number, attribute in enumerate(ATTRIBUTES):
            columns[attribute] = [a[number] > 0 for _, _, a in rows]
        table = pyarrow.table(columns)
        parquet.write_table(table, root / f"{name}-00000-of-00001.parquet", row_group_size=2)


def test_parquet_shards(tmp_path):
    write_shards(tmp_path)
    survey = survey_celeba(tmp_path, size=64)
    by_identity = {r.person: r for r in survey.faces.records}
    assert by_identity["11"].split == "dev"
    assert by_identity["12"].attributes == (0.0, 1.0, 0.0)
    assert {r.split for r in survey.faces.records} == {"train", "dev", "test"}
    assert survey.faces.attribute_names == ATTRIBUTES
    found = sorted((r.person, round(float(np.median(survey.faces.read(r))) / 20))
                   for r in survey.faces.records)  # fmt: skip
    assert found == sorted((str(i), int(n[:6])) for n, (i, _, _) in PICTURES.items())
    assert any("centre square" in text for text in survey.findings)


def test_a_parquet_set_without_identities(tmp_path):
    write_shards(tmp_path, identities=False)
    survey = survey_celeba(tmp_path)
    assert len(survey.faces.people) == 8
    assert any(text.startswith("no identity_CelebA.txt") for text in survey.findings)


def test_without_landmarks_the_centre_square_is_cut(tmp_path):
    root = write_folder(tmp_path)
    (root / "list_landmarks_align_celeba.txt").unlink()
    faces = load_celeba(root, size=WIDTH)
    top = (HEIGHT - WIDTH) // 2
    assert faces.records[0].landmarks == ()
    difference = faces.image(0).astype(int) - picture("000001.jpg")[top : top + WIDTH]
    assert abs(difference).mean() < 2  # JPEG at quality 95


# --- consistency --------------------------------------------------------------------------------


def test_counts_are_compared_with_a_complete_copy(folder):
    findings = survey_celeba(folder).findings
    assert f"8 pictures; {COMPLETE_COPY} 202,599" in findings
    assert f"5 people; {COMPLETE_COPY} 10,177" in findings
    assert f"3 pictures in train; {COMPLETE_COPY} 162,770" in findings


def test_listed_but_absent_and_the_other_way_round(tmp_path):
    root = write_folder(tmp_path)
    (root / "img_align_celeba" / "000002.jpg").unlink()
    (root / "img_align_celeba" / "000099.jpg").write_bytes(jpeg("000001.jpg"))
    survey = survey_celeba(root)
    assert survey.left_out == {
        "listed, but the picture is absent": ("000002",),
        "in no label file": ("000099",),
    }
    assert len(survey.faces) == 7


@pytest.mark.parametrize("page", ["<!DOCTYPE html><html>", "\n <html><head>Quota exceeded"])
def test_a_web_page_instead_of_a_file(tmp_path, page):
    root = write_folder(tmp_path)
    (root / "identity_CelebA.txt").write_text(page)
    with pytest.raises(InputError, match=r"identity_CelebA\.txt, found a web page"):
        load_celeba(root)
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "img_align_celeba.zip").write_text(page)
    with pytest.raises(InputError, match=r"img_align_celeba\.zip, found a web page"):
        load_celeba(tmp_path / "z")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "train.parquet").write_text(page)
    with pytest.raises(InputError, match=r"train\.parquet, found a web page"):
        load_celeba(tmp_path / "p")


def test_a_damaged_zip(tmp_path):
    path = write_zip(tmp_path / "img_align_celeba.zip")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match=r"a zip at .*is none or is incomplete"):
        load_celeba(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("identity_CelebA.txt", "", r"'000001\.jpg 2880' in identity_CelebA\.txt, found none"),
        ("list_attr_celeba.txt", "2\nMale Young\n000001.jpg 1 1\n000002.jpg 1\n",
         r"2 values in line 4 of list_attr_celeba\.txt, found 1; the file is cut short"),
        ("list_attr_celeba.txt", "000001.jpg 1 1\n", r"names of 2 attributes .*found 0"),
        ("list_attr_celeba.txt", "Male Young\n000001.jpg 1 2\n", r"-1 or 1 .*000001.* found '2'"),
        ("list_eval_partition.txt", "000001.jpg 3\n", "0, 1 or 2 in list_eval_partition, found '3'"),
        ("list_landmarks_align_celeba.txt", "000001.jpg 1 2 x\n", "ten numbers a line"),
    ],
)  # fmt: skip
def test_wrong_label_files(tmp_path, name, text, message):
    root = write_folder(tmp_path)
    (root / name).write_text(text)
    with pytest.raises(InputError, match=message):
        load_celeba(root)


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match=r"pictures 000001\.jpg") as caught:
        load_celeba(tmp_path)
    assert str(caught.value).endswith(EXPECTED)
    with pytest.raises(InputError, match="found nothing; check the path"):
        load_celeba(tmp_path / "absent")


# --- roles --------------------------------------------------------------------------------------


def test_only_test_people_are_attacked(folder):
    sources = open_sources([f"celeba={folder}"], load_config("tiny"))
    assert sources.training["faces"].people == ["2880", "2937"]
    assert sources.validation["faces"].people == ["11"]
    assert sources.attack.people == ["12", "13"]
    assert (int(sources.pairs.same.sum()), len(sources.pairs)) == (2, 6)
    size = load_config("tiny").lens.sensor_pixels
    assert sources.training["faces"].image(0).shape == (size, size, 3)


def test_people_in_two_splits_stay_with_the_later_one(tmp_path):
    """The official partition keeps people apart; a wrong copy must not leak test people."""
    root = write_folder(tmp_path)
    text = label_texts()["identity_CelebA.txt"].replace("000001.jpg 2880", "000001.jpg 12")
    (root / "identity_CelebA.txt").write_text(text)
    assert "1 people stand in two splits; training leaves them out" in survey_celeba(root).findings
    sources = open_sources([f"celeba={root}"], load_config("tiny"))
    assert sources.training["faces"].people == ["2880", "2937"]
    assert len(sources.training["faces"]) == 2


def test_an_attack_is_on_test_people_by_validation_people(tmp_path):
    """The attacker never learns on people whom a lens may have been trained on."""
    root = write_folder(tmp_path)
    text = label_texts()["identity_CelebA.txt"]
    (root / "identity_CelebA.txt").write_text(text.replace("000004.jpg 11", "000004.jpg 10"))
    sizes = Sizes(people=2, photos=2, nonmated=20, attacker_images=9)
    found = open_attack(f"celeba={root}", sizes, image_size=16, seed=0)
    shown = {found.faces.records[int(i)].person for i in found.test.images}
    assert shown == {"12", "13"}
    assert {found.faces.records[int(i)].person for i in found.attacker} == {"10"}
    assert found.lens_people == 2
