"""`opticaldr data check`: what is counted, and that everything wrong is said."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from avec_layouts import avec2014, copy_of, write_labels, write_video
from opticaldr.cli.app import main
from opticaldr.data.avec import EXPECTED
from opticaldr.data.check import check
from opticaldr.media import write_image
from opticaldr.types import InputError


@pytest.fixture(scope="module")
def avec(tmp_path_factory) -> Path:
    return avec2014(tmp_path_factory.mktemp("avec") / "2014")


def run(arguments: list[str], monkeypatch, capsys) -> tuple[int, str, str]:
    """Exit code, output and errors of the command."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["opticaldr", "data", "check", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    text = capsys.readouterr()
    return ended.value.code or 0, text.out, text.err


# --- counts -------------------------------------------------------------------------------------


def test_counts_of_avec(avec):
    found = check(f"avec2014={avec}")
    assert found.usable
    assert found.splits["train"] == {"people": 3, "sessions": 3, "recordings": 6, "images": 18}
    assert found.splits["test"] == {"people": 2, "sessions": 2, "recordings": 4, "images": 12}
    assert (found.left_out, found.unreadable, found.duplicates, found.expected) == ({}, {}, [], "")


def test_labels_are_counted_by_session_and_band(avec):
    train = check(f"avec2014={avec}").severity["train"]
    # 3, 17 and 30: minimal, mild and severe
    assert train["bands"] == {"minimal": 1, "mild": 1, "moderate": 0, "severe": 1}
    assert (train["sessions"], train["lowest"], train["highest"]) == (3, 3.0, 30.0)
    assert train["mean"] == pytest.approx(50 / 3)


def test_people_in_two_partitions_are_counted(avec):
    found = check(f"avec2014={avec}")
    assert found.shared == [
        {"splits": ["train", "dev"], "people": 1, "sessions": {"train": 1, "dev": 1}},
        {"splits": ["train", "test"], "people": 1, "sessions": {"train": 1, "test": 1}},
    ]
    assert any(
        text.startswith("The official splits share people: 1 of 2 test sessions show one of 1")
        for text in found.findings
    )


def test_every_protocol_is_counted(avec):
    assert check(f"avec2014={avec}").protocols == {
        "subject-disjoint": {"train": 3, "dev": 1, "test": 2, "left out": 1},
        "official-dev": {"train": 3, "dev": 2, "test": 2, "left out": 0},
        "official-traindev": {"train": 5, "dev": 0, "test": 2, "left out": 0},
    }


def test_expressions_of_a_manifest(tmp_path):
    rows = ["path,subject,split,emotion"]
    for number, (split, emotion) in enumerate(
        [("train", "sad"), ("train", "sad"), ("dev", "fear")]
    ):
        write_image(tmp_path / f"{number}.png", np.full((8, 8, 3), number, np.uint8))
        rows.append(f"{number}.png,p{number},{split},{emotion}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    found = check(f"manifest={tmp_path / 't.csv'}")
    assert found.emotions["train"]["sad"] == 2
    assert found.emotions["dev"]["fear"] == 1
    assert (found.severity, found.shared, found.protocols) == ({}, [], {})


# --- what is wrong ------------------------------------------------------------------------------


def test_all_problems_are_listed(avec, tmp_path):
    root = copy_of(avec, tmp_path / "x")
    write_labels(root / "label" / "DepressionLabels", {"901_1": ("", 64), "902_1": ("", "n/a")})
    found = check(f"avec2014={root}")
    assert not found.usable
    assert len(found.problems) == 2
    assert found.expected == EXPECTED["avec2014"]


def test_what_is_missing_shows_the_tree_but_does_not_stop(avec, tmp_path):
    root = copy_of(avec, tmp_path / "x")
    (root / "label" / "DepressionLabels" / "905_1_Depression.csv").unlink()
    found = check(f"avec2014={root}")
    assert found.usable
    assert len(found.left_out["no label"]) == 2
    assert found.expected == EXPECTED["avec2014"]


def test_broken_and_copied_videos(avec, tmp_path):
    root = copy_of(avec, tmp_path / "x")
    videos = root / "Training" / "Freeform"
    (videos / "901_1_Freeform_video.mp4").write_bytes(b"broken")
    copied = (videos / "902_1_Freeform_video.mp4").read_bytes()
    (videos / "903_1_Freeform_video.mp4").write_bytes(copied)
    found = check(f"avec2014={root}")
    assert found.splits["train"]["recordings"] == 5
    assert "901/901_1/Freeform: Expected a video" in found.left_out["does not open"][0]
    names = tuple(
        f"Training/Freeform/{session}_Freeform_video.mp4" for session in ("902_1", "903_1")
    )
    assert found.duplicates == [names]


def test_only_a_deep_check_reads_every_image(tmp_path):
    rows = ["path,subject,split"]
    for number in range(4):
        write_image(tmp_path / f"{number}.png", np.full((8, 8, 3), number // 2, np.uint8))
        rows.append(f"{number}.png,p{number},train")
    (tmp_path / "3.png").write_bytes(b"no image")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    spec = f"manifest={tmp_path / 't.csv'}"
    assert check(spec).unreadable == {}
    steps = []
    found = check(spec, deep=True, on_progress=lambda *step: steps.append(step))
    assert list(found.unreadable) == ["3.png"]
    assert "Expected an image" in found.unreadable["3.png"]
    assert found.duplicates == [("0.png", "1.png")]
    assert steps[-1] == ("reading", 4, 4)


def test_a_deep_check_finds_a_video_without_its_second_half(tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=10, width=32, height=32)
        for number in range(60):
            image = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv444p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    (tmp_path / "t.csv").write_text("path,subject,split\nv.mkv,p,train\n")
    spec = f"manifest={tmp_path / 't.csv'}"
    assert check(spec).splits["train"]["images"] == 3
    assert "found none after 2." in check(spec, deep=True).unreadable["v.mkv"]


def test_a_manifest_with_a_mistake(tmp_path):
    (tmp_path / "t.csv").write_text("path,subject,bdi\na.png,p,64\n")
    found = check(f"manifest={tmp_path / 't.csv'}")
    assert not found.usable
    assert "a.png in line 2" in found.problems[0] or "found '64'" in found.problems[0]


@pytest.mark.parametrize("spec", ["avec2015=/x", "synthetic", "avec2014", ""])
def test_an_unknown_name(spec):
    with pytest.raises(InputError, match="NAME=PATH with NAME one of avec2013, avec2014"):
        check(spec)


# --- the command --------------------------------------------------------------------------------


def test_the_command_prints_tables(avec, monkeypatch, capsys):
    code, out, err = run([f"avec2014={avec}"], monkeypatch, capsys)
    assert code == 0
    assert "subject-disjoint" in out
    assert "train and test" in out
    assert "Can be used: --data avec2014=" in out
    assert err == ""


@pytest.mark.parametrize("edition", ["avec2013", "avec2014"])
def test_an_empty_folder_prints_the_exact_tree_and_fails(tmp_path, monkeypatch, capsys, edition):
    code, out, err = run([f"{edition}={tmp_path}"], monkeypatch, capsys)
    assert code == 2
    assert EXPECTED[edition] in out
    assert "found 0 videos" in err
    assert "Can be used" not in out


def test_json(avec, tmp_path, monkeypatch, capsys):
    code, out, _ = run([f"avec2014={avec}", "--json"], monkeypatch, capsys)
    found = json.loads(out)
    assert code == 0
    assert found["usable"] is True
    assert found["protocols"]["subject-disjoint"]["left out"] == 1
    code, out, _ = run([f"avec2014={tmp_path / 'absent'}", "--json"], monkeypatch, capsys)
    assert (code, json.loads(out)["usable"]) == (2, False)


def test_names_outside_utf8_are_printed(avec, tmp_path, monkeypatch, capsys):
    root = copy_of(avec, Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")))
    write_video(root / os.fsdecode(b"Training/Jos\xe9.mp4"), "901_1")
    code, out, _ = run([f"avec2014={root}"], monkeypatch, capsys)
    assert code == 0
    assert r"Training/Jos\xe9.mp4" in out
    code, out, _ = run([f"avec2014={root}", "--json"], monkeypatch, capsys)
    assert json.loads(out)["path"].endswith(r"caf\xe9")
