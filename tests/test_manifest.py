"""The manifest: what is written is read back, and every mistake is named with its line."""

from __future__ import annotations

import dataclasses
import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from torch.utils.data import DataLoader

from opticaldr.data import frame_reader
from opticaldr.data.faceset import FaceSet
from opticaldr.data.manifest import load_manifest, write_manifest
from opticaldr.faces.alignment import FIVE_POINTS
from opticaldr.media import VideoReader, VideoWriter, read_frames, read_image, write_image
from opticaldr.types import EMOTIONS, FaceRecord, InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs a.png, b.png, sub/c.png of different grey, and a 2 s video v.mp4."""
    for grey, name in enumerate(("a.png", "b.png", "sub/c.png"), start=1):
        write_image(tmp_path / name, np.full((8, 12, 3), 50 * grey, np.uint8))
    with VideoWriter(tmp_path / "v.mp4", time_base=Fraction(1, 10), rate=Fraction(10)) as out:
        for number in range(20):
            out.write(np.full((16, 16, 3), 10 * number, np.uint8), number)
    return tmp_path


def table(folder: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path = folder / "faces.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_all_columns(folder: Path) -> None:
    landmarks = ",".join(f"lm{i}{axis}" for i in range(1, 6) for axis in "xy")
    text = (
        f"path,subject,session,task,split,time,score,emotion,attr:Smiling,attr:Male,{landmarks}\n"
        "a.png,p1,s1,reading,train,1.5,13,happy,1,0.25,"
        "0.3,0.4,0.7,0.4,0.5,0.6,0.35,0.8,0.65,0.8\n"
        "sub/c.png,p2,,,test,,,,,,,,,,,,,,,\n"
    )
    faces = load_manifest(table(folder, text))
    first, second = faces.records
    assert first == FaceRecord(
        key="a.png",
        person="p1",
        recording="p1/s1/reading",
        time_s=1.5,
        split="train",
        emotion=EMOTIONS.index("happy"),
        severity=13.0,
        attributes=(1.0, 0.25),
        landmarks=(0.3, 0.4, 0.7, 0.4, 0.5, 0.6, 0.35, 0.8, 0.65, 0.8),
        session="p1/s1",
        task="reading",
    )
    assert (second.recording, second.time_s, second.emotion, second.landmarks) == ("", 0.0, -1, ())
    assert math.isnan(second.severity)
    assert all(map(math.isnan, second.attributes))
    assert (faces.name, faces.attribute_names) == ("faces", ("Smiling", "Male"))
    np.testing.assert_array_equal(faces.image(1), read_image(folder / "sub" / "c.png"))
    assert faces.split("test").people == ["p2"]
    assert faces[0]["landmarks"].shape == (10,)


@pytest.mark.parametrize("column", ["bdi", "score", "severity"])
def test_severity_has_three_names(folder: Path, column: str) -> None:
    faces = load_manifest(table(folder, f"path,subject,{column}\na.png,p1,63\n"))
    assert faces.records[0].severity == 63


def test_absolute_paths_and_size(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = table(elsewhere, f"path,subject\n{folder / 'b.png'},p1\n")
    np.testing.assert_array_equal(
        load_manifest(path, size=4).image(0), np.full((4, 4, 3), 100, np.uint8)
    )


def test_video_becomes_frames(folder: Path) -> None:
    path = table(folder, "path,subject,bdi\nv.mp4,p1,20\n")
    faces = load_manifest(path, frames_per_video=4)
    assert [record.key for record in faces.records] == [
        "v.mp4@0.25",
        "v.mp4@0.75",
        "v.mp4@1.25",
        "v.mp4@1.75",
    ]
    assert [record.time_s for record in faces.records] == [0.25, 0.75, 1.25, 1.75]
    assert {record.recording for record in faces.records} == {"p1/v.mp4"}
    assert {record.severity for record in faces.records} == {20.0}
    for index, frame in enumerate(read_frames(folder / "v.mp4", 4)):
        np.testing.assert_array_equal(faces.image(index), frame.image)


def test_video_with_time_is_one_frame(folder: Path) -> None:
    path = table(folder, "path,subject,session,time\nv.mp4,p1,s,1.5\nv.mp4,p1,s,0.2\n")
    faces = load_manifest(path, size=8)
    assert [record.key for record in faces.records] == ["v.mp4@1.5", "v.mp4@0.2"]
    # Frame n is 10 n grey; uniform frames come back within a level of 8-bit limited range.
    assert faces.image(0).shape == (8, 8, 3)
    assert abs(int(faces.image(0)[0, 0, 0]) - 150) <= 2
    assert abs(int(faces.image(1)[0, 0, 0]) - 20) <= 2


def test_video_is_opened_once_for_all_its_frames(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = load_manifest(table(folder, "path,subject\nv.mp4,p1\n"), frames_per_video=5)
    opened = []
    original = VideoReader.__init__

    def counted(self: VideoReader, *args: object, **options: object) -> None:
        opened.append(args)
        original(self, *args, **options)

    monkeypatch.setattr(VideoReader, "__init__", counted)
    assert opened == []
    for index in (3, 0, 4, 1, 2, 3):
        faces.image(index)
    assert len(opened) == 1


def test_kept_frames_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "w.mp4").write_bytes((folder / "v.mp4").read_bytes())
    monkeypatch.setattr(frame_reader, "CACHE_BYTES", 16 * 16 * 3 * 3)  # three frames
    faces = load_manifest(table(folder, "path,subject\nv.mp4,p1\nw.mp4,p2\n"), frames_per_video=2)
    for index in (0, 2, 3):
        faces.image(index)
    assert list(faces.read._kept) == [("w.mp4", 0)]


def test_written_manifest_reads_back(folder: Path) -> None:
    text = (
        "path,subject,session,task,split,time,bdi,emotion,attr:Smiling\n"
        "a.png,p1,s1,,train,0.5,13,sad,0\n"
        'sub/c.png,"Doe, Jane",,,dev,,,,\n'
        "v.mp4,p3,,,test,,40.5,,1\n"
    )
    faces = load_manifest(table(folder, text), frames_per_video=3)
    write_manifest(folder / "copy.csv", faces)
    again = load_manifest(folder / "copy.csv")
    assert list(map(comparable, again.records)) == list(map(comparable, faces.records))
    assert again.attribute_names == ("Smiling",)
    for index in range(len(faces)):
        np.testing.assert_array_equal(again.image(index), faces.image(index))


def comparable(record: FaceRecord) -> str:
    """NaN equals NaN in text, and repr keeps every digit."""
    return repr(record)


def test_manifest_in_another_folder(folder: Path) -> None:
    faces = load_manifest(table(folder, "path,subject,time\nsub/c.png,p1,\nv.mp4,p2,1\n"))
    write_manifest(folder / "sub" / "deep.csv", faces, root=folder)
    again = load_manifest(folder / "sub" / "deep.csv")
    assert [record.key for record in again.records] == ["c.png", "../v.mp4@1.0"]
    np.testing.assert_array_equal(again.image(0), faces.image(0))


def test_landmarks_survive_writing(folder: Path) -> None:
    record = FaceRecord("a.png", "p", landmarks=tuple(i / 7 for i in range(10)))
    other = dataclasses.replace(record, key="b.png", landmarks=())
    write_manifest(folder / "m.csv", FaceSet("m", (record, other), lambda _: np.zeros(0)))
    again = load_manifest(folder / "m.csv")
    assert [r.landmarks for r in again.records] == [record.landmarks, ()]


def test_byte_order_mark_blank_lines_and_windows_line_ends(folder: Path) -> None:
    text = "path,subject,bdi\r\n\r\na.png, Jürgen ,7\r\n,,\r\nb.png,p2,\r\n"
    faces = load_manifest(table(folder, text, encoding="utf-8-sig"))
    assert [(record.person, record.key) for record in faces.records] == [
        ("Jürgen", "a.png"),
        ("p2", "b.png"),
    ]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_are_refused(folder: Path, encoding: str) -> None:
    path = table(folder, "path,subject\na.png,Jürgen\n", encoding=encoding)
    with pytest.raises(InputError, match=r"UTF-8 text in .*faces\.csv, found another encoding"):
        load_manifest(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found an empty file"),
        ("path,subject\n", "found only a header"),
        ("path,subjct\na.png,p\n", "found 'subjct'; did you mean 'subject'"),
        ("path,subject,BDI\na.png,p,3\n", "found 'BDI'"),
        ("path,subject,attr:\na.png,p,3\n", "found 'attr:'"),
        ("path,session\na.png,p\n", "a column 'subject' in .*, found only path, session"),
        ("path;subject\na.png;p\n", "found semicolons"),
        ("path,subject,path\na.png,p,a.png\n", "each column once in .*, found path and path"),
        ("path,subject,bdi,score\na.png,p,1,2\n", "found bdi and score"),
        ("path,subject\na.png,p\nb.png\n", "2 cells in line 3 of .*, found 1"),
        ('path,subject\n"a.png,p\n', "comma-separated values in .* line 2"),
        ("path,subject\na.png,p\nnone.png,p\n", r"none\.png in line 3 of .*, found nothing there"),
        ("path,subject\nfaces.csv,p\n", r"an image or a video in line 2 of .*, found 'faces\.csv'"),
        ("path,subject\n,p\n", "a path in line 2 of .*, found an empty cell"),
        ("path,subject\na.png,\n", "a subject in line 2 of .*, found an empty cell"),
        (
            "path,subject,bdi\na.png,p,n/a\n",
            r"\[0, 63\] as bdi in line 2 of .*, found 'n/a'; leave",
        ),
        ("path,subject,bdi\na.png,p,64\n", "found '64'"),
        ("path,subject,bdi\na.png,p,-1\n", "found '-1'"),
        ("path,subject,bdi\na.png,p,nan\n", "found 'nan'"),
        ("path,subject,time\nv.mp4,p,inf\n", "a number as time in line 2 of .*, found 'inf'"),
        ("path,subject,attr:Male\na.png,p,-1\n", r"\[0, 1\] as attr:Male .*, found '-1'"),
        ("path,subject,emotion\na.png,p,joy\n", "one of neutral, happy, .*, found 'joy'"),
        ("path,subject,split\na.png,p,val\n", "one of train, dev, test .*, found 'val'"),
        (
            "path,subject\na.png,p\nb.png,p\na.png,q\n",
            "once in line 4 of .*, found 'a.png' in line 2",
        ),
        (
            "path,subject,split\na.png,p,train\nb.png,p,test\n",
            "subject 'p' in one split only in line 3 of .*, found 'test' here and 'train' in line 2",
        ),
        ("path,subject,lm1x\na.png,p,0.5\n", "all of lm1x .. lm5y or none .*, found 9 empty"),
        ("path,subject,lm1x\na.png,p,61.79\n", r"\[-1, 2\] as lm1x .*, found '61.79'"),
        ("path,subject,p1x\na.png,p,61.79\n", "all of p1x .. p5y or none .*, found 9 empty"),
        ("path,subject,group:\na.png,p,f\n", "found 'group:'"),
        (
            "path,subject,session,split,bdi\na.png,p,1,train,3\nb.png,p,1,train,4\n",
            "one score for session 'p/1' in line 3 of .*, found '4.0' here and '3.0' in line 2",
        ),
        (
            "path,subject,session,split,bdi\na.png,p,1,train,3\nb.png,p,1,test,3\n",
            "one split for session 'p/1' in line 3 .*, found 'test' here and 'train' in line 2",
        ),
        (
            "path,subject,session,bdi\na.png,7,7_1,3\nb.png,7_1,7_1_2,3\nsub/c.png,7,7_1_2,3\n",
            "one subject for session '7_1_2' in line 4 of .*, found '7' here and '7_1' in line 3",
        ),
        (
            "path,subject,captured_by\na.png,p,abc\nb.png,p,\n",
            "one lens for all images as captured_by in line 3 of .*, found '' after 'abc'",
        ),
    ],
)
def test_mistakes_are_named(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_manifest(table(folder, text))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest \(CSV or Parquet\) at .*, found 'No such file"):
        load_manifest(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="found 'Is a directory'"):
        load_manifest(tmp_path)


def test_broken_image_is_named_when_it_is_read(folder: Path) -> None:
    (folder / "a.png").write_text("no image")
    faces = load_manifest(table(folder, "path,subject\na.png,p\nb.png,q\n"))
    with pytest.raises(InputError, match=r"image in .*a\.png"):
        faces.image(0)
    assert faces.image(1).shape == (8, 12, 3)


def test_zero_byte_video_is_named_at_once(folder: Path) -> None:
    (folder / "z.mp4").touch()
    with pytest.raises(InputError, match=r"video in .*z\.mp4, found zero bytes"):
        load_manifest(table(folder, "path,subject\nz.mp4,p\n"))


@pytest.mark.timeout(60)
def test_frames_reach_a_data_loader_process(folder: Path) -> None:
    """A decoder with threads of its own, alive when the process forks, would hang here."""
    faces = load_manifest(table(folder, "path,subject\nv.mp4,p1\na.png,p2\n"), size=8)
    here = faces[0]["image"]
    with VideoReader(folder / "v.mp4") as video:
        next(iter(video))
        loader = DataLoader(faces, batch_size=9, num_workers=1, multiprocessing_context="fork")
        (batch,) = loader
    assert batch["image"].shape == (9, 3, 8, 8)
    np.testing.assert_array_equal(batch["image"][0], here)


def test_sessions_groups_and_tasks(folder: Path) -> None:
    """A session is named once for all subjects; "1" and "10" of subject 1 do not begin with it."""
    text = (
        "path,subject,session,task,bdi,group:sex,group:age\n"
        "a.png,203,203_1,Freeform,3,f,\n"
        "b.png,1,10,Northwind,5,m,old\n"
        "sub/c.png,1,,,,,\n"
    )
    faces = load_manifest(table(folder, text))
    assert [record.session for record in faces.records] == ["203_1", "1/10", ""]
    assert [record.recording for record in faces.records] == [
        "203/203_1/Freeform",
        "1/10/Northwind",
        "",
    ]
    assert faces.group_names == ("sex", "age")
    assert [record.groups for record in faces.records] == [("f", ""), ("m", "old"), ("", "")]


def test_rated_people_may_stand_in_two_splits(folder: Path) -> None:
    """AVEC's official partitions have it so; the protocol keeps people apart, not the table."""
    text = "path,subject,session,split,bdi\na.png,p,1,train,3\nb.png,p,2,test,9\n"
    faces = load_manifest(table(folder, text))
    assert [(r.session, r.split) for r in faces.records] == [("p/1", "train"), ("p/2", "test")]
    photographs = text.replace(",bdi", ",emotion").replace(",3", ",sad").replace(",9", ",sad")
    with pytest.raises(InputError, match="subject 'p' in one split only"):
        load_manifest(table(folder, photographs))


def test_points_align_the_frames_of_a_video(folder: Path) -> None:
    """The manifest of an index: one row a frame, each with its own five points."""
    image = np.full((200, 240, 3), 30, np.uint8)
    placed = [20 + 1.1 * FIVE_POINTS, 35 + 0.9 * FIVE_POINTS]
    with VideoWriter(folder / "w.mp4", time_base=Fraction(1, 10), rate=Fraction(10)) as out:
        for number, points in enumerate(placed):
            frame = image.copy()
            x, y = points[2].round().astype(int)
            frame[y - 4 : y + 5, x - 4 : x + 5] = 250
            out.write(frame, number)
    columns = ",".join(f"p{i}{axis}" for i in range(1, 6) for axis in "xy")
    lines = [
        f"w.mp4,p,{number / 10}," + ",".join(f"{value:.2f}" for value in points.ravel())
        for number, points in enumerate(placed)
    ]
    text = "\n".join([f"path,subject,time,{columns}", *lines, "w.mp4,p,0.05" + 10 * ","]) + "\n"
    faces = load_manifest(table(folder, text), size=160)
    x, y = FIVE_POINTS[2].round().astype(int)
    for index in (0, 1):
        crop = faces.image(index)
        assert crop.shape == (160, 160, 3)
        # the white nose lies on the template's nose, grey skin beside it (video is lossy)
        assert crop[y, x].min() > 200
        assert crop[y + 12, x].max() < 60
    third = faces.image(2)  # without points: the centre square
    assert third.shape == (160, 160, 3)
    assert load_manifest(table(folder, text)).image(0).shape == (256, 256, 3)
    write_manifest(folder / "copy.csv", faces)
    np.testing.assert_array_equal(
        load_manifest(folder / "copy.csv", size=160).image(1), faces.image(1)
    )


def test_captures_say_which_lens_recorded_them(folder: Path) -> None:
    text = f"path,subject,captured_by\na.png,p,{'c' * 64}\nb.png,q,{'c' * 64}\n"
    faces = load_manifest(table(folder, text))
    assert faces.captured_by == "c" * 64
    write_manifest(folder / "copy.csv", faces)
    assert load_manifest(folder / "copy.csv").captured_by == "c" * 64
    assert load_manifest(table(folder, "path,subject\na.png,p\n")).captured_by == ""


def test_parquet_reads_and_writes_the_same_table(folder: Path) -> None:
    text = (
        "path,subject,session,task,split,time,bdi,emotion,attr:Smiling,group:sex\n"
        "a.png,203,203_1,Freeform,train,0.1,13,sad,0.3,f\n"
        "sub/c.png,204,,,dev,,,,,\n"
        "v.mp4,205,,,test,,40.5,,1,m\n"
    )
    faces = load_manifest(table(folder, text), frames_per_video=3)
    write_manifest(folder / "copy.parquet", faces)
    again = load_manifest(folder / "copy.parquet")
    assert list(map(comparable, again.records)) == list(map(comparable, faces.records))
    assert (again.attribute_names, again.group_names) == (("Smiling",), ("sex",))
    np.testing.assert_array_equal(again.image(3), faces.image(3))


def test_parquet_of_typed_columns(folder: Path) -> None:
    """As other programs write it: numbers, nulls, NaN."""
    columns = {"path": ["a.png", "b.png"], "subject": [203, 204], "bdi": [13.0, math.nan],
               "split": ["train", None], "attr:Male": [True, False]}  # fmt: skip
    parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    first, second = load_manifest(folder / "t.parquet").records
    assert (first.person, first.severity, first.split, first.attributes) == (
        "203", 13.0, "train", (1.0,)
    )  # fmt: skip
    assert math.isnan(second.severity)
    assert (second.split, second.attributes) == ("", (0.0,))
    columns["bdi"] = [64, 1]
    parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    with pytest.raises(InputError, match=r"\[0, 63\] as bdi in row 1 of .*t\.parquet, found '64'"):
        load_manifest(folder / "t.parquet")
    (folder / "t.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(InputError, match=r"manifest \(CSV or Parquet\) at .*t\.parquet"):
        load_manifest(folder / "t.parquet")


def test_names_outside_utf8_cannot_be_listed(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (folder / "a.png").rename(folder / name)
    faces = FaceSet("x", (FaceRecord(name, "p"),), lambda _: np.zeros(0))
    with pytest.raises(InputError, match=r"file names in UTF-8 for .*m\.csv"):
        write_manifest(folder / "m.csv", faces)
    assert not (folder / "m.csv").exists()


def test_an_index_of_a_long_video_is_read_in_pieces(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded by CACHE_BYTES, however many frames of one video are listed."""
    rows = "".join(f"v.mp4,p,{number / 10}\n" for number in range(20))
    monkeypatch.setattr(frame_reader, "CHUNK", 4)
    monkeypatch.setattr(frame_reader, "CACHE_BYTES", 2 * 4 * 16 * 16 * 3)
    faces = load_manifest(table(folder, "path,subject,time\n" + rows))
    # Frame n is 10 n grey; uniform frames come back within a level of 8-bit limited range.
    for number in (19, 0, 7, 12):
        assert abs(int(faces.image(number)[0, 0, 0]) - 10 * number) <= 2
        assert faces.read._kept_bytes() <= 2 * 4 * 16 * 16 * 3
