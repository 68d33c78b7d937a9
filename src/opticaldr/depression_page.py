"""What the severity section of the report shows, put together from results.json; measures nothing."""

from __future__ import annotations

from typing import Any

from opticaldr import figures_depression
from opticaldr.published import CAPTION, SOURCES
from opticaldr.summary import number

PROTOCOLS = {
    "subject-disjoint": "Nobody in the test set was seen in training or selection: every other "
    "session of a test person was left out.",
    "official-dev": "The official partitions as they are: trained on Training, selected on "
    "Development. In AVEC they share people, so memory of a person can pass for reading a face.",
    "official-traindev": "Trained on the official Training and Development sets together, with "
    "nothing left to select on. In AVEC they share people with the test set, so memory of a person "
    "can pass for reading a face.",
}
"""What a protocol means for the reader of a number."""

FURTHER = (
    ("pearson", "Pearson r", 3),
    ("spearman", "Spearman rank correlation", 3),
    ("r2", "R² against the train mean", 3),
    ("bias", "bias: mean of score minus label (points)", 2),
    ("limit_low", "lower limit of agreement, bias − 1.96 SD (points)", 2),
    ("limit_high", "upper limit of agreement, bias + 1.96 SD (points)", 2),
    ("calibration_slope", "calibration slope of label on score; 1 is right", 2),
    ("calibration_intercept", "calibration intercept (points); 0 is right", 2),
    ("kappa", "bands: quadratic-weighted kappa", 3),
    ("balanced_accuracy", "bands: balanced accuracy; .25 is chance", 3),
    ("auroc_14", "AUROC, label of 14 or more; .5 is chance", 3),
    ("auroc_20", "AUROC, label of 20 or more; .5 is chance", 3),
)
"""Metrics below the headline: key, what it says, digits."""

MEASURES = {"mae": "larger error", "gain": "weaker response to severity"}
"""What a flagged group suffers from."""


def severity_section(results: dict[str, Any]) -> dict[str, Any]:
    """Values for templates/severity.html.j2; parts that results.json does not have are empty."""
    depression = results["depression"]
    units = depression.get("units", {})
    named = [("recording", units.get("recording"))]
    if depression.get("unit") == "session":  # else the two are the same
        named = [("session: mean of its tasks", units["session"]), *named]
    named += [(f"task {task}", found) for task, found in units.get("tasks", {}).items()]
    headline = units.get(depression.get("unit"), {})
    return {
        "protocol": depression.get("protocol"),
        "protocol_means": PROTOCOLS.get(depression.get("protocol"), ""),
        "unit": depression.get("unit", "recording"),
        "baselines": _baselines(depression),
        "gain_known": all("gain" in row for row in depression.get("baselines", [])),
        "units": [(name, found) for name, found in named if found and "mae" in found],
        "further": [
            (label, headline[key], digits) for key, label, digits in FURTHER if headline.get(key)
        ],
        "undefined": [label for key, label, _ in FURTHER if key in headline and not headline[key]],
        "parts": _parts(depression),
        "drawings": _drawings(depression, headline),
        "groups": depression.get("groups", []),
        "measures": MEASURES,
        "bands": depression.get("bands"),
        "conformal": depression.get("conformal"),
        "poolings": depression.get("poolings", {}),
        "floor": depression.get("noise_floor"),
        "claims": _claims(depression.get("claims", [])),
        "claims_caption": CAPTION,
        "claims_sources": SOURCES,
        "readings": _readings(results),
    }


def _baselines(depression: dict[str, Any]) -> list[dict[str, Any]]:
    """The trivial predictors, the training mean first and once."""
    given = depression.get("baselines", [])
    if any(row["name"] == "train mean" for row in given):
        return given
    return [{"name": "train mean", "mae": depression["train_mean_mae"]}, *given]


def _parts(depression: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """People of the official train or dev set, and strangers; nothing if there is one kind only."""
    parts = [(_seen(depression), depression.get("seen")), ("stranger", depression.get("unseen"))]
    both = all(part and part["n"] for _, part in parts)
    return [(name, part) for name, part in parts if part] if both else []


def _seen(depression: dict[str, Any]) -> str:
    """What it means here that a test person has sessions outside the official test set."""
    if depression.get("protocol") == "subject-disjoint":
        return "also in the official train or dev set, left out here"
    return "seen in train or dev"


def _drawings(depression: dict[str, Any], headline: dict[str, Any]) -> dict[str, str] | None:
    if not depression.get("points") or not headline.get("bias"):
        return None
    low, high = headline["limit_low"]["value"], headline["limit_high"]["value"]
    bias = headline["bias"]["value"]
    return {
        "agreement": figures_depression.agreement(
            depression["points"], sem=depression["noise_floor"]["sem"]
        ),
        "differences": figures_depression.differences(
            depression["points"], bias=bias, limits=(low, high)
        ),
        "bias": number(bias, 2),
        "low": number(low, 2),
        "high": number(high, 2),
        "seen": _seen(depression) if any(seen for _, _, seen in depression["points"]) else "",
    }


def _claims(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line per method: (MAE, RMSE) by data set as text."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        line = lines.setdefault((row["method"], row["year"]), {**row, "by_set": {}})
        line["by_set"][row["data"]] = " / ".join(
            "–" if value is None else f"{value:.2f}" for value in (row["mae"], row["rmse"])
        )
    return list(lines.values())


def _readings(results: dict[str, Any]) -> dict[str, Any] | None:
    """The last reading of the test set, which made the figures."""
    readings = results.get("test_readings", [])
    return readings[-1] if readings else None
