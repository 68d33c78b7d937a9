"""The command line on bad days: one clear sentence, the right exit code, no traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from safetensors.torch import load_file

from opticaldr import camera as camera_module
from opticaldr.camera import load_camera, save_camera
from opticaldr.cli.app import app, main
from opticaldr.config import load_config, save_config
from opticaldr.results import read_json, validate, write_json
from opticaldr.types import InputError


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    def one_sentence(self) -> str:
        """The only line on standard error; no traceback, and a full stop or a hint at its end."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


Opticaldr = Callable[..., Outcome]
SHELL = [sys.executable, "-c", "from opticaldr.cli import main; main()"]
"""The command in a process of its own."""


@pytest.fixture
def opticaldr(monkeypatch, capsys) -> Opticaldr:
    """Runs the command line in this process."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["opticaldr", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return save_picture(tmp_path / "face.png")


def save_picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def small_lfw(root: Path, extra: str = "") -> Path:
    """Four people with two pictures, all in pairs.txt; `extra` is one more line of the list."""
    names = ["Ann", "Bo", "Cy", "Di"]
    for name in names:
        for number in (1, 2):
            save_picture(root / name / f"{name}_{number:04d}.jpg")
    mated = [f"{name} 1 2" for name in names]
    crossed = [f"{a} 1 {b} 2" for a, b in zip(names, names[1:] + names[:1], strict=True)]
    (root / "pairs.txt").write_text("\n".join(["1 4", *mated, *crossed, extra]) + "\n")
    return root


# --- help -------------------------------------------------------------------------------------


def all_commands() -> list[str]:
    """Names of all commands as they are typed."""
    found = [command.name or command.callback.__name__ for command in app.registered_commands]
    for group in app.registered_groups:
        inner: typer.Typer = group.typer_instance
        found += [
            f"{group.name or inner.info.name} {command.name or command.callback.__name__}"
            for command in inner.registered_commands
        ]
    return found


@pytest.mark.parametrize("command", all_commands())
def test_help_shows_an_example(command, opticaldr):
    shown = opticaldr(*command.split(), "--help")
    assert shown.code == 0
    text = " ".join(shown.out.split())
    assert f"Example: opticaldr {command}" in text
    assert not re.search(r" [.,](?= |$)", text)  # a unit in brackets is taken for markup and lost


def test_the_commands_of_the_contract_exist():
    promised = {"demo", "train", "capture", "predict", "evaluate", "attack", "report", "doctor"}
    assert promised <= set(all_commands())


def test_help_from_a_shell():
    done = subprocess.run(
        [*SHELL, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "capture" in done.stdout


# --- wrong paths and broken files -------------------------------------------------------------


def missing_folder(tmp_path: Path) -> Path:
    return tmp_path / "nowhere"


def empty_folder(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def truncated_jpeg(tmp_path: Path) -> Path:
    path = save_picture(tmp_path / "cut.jpg")
    path.write_bytes(path.read_bytes()[:600])
    return path


def text_named_jpg(tmp_path: Path) -> Path:
    path = tmp_path / "note.jpg"
    path.write_text("not a picture\n")
    return path


def empty_video(tmp_path: Path) -> Path:
    path = tmp_path / "empty.mp4"
    path.touch()
    return path


def unknown_suffix(tmp_path: Path) -> Path:
    path = tmp_path / "data.xyz"
    path.write_text("?")
    return path


BAD_INPUTS = {
    missing_folder: "Expected a file or folder at {}, found nothing; check the path.",
    empty_folder: "Expected images or videos in folder {}, found none",
    truncated_jpeg: "Expected a whole image in {}, found damaged or truncated data",
    text_named_jpg: "Expected an image in {}, found data that are none of JPEG",
    empty_video: "Expected a video in {}, found",
    unknown_suffix: "Expected an image or a video, found {} with suffix '.xyz'",
}


@pytest.mark.parametrize("make", BAD_INPUTS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("command", ["capture", "predict"])
def test_a_bad_input_is_one_sentence(command, make, opticaldr, tmp_path, run_folder):
    path = make(tmp_path)
    options = {
        "capture": ["--lens", "tiny", "-o", tmp_path / "out.png"],
        "predict": ["--model", run_folder],
    }
    outcome = opticaldr(command, path, *options[command])
    assert outcome.code == 2
    assert outcome.one_sentence().startswith(BAD_INPUTS[make].format(path))
    assert not (tmp_path / "out.png").exists()


def test_a_folder_with_broken_files_is_captured_as_far_as_possible(opticaldr, tmp_path):
    folder = tmp_path / "in"
    good = [save_picture(folder / name) for name in ("a.png", "deep/b.png", "c.jpg")]
    bad = [truncated_jpeg(folder), text_named_jpg(folder), empty_video(folder)]
    outcome = opticaldr("capture", "--lens", "tiny", folder, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "Captured 3 of 6" in outcome.out
    written = sorted(p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*.*"))
    assert written == sorted(p.relative_to(folder).with_suffix(".png") for p in good)
    lines = outcome.err.splitlines()
    assert lines[0] == "Could not read 3 of 6:"
    assert all(any(str(path) in line for line in lines[1:]) for path in bad)
    assert len(lines) == 4


def test_predict_goes_on_after_a_broken_file(opticaldr, tmp_path, run_folder):
    folder = tmp_path / "in"
    save_picture(folder / "b.png")
    text_named_jpg(folder)
    outcome = opticaldr("predict", "--model", run_folder, folder, "--json", "--no-detect")
    assert outcome.code == 2
    (line,) = outcome.out.splitlines()
    assert json.loads(line)["input"] == str(folder / "b.png")
    assert "note.jpg" in outcome.err


def test_two_inputs_that_become_one_file_are_refused(opticaldr, tmp_path):
    for name in ("in/a.png", "in/a.jpg"):
        save_picture(tmp_path / name)
    outcome = opticaldr("capture", "--lens", "tiny", tmp_path / "in", "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "found two that become" in outcome.one_sentence()
    assert not (tmp_path / "out").exists()


def test_a_pair_list_that_names_a_missing_picture(opticaldr, tmp_path):
    lfw = small_lfw(tmp_path / "lfw", extra="Ann 1 Eve 1")
    outcome = opticaldr("attack", "--lens", "tiny", "--data", f"lfw={lfw}", "--out", tmp_path / "a")
    assert outcome.code == 2
    assert "pairs.txt line 10 names Eve_0001.jpg" in outcome.one_sentence()


# --- wrong settings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("lens.coefficents_um=[1]", "did you mean 'lens.coefficients_um'?"),
        ("stages.step1.stepz=3", "did you mean 'stages.step1.steps'?"),
        ("lense.grid=3", "did you mean 'lens'?"),
        ("seed=-1", "seed must be 0 or above, found -1"),
        ("lens.pitch_m=0", "pitch_m must be above 0"),
        ("network.width=many", "Expected a valid value for 'network.width'"),
        ("seed", "Expected --set KEY=VALUE, found 'seed'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(setting, sentence, opticaldr, tmp_path):
    outcome = opticaldr("train", "--config", "tiny", "--set", setting, "--out", tmp_path / "run")
    assert outcome.code == 2
    assert sentence in outcome.one_sentence()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config", "tinny"], "Expected a preset (tiny, demo"),
        (["--config", "tiny", "--stages", "1,7"], "Expected --stages such as 1,2,3,4, found '1,7'"),
        (["--config", "tiny", "--stages", "all"], "Expected --stages"),
        (["--config", "tiny", "--data", "faces=x"], "NAME one of avec2013, avec2014, manifest"),
        (["--config", "tiny", "--resume"], "Expected a run to resume in"),
    ],
)
def test_a_wrong_training_option(arguments, sentence, opticaldr, tmp_path, synthetic_cache):
    outcome = opticaldr("train", *arguments, "--out", tmp_path / "run")
    assert outcome.code == 2
    assert sentence in outcome.one_sentence()


@pytest.mark.parametrize("depth", ["0", "-1", "nan", "inf"])
@pytest.mark.parametrize("command", ["capture", "predict", "attack"])
def test_depth_must_be_a_distance(command, depth, opticaldr, picture, tmp_path, run_folder):
    options = {
        "capture": [picture, "--lens", "tiny", "-o", tmp_path / "o.png"],
        "predict": [picture, "--model", run_folder],
        "attack": ["--lens", "tiny", "--out", tmp_path / "a"],
    }
    outcome = opticaldr(command, *options[command], "--depth", depth)
    assert outcome.code == 2
    assert outcome.one_sentence().startswith("Expected --depth above 0 m, found")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rungs", "A1,Z9"], "Expected --rungs out of A1, A2"),
        (["--rungs", ""], "Expected --rungs out of A1, A2"),
        (["--rungs", "A6"], "Expected --restorer FILE.onnx for rung A6"),
        (["--rungs", "A1", "--restorer", "r.onnx"], "Expected rung A6 with --restorer"),
        (["--tier", "quick"], "Expected --tier smoke, standard, publication, found 'quick'"),
        (["--pairs", "some"], "Expected --pairs all or official, found 'some'"),
        (["--pairs", "official"], "Expected --pairs official with lfw=PATH"),
        (["--data", "rafdb=x"], "Expected --data synthetic, lfw=PATH, celeba=PATH or manifest"),
        (["--data", "lfw=nowhere"], "Expected LFW at nowhere"),
        (["--read-noise", "0"], "Expected read noise above 0"),
        (["--bits", "99"], "0 to 16 bits, found"),
        (["--recogniser", "facenet"], "Expected a recogniser (dlib, mobilefacenet, fr_feature)"),
    ],
)
def test_a_wrong_attack_option(options, sentence, opticaldr, tmp_path):
    outcome = opticaldr("attack", "--lens", "disc:0.5", *options, "--out", tmp_path / "a")
    assert outcome.code == 2
    assert sentence in outcome.one_sentence()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("blur:3", "found 'blur:3'"),
        ("gaussian:-1", "Expected a number above 0 behind 'gaussian:'"),
        ("psf:negative.npy", "without negative values"),
        ("psf:bright.npy", "each channel of the PSF to sum to 1"),
        ("psf:nowhere.npy", "found no file"),
    ],
)
def test_a_wrong_camera(spec, sentence, opticaldr, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dot = np.zeros((5, 5))
    dot[2, 2] = 2
    np.save("bright.npy", dot)
    dot[2, 3] = -1
    np.save("negative.npy", dot)
    outcome = opticaldr("attack", "--lens", spec, "--out", tmp_path / "a")
    assert outcome.code == 2
    assert sentence in outcome.one_sentence()


def test_an_attack_needs_a_place(opticaldr):
    outcome = opticaldr("attack", "--lens", "tiny")
    assert outcome.code == 2
    assert outcome.one_sentence().startswith("Expected --out DIR for a lens that is not a run")


def test_a_recogniser_in_the_loss_never_judges(opticaldr, tmp_path):
    trained = load_camera("tiny")
    trained.trained_against = ("dlib",)
    save_camera(trained, tmp_path / "lens.json")
    outcome = opticaldr(
        "attack", "--lens", tmp_path / "lens.json", "--data", f"lfw={small_lfw(tmp_path / 'lfw')}",
        "--recogniser", "dlib", "--out", tmp_path / "a",
    )  # fmt: skip
    assert outcome.code == 2
    assert "not trained against, found 'dlib'" in outcome.one_sentence()


def test_a_wrong_option_shows_the_usage(opticaldr, picture):
    for arguments in (["capture", picture], ["predict", picture, "--deep", "1"], ["captur"]):
        outcome = opticaldr(*arguments)
        assert outcome.code == 2
        assert "Traceback" not in outcome.err
        assert "Usage" in outcome.err


# --- wrong lenses and weights -----------------------------------------------------------------


def edited_lens(path: Path, **changes: object) -> Path:
    """A lens.json changed by hand; its sha256 is made to match again."""
    save_camera(load_camera("tiny"), path)
    content = {k: v for k, v in read_json(path).items() if k != "sha256"} | changes
    content["sha256"] = camera_module._digest(content)
    path.write_text(json.dumps(content))
    return path


BENT = [0.0] * 3 + [-30.0] + [0.0] * 11


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"coefficients_um": [float("nan"), *BENT[1:]]}, "NaN"),
        ({"coefficients_um": [*BENT[:14], float("inf")]}, "infinity"),
        ({"coefficients_um": BENT[:3]}, "found a problem at '$.coefficients_um'"),
        ({"coefficients_um": [*BENT[:14], "thick"]}, "found a problem at '$.coefficients_um[14]'"),
        ({"pitch_m": -1e-6}, "pitch_m"),
        ({"wavelengths_m": "red"}, "found a problem at '$.wavelengths_m'"),
    ],
)
def test_a_lens_edited_by_hand(changes, sentence, opticaldr, picture, tmp_path):
    lens = edited_lens(tmp_path / "lens.json", **changes)
    outcome = opticaldr("capture", "--lens", lens, picture, "-o", tmp_path / "o.png")
    assert outcome.code == 2
    assert sentence in outcome.one_sentence()
    assert not (tmp_path / "o.png").exists()


def test_a_lens_that_does_not_match_its_fingerprint(opticaldr, picture, tmp_path):
    save_camera(load_camera("tiny"), tmp_path / "lens.json")
    content = read_json(tmp_path / "lens.json")
    content["coefficients_um"][3] += 0.5
    write_json(tmp_path / "lens.json", content)
    outcome = opticaldr(
        "capture", "--lens", tmp_path / "lens.json", picture, "-o", tmp_path / "o.png"
    )
    assert outcome.code == 2
    assert "to match its sha256" in outcome.one_sentence()


def test_weights_of_another_shape(opticaldr, picture, run_folder):
    config = load_config(run_folder, ["network.width=4"])
    save_config(config, run_folder / "config.toml")
    outcome = opticaldr("predict", "--model", run_folder, picture)
    assert outcome.code == 2
    assert "belongs to another [network] configuration" in outcome.one_sentence()


@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_damaged_weights(content, opticaldr, picture, run_folder):
    (run_folder / "weights.safetensors").write_bytes(content)
    outcome = opticaldr("predict", "--model", run_folder, picture)
    assert outcome.code == 2
    assert outcome.one_sentence().startswith("Expected network weights at")


def test_a_folder_that_is_no_run(opticaldr, picture, tmp_path):
    for command in (["predict", picture, "--model", tmp_path], ["evaluate", "--model", tmp_path]):
        outcome = opticaldr(*command)
        assert outcome.code == 2
        assert outcome.one_sentence().startswith("Expected a")


# --- wrong places to write --------------------------------------------------------------------


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system without a free byte; skipped where mounting is not permitted."""
    place = tmp_path / "full"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("mounting a tmpfs is not permitted here")
    with (place / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=20)


@pytest.mark.parametrize("target", ["o.png", "deep/o.png"])
def test_capture_onto_a_full_disk(target, opticaldr, picture, full_disk):
    outcome = opticaldr("capture", "--lens", "tiny", picture, "-o", full_disk / target)
    assert outcome.code == 2
    assert "No space left on device" in outcome.one_sentence()
    assert not list(full_disk.rglob("*.partial"))


def test_training_onto_a_full_disk(opticaldr, full_disk, synthetic_cache):
    outcome = opticaldr("train", "--config", "tiny", "--stages", "2", "--out", full_disk / "run")
    assert outcome.code == 2
    assert "No space left on device" in outcome.one_sentence()


def test_weights_that_do_not_fit_the_disk(full_disk):
    """safetensors hides the system's error; the sentence must still name the file."""
    import torch

    from opticaldr.tensors import save_tensors

    with pytest.raises(InputError, match=r"Expected to write .*w\.safetensors, found"):
        save_tensors({"a": torch.zeros(10_000)}, full_disk / "w.safetensors")
    assert [path.name for path in full_disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("command", ["capture", "train"])
def test_an_output_below_a_file(command, opticaldr, picture, tmp_path, synthetic_cache):
    (tmp_path / "file").write_text("in the way")
    place = tmp_path / "file" / "run"
    arguments = {
        "capture": ["--lens", "tiny", picture, "-o", place / "o.png"],
        "train": ["--config", "tiny", "--stages", "2", "--out", place],
    }
    outcome = opticaldr(command, *arguments[command])
    assert outcome.code == 2
    assert str(tmp_path / "file") in outcome.one_sentence()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(opticaldr, picture, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    outcome = opticaldr("capture", "--lens", "tiny", picture, "-o", tmp_path / "locked" / "o.png")
    assert outcome.code == 2
    assert "Permission denied" in outcome.one_sentence()


def test_an_output_with_an_unknown_suffix(opticaldr, picture, tmp_path):
    outcome = opticaldr("capture", "--lens", "tiny", picture, "-o", tmp_path / "o.gif")
    assert outcome.code == 2
    assert "Expected an image suffix in o.gif" in outcome.one_sentence()


# --- failed runs, Ctrl-C, --debug -------------------------------------------------------------


def test_a_failed_run_ends_with_1(opticaldr, tmp_path, synthetic_cache):
    outcome = opticaldr(
        "train", "--config", "tiny", "--stages", "2", "--out", tmp_path / "run",
        "--set", "stages.step2.optimisers.emotion.lr=1e30",
    )  # fmt: skip
    assert outcome.code == 1
    assert "The loss of stage 2 became" in outcome.one_sentence()


def test_ctrl_c_ends_with_130_and_a_hint(opticaldr, tmp_path, monkeypatch):
    def stopped(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("opticaldr.report.write_report", stopped)
    outcome = opticaldr("report", tmp_path)
    assert outcome.code == 130
    assert "--resume" in outcome.one_sentence()


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback(place, monkeypatch, tmp_path):
    command = ["capture", str(tmp_path / "nowhere"), "--lens", "tiny", "-o", str(tmp_path / "o")]
    line = ["--debug", *command] if place == "before" else [*command, "--debug"]
    monkeypatch.setattr(sys, "argv", ["opticaldr", *line])
    with pytest.raises(InputError, match="found nothing"):
        main()


def test_bad_input_from_a_shell(tmp_path):
    """The same in a real process: exit code 2, one line on stderr, a traceback only on request."""
    command = [*SHELL, "capture", str(tmp_path / "nowhere")]
    command += ["--lens", "tiny", "-o", str(tmp_path / "o.png")]
    plain = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert plain.returncode == 2
    assert len(plain.stderr.splitlines()) == 1
    assert plain.stderr.startswith("Expected a file or folder at")
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True, timeout=120)
    assert debug.returncode != 0
    assert "Traceback" in debug.stderr


# --- what works -------------------------------------------------------------------------------


def test_predict_prints_the_disclaimer_once(opticaldr, picture, run_folder):
    outcome = opticaldr("predict", "--model", run_folder, picture, picture, "--no-detect")
    assert outcome.code == 0
    text = " ".join(outcome.out.split())
    assert text.count("BDI-II") >= 2
    assert text.lower().count("not a diagnosis") == 1


def test_train_writes_a_run_that_loads(opticaldr, picture, tmp_path, synthetic_cache):
    run = tmp_path / "run"
    outcome = opticaldr("train", "--config", "tiny", "--stages", "2,3", "--out", run)
    assert outcome.code == 0, outcome.err
    names = {"config.toml", "lens.json", "weights.safetensors", "metrics.jsonl", "state"}
    names |= {"results.json", "calibration.json"}
    assert names <= {path.name for path in run.iterdir()}
    assert load_config(run).network.attribute_names  # filled in from the data
    before = load_file(run / "weights.safetensors")
    again = opticaldr("train", "--config", "tiny", "--stages", "2,3", "--out", run)
    assert again.code == 2
    assert "add --resume" in again.one_sentence()
    resumed = opticaldr("train", "--config", run, "--stages", "2,3", "--out", run, "--resume")
    assert resumed.code == 0, resumed.err
    after = load_file(run / "weights.safetensors")
    assert all((before[name] == after[name]).all() for name in before)
    other = opticaldr(
        "train", "--config", run, "--set", "seed=5", "--out", run, "--resume", "--stages", "2"
    )
    assert other.code == 2
    assert "found another; resume with --config" in other.one_sentence()
    assert opticaldr("predict", "--model", run, picture, "--no-detect").code == 0


def test_an_attack_leaves_a_card_and_raw_scores(
    opticaldr, tmp_path, small_tier, synthetic_cache, monkeypatch
):
    command = ["attack", "--lens", "gaussian:0.2", "--rungs", "A1,A2", "--out", tmp_path / "a"]
    outcome = opticaldr(*command)
    assert outcome.code == 0, outcome.err
    card = read_json(tmp_path / "a" / "privacy_card.json")
    validate(card, "privacy_card")
    assert card["tier"] == "smoke"
    assert card["data"]["synthetic"] is True
    assert card["data"]["ids"] == {"lens": 0, "attacker": 6, "test": 4}
    assert {row["rung"] for row in card["rungs"]} == {"A1", "A2"}
    assert f"Grade {card['grade']}" in outcome.out
    written = {path.name for path in (tmp_path / "a").rglob("*.*")}
    assert {"privacy_card.html", "A1.scores.parquet", "A2-25.scores.parquet"} <= written
    assert "results.json" not in written  # no run, so no table of a run

    def refused(*arguments: object, **options: object) -> None:
        raise AssertionError("nothing is attacked twice")

    monkeypatch.setattr("opticaldr.privacy.ladder._work", refused)
    assert opticaldr(*command).code == 0
    again = read_json(tmp_path / "a" / "privacy_card.json")
    assert again == card
    restarted = opticaldr(*command, "--restart")
    assert "nothing is attacked twice" in restarted.err


def test_an_attack_updates_the_tables_of_its_run(
    opticaldr, run_folder, small_tier, synthetic_cache, monkeypatch
):
    attack = import_module("opticaldr.attack")
    monkeypatch.setattr(attack, "BESIDE", ("focused",))  # literal takes 7 s
    assert opticaldr("attack", "--lens", run_folder, "--rungs", "A1,A2").code == 0
    rows = read_json(run_folder / "results.json")["privacy"]["attacks"]
    lenses = [f"untrained {run_folder}", "untrained focused"]
    assert [(row["lens"], row["rung"]) for row in rows] == [
        (lens, rung) for lens in lenses for rung in ("A1", "A2")
    ]
    assert len({row["clean_auc"]["value"] for row in rows}) == 1  # the same pairs for every lens
    assert len({row["pair_sha256"] for row in rows}) == 1
    before = read_json(run_folder / "results.json")
    elsewhere = ["attack", "--lens", "none", "--rungs", "A1", "--out", run_folder]
    assert opticaldr(*elsewhere).code == 0
    assert read_json(run_folder / "results.json") == before  # it tells of the run's own lens only
    other = opticaldr(*elsewhere, "--seed", "1")
    assert "because these changed: " in " ".join(other.out.split())
    assert "seed" in other.out


def test_a_stopped_attack_says_how_to_go_on(
    opticaldr, tmp_path, small_tier, synthetic_cache, monkeypatch
):
    def stopped(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("opticaldr.privacy.rungs.parrot.parrot", stopped)
    outcome = opticaldr("attack", "--lens", "none", "--rungs", "A1,A2", "--out", tmp_path / "a")
    assert outcome.code == 130
    assert "attack goes on with the same command" in outcome.one_sentence()
    assert (tmp_path / "a" / "scores" / "A1.json").exists()
