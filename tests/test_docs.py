"""The pages of the site: their examples run, their thresholds and names are those of the code."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from opticaldr import notices
from opticaldr.camera import load_camera
from opticaldr.privacy import grades, statements
from opticaldr.types import FACE_SHARE

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs/site"
PAGES = sorted(SITE.glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXPECTED = re.compile(r"^ *print\(.*\)  # (.+)$", re.MULTILINE)
WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


def examples(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def test_pages_are_found() -> None:
    assert {page.stem for page in WITH_CODE} == {page.stem for page in PAGES}  # each has one
    assert len(PAGES) == 9


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_examples_run_and_print_what_they_say(
    page, tmp_path, monkeypatch, run_folder, small_tier, synthetic_cache
) -> None:
    """Blocks of a page run in order in an empty folder that has a run "demo-run" in it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_folder, tmp_path / "demo-run")
    monkeypatch.setattr("opticaldr.api.detector_installed", lambda: False)  # the face fills it
    names: dict[str, object] = {"__name__": "__main__"}
    for number, code in enumerate(examples(page)):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"{page.name}, example {number}", "exec"), names)
        assert printed.getvalue().splitlines() == EXPECTED.findall(code)


def test_every_grade_stands_with_its_thresholds() -> None:
    text = (SITE / "privacy_card.md").read_text(encoding="utf-8")
    for step in grades.STEPS:
        cells = [
            step.grade,
            " ".join(step.rungs),
            f"{step.auc:.2f}",
            "–" if step.leak_ratio is None else f"{step.leak_ratio:g}",
            "–" if step.rank1 is None else f"{100 * step.rank1:g} %",
            "–" if step.worst_decile is None else f"{step.worst_decile:.2f}",
        ]
        assert f"| {' | '.join(cells)} |" in text
    flat = " ".join(text.split())
    assert f"an AUC of {grades.FAIL_AUC:.2f} or a leak ratio of {grades.FAIL_LEAK_RATIO:g}" in flat
    assert f"delta of at most {grades.CERTIFIED_DELTA:g}" in flat
    assert f"at most {grades.CERTIFIED_BITS:g} bit" in flat
    assert f"AUC is at most {grades.CHANCE_AUC:.2f}" in flat
    for grade, meaning in statements.MEANINGS.items():
        assert f"| {grade} | {meaning.removesuffix(' listed below.')}" in text


def test_every_rung_stands_in_the_threat_model() -> None:
    text = (SITE / "threat_model.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (A\d) \|", text, re.MULTILINE) == list(notices.RUNGS)


def test_every_function_beside_an_equation_exists() -> None:
    text = (SITE / "equations.md").read_text(encoding="utf-8")
    named = re.findall(r"`(opticaldr\.[\w.]+)`", text)
    assert len(named) > 25
    for name in named:
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function)), name


def test_numbers_of_the_threat_model_stand_in_the_results() -> None:
    results = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    text = (SITE / "threat_model.md").read_text(encoding="utf-8")
    figures = re.findall(r"\d\.\d{3} \[[\d., ]+\]", text)
    assert len(figures) == 6
    assert [figure for figure in figures if figure not in results] == []


def test_other_documents_that_pages_name_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"`(docs/\w+\.md)`", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), (page.name, name)


def test_the_gaussian_plate_is_what_its_page_says() -> None:
    lens = load_camera(SITE / "gaussian_lens.json").lens
    face_pixels = FACE_SHARE * lens.config.sensor_pixels
    for distance, sd in ((0.33, 0.33), (1.0, 0.30), (3.0, 0.29)):
        psf = lens.psf(torch.tensor([distance]))[0].double()
        line = psf.sum(1) / psf.sum((1, 2))[:, None]
        place = torch.arange(psf.shape[-1]) - psf.shape[-1] // 2
        spread = (line @ place.double().square()).sqrt() / face_pixels
        torch.testing.assert_close(spread, torch.full_like(spread, sd), atol=0.005, rtol=0)
        cycles = torch.arange(3.0, 13.0)[:, None].double() / face_pixels
        transfer = (torch.exp(-2j * math.pi * cycles * place) @ line.T.cdouble()).abs()
        assert float(transfer.max()) < 2e-3  # a disc as wide as the face: 4e-2 to 5e-3


def test_every_cited_source_is_explained() -> None:
    text = (ROOT / "docs/references.md").read_text(encoding="utf-8")
    known = set()
    for note in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        sections = re.findall(r"^### (\d+(?:\.\d+)?)", note, re.MULTILINE)
        known |= {(note.partition(".md")[0], section) for section in sections}
    cited = re.compile(r"\b(paper|optics|privacy|depression|faces)\.md (\d+(?:\.\d+)?)")
    found = {
        match
        for folder in ("src", "tests", "experiments", "docs")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".toml", ".md")
        for match in cited.findall(path.read_text(encoding="utf-8"))
    }
    assert len(found) > 40
    assert found - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_promise_nothing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"(?:ir|non-?)reversib|un-?break|anonym|guarant", text, re.IGNORECASE)


def test_the_start_page_carries_the_notices() -> None:
    text = " ".join((SITE / "index.md").read_text(encoding="utf-8").split())
    for part in ("not a diagnosis", "suicide risk", "US 12,651,379 B2", "US 2024/0021018 A1"):
        assert part in notices.DISCLAIMER + notices.PATENTS
        assert part in text


def test_the_site_builds_with_warnings_as_errors_and_loads_nothing_from_elsewhere(tmp_path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install 'opticaldr[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    built = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.html")}
    assert built.keys() >= {f"{page.stem}.html" for page in PAGES}
    for name, html in built.items():
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*?(?:src|href)=\"([^\"]+)\"", html)
        assert [url for url in loaded if re.match(r"(?:https?:)?//", url)] == [], name
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text())
