"""Faces found, followed and aligned: points where they are, looks where they are needed."""

from __future__ import annotations

import importlib.util
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from films import RedSquares, on_canvas, red
from opticaldr.faces.alignment import FIVE_POINTS, TEMPLATES, fit_similarity
from opticaldr.faces.detection import DlibDetector, detector_installed, overlap
from opticaldr.faces.tracking import follow
from opticaldr.media import Frame
from opticaldr.types import InputError


@pytest.fixture(scope="module")
def dlib_detector() -> DlibDetector:
    return DlibDetector()


@pytest.fixture(scope="module")
def face(rendered_faces, dlib_detector) -> np.ndarray:
    """The rendered face that the detector is surest of."""
    images = [rendered_faces.image(i) for i in range(len(rendered_faces))]
    return max(images, key=lambda image: max(f.confidence for f in dlib_detector(image)))


def frames_of(images: list[np.ndarray], rate: int = 30) -> list[Frame]:
    return [Frame(image, n, Fraction(1, rate), n) for n, image in enumerate(images)]


# --- geometry ---------------------------------------------------------------------------------


def test_a_similarity_is_recovered():
    turn, scale, shift = np.deg2rad(25), 1.7, (12.0, -40.0)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    found = fit_similarity(FIVE_POINTS, FIVE_POINTS @ matrix.T + shift)
    assert found == pytest.approx(np.column_stack([matrix, shift]), abs=1e-9)  # rounding only


def test_a_mirrored_face_is_not_mirrored_back():
    """Left and right must stay apart: a reflection is no similarity here."""
    mirrored = FIVE_POINTS * (-1, 1)
    found = fit_similarity(FIVE_POINTS, mirrored)
    assert np.linalg.det(found[:, :2]) >= 0
    assert np.abs(FIVE_POINTS @ found[:, :2].T + found[:, 2] - mirrored).max() > 10


def test_the_template_is_arcface_s():
    """The chip that ArcFace networks want is cut by a map that undoes the template's scaling."""
    chip = TEMPLATES["arcface112"]
    eyes = FIVE_POINTS[:2] * chip.cosine + (chip.shift_x, chip.shift_y)
    # published to four decimals (Deng et al. 2019); the scaled points are rounded to four as well
    assert eyes == pytest.approx(np.array([[38.2946, 51.6963], [73.5318, 51.5014]]), abs=2e-4)


@pytest.mark.parametrize(
    ("second", "expected"),
    [((0, 0, 2, 2), 1.0), ((1, 0, 3, 2), 1 / 3), ((2, 0, 4, 2), 0.0), ((5, 5, 6, 6), 0.0)],
)
def test_overlap(second, expected):
    assert overlap((0, 0, 2, 2), second) == pytest.approx(expected)


# --- dlib -------------------------------------------------------------------------------------


def test_faces_of_rendered_people_are_found(rendered_faces, dlib_detector):
    found = [dlib_detector(rendered_faces.image(i)) for i in range(len(rendered_faces))]
    assert [len(faces) for faces in found].count(1) >= len(found) - 1  # 96 % of renders are found
    for faces, record in zip(found, rendered_faces.records, strict=True):
        truth = np.array(record.landmarks).reshape(5, 2) * 160 - 0.5
        for one in faces[:1]:
            # of turned heads the mouth corners are only estimated: on average a tenth of the crop
            assert np.linalg.norm(one.points - truth, axis=1).mean() < 12
            # the eyes are measured: within a quarter of the distance between them (36 px)
            assert np.linalg.norm(one.points[:2] - truth[:2], axis=1).max() < 9


def test_points_turn_with_the_picture(face, dlib_detector):
    upright = dlib_detector(face)[0].points
    turned = Image.fromarray(face).rotate(15, Image.Resampling.BICUBIC, fillcolor=(90, 100, 110))
    found = dlib_detector(np.array(turned))[0].points
    angle = np.deg2rad(-15)  # Pillow turns counterclockwise, y points down
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = (upright - 79.5) @ matrix.T + 79.5
    assert (
        np.abs(found - expected).max() < 4
    )  # whole-pixel corners, and a predictor that is not exact


def test_a_small_face_is_found_at_a_finer_resolution(face, dlib_detector):
    """A face of 100 px in 1,280: invisible at 320 and 640 px, found at full size."""
    frame = on_canvas((face, 900, 500), size=(960, 1280))
    (found,) = dlib_detector(frame)
    alone = dlib_detector(face)[0]
    assert found.points - (900, 500) == pytest.approx(alone.points, abs=4)  # another resolution


def test_no_face_is_an_empty_list(dlib_detector):
    assert dlib_detector(on_canvas()) == []
    assert dlib_detector(np.zeros((1, 7, 3), np.uint8)) == []


@pytest.mark.parametrize("missing", ["dlib", "face_recognition_models"])
def test_missing_packages_say_what_to_install(missing, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find_spec(name)
    )
    assert not detector_installed()
    with pytest.raises(InputError, match=r"pip install 'opticaldr\[video\]'"):
        DlibDetector()


# --- following --------------------------------------------------------------------------------


def test_a_moving_face_is_followed_between_looks(face, dlib_detector):
    """The points move with the face although the detector looks at every fifth frame only."""
    steps = [(2 * n, n) for n in range(11)]
    seen = list(follow(frames_of([on_canvas((face, *at)) for at in steps]), dlib_detector, every=5))
    points = np.stack([one.face.points for one in seen])
    moved = (points - points[0]).mean(axis=1)
    assert moved == pytest.approx(np.array(steps), abs=2)  # corners are whole pixels


def test_the_detector_looks_at_every_kth_frame_and_the_last():
    detector = RedSquares()
    frames = frames_of([on_canvas((red(), 10 + n, 20)) for n in range(13)])
    seen = list(follow(frames, detector, every=5))
    assert detector.looks == 4  # 0, 5, 10, 12
    assert [one.frame.number for one in seen] == list(range(13))
    for number, one in enumerate(seen):
        assert one.face.box == pytest.approx((10 + number, 20, 50 + number, 60))


def test_unequal_frame_times_move_the_box_in_time():
    images = [on_canvas((red(), 10 + left, 20)) for left in (0, 2, 10)]
    times = [0, 2, 10]
    frames = [Frame(i, t, Fraction(1, 30), n) for n, (i, t) in enumerate(zip(images, times))]  # noqa: B905
    middle = list(follow(frames, RedSquares(), every=2))[1]
    assert middle.face.box == pytest.approx((12, 20, 52, 60))


def test_where_a_face_comes_or_goes_every_frame_is_looked_at():
    """Frames 3 to 7 show nobody: exactly they have no face."""
    there = [*range(3), *range(8, 12)]
    images = [on_canvas(*([(red(), 50, 50)] if n in there else [])) for n in range(12)]
    seen = list(follow(frames_of(images), RedSquares(), every=5))
    assert [one.frame.number for one in seen if one.face] == there


def test_without_a_face_the_detector_looks_at_every_kth_frame_only():
    detector = RedSquares()
    seen = list(follow(frames_of([on_canvas()] * 21), detector, every=5))
    assert not any(one.face for one in seen)
    assert detector.looks == 5


def test_a_cut_to_another_place_is_no_slow_move():
    images = [on_canvas((red(), 10 if n < 4 else 200, 50)) for n in range(6)]
    seen = list(follow(frames_of(images), RedSquares(), every=5))
    assert [round(one.face.box[0]) for one in seen] == [10, 10, 10, 10, 200, 200]


def test_of_several_faces_the_largest_is_followed_as_long_as_it_stays():
    """A larger face that comes later does not take over; after a loss the largest is taken."""
    images = []
    for n in range(16):
        squares = [(red(40), 10, 20)] if n < 12 else []
        squares += [(red(20), 100, 20)]
        squares += [(red(60), 200, 100)] if n >= 6 else []
        images.append(on_canvas(*squares))
    seen = list(follow(frames_of(images), RedSquares(), every=5))
    assert [round(one.face.box[0]) for one in seen] == [10] * 12 + [200] * 4
    assert seen[0].faces == 2
    assert seen[11].faces == 3


def test_no_more_than_k_frames_are_held():
    """Frames that were yielded are free again: memory does not grow with the video."""
    import weakref

    alive: list[weakref.ref] = []

    def frames():
        for n in range(60):
            image = on_canvas((red(), 20, 20))
            alive.append(weakref.ref(image))
            yield Frame(image, n, Fraction(1, 30), n)

    most = 0
    for _ in follow(frames(), RedSquares(), every=5):
        most = max(most, sum(ref() is not None for ref in alive))
    assert most <= 5 + 3  # a stretch, the look before it, and the frame in the caller's hand


def test_one_frame_and_none():
    assert list(follow([], RedSquares(), every=5)) == []
    (one,) = follow(frames_of([on_canvas((red(), 5, 5))]), RedSquares(), every=5)
    assert one.face.box == (5, 5, 45, 45)
