"""opticaldr export: ONNX graphs of a trained run, for machines without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def export(
    model: Annotated[Path, typer.Option("--model", help="Folder of a trained run.")],
    to: Annotated[Path, typer.Option("--out", help="Folder for the two graphs.")],
    lens: Annotated[
        str | None,
        typer.Option("--lens", help="lens.json of the lens as made; none = the run's own."),
    ] = None,
    depth: Annotated[
        float, typer.Option("--depth", help="Metres from lens to face in with_lens.onnx.")
    ] = 1.0,
) -> None:
    """Write with_lens.onnx (simulated camera) and head_only.onnx (a real one), checked.

    Example: opticaldr export --model demo-run --out onnx
    """
    from opticaldr.cli.progress import bars
    from opticaldr.export import export_run

    out = Console()
    with bars(Console(stderr=True)) as progress:
        written = export_run(model, to, lens=lens, depth_m=depth, on_progress=progress.on_progress)
    for graph in written:
        found = ", ".join(f"{name} {value:.1g}" for name, value in graph.differences.items())
        out.print(f"{graph.path}: largest difference to PyTorch: {found}", soft_wrap=True)
    out.print("What goes in and comes out, and what it means, stands in the files' metadata.")
