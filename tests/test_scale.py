"""More than one process, thread, piece or life: the same numbers, and what happens when one fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from opticaldr import experiment
from opticaldr.camera import describe_camera
from opticaldr.checkpoint import BAD_FILES, STATE, Progress, best_of, load_state, save_state
from opticaldr.config import load_config, save_config
from opticaldr.data.batches import GroupedFaces
from opticaldr.data.draws import Draw, cut, cut_for, draw_step
from opticaldr.data.faceset import FaceSet
from opticaldr.data.loading import AHEAD, Loader, Share
from opticaldr.data.sources import Sources
from opticaldr.faces import embedder
from opticaldr.interrupt import PatientInterrupt
from opticaldr.model import build_model
from opticaldr.results import read_json
from opticaldr.seeds import generator_for
from opticaldr.sensor import Sensor
from opticaldr.train import TrainingData
from opticaldr.types import FaceRecord, InputError
from training import (
    ToyRecogniser,
    copied,
    drawn_data,
    metrics_of,
    same_bits,
    trainer_for,
    with_stage,
)
from two_processes import BAD, base_config, damaged, play, unreadable

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return drawn_data()


# --- two processes and one --------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenarios, played by two processes over gloo."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    joint = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, str(HERE / "two_processes.py"), str(folder)]
    running = []
    for rank in ("0", "1"):
        own = {"RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command,
            env={**os.environ, **joint, **own},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
    try:
        said = [process.communicate(timeout=500)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenarios that end, played by this process."""
    folder = tmp_path_factory.mktemp("one")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the bad file
        for name in ("with_pairs", "with_dropout", "in_pieces"):
            play(name, folder)
    return folder


@pytest.mark.parametrize("name", ["with_pairs", "with_dropout", "in_pieces"])
def test_two_processes_compute_what_one_does(name, one, two):
    alone, together = metrics_of(one / name), metrics_of(two / name)
    assert [m["step"] for m in together] == [m["step"] for m in alone]
    for a, b in zip(alone, together, strict=True):
        # Sums over rows are ordered otherwise: 1e-7 each, 1e-5 in a gradient through thirty
        # layers, and more after an optimiser has divided small gradients by their size.
        tolerance = 1e-4 if a["step"] <= 1 else 1e-2
        assert set(a) == set(b)
        for key in (key for key in a if key not in ("split", "step", "stage")):
            assert b[key] == pytest.approx(a[key], rel=tolerance, abs=1e-6), (a["step"], key)


def test_only_one_process_writes_and_a_bad_file_is_written_once(two):
    for name in ("with_pairs", "with_dropout"):
        steps = [(m["split"], m["step"]) for m in metrics_of(two / name)]
        assert len(steps) == len(set(steps))
    lines = (two / "with_dropout" / BAD_FILES).read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == [BAD]
    assert not (two / "with_pairs" / BAD_FILES).exists()


def ends(two: Path, name: str) -> list[str]:
    return [json.loads((two / f"{name}.{rank}.json").read_text())["end"] for rank in (0, 1)]


def test_ctrl_c_on_one_process_stops_all_at_the_same_step(two, data):
    assert ends(two, "interrupted") == ["KeyboardInterrupt: "] * 2
    assert Progress.read(two / "interrupted").step == 3


def test_one_process_goes_on_where_two_stopped(two, data, tmp_path):
    shutil.copytree(two / "interrupted", tmp_path / "resumed")
    trainer_for(base_config(), data, tmp_path / "resumed").fit([2], resume=True)
    trainer_for(base_config(), data, tmp_path / "whole").fit([2])
    resumed, whole = metrics_of(tmp_path / "resumed"), metrics_of(tmp_path / "whole")
    assert [m["step"] for m in resumed] == [m["step"] for m in whole]
    losses = [[m["loss"] for m in run] for run in (resumed, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # as above, three steps of Adam on


def test_all_processes_stop_with_the_sentence_of_the_one_that_cannot_read(two):
    said = ends(two, "broken")
    assert said[0] == said[1]
    assert said[0].startswith("InputError: drawn: expected at most 5% unreadable files, found")


def test_batches_need_a_group_for_every_part(data, tmp_path):
    training = base_config().training.model_copy(update={"gradient_accumulation": 4})
    config = base_config().model_copy(update={"training": training})
    with pytest.raises(InputError, match=r"each of 4 parts .* stage 3 .*found 3; use fewer"):
        trainer_for(config, data, tmp_path).fit([3])


# --- parts of a batch -------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_parts_hold_whole_groups_and_all_of_them(parts):
    groups = [7, 7, 7, 1, 4, 4, 9, 9, 9, 9, 2]
    rows = cut(groups, parts)
    assert [row for run in rows for row in run] == list(range(len(groups)))
    held = [{groups[row] for row in run} for run in rows]
    assert all(not a & b for i, a in enumerate(held) for b in held[:i])
    assert max(map(len, held)) - min(map(len, held)) <= 1
    draw = Draw(tuple(range(len(groups))), tuple(groups), torch.ones(len(groups)))
    for processes in (1, 2):  # what a piece is does not depend on who works on it
        pieces = cut_for(draw, processes, 2)
        assert [(p[0].start, p[-1].stop) for p in pieces] == [(0, 4), (4, 11)]


def test_a_part_of_a_batch_sees_the_noise_of_the_whole(tiny_config):
    sensor = Sensor(tiny_config.sensor).train()
    light = torch.rand(6, 3, 8, 8, generator=generator_for(0))
    whole = sensor(light, generator=generator_for(1))
    part = sensor(light[2:5], generator=generator_for(1), first=2, total=6)
    assert torch.equal(part, whole[2:5])
    assert not torch.equal(sensor(light[2:5], generator=generator_for(1)), whole[2:5])


def first_gradients(config, data, run: Path, pieces: int) -> tuple[dict, dict[str, torch.Tensor]]:
    """Metrics and gradients of the first step of stage 4."""
    training = config.training.model_copy(update={"gradient_accumulation": pieces})
    config = with_stage(config.model_copy(update={"training": training}), 4, steps=1)
    trainer, seen = trainer_for(config, data, run), {}
    with torch.no_grad():  # else the head starts at one constant and passes no gradient on
        trainer.model.network.depression.head[-1].weight.fill_(0.1)
    real = trainer._gradients

    def noted(*args):
        metrics = real(*args)
        named = trainer.model.named_parameters()
        seen.update({n: p.grad.clone() for n, p in named if p.grad is not None})
        return metrics

    trainer._gradients = noted
    trainer.fit([4])
    metrics = next(m for m in metrics_of(run) if m["split"] == "train")
    return metrics, seen


def test_pieces_add_up_to_the_gradient_of_the_whole_batch(tiny_config, data, tmp_path):
    """Stage 4 keeps batch statistics; labels are missing unevenly, so means must be weighted."""
    records = [
        replace(r, severity=float("nan")) if r.person in ("p6", "p7", "p8") else r
        for r in data.training["recordings"].records
    ]
    faces = [
        replace(r, attributes=(), landmarks=r.landmarks if i % 3 else ())
        if r.person in ("p0", "p1")
        else r
        for i, r in enumerate(data.training["faces"].records)
    ]
    training = {
        **data.training,
        "recordings": replace(data.training["recordings"], records=tuple(records)),
        "faces": replace(data.training["faces"], records=tuple(faces)),
    }
    data = replace(data, training=training)
    config = with_stage(tiny_config, 4, groups_per_batch=6)
    weights = config.losses.model_copy(update={"verification": 0.0, "slope": 0.1})
    config = config.model_copy(update={"losses": weights})
    whole, expected = first_gradients(config, data, tmp_path / "1", 1)
    pieces, found = first_gradients(config, data, tmp_path / "3", 3)
    assert pieces["slope"] == pytest.approx(whole["slope"], rel=1e-5)
    for name in ("loss", "depression", "utility", "identity"):
        assert pieces[name] == pytest.approx(whole[name], rel=1e-5)  # float32 sums
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        # rounding of float32 sums, against the largest entry of a tensor
        atol = 1e-4 * float(gradient.abs().max()) + 1e-9
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=atol)


def test_a_piece_sees_its_own_pairs_only(tiny_config, data, tmp_path):
    config = with_stage(tiny_config, 4, groups_per_batch=4)
    whole, _ = first_gradients(config, data, tmp_path / "1", 1)
    pieces, _ = first_gradients(config, data, tmp_path / "2", 2)
    assert pieces["utility"] == pytest.approx(whole["utility"], rel=1e-5)
    assert abs(pieces["identity"] / whole["identity"] - 1) > 1e-3  # docs/scale.md says so


# --- mixed precision --------------------------------------------------------------------------


def test_bfloat16_stops_at_the_network(tiny_config, data, tmp_path):
    kinds: dict[str, set[torch.dtype]] = {}
    captures: dict[str, list[torch.Tensor]] = {"no": [], "bf16": []}
    losses = {}
    for precision in ("no", "bf16"):
        training = tiny_config.training.model_copy(update={"mixed_precision": precision})
        config = with_stage(tiny_config, 1, steps=1).model_copy(update={"training": training})
        trainer = trainer_for(config, data, tmp_path / precision)

        def note(name: str, module: nn.Module) -> None:
            def hook(module, inputs, output):
                kinds.setdefault(name, set()).add(output.dtype)

            module.register_forward_hook(hook)

        model = trainer.model
        note(f"{precision} layer", model.network.emotion.extract.stem[0])
        note(f"{precision} features", model.network.emotion.extract)
        note(f"{precision} lens", model.camera.lens)
        model.camera.sensor.register_forward_hook(
            lambda module, inputs, output, kept=captures[precision]: kept.append(output.detach())
        )
        trainer.fit([1])
        losses[precision] = [m["loss"] for m in metrics_of(tmp_path / precision)]
        assert not model.network.emotion.extract.in_bfloat16  # what is measured later is float32
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    half = {name for name, found in kinds.items() if torch.bfloat16 in found}
    assert half == {"bf16 layer"}
    assert all(found <= {torch.float32, torch.bfloat16} for found in kinds.values())
    assert torch.equal(captures["no"][0], captures["bf16"][0])  # before anything has learned
    assert losses["bf16"][0] != losses["no"][0]
    assert losses["bf16"] == pytest.approx(losses["no"], rel=0.02)  # eight bits of precision


# --- images that are read ahead ---------------------------------------------------------------


def shares(config, sets, steps: int):
    stage = config.stages.step3
    for step in range(steps):
        draws = draw_step(sets, stage, config, generator=generator_for(0, step))
        yield Share(step, draws, {r: range(len(d.groups)) for r, d in draws.items()})


def loaded(config, data: TrainingData, workers: int) -> tuple[list[dict], Loader]:
    sets = {"recordings": GroupedFaces.of(data.training["recordings"], "recordings")}
    loader = Loader(sets, size=32, augmented_by=(0, 3))
    return [batches for _, batches in loader.ahead(shares(config, sets, 5), workers)], loader


@pytest.mark.parametrize("bad", [False, True])
def test_any_number_of_readers_gives_the_same_batches(bad, tiny_config, data):
    data = damaged(data, lambda record: bad and record.key == BAD)
    runs = [loaded(tiny_config, data, workers) for workers in (0, 1, 3)]
    assert len(runs[0][0]) == 5
    bad_files = runs[0][1].take_fresh()
    assert [file.key for file in bad_files] == [BAD] * bad
    for batches, loader in runs[1:]:
        assert loader.take_fresh() == bad_files
        for a, b in zip(runs[0][0], batches, strict=True):
            assert torch.equal(a["recordings"].photos, b["recordings"].photos)
            assert torch.equal(a["recordings"].group, b["recordings"].group)


def load_rows(faces, draw: Draw, role="faces"):
    loader = Loader({role: GroupedFaces.of(faces, role)}, size=32)
    batch = loader.load(Share(0, {role: draw}, {role: range(len(draw.groups))}))[role]
    return batch, loader


def drawn(indices, groups) -> Draw:
    return Draw(tuple(indices), tuple(groups), torch.ones(len(indices)))


def photo(faces, index: int) -> torch.Tensor:
    return torch.tensor(faces.image(index)).permute(2, 0, 1) / 255.0


def test_a_bad_file_is_replaced_by_the_next_of_its_group(draw_faces):
    faces = draw_faces(range(30), 4)
    broken = unreadable(faces, lambda r: r.key in ("p1/3", "p1/0"))
    batch, loader = load_rows(broken, drawn([7, 5, 8, 9], [1, 1, 2, 2]))
    expected = [5, 5, 8, 9]  # after p1/3 comes p1/0, bad as well, then p1/1
    assert torch.equal(batch.photos, torch.stack([photo(faces, index) for index in expected]))
    assert batch.group.tolist() == [1, 1, 2, 2]
    points = torch.tensor([faces.records[index].landmarks for index in expected])
    torch.testing.assert_close(batch.landmarks, points)  # its labels come with it
    files = loader.take_fresh()
    assert [(f.data, f.key) for f in files] == [("drawn", "p1/3"), ("drawn", "p1/0")]
    assert "Expected an image in p1/3" in files[0].problem
    assert loader.take_fresh() == []


def test_a_bad_group_is_replaced_by_the_next_that_the_batch_does_not_hold(draw_faces):
    faces = draw_faces(range(60), 2)
    broken = unreadable(faces, lambda r: r.person == "p1")
    batch, _ = load_rows(broken, drawn([2, 3, 4, 5], [1, 1, 2, 2]))
    assert batch.group.tolist() == [3, 3, 2, 2]
    assert torch.equal(batch.photos[0], photo(faces, 6))


def test_too_many_bad_files_stop_the_run(draw_faces):
    faces = draw_faces(range(40), 4)
    broken = unreadable(faces, lambda r: int(r.person[1:]) % 2 == 1)  # every second person
    sentence = r"^drawn: expected at most 5% unreadable files, found 6 of \d+ read so far; run opti"
    with pytest.raises(InputError, match=sentence):
        load_rows(broken, drawn(range(40), [i // 4 for i in range(40)]))
    few = unreadable(faces, lambda r: r.key in ("p1/0", "p9/2", "p20/1", "p30/3"))  # 4 of 160
    _, loader = load_rows(few, drawn(range(160), [i // 4 for i in range(160)]))
    assert len(loader.take_fresh()) == 4


def test_a_replaced_file_is_named_once_and_training_goes_on(tiny_config, data, tmp_path):
    config = with_stage(tiny_config, 3, steps=4, validate_every=4, groups_per_batch=6)
    bad = damaged(data, lambda record: record.key == BAD)
    with pytest.warns(UserWarning, match=rf"Expected an image in {BAD}.* lists every such file"):
        trainer_for(config, bad, tmp_path).fit([3])
    lines = [json.loads(line) for line in (tmp_path / BAD_FILES).read_text().splitlines()]
    assert [(line["data"], line["key"]) for line in lines] == [("drawn", BAD)]
    assert [m["step"] for m in metrics_of(tmp_path) if m["split"] == "train"] == [1, 2, 3, 4]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # known already: neither a second warning nor a second line
        shutil.rmtree(tmp_path / STATE)
        trainer_for(config, bad, tmp_path).fit([3])
    assert len((tmp_path / BAD_FILES).read_text().splitlines()) == 1


def test_a_bad_file_among_the_validation_photos_is_named_too(
    tiny_config, data, draw_faces, tmp_path
):
    bad = unreadable(draw_faces(range(20, 26), 4), lambda record: record.key == "p21/2")
    sets = replace(data, validation={**data.validation, "faces": bad})
    config = with_stage(tiny_config, 1, steps=1, validate_every=1, losses=("utility",))
    with pytest.warns(UserWarning, match=r"Expected an image in p21/2"):
        trainer_for(config, sets, tmp_path).fit([1])
    lines = (tmp_path / BAD_FILES).read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["p21/2"]


def test_readers_stay_a_few_batches_ahead_and_no_more(tiny_config, draw_faces):
    faces, read = draw_faces(range(200), 3, recordings=True), []
    counted = replace(faces, read=lambda record: read.append(record.key) or faces.read(record))
    sets = {"recordings": GroupedFaces.of(counted, "recordings")}
    batch = 8  # four recordings, two frames each
    steps = Loader(sets, size=32).ahead(shares(tiny_config, sets, 30), 2)
    for done in range(1, 6):
        next(steps)
        deadline = time.monotonic() + 10
        while len(read) < (AHEAD + done) * batch and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(read) == (AHEAD + done) * batch
    before = threading.active_count()
    steps.close()
    deadline = time.monotonic() + 10
    while threading.active_count() >= before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() < before


def test_reading_hides_behind_the_step(tiny_config, draw_faces):
    """Four batches, each 0.1 s of reading and 0.1 s of work: 0.5 s, not 0.8 s."""
    faces = draw_faces(range(8), 3, recordings=True)

    def slow(record: FaceRecord):
        time.sleep(0.0125)  # a disk; eight frames a batch
        return faces.read(record)

    sets = {"recordings": GroupedFaces.of(replace(faces, read=slow), "recordings")}
    taken = {}
    for workers in (0, 1):
        started = time.perf_counter()
        for _ in Loader(sets, size=32).ahead(shares(tiny_config, sets, 8), workers):
            time.sleep(0.1)  # the step
        taken[workers] = time.perf_counter() - started
    # 1.6 s against 0.9 s, and a busy machine adds to both
    assert taken[1] < taken[0] - 0.3


def test_a_run_resumes_with_another_number_of_readers(tiny_config, tmp_path):
    save_config(tiny_config, tmp_path / "config.toml")
    fewer = load_config(tmp_path, ["training.loader_workers=0"])
    assert experiment._resumed(fewer, tmp_path).training.loader_workers == 0
    other = load_config(tmp_path, ["training.gradient_accumulation=2"])
    with pytest.raises(InputError, match="found another"):
        experiment._resumed(other, tmp_path)


# --- kill -9 ----------------------------------------------------------------------------------


def in_a_child(work: Callable[[], None]) -> int:
    """Runs something in a forked process; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_before_write(number: int, work: Callable[[], None]) -> int:
    """Like in_a_child, but a real SIGKILL comes before the n-th change of the file system."""
    changes = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}
    seen = []

    def watch(event: str, args: tuple) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & os.O_ACCMODE
        if event in changes or writes:
            seen.append(event)
            if len(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched() -> None:
        sys.addaudithook(watch)  # cannot be removed, which is why this is a child
        work()

    return in_a_child(watched)


def saved(run: Path, model: nn.Module, step: int) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=0.0)  # state, but weights that stay
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    best = best_of(model, 1.0 / step, step)
    save_state(run, model, {"emotion": optimiser}, best, Progress(1, step, (), {1: 0.0}))


@pytest.mark.parametrize("leftover", [None, "old"])
def test_a_kill_between_any_two_writes_leaves_a_whole_checkpoint(
    leftover, tiny_config, tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # slow, and a kill needs none
    first, second = build_model(tiny_config), build_model(tiny_config)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(0.5)
    start = tmp_path / "start"
    saved(start, first, 1)
    if leftover:  # an earlier kill came between the two renames
        (start / STATE).rename(start / f"{STATE}.old")
    reached, number, code = [], 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        number += 1
        run = tmp_path / str(number)
        shutil.copytree(start, run)
        code = killed_before_write(number, lambda run=run: saved(run, second, 2))
        reached.append(Progress.read(run).step)
        found = build_model(tiny_config)
        best = load_state(run, found, {"emotion": torch.optim.Adam(found.parameters())})
        assert best.step == reached[-1]
        assert same_bits(copied(found), copied([first, second][reached[-1] - 1]))
        saved(run, first, 3)  # and the next one is not disturbed by what lies about
        assert Progress.read(run).step == 3
        assert [path.name for path in run.iterdir()] == [STATE]
    assert code == 0
    assert reached == sorted(reached)
    assert reached[0] == 1
    assert reached[-1] == 2
    assert number > 10


def test_files_are_on_the_disk_before_a_folder_gets_its_name(tiny_config, tmp_path, monkeypatch):
    done: list[str] = []
    real_sync, real_rename = os.fsync, Path.rename

    def sync(handle: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        real_sync(handle)

    def rename(path: Path, target: Path) -> Path:
        done.append(f"{path.name} > {target.name}")
        return real_rename(path, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "rename", rename)
    saved(tmp_path, build_model(tiny_config), 1)
    files = {"model.safetensors", "best.safetensors", "optimiser_emotion.safetensors"}
    assert set(done[:3]) == files
    assert done[3:] == ["progress.json", "state.new", "state.new > state", tmp_path.name]


@pytest.mark.parametrize("after", [3, 8])
def test_a_run_killed_with_9_continues_bit_for_bit(after, tiny_config, data, tmp_path):
    config = with_stage(tiny_config, 2, steps=10, validate_every=2)
    whole = trainer_for(config, data, tmp_path / "whole")
    whole.fit([2])
    run = tmp_path / "killed"
    run.mkdir()
    child = os.fork()
    if child == 0:
        try:
            trainer_for(config, data, run).fit([2])
        finally:
            os._exit(0)
    metrics, deadline = run / "metrics.jsonl", time.monotonic() + 60
    while time.monotonic() < deadline:
        if metrics.exists() and metrics.read_text().count('"train"') >= after:
            break
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)  # in the middle of whatever it is doing now
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    resumed = trainer_for(config, data, run)
    with torch.no_grad():
        for parameter in resumed.model.parameters():
            parameter.add_(0.01)  # all must come from the disk
        if not (run / STATE).exists() and not (run / f"{STATE}.old").exists():
            resumed.model.load_state_dict(build_model(config).state_dict())
    resumed.fit([2], resume=True)
    assert same_bits(copied(resumed.model), copied(whole.model))
    assert metrics_of(run) == metrics_of(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_the_end_of_a_job_wait_for_the_step(number):
    before = signal.getsignal(number)
    with PatientInterrupt() as interrupt:
        os.kill(os.getpid(), number)
        assert interrupt.pending
        assert not interrupt.cut
        with pytest.raises(KeyboardInterrupt):  # a second one does not wait
            os.kill(os.getpid(), number)
        assert interrupt.cut
    assert signal.getsignal(number) is before


# --- what a stage may learn from --------------------------------------------------------------


def test_people_may_repeat_in_recordings_of_an_official_protocol_alone(draw_faces):
    train = draw_faces(range(6), 2, recordings=True)
    dev = draw_faces(range(4, 8), 2, recordings=True)
    with pytest.raises(InputError, match="differ in 'recordings', found 2 in both"):
        TrainingData({"recordings": train}, {"recordings": dev})
    TrainingData({"recordings": train}, {"recordings": dev}, "official-dev")
    with pytest.raises(InputError, match="differ in 'faces', found 2 in both"):
        TrainingData({"faces": train}, {"faces": dev}, "official-dev")


def test_without_validation_the_last_weights_stay(tiny_config, data, tmp_path):
    config = with_stage(tiny_config, 3, steps=2, validate_every=1)
    validation = {role: f for role, f in data.validation.items() if role != "recordings"}
    trainer = trainer_for(config, replace(data, validation=validation), tmp_path)
    seen = []
    trainer.on_step = lambda number, stage, done, metrics: seen.append(copied(trainer.model))
    trainer.fit([3])
    assert same_bits(copied(trainer.model), seen[-1])
    assert not same_bits(seen[0], seen[1])
    assert {m["split"] for m in metrics_of(tmp_path)} == {"train"}
    assert not (tmp_path / STATE / "best.safetensors").exists()


def captured(data: TrainingData, sha256: str, role: str) -> TrainingData:
    mark = {"captured_by": sha256}
    return replace(
        data,
        training={**data.training, role: replace(data.training[role], **mark)},
        validation={**data.validation, role: replace(data.validation[role], **mark)},
    )


def test_captures_go_through_no_lens_again(tiny_config, data, tmp_path):
    own = describe_camera(build_model(tiny_config).camera)["sha256"]
    config = with_stage(tiny_config, 3, steps=2, validate_every=1)
    trainer = trainer_for(config, captured(data, own, "recordings"), tmp_path)
    used = []
    trainer.model.camera.lens.register_forward_hook(lambda *_: used.append(1))
    trainer.fit([3])
    assert used == []
    assert [m["split"] for m in metrics_of(tmp_path)] == ["val", "train", "val", "train", "val"]


def test_captures_of_another_lens_and_a_lens_that_learns_are_refused(tiny_config, data, tmp_path):
    with pytest.raises(InputError, match=r"captures of this run's lens .* found captures of feed"):
        trainer_for(tiny_config, captured(data, "feed" * 16, "recordings"), tmp_path).fit([3])
    own = describe_camera(build_model(tiny_config).camera)["sha256"]
    with pytest.raises(InputError, match="clear faces in stage 4, which needs them for 'lens'"):
        trainer_for(tiny_config, captured(data, own, "recordings"), tmp_path).fit([4])


def test_a_later_stage_does_not_forget_who_shaped_the_lens(
    tiny_config, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(experiment, "open_surrogate", lambda *_, **__: ToyRecogniser())
    config = with_stage(with_stage(tiny_config, 1, steps=1), 2, steps=1)
    sources = Sources(training=data.training, validation=data.validation)
    experiment.train_run(config, sources, tmp_path, stages=[1], resume=False)
    first = read_json(tmp_path / "lens.json")
    config = load_config(tmp_path)
    experiment.train_run(config, sources, tmp_path, stages=[2], resume=True)
    assert first["trained_against"] == ["toy"]
    assert read_json(tmp_path / "lens.json") == first


# --- a set of CelebA's size -------------------------------------------------------------------


def many_people(count: int, read: list[str]) -> FaceSet:
    """Twenty photos each, scattered over the set as CelebA's are; some are damaged."""
    picture = torch.randint(0, 256, (16, 16, 3), generator=generator_for(0)).byte().numpy()

    def image(record: FaceRecord):
        read.append(record.person)
        if record.key.endswith("99"):  # one in a hundred
            raise InputError(f"Expected an image in {record.key}, found none; restore it.")
        return picture

    records = (FaceRecord(f"{i:06d}", person=f"p{i % (count // 20)}") for i in range(count))
    return FaceSet("many", tuple(records), image)


def test_a_surrogate_keeps_a_bounded_number_of_photos(monkeypatch):
    monkeypatch.setattr(embedder, "_MAX_PHOTOS", 200)
    read: list[str] = []
    faces = many_people(2000, read)
    embedder.train_embedder(faces, steps=1, size=16, generator=generator_for(1))
    assert len(read) == 200
    assert {read.count(person) for person in set(read)} == {20}
    broken = replace(
        faces, records=faces.records[99::100] + faces.records[:150]
    )  # 21 of 170: the ninth is too many
    with pytest.raises(InputError, match="Expected an image in 000899, found none"):
        embedder.train_embedder(broken, steps=1, size=16, generator=generator_for(1))
