"""AVEC 2013 and 2014 in every layout that is in use, and every way in which a copy can be wrong."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from avec_layouts import (
    REPACKED,
    SESSIONS,
    TASKS,
    avec2013,
    avec2014,
    copy_of,
    write_frames,
    write_labels,
    write_video,
)
from opticaldr.data.avec import EXPECTED, find_recordings, scan, survey_avec
from opticaldr.types import InputError


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> Path:
    """AVEC 2014 in its official layout; never changed."""
    return avec2014(tmp_path_factory.mktemp("avec") / "2014")


def summary(recordings) -> set[tuple]:
    return {(r.id, r.split, r.severity) for r in recordings}


EXPECTED_2014 = {
    (f"{session[:3]}/{session}/{task}", REPACKED[split], float(score))
    for session, (split, score) in SESSIONS.items()
    for task in TASKS
}
EXPECTED_2013 = {
    (f"{session[:3]}/{session}", REPACKED[split], float(score))
    for session, (split, score) in SESSIONS.items()
}


# --- layouts ------------------------------------------------------------------------------------


def test_official_tree(official):
    recordings = find_recordings(official)
    assert summary(recordings) == EXPECTED_2014
    assert len(recordings) == 14
    assert [r.split for r in recordings] == ["train"] * 6 + ["dev"] * 4 + ["test"] * 4
    assert all(r.path.is_file() for r in recordings)


@pytest.mark.parametrize("flat", [False, True])
def test_repacked_tree(tmp_path, flat):
    recordings = find_recordings(avec2014(tmp_path, repacked=True, flat=flat))
    assert summary(recordings) == EXPECTED_2014


def test_avec_2013(tmp_path):
    root = avec2013(tmp_path)
    assert summary(find_recordings(root, "avec2013")) == EXPECTED_2013
    with pytest.raises(InputError, match=r"7 left out .an AVEC 2013 name; use avec2013=PATH"):
        find_recordings(root, "avec2014")


@pytest.mark.parametrize(("suffix", "between"), [(".bmp", "Training"), (".jpg", "x/Training")])
def test_frame_folders_of_openface(tmp_path, suffix, between):
    write_frames(
        tmp_path / "image" / between / "901_1_Freeform_video_aligned", "901_1", suffix=suffix
    )
    write_labels(tmp_path / "label" / "DepressionLabels")
    (recording,) = find_recordings(tmp_path)
    assert summary([recording]) == {("901/901_1/Freeform", "train", 3.0)}
    faces = survey_avec(tmp_path, "avec2014", frames=4, size=16).faces
    # frames 1 .. 12 at the nominal 30/s: the middles of four quarters of 11 frames
    assert [round(30 * r.time_s) for r in faces.records] == [2, 5, 8, 11]
    assert faces.image(0).shape == (16, 16, 3)


def test_videos_and_frames_of_one_recording_are_one_recording(official, tmp_path):
    root = copy_of(official, tmp_path / "both")
    aligned = root / "image" / "Training" / "901_1_Freeform_video_aligned"
    write_frames(aligned, "901_1", suffix=".bmp")
    assert summary(find_recordings(root)) == EXPECTED_2014
    videos = {r.path for r in find_recordings(root)}
    frames = {r.path for r in find_recordings(root, prefer="frames")}
    assert frames - videos == {aligned}


def test_linked_folders_are_followed_once(official, tmp_path):
    (tmp_path / "Training").symlink_to(official / "Training")
    (tmp_path / "label").symlink_to(official / "label")
    (tmp_path / "round").symlink_to(tmp_path)
    assert len(find_recordings(tmp_path)) == 6


# --- labels -------------------------------------------------------------------------------------


def table(root: Path, rows: list[tuple[str, object]]) -> None:
    lines = [f"{path},{label}" for path, label in rows]
    (root / "label.csv").write_text("\n".join(["path,label", *lines]) + "\n")


def rows_of(sessions: dict, *, task: str = "Freeform") -> list[tuple[str, object]]:
    return [(f"{split}/{task}/{s}_{task}_video", score) for s, (split, score) in sessions.items()]


def test_one_table_of_paths(tmp_path):
    root = avec2014(tmp_path, labels=False)
    table(root, rows_of(SESSIONS)[::-1])  # row order says nothing
    assert summary(find_recordings(root)) == EXPECTED_2014


def test_the_table_may_name_the_split_that_the_folders_do_not(tmp_path):
    write_video(tmp_path / "901_2_Freeform_video.mp4", "901_2")
    table(tmp_path, rows_of({"901_2": SESSIONS["901_2"]}))
    assert summary(find_recordings(tmp_path)) == {("901/901_2/Freeform", "dev", 8.0)}


@pytest.mark.parametrize(("rows", "size"), [(300, 100), (150, 50)])
def test_a_table_that_others_cut_by_row_number_must_agree_with_its_paths(tmp_path, rows, size):
    """[:100] [100:200] [200:], or [:50] [50:100] [100:]."""
    partitions = [split for split in REPACKED for _ in range(size)]
    names = [(f"{split}/{1000 + i}_1_Freeform_video", 5) for i, split in enumerate(partitions)]
    assert len(names) == rows
    write_video(tmp_path / "Training" / "1000_1_Freeform_video.mp4", "1000_1")
    table(tmp_path, names)
    assert [r.split for r in find_recordings(tmp_path)] == ["train"]
    names[0], names[-1] = names[-1], names[0]
    table(tmp_path, names)
    with pytest.raises(InputError, match=r"row 1 of label.csv in the slice of 'test', to which"):
        find_recordings(tmp_path)


def test_a_split_never_comes_from_the_row_order(tmp_path):
    """300 rows, no folder names: the first row is not 'train', it is left out."""
    write_video(tmp_path / "1000_1_Freeform_video.mp4", "1000_1")
    table(tmp_path, [(f"{1000 + i}_1_Freeform_video", 5) for i in range(300)])
    with pytest.raises(InputError, match=r"1 left out .no partition folder"):
        find_recordings(tmp_path)


@pytest.mark.parametrize("cell", ["64", "-1", "n/a", "", "13.5", "nan", "12 13"])
def test_a_label_that_is_no_score(official, tmp_path, cell):
    root = copy_of(official, tmp_path / "x")
    label = root / "label" / "DepressionLabels" / "901_1_Depression.csv"
    label.write_text(f"{cell}\n")
    message = rf"whole number from 0 to 63 in .*901_1_Depression.csv, found '{cell}'"
    with pytest.raises(InputError, match=message):
        find_recordings(root)


def test_a_table_with_a_label_that_is_no_score(tmp_path):
    root = avec2014(tmp_path, labels=False)
    table(root, [*rows_of(SESSIONS)[1:], ("Training/Freeform/901_1_Freeform_video", 64)])
    with pytest.raises(InputError, match=r"0 to 63 in row 7 of label.csv, found '64'"):
        find_recordings(root)


def test_labels_that_differ(official, tmp_path):
    root = copy_of(official, tmp_path / "x")
    write_labels(root / "Training_DepressionLabels", {"901_1": ("", 3)})
    assert summary(find_recordings(root)) == EXPECTED_2014  # a copy that agrees
    write_labels(root / "Training_DepressionLabels", {"901_1": ("", 4)})
    with pytest.raises(InputError, match=r"one label for session 901_1, found 4 in .* and 3 in "):
        find_recordings(root)


def test_tasks_of_a_session_have_one_label(tmp_path):
    root = avec2014(tmp_path, labels=False)
    other = {**SESSIONS, "903_1": ("Training", 29)}
    table(root, rows_of(SESSIONS) + rows_of(other, task="Northwind"))
    with pytest.raises(InputError, match=r"one label for session 903_1, found 30 .* and 29"):
        find_recordings(root)


def test_a_missing_label_leaves_the_session_out(official, tmp_path):
    root = copy_of(official, tmp_path / "x")
    (root / "label" / "DepressionLabels" / "905_1_Depression.csv").unlink()
    found = scan(root, "avec2014")
    assert len(found.recordings) == 12
    assert found.left_out == {
        "no label": tuple(f"Testing/{task}/905_1_{task}_video.mp4" for task in TASKS)
    }


def test_labels_without_recordings_are_counted(official, tmp_path):
    root = copy_of(official, tmp_path / "x")
    write_labels(root / "label" / "DepressionLabels", {"999_1": ("", 1), "998_1": ("", 1)})
    assert any("2 labels have no recording" in text for text in scan(root).findings)


def test_a_table_row_without_an_avec_name(tmp_path):
    root = avec2014(tmp_path, labels=False)
    table(root, [*rows_of(SESSIONS), ("Training/Freeform/video7", 3)])
    with pytest.raises(InputError, match=r"AVEC name .* in row 8 of label.csv, found .*video7"):
        find_recordings(root)


# --- recordings ---------------------------------------------------------------------------------


def test_a_session_in_two_splits(official, tmp_path):
    root = copy_of(official, tmp_path / "x")
    moved = root / "Training" / "Northwind" / "901_1_Northwind_video.mp4"
    moved.rename(root / "Testing" / "Northwind" / moved.name)
    with pytest.raises(InputError, match=r"session 901_1 in one split, found 'test' by .*'train'"):
        find_recordings(root)


def test_labels_in_the_folder_of_another_split(tmp_path):
    root = avec2013(tmp_path)
    write_labels(root / "Testing_DepressionLabels", {"901_1": ("", 3)})
    with pytest.raises(
        InputError, match=r"session 901_1 in one split, found 'train' by .* and 'test' by"
    ):
        find_recordings(root)


def test_a_recording_that_is_there_twice(official, tmp_path):
    root = copy_of(official, tmp_path / "x")
    write_video(root / "Training" / "901_1_Freeform_video.mp4", "901_1")
    with pytest.raises(
        InputError, match=r"each recording once .*Training/901_1.* and Training/Freeform"
    ):
        find_recordings(root)


def test_several_problems_are_counted(official, tmp_path):
    root = copy_of(official, tmp_path / "x")
    write_labels(root / "label" / "DepressionLabels", {"901_1": ("", 64), "902_1": ("", "n/a")})
    assert len(scan(root).problems) == 2
    with pytest.raises(InputError, match=r"found '64'.*\(1 more of this kind"):
        find_recordings(root)


@pytest.mark.parametrize("edition", ["avec2013", "avec2014"])
def test_a_folder_of_no_videos_shows_the_tree(tmp_path, edition):
    with pytest.raises(InputError, match=r"found 0 videos") as caught:
        find_recordings(tmp_path, edition)
    assert str(caught.value).endswith(EXPECTED[edition])


def test_videos_without_any_label_show_the_tree(tmp_path):
    with pytest.raises(InputError, match=r"14 left out \(no label\)") as caught:
        find_recordings(avec2014(tmp_path, labels=False))
    assert "label/DepressionLabels/203_1_Depression.csv" in str(caught.value)


def test_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"found a file"):
        find_recordings(tmp_path / "file")
    with pytest.raises(InputError, match=r"AVEC 2013 at .*absent, found nothing"):
        find_recordings(tmp_path / "absent", "avec2013")


def test_sound_is_ignored_and_counted(official, tmp_path):
    root = copy_of(official, tmp_path / "x")
    for name in ("audio/Freeform/901_1_Freeform_video.wav", "Training/901_1_cut_audio.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    assert summary(find_recordings(root)) == EXPECTED_2014
    assert "2 sound files are ignored: only faces are read." in scan(root).findings


def test_videos_of_other_names_are_named(official, tmp_path):
    root = copy_of(official, tmp_path / "x")
    (root / "Training" / "Freeform" / "901_1_Freeform_video (1).mp4").touch()
    found = scan(root)
    assert found.left_out["its name is none of AVEC's"] == (
        "Training/Freeform/901_1_Freeform_video (1).mp4",
    )


def test_names_outside_utf8_do_not_stop_anything(official, tmp_path):
    root = copy_of(official, Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")))
    write_video(root / os.fsdecode(b"Training/Jos\xe9.mp4"), "901_1")
    survey = survey_avec(root, "avec2014", frames=2, size=16)
    assert survey.left_out == {"its name is none of AVEC's": (r"Training/Jos\xe9.mp4",)}
    assert len(survey.faces) == 28
    assert survey.faces.image(0).shape == (16, 16, 3)
    (root / "label" / "DepressionLabels" / "901_1_Depression.csv").write_bytes(b"\xe9\n")
    with pytest.raises(InputError, match=re.escape(r"found '\xe9'")) as caught:
        find_recordings(root)
    str(caught.value).encode("utf-8")  # printable


def test_a_video_that_does_not_open_is_named(official, tmp_path):
    root = copy_of(official, tmp_path / "x")
    (root / "Training" / "Freeform" / "901_1_Freeform_video.mp4").write_bytes(b"broken")
    survey = survey_avec(root, "avec2014", frames=2)
    assert len(survey.left_out["does not open"]) == 1
    assert "901/901_1/Freeform: Expected a video" in survey.left_out["does not open"][0]
    assert len({record.recording for record in survey.faces.records}) == 13


def test_unaligned_videos_are_said_to_be_unaligned(official):
    assert any(
        "data index" in text for text in survey_avec(official, "avec2014", frames=1).findings
    )
