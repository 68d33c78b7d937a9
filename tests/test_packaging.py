"""The wheel: built offline from the sources, with every data file, and with nothing else."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from itertools import chain
from pathlib import Path

import pytest

import opticaldr

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/opticaldr"
LARGEST = 2_000_000
"""Bytes of the largest file that belongs into the package: the baked head takes about a megabyte."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, so that nothing is left in the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(
        ROOT / "src",
        source / "src",
        ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
    )
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--wheel-dir", str(folder)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    return message_from_string(wheel.read(name).decode())


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel) -> None:
    found = {n for n in wheel.namelist() if ".dist-info/" not in n}
    wanted = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert found == wanted
    assert {"opticaldr/py.typed", "opticaldr/serve/static/index.html"} <= found
    suffixes = {Path(name).suffix for name in found}
    assert suffixes >= {".toml", ".json", ".j2", ".css", ".npz", ".html", ".js"}
    assert max(info.file_size for info in wheel.infolist()) < LARGEST


def test_metadata_say_what_it_is(metadata) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["Name"] == "opticaldr"
    assert metadata["Version"] == opticaldr.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    assert "A camera you can train" in metadata.get_payload()


def test_the_command_and_the_licence_are_in_the_wheel(wheel) -> None:
    (entry,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    assert "opticaldr = opticaldr.cli:main" in wheel.read(entry).decode()
    (licence,) = (n for n in wheel.namelist() if n.endswith("LICENSE"))
    assert wheel.read(licence).decode() == (ROOT / "LICENSE").read_text()


def test_the_wheel_runs_without_the_sources(wheel, tmp_path) -> None:
    wheel.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import opticaldr; from opticaldr.config import load_config\n"
        "assert opticaldr.__file__.startswith(sys.path[0]), opticaldr.__file__\n"
        "load_config('avec2014')\n"
        "print(opticaldr.synthetic_person(1, size=32).shape)\n"
        "print(opticaldr.Lens.load('focused').capture(opticaldr.synthetic_person(1)).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split("\n")[:2] == ["(32, 32, 3)", "(256, 256, 3)"], done.stderr


def test_the_version_stands_in_one_place() -> None:
    """Changelog and citation name it too, because they are read without the code."""
    version = opticaldr.__version__
    assert "version" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"]
    written = [
        path
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value == version
    ]
    assert written == [PACKAGE / "__init__.py"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(), re.M)


def test_every_requirement_is_pinned() -> None:
    """`make setup` installs with these versions; one that is missing would float."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {_plain(line.partition("==")[0]) for line in lines if "==" in line}
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {_plain(re.match(r"[\w.-]+", requirement)[0]) for requirement in wanted}
    assert names - {"opticaldr"} <= pinned


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
