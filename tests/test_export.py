"""ONNX graphs: the same numbers as PyTorch, what they say about themselves, and what is refused.

Exporting takes seconds, so four graphs are made once and shared.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from opticaldr import export, notices, onnx_check
from opticaldr.bench import predict as bench
from opticaldr.camera import Camera, describe_camera, load_camera, save_camera
from opticaldr.cli.app import app
from opticaldr.config import SensorConfig, load_config
from opticaldr.lens import Lens
from opticaldr.media import Input
from opticaldr.model import build_model, load_model, save_model
from opticaldr.onnx_graphs import HeadOnly, LensAtDepth, WithLens
from opticaldr.onnx_metadata import FOREIGN_LENS, UNMEASURED, describe_graph
from opticaldr.onnx_window import solve
from opticaldr.optics.colour import srgb_to_linear
from opticaldr.predict import Predictor
from opticaldr.results import update_results, write_json
from opticaldr.sensor import Sensor
from opticaldr.types import InputError

pytest.importorskip("onnxscript", reason="the extra [onnx] is not installed")
pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
import onnx

EXAMPLE = Path(__file__).parents[1] / "examples" / "onnx_predict.py"
MODES = ("frames", "moments", "dynamics")
HUNDRED = (16,) * 5 + (3,) * 6 + (1,) * 2
"""Batches of 100 captures in all."""
HALF_WIDTH = 25.0


def make_run(folder: Path, temporal: str) -> Path:
    """A run folder whose every reading depends on the capture."""
    config = load_config(
        "tiny",
        ['network.attribute_names=["light"]', f'network.temporal="{temporal}"'],
    )
    model = build_model(config)
    generator = torch.Generator().manual_seed(0)
    network = model.network
    with torch.no_grad():
        for layer, scale in ((network.depression.head[-1], 0.05), (network.emotion.landmarks, 0.1)):
            layer.weight.copy_(scale * torch.randn(layer.weight.shape, generator=generator))
        network.depression.head[-1].bias.fill_(0.3)
    save_model(model, config, folder)
    write_json(folder / "calibration.json", {"coverage": 0.9, "half_width": HALF_WIDTH, "n": 40})
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run folder per way of reading time."""
    folder = tmp_path_factory.mktemp("runs")
    return {mode: make_run(folder / mode, mode) for mode in MODES}


@pytest.fixture(scope="module")
def exported(runs, tmp_path_factory):
    """Both graphs of the run that reads mean and spread, as files."""
    folder = tmp_path_factory.mktemp("onnx") / "new" / "folder"
    return {graph.path.stem: graph for graph in export.export_run(runs["moments"], folder)}


@pytest.fixture(scope="module")
def heads(runs, exported):
    """The bytes of a head-only graph for every way of reading time."""
    made = {
        mode: export.to_onnx(HeadOnly(load_model(runs[mode]).network), size=32)
        for mode in ("frames", "dynamics")
    }
    contents = {mode: proto.SerializeToString() for mode, proto in made.items()}
    return contents | {"moments": exported["head_only"].path.read_bytes()}


def metadata_of(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


# --- the same numbers --------------------------------------------------------------------------


def test_with_lens_graph_agrees_with_pytorch_on_100_captures(runs, exported):
    model = load_model(runs["moments"])
    graph = WithLens(model.camera, model.network, depth_m=1.0)
    session = onnx_check.open_graph(exported["with_lens"].path.read_bytes())
    found = onnx_check.compare(graph, session, model, depth_m=1.0, batches=HUNDRED, seed=7)
    assert set(found) == {"capture", "severity", "emotion", "landmarks", "attributes"}
    assert max(found.values()) <= 1e-4  # the limit that export itself sets
    assert found["capture"] < 5e-6  # float32 rounding of light in [0, 1]


@pytest.mark.parametrize("mode", MODES)
def test_head_only_graph_agrees_with_pytorch_on_100_captures(mode, runs, heads):
    model = load_model(runs[mode])
    graph = HeadOnly(model.network)
    session = onnx_check.open_graph(heads[mode])
    found = onnx_check.compare(graph, session, model, depth_m=1.0, batches=HUNDRED, seed=8)
    assert max(found.values()) <= 1e-4
    assert found["landmarks"] > 0  # the two were computed apart


def test_capture_is_the_camera_s_own_with_the_same_draw(runs, exported):
    camera = load_camera(runs["moments"])
    generator = torch.Generator().manual_seed(3)
    photos = torch.rand(5, 3, 32, 32, generator=generator)
    stored = camera(
        srgb_to_linear(photos), torch.full((5,), 1.0), generator=torch.Generator().manual_seed(4)
    )
    draw = torch.Generator().manual_seed(4)
    torch.rand(5, 1, 1, 1, generator=draw)  # the sensor draws its noise level first
    noise = torch.randn(5, 3, 32, 32, generator=draw)
    session = onnx_check.open_graph(exported["with_lens"].path.read_bytes())
    inputs = {"picture": photos.numpy(), "noise": noise.numpy()}
    found = torch.from_numpy(session.run(["capture"], inputs)[0])
    steps = ((found - stored) * 255).abs()
    assert steps.max() < 1.01  # light halfway between two levels may round either way
    assert (steps > 0.01).float().mean() < 1e-3  # and does so rarely: errors are < 1e-3 of a level
    quiet = session.run(["capture"], inputs | {"noise": 0 * noise.numpy()})[0]
    assert np.abs(quiet - stored.numpy()).max() > 0.02  # zeros switch the noise (sd 0.01) off


def test_batch_size_is_free_and_a_window_has_one_score(heads):
    session = onnx_check.open_graph(heads["dynamics"])
    pictures = np.random.default_rng(0).random((7, 3, 32, 32), np.float32)
    times = np.arange(7.0) / 5
    whole = session.run(["severity", "emotion"], {"picture": pictures, "times_s": times})
    assert whole[0].shape == (1,)
    assert whole[1].shape == (7, 7)
    order = np.random.default_rng(1).permutation(7)
    mixed = session.run(["severity"], {"picture": pictures[order], "times_s": times[order]})
    # frames may come in any order; 1e-3 points is rounding on scores of some tens
    assert mixed[0] == pytest.approx(whole[0], abs=1e-3)
    faster = session.run(["severity"], {"picture": pictures, "times_s": times / 4})
    assert abs(faster[0] - whole[0]) > 0.1


@pytest.mark.parametrize("mode", ["moments", "dynamics"])
@pytest.mark.parametrize("times", ["shuffled", "gap", "same", "one"])
@torch.no_grad()
def test_a_window_is_read_as_the_network_reads_a_recording(mode, times, runs):
    network = load_model(runs[mode]).network
    generator = torch.Generator().manual_seed(5)
    time_s = {
        "shuffled": torch.rand(9, generator=generator) * 4,
        "gap": torch.tensor([0.0, 0.1, 0.2, 30.0, 30.1, 30.5]),
        "same": torch.full((4,), 2.0),
        "one": torch.zeros(1),
    }[times].double()
    photos = torch.rand(len(time_s), 3, 32, 32, generator=generator)
    window = torch.zeros(len(time_s), dtype=torch.long)
    expected = network(srgb_to_linear(photos), window, time_s).severity[:1]
    found = HeadOnly(network)(photos, time_s)[0]
    # 63 x 1e-4; what differs is rounding: other orders of sums, and a solve in float64
    torch.testing.assert_close(found, expected, rtol=0, atol=6.3e-3)


@pytest.mark.parametrize("border", ["zero", "reflect"])
@pytest.mark.parametrize(("pixels", "defocus_um"), [(32, -30.5), (33, -29.5), (96, -25.0)])
@torch.no_grad()
def test_constant_matrices_blur_as_the_lens_does(border, pixels, defocus_um):
    settings = (f"lens.sensor_pixels={pixels}", f'lens.border="{border}"', "lens.max_window=2048")
    camera = Camera(
        Lens(load_config("tiny", list(settings)).lens), Sensor(SensorConfig())
    ).requires_grad_(False)
    camera.lens.coefficients[3] = defocus_um
    camera.lens.coefficients[6] = 0.7  # coma: a blur without symmetry
    scene = torch.rand(2, 3, pixels, pixels, generator=torch.Generator().manual_seed(1))
    expected = camera.lens(scene, torch.full((2,), 0.7))
    found = LensAtDepth(camera, 0.7)(scene)
    # sums of some thousand products in float32; a shift by one pixel would change it by 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


def test_elimination_solves():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    matrix, right = root @ root.mT + 0.1 * torch.eye(4), torch.randn(4, 3, generator=generator)
    found = solve(matrix, right.double())
    torch.testing.assert_close(matrix @ found, right.double(), rtol=0, atol=1e-9)


# --- what a graph says about itself ------------------------------------------------------------


def test_metadata_says_what_goes_in_and_what_comes_out(runs, exported):
    sha256 = json.loads((runs["moments"] / "lens.json").read_text())["sha256"]
    for name in ("with_lens", "head_only"):
        found = metadata_of(exported[name].path)
        assert found["graph"] == name
        assert found["lens_sha256"] == found["trained_lens_sha256"] == sha256
        assert found["picture_size"] == "32"
        assert found["half_width"] == "25"
        assert found["temporal"] == "moments"
        assert found["disclaimer"] == notices.DISCLAIMER
        assert found["patents"] == notices.PATENTS
        assert found["synthetic"] == "unknown"
        assert UNMEASURED in found["notes"]
        assert found["attributes"].endswith("light")
    assert metadata_of(exported["with_lens"].path)["depth_m"] == "1"
    assert "depth_m" not in metadata_of(exported["head_only"].path)
    model = load_model(runs["dynamics"])
    moving = describe_graph(HeadOnly(model.network), model, runs["dynamics"], depth_m=1.0)
    assert "[s]" in moving["times_s"]
    assert "times_s" not in metadata_of(exported["head_only"].path)


def test_files_name_no_place_on_this_machine(exported):
    for graph in exported.values():
        contents = graph.path.read_bytes()
        for place in (b"site-packages", b"face_reader.py", str(Path(__file__).parents[1]).encode()):
            assert place not in contents
        onnx.checker.check_model(contents)


def test_a_folder_holds_the_two_graphs_and_nothing_else(exported):
    folder = exported["with_lens"].path.parent
    assert sorted(path.name for path in folder.iterdir()) == ["head_only.onnx", "with_lens.onnx"]


def test_rendered_people_and_a_foreign_lens_are_told(run_folder, tmp_path):
    sha256 = json.loads((run_folder / "lens.json").read_text())["sha256"]
    update_results(run_folder, synthetic=True, lens={"sha256": sha256})
    camera = load_camera(run_folder)
    camera.lens.coefficients[3] += 0.5
    save_camera(camera, tmp_path / "made.json")
    model = export._load(run_folder, tmp_path / "made.json")
    found = describe_graph(HeadOnly(model.network), model, run_folder, depth_m=1.0)
    assert found["synthetic"] == "true"
    assert notices.SYNTHETIC in found["notes"]
    assert FOREIGN_LENS in found["notes"]
    assert found["lens_sha256"] == describe_camera(camera)["sha256"] != sha256
    assert found["trained_lens_sha256"] == sha256
    assert found["half_width"] == "unknown"  # it was measured behind the run's own lens


# --- the example -------------------------------------------------------------------------------

BLOCKED = """
import runpy, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "opticaldr", "onnx"):
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Blocker())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_example(graph: Path, picture: Path) -> str:
    command = [sys.executable, "-c", BLOCKED, str(EXAMPLE), str(graph), str(picture)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_example_needs_neither_torch_nor_this_package(runs, exported, tmp_path):
    assert len(EXAMPLE.read_text().splitlines()) <= 20
    pixels = np.random.default_rng(2).integers(0, 256, (40, 60, 3), np.uint8)
    picture = tmp_path / "face.png"
    Image.fromarray(pixels).save(picture)
    told = run_example(exported["head_only"].path, picture)
    run = Predictor(runs["moments"], already_captured=True)
    score = run.predict(Input("image", picture)).score
    # half of the last digit shown, and the rounding of two ways to compute
    assert float(told.removeprefix("BDI-II ").split(";")[0]) == pytest.approx(score, abs=0.051)
    assert 1 < score < 62
    assert notices.DISCLAIMER in told
    assert "within 25 points" in told
    assert run_example(exported["with_lens"].path, picture).startswith("BDI-II ")


# --- what is refused ---------------------------------------------------------------------------


@pytest.fixture
def no_export(monkeypatch):
    """Fails if the exporter is reached."""
    monkeypatch.setattr(export, "to_onnx", lambda *a, **k: pytest.fail("exported"))


@pytest.mark.usefixtures("no_export")
def test_bad_inputs_are_refused_before_any_work(run_folder, tmp_path):
    to = tmp_path / "onnx"
    with pytest.raises(InputError, match=r"folder of a trained run with config\.toml"):
        export.export_run(tmp_path, to)
    for depth in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="depth above 0 m"):
            export.export_run(run_folder, to, depth_m=depth)
    with pytest.raises(InputError, match="sensor of 32 px, as in the run, found 256 px in focused"):
        export.export_run(run_folder, to, lens="focused")
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match=r"Expected to write .*taken"):
        export.export_run(run_folder, tmp_path / "taken" / "onnx")
    (run_folder / "weights.safetensors").unlink()
    with pytest.raises(InputError, match="Expected network weights"):
        export.export_run(run_folder, to)
    assert not to.exists()


@pytest.mark.usefixtures("no_export")
def test_weights_that_are_not_numbers_are_refused(run_folder, tmp_path):
    model = load_model(run_folder)
    model.network.emotion.emotion.bias[0] = float("nan")
    save_model(model, load_config(run_folder), run_folder)
    with pytest.raises(InputError, match=r"finite weights .* 'emotion\.emotion\.bias'"):
        export.export_run(run_folder, tmp_path / "onnx")


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize("package", export.PACKAGES)
def test_a_missing_extra_is_named_with_the_command(package, run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == package else name)
    with pytest.raises(
        InputError, match=rf"found no {package}; run: pip install 'opticaldr\[onnx\]'"
    ):
        export.export_run(run_folder, tmp_path / "onnx")


def damaged(path: Path, share: float) -> onnx.ModelProto:
    """A stored graph with one weight of the score changed by a share of itself."""
    proto = onnx.load(path)
    del proto.metadata_props[:]
    weight = next(w for w in proto.graph.initializer if "depression.head.4.bias" in w.name)
    values = onnx.numpy_helper.to_array(weight) * (1 + share)
    weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), weight.name))
    return proto


def test_a_graph_that_differs_is_not_left_behind(runs, exported, tmp_path, monkeypatch):
    stored = {name: graph.path for name, graph in exported.items()}
    share = {"with_lens": 0.0, "head_only": 1e-3}  # of 0.3: 3e-4 of the scale
    monkeypatch.setattr(
        export, "to_onnx", lambda graph, size: damaged(stored[graph.name], share[graph.name])
    )
    (tmp_path / "with_lens.onnx").write_text("from before")
    with pytest.raises(InputError, match=r"head_only\.onnx to agree .* in 'severity'; nothing was"):
        export.export_run(runs["moments"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["with_lens.onnx"]
    assert (tmp_path / "with_lens.onnx").read_text() == "from before"


def test_a_disk_that_fills_leaves_neither_graph(runs, exported, tmp_path, monkeypatch):
    stored = {name: damaged(graph.path, 0.0) for name, graph in exported.items()}
    monkeypatch.setattr(export, "to_onnx", lambda graph, size: stored[graph.name])
    write = Path.write_bytes

    def write_bytes(path, contents):
        write(path, contents[: len(contents) // 2])
        if "head_only" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, contents)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(InputError, match=r"head_only\.onnx, found 'No space left on device'"):
        export.export_run(runs["moments"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_is_no_number_is_refused(runs):
    model = load_model(runs["frames"])
    graph = HeadOnly(model.network)

    class Session:
        """Right answers, but for one logit of the first frame."""

        def run(self, names, inputs):
            answers = [value.numpy().copy() for value in graph(torch.from_numpy(inputs["picture"]))]
            answers[1][0, 2] = np.nan if len(answers[0]) == 1 else answers[1][0, 2]
            return answers

    found = onnx_check.compare(graph, Session(), model, depth_m=1.0, batches=(3,))
    onnx_check.refuse_difference("head_only", found)
    found = onnx_check.compare(graph, Session(), model, depth_m=1.0, batches=(1, 3))
    with pytest.raises(InputError, match="difference of nan in 'emotion'"):
        onnx_check.refuse_difference("head_only", found)


# --- commands ----------------------------------------------------------------------------------


def test_export_command(runs, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(
        export, "to_onnx", lambda graph, size: damaged(exported[graph.name].path, 0.0)
    )
    command = ["export", "--model", str(runs["moments"]), "--out", str(tmp_path / "onnx")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "severity" in done.output
    assert metadata_of(tmp_path / "onnx" / "head_only.onnx")["half_width"] == "25"


def test_bench_predict_has_the_shape_of_the_other_benchmarks(runs, exported, monkeypatch):
    monkeypatch.setattr(bench, "to_onnx", lambda graph, size: onnx.load(exported["head_only"].path))
    command = ["bench", "predict", "--config", str(runs["moments"]), "--rounds", "1"]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["benchmark"] == "predict"
    assert report["threads"] == torch.get_num_threads()
    assert [case["frames_per_s"] * case["ours_s"] for case in report["cases"]] == pytest.approx(
        list(bench.BATCHES)
    )
    for case in report["cases"]:
        peer = case["peers"]["PyTorch"]
        assert peer["ratio"] == pytest.approx(peer["s"] / case["ours_s"])
        assert {"ours_error_tv", "ours_peak_mib"} <= set(case)
    table = CliRunner().invoke(app, command)
    assert "PyTorch" in table.stdout
