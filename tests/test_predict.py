"""Captures and estimates of files: frames and times kept, same seed same bits, honest intervals."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from films import RedSquares, on_canvas, red, write_film
from opticaldr.camera import load_camera
from opticaldr.capture import capture_file, to_images, to_photos
from opticaldr.data.aligned_video import cut
from opticaldr.faces.detection import DlibDetector
from opticaldr.lens import Lens
from opticaldr.media import Frame, Input, VideoReader, read_image, square_crop
from opticaldr.optics.colour import srgb_to_linear
from opticaldr.predict import Estimate, Predictor
from opticaldr.results import read_json, write_json
from opticaldr.types import InputError

FRAMES = 20
"""More than one batch of 16."""


@pytest.fixture(scope="module")
def camera():
    return load_camera("tiny")


def scenery(shift: int = 0) -> np.ndarray:
    """(48, 64, 3) uint8: smooth gradients and a bright bar that moves with `shift`."""
    y, x = np.mgrid[:48, :64]
    image = np.stack([40 + 2 * x, 40 + 3 * y, np.full_like(x, 90)], axis=-1)
    image[20:28, 10 + shift : 20 + shift] = 230
    return image.astype(np.uint8)


def frames_of(path: Path) -> list[Frame]:
    with VideoReader(path) as video:
        return list(video)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A video with unequal frame times and a sound track."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "5"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=16000)
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(scenery(number), format="rgb24")
            frame.pts = number + (number > 9) * 3  # a gap after the tenth frame
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        hum = av.AudioFrame.from_ndarray(
            np.zeros((1, 16000), np.float32), format="fltp", layout="mono"
        )
        hum.rate = 16000
        container.mux(sound.encode(hum))
        container.mux(sound.encode(None))
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "face.png"
    Image.fromarray(scenery()).save(path)
    return path


def captured(camera, source: Input, target: Path, *, seed: int = 0, depth: float = 1.0) -> Path:
    assert capture_file(camera, source, target, depth_m=depth, seed=seed) is None
    return target


# --- capture ----------------------------------------------------------------------------------


def test_photos_and_images_are_inverse():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(to_images(to_photos([image], 32))[0], image)


def test_capture_of_an_image_is_blurred_and_repeatable(camera, picture, tmp_path):
    source = Input("image", picture)
    first = read_image(captured(camera, source, tmp_path / "a.png"))
    assert first.shape == (32, 32, 3)
    assert np.array_equal(first, read_image(captured(camera, source, tmp_path / "b.png")))
    other = read_image(captured(camera, source, tmp_path / "c.png", seed=1))
    assert not np.array_equal(first, other)
    # read noise of 1 % of linear light moves sRGB codes by a few levels, never by a picture
    assert float(np.abs(first.astype(int) - other.astype(int)).mean()) < 12


def test_depth_changes_the_capture(camera, picture, tmp_path):
    source = Input("image", picture)
    far = read_image(captured(camera, source, tmp_path / "a.png", depth=1.0)).astype(int)
    near = read_image(captured(camera, source, tmp_path / "b.png", depth=0.33)).astype(int)
    scene = square_crop(scenery(), 32).astype(int)
    assert np.abs(near - scene).mean() > 1.5 * np.abs(far - scene).mean()  # focus is at 1 m


def test_capture_of_a_video_keeps_frames_and_times(camera, clip, tmp_path):
    target = captured(camera, Input("video", clip), tmp_path / "out.mp4")
    before, after = frames_of(clip), frames_of(target)
    assert len(after) == len(before) == FRAMES
    assert [frame.time_s for frame in after] == [frame.time_s for frame in before]
    assert {frame.image.shape for frame in after} == {(32, 32, 3)}
    with av.open(str(target)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_capture_of_a_video_repeats_by_seed(camera, clip, tmp_path):
    source = Input("video", clip)
    frames = [
        np.stack([f.image for f in frames_of(captured(camera, source, tmp_path / n, seed=s))])
        for n, s in (("a.mp4", 3), ("b.mp4", 3), ("c.mp4", 4))
    ]
    assert np.array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], frames[2])


def test_a_cut_video_is_captured_as_far_as_it_goes(camera, tmp_path, run_folder):
    cut = tmp_path / "cut.mp4"
    options = {"movflags": "faststart"}  # the index stands at the front and survives the cut
    with av.open(str(cut), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "5", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(50):
            noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    cut.write_bytes(cut.read_bytes()[: int(cut.stat().st_size * 0.6)])
    source = Input("video", cut)
    note = capture_file(camera, source, tmp_path / "out.mp4", depth_m=1.0, seed=0)
    frames = len(frames_of(tmp_path / "out.mp4"))
    assert note is not None
    assert 20 <= frames <= 32  # noise has equal bytes a frame: 60 % of 50, less one key interval
    estimate = Predictor(run_folder).predict(source)
    assert estimate.frames == frames
    assert any("damaged video" in flag for flag in estimate.flags)


# --- estimates --------------------------------------------------------------------------------


def test_estimate_has_the_keys_of_the_contract(run_folder, picture):
    estimate = Predictor(run_folder).predict(Input("image", picture))
    line = json.loads(json.dumps(estimate.to_json(), allow_nan=False))
    keys = {"input", "score", "ci90", "band", "frames", "valid_frames", "flags", "disclaimer"}
    assert keys <= line.keys()
    assert line["input"] == str(picture)
    assert (line["frames"], line["valid_frames"]) == (1, 1)
    assert "not a diagnosis" in line["disclaimer"].lower()


def test_estimate_of_a_video_is_the_mean_of_its_frames(run_folder, clip):
    estimate = Predictor(run_folder).predict(Input("video", clip))
    assert estimate.frames == len(estimate.frame_scores) == FRAMES
    assert estimate.frame_times == [frame.time_s for frame in frames_of(clip)]
    assert len(set(estimate.frame_scores)) > 1
    assert estimate.score == pytest.approx(np.mean(estimate.frame_scores))


def test_estimates_repeat_by_seed(run_folder, clip):
    predictor = Predictor(run_folder)
    source = Input("video", clip)
    first = predictor.predict(source, seed=5)
    assert predictor.predict(source, seed=5) == first
    assert predictor.predict(source, seed=6).frame_scores != first.frame_scores


@pytest.mark.parametrize(
    ("half_width", "score", "expected"),
    [(5.0, 30.0, (25.0, 35.0)), (40.0, 30.0, (0.0, 63.0)), (10.0, 60.0, (50.0, 63.0))],
)
def test_interval_is_the_calibrated_width_within_the_scale(
    half_width, score, expected, run_folder, picture, monkeypatch
):
    write_json(run_folder / "calibration.json", {"half_width": half_width})
    predictor = Predictor(run_folder)
    monkeypatch.setattr(predictor, "_score", lambda images, times, generator: torch.tensor([score]))
    estimate = predictor.predict(Input("image", picture))
    assert estimate.ci90 == expected
    assert not any("calibration" in flag for flag in estimate.flags)


def test_without_calibration_no_interval_is_claimed(run_folder, picture):
    (run_folder / "calibration.json").unlink()
    estimate = Predictor(run_folder).predict(Input("image", picture))
    assert estimate.ci90 is None
    assert estimate.to_json()["ci90"] is None
    assert "no calibration: interval unknown" in estimate.flags


@pytest.mark.parametrize(("raw", "score"), [(-4.0, 0.0), (80.0, 63.0)])
def test_scores_stay_on_the_scale(raw, score, run_folder, picture, monkeypatch):
    predictor = Predictor(run_folder)
    monkeypatch.setattr(predictor, "_score", lambda images, times, generator: torch.tensor([raw]))
    assert predictor.predict(Input("image", picture)).score == score


@pytest.mark.parametrize(
    ("score", "band"),
    [
        *[(0, "minimal"), (13, "minimal"), (14, "mild"), (19, "mild"), (20, "moderate")],
        *[(28, "moderate"), (29, "severe"), (63, "severe"), (13.4, "minimal"), (13.6, "mild")],
    ],
)
def test_bands_of_the_manual(score, band):
    assert Estimate("x", float(score), None, 1, 1).band == band


def test_already_captured_skips_the_lens(run_folder, picture, monkeypatch):
    predictor = Predictor(run_folder, already_captured=True)

    def no_lens(self: Lens, *arguments: object) -> None:
        raise RuntimeError("the lens was simulated twice")

    monkeypatch.setattr(Lens, "forward", no_lens)
    found = predictor.predict(Input("image", picture)).score
    photos = to_photos([read_image(picture)], 32)
    with torch.no_grad():
        direct = predictor.model.network(srgb_to_linear(photos)).severity
    assert found == pytest.approx(float(direct))
    with pytest.raises(RuntimeError, match="twice"):
        Predictor(run_folder).predict(Input("image", picture))


def test_a_stored_capture_scores_like_the_scene(run_folder, picture, tmp_path):
    """capture, then predict --already-captured: the clinic's way equals the simulated way."""
    stored = captured(load_camera(run_folder), Input("image", picture), tmp_path / "s.png", seed=2)
    simulated = Predictor(run_folder).predict(Input("image", picture), seed=2).score
    read = Predictor(run_folder, already_captured=True).predict(Input("image", stored)).score
    # an 8-bit linear capture survives 8-bit sRGB up to a level, which is 0.01 to 0.1 points here
    assert read == pytest.approx(simulated, abs=0.5)


def test_nan_scores_are_never_reported(run_folder, picture, monkeypatch):
    predictor = Predictor(run_folder)
    monkeypatch.setattr(
        predictor, "_score", lambda images, times, generator: torch.tensor([torch.nan])
    )
    with pytest.raises(InputError, match=r"finite scores for .*face\.png, found NaN"):
        predictor.predict(Input("image", picture))


def test_a_calibration_that_says_nothing_is_refused(run_folder):
    (run_folder / "calibration.json").write_text("{}")
    assert read_json(run_folder / "calibration.json") == {}
    with pytest.raises(InputError, match=r"calibration\.json"):
        Predictor(run_folder)


# --- faces looked for -------------------------------------------------------------------------


@pytest.fixture
def red_predictor(run_folder) -> Predictor:
    """A predictor that takes red squares for faces."""
    return Predictor(run_folder, detector=RedSquares())


def film_of(path: Path, there: Iterable[bool]) -> Input:
    """A film with a red square in some frames."""
    images = [on_canvas(*([(red(), 30 + n % 200, 20)] if t else [])) for n, t in enumerate(there)]
    return Input("video", write_film(path, images))


def test_frames_without_a_face_do_not_count(red_predictor, tmp_path):
    there = [n not in range(8, 14) for n in range(30)]
    estimate = red_predictor.predict(film_of(tmp_path / "a.mp4", there))
    assert (estimate.frames, estimate.valid_frames) == (30, 24)
    assert estimate.frame_times == pytest.approx([n / 30 for n in range(30) if there[n]])
    assert len(estimate.frame_scores) == 24
    assert estimate.score == pytest.approx(np.mean(estimate.frame_scores))
    assert "no face found in 6 of 30 frames" in estimate.flags
    assert not any("centre crop" in flag for flag in estimate.flags)


def test_the_scored_crop_is_the_aligned_face(red_predictor, tmp_path, monkeypatch):
    """What the lens gets of a picture is the face on the template, not the centre of the frame."""
    image = on_canvas((red(60), 10, 20))
    Image.fromarray(image).save(tmp_path / "a.png")
    seen = []
    score = red_predictor._score
    monkeypatch.setattr(
        red_predictor, "_score", lambda *given: seen.append(given[0]) or score(*given)
    )
    red_predictor.predict(Input("image", tmp_path / "a.png"))
    (found,) = RedSquares()(image)
    assert np.array_equal(seen[0][0], cut(image, found.points, 32))


def test_no_face_at_all_is_an_error(red_predictor, picture, tmp_path):
    with pytest.raises(InputError, match=r"a face in .*face\.png, found none in 1 frame; "):
        red_predictor.predict(Input("image", picture))
    with pytest.raises(InputError, match=r"found none in 20 frames; .* --no-detect"):
        red_predictor.predict(film_of(tmp_path / "a.mp4", [False] * 20))


def test_several_faces_and_short_clips_are_flagged(red_predictor, tmp_path):
    images = [on_canvas((red(), 30, 20), (red(20), 200, 100)) for _ in range(4)]
    estimate = red_predictor.predict(Input("video", write_film(tmp_path / "a.mp4", images)))
    assert any(flag.startswith("several faces in 4 of 4 frames") for flag in estimate.flags)
    assert "short: 4 frames; intervals are those of whole recordings" in estimate.flags


def test_captures_are_never_searched(run_folder, tmp_path):
    detector = RedSquares()
    predictor = Predictor(run_folder, already_captured=True, detector=detector)
    estimate = predictor.predict(film_of(tmp_path / "a.mp4", [False] * 12))
    assert detector.looks == 0
    assert estimate.valid_frames == 12
    assert "centre crop: no face was looked for" in estimate.flags


def test_a_rendered_person_on_film_is_found(run_folder, rendered_faces, tmp_path):
    """dlib from end to end: a face beside the centre is scored as if it filled the frame."""
    detector = DlibDetector()
    images = [rendered_faces.image(i) for i in range(len(rendered_faces))]
    face = max(images, key=lambda image: max(found.confidence for found in detector(image)))
    frames = [on_canvas((face, 150, 60))] * 12
    source = Input("video", write_film(tmp_path / "a.mp4", frames))
    predictor = Predictor(run_folder, detector=detector)
    estimate = predictor.predict(source)
    assert estimate.valid_frames == 12
    Image.fromarray(face).save(tmp_path / "face.png")
    alone = predictor.predict(Input("image", tmp_path / "face.png")).score
    beside = Predictor(run_folder).predict(source).score
    # the codec, the background and a pixel of alignment remain
    assert abs(estimate.score - alone) < 0.5 * abs(beside - alone)


def test_memory_stays_the_same_over_a_long_film(red_predictor, tmp_path):
    """Peak memory behind 450 frames is that behind 150, but for two numbers a frame."""
    import tracemalloc

    source = film_of(tmp_path / "a.mp4", [True] * 450)
    peaks = {}

    def note(frames: int) -> None:
        if frames in (144, 448):
            peaks[frames] = tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        red_predictor.predict(source, on_frame=note)
    finally:
        tracemalloc.stop()
    # 300 frames of 230 kB would be 69 MB; times and scores are 40 kB
    assert peaks[448] - peaks[144] < 1e6
