"""Engines of a case in turn, and the row that their times make in the answer.

All engines of a case run in one process, one after the other in every round; a ratio is the median
over the rounds of (peer / ours) within a round, so that a busy machine slows both.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

from opticaldr.bench.measure import Work, seconds_per_call

OnProgress = Callable[[str, int, int], None]


def interleaved(
    works: dict[str, Work],
    rounds: int,
    device: torch.device,
    title: str,
    on_progress: OnProgress,
) -> dict[str, list[float]]:
    """Seconds per call of each work, one value a round, all works in every round."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for place, (name, work) in enumerate(works.items(), start=1):
            times[name].append(seconds_per_call(work, device))
            on_progress(title, number * len(works) + place, rounds * len(works))
    return times


def case_row(
    title: str,
    ours: str,
    frames: int,
    times: dict[str, list[float]],
    rows: dict[str, dict[str, float | None]],
    missing: dict[str, str | None],
) -> dict[str, Any]:
    """One case: our figures, then each peer's. frames: depths or images that one call makes."""
    own = times[ours]
    peers: dict[str, Any] = {}
    for name, seconds in times.items():
        if name != ours:
            ratios = [theirs / mine for theirs, mine in zip(seconds, own, strict=True)]
            peers[name] = {
                "s": statistics.median(seconds),
                "ratio": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
                **rows[name],
            }
    for name, remedy in missing.items():
        absent = ("s", "ratio", "ratio_range", "error_tv", "error_tv_area", "peak_mib")
        peers[name] = {**dict.fromkeys(absent), "missing": remedy}
    return {
        "case": title,
        "ours_s": statistics.median(own),
        "ours_s_range": [min(own), max(own)],
        "frames_per_s": frames / statistics.median(own),
        **{f"ours_{key}": value for key, value in rows[ours].items()},
        "peers": peers,
    }
