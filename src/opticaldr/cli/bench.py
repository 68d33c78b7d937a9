"""The `bench` commands: ratios against the peers that are installed, in one run."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

bench = typer.Typer(no_args_is_help=True, help="Speed, memory and error beside the peers.")
out = Console()
err = Console(stderr=True)


@bench.command()
def optics(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Rounds of the interleaved run.")
    ] = 5,
    depths: Annotated[int, typer.Option("--depths", min=1, help="Depths over 0.33-2 m.")] = 8,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
) -> None:
    """Compare the point spread functions with those of the peers: seconds, memory, error.

    Example: opticaldr bench optics --rounds 5 --json > bench.json
    """
    from opticaldr.bench.optics import bench_optics
    from opticaldr.cli.progress import bars

    with bars(err) as progress:
        report = bench_optics(
            rounds=rounds, depths=depths, device=device, on_progress=progress.on_progress
        )
    if as_json:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
        return
    for case in report["cases"]:
        table = Table("engine", "s", "ratio [min, max]", "error TV", "peak MiB", title=case["case"])
        ours = (case["ours_s"], None, None, case["ours_error_tv"], case["ours_peak_mib"])
        table.add_row("ours", *_cells(*ours))
        for name, peer in case["peers"].items():
            if "missing" in peer:
                table.add_row(name, f"missing: {peer['missing']}")
            else:
                keys = ("s", "ratio", "ratio_range", "error_tv", "peak_mib")
                table.add_row(name, *_cells(*(peer[key] for key in keys)))
        out.print(table)


@bench.command()
def predict(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    config: Annotated[
        str, typer.Option("--config", help="Preset, TOML file or run folder.")
    ] = "focused",
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Rounds of the interleaved run.")
    ] = 5,
) -> None:
    """Compare the network part of predict through ONNX Runtime and through PyTorch.

    Example: opticaldr bench predict --json
    """
    from opticaldr.bench.predict import OURS, bench_predict
    from opticaldr.cli.progress import bars
    from opticaldr.config import load_config

    with bars(err) as progress:
        report = bench_predict(load_config(config), rounds=rounds, on_progress=progress.on_progress)
    if as_json:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
        return
    for case in report["cases"]:
        frames = case["frames_per_s"] * case["ours_s"]
        table = Table("engine", "frames/s", "ratio [min, max]", title=case["case"])
        table.add_row(OURS, f"{case['frames_per_s']:.1f}", "")
        for name, peer in case["peers"].items():
            _, ratio, *_ = _cells(peer["s"], peer["ratio"], peer["ratio_range"], None, None)
            table.add_row(name, f"{frames / peer['s']:.1f}", ratio)
        out.print(table)
    out.print(f"{report['threads']} threads, {report['device']}.", highlight=False)


def _cells(
    seconds: float,
    ratio: float | None,
    spread: list[float] | None,
    error: float | None,
    peak: float | None,
) -> tuple[str, ...]:
    ratios = (
        "" if ratio is None or spread is None else f"{ratio:.1f} [{spread[0]:.1f}, {spread[1]:.1f}]"
    )
    return (
        f"{seconds:.4g}",
        ratios,
        "" if error is None else f"{error:.1e}",
        "" if peak is None else f"{peak:.0f}",
    )
