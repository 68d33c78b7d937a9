"""The report says every number with its n and interval, needs no other file, and claims nothing."""

from __future__ import annotations

import copy
import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from opticaldr import figures, notices, report
from opticaldr.results import read_json, validate, write_json
from opticaldr.summary import summarise
from opticaldr.types import InputError

SHA = "3f" * 32
FORBIDDEN = ("irreversib", "anonym", "unrecoverable", "cannot be reversed", "guarantee")


def figure(value: float, low: float, high: float, n: int) -> dict:
    return {"value": value, "ci95": [low, high], "n": n}


def attack(rung: str, lens: str, captured: dict, **more: object) -> dict:
    clean = figure(0.991, 0.983, 0.997, 1201)
    row = {"rung": rung, "recogniser": "dlib", "lens": lens, "clean_auc": clean}
    return {**row, "captured_auc": captured, "pairs": 1200, "people": 41, **more}


@pytest.fixture
def results() -> dict:
    """results.json with numbers that occur once each."""
    return {
        "schema_version": "1.0",
        "synthetic": True,
        "seed": 7,
        "depression": {
            "mae": figure(8.41, 7.12, 9.63, 61),
            "rmse": figure(10.64, 9.21, 12.05, 62),
            "ccc": figure(0.413, 0.204, 0.587, 63),
            "train_mean_mae": figure(9.93, 8.61, 11.27, 64),
            "gain_over_train_mean": figure(1.52, -0.04, 2.91, 65),
            "baselines": [
                {
                    "name": "train median",
                    "mae": figure(9.58, 8.37, 10.96, 66),
                    "rmse": figure(12.53, 11.08, 13.97, 67),
                }
            ],
        },
        "privacy": {
            "attacks": [
                attack("A2", "trained", figure(0.763, 0.731, 0.794, 1202)),
                attack("A1", "trained", figure(0.512, 0.481, 0.543, 1203)),
                attack("A2", "untrained", figure(0.836, 0.808, 0.865, 1204), note="same depth"),
            ]
        },
        "lens": {"sha256": SHA},
        "seconds": {"stage 1": 423.2, "evaluate": 6.4},
    }


@pytest.fixture
def lens() -> dict:
    return {
        "schema_version": "1.0",
        "version": "0.1.0",
        "normalisation": "noll",
        "coefficients_um": [0, 0, 0, -30.5, 0.8, *[0] * 9, 0.125],
        "aperture_radius_m": 31 * 6e-5,
        "grid": 64,
        "pitch_m": 6e-5,
        "sensor_distance_m": 0.0355,
        "wavelengths_m": [640e-9, 550e-9, 460e-9],
        "indices": [1.488, 1.493, 1.499],
        "sensor_pixels": 24,
        "border": "zero",
        "engine": "direct",
        "depth_range_m": [0.33, 2.0],
        "sensor": {"read_noise_train": [0.001, 0.02], "read_noise_test": 0.01, "bits": 8},
        "sha256": SHA,
    }


def gaussian(size: int, sigma: float) -> np.ndarray:
    y, x = np.indices((size, size)) - size // 2
    psf = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    return psf / psf.sum()


@dataclass(frozen=True)
class FakeLens:
    """A Gaussian blur that grows with depth behind a parabolic surface."""

    def psf(self, depths: torch.Tensor) -> torch.Tensor:
        psfs = [gaussian(24, 1.0 + float(depth)) for depth in depths]
        return torch.tensor(np.stack(psfs))[:, None].repeat(1, 3, 1, 1)

    def height_map(self) -> torch.Tensor:
        y, x = np.indices((64, 64)) - 32
        return torch.tensor(1e-7 * (x**2 + y**2) * (np.hypot(x, y) < 31))


@dataclass(frozen=True)
class FakeCamera:
    """Halves the light and adds the noise of the given generator."""

    lens: FakeLens = FakeLens()

    def __call__(self, scene, depth, *, generator):
        noise = torch.randn(scene.shape, generator=generator)
        return (0.5 * scene / depth[0] + 0.01 * noise).clamp(0, 1)


FACES = [np.full((24, 24, 3), 60 * (i + 1), np.uint8) for i in range(3)]


def page(run: Path) -> str:
    content = report.read_run(run)
    return report.render(content, camera=FakeCamera() if content.lens else None, faces=FACES)


@pytest.fixture
def run(tmp_path: Path, results: dict, lens: dict) -> Path:
    """A complete run whose log breaks off in its last line."""
    write_json(tmp_path / "results.json", results)
    write_json(tmp_path / "lens.json", lens)
    (tmp_path / "config.toml").write_text('[stages.step1]\ntitle = "lens & <faces>"\n')
    lines = [
        {"stage": stage, "step": step, "split": split, "loss": 1 / (step + stage), "$x_1$": stage}
        for stage in (1, 2)
        for step in range(3)
        for split in ("train", "val")
    ]
    log = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(log + '{"stage": 2, "st')
    return tmp_path


class Page(HTMLParser):
    """Collects what a test asks: visible text, references, ids, images, headers."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._hidden = False
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag == "style"
        found = dict(attrs)
        self.tags.append((tag, found))
        self.references += [found[k] or "" for k in ("src", "href", "xlink:href") if k in found]
        self.ids += [found["id"] or ""] if "id" in found else []

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


# --- schemas ---------------------------------------------------------------------------------


def test_results_schema_accepts_the_design_sample_and_more_keys(results: dict) -> None:
    results["depression"]["people"] = 60
    results["privacy"]["attacks"][0]["leak_ratio_1e-3"] = figure(3.0, 1.0, 9.0, 1200)
    validate(results, "results")


def test_results_schema_accepts_a_run_without_depression_and_without_attacks(results: dict) -> None:
    results["depression"] = None
    results["privacy"]["attacks"] = []
    validate(results, "results")


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("schema_version",), "2.0", r"\$\.schema_version"),
        (("synthetic",), "yes", r"\$\.synthetic"),
        (("seed",), 0.5, r"\$\.seed"),
        (("depression", "mae"), 8.4, r"\$\.depression\.mae"),
        (("depression", "mae", "ci95"), [7.0], r"\$\.depression\.mae\.ci95"),
        (("depression", "mae", "n"), 0, r"\$\.depression\.mae\.n"),
        (("depression", "rmse", "value"), -1, r"\$\.depression\.rmse\.value"),
        (("depression", "baselines", 0, "mae"), None, r"\$\.depression\.baselines\[0\]\.mae"),
        (("privacy", "attacks", 1, "rung"), "naive", r"\$\.privacy\.attacks\[1\]\.rung"),
        (("privacy", "attacks", 0, "people"), 1, r"\$\.privacy\.attacks\[0\]\.people"),
        (
            ("privacy", "attacks", 0, "captured_auc"),
            figure(1.2, 1.1, 1.3, 9),
            r"\$\.privacy\.attacks\[0\]\.captured_auc",
        ),
        (("lens", "sha256"), "abc", r"\$\.lens\.sha256"),
        (("seconds", "stage 1"), "long", r"\$\.seconds"),
    ],
)
def test_results_schema_rejects(results: dict, path: tuple, value: object, where: str) -> None:
    part = results
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(InputError, match=where):
        validate(results, "results")


@pytest.mark.parametrize("key", ["seed", "synthetic", "depression", "privacy", "lens", "seconds"])
def test_results_schema_requires(results: dict, key: str) -> None:
    del results[key]
    with pytest.raises(InputError, match=f"'{key}' is a required property"):
        validate(results, "results")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("coefficients_um", [0.0] * 3),
        ("surface", {"kind": "fresnel"}),
        ("stop_diameter_m", -1e-3),
        ("normalisation", "rms"),
        ("wavelengths_m", [640e-9, 550e-9]),
        ("pitch_m", 0),
        ("indices", [0.5, 1.5, 1.5]),
        ("border", "wrap"),
        ("engine", "fast"),
        ("depth_range_m", [0, 2]),
        ("sensor", {"read_noise_train": [0.001, 0.02], "bits": 8}),
        ("sha256", "XYZ"),
    ],
)
def test_lens_schema_rejects(lens: dict, key: str, value: object) -> None:
    validate(lens | {"trained_against": []}, "lens")
    with pytest.raises(InputError, match=rf"\$\.{key}"):
        validate(lens | {key: value}, "lens")


def test_lens_schema_accepts_what_the_camera_writes(tmp_path: Path) -> None:
    from opticaldr.camera import load_camera, save_camera

    save_camera(load_camera("demo"), tmp_path / "lens.json")
    validate(read_json(tmp_path / "lens.json"), "lens")


# --- the page --------------------------------------------------------------------------------


def figures_in(content: object) -> list[dict]:
    if isinstance(content, dict):
        if "ci95" in content:
            return [content]
        content = list(content.values())
    if isinstance(content, list):
        return [found for part in content for found in figures_in(part)]
    return []


def test_every_figure_stands_in_the_page_with_interval_and_n(run: Path, results: dict) -> None:
    html = page(run)
    every = figures_in(results)
    assert len(every) == 7 + 2 * 3
    for found in every:
        low, high = (f"{limit:g}".replace("-", "−") for limit in found["ci95"])
        n = f"{found['n']:,}".replace(",", "\u202f")
        # Trailing zeros may follow: 8.41 is shown as 8.41, 0.51 as 0.510.
        cell = rf"<b>{found['value']:g}0*</b><small>{low}0* to {high}0*</small><small>n {n}</small>"
        assert re.search(cell, html), cell


def test_page_is_self_contained(run: Path) -> None:
    html = page(run)
    found = Page(html)
    assert found.references, "the page has images"
    assert [r[:40] for r in found.references if not r.startswith(("data:image/png;", "#"))] == [
        "MODEL_CARD.md"
    ]
    assert {tag for tag, _ in found.tags} & {"script", "link", "iframe", "object", "base"} == set()
    assert re.findall(r"@import|url\((?!#)", html) == []


def test_ids_are_unique_and_every_reference_in_a_drawing_has_its_target(run: Path) -> None:
    html = page(run)
    found = Page(html)
    assert len(found.ids) == len(set(found.ids))
    wanted = {r[1:] for r in found.references if r.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", html))
    assert wanted
    assert wanted <= set(found.ids)


def test_page_can_be_read_without_seeing_it(run: Path) -> None:
    tags = Page(page(run)).tags
    images = [attrs for tag, attrs in tags if tag == "img"]
    assert len(images) == 4 * len(FACES)
    assert all(attrs.get("alt") for attrs in images)
    assert all(attrs["aria-label"] for _, attrs in tags if attrs.get("role") == "img")
    assert all("scope" in attrs for tag, attrs in tags if tag == "th")
    names = [tag for tag, _ in tags]
    assert names.count("caption") == names.count("table") == 5
    assert ("html", {"lang": "en"}) in tags


def test_page_claims_nothing_that_an_attack_cannot_show(run: Path) -> None:
    standing = [value for value in vars(notices).values() if isinstance(value, str)]
    for text in [Page(page(run)).text, *standing]:
        assert [word for word in FORBIDDEN if word in text.lower()] == []


def test_page_shows_notices_untested_rungs_and_the_papers_claim_as_a_claim(run: Path) -> None:
    text = Page(page(run)).text
    for notice in (
        notices.DISCLAIMER,
        notices.SYNTHETIC,
        notices.OBSCURED_IS_NOT_PRIVATE,
        notices.PATENTS,
        notices.DATA_LICENCES,
    ):
        assert notice in text
    untested = text[text.index("Not tested yet") : text.index("How well is severity read?")]
    assert re.findall(r"A\d", untested) == ["A3", "A4", "A5", "A6", "A7", "A8", "A9"]
    claimed = text.index(notices.PAPER_CLAIMS_CAPTION)
    for _, _, claim in notices.PAPER_CLAIMS:
        (place,) = re.finditer(rf"(?<![\d.]){claim}(?![\d.])", text)
        assert place.start() > claimed


def test_synthetic_banner_only_for_synthetic_results(run: Path, results: dict) -> None:
    assert Page(page(run)).text.count(notices.SYNTHETIC) == 2  # banner and notices
    write_json(run / "results.json", results | {"synthetic": False})
    text = Page(page(run)).text
    assert notices.SYNTHETIC not in text
    assert "measured on real people" in text


def test_broken_line_of_the_log_is_skipped_and_said(run: Path) -> None:
    log = report.read_log(run / "metrics.jsonl")
    assert log.broken == (13,)
    assert log.points[2]["loss"]["train"] == [(0, 0.5), (1, pytest.approx(1 / 3)), (2, 0.25)]
    assert "1 line of metrics.jsonl did not parse and was skipped (line 13)" in Page(page(run)).text


def test_log_leaves_out_what_is_not_a_finite_number(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"stage": 1, "step": 1, "split": "train", "loss": NaN, "note": "x"}\n'
        '[1]\n\n{"step": 2, "split": "train"}\n{"stage": 1, "step": Infinity, "split": "val"}\n'
    )
    assert report.read_log(path) == report.Log({}, broken=(2, 4, 5))


def test_missing_pieces_are_said(tmp_path: Path, results: dict) -> None:
    results["depression"] = None
    results["privacy"]["attacks"] = []
    results["seconds"] = {}
    write_json(tmp_path / "results.json", results)
    text = Page(page(tmp_path)).text
    for said in (
        "No pictures: there is no lens.json",
        "No lens: there is no lens.json",
        "No training curves: there is no metrics.jsonl",
        "No attack has been run yet",
        "this run has no depression stage",
        "No times were recorded",
        "there is no config.toml",
    ):
        assert said in text


def test_lens_alone_makes_a_page(tmp_path: Path, lens: dict) -> None:
    write_json(tmp_path / "lens.json", lens)
    text = Page(page(tmp_path)).text
    assert "there is no results.json" in text
    assert "oblique quadrafoil 0.125" in text
    assert "defocus −30.500" in text


def test_numbers_of_another_lens_are_called_out(run: Path, results: dict) -> None:
    assert "Two lenses." not in Page(page(run)).text
    write_json(run / "results.json", results | {"lens": {"sha256": "ab" * 32}})
    assert "Two lenses." in Page(page(run)).text


def test_text_of_the_run_cannot_become_markup(run: Path, results: dict) -> None:
    for row in results["privacy"]["attacks"]:
        row["recogniser"] = "<script>alert(1)</script>"
    write_json(run / "results.json", results)
    found = Page(page(run))
    assert "script" not in {tag for tag, _ in found.tags}
    assert "lens & <faces>" in found.text
    assert "$x_1$" in found.text, "metric names are not mathematics"


def test_run_without_anything_to_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Expected a run directory"):
        report.write_report(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"results\.json or lens\.json"):
        report.write_report(tmp_path)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(InputError, match="required property"):
        report.write_report(tmp_path)


def test_write_report_with_the_real_camera_and_rendered_people(tmp_path: Path) -> None:
    from opticaldr.camera import Camera, load_camera, save_camera
    from opticaldr.lens import Lens

    demo = load_camera("demo")
    small = demo.lens.config.model_copy(update={"grid": 128, "pitch_m": 3e-5, "sensor_pixels": 32})
    save_camera(Camera(Lens(small), demo.sensor), tmp_path / "lens.json")
    first = report.write_report(tmp_path).read_text()
    assert len(set(re.findall(r'src="(data:[^"]+)"', first))) == 12, "twelve different pictures"
    assert report.write_report(tmp_path).read_text() == first, "the same run gives the same bytes"


# --- the summary -----------------------------------------------------------------------------


def test_summary_names_strongest_attack_and_untrained_lens(results: dict) -> None:
    said = " ".join(summarise(results, stages=["stage 1"]))
    assert "A1 with dlib 0.512 (95 % interval 0.481 to 0.543); A2 with dlib 0.763" in said
    assert "1 of 2 intervals lie clear of chance" in said
    assert "On the untrained lens A2 with dlib reached 0.836" in said
    assert "cannot be told apart from no gain" in said


def test_summary_sees_a_narrow_leak_behind_a_wide_interval(results: dict) -> None:
    """The largest AUC may include chance while a smaller one with more pairs does not."""
    results["privacy"]["attacks"] = [
        attack("A1", "trained", figure(0.60, 0.45, 0.75, 40)),
        attack("A2", "trained", figure(0.54, 0.52, 0.56, 9000)),
    ]
    assert "1 of 2 intervals lie clear of chance" in " ".join(summarise(results, stages=[]))


def test_summary_of_scores_below_chance_is_a_leak_too(results: dict) -> None:
    results["privacy"]["attacks"] = [attack("A1", "trained", figure(0.31, 0.28, 0.34, 900))]
    assert "still carry identity" in " ".join(summarise(results, stages=[]))


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ([0.2, 2.9], "a gain that chance does not explain"),
        ([-0.1, 2.9], "cannot be told apart from no gain"),
        ([-2.9, -0.1], "worse than no network"),
    ],
)
def test_summary_reads_the_gain_by_its_interval(results: dict, interval: list, words: str) -> None:
    results["depression"]["gain_over_train_mean"]["ci95"] = interval
    assert words in " ".join(summarise(results, stages=[]))


def test_summary_without_a_trained_lens_does_not_judge_it(results: dict) -> None:
    rows = results["privacy"]["attacks"]
    results["privacy"]["attacks"] = [row for row in rows if row["lens"] != "trained"]
    said = " ".join(summarise(copy.deepcopy(results), stages=[]))
    assert "No attack on a trained lens has been run" in said
    assert "carry identity" not in said


# --- the drawings ----------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [4.0, 8.0])
def test_half_energy_diameter_of_a_gaussian(sigma: float) -> None:
    """Half the light of a Gaussian lies within sigma sqrt(2 ln 2) of its centre."""
    expected = 2 * sigma * math.sqrt(2 * math.log(2))
    # Radii on a pixel grid come in steps well below 0.3 px at these widths.
    assert figures.half_energy_diameter(gaussian(97, sigma)) == pytest.approx(expected, abs=0.6)


def test_surface_without_defocus_takes_tilt_and_paraboloid_away() -> None:
    """A tilted paraboloid leaves nothing; a saddle of 2 um stays as it is."""
    y, x = (np.indices((64, 64)) - 31.5) / 32
    plain = 30e-6 * (x**2 + y**2) + 5e-6 * x
    scales = [_colour_bar(plain, True), _colour_bar(plain + 2e-6 * (x**2 - y**2), True)]
    assert max(map(abs, scales[0])) <= 0.1  # um; the drawing opens a flat range by 0.1
    assert (min(scales[1]), max(scales[1])) == pytest.approx((-1.9, 1.9), abs=0.5)  # tick steps
    assert max(_colour_bar(plain, False)) > 25


def _colour_bar(height: np.ndarray, without_defocus: bool) -> list[float]:
    """The tick labels of the colour bar [um], with matplotlib's offset applied."""
    svg = figures.surface(
        height, width_m=64e-5, aperture_radius_m=31e-5, without_defocus=without_defocus
    )
    words = re.findall(r">\s*([−\d.e]+)\s*</text>", svg)
    numbers = [float(word.replace("−", "-")) for word in words]
    offset = next((value for word, value in zip(words, numbers, strict=True) if "e" in word), 1.0)
    return [v * offset for w, v in zip(words, numbers, strict=True) if "e" not in w]


def test_drawings_take_their_colours_from_the_page() -> None:
    svg = figures.curve("loss", {"train": [(0, 1.0), (1, 0.5)], "val": [(0, 2.0), (1, 1.5)]})
    assert "var(--first" in svg
    assert "var(--second" in svg
    assert [c for c in (figures.INK, figures.MUTED, figures.FIRST) if c in svg] == []


def test_importing_the_report_does_not_import_matplotlib() -> None:
    code = "import sys, opticaldr.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
