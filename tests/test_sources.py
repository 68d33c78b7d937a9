"""What --data means: roles filled, people kept apart, mistakes told; and LFW's derived labels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avec_layouts import avec2013, avec2014, copy_of
from opticaldr.config import load_config
from opticaldr.data import lfw_labels
from opticaldr.data.faceset import FaceSet
from opticaldr.data.lfw_labels import ATTRIBUTES, CROP, TEMPLATE, expressions, five_points, to_crop
from opticaldr.data.sources import ADAPTERS, MAX_NONMATED, Sources, open_sources
from opticaldr.types import FaceRecord, InputError

TINY = load_config("tiny")


def people_of(sources: Sources) -> dict[str, set[str]]:
    """People per part: training and validation over all roles, attack by the pair list.

    LFW's attack set holds every image, and its pair list names those that are compared.
    """
    parts = {
        "training": [*sources.training.values()],
        "validation": [*sources.validation.values()],
        "test": [sources.test] if sources.test else [],
        "attack": [sources.attack.subset(sources.pairs.images)] if sources.attack else [],
    }
    return {name: {p for faces in sets for p in faces.people} for name, sets in parts.items()}


def shared_people(sources: Sources) -> list[tuple[str, str]]:
    """Pairs of parts that have a person in common."""
    parts = people_of(sources)
    names = list(parts)
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if parts[a] & parts[b]]


# --- synthetic --------------------------------------------------------------------------------


def test_synthetic_people_never_cross_parts(tiny_sources):
    assert shared_people(tiny_sources) == []
    sizes = {name: len(people) for name, people in people_of(tiny_sources).items()}
    # 8 people in photos + 8 in recordings; 4 + 4; 6 test recordings; 6 to attack
    assert sizes == {"training": 16, "validation": 8, "test": 6, "attack": 6}


def test_synthetic_sets_fill_every_role_and_say_what_they_are(tiny_sources):
    roles = {"faces", "expressions", "recordings"}
    assert set(tiny_sources.training) == set(tiny_sources.validation) == roles
    sets = [*tiny_sources.training.values(), tiny_sources.test, tiny_sources.attack]
    assert all(faces.synthetic for faces in sets)
    assert {r.split for r in tiny_sources.test.records} == {"test"}
    assert len(tiny_sources.test) == 6 * 3
    assert all(0 <= r.severity <= 63 for r in tiny_sources.test.records)


def test_synthetic_pairs_are_all_pairs_of_the_attack_people(tiny_sources):
    pairs, records = tiny_sources.pairs, tiny_sources.attack.records
    people = np.array([record.person for record in records])
    assert np.array_equal(people[pairs.first] == people[pairs.second], pairs.same)
    assert int(pairs.same.sum()) == 6 * 3  # three pictures: three pairs a person
    assert len(pairs) == 18 * 17 // 2 <= MAX_NONMATED


def test_another_seed_draws_other_people(tiny_sources, synthetic_cache):
    small = ["synthetic.attack_people=2", "synthetic.train_people=2", "synthetic.frames=1"]
    small += [f"synthetic.{name}_recordings=1" for name in ("train", "dev", "test")]
    small += ["synthetic.photos_per_person=2", "synthetic.attack_photos=2", "seed=1"]
    other = open_sources(["synthetic"], load_config("tiny", small))
    assert not np.array_equal(other.attack.image(0), tiny_sources.attack.image(0))


# --- specifications ---------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["faces=x", "lfw", "=faces", "LFW=faces", "", "synthetic=x"])
def test_a_wrong_specification_names_the_known_ones(spec):
    with pytest.raises(InputError, match=r"NAME one of avec2013, .*, found '"):
        open_sources([spec], TINY)


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_missing_path_is_named(name, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        open_sources([f"{name}={tmp_path / 'nowhere'}"], TINY)


def small_lfw(root: Path, *, tested: int = 4, others: int = 40) -> Path:
    """An LFW-like folder: `tested` people in pairs.txt, `others` outside; two images each."""
    for number in range(tested + others):
        name = f"Person_{number:03d}"
        (root / name).mkdir(parents=True)
        for image in (1, 2):
            picture = Image.fromarray(np.full((16, 16, 3), 3 * number + image, np.uint8))
            picture.save(root / name / f"{name}_{image:04d}.jpg")
    mated = [f"Person_{n:03d} 1 2" for n in range(tested)]
    crossed = [f"Person_{n:03d} 1 Person_{(n + 1) % tested:03d} 2" for n in range(tested)]
    (root / "pairs.txt").write_text("\n".join([f"1 {tested}", *mated, *crossed]) + "\n")
    return root


def small_manifest(folder: Path) -> Path:
    """Four recordings of two frames with severity and split."""
    folder.mkdir(parents=True)
    rows = ["path,subject,session,time,split,bdi"]
    for person, split in enumerate(["train", "train", "dev", "test"]):
        for frame in range(2):
            Image.new("RGB", (16, 16), (40 * person, 0, 0)).save(folder / f"{person}{frame}.png")
            rows.append(f"{person}{frame}.png,p{person},1,{frame},{split},{10 * person}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return folder / "table.csv"


def test_lfw_trains_only_on_people_outside_the_pairs(tmp_path):
    sources = open_sources([f"lfw={small_lfw(tmp_path)}"], TINY)
    assert shared_people(sources) == []
    parts = people_of(sources)
    assert not parts["training"] & {f"Person_{n:03d}" for n in range(4)}
    assert len(parts["training"]) + len(parts["validation"]) == 40
    assert 1 <= len(parts["validation"]) <= 10  # a tenth of 40, by hash: 0 or > 10 has p < 2 %
    assert len(sources.pairs) == 8
    again = open_sources([f"lfw={tmp_path}"], TINY)
    assert people_of(again) == parts


def test_real_lfw_people_never_cross_parts(shared_data):
    sources = open_sources([f"lfw={shared_data / 'lfw' / 'lfw_aligned160.tar'}"], TINY)
    assert shared_people(sources) == []
    training, validation = sources.training["faces"], sources.validation["faces"]
    assert len(sources.pairs) == 6000
    share = len(validation.people) / (len(validation.people) + len(training.people))
    assert 0.06 < share < 0.14  # a tenth by hash of 1471 people: 5 standard deviations
    assert training.attribute_names == ATTRIBUTES
    labels = np.array([r.attributes for r in training.records if r.landmarks])
    # thresholds stand near the median, median and lower quartile; another 0.15 for this subset
    assert np.nanmean(labels[:, 1:], axis=0) == pytest.approx([0.5, 0.5, 0.25], abs=0.15)


def test_a_manifest_with_scores_fills_recordings_and_test(tmp_path):
    sources = open_sources([f"manifest={small_manifest(tmp_path / 'm')}"], TINY)
    assert set(sources.training) == set(sources.validation) == {"recordings"}
    assert sources.test.people == ["p3"]
    assert shared_people(sources) == []


def test_two_sets_for_one_role_are_refused(tmp_path):
    table = small_manifest(tmp_path / "m")
    with pytest.raises(InputError, match="one data set for 'recordings', found two"):
        open_sources([f"manifest={table}", f"manifest={table}"], TINY)


def test_named_sets_come_before_synthetic_ones(tmp_path, tiny_sources):
    table = small_manifest(tmp_path / "m")
    mixed = open_sources(["synthetic", f"manifest={table}"], TINY)
    assert mixed.training["recordings"].people == ["p0", "p1"]
    assert mixed.test.people == ["p3"]
    assert mixed.training["faces"].people == tiny_sources.training["faces"].people
    assert mixed.attack.people == tiny_sources.attack.people
    faces = open_sources(["synthetic", f"lfw={small_lfw(tmp_path / 'lfw')}"], TINY)
    assert faces.attack.name == "lfw"
    assert len(faces.pairs) == 8  # LFW's list, not all pairs of the synthetic people
    assert faces.training["recordings"].synthetic


# --- AVEC and protocols -------------------------------------------------------------------------


def sessions_of(faces: FaceSet | None) -> set[str]:
    return {record.session for record in faces.records} if faces else set()


@pytest.fixture(scope="module")
def avec(tmp_path_factory) -> Path:
    return avec2014(tmp_path_factory.mktemp("avec"))


PROTOCOLS = {
    # 901 is in Training and Development, 902 in Training and Testing
    "subject-disjoint": ({"901_1", "901_2", "903_1"}, {"904_1"}, {"902_1"}),
    "official-dev": ({"901_1", "902_1", "903_1"}, {"901_2", "904_1"}, set()),
    "official-traindev": ({"901_1", "902_1", "903_1", "901_2", "904_1"}, set(), set()),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_avec_is_split_by_the_protocol(avec, protocol):
    config = load_config("tiny", [f"protocol={protocol}", "synthetic.frames=3"])
    sources = open_sources([f"avec2014={avec}"], config)
    train, dev, left_out = PROTOCOLS[protocol]
    assert sessions_of(sources.training["recordings"]) == train
    assert sessions_of(sources.validation.get("recordings")) == dev
    assert sessions_of(sources.test) == {"902_2", "905_1"}
    assert {key.rpartition("/")[2] for key in sources.left_out} == left_out
    assert (sources.protocol, sources.seen_people) == (protocol, {"902"})
    if protocol == "subject-disjoint":
        assert shared_people(sources) == []


def test_avec_frames_are_squares_of_the_sensors_size(avec):
    config = load_config("tiny", ["synthetic.frames=3"])
    recordings = open_sources([f"avec2014={avec}"], config).training["recordings"]
    size = config.lens.sensor_pixels
    assert recordings.image(0).shape == (size, size, 3)
    # three sessions, two tasks, three frames each: an index, no image is held
    assert len(recordings) == 18
    assert list(open_sources([f"avec2014={avec}"], config).test.read._kept) == []


def test_avec_2013_and_a_wrong_edition(tmp_path):
    root = avec2013(tmp_path)
    sources = open_sources([f"avec2013={root}"], TINY)
    assert sources.test.people == ["902", "905"]
    with pytest.raises(InputError, match="use avec2013=PATH"):
        open_sources([f"avec2014={root}"], TINY)


def test_what_does_not_open_is_left_out_with_a_reason(avec, tmp_path):
    root = copy_of(avec, tmp_path / "x")
    (root / "Testing" / "Freeform" / "905_1_Freeform_video.mp4").write_bytes(b"broken")
    left_out = open_sources([f"avec2014={root}"], TINY).left_out
    assert left_out["avec2014: does not open"].startswith(
        "1 left out, such as 905/905_1/Freeform: Expected a video"
    )


def test_rendered_people_under_avec_names_stay_marked(avec, tmp_path):
    """Also through a manifest elsewhere that lists their videos."""
    root = copy_of(avec, tmp_path / "x")
    assert not open_sources([f"avec2014={root}"], TINY).test.synthetic
    (root / "README.txt").write_text("SYNTHETIC people, rendered by opticaldr.\n")
    found = open_sources([f"avec2014={root}"], TINY)
    assert found.test.synthetic
    assert found.training["recordings"].synthetic
    index = tmp_path / "index"
    index.mkdir()
    for split, name in (("train", "Training"), ("dev", "Development"), ("test", "Testing")):
        session = {"train": "903_1", "dev": "904_1", "test": "905_1"}[split]
        line = f"../x/{name}/Freeform/{session}_Freeform_video.mp4,{session[:3]},{split},5\n"
        with (index / "m.csv").open("a") as file:
            file.write(("path,subject,split,bdi\n" if split == "train" else "") + line)
    assert open_sources([f"manifest={index / 'm.csv'}"], TINY).test.synthetic


def test_recordings_keep_their_own_test_set_and_protocol(avec, tiny_sources):
    mixed = open_sources(["synthetic", f"avec2014={avec}"], TINY)
    assert mixed.test.people == ["902", "905"]
    assert mixed.seen_people == {"902"}
    assert mixed.training["faces"].people == tiny_sources.training["faces"].people
    assert tiny_sources.protocol == "subject-disjoint"


def test_a_manifest_is_split_by_the_protocol_too(tmp_path):
    """p1 is in train and test; his expressions train nobody, either."""
    rows = ["path,subject,session,split,bdi,emotion"]
    for number, (person, split, score) in enumerate(
        [("p0", "train", 3), ("p1", "train", 5), ("p2", "dev", 8), ("p1", "test", 7)]
    ):
        Image.new("RGB", (16, 16), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{person},{number},{split},{score},sad")
    Image.new("RGB", (16, 16)).save(tmp_path / "x.png")
    rows.append("x.png,p3,,train,,happy")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    sources = open_sources([f"manifest={tmp_path / 't.csv'}"], TINY)
    assert sources.training["recordings"].people == ["p0"]
    assert sources.training["expressions"].people == ["p0", "p3"]
    assert sources.test.people == ["p1"]
    assert shared_people(sources) == []
    assert sources.left_out["1 images of t.csv"] == "no score"


# --- labels of LFW ----------------------------------------------------------------------------


def marks_in_crop(*, lips_apart: float = 0.0) -> np.ndarray:
    """68 points (iBUG order) of a plain face whose five points lie on the template [px of 160].

    lips_apart: distance between the inner lips [px].
    """
    marks = np.full((68, 2), 80.0)
    marks[30] = TEMPLATE[2]
    marks[48], marks[54] = TEMPLATE[3], TEMPLATE[4]
    eye = np.array(
        [(-8, 0), (-3, -3), (3, -3), (8, 0), (3, 3), (-3, 3)]
    )  # open: height / width .375
    marks[36:42], marks[42:48] = TEMPLATE[0] + eye, TEMPLATE[1] + eye
    centre = (TEMPLATE[3] + TEMPLATE[4]) / 2
    for upper, lower, x in ((61, 67, -5), (62, 66, 0), (63, 65, 5)):
        half = np.array([x, lips_apart / 2])
        marks[upper], marks[lower] = centre + half * (1, -1), centre + half
    return marks


def moved(marks: np.ndarray, *, scale: float, degrees: float, shift: tuple) -> np.ndarray:
    turn = scale * np.exp(1j * np.deg2rad(degrees))
    points = turn * (marks @ (1, 1j)) + complex(*shift)
    return np.stack([points.real, points.imag], axis=1)


@pytest.mark.parametrize(
    ("scale", "degrees", "shift"), [(1.6, 12.0, (20, -7)), (0.4, -35.0, (90, 3))]
)
def test_a_known_similarity_is_undone(scale, degrees, shift):
    crop = marks_in_crop(lips_apart=6.0)
    found = to_crop(moved(crop, scale=scale, degrees=degrees, shift=shift))
    # an exact fit exists, so least squares finds it up to float64 rounding
    np.testing.assert_allclose(found, crop, atol=1e-9)
    np.testing.assert_allclose(five_points(found), TEMPLATE, atol=1e-9)


def test_ratios_do_not_depend_on_the_size_of_the_face():
    crop = marks_in_crop(lips_apart=6.0)
    assert expressions(moved(crop, scale=3.0, degrees=20, shift=(1, 2))) == expressions(crop)


def test_parted_lips_flip_one_attribute():
    shut, parted = expressions(marks_in_crop()), expressions(marks_in_crop(lips_apart=6.0))
    assert (shut[0], parted[0]) == (0.0, 1.0)
    assert shut[1:] == parted[1:]


def test_closing_the_eyes_flips_narrow_eyes():
    marks = marks_in_crop()
    for a, b in ((37, 41), (38, 40), (43, 47), (44, 46)):
        marks[a, 1] = marks[b, 1] = (marks[a, 1] + marks[b, 1]) / 2
    assert (expressions(marks_in_crop())[2], expressions(marks)[2]) == (0.0, 1.0)


def stored(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def two_faces() -> FaceSet:
    records = tuple(FaceRecord(key=f"x/A/A_000{n}.jpg", person="A") for n in (1, 2))
    return FaceSet("lfw", records, lambda record: np.zeros((4, 4, 3), np.uint8))


def test_labels_land_on_their_image_and_the_rest_stays_unknown():
    marks = moved(marks_in_crop(lips_apart=6.0), scale=1.5, degrees=5, shift=(3, 4))
    files = {
        "lfw_lm68.npz": stored(
            lm=np.stack([marks, marks]),
            ok=np.array([True, False]),
            files=np.array(["A/A_0001.jpg", "A/A_0002.jpg"]),
        ),
        "male_names.txt": b"A_0002.jpg\n",
        "female_names.txt": b"A_0001.jpg\n",
    }
    labelled = lfw_labels.label(two_faces(), files)
    assert labelled.attribute_names == ATTRIBUTES
    first, second = labelled.records
    np.testing.assert_allclose(first.landmarks, (TEMPLATE / CROP).ravel(), atol=1e-9)
    assert first.attributes == (0.0, *expressions(marks_in_crop(lips_apart=6.0)))
    assert second.landmarks == ()
    assert second.attributes[0] == 1.0
    assert np.isnan(second.attributes[1:]).all()


def test_without_label_files_nothing_is_claimed():
    faces = two_faces()
    assert lfw_labels.label(faces, {}) is faces


def test_a_label_file_without_its_arrays_is_refused():
    with pytest.raises(InputError, match=r"Expected arrays lm, ok, files .*found no files"):
        lfw_labels.label(
            two_faces(), {"lfw_lm68.npz": stored(lm=np.zeros((1, 68, 2)), ok=np.ones(1, bool))}
        )
