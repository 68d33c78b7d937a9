"""Synthetic faces with known severity, rendered from embedded geometry; no downloads, no licences.

    from opticaldr.data import synthetic
    train = synthetic.photos(range(100), 8, seed=0)
    clips = synthetic.recordings(range(100), 12, seed=0)
    study = synthetic.benchmark("behaviour-only", 150, seed=0)

Synthetic results say nothing about patients. What needs torch is imported on first use, because
worker processes import this package and must not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opticaldr.data.synthetic.scenes import ATTRIBUTES

if TYPE_CHECKING:
    from opticaldr.data.synthetic.benchmark_set import benchmark, truth
    from opticaldr.data.synthetic.sets import photos, recordings

__all__ = ["ATTRIBUTES", "benchmark", "photos", "recordings", "truth"]


def __getattr__(name: str) -> Any:
    if name in ("benchmark", "truth"):
        from opticaldr.data.synthetic import benchmark_set

        return getattr(benchmark_set, name)
    if name in ("photos", "recordings"):
        from opticaldr.data.synthetic import sets

        return getattr(sets, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
