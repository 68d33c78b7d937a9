"""The model card of a run: MODEL_CARD.md, filled from the JSON files that the run has left.

Sections follow Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019). Nothing is measured
here: what no file holds is said to be missing, in words. The page is laid out in
templates/model_card.md.j2, standing texts come from notices.py.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from opticaldr import notices
from opticaldr.privacy.words import check_words, scrub
from opticaldr.results import read_json, validate
from opticaldr.summary import number
from opticaldr.types import InputError

MODEL_CARD = "MODEL_CARD.md"
NOT_MEASURED = "not measured"

_MARKUP = re.compile(r"([\\`*_\[\]<>|#])")


@dataclass(frozen=True)
class RunFiles:
    """What a run folder holds; None for a file that is not there.

    settings: config.toml, empty if it is missing or does not parse.
    """

    name: str
    settings: dict[str, Any]
    lens: dict[str, Any] | None
    results: dict[str, Any] | None
    calibration: dict[str, Any] | None
    privacy: dict[str, Any] | None


def write_model_card(run: Path) -> Path:
    """Writes run/MODEL_CARD.md; every file but one of results.json and lens.json may be missing."""
    page = run / MODEL_CARD
    page.write_text(render_model_card(read_files(run)), encoding="utf-8")
    return page


def read_files(run: Path) -> RunFiles:
    """Reads the run folder; words that a card may not use are cut out of names that users gave."""
    names = ("lens", "results", "calibration", "privacy_card")
    paths = [run / f"{name}.json" for name in names]
    lens, results, calibration, privacy = (
        scrub(read_json(path)) if path.exists() else None for path in paths
    )
    if lens is None and results is None:
        raise InputError(
            f"Expected results.json or lens.json in {run}, found neither; "
            "run 'opticaldr train' or 'opticaldr attack' with --out first."
        )
    if privacy is not None:
        validate(privacy, "privacy_card")
    name = scrub(run.resolve().name)
    return RunFiles(name, _settings(run / "config.toml"), lens, results, calibration, privacy)


def render_model_card(run: RunFiles) -> str:
    """The card as Markdown."""
    from jinja2 import Environment, StrictUndefined

    page = Environment(  # Markdown: names from outside go through the filter `plain`
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.filters["figure"] = _figure
    page.filters["number"] = number
    page.filters["plain"] = _plain
    template = files("opticaldr").joinpath("templates/model_card.md.j2").read_text(encoding="utf-8")
    results = run.results or {}
    depression = results.get("depression") or {}
    named = {row["name"]: row for row in depression.get("baselines", [])}
    text = page.from_string(template).render(
        run=run,
        results=results,
        depression=depression,
        attacks=results.get("privacy", {}).get("attacks", []),
        privacy=run.privacy,
        synthetic=_synthetic(run),
        stages=_stages(run),
        units=_units(depression),
        train_mean=named.get("train mean", {}),
        strangers=_strangers(run),
        notices=notices,
    )
    check_words(text)
    return text


def _settings(path: Path) -> dict[str, Any]:
    try:
        return scrub(tomllib.loads(path.read_text("utf-8")))
    except (FileNotFoundError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return {}


def _synthetic(run: RunFiles) -> list[str]:
    """Which of "severity" and "privacy" was measured on rendered people."""
    found = []
    if (run.results or {}).get("synthetic", False):
        found.append("severity")
    on_card = run.privacy["data"] if run.privacy else {}
    if on_card.get("synthetic", run.results is not None and run.results["synthetic"]):
        found.append("privacy")
    return found


def _stages(run: RunFiles) -> list[str]:
    """What was trained, by the times in results.json and the titles in config.toml."""
    titles = run.settings.get("stages", {})
    found = []
    for key in (run.results or {}).get("seconds", {}):
        stage = re.fullmatch(r"stage (\d+)", key)
        if stage:
            title = titles.get(f"step{stage[1]}", {}).get("title")
            found.append(f"{stage[1]} ({title})" if title else stage[1])
    return found


def _units(depression: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(what is counted, its figures): recordings, sessions, then each task."""
    units = depression.get("units", {})
    whole = [(name, units[name]) for name in ("recording", "session") if name in units]
    return [*whole, *((f"task {name}", row) for name, row in units.get("tasks", {}).items())]


def _strangers(run: RunFiles) -> list[str]:
    """Files whose numbers belong to another lens than lens.json."""
    if run.lens is None:
        return []
    measured = {"results.json": run.results, "privacy_card.json": run.privacy}
    return [
        name
        for name, content in measured.items()
        if content and content["lens"]["sha256"] not in ("", run.lens["sha256"])
    ]


def _figure(figure: dict[str, Any] | None, digits: int) -> str:
    """8.07 [7.32, 8.81], n = 300; or what is missing."""
    if figure is None:
        return NOT_MEASURED
    low, high = (number(limit, digits) for limit in figure["ci95"])
    return f"{number(figure['value'], digits)} [{low}, {high}], n = {figure['n']}"


def _plain(text: object) -> str:
    """One line that Markdown shows as it stands."""
    return _MARKUP.sub(r"\\\1", " ".join(str(text).split()))
