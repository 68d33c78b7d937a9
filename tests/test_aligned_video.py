"""Aligned crops: points land on the template, sidecars keep what was found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from films import RedSquares, on_canvas, red, write_film
from opticaldr.data.aligned_video import aligned_batches, aligned_frames, cut, row_of
from opticaldr.data.manifest_table import POINT_COLUMNS
from opticaldr.data.sidecar import Sidecar, read_sidecar, write_sidecar
from opticaldr.faces.alignment import FIVE_POINTS
from opticaldr.faces.tracking import follow
from opticaldr.media import VideoReader
from opticaldr.types import InputError


def placed(scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    """The template's points after a similarity, (5, 2)."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * FIVE_POINTS @ turn.T + shift


def dotted(points: np.ndarray, radius: float, shape: tuple[int, int]) -> np.ndarray:
    """White with a dark spot on each point; whole numbers are pixel centres."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.full((*shape, 3), 255.0)
    for px, py in points:
        image -= 240 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2))[..., None]
    return image.clip(0, 255).astype(np.uint8)


def spots(image: np.ndarray, near: np.ndarray, reach: float) -> np.ndarray:
    """Centre of darkness around each expected place, (5, 2)."""
    dark = 255.0 - image[..., 0]
    y, x = np.mgrid[: len(image), : len(image)]
    found = []
    for px, py in near:
        weight = np.where(np.hypot(x - px, y - py) < reach, dark, 0)
        found.append(((weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()))
    return np.array(found)


@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize(
    ("scale", "degrees", "shift"),
    [(1.0, 0, (40, 30)), (0.5, 12, (120, 80)), (2.0, -30, (20, 170)), (3.3, 5, (-30, -60))],
)
def test_points_land_on_the_template(scale, degrees, shift, size):
    points = placed(scale, degrees, shift)
    image = dotted(points, 3 * scale, (480, 560))
    wanted = (FIVE_POINTS + 0.5) * size / 160 - 0.5
    crop = cut(image, points, size)
    assert crop.shape == (size, size, 3)
    found = spots(crop, wanted, 9 * size / 160)
    # a tenth of a pixel from 8-bit spots and the filters
    assert np.abs(found - wanted).max() < 0.2


def test_ten_numbers_are_five_points():
    points = placed(1.0, 0, (30, 30))
    image = dotted(points, 3, (240, 240))
    assert np.array_equal(cut(image, points, 64), cut(image, points.ravel().tolist(), 64))


def test_an_aligned_picture_stays_as_it_is():
    image = dotted(FIVE_POINTS, 4, (160, 160))
    # the template is rounded to four decimals, so a smooth picture moves by less than a level
    assert np.abs(cut(image, FIVE_POINTS, 160).astype(int) - image).max() <= 1


def test_the_border_is_repeated():
    """A face that is cut off by the frame has no black corner, which a lens would smear."""
    image = np.full((160, 160, 3), 200, np.uint8)
    assert cut(image, FIVE_POINTS - (50, 60), 128).min() == 200
    assert cut(image, placed(1.0, 45, (80, -20)), 128).min() == 200


def test_a_reduced_crop_does_not_alias():
    """Stripes far above the crop's resolution become grey instead of a moiré."""
    stripes = np.zeros((960, 960, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = cut(stripes, placed(5.5, 0, (30, 30)), 128)
    assert crop.astype(float).std() < 3  # of 127.5 before


@pytest.mark.parametrize(
    "points",
    [
        np.full((5, 2), 50.0),
        np.full((5, 2), np.nan),
        placed(1.0, 0, (900, 0)),
        placed(100.0, 0, (0, 0)),
    ],
    ids=["one place", "NaN", "outside", "huge"],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_points_that_are_no_face_are_refused(points):
    with pytest.raises(InputError, match="five points of a face in an image of 200 x 160 px"):
        cut(np.zeros((160, 200, 3), np.uint8), points, 64)


# --- sidecars ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """Twenty frames: a red square that moves right, absent in frames 8 to 11."""
    images = [
        on_canvas(*([] if 8 <= n < 12 else [(red(), 20 + 5 * n, 60)]), size=(120, 200))
        for n in range(20)
    ]
    return write_film(tmp_path_factory.mktemp("film") / "a.mp4", images)


def indexed(film: Path, path: Path) -> Sidecar:
    with VideoReader(film) as video:
        rows = tuple(map(row_of, follow(video, RedSquares(), every=4)))
    sidecar = Sidecar({"step_s": 0.2, "detector": "red squares"}, rows, "a hole")
    write_sidecar(path, sidecar)
    return sidecar


def test_a_sidecar_comes_back(film, tmp_path):
    written = indexed(film, tmp_path / "a.parquet")
    found = read_sidecar(tmp_path / "a.parquet")
    assert (found.made_from, found.damage) == (written.made_from, "a hole")
    assert len(found.valid) == 16
    for old, new in zip(written.rows, found.rows, strict=True):
        assert (old.frame, old.pts, old.time_s, old.success) == (
            *(new.frame, new.pts, new.time_s, new.success),
        )
        assert new.points == pytest.approx(old.points, abs=1e-4)  # float32
        assert new.box == pytest.approx(old.box, abs=1e-4)


def test_any_reader_of_parquet_understands_a_sidecar(film, tmp_path):
    indexed(film, tmp_path / "a.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    own = ["frame", "pts", "time_s", "success", "faces", "confidence"]
    assert table.column_names == [*own, "left", "top", "right", "bottom", *POINT_COLUMNS]
    rows = table.to_pylist()
    assert [row["success"] for row in rows] == [not 8 <= n < 12 for n in range(20)]
    assert {row["left"] for row in rows[8:12]} == {None}
    # a box may be off by the blocks of the codec
    assert [row["left"] for row in rows[:8]] == pytest.approx([20 + 5 * n for n in range(8)], abs=2)


@pytest.mark.parametrize("content", [b"", b"no table", b"PAR1" + bytes(40) + b"PAR1"])
def test_a_damaged_sidecar_is_refused(content, tmp_path):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(InputError, match="Expected a sidecar"):
        read_sidecar(tmp_path / "a.parquet")


def test_aligned_frames_are_those_with_a_face(film, tmp_path):
    sidecar = indexed(film, tmp_path / "a.parquet")
    found = list(aligned_frames(film, tmp_path / "a.parquet", size=64))
    assert [row.frame for row, _ in found] == [row.frame for row in sidecar.valid]
    with VideoReader(film) as video:
        images = [frame.image for frame in video]
    for row, crop in found:
        assert np.array_equal(crop, cut(images[row.frame], row.points, 64))
        # the middle half of the crop lies within the square, up to the blur of halved chroma
        assert crop[16:48, 16:48, 0].mean() > 200


def test_a_changed_video_is_noticed(film, tmp_path):
    indexed(film, tmp_path / "a.parquet")
    images = [on_canvas((red(), 20, 60), size=(120, 200))] * 20
    other = write_film(tmp_path / "b.mp4", images, pts=range(0, 40, 2))
    with pytest.raises(InputError, match="the video was changed"):
        list(aligned_frames(other, tmp_path / "a.parquet", size=64))


def test_batches_keep_order_and_rows_without_a_face(film):
    with VideoReader(film) as video:
        batches = list(aligned_batches(follow(video, RedSquares(), every=4), size=32, batch=5))
    assert [len(crops) for _, crops in batches] == [5, 5, 5, 1]
    assert [row.frame for rows, _ in batches for row in rows] == list(range(20))
    for rows, crops in batches:
        assert sum(row.success for row in rows) == len(crops)


def test_a_face_outside_the_image_is_none(film):
    """A detector that puts points far off loses the frame, not the recording."""

    class Off(RedSquares):
        def points_in(self, image, box):
            return super().points_in(image, box) + (500 if box[0] < 40 else 0)

    with VideoReader(film) as video:
        batches = list(aligned_batches(follow(video, Off(), every=4), size=32, batch=8))
    found = {row.frame for rows, _ in batches for row in rows if row.success}
    assert found == {4, 5, 6, 7, *range(12, 20)}  # the square is at 20 + 5 n


def test_a_long_stretch_without_a_face_is_reported_as_it_goes():
    from fractions import Fraction

    from opticaldr.media import Frame

    frames = (Frame(on_canvas(), n, Fraction(1, 30), n) for n in range(50))
    batches = list(aligned_batches(follow(frames, RedSquares(), every=5), size=32, batch=4))
    assert [len(rows) for rows, _ in batches] == [16, 16, 16, 2]
    assert {crops.shape for _, crops in batches} == {(0, 32, 32, 3)}
