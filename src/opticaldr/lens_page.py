"""The page of `lens show` and of `lens tolerance`: drawings and tables of numbers measured elsewhere."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opticaldr import figures, notices
from opticaldr.camera import Camera
from opticaldr.figures import Axis, Line
from opticaldr.lens_view import COLOURS, FRAMES, View, to_json
from opticaldr.media import written_whole
from opticaldr.optics.bands import IDENTITY_BAND
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.optics.geometry import FaceGeometry
from opticaldr.results import write_json

INKS = ("#c8473f", "#3d9a5f", "#4a7fd0")
"""Red, green, blue as lines that can be read on a light and a dark page."""
EFFECTS = {
    "band_1": "k*, 1 frame (cycles per face)",
    "band_30": "k*, 30 frames",
    "band_1800": "k*, 1,800 frames",
    "band_snr_db": "SNR at 8-16 cycles per face (dB)",
    "misplaced": "light in the wrong place (share)",
    "shift_px": "shift of the picture (px)",
    "strehl": "Strehl ratio, green",
    "score_change": "change of score (BDI-II points)",
    "score_mae": "MAE of the score (BDI-II points)",
}
"""Effects of `lens tolerance` in words."""
ERRORS = {
    "sag_m": ("Height of the surface, ±{:.0f} nm", 1e9),
    "sag_scale": ("Scale of the surface, ±{:.2f} %", 100),
    "tilt_rad": ("Tilt about both axes, ±{:.2f}°", 180 / math.pi),
    "decentre_m": ("Decentre along both axes, ±{:.0f} µm", 1e6),
    "index": ("Refractive index, ±{:.4f}", 1),
    "sensor_m": ("Lens to sensor, ±{:.0f} µm", 1e6),
    "depth": ("Distance of the face, ±{:.0f} %", 100),
    "wavelength_m": ("Wavelengths, ±{:.1f} nm", 1e9),
}
"""Errors of `lens tolerance` in words, and the factor to the unit."""


def draw_view(view: View, camera: Camera) -> dict[str, str]:
    """The drawings of a lens by name, each an SVG; names are those of the files."""
    config, system = camera.lens.config, camera.lens.system
    height = camera.lens.height_map().double().cpu().numpy()
    drawings = {
        f"surface{suffix}": figures.surface(
            height,
            width_m=system.grid * system.pitch_m,
            aperture_radius_m=system.aperture_radius_m,
            without_defocus=without,
        )
        for suffix, without in (("", False), ("-without-defocus", True))
    }
    drawings["psf"] = figures.psf_grid(
        view.psf.double().numpy(), depths=view.depths, wavelengths=config.wavelengths_m
    )
    frequency, transfer = view.mtf
    frequency, transfer = frequency[1:], transfer[..., 1:]  # a log axis has no 0
    cutoff = float(frequency[-1])
    for index, depth in enumerate(view.depths):
        name = f"{depth:.2f}m"
        drawings[f"mtf-{name}"] = figures.lines(
            _by_colour(frequency, transfer[index]),
            Axis(f"cycles per face, at {depth:.2f} m", log=True, limits=(1, cutoff)),
            Axis("modulation", limits=(0, 1.02)),
            band=IDENTITY_BAND,
            marks=[(FaceGeometry(system).face_pixels / 2, "sensor's limit")],
        )
        radii, energy = view.energy
        drawings[f"encircled-{name}"] = figures.lines(
            _by_colour(1e6 * radii, energy[index]),
            Axis(f"radius (µm), at {depth:.2f} m", log=True),
            Axis("share of the light", limits=(0, 1.02)),
            marks=[(1e6 * system.sensor_pitch_m / 2, "half a pixel")],
        )
    vergence, strehl = view.through_focus
    drawings["through-focus"] = figures.lines(
        _by_colour(vergence, strehl.T),
        Axis("1 / distance (1/m)"),
        Axis("Strehl ratio on the axis", limits=(0, max(0.05, 1.05 * float(strehl.max())))),
        marks=[(1 / depth, f"{depth:.2f} m") for depth in view.depths],
    )
    drawings["field"] = figures.lines(
        _by_colour(view.field.angles.rad2deg(), view.field.misplaced.T),
        Axis("degrees off the axis"),
        Axis("share of the light", limits=(0, max(0.05, 1.1 * float(view.field.misplaced.max())))),
    )
    drawings["snr"] = _snr(view)
    drawings["sweep"] = _sweep(view)
    return drawings


def _by_colour(x: torch.Tensor, values: torch.Tensor) -> list[Line]:
    return [Line(name, x.tolist(), values[i].tolist(), INKS[i]) for i, name in enumerate(COLOURS)]


def _frames(n: int) -> str:
    return {1: "1 frame", 30: "30 frames (1 s)", 1800: "1,800 frames (1 min)"}[n]


STYLES = dict(zip(FRAMES, ("-", "--", "-."), strict=True))


def _snr(view: View) -> str:
    series, marks = [], []
    for n, (rings, snr) in view.snr.items():
        colour = figures.SECOND if n == 1 else figures.FIRST
        series.append(Line(_frames(n), rings.tolist(), snr.tolist(), colour, STYLES[n]))
        marks.append((max(view.bands[n]), f"k* {max(view.bands[n])}"))
    top = max(max(line.y) for line in series)
    return figures.lines(
        series,
        Axis("cycles per face", log=True, limits=(1, max(series[0].x))),
        Axis("signal to noise (power)", log=True, limits=(1e-3, 3 * top)),
        band=IDENTITY_BAND,
        marks=list(dict(marks).items()),
        level=1.0,
    )


def _sweep(view: View) -> str:
    series = []
    for index, n in enumerate(FRAMES):
        known = [(v, bands[index]) for v, bands in view.sweep if bands]
        x, y = zip(*known, strict=True)
        colour = figures.SECOND if n == 1 else figures.FIRST
        series.append(Line(_frames(n), x, y, colour, STYLES[n]))
    near, far = view.depths[0], view.depths[-1]
    return figures.lines(
        series,
        Axis("1 / distance (1/m); 0 is far away, 20 is 5 cm"),
        Axis("k* (cycles per face)", limits=(0, 1.05 * max(max(line.y) for line in series) + 1)),
        marks=[(1 / near, f"{near:.2f} m"), (1 / far, f"{far:.2f} m")],
    )


def page_of(to: Path, name: str) -> Path:
    """Where a page goes: `to` itself if it ends in .html, otherwise a file in that folder."""
    return to if to.suffix.lower() in (".html", ".htm") else to / name


def check_writable(folder: Path) -> None:
    """InputError now, not after the work, if no file can be written there."""
    probe = folder / ".opticaldr-probe"
    with written_whole(probe) as partial:
        partial.touch()
    probe.unlink()


def write_show(view: View, camera: Camera, source: str, to: Path) -> Path:
    """Writes the page to a file that ends in .html, or page, numbers and drawings to a folder."""
    drawings = draw_view(view, camera)
    page = page_of(to, "lens.html")
    _write(
        page,
        _render(
            "lens.html.j2",
            name=Path(source).name,
            camera=camera,
            view=view,
            numbers=to_json(view, camera),
            drawings=drawings,
            pictures=_pictures(camera, view.depths),
            frames=[(n, _frames(n)) for n in FRAMES],
            colours=COLOURS,
            identity=IDENTITY_BAND,
            finite=math.isfinite,
        ),
    )
    if page != to:
        write_json(to / "lens-view.json", to_json(view, camera))
        for name, svg in drawings.items():
            _write(to / "figures" / f"{name}.svg", _alone(svg))
    return page


def _write(path: Path, text: str) -> None:
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_tolerance(result: dict[str, Any], source: str, to: Path) -> Path:
    """Writes tolerance.json and tolerance.html into a folder; returns the page."""
    write_json(to / "tolerance.json", result)
    histograms = {
        name: figures.histogram(
            [row["effects"][name] for row in result["draws"]],
            label=EFFECTS[name],
            nominal=spread["nominal"],
        )
        for name, spread in result["summary"].items()
    }
    page = to / "tolerance.html"
    _write(
        page,
        _render(
            "tolerance.html.j2",
            name=Path(source).name,
            result=result,
            histograms=histograms,
            effects=EFFECTS,
            alone=[
                (error_in_words(name, result["errors"][name]), found)
                for name, found in result["alone"].items()
            ],
        ),
    )
    return page


def error_in_words(name: str, size: float) -> str:
    """ "Decentre along both axes, ±25 µm"."""
    words, factor = ERRORS[name]
    return words.format(factor * size)


def _render(template: str, **content: Any) -> str:  # names that the template asks for
    from jinja2 import Environment, StrictUndefined

    page = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates = files("opticaldr").joinpath("templates")
    return page.from_string(templates.joinpath(template).read_text(encoding="utf-8")).render(
        style=templates.joinpath("page.css").read_text(encoding="utf-8"),
        notices=notices,
        **content,
    )


def _pictures(camera: Camera, depths: Sequence[float]) -> list[list[str]]:
    """Data URIs of rendered people: the original, then the capture at every depth."""
    from opticaldr.data.synthetic import photos
    from opticaldr.report import EXAMPLE_PEOPLE

    faces = photos(EXAMPLE_PEOPLE[:2], 1, seed=0, size=camera.lens.config.sensor_pixels)
    rows = []
    for index in range(len(faces)):
        face = faces.image(index)
        scene = srgb_to_linear(torch.from_numpy(face).permute(2, 0, 1)[None].float() / 255)
        row = [face]
        for depth in depths:
            noise = torch.Generator().manual_seed(0)
            with torch.no_grad():
                shot = linear_to_srgb(camera(scene, torch.tensor([depth]), generator=noise))
            row.append((255 * shot[0]).round().byte().permute(1, 2, 0).numpy())
        rows.append([_data_uri(image) for image in row])
    return rows


def _data_uri(image: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(figures.png(image)).decode()


def _alone(svg: str) -> str:
    """An inline drawing as a file of its own."""
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg
