"""The report: reads the files of a run directory and writes one self-contained report.html.

It measures nothing and is never called from training. Words about numbers are made here, the
page is laid out in templates/report.html.j2, drawings come from figures.py, standing texts from
notices.py.
"""

from __future__ import annotations

import base64
import json
import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from opticaldr import figures, notices
from opticaldr.depression_page import severity_section
from opticaldr.model_card import write_model_card
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.privacy.verification import stretch_contrast
from opticaldr.results import Figure, read_json, validate
from opticaldr.summary import number, summarise
from opticaldr.types import Capture, InputError, Scene

EXAMPLE_PEOPLE = range(900_000, 900_003)
"""Rendered people of the example pictures; the benchmark never uses numbers this high."""

CURVES_PER_STAGE = 6
CURVES = {
    "loss": "loss, all terms",
    "utility": "loss: attributes, landmarks",
    "identity": "loss: identity",
    "emotion": "loss: emotion",
    "depression": "loss: severity",
    "selection": "selection (least is kept)",
    "mae": "MAE (BDI-II points)",
    "auc": "verification AUC",
    "lens_at_limit": "blur limit met (1 = yes)",
    "gradient_lens": "gradient norm: lens",
    "gradient_emotion": "gradient norm: emotion",
    "gradient_depression": "gradient norm: severity",
    "defocus_um": "defocus (µm RMS)",
}
"""Titles of training curves; another name is shown as it is."""

NOLL_NAMES = (
    "piston",
    "tilt x",
    "tilt y",
    "defocus",
    "oblique astigmatism",
    "vertical astigmatism",
    "vertical coma",
    "horizontal coma",
    "vertical trefoil",
    "oblique trefoil",
    "spherical aberration",
    "vertical secondary astigmatism",
    "oblique secondary astigmatism",
    "vertical quadrafoil",
    "oblique quadrafoil",
)
"""Names of the Zernike terms, Noll indices 1 to 15 (Noll 1976)."""


class LensView(Protocol):
    """What the report asks of a lens."""

    def psf(self, depths: Tensor) -> Tensor: ...

    def height_map(self) -> Tensor: ...


class CameraView(Protocol):
    """What the report asks of a camera: a picture taken through it, and its lens."""

    lens: LensView

    def __call__(self, scene: Scene, depth: Tensor, *, generator: torch.Generator) -> Capture: ...


@dataclass(frozen=True)
class Log:
    """metrics.jsonl: points[stage][metric][split] is a list of (step, value).

    broken: numbers of the lines that do not parse (a run that was cut off leaves one).
    """

    points: dict[int, dict[str, dict[str, list[tuple[int, float]]]]]
    broken: tuple[int, ...] = ()


@dataclass(frozen=True)
class Run:
    """The files of a run directory; None for a file that is not there.

    titles: stage number -> title, as far as config.toml gives them.
    """

    name: str
    config: str | None
    titles: dict[int, str]
    results: dict[str, Any] | None
    lens: dict[str, Any] | None
    log: Log | None


def write_report(run: Path) -> Path:
    """Writes run/report.html, and MODEL_CARD.md, from the files of a run.

    Every file but one of results.json and lens.json may be missing; the page then says so.
    """
    content = read_run(run)
    camera, faces = None, []
    if content.lens is not None:
        from opticaldr.camera import load_camera
        from opticaldr.data.synthetic import photos

        camera = load_camera(run / "lens.json")
        drawn = photos(EXAMPLE_PEOPLE, 1, seed=0, size=content.lens["sensor_pixels"])
        faces = [drawn.image(i) for i in range(len(drawn))]
    page = run / "report.html"
    page.write_text(render(content, camera=camera, faces=faces), encoding="utf-8")
    write_model_card(run)
    return page


def read_run(run: Path) -> Run:
    """Reads and checks what a run directory holds; InputError if there is nothing to report."""
    if not run.is_dir():
        raise InputError(
            f"Expected a run directory at {run}, found none; give the --out of a finished run."
        )
    results, lens = (
        read_json(run / name) if (run / name).exists() else None
        for name in ("results.json", "lens.json")
    )
    if results is None and lens is None:
        raise InputError(
            f"Expected results.json or lens.json in {run}, found neither; "
            "run 'opticaldr train' or 'opticaldr attack' with --out first."
        )
    if results is not None:
        validate(results, "results")
    if lens is not None:
        validate(lens, "lens")
    log, config = run / "metrics.jsonl", run / "config.toml"
    settings = config.read_text("utf-8", errors="replace") if config.exists() else None
    return Run(
        name=run.resolve().name,
        config=settings,
        titles=_stage_titles(settings or ""),
        results=results,
        lens=lens,
        log=read_log(log) if log.exists() else None,
    )


def _stage_titles(settings: str) -> dict[int, str]:
    """Titles of [stages.step1] and so on; none if the settings do not parse or name none."""
    try:
        stages = tomllib.loads(settings).get("stages")
    except tomllib.TOMLDecodeError:
        return {}
    titles = {}
    for key, stage in stages.items() if isinstance(stages, dict) else ():
        number = re.fullmatch(r"step(\d+)", key)
        if number and isinstance(stage, dict) and "title" in stage:
            titles[int(number[1])] = str(stage["title"])
    return titles


def read_log(path: Path) -> Log:
    """Reads metrics.jsonl: one {"stage", "step", "split", name: number, ...} a line."""
    points: dict[int, dict[str, dict[str, list[tuple[int, float]]]]] = {}
    broken = []
    for at, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            stage, step = int(entry.pop("stage")), int(entry.pop("step"))
            split = str(entry.pop("split"))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            broken.append(at)
            continue
        for name, value in entry.items():
            if isinstance(value, int | float) and math.isfinite(value):
                metric = points.setdefault(stage, {}).setdefault(name, {})
                metric.setdefault(split, []).append((step, value))
    return Log(points, tuple(broken))


def render(run: Run, *, camera: CameraView | None, faces: Sequence[np.ndarray]) -> str:
    """The page as HTML. camera and faces ((S, S, 3) uint8 sRGB) are for a run with a lens."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    page = Environment(
        loader=PackageLoader("opticaldr", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters["figure"] = _figure
    page.filters["count"] = _count
    page.filters["duration"] = _duration
    style = files("opticaldr").joinpath("templates/page.css").read_text(encoding="utf-8")
    results = run.results
    return page.get_template("report.html.j2").render(
        style=style,
        run=run,
        results=results,
        lens=run.lens,
        summary=summarise(results, stages=_stage_names(run)),
        mismatch=_lens_mismatch(run),
        optics=_optics(run.lens, camera, faces) if run.lens and camera else None,
        stages=_stage_curves(run.log, run.titles) if run.log else [],
        seconds=_times(run) if results else [],
        attacks=_attacks(results) if results else None,
        depression=results["depression"] if results else None,
        severity=severity_section(results) if results and results["depression"] else None,
        notices=notices,
    )


def _stage_names(run: Run) -> list[str]:
    """What each stage in the training log trained, in words."""
    stages = sorted(run.log.points) if run.log else []
    return [run.titles.get(stage, f"stage {stage}") for stage in stages]


def _lens_mismatch(run: Run) -> bool:
    """True if the numbers in results.json belong to another lens than lens.json."""
    both = run.results is not None and run.lens is not None
    return both and run.results["lens"]["sha256"] != run.lens["sha256"]


def _optics(
    lens: dict[str, Any], camera: CameraView, faces: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Pictures through the camera, PSFs, surface and coefficients."""
    near, far = lens["depth_range_m"]
    depths = sorted({near, math.sqrt(near * far), far})  # one row where near is far
    with torch.no_grad():
        psf = camera.lens.psf(torch.tensor(depths))
        height = camera.lens.height_map()
    return {
        "near": near,
        "far": far,
        "pictures": [_pictures(camera, face, near, far) for face in faces],
        "psf": figures.psf_grid(
            psf.double().numpy(), depths=depths, wavelengths=lens["wavelengths_m"]
        ),
        "surface": [
            figures.surface(
                height.double().numpy(),
                width_m=lens["grid"] * lens["pitch_m"],
                aperture_radius_m=lens["aperture_radius_m"],
                without_defocus=without,
            )
            for without in (False, True)
        ],
        "coefficients": [
            (index + 1, NOLL_NAMES[index] if index < len(NOLL_NAMES) else "", number(value, 3))
            for index, value in enumerate(lens["coefficients_um"])
            if lens.get("surface", {}).get("kind", "zernike") == "zernike"
        ],
    }


def _pictures(camera: CameraView, face: np.ndarray, near: float, far: float) -> list[str]:
    """Data URIs: the original, the captures near and far, the far one with contrast stretched."""
    scene = srgb_to_linear(torch.from_numpy(face).permute(2, 0, 1)[None].float() / 255)
    shots = []
    with torch.no_grad():
        for depth in (near, far):
            noise = torch.Generator().manual_seed(0)
            shots.append(linear_to_srgb(camera(scene, torch.tensor([depth]), generator=noise)))
    shots.append(stretch_contrast(shots[1]))
    return [_data_uri(face)] + [
        _data_uri((shot[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
        for shot in shots
    ]


def _data_uri(image: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(figures.png(image)).decode()


def _stage_curves(log: Log, titles: dict[int, str]) -> list[dict[str, Any]]:
    """Per stage the curves to draw (losses first) and the names of those left out."""
    stages = []
    for stage, metrics in sorted(log.points.items()):
        drawable = [name for name, lines in metrics.items() if max(map(len, lines.values())) > 1]
        ordered = sorted(drawable, key=lambda name: (name != "loss", "loss" not in name, name))
        shown = ordered[:CURVES_PER_STAGE]
        named = {name: CURVES.get(name, name) for name in shown}
        curves = [
            {"name": named[name], "svg": figures.curve(named[name], metrics[name])}
            for name in shown
        ]
        left_out = sorted(set(metrics) - set(shown))
        label = _stage_label(stage, titles)
        stages.append({"label": label, "curves": curves, "left_out": left_out})
    return stages


def _attacks(results: dict[str, Any]) -> dict[str, Any]:
    """Rows by rung, the extra columns that any row has, the plot, and what was not tried."""
    rows = sorted(results["privacy"]["attacks"], key=lambda row: row["rung"])
    extras = {
        "eer": ("Equal error rate", 3),
        "tpr_at_fpr_1e-2": ("True positives at 1 % false", 3),
        "leak_ratio_1e-2": ("Leak ratio at 1 % false", 2),
        "permuted_auc": ("AUC, shuffled labels", 3),
    }
    lines = [
        figures.Interval(
            f"{row['rung']} {row['recogniser']}, {row['lens']}",
            clean=_record(row["clean_auc"]),
            captured=_record(row["captured_auc"]),
        )
        for row in rows
    ]
    tried = {row["rung"] for row in rows}
    controls = [row["permuted_auc"]["ci95"] for row in rows if "permuted_auc" in row]
    return {
        "controls": len(controls),
        "controls_off": sum(not low <= 0.5 <= high for low, high in controls),
        "rows": rows,
        "extras": {key: extras[key] for key in extras if any(key in row for row in rows)},
        "plot": figures.intervals(lines) if lines else None,
        "tried": sorted(tried),
        "not_tried": [rung for rung in notices.RUNGS if rung != "A0" and rung not in tried],
    }


def _record(figure: dict[str, Any]) -> Figure:
    low, high = figure["ci95"]
    return Figure(figure["value"], (low, high), figure["n"])


def _figure(figure: dict[str, Any], digits: int) -> dict[str, str]:
    """The parts of a figure as text: value, low, high, n."""
    low, high = figure["ci95"]
    return {
        "value": number(figure["value"], digits),
        "low": number(low, digits),
        "high": number(high, digits),
        "n": _count(figure["n"]),
    }


def _count(n: int) -> str:
    """Thousands apart, by a narrow space that does not break."""
    return f"{n:,}".replace(",", "\u202f")


def _times(run: Run) -> list[tuple[str, float]]:
    """(label, seconds) of each part of the run; stages carry their number and title."""
    times = []
    for key, seconds in run.results["seconds"].items():
        stage = re.fullmatch(r"(?:stage|step)?[ _]?(\d+)", key)
        label = _stage_label(int(stage[1]), run.titles) if stage else key.replace("_", " ")
        times.append((label, seconds))
    return times


def _stage_label(stage: int, titles: dict[int, str]) -> str:
    title = titles.get(stage)
    return f"Stage {stage}: {title}" if title else f"Stage {stage}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
