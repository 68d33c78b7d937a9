"""Names of AVEC files, and the frames that are read of a recording."""

from __future__ import annotations

import numpy as np
import pytest

from avec_layouts import write_frames, write_video
from conftest import draw_face
from opticaldr.data.recordings import NOMINAL_RATE, Recording, faces_of, frame_number, parse_name


@pytest.mark.parametrize(
    ("stem", "parts"),
    [
        ("203_1_Freeform_video", ("203", "203_1", "Freeform", "avec2014", False)),
        ("203_1_Northwind_video_aligned", ("203", "203_1", "Northwind", "avec2014", False)),
        ("17_2_FREEFORM_video", ("17", "17_2", "Freeform", "avec2014", False)),
        ("203_1_cut_combined", ("203", "203_1", "", "avec2013", False)),
        ("203_1_cut_audio", ("203", "203_1", "", "avec2013", True)),
    ],
)
def test_a_name_gives_person_and_session(stem, parts):
    name = parse_name(stem)
    found = (name.person, name.session, name.task, name.edition, name.sound_only)
    assert found == parts


@pytest.mark.parametrize(
    "stem", ["203_1", "203_1_Freeform", "x203_1_Freeform_video", "203_1_Freeform_video (1)", ""]
)
def test_other_names_are_none(stem):
    assert parse_name(stem) is None


def test_label_key_and_identity_key_differ(tmp_path):
    """Two sessions of one person: one identity, two labels; two tasks of a session: one label."""
    recordings = [
        Recording(
            write_video(tmp_path / f"{i}.mp4", session, i), "90", session, task, "test", score
        )
        for i, (session, task, score) in enumerate(
            [("90_1", "Freeform", 5.0), ("90_1", "Northwind", 5.0), ("90_2", "Freeform", 9.0)]
        )
    ]
    survey = faces_of(recordings, tmp_path, name="x", frames=2, size=None)
    records = survey.faces.records
    assert survey.faces.people == ["90"]
    assert {record.session for record in records} == {"90_1", "90_2"}
    assert [record.recording for record in records[::2]] == [
        "90/90_1/Freeform",
        "90/90_1/Northwind",
        "90/90_2/Freeform",
    ]
    # six frames at 10/s: the middles of two halves of 0.6 s
    assert [record.time_s for record in records[:2]] == [0.15, 0.45]


def test_a_folder_of_frames_is_dated_by_frame_number(tmp_path):
    """Frames 2, 3 and 10: OpenFace writes no picture of a frame without a face."""
    folder = tmp_path / "90_1_Freeform_video_aligned"
    write_frames(folder, "90_1", range(2, 4), suffix=".bmp")
    write_frames(folder, "90_1", range(10, 11), suffix=".bmp")
    (folder / "frame_det_01_000005.bmp").write_bytes(b"a second face")
    survey = faces_of([Recording(folder, "90", "90_1")], tmp_path, name="x", frames=8, size=16)
    assert [r.time_s * NOMINAL_RATE for r in survey.faces.records] == pytest.approx([2, 3, 10])
    assert survey.faces.image(2).shape == (16, 16, 3)
    whole = faces_of([Recording(folder, "90", "90_1")], tmp_path, name="x", frames=8, size=None)
    np.testing.assert_array_equal(whole.faces.image(2), draw_face(901, 10)[0])


def test_a_short_clip_gives_every_frame_once(tmp_path):
    """frames // 100 is 0 for a short clip: a published loader divides by it."""
    folder = tmp_path / "clip_aligned"
    write_frames(folder, "90_1", range(1, 2), suffix=".jpg")
    survey = faces_of([Recording(folder, "90", "90_1")], tmp_path, name="x", frames=100, size=None)
    assert len(survey.faces) == 1


def test_a_recording_that_does_not_open_is_named_not_dropped(tmp_path):
    write_video(tmp_path / "a.mp4", "90_1")
    (tmp_path / "b.mp4").write_bytes(b"no video")
    (tmp_path / "c_aligned").mkdir()
    paths = {"90_1": "a.mp4", "90_2": "b.mp4", "90_3": "c_aligned"}
    recordings = [Recording(tmp_path / path, "90", session) for session, path in paths.items()]
    survey = faces_of(recordings, tmp_path, name="x", frames=1, size=None)
    assert {record.session for record in survey.faces.records} == {"90_1"}
    second, third = survey.left_out["does not open"]
    assert second.startswith("90/90_2: Expected a video")
    assert third.startswith("90/90_3: Expected frames such as frame_det_00_000001.bmp")


@pytest.mark.parametrize(
    ("name", "number"),
    [("frame_det_00_000012.bmp", 12), ("7.jpg", 7), ("frame_det_01_000012.bmp", None),
     ("notes.txt", None), ("face.jpg", None)],
)  # fmt: skip
def test_frame_numbers(tmp_path, name, number):
    assert frame_number(tmp_path / name) == number
