"""The `data` commands: look at a data set before it is used."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from opticaldr.cli.data_index import index
from opticaldr.cli.data_synth import synth

if TYPE_CHECKING:
    from opticaldr.data.check import Check

data = typer.Typer(no_args_is_help=True, help="Check, index and make data sets.")
data.command()(index)
data.command()(synth)
out = Console()
err = Console(stderr=True)

EXAMPLES = 3
"""Files that are named of a longer list."""


@data.command()
def check(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="NAME=PATH",
            help="avec2013, avec2014, manifest, celeba, lfw, affectnet, rafdb, ferplus, "
            "expressions.",
        ),
    ],
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every image and three frames of every video.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Count a data set, and say what is missing, unreadable or contradictory. Writes nothing.

    Example: opticaldr data check avec2014=/data/avec2014
    """
    from opticaldr.cli.progress import bars
    from opticaldr.data.check import check as check_data

    with bars(err) as progress:
        found = check_data(spec, deep=deep, on_progress=progress.on_progress)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=2) + "\n")
    else:
        _show(found)
    if not found.usable:
        raise typer.Exit(2)


def _show(found: Check) -> None:
    for table in _tables(found):
        out.print(table)
    for title, files in (
        *((f"left out ({reason})", what) for reason, what in found.left_out.items()),
        ("unreadable", [f"{file}: {why}" for file, why in found.unreadable.items()]),
        ("equal content", [" = ".join(files) for files in found.duplicates]),
    ):
        if files:
            more = f" and {len(files) - EXAMPLES} more" if len(files) > EXAMPLES else ""
            _say(f"{len(files)} {title}: {'; '.join(files[:EXAMPLES])}{more}")
    for finding in found.findings:
        _say(finding)
    for problem in found.problems:
        err.print(problem, style="red", markup=False, highlight=False, soft_wrap=True)
    if found.expected:
        _say(f"Expected below {found.path}:\n{found.expected}")
    if found.usable:
        _say(f"Can be used: --data {found.name}={found.path}")


def _tables(found: Check) -> list[Table]:
    tables = []
    if found.splits:
        table = Table("split", "people", "sessions", "recordings", "images", title=found.name)
        for split, counts in found.splits.items():
            table.add_row(split or "(none)", *(f"{count:,}" for count in counts.values()))
        tables.append(table)
    if found.shared:
        table = Table("people in two splits", "people", "their sessions")
        for pair in found.shared:
            sessions = ", ".join(f"{n} in {split}" for split, n in pair["sessions"].items())
            table.add_row(" and ".join(pair["splits"]), str(pair["people"]), sessions)
        tables.append(table)
    if found.severity:
        bands = list(next(iter(found.severity.values()))["bands"])
        table = Table("BDI-II of sessions", "n", "mean", "lowest", "highest", *bands)
        for split, row in found.severity.items():
            figures = (f"{row['mean']:.2f}", f"{row['lowest']:g}", f"{row['highest']:g}")
            counts = (str(count) for count in row["bands"].values())
            table.add_row(split or "(none)", str(row["sessions"]), *figures, *counts)
        tables.append(table)
    if found.protocols:
        table = Table("sessions by protocol", "train", "dev", "test", "left out")
        for protocol, row in found.protocols.items():
            table.add_row(protocol, *map(str, row.values()))
        tables.append(table)
    if found.emotions:
        table = Table("expression", *next(iter(found.emotions.values())))
        for split, counts in found.emotions.items():
            table.add_row(split or "(none)", *(f"{count:,}" for count in counts.values()))
        tables.append(table)
    return tables


def _say(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)
