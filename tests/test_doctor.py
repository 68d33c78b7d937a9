"""The doctor finds what is missing or broken, says what to run, and needs no network."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from opticaldr import doctor


@pytest.fixture
def broken_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package that fails on import the way a mismatched wheel does."""
    name = "opticaldr_test_broken_wheel"
    folder = tmp_path / "site" / name
    folder.mkdir(parents=True)
    message = "operator torchvision::nms does not exist"
    (folder / "__init__.py").write_text(f"raise RuntimeError({message!r})\n")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    return name


def test_diagnosis_covers_the_machine_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("the doctor must not open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("OPTICALDR_CACHE", str(tmp_path))
    checks = {check.name: check for check in doctor.diagnose(tmp_path)}
    assert {"python", "torch", "cuda", "accelerate", "av", "dlib", "dlib weights"} <= set(checks)
    assert {"onnxruntime", "torchvision", "cache folder", "disk"} <= set(checks)
    assert checks["python"].status == checks["torch"].status == "ok"
    unhelpful = [c.name for c in checks.values() if c.status != "ok" and not c.remedy]
    assert set(unhelpful) <= {"cuda"}  # a CPU build needs no repair


def test_recognisers_are_looked_up_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTICALDR_CACHE", str(tmp_path))
    weights = tmp_path / "recognisers" / "fr_feature.safetensors"

    def found() -> doctor.Check:
        return next(check for check in doctor.diagnose(tmp_path) if check.name == "fr_feature")

    assert found().status == "missing"
    assert found().remedy == "opticaldr recognisers fetch fr_feature"
    weights.parent.mkdir()
    weights.touch()
    assert found().status == "broken"
    weights.write_bytes(b"weights")
    assert found().status == "ok"


def test_package_that_is_not_there_is_missing() -> None:
    check = doctor.package("opticaldr_no_such_package", "pip install it")
    assert (check.status, check.remedy) == ("missing", "pip install it")


def test_package_that_does_not_import_is_broken(broken_package: str) -> None:
    check = doctor.package(broken_package, "pip install it")
    assert check.status == "broken"
    assert "operator torchvision::nms does not exist" in check.detail


def test_torchvision_that_does_not_match_torch_is_found(broken_package: str) -> None:
    check = doctor.torchvision(doctor.start_import(broken_package))
    assert check.status == "broken"
    assert "operator torchvision::nms does not exist" in check.detail
    assert "pip uninstall torchvision" in check.remedy


def test_torchvision_that_hangs_does_not_hang_the_doctor() -> None:
    sleeper = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], stderr=subprocess.PIPE, text=True
    )
    assert doctor.torchvision(sleeper, patience_s=0.1).status == "broken"
    assert sleeper.poll() is not None, "the process is gone"


def test_no_torchvision_is_what_we_want() -> None:
    assert doctor.start_import("opticaldr_no_such_package") is None
    assert doctor.torchvision(None).status == "ok"


def test_folder_that_cannot_be_written_is_found(tmp_path: Path) -> None:
    assert doctor.writable(tmp_path / "new" / "cache").status == "ok"
    assert list(tmp_path.iterdir()) == [], "looking leaves nothing behind"
    (tmp_path / "file").touch()
    check = doctor.writable(tmp_path / "file" / "cache")
    assert check.status == "broken"
    assert "OPTICALDR_CACHE" in check.remedy


def test_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE_BYTES_WANTED", 10**18)
    disk = next(check for check in doctor.diagnose(tmp_path) if check.name == "disk")
    assert disk.status == "missing"
    assert "expected 1000000000 GB" in disk.detail
