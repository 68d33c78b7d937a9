"""Drawings of the report: numbers in, one inline SVG (text) or PNG (bytes) out. Reads no files.

Every SVG takes its colours from CSS variables, so that it follows the page into dark mode, and
keeps its labels as text. matplotlib is imported where it draws, not when this file is imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from opticaldr.results import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# matplotlib draws with these stand-in colours; svg() swaps them for the page's CSS variables
# (with a fallback for an SVG that is opened on its own).
INK, MUTED, RULE, FIRST, SECOND = "#010101", "#020202", "#030303", "#040404", "#050505"
_PAGE_COLOURS = {
    INK: "var(--ink,#1d2430)",
    MUTED: "var(--muted,#5c6675)",
    RULE: "var(--rule,#d9dee6)",
    FIRST: "var(--first,#2c5f9e)",
    SECOND: "var(--second,#b4632a)",
}


@dataclass(frozen=True)
class Interval:
    """One line of the interval plot: a label and what was measured without and with the lens."""

    label: str
    clean: Figure
    captured: Figure


def png(image: np.ndarray) -> bytes:
    """Encodes an (h, w, 3) uint8 sRGB image as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def half_energy_diameter(psf: np.ndarray) -> float:
    """Diameter of the circle about the centroid that holds half the light [samples of psf].

    psf: (m, m), not negative. Samples are points, so a blur below two samples reads as 0 to 2.
    """
    light = psf / psf.sum()
    y, x = np.indices(psf.shape)
    radius = np.hypot(y - (light * y).sum(), x - (light * x).sum()).ravel()
    order = np.argsort(radius)
    reached = np.cumsum(light.ravel()[order])
    return 2.0 * float(radius[order][np.searchsorted(reached, 0.5)])


def psf_grid(psf: np.ndarray, *, depths: Sequence[float], wavelengths: Sequence[float]) -> str:
    """Point spread functions, a row per depth and a column per colour, as SVG.

    psf: (k, 3, m, m) in sensor pixels. depths: k distances [m]. wavelengths: R, G, B [m].
    Each panel is scaled to its own peak and shown as its square root; all panels share one
    window, the smallest centred square that holds 99 % of the light of the widest.
    """
    margin = _light_radius(psf, 0.99)
    centre = psf.shape[-1] // 2
    window = slice(max(centre - margin, 0), centre + margin + 1)
    crop = psf[..., window, window]
    side = crop.shape[-1]
    bar = _round_length(side / 3)
    with new_canvas(4.6, 0.35 + 1.55 * len(depths)) as canvas:
        axes = canvas.subplots(len(depths), 3, squeeze=False)
        for row, depth in enumerate(depths):
            for column, name in enumerate(("red", "green", "blue")):
                panel = axes[row][column]
                shown = crop[row, column].clip(min=0)
                panel.imshow(np.sqrt(shown / shown.max()), cmap="magma", interpolation="none")
                _bare(panel)
                diameter = half_energy_diameter(psf[row, column])
                panel.set_xlabel(f"half the light: {diameter:.1f} px", color=MUTED, fontsize=8)
                if row == 0:
                    panel.set_title(f"{name}, {wavelengths[column] * 1e9:.0f} nm")
                if column == 0:
                    panel.set_ylabel(f"at {depth:.2f} m", color=INK, fontsize=9)
        _scale_bar(axes[0][0], length=bar, side=side, label=f"{bar:g} px")
        return svg(canvas)


def surface(
    height: np.ndarray, *, width_m: float, aperture_radius_m: float, without_defocus: bool
) -> str:
    """Surface height of the lens in micrometres, with colour bar and scale bar, as SVG.

    height: (n, n) [m] over a square width_m wide [m]; drawn inside the aperture only.
    without_defocus: take the best-fitting plane and paraboloid away first; what stays is what
    tells this surface from an ordinary lens that is out of focus.
    """
    n = height.shape[0]
    y, x = (np.indices(height.shape) - (n - 1) / 2) * (width_m / n)
    # One sample less: the axis may lie on a sample or between two, and past the rim height is 0.
    inside = np.hypot(x, y) <= aperture_radius_m - width_m / n
    micrometres = np.ma.array(height * 1e6, mask=~inside)
    if without_defocus:
        plain = np.stack([np.ones_like(x), x, y, x**2 + y**2], axis=-1) / width_m
        weights = np.linalg.lstsq(plain[inside], micrometres[inside].data, rcond=None)[0]
        micrometres = micrometres - plain @ weights
        if np.ptp(micrometres.compressed()) < 1e-3:  # a nanometre: rounding, not a surface
            micrometres = micrometres * 0
    step = max(1, n // 256)  # finer samples only make the file larger
    shown = micrometres[::step, ::step]
    side = shown.shape[0]
    bar_mm = _round_length(width_m * 1e3 / 4)
    with new_canvas(4.6, 3.6) as canvas:
        axes = canvas.subplots()
        image = axes.imshow(shown, cmap="cividis", interpolation="none")
        if np.ptp(shown.compressed()) > 1e-3:  # a nanometre: below it, contours trace rounding
            axes.contour(
                shown, levels=8, colors="white", linewidths=0.5, linestyles="solid", alpha=0.5
            )
        _bare(axes)
        axes.patch.set_alpha(0)
        axes.spines[:].set_visible(False)
        length = bar_mm * 1e-3 / width_m * side
        _scale_bar(axes, length=length, side=side, label=f"{bar_mm:g} mm", colour=INK)
        colour_bar = canvas.colorbar(image, ax=axes, shrink=0.85, pad=0.03)
        colour_bar.set_label("surface height (µm)", color=INK)
        colour_bar.ax.tick_params(color=MUTED, labelcolor=MUTED, labelsize=8)
        colour_bar.outline.set_edgecolor(RULE)
        return svg(canvas)


def curve(title: str, lines: dict[str, Sequence[tuple[float, float]]]) -> str:
    """One metric over training steps, one line per split ("train", "val"), as SVG."""
    with new_canvas(2.5, 1.75) as canvas:
        axes = canvas.subplots()
        for split, points in lines.items():
            steps, values = zip(*sorted(points), strict=True)
            marker = "o" if len(points) <= 30 else ""
            colour = FIRST if split == "train" else SECOND
            axes.plot(steps, values, color=colour, lw=1.4, marker=marker, ms=3)
        axes.set_title(title, loc="left", parse_math=False)
        axes.set_xlabel("step", color=MUTED, fontsize=8)
        axes.ticklabel_format(axis="y", useOffset=False)
        quiet(axes)
        return svg(canvas)


def intervals(rows: Sequence[Interval]) -> str:
    """Verification AUC on clear pictures and on captures, with 95 % intervals, as SVG."""
    with new_canvas(4.9, 0.75 + 0.28 * len(rows)) as canvas:
        axes = canvas.subplots()
        axes.axvline(0.5, color=MUTED, lw=1, ls=(0, (3, 3)))
        for line, row in enumerate(rows):
            for figure, colour, shift in ((row.clean, SECOND, -0.13), (row.captured, FIRST, 0.13)):
                axes.plot(figure.ci95, [line + shift] * 2, color=colour, lw=2.2, alpha=0.55)
                axes.plot([figure.value], [line + shift], "o", color=colour, ms=4.5)
        axes.set_yticks(range(len(rows)), [row.label for row in rows], parse_math=False)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        lowest = min(min(row.clean.ci95[0], row.captured.ci95[0]) for row in rows)
        axes.set_xlim(min(0.4, lowest - 0.03), 1.02)
        axes.set_xlabel("verification AUC (dashed: .5, chance)", color=MUTED, fontsize=8)
        quiet(axes)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=9)
        return svg(canvas)


@dataclass(frozen=True)
class Line:
    """One line of a plot; colour: any SVG colour or one of the stand-ins above."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    style: str = "-"


@dataclass(frozen=True)
class Axis:
    """How one axis of a plot is labelled, scaled and cut."""

    label: str
    log: bool = False
    limits: tuple[float, float] | None = None


def lines(
    series: Sequence[Line],
    x: Axis,
    y: Axis,
    *,
    band: tuple[float, float] | None = None,
    marks: Sequence[tuple[float, str]] = (),
    level: float | None = None,
) -> str:
    """Lines with a legend, as SVG; log axes leave out what is not above 0.

    band: shaded range of x. marks: upright lines at (x, label). level: a dashed line at this y.
    """
    with new_canvas(4.4, 2.7) as canvas:
        axes = canvas.subplots()
        if band:
            axes.axvspan(*band, color=FIRST, alpha=0.12, lw=0)
        if level is not None:
            axes.axhline(level, color=MUTED, lw=1, ls=(0, (3, 3)))
        for line in series:
            axes.plot(line.x, line.y, color=line.colour, lw=1.5, ls=line.style, label=line.label)
        for axis, name in ((x, "x"), (y, "y")):
            if axis.log:
                axes.set(**{f"{name}scale": "log"})
            if axis.limits:
                axes.set(**{f"{name}lim": axis.limits})
        for place, label in marks:
            axes.axvline(place, color=MUTED, lw=0.9, ls=":")
            axes.text(
                place, 1.0, label, color=MUTED, fontsize=7, rotation=90, ha="right", va="top",
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
        axes.set_xlabel(x.label, color=MUTED, fontsize=8)
        axes.set_ylabel(y.label, color=MUTED, fontsize=8)
        quiet(axes)
        if x.log:
            from matplotlib.ticker import FuncFormatter

            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=7.5, labelcolor=INK, handlelength=1.6)
        return svg(canvas)


def histogram(values: Sequence[float], *, label: str, nominal: float) -> str:
    """Distribution of one number over draws, with its nominal value as a dashed line, as SVG."""
    with new_canvas(2.5, 1.75) as canvas:
        axes = canvas.subplots()
        low, high = min(*values, nominal), max(*values, nominal)
        margin = 0.05 * (high - low) or 0.5
        axes.hist(values, bins=20, range=(low - margin, high + margin), color=FIRST, alpha=0.8)
        axes.axvline(nominal, color=SECOND, lw=1.4, ls=(0, (3, 2)))
        axes.locator_params(axis="x", nbins=4)  # more labels run into each other
        axes.set_title(label, loc="left", parse_math=False)
        quiet(axes)
        return svg(canvas)


def _light_radius(psf: np.ndarray, share: float) -> int:
    """Half side of the smallest centred square that holds this share of the light of every PSF."""
    panels = psf.reshape(-1, *psf.shape[-2:]).clip(min=0)
    centre = panels.shape[-1] // 2
    y, x = np.indices(panels.shape[-2:]) - centre
    ring = np.maximum(abs(y), abs(x)).ravel()
    held = np.stack([np.bincount(ring, weights=panel.ravel()) for panel in panels])
    reached = np.cumsum(held, axis=1) / held.sum(axis=1, keepdims=True)
    return max(3, int((reached < share).sum(axis=1).max()))


def _round_length(wanted: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above wanted."""
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(power * max(step for step in (1, 2, 5) if step * power <= wanted))


@contextlib.contextmanager
def new_canvas(width: float, height: float) -> Iterator[Canvas]:
    """An empty figure [inches] without pyplot; settings hold inside the block only."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "opticaldr",  # the same numbers give the same file
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.titlecolor": INK,
        "text.color": INK,
    }
    with matplotlib.rc_context(settings):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(canvas)
        canvas.patch.set_alpha(0)
        yield canvas


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for edge in axes.spines.values():
        edge.set_edgecolor(RULE)


def quiet(axes: Axes) -> None:
    axes.patch.set_alpha(0)
    axes.grid(color=RULE, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(color=RULE, labelcolor=MUTED, labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_edgecolor(RULE)


def _scale_bar(axes: Axes, *, length: float, side: int, label: str, colour: str = "white") -> None:
    """A bar of this length [samples] in the lower left corner of a picture of this side."""
    left, low = 0.05 * side, 0.93 * side
    axes.plot([left, left + length], [low, low], color=colour, lw=2, solid_capstyle="butt")
    axes.text(left, low - 0.03 * side, label, color=colour, fontsize=8, va="bottom")
    axes.set_xlim(-0.5, side - 0.5)
    axes.set_ylim(side - 0.5, -0.5)


def svg(canvas: Canvas) -> str:
    """The figure as an <svg> element for a page: without size and metadata.

    Ids carry a digest of the drawing, so that two drawings on one page do not share any.
    """
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text)
    text = re.sub(r'(<(?:g|image)\b[^>]*?) id="[^"]*"', r"\1", text)  # nothing refers to these
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'( id="|href="#|url\(#)(?=[\w-]+[")])', rf"\g<1>{mark}-", text)
    for stand_in, colour in _PAGE_COLOURS.items():
        text = text.replace(stand_in, colour)
    return text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
