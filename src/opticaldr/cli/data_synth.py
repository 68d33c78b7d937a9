"""`opticaldr data synth`: writes the synthetic benchmark, with what is known about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from opticaldr.errors import InputError

out = Console()
err = Console(stderr=True)


def synth(
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="identity-shortcut, behaviour-only, static-confound, spatial-frequency, "
            "group-shift or null.",
        ),
    ],
    persons: Annotated[
        int, typer.Option("--persons", help="83 give AVEC 2014's 150 sessions.", min=1)
    ],
    to: Annotated[Path, typer.Option("--out", help="New folder.")],
    size: Annotated[
        int, typer.Option("--size", help="Side of the pictures in pixels.", min=16)
    ] = 128,
    seed: Annotated[int, typer.Option("--seed", help="Of everything that is drawn.", min=0)] = 0,
    frames: Annotated[int, typer.Option("--frames", help="Of each recording.", min=1)] = 32,
    step_s: Annotated[float, typer.Option("--step", help="Time between frames in seconds.")] = 0.5,
    video: Annotated[bool, typer.Option("--video", help="MP4 files, not PNG frames.")] = False,
    layout: Annotated[
        str, typer.Option("--layout", help="manifest, or avec2014: its folders and names.")
    ] = "manifest",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a knob: overlap=true, icc=0.5, nuisances.blur=0."),
    ] = None,
) -> None:
    """Write rendered people whose severity is known, and the best error that anybody can reach.

    Example: opticaldr data synth --preset behaviour-only --persons 100 --out benchmark
    """
    from opticaldr.cli.progress import bars
    from opticaldr.data.synthetic.export import write_benchmark
    from opticaldr.data.synthetic.presets import find_preset, with_settings

    if layout not in ("manifest", "avec2014"):
        raise InputError(f"Expected --layout manifest or avec2014, found '{layout}'.")
    law = with_settings(find_preset(preset), settings or [])
    with bars(err) as progress:
        truth = write_benchmark(
            to,
            law,
            persons,
            seed=seed,
            size=size,
            frames=frames,
            step_s=step_s,
            layout="avec2014" if layout == "avec2014" else "video" if video else "frames",
            progress=progress.on_render,
        )
    table = Table("best possible reader of the cues", "R²", "MAE", "MAE of a constant")
    for name, row in truth["optimum"].items():
        if isinstance(row, dict) and "r2" in row:
            cells = (f"{row[key]:.2f}" for key in ("r2", "mae", "constant_mae"))
            table.add_row(name.replace("_", " "), *cells)
    out.print(table)
    out.print(f"{truth['statement']}\nWritten: {to}", soft_wrap=True)
