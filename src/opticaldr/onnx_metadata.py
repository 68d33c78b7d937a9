"""What an exported graph says about itself: one line of text per key, in the file's own metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opticaldr import __version__, notices
from opticaldr.camera import describe_camera
from opticaldr.evaluate import CLIP_FRAMES
from opticaldr.model import OpticalDR
from opticaldr.onnx_graphs import WINDOWED, HeadOnly, WithLens
from opticaldr.predict import read_half_width
from opticaldr.results import read_json
from opticaldr.types import EMOTIONS

FOREIGN_LENS = (
    "The network was trained behind another lens than this one: how wrong its scores are here has "
    "not been measured."
)
UNMEASURED = "No score of this run was ever compared with a label: how good they are is not known."


def describe_graph(
    graph: HeadOnly | WithLens, model: OpticalDR, run: Path, *, depth_m: float
) -> dict[str, str]:
    """The metadata of a graph.

    model: with the camera that the graph is for, which need not be that of the run.
    """
    lens = describe_camera(model.camera)["sha256"]
    trained = read_json(run / "lens.json")["sha256"]
    half_width = read_half_width(run / "calibration.json") if lens == trained else None
    size, network = model.camera.lens.config.sensor_pixels, model.network.config
    results = read_json(run / "results.json") if (run / "results.json").exists() else None
    windowed = network.temporal in WINDOWED
    score = "of the whole window" if windowed else "of each frame"
    found = {
        "project": "opticaldr",
        "version": __version__,
        "graph": graph.name,
        "lens_sha256": lens,
        "trained_lens_sha256": trained,
        "picture": f"(n, 3, {size}, {size}) float32, R G B, sRGB-encoded, in [0, 1]; centre square "
        "or aligned face, as in training",
        "picture_size": str(size),
        "normalisation": "inside the graph: clip to [0, 1], then (sRGB - 0.5) / 0.25",
        "temporal": network.temporal,
        "frames": f"n successive frames of one person, at most {CLIP_FRAMES}"
        if windowed
        else "n pictures, each on its own",
        "severity": f"BDI-II points, one score {score}, not clipped; average the scores of a "
        "recording, weighted by frames, then clip to score_range",
        "score_range": "0 63",
        "half_width": "unknown" if half_width is None else f"{half_width:g}",
        "half_width_meaning": "the 90 % interval of a whole recording is its score -/+ half_width, "
        "from validation recordings",
        "emotion": "(n, 7) logits: " + " ".join(EMOTIONS),
        "landmarks": "(n, 10) x y of eyes, nose tip, mouth corners, image left first, as a share "
        "of the picture's side",
        "synthetic": "unknown" if results is None else str(bool(results["synthetic"])).lower(),
        "disclaimer": notices.DISCLAIMER,
        "patents": notices.PATENTS,
        "licence": "Code: Apache-2.0. Weights: whatever the licences of the training data allow.",
        "data_licences": notices.DATA_LICENCES,
        "notes": " ".join(_notes(results, own_lens=lens == trained)),
    }
    if network.attribute_names:
        found["attributes"] = "(n, A) logits: " + " ".join(network.attribute_names)
    if "times_s" in graph.inputs:
        found["times_s"] = (
            "(n,) float64, time of each frame [s], in any order; zeros if not known. The score rests "
            "on motion alone, so without times, or from one frame, it is the same for everybody"
        )
    if isinstance(graph, WithLens):
        found |= {
            "depth_m": f"{depth_m:g}",
            "noise": "(n, 3, s, s) float32, a standard normal draw, new for every frame; zeros = "
            "no noise. The graph scales it by read_noise",
            "read_noise": f"{graph.sigma:g}",
            "capture": f"(n, 3, s, s) float32, linear light in [0, 1] as a share of full scale, "
            f"{graph.levels + 1} levels",
        }
    else:
        found["picture"] += "; what the camera recorded, never a clear picture"
    return found


def _notes(results: dict[str, Any] | None, *, own_lens: bool) -> list[str]:
    """Standing notices that apply; results: content of results.json."""
    found = [notices.OBSCURED_IS_NOT_PRIVATE]
    if results is not None and results["synthetic"]:
        found.append(notices.SYNTHETIC)
    if results is None or results["depression"] is None:
        found.append(UNMEASURED)
    if not own_lens:
        found.append(FOREIGN_LENS)
    return found
