"""Draws the figures of docs/site from rendered people: python tools/site_figures.py

A minute on two cores. Nothing in them is a photograph.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from opticaldr.camera import load_camera
from opticaldr.serve.optics import LiveCamera, Shot, person
from opticaldr.serve.pictures import psf_picture

SITE = Path(__file__).parents[1] / "docs/site"
FOLDER = SITE / "img"
PERSON, SIDE = 7, 256
CAMERAS = (("focused", 1.0), ("focused", 0.33), ("focused", 0.2), ("literal", 1.0))
ATTACKED = (("focused", 0.2), ("literal", 1.0), ("gaussian_lens.json", 1.0))
FRAMES = (1, 10, 100)


def sheet(rows: list[list[tuple[str, np.ndarray]]], path: Path) -> None:
    """Rows of titled pictures as one JPEG file."""
    columns = len(rows[0])
    figure = Figure(figsize=(1.9 * columns, 2.1 * len(rows)), dpi=100, layout="constrained")
    for axes, (title, image) in zip(
        figure.subplots(len(rows), columns).flat,
        [cell for row in rows for cell in row],
        strict=True,
    ):
        axes.imshow(image)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    path.parent.mkdir(exist_ok=True)
    Image.open(drawn).convert("RGB").save(path, quality=88, optimize=True)


def main() -> None:
    """Writes captures.jpg and restored.jpg."""
    face = person(PERSON, 512)
    live = {name: LiveCamera(load_camera(name)) for name, _ in CAMERAS}
    shots = [(name, depth_m, Shot(SIDE, depth_m)) for name, depth_m in CAMERAS]
    captured = [("what the eye sees", face)]
    captured += [(f"{n}, {d:g} m", live[n].capture(face, s)) for n, d, s in shots]
    point = np.pad(np.ones((3, 1, 1)), ((0, 0), (2, 2), (2, 2)))
    spots = [("a point of light", psf_picture(point, SIDE))]
    spots += [("its spot", psf_picture(live[n].psf(s)[0].numpy(), SIDE)) for n, _, s in shots]
    sheet([captured, spots], FOLDER / "captures.jpg")
    rows = []
    for name, depth_m in ATTACKED:
        path = SITE / name
        camera = live.get(name) or LiveCamera(load_camera(path))
        shot = Shot(SIDE, depth_m)
        row = [(f"{path.stem}, {depth_m:g} m", camera.capture(face, shot))]
        for frames in FRAMES:
            restored, _ = camera.restore(face, shot, frames)
            row.append((f"from {frames} frame{'s' * (frames > 1)}", restored))
        rows.append([*row, ("the clear picture", face)])
    sheet(rows, FOLDER / "restored.jpg")


if __name__ == "__main__":
    main()
