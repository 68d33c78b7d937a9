"""Scores belong to their recordings; the test set is read under the protocol and on the record."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from opticaldr.camera import Camera, describe_camera
from opticaldr.config import load_config, save_config
from opticaldr.data.faceset import FaceSet
from opticaldr.data.sources import Sources
from opticaldr.evaluate import RecordingScore, by_session, pool, score_recordings, session_labels
from opticaldr.evaluation import evaluate_run
from opticaldr.experiment import train_run
from opticaldr.model import load_model
from opticaldr.optics.colour import srgb_to_linear
from opticaldr.results import read_json, validate
from opticaldr.types import InputError

evaluate = import_module("opticaldr.evaluate")  # the file; `opticaldr.evaluate` is a function


@pytest.fixture
def recordings(draw_faces) -> FaceSet:
    """Twelve people, one recording of three frames each."""
    return draw_faces(range(12), 3, split="test", recordings=True)


def test_scores_belong_to_their_recording_whatever_the_order(run_folder, recordings):
    model = load_model(run_folder)
    plain = {row.recording: row for row in score_recordings(model, recordings, seed=0)}
    order = np.random.default_rng(0).permutation(len(recordings)).tolist()
    mixed = {r.recording: r for r in score_recordings(model, recordings.subset(order), seed=0)}
    assert mixed == plain  # frames in time order, noise by recording: the very same numbers
    assert len({round(row.score, 6) for row in plain.values()}) > 6  # the scores do differ
    for number in range(12):
        assert plain[f"p{number}-s1"].label == 7 * number % 64
        assert plain[f"p{number}-s1"].person == f"p{number}"
    # nor does a score depend on what else is scored
    alone = recordings.subset([i for i, r in enumerate(recordings.records) if r.person == "p5"])
    (row,) = score_recordings(model, alone, seed=0)
    assert row.score == pytest.approx(plain["p5-s1"].score, abs=1e-4)  # float32 sums


def test_every_frame_counts_once(run_folder, draw_faces, monkeypatch):
    """One frame, and one more than fits into a clip, are no special cases."""
    monkeypatch.setattr(evaluate, "CLIP_FRAMES", 4)
    model = load_model(run_folder)
    long = draw_faces(range(1), 9, recordings=True)
    short = draw_faces(range(1, 3), 1, recordings=True)
    images = {r.key: image for faces in (long, short) for r in faces.records
              for image in [faces.read(r)]}  # fmt: skip
    faces = replace(long, records=long.records + short.records, read=lambda r: images[r.key])
    rows = score_recordings(model, faces, seed=0)
    assert [row.frames for row in rows] == [9, 1, 1]
    for row in rows:
        assert len(row.frame_scores) == row.frames
        assert row.score == pytest.approx(np.clip(np.mean(row.frame_scores), 0, 63))


def test_pooling_is_clamped_and_refuses_nothing_to_pool():
    scores = [0.0] + [10.0] * 8 + [60.0]
    assert pool(scores, "r") == pytest.approx(14.0)
    assert pool(scores, "r", "median") == 10.0
    assert pool(scores, "r", "trimmed") == 10.0  # a tenth left out at either end
    assert (pool([-5.0], "r"), pool([70.0], "r")) == (0.0, 63.0)
    with pytest.raises(InputError, match=r"'203_1', found no frame"):
        pool([], "203_1")
    with pytest.raises(InputError, match="found NaN"):
        pool([1.0, float("nan")], "r")


def test_labels_that_are_missing_or_contradict_are_refused(run_folder, recordings):
    model = load_model(run_folder)
    first, *rest = recordings.records
    for label, message in ((float("nan"), "found nan"), (64.0, "found 64"), (1.0, "with 1 and")):
        faces = replace(recordings, records=(replace(first, severity=label), *rest))
        with pytest.raises(InputError, match=message):
            score_recordings(model, faces, seed=0)


def test_captures_meet_no_second_lens(run_folder, recordings, monkeypatch):
    model = load_model(run_folder)
    own = describe_camera(model.camera)["sha256"]
    monkeypatch.setattr(Camera, "forward", lambda *_, **__: pytest.fail("blurred twice"))
    captured = replace(recordings, captured_by=own)
    rows = score_recordings(model, captured, seed=0)
    image = torch.from_numpy(captured.image(0)).permute(2, 0, 1)[None].float() / 255
    expected = model.network(srgb_to_linear(image)).severity
    assert rows[0].frame_scores[0] == pytest.approx(float(expected), abs=1e-3)  # points, float32
    with pytest.raises(InputError, match="captures of the lens abababababab; use the run"):
        score_recordings(model, replace(recordings, captured_by="ab" * 32), seed=0)


# --- units -----------------------------------------------------------------------------------


def scored(session: str, task: str, score: float, label: float = 10.0, **changes) -> RecordingScore:
    person = session.split("_")[0]
    row = RecordingScore(
        f"{person}/{session}/{task}", person, label, score, 5, f"{person}/{session}", task,
        ("f", "glasses"),
    )  # fmt: skip
    return replace(row, **changes)


def test_a_session_is_the_mean_of_its_tasks():
    rows = [
        scored("203_1", "Freeform", 12.0),
        scored("204_1", "Freeform", 30.0, 25.0),
        scored("203_1", "Northwind", 20.0, groups=("f", "")),
    ]
    first, second = by_session(rows)
    assert (first.recording, first.score, first.label, first.frames) == (
        "203/203_1",
        16.0,
        10.0,
        10,
    )
    assert first.groups == ("f", "")  # glasses in one task only: unknown for the session
    assert (second.recording, second.score) == ("204/204_1", 30.0)


def test_a_session_with_two_labels_is_refused():
    rows = [scored("203_1", "Freeform", 12.0, 10.0), scored("203_1", "Northwind", 12.0, 11.0)]
    with pytest.raises(InputError, match=r"session '203/203_1', found 10 in .* and 11 in"):
        by_session(rows)


def test_session_labels_count_each_session_once(draw_faces):
    faces = draw_faces(range(3), 4, recordings=True)
    tasks = tuple(
        replace(r, session="1", task=t, recording=f"{r.recording}/{t}")
        for r in faces.records for t in ("a", "b")
    )  # fmt: skip
    found = session_labels(replace(faces, records=tasks))
    assert [(label.person, label.label) for label in found] == [("p0", 0), ("p1", 7), ("p2", 14)]


# --- one reading -----------------------------------------------------------------------------


@pytest.fixture
def sources(draw_faces) -> Sources:
    return Sources(
        training={"recordings": draw_faces(range(100, 110), 1, split="train", recordings=True)},
        validation={"recordings": draw_faces(range(200, 205), 1, split="dev", recordings=True)},
        test=draw_faces(range(8), 2, split="test", recordings=True),
    )


def test_a_reading_is_complete_and_recorded(run_folder: Path, sources: Sources):
    found = evaluate_run(run_folder, sources)
    results = read_json(run_folder / "results.json")
    validate(results, "results")
    assert results["depression"] == found
    assert (found["protocol"], found["unit"]) == ("subject-disjoint", "recording")
    assert (found["mae"]["n"], found["people"]) == (8, 8)  # test alone: 5 dev recordings are not in
    labels = [7 * p % 64 for p in range(100, 110)]
    mean = np.abs(np.arange(0, 56, 7) - np.mean(labels)).mean()
    assert found["train_mean_mae"]["value"] == pytest.approx(mean)
    assert results["test_readings"][0]["count"] == 1
    assert found["conformal"] is None  # this run's calibration.json is an old one without widths

    again = evaluate_run(run_folder, sources, protocol="subject-disjoint")
    assert again == found
    readings = read_json(run_folder / "results.json")["test_readings"]
    assert [row["count"] for row in readings] == [1, 2]
    assert {(row["data"], row["protocol"]) for row in readings} == {("drawn", "subject-disjoint")}


def test_another_protocol_than_the_trained_one_is_refused(run_folder, sources):
    with pytest.raises(InputError, match=r"trained under \('subject-disjoint'\), found 'official"):
        evaluate_run(run_folder, sources, protocol="official-dev")
    assert not (run_folder / "results.json").exists()  # not read, so not recorded


def test_data_of_another_protocol_is_refused(run_folder, sources):
    with pytest.raises(InputError, match="split by 'subject-disjoint', as this run was trained"):
        evaluate_run(run_folder, replace(sources, protocol="official-traindev"))


def test_people_of_the_official_training_set_stand_apart_when_left_out(run_folder, sources):
    left_out = replace(sources, seen_people=frozenset({"p1", "p2", "p7"}))
    found = evaluate_run(run_folder, left_out)
    assert (found["seen"]["people"], found["unseen"]["people"], found["remembered"]) == (3, 5, 0)


def test_dev_and_test_are_never_pooled(run_folder, sources):
    pooled = replace(
        sources.test,
        records=sources.test.records + sources.validation["recordings"].records,
    )
    with pytest.raises(InputError, match="dev and test must never be pooled"):
        evaluate_run(run_folder, replace(sources, test=pooled))


def test_a_person_who_crosses_a_subject_disjoint_split_is_refused(run_folder, sources):
    known = sources.training["recordings"]
    crossing = tuple(replace(r, person="p3") if r.person == "p101" else r for r in known.records)
    training = {"recordings": replace(known, records=crossing)}
    with pytest.raises(InputError, match=r"found 1 that do \(such as 'p3'\)"):
        evaluate_run(run_folder, replace(sources, training=training))


def test_official_protocols_may_share_people_and_show_who_was_seen(run_folder, sources):
    config = load_config(run_folder).model_copy(update={"protocol": "official-dev"})
    save_config(config, run_folder / "config.toml")
    known = sources.training["recordings"]
    crossing = tuple(
        replace(r, person=f"p{int(r.person[1:]) - 98}") if r.person < "p104" else r
        for r in known.records
    )  # p100 .. p103 are p2 .. p5 of the test set
    training = {"recordings": replace(known, records=crossing)}
    found = evaluate_run(run_folder, replace(sources, training=training))
    assert (found["seen"]["n"], found["unseen"]["n"], found["remembered"]) == (4, 4, 4)
    # the look-up says person p's training label, 7 (p + 98) mod 64, where the truth is 7 p
    errors = [abs(7 * (p + 98) % 64 - 7 * p) for p in range(2, 6)]
    assert found["seen"]["look_up_mae"]["value"] == pytest.approx(np.mean(errors))
    assert found["unseen"]["look_up_mae"] == found["unseen"]["median_mae"]


def test_only_strangers_to_training_calibrate(tiny_config, draw_faces, sources, tmp_path):
    """Under official-dev, dev holds people of train; their errors would promise too much."""
    config = tiny_config.model_copy(update={"protocol": "official-dev"})
    dev = draw_faces(range(108, 130), 1, split="dev", recordings=True)  # 108 and 109 train
    other = tuple(replace(r, recording=f"{r.person}-s2") for r in dev.records)
    data = replace(
        sources, validation={"recordings": replace(dev, records=other)}, protocol="official-dev"
    )
    train_run(config, data, tmp_path, stages=[3], resume=False)
    assert read_json(tmp_path / "calibration.json")["n"] == 20
    found = evaluate_run(tmp_path, data)
    assert found["conformal"]["n"] == 20
    assert {level["coverage"]["n"] for level in found["conformal"]["levels"]} == {8}
    # without any stranger there is no calibration, and no interval
    seen = replace(dev, records=other[:2])
    bare = tmp_path / "bare"
    train_run(
        config, replace(data, validation={"recordings": seen}), bare, stages=[3], resume=False
    )
    assert not (bare / "calibration.json").exists()


def test_without_recordings_there_is_nothing_to_read(run_folder):
    with pytest.raises(InputError, match="in a train and a test split, found none"):
        evaluate_run(run_folder, Sources())
