"""The index of a set of videos: what it lists, what it stores, what it says about bad files."""

from __future__ import annotations

import csv
import os
import shutil
import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from films import RedSquares, on_canvas, red, write_film, write_sound
from opticaldr.camera import Camera, describe_camera, load_camera
from opticaldr.capture import FaceRecorder
from opticaldr.cli.data_index import index
from opticaldr.config import load_config
from opticaldr.data.aligned_video import cut
from opticaldr.data.index import IndexReport, index_recordings, recordings_in_folder
from opticaldr.data.manifest import load_manifest
from opticaldr.data.recordings import Recording
from opticaldr.data.sidecar import read_sidecar
from opticaldr.faces.alignment import FIVE_POINTS
from opticaldr.faces.detection import DlibDetector
from opticaldr.lens import Lens
from opticaldr.media import VideoReader, read_image
from opticaldr.sensor import Sensor
from opticaldr.types import InputError

SIZE = (100, 160)
"""Height and width of most films [px]."""


def moving(frames: int = 90, *, absent: range = range(0)) -> list[np.ndarray]:
    """A square that moves a pixel every three frames."""
    return [
        on_canvas(*([] if n in absent else [(red(), 20 + n // 3, 30)]), size=SIZE)
        for n in range(frames)
    ]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Three seconds at 30 a second: 16 frames in steps of 0.2 s... of which one ends the film."""
    return write_film(tmp_path_factory.mktemp("clip") / "clip.mp4", moving())


def recording(path: Path, person: str = "203", task: str = "Freeform", **known) -> Recording:
    return Recording(path, person, f"{person}_1", task, **known)


def make_index(recordings: list[Recording], out: Path, **options) -> IndexReport:
    options.setdefault("detector", RedSquares())
    return index_recordings(recordings, out, **options)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def reason(out: Path, name: str = "errors.csv") -> str:
    (row,) = table(out / name)
    return row["reason"]


# --- what is listed ---------------------------------------------------------------------------


def test_the_manifest_lists_frames_labels_and_points(clip, tmp_path):
    known = {"split": "train", "severity": 14.0, "groups": ("female",)}
    report = make_index([recording(clip, **known)], tmp_path, group_names=("sex",))
    assert (report.rows, report.used, report.reused) == (15, 1, 0)
    rows = table(report.manifest)
    for number, row in enumerate(rows):
        assert (tmp_path / row["path"]).resolve() == clip.resolve()
        assert [row[c] for c in ("subject", "session", "task")] == ["203", "203_1", "Freeform"]
        assert [row[c] for c in ("split", "bdi", "group:sex")] == ["train", "14", "female"]
        assert float(row["time"]) == pytest.approx(0.2 * number, abs=1e-6)
        place = 20 + 6 * number // 3
        expected = (FIVE_POINTS + 0.5) * 0.25 - 0.5 + (place, 30)
        points = [float(row[f"p{p}{axis}"]) for p in range(1, 6) for axis in "xy"]
        # the codec halves the resolution of colour, so the square's edges are a pixel unsure
        assert np.abs(np.reshape(points, (5, 2)) - expected).max() < 1.5
    assert "captured_by" not in rows[0]


def test_training_reads_aligned_faces_from_the_manifest(clip, tmp_path):
    report = make_index([recording(clip, split="train", severity=14.0)], tmp_path)
    faces = load_manifest(report.manifest, size=64)
    assert len(faces) == 15
    assert {r.recording for r in faces.records} == {"203/203_1/Freeform"}
    assert {(r.session, r.task, r.severity) for r in faces.records} == {("203_1", "Freeform", 14.0)}
    with VideoReader(clip) as video:
        images = {frame.number: frame.image for frame in video}
    rows = read_sidecar(tmp_path / "frames" / "203.203_1.Freeform.parquet").valid
    for number in (0, 7, 14):
        crop = cut(images[rows[number].frame], rows[number].points, 64)
        # points stand in the table with two decimals
        assert np.abs(faces.image(number).astype(int) - crop).mean() < 0.5


def test_rendered_faces_are_aligned_in_a_real_index(rendered_faces, tmp_path):
    """dlib from end to end: in the crops that training reads, the eyes lie on the template."""
    detector = DlibDetector()
    images = [rendered_faces.image(i) for i in range(len(rendered_faces))]
    face = max(images, key=lambda image: max(found.confidence for found in detector(image)))
    frames = [on_canvas((face, 60 + n, 40)) for n in range(30)]
    film = write_film(tmp_path / "a.mp4", frames, time_base=Fraction(1, 10))
    report = make_index([recording(film)], tmp_path / "out", detector=detector)
    assert report.rows == 15
    faces = load_manifest(report.manifest, size=160)
    for number in (0, 7, 14):
        (found,) = detector(faces.image(number))
        # found again at another resolution: corners to a pixel each, a predictor to two
        assert np.abs(found.points - FIVE_POINTS).max() < 4


def test_variable_frame_rate_is_sampled_in_time(tmp_path):
    """5 frames, a pause of a second, then 50 a second: as many rows a second as asked for."""
    ticks = [*range(0, 1000, 200), *range(2000, 4000, 20)]
    film = write_film(
        tmp_path / "a.mp4",
        (on_canvas((red(), 20, 30), size=SIZE) for _ in ticks),
        pts=ticks,
        time_base=Fraction(1, 1000),
    )
    report = make_index([recording(film)], tmp_path / "out")
    times = [float(row["time"]) for row in table(report.manifest)]
    expected = [0, 0.2, 0.4, 0.6, 0.8, *np.arange(2, 4, 0.2)]
    assert times == pytest.approx(expected, abs=0.011)  # half a frame at 50 a second


def test_a_rotated_video_is_indexed_upright(clip, tmp_path):
    """A phone's film with a rotation flag gives the points of the upright picture."""
    lying = [np.ascontiguousarray(np.rot90(image)) for image in moving()]
    film = write_film(tmp_path / "a.mp4", lying)
    data = bytearray(film.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # past version, times and ids, layer, volume
    matrix = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)  # a quarter turn clockwise
    data[start : start + 36] = struct.pack(">9i", *matrix)
    film.write_bytes(data)
    turned, upright = (
        [float(row["p1x"]) for row in table(make_index([recording(f)], tmp_path / n).manifest)]
        for f, n in ((film, "turned"), (clip, "upright"))
    )
    assert turned == pytest.approx(upright, abs=1.5)  # two encodings


# --- what is stored ---------------------------------------------------------------------------


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


TABLES = {"manifest.csv", "errors.csv", "flags.csv", "frames/203.203_1.Freeform.parquet"}


def test_no_picture_is_stored_unless_asked_for(clip, tmp_path):
    make_index([recording(clip)], tmp_path)
    assert files_in(tmp_path) == TABLES


def test_crops_are_stored_on_request(clip, tmp_path):
    report = make_index([recording(clip)], tmp_path, crops=True)
    assert len(files_in(tmp_path) - TABLES) == 15
    row = table(report.manifest)[3]
    assert row["path"] == "crops/203.203_1.Freeform/000018.png"
    assert "p1x" not in row  # aligned already
    with VideoReader(clip) as video:
        image = [frame.image for frame in video][18]
    points = read_sidecar(tmp_path / "frames/203.203_1.Freeform.parquet").rows[3].points
    # the sidecar keeps points as float32: a rounding may flip a level
    difference = np.abs(read_image(tmp_path / row["path"]).astype(int) - cut(image, points, 256))
    assert difference.max() <= 2


def defocused() -> Camera:
    """The smallest camera, 64 px, out of focus: 8 % of the light stays within a pixel."""
    terms = "0,0,0,-25" + 11 * ",0"
    settings = ["lens.sensor_pixels=64", f"lens.coefficients_um=[{terms}]"]
    config = load_config("tiny", settings)
    return Camera(Lens(config.lens), Sensor(config.sensor)).requires_grad_(False).eval()


@pytest.fixture(scope="module")
def recorder() -> FaceRecorder:
    return FaceRecorder(defocused(), depth_m=1.0, seed=3)


def checkered(n: int) -> np.ndarray:
    """A red square with a fine pattern, which stands for what identifies a person."""
    face = red(48)
    face[(np.indices((48, 48)) // 3).sum(0) % 2 == 0] = (190, 85, 85)
    return on_canvas((face, 30 + n // 3, 20), size=SIZE)


def psnr_db(first: np.ndarray, second: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.square(first.astype(float) - second).mean())


def test_through_a_lens_no_clear_pixel_is_stored(recorder, tmp_path):
    film = write_film(tmp_path / "a.mp4", [checkered(n) for n in range(90)])
    out = tmp_path / "out"
    report = make_index([recording(film, severity=9.0)], out, through=recorder)
    rows = table(report.manifest)
    sha256 = describe_camera(defocused())["sha256"]
    assert {row["captured_by"] for row in rows} == {sha256}
    stored = files_in(out) - TABLES
    assert stored == {row["path"] for row in rows}
    with VideoReader(film) as video:
        images = {frame.number: frame.image for frame in video}
    for row in read_sidecar(out / "frames/203.203_1.Freeform.parquet").valid:
        clear = cut(images[row.frame], row.points, recorder.size)
        capture = read_image(out / f"captures/203.203_1.Freeform/{row.frame:06d}.png")
        assert capture.shape == (64, 64, 3)
        assert psnr_db(capture, clear) < 22  # measured 20.6 dB; read noise alone leaves 29
        middle = slice(16, 48)
        contrast = [image[middle, middle].std((0, 1)).mean() for image in (clear, capture)]
        assert contrast[1] < 0.4 * contrast[0]  # measured 0.22, most of it noise
    faces = load_manifest(report.manifest)
    assert faces.captured_by == rows[0]["captured_by"]
    assert {r.recording for r in faces.records} == {"203/203_1/Freeform"}


def test_captures_repeat_bit_for_bit_and_depend_on_the_seed(clip, recorder, tmp_path):
    other = FaceRecorder(defocused(), depth_m=1.0, seed=4)
    for name, one in (("a", recorder), ("b", recorder), ("c", other)):
        make_index([recording(clip)], tmp_path / name, through=one)
    path = "captures/203.203_1.Freeform/000018.png"
    bits = [(tmp_path / name / path).read_bytes() for name in "abc"]
    assert bits[0] == bits[1] != bits[2]


def test_a_lens_in_focus_is_noticed(recorder):
    assert not recorder.is_sharp
    assert FaceRecorder(load_camera("tiny"), depth_m=1.0, seed=0).is_sharp


def test_captures_never_lie_beside_clear_crops(clip, recorder, tmp_path):
    with pytest.raises(InputError, match="Expected only captures"):
        make_index([recording(clip)], tmp_path, through=recorder, crops=True)
    make_index([recording(clip)], tmp_path, crops=True)
    with pytest.raises(InputError, match="found clear crops there"):
        make_index([recording(clip)], tmp_path, through=recorder)


# --- going on ---------------------------------------------------------------------------------


class Broken(RedSquares):
    """Stands for a detector that must not be needed."""

    def __call__(self, image: np.ndarray) -> list:
        raise RuntimeError("the video was read again")


def test_what_is_done_is_not_done_again(clip, recorder, tmp_path):
    first = make_index([recording(clip)], tmp_path, through=recorder)
    before = first.manifest.read_bytes()
    again = make_index([recording(clip)], tmp_path, through=recorder, detector=Broken())
    assert (again.rows, again.reused) == (15, 1)
    assert again.manifest.read_bytes() == before


def test_a_stopped_index_goes_on_behind_what_is_done(clip, tmp_path):
    """Ctrl-C in the second recording: the first is kept, and no half sidecar is left."""

    class Stops(RedSquares):
        def __call__(self, image: np.ndarray) -> list:
            if self.looks == 5:
                raise KeyboardInterrupt
            return super().__call__(image)

    both = [recording(clip), recording(clip, task="Northwind")]
    with pytest.raises(KeyboardInterrupt):
        make_index(both, tmp_path, detector=Stops())
    assert files_in(tmp_path) == {"frames/203.203_1.Freeform.parquet"}
    report = make_index(both, tmp_path)
    assert (report.used, report.reused) == (2, 1)


@pytest.mark.parametrize("change", ["step", "video", "image", "sidecar", "lens", "labels"])
def test_what_changed_is_done_again(change, clip, recorder, tmp_path):
    film = shutil.copy(clip, tmp_path / "a.mp4")
    out = tmp_path / "out"
    make_index([recording(film)], out, through=recorder)
    options = {"through": recorder}
    if change == "step":
        options["step_s"] = 0.25
    elif change == "video":
        os.utime(film, (1, 1))
    elif change == "image":
        (out / "captures/203.203_1.Freeform/000018.png").unlink()
    elif change == "sidecar":
        (out / "frames/203.203_1.Freeform.parquet").write_bytes(b"half")
    elif change == "lens":
        options["through"] = FaceRecorder(load_camera("tiny"), depth_m=1.0, seed=3)
    report = make_index([recording(film, severity=20.0)], out, **options)
    assert report.reused == (change == "labels")  # labels are no part of a sidecar
    assert {row["bdi"] for row in table(report.manifest)} == {"20"}
    assert not {row["path"] for row in table(report.manifest)} - files_in(out)


# --- bad input --------------------------------------------------------------------------------


def test_a_bad_recording_is_a_row_and_the_others_go_on(clip, tmp_path):
    empty, text = tmp_path / "empty.mp4", tmp_path / "text.mp4"
    empty.touch()
    text.write_text("no video")
    (tmp_path / "frames_aligned").mkdir()
    bad = {
        "found zero bytes": empty,
        "found data that are no video": text,
        "found sound only": write_sound(tmp_path / "sound.mp4"),
        "No such file": tmp_path / "absent.mp4",
        "found the folder": tmp_path / "frames_aligned",
        "at least 10 frames with a face": write_film(
            tmp_path / "nobody.mp4", moving(absent=range(90))
        ),
        "found 5 of 15": write_film(tmp_path / "seldom.mp4", moving(absent=range(28, 90))),
        "found 3 of 3": write_film(tmp_path / "short.mp4", moving(15)),
    }
    recordings = [recording(path, person=str(n)) for n, path in enumerate(bad.values())]
    recordings.insert(3, recording(clip))
    seen = []
    report = make_index(
        recordings, tmp_path / "out", on_progress=lambda *progress: seen.append(progress)
    )
    assert (report.used, report.rows) == (1, 15)
    rows = table(tmp_path / "out/errors.csv")
    for (expected, path), row in zip(bad.items(), rows, strict=True):
        assert row["path"] == str(path)
        assert expected in row["reason"]
        assert path.name in row["reason"]
    assert ("recordings", 9, 9) in seen
    assert ("seconds of video", 2, 3) in seen


def test_a_cut_off_video_gives_what_can_be_read_and_a_flag(tmp_path):
    rng = np.random.default_rng(0)
    noisy = []
    for image in moving():  # noise gives every frame as many bytes
        noise = rng.integers(-12, 12, image.shape)
        noisy.append((image.astype(int) + noise).clip(0, 255).astype(np.uint8))
    film = write_film(tmp_path / "a.mp4", noisy)
    # the index of frames has to survive the cut: it moves from the end to the front
    import av

    front = tmp_path / "front.mp4"
    with (
        av.open(str(film)) as source,
        av.open(str(front), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    front.write_bytes(front.read_bytes()[: int(front.stat().st_size * 0.8)])
    report = make_index([recording(front)], tmp_path / "out")
    assert 10 <= report.rows <= 13  # of 15, with 80 % of the bytes
    assert "instead of 3.00 s" in reason(tmp_path / "out", "flags.csv")
    assert reason(tmp_path / "out", "flags.csv").startswith("used up to 2.")
    again = make_index([recording(front)], tmp_path / "out", detector=Broken())
    assert len(again.flags) == 1  # a flag survives in the sidecar


def test_several_faces_and_gaps_are_flagged(tmp_path):
    images = [
        on_canvas(*([(red(), 20, 30)] if n >= 30 else []), (red(24), 100, 30), size=SIZE)
        for n in range(90)
    ]
    make_index([recording(write_film(tmp_path / "a.mp4", images))], tmp_path / "two")
    assert "several faces in 12 of 15 frames" in reason(tmp_path / "two", "flags.csv")
    film = write_film(tmp_path / "b.mp4", moving(absent=range(20, 40)))
    make_index([recording(film)], tmp_path / "gap")
    assert reason(tmp_path / "gap", "flags.csv") == "no face in 3 of 15 frames"


def test_one_recording_in_two_files_is_an_error_row(clip, tmp_path):
    copy = Path(shutil.copy(clip, tmp_path / "copy.mp4"))
    report = make_index([recording(clip), recording(copy)], tmp_path / "out")
    assert report.rows == 15
    assert "Expected each recording once, found 203/203_1/Freeform" in reason(tmp_path / "out")


def test_a_name_outside_utf8(clip, recorder, tmp_path):
    """A table cannot hold the name; a capture has a name of its own."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    shutil.copy(clip, path)
    with pytest.raises(InputError, match=r"found 1 that cannot, such as: .*caf\\xe9\.mp4"):
        make_index(recordings_in_folder(tmp_path), tmp_path / "out")
    assert reason(tmp_path / "out").startswith("Expected a file name in UTF-8")
    report = make_index(recordings_in_folder(tmp_path), tmp_path / "out", through=recorder)
    assert report.rows == 15
    assert len(load_manifest(report.manifest)) == 15


def test_nothing_usable_is_an_error_with_its_reason(tmp_path):
    with pytest.raises(InputError, match=r"found 1 that cannot, such as: .* found sound only"):
        make_index([recording(write_sound(tmp_path / "a.mp4"))], tmp_path / "out")
    assert len(table(tmp_path / "out/errors.csv")) == 1
    assert not (tmp_path / "out/manifest.csv").exists()


def test_a_folder_without_a_video(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="found 0; put files such as"):
        recordings_in_folder(tmp_path)
    with pytest.raises(InputError, match="Expected a folder"):
        recordings_in_folder(tmp_path / "absent")


def test_videos_in_a_folder_are_people_of_their_own_unless_named(tmp_path):
    for name in ("203_1_Freeform_video.mp4", "deep/a.mp4", "deep/b.mov", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    ids = [one.id for one in recordings_in_folder(tmp_path)]
    assert ids == ["203/203_1/Freeform", "deep_a/deep_a", "deep_b/deep_b"]


@pytest.mark.parametrize("person", ["a/b", "ä ö", "..", "x" * 300, "a.b"])
def test_any_id_becomes_a_file_name_of_its_own(person, clip, tmp_path):
    make_index([recording(clip, person=person)], tmp_path / "out")
    (sidecar,) = (tmp_path / "out/frames").iterdir()
    assert sidecar.suffix == ".parquet"


def test_ids_that_look_alike_do_not_share_a_sidecar(clip, tmp_path):
    people = ["a b", "a-b", "a.b", "a_b"]
    report = make_index([recording(clip, person=p) for p in people], tmp_path)
    assert report.used == len({path.name for path in (tmp_path / "frames").iterdir()}) == 4


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def command():
    app = typer.Typer()
    app.command()(index)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_command_indexes_a_folder(rendered_faces, command, tmp_path):
    face = rendered_faces.image(0)
    (tmp_path / "in").mkdir()
    frames = [on_canvas((face, 60, 40))] * 25
    write_film(tmp_path / "in/one.mp4", frames, time_base=Fraction(1, 10))
    write_sound(tmp_path / "in/two.mp4")
    outcome = command(f"videos={tmp_path / 'in'}", "--out", tmp_path / "o", "--through", "tiny")
    assert outcome.exit_code == 0, outcome.output
    assert "Indexed 1 of 2 recordings, 13 frames" in outcome.output
    assert "left out two/two: Expected a video" in outcome.output
    assert "Careful: the lens tiny is nearly in focus" in outcome.output
    assert len(list((tmp_path / "o/captures").rglob("*.png"))) == 13


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["nothing"], "NAME one of avec2013, avec2014, videos"),
        (["videos=x", "--step", "0"], "--step above 0 s"),
        (["videos=x", "--depth", "nan"], "--depth above 0 m"),
        (["videos=nowhere"], "Expected a folder at nowhere"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, match, command, tmp_path):
    outcome = command(*arguments, "--out", tmp_path)
    assert isinstance(outcome.exception, InputError)
    assert match in str(outcome.exception)


def test_without_pyarrow_nothing_is_begun(clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'opticaldr\[video\]'"):
        make_index([recording(clip)], tmp_path / "out", detector=Broken())
    assert not (tmp_path / "out").exists()
