"""opticaldr serve: the web page and REST API of one lens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from opticaldr.errors import InputError


def serve(
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Folder of a trained run, for scores and its lens."),
    ] = None,
    lens: Annotated[
        str | None,
        typer.Option(
            "--lens",
            help="A lens alone, without scores: lens.json, run folder or preset; focused if neither.",
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 = a free one.", min=0, max=65535)] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="OPTICALDR_TOKEN",
            help="Word that every request must bring; needed with another --host.",
        ),
    ] = None,
) -> None:
    """Show a page in the browser: what the eye sees and what the camera records, side by side.

    Example: opticaldr serve --model demo-run
    """
    out = Console()
    try:
        from opticaldr.serve.app import Settings
        from opticaldr.serve.security import Access
        from opticaldr.serve.server import run_service
    except ModuleNotFoundError as error:
        raise InputError(
            f"Expected the parts of the web service, found no {error.name}; run: pip install "
            "'opticaldr[serve]'"
        ) from None

    def say(address: str) -> None:
        out.print(f"Ready: {address}", soft_wrap=True, highlight=False)
        out.print("Page: /   interface for programs: /openapi.json", highlight=False)
        out.print("Faces stay in memory; nothing is written. Ctrl-C ends the service.")
        if token:
            out.print("In a browser, open it once as /?token=TOKEN", markup=False)
        if model is None:
            out.print("A lens alone gives no score; --model RUN shows a trained run.")

    try:
        run_service(Settings(model, lens, Access(host, token)), port, on_ready=say)
    except KeyboardInterrupt:
        out.print("Stopped.")
