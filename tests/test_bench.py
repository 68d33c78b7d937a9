"""The benchmark at a tiny size: the shape of its answer, its yardstick, and that peers are right."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from typer.testing import CliRunner

from opticaldr.bench import measure, peers
from opticaldr.bench import optics as bench
from opticaldr.bench.reference import misplaced, reference_psfs
from opticaldr.cli.app import app
from opticaldr.config import NetworkConfig
from opticaldr.optics.system import OpticalSystem, focus_coefficient_um
from opticaldr.optics.transfer import psf_angular_spectrum
from opticaldr.types import InputError

TINY = bench.Size(
    grid=256,
    sensor_pixels=32,
    images=2,
    image_px=16,
    depths_per_batch=2,
    network=NetworkConfig(width=1, blocks=1, groups=1),
)
SYSTEM = OpticalSystem(grid=256, sensor_pixels=32, sensor_distance_m=35.5e-3 / 4)
"""A quarter of the presets in width and length: the same f-number, slopes and sensor pixels."""


@pytest.fixture(scope="module")
def report():
    """A run of one round, and what it told about its progress; memory as if measured."""
    told = []
    with pytest.MonkeyPatch.context() as patch:  # fourteen new processes take a minute
        patch.setattr(bench, "peak_mib", lambda prepare, *a, device: float(len(a)))
        found = bench.bench_optics(
            rounds=1, depths=2, size=TINY, on_progress=lambda *news: told.append(news)
        )
    return found, told


def test_answer_has_the_agreed_shape(report):
    found, _ = report
    json.dumps(found, allow_nan=False)
    assert found["benchmark"] == "optics"
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu"
    titles = [case["case"] for case in found["cases"]]
    assert titles == [
        "focused, 2 depths, forward",
        "focused, 2 depths, forward+backward",
        "literal, 2 depths, forward+backward",
        "optics step, 2 images of 16 px, 2 depths",
    ]
    for case in found["cases"]:
        assert case["ours_s"] > 0
        frames = 2
        assert case["frames_per_s"] == pytest.approx(frames / case["ours_s"])
        for peer in case["peers"].values():
            assert {"s", "ratio", "ratio_range", "error_tv", "peak_mib"} <= set(peer)
            if "missing" not in peer:
                low, high = peer["ratio_range"]
                assert 0 < low <= peer["ratio"] <= high
                # one round: the ratio is that of the two times
                assert peer["ratio"] == pytest.approx(peer["s"] / case["ours_s"])


def test_every_peer_is_listed_in_every_case(report):
    for case in report[0]["cases"][:3]:
        assert list(case["peers"]) == ["two-FFT", "torchoptics", "pado"]
    assert list(report[0]["cases"][3]["peers"]) == [bench.SANET]


def test_memory_of_an_engine_is_measured():
    # the two-FFT path holds 2 depths x 3 colours x 384^2 complex64 (7 MB) for the backward pass
    case = bench.PsfCase("focused", 2, True, TINY, "cpu")
    found = measure.peak_mib(bench.prepare_psf, "two-FFT", case, device=torch.device("cpu"))
    assert 7 < found < 500


def test_progress_reaches_its_total(report):
    last = {what: (done, total) for what, done, total in report[1]}
    assert all(done == total for done, total in last.values())
    assert "float64 reference" in last


def test_absent_peer_is_listed_as_missing(monkeypatch):
    absent = dataclasses.replace(peers.ENGINES["pado"], module="no_such_module")
    monkeypatch.setitem(peers.ENGINES, "pado", absent)
    monkeypatch.delitem(peers.ENGINES, "torchoptics")
    monkeypatch.setattr(bench, "peak_mib", lambda *a, **k: 1.0)
    case = bench.PsfCase("focused", 1, False, TINY, "cpu")
    reference = bench._yardsticks([case], lambda *news: None)["focused"]
    row = bench._psf_case(case, 1, reference, lambda *news: None)
    assert row["peers"]["pado"]["missing"] == "pip install pado-optics"
    assert row["peers"]["pado"]["s"] is None
    assert row["peers"]["two-FFT"]["s"] > 0


@pytest.mark.parametrize("name", list(peers.ENGINES))
def test_engines_compute_the_same_light(name):
    engine = peers.ENGINES[name]
    if engine.missing:
        pytest.skip(f"{name} is not installed: {engine.missing}")
    lens = torch.zeros(15)
    lens[3] = focus_coefficient_um(SYSTEM, 0.25)
    lens[7], lens[1] = 0.2, 0.3  # coma and tilt: a mirrored or shifted axis would show
    depths = torch.tensor([0.15, 0.4])
    reference = getattr(reference_psfs(lens, depths, SYSTEM), engine.axis)
    # measured 1.7e-3 (ours), 3e-3 (peers: hard-edged aperture of 254 samples), 5e-3 (two-FFT:
    # paraxial besides); an axis off by a tenth of a sensor pixel gives 3e-2
    assert misplaced(engine.psf(lens, depths, SYSTEM), reference) < 7e-3


def test_yardstick_agrees_with_the_angular_spectrum_engine():
    lens = torch.zeros(15, dtype=torch.float64)
    lens[3] = focus_coefficient_um(SYSTEM, 0.25)
    depths = torch.tensor([0.15], dtype=torch.float64)
    fine = dataclasses.replace(SYSTEM, sensor_pixels=256)
    ours = psf_angular_spectrum(lens, depths, fine)
    yardstick = reference_psfs(lens, depths, fine).sample
    # hard against grey edge of an aperture of 254 samples
    assert misplaced(ours, yardstick) < 1e-2


def test_yardstick_keeps_its_light():
    lens = torch.zeros(15)
    lens[3] = focus_coefficient_um(SYSTEM, 0.25)
    reference = reference_psfs(lens, torch.tensor([0.25]), SYSTEM)
    for psf in (reference.pixel, reference.sample, reference.area):
        total = psf.sum((-2, -1))
        assert ((total > 0.97) & (total <= 1 + 1e-9)).all()  # rings outside 0.94 mm
        brightest = psf[0, 1].flatten().argmax()
        assert divmod(int(brightest), 32) == (16, 16)


def test_misplaced_is_the_share_that_moved():
    a, b = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 16, 16)
    a[..., 4, 4] = 1.0
    b[..., 8, 8], b[..., 8, 9] = 0.9, 0.1
    assert misplaced(a, b) == pytest.approx(0.1, abs=1e-7)  # float32


def hold(mebibytes):
    """Work that holds a block of memory for a moment (runs in another process)."""
    return lambda: torch.ones(mebibytes, 2**18).sum()


def test_peak_memory_sees_a_block_of_known_size():
    found = measure.peak_mib(hold, 200, device=torch.device("cpu"))
    assert found == pytest.approx(200, abs=20)  # the allocator's own pages


def test_quick_work_is_repeated():
    calls = []
    seconds = measure.seconds_per_call(lambda: calls.append(1), torch.device("cpu"))
    assert len(calls) > 100
    assert seconds < measure.SHORTEST_S / 100


def test_unknown_device_is_refused():
    with pytest.raises(InputError, match="found 'tpu'"):
        bench.bench_optics(rounds=1, depths=1, device="tpu")


def test_command_prints_json_and_a_table(monkeypatch, report):
    monkeypatch.setattr(bench, "bench_optics", lambda **options: report[0])
    done = CliRunner().invoke(app, ["bench", "optics", "--json"])
    assert json.loads(done.stdout) == report[0]
    table = CliRunner().invoke(app, ["bench", "optics"])
    assert table.exit_code == 0
    assert "two-FFT" in table.stdout
    refused = CliRunner().invoke(app, ["bench", "optics", "--rounds", "0"])
    assert refused.exit_code == 2
