"""The page of a privacy card: one printed page for an ethics board, an appendix for its reviewers.

It measures nothing: numbers and sentences come from the card, curves from the caller.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from opticaldr import figures, figures_privacy, notices
from opticaldr.figures_privacy import DetCurve, RungLine, Series
from opticaldr.optics.bands import IDENTITY_BAND
from opticaldr.privacy import grades, words
from opticaldr.privacy.card import check_card
from opticaldr.results import Figure
from opticaldr.types import InputError

FRAME_LINES = 6
"""Most lines in the drawing of AUC against frames."""


@dataclass(frozen=True)
class Band:
    """Signal-to-noise ratio (power) of facial detail by cycles per face.

    cycles: (r,). snr: number of frames -> (r,). k_star: number of frames -> recoverable band.
    """

    cycles: Sequence[float]
    snr: Mapping[int, Sequence[float]]
    k_star: Mapping[int, float]


@dataclass(frozen=True)
class Pictures:
    """Reconstructions beside their controls, of faces that may be shown.

    columns: "scene", "capture", "restored", "restored from another person", .. rows: one list of
    (h, w, 3) uint8 sRGB pictures per face. shown_because: why these faces may be shown, such as
    "The people are rendered."; it is printed, and without it no picture is.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[np.ndarray]]
    shown_because: str


def write_card_page(
    card: dict[str, Any],
    folder: Path,
    *,
    det: Sequence[DetCurve] = (),
    band: Band | None = None,
    pictures: Pictures | None = None,
) -> Path:
    """Writes folder/privacy_card.html, which needs no other file and no network.

    card: content of privacy_card.json. det: error curves of a few attacks. band: what the lens lets
    through. pictures: only of faces that may be shown.
    """
    check_card(card)
    page = folder / "privacy_card.html"
    folder.mkdir(parents=True, exist_ok=True)
    page.write_text(render(card, det=det, band=band, pictures=pictures), encoding="utf-8")
    return page


def render(
    card: dict[str, Any], *, det: Sequence[DetCurve], band: Band | None, pictures: Pictures | None
) -> str:
    """The page as HTML."""
    from jinja2 import Environment, StrictUndefined

    page = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.filters |= {"interval": words.interval, "share": words.share, "above": words.above}
    page.filters |= {"count": lambda n: f"{n:,}".replace(",", "\u202f")}
    templates = files("opticaldr").joinpath("templates")
    template = page.from_string(
        templates.joinpath("privacy_card.html.j2").read_text(encoding="utf-8")
    )
    text = template.render(
        style=templates.joinpath("page.css").read_text(encoding="utf-8"),
        card=card,
        drawings=_drawings(card, det, band),
        bracket=_bracket(card),
        pictures=_shown(pictures) if pictures else None,
        identify=_time_to_identify(card),
        steps=grades.STEPS,
        limits=grades,
        notices=notices,
        identity=IDENTITY_BAND,
    )
    words.check_words(re.sub(r'"data:[^"]*"', "", text))  # pictures spell words by accident
    return text


# --- drawings ---------------------------------------------------------------------------------


def _drawings(
    card: dict[str, Any], det: Sequence[DetCurve], band: Band | None
) -> dict[str, str | None]:
    """Every drawing by name; None where there is nothing to draw."""
    held = grades.STEPS[0].auc
    frames, strengths = _by_frames(card), _by_strength(card)
    return {
        "ladder": figures_privacy.ladder(
            [_rung_line(line) for line in card["ladder"]],
            bracket=_bracket(card),
            held=held,
            failed=grades.FAIL_AUC,
        ),
        "det": figures_privacy.det(det) if det else None,
        "frames": frames
        and figures_privacy.aucs(
            frames, label="frames that the attacker combines", log=True, held=held
        ),
        "strength": strengths
        and figures_privacy.aucs(
            strengths, label="blur, as a share of this lens's blur", log=False, held=held
        ),
        "band": band and _band(band),
    }


def _rung_line(line: Mapping[str, Any]) -> RungLine:
    verdict = line["verdict"].partition(":")[0]
    auc = line.get("auc")
    if auc is None:
        return RungLine(line["rung"], None, note=verdict)
    figure = Figure(auc["value"], tuple(auc["ci95"]), auc["n"])
    return RungLine(line["rung"], figure, broken=verdict == "broken", note=verdict)


def _bracket(card: dict[str, Any]) -> tuple[float, float] | None:
    """From the strongest attack to the certificate; None where an attack refutes the certificate."""
    found, cap = card["bracket"]["attack_auc"], card["bracket"]["certificate_auc"]
    return (found["value"], cap) if found and found["value"] <= cap else None


def _valid(card: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in card["rungs"] if grades.is_valid(row)]


def _by_frames(card: dict[str, Any]) -> list[Series]:
    """The attacks that were tried with several numbers of frames, the strongest first."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in _valid(card):
        label = f"{row['rung']} {row['variant']}"
        found.setdefault(label, {})[row["frames"]] = row["auc_free"]
    series = [
        Series(
            label,
            sorted(points),
            [points[n]["value"] for n in sorted(points)],
            [points[n]["lower95"] for n in sorted(points)],
            [points[n]["upper95"] for n in sorted(points)],
        )
        for label, points in found.items()
        if len(points) > 1
    ]
    return sorted(series, key=lambda one: -max(one.auc))[:FRAME_LINES]


def _by_strength(card: dict[str, Any]) -> list[Series]:
    """The strongest variant of each rung on weaker copies of the lens and on the lens itself."""
    return [
        Series(rung, [p["strength"] for p in points], [p["auc"] for p in points])
        for rung, points in card["auc_by_strength"].items()
        if len(points) > 1
    ]


def _time_to_identify(card: dict[str, Any]) -> tuple[int, float] | None:
    """Fewest frames, and their time [s], from which on some attack fails the camera (A7)."""
    frames = [row["frames"] for row in _valid(card) if row["auc_free"]["lower95"] > grades.FAIL_AUC]
    return (min(frames), min(frames) / card["sensor"]["frame_rate_hz"]) if frames else None


def _band(band: Band) -> str:
    colours = (figures.SECOND, figures.FIRST, figures.FIRST)
    styles = ("-", "--", "-.")
    series = [
        figures.Line(
            f"{frames:,} frame{'s' if frames > 1 else ''}", band.cycles, snr, colour, style
        )
        for (frames, snr), colour, style in zip(band.snr.items(), colours, styles, strict=False)
    ]
    top = max(max(snr) for snr in band.snr.values())
    marks = {k: f"k* {k:g}" for k in band.k_star.values() if k >= 1}
    return figures.lines(
        series,
        figures.Axis("cycles per face", log=True, limits=(1, max(band.cycles))),
        figures.Axis("signal to noise (power)", log=True, limits=(1e-3, 3 * top)),
        band=IDENTITY_BAND,
        marks=list(marks.items()),
        level=1.0,
    )


def _shown(pictures: Pictures) -> dict[str, Any]:
    if not pictures.shown_because.strip():
        raise InputError(
            "Expected a reason why these faces may be shown, found none; pass pictures of rendered "
            "people, or of people who agreed to this page."
        )
    rows = [
        ["data:image/png;base64," + base64.b64encode(figures.png(image)).decode() for image in row]
        for row in pictures.rows
    ]
    return {"columns": pictures.columns, "rows": rows, "because": pictures.shown_because}
