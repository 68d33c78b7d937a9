"""Published results on AVEC 2013 and 2014 and the noise of the questionnaire: other people's numbers.

Each row is a claim of its authors, most of them unrepeated, and never a number of this software.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

SOURCES = {
    "V": "read in the paper or its repository",
    "S": "quoted by another paper or page",
    "K": "background knowledge: check before quoting",
}
"""How sure a row is: the tags of depression.md 2.1."""

CAPTION = (
    "Claims of their authors, on AVEC, not measured here. Protocols differ and are often unstated; "
    "some selected on the test set. With 50 test sessions, differences below about one point are "
    "within the noise, and the official partitions let a network score by remembering people."
)


@dataclass(frozen=True)
class Claim:
    """One published result: mean absolute and root mean squared error in BDI-II points, if given."""

    method: str
    year: str
    data: str
    mae: float | None
    rmse: float | None
    source: str
    note: str = ""


_AVEC = ("AVEC 2013", "AVEC 2014")

_TABLE: tuple[tuple[str, str, tuple, tuple, str, str], ...] = (
    ("challenge video baseline", "2013-14", (10.88, 13.61), (8.86, 10.86), "S", ""),
    ("Zhu, two-stream DCNN", "2018", (7.58, 9.82), (7.47, 9.55), "K", ""),
    ("Al Jazaery & Guo, C3D-RNN", "2018", (7.37, 9.28), (7.22, 9.20), "S", ""),
    ("Zhou, DepressNet", "2018", (6.20, 8.28), (6.21, 8.39), "K", ""),
    ("de Melo, ResNet-50 + distribution", "2019", (6.30, 8.25), (6.15, 8.23), "K", ""),
    ("MSN", "2020", (5.98, 7.90), (5.82, 7.61), "S", ""),
    ("DLGA-CNN", "2021", (6.59, 8.39), (6.51, 8.30), "K", ""),
    ("MDN-152", "2021", (6.06, 7.55), (6.00, 7.65), "K", ""),
    ("LQGDNet", "2021", (6.38, 8.20), (6.08, 7.84), "K", ""),
    ("SAN", "2022", (7.02, 9.37), (6.95, 9.24), "K", ""),
    ("Uddin, VLDSP, video alone", "2022", (5.90, 7.32), (5.75, 6.98), "S", ""),
    ("ResNet-50 x 2, alignment and schedule", "2023", (5.82, None), (5.50, None), "V", ""),
    (
        "STA-DRN",
        "2023",
        (6.15, 7.98),
        (6.00, 7.75),
        "V",
        "a rerun by others on AVEC 2014: 9.36 / 11.94",
    ),
    ("Xu, two-stage graph", "2024", (5.95, 7.57), (5.86, 7.18), "S", ""),
    ("DMSN", "2024", (None, 7.66), (None, 7.50), "S", ""),
    ("MemRank", "2025", (None, 7.78), (None, 7.69), "S", ""),
    ("PLEGDF-FGLSCF", "2024-25", (5.96, 7.75), (5.99, 7.49), "V", ""),
    ("LMTformer", "2024", (6.12, 7.75), (6.05, 7.97), "V", "epoch chosen on the test set"),
    ("CFGMamba", "2025", (6.01, 7.59), (5.96, 7.52), "V", ""),
    ("DepressionMLP; PTN", "", (5.43, None), (5.41, None), "S", "as quoted"),
    ("ERBMA-Net", "2025-26", (None, None), (6.80, 8.18), "V", ""),
    ("ExpADA", "2026", (5.77, 7.48), (5.11, 6.89), "S", ""),
    ("MSFE-CTA", "2026", (5.75, 6.23), (5.72, 6.91), "V", ""),
    ("Uddin, audio and video", "2022", (5.38, 6.83), (5.03, 6.16), "S", "not visual alone"),
    ("AVA-DepressNet", "2023", (None, 7.26), (None, None), "S", "de-identified, with audio"),
    ("OpticalDR", "2024", (7.53, 8.48), (7.89, 8.82), "V", "de-identified by the lens"),
    ("reimplementation, people disjoint", "2026", (None, None), (7.7, None), "S", ""),
)
"""Method, year, (MAE, RMSE) on AVEC 2013 and on AVEC 2014, source tag, note: depression.md 2.1."""

CLAIMS = tuple(
    Claim(method, year, data, *numbers, source, note)
    for method, year, first, second, source, note in _TABLE
    for data, numbers in zip(_AVEC, (first, second), strict=True)
    if any(numbers)
)


def claims() -> list[dict[str, Any]]:
    """The published results as rows for results.json."""
    return [asdict(claim) for claim in CLAIMS]


RETEST_ICC = 0.89
"""Reliability of a repeated BDI-II (Gomes-Oliveira et al. 2012; depression.md 5)."""

SCORE_SD = 12.0
"""Spread of BDI-II scores in AVEC [points] (depression.md 1.1)."""


def noise_floor() -> dict[str, Any]:
    """The error of a perfect reader: the questionnaire's own noise as SEM and MAE [points].

    SEM = SD sqrt(1 - ICC); the mean absolute value of such Gaussian noise is sqrt(2 / pi) of it.
    """
    sem = SCORE_SD * math.sqrt(1 - RETEST_ICC)
    return {
        "retest_icc": RETEST_ICC,
        "sem": round(sem, 2),
        "mae": round(sem * math.sqrt(2 / math.pi), 2),
        "source": "retest ICC .89 (Gomes-Oliveira et al. 2012) at a standard deviation of 12 points",
    }
