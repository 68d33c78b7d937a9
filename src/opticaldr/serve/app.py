"""The application: one page, its files, and the paths of the API behind one guard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from fastapi import Depends, FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from opticaldr import __version__
from opticaldr.notices import DISCLAIMER
from opticaldr.serve import routes_lens, routes_pictures, routes_scores
from opticaldr.serve.errors import install
from opticaldr.serve.limits import Limits
from opticaldr.serve.parameters import known_only
from opticaldr.serve.parts import load_parts
from opticaldr.serve.security import Access, Guard

DESCRIPTION = f"""The camera of one lens, simulated on uploaded pictures, and scores of pictures and
videos through a trained run. Frames live in memory only. /api/health lists every limit; every refusal
has the shape of ErrorAnswer. Distance is rounded to 1 cm, lens strength to 0.01, noise to 0.0001.

{DISCLAIMER}"""


@dataclass(frozen=True)
class Settings:
    """model: folder of a trained run. lens: what Lens.load takes, shown without scores.

    With neither, the untrained preset parts.UNTRAINED is shown.
    """

    model: Path | None = None
    lens: str | None = None
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)


def create_app(settings: Settings) -> FastAPI:
    """The service of one lens; what is slow to load is loaded here."""
    parts = load_parts(settings.model, settings.lens, settings.limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        parts.jobs.close()

    app = FastAPI(
        title="OpticalDR",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # its pages load scripts from other hosts
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
    )
    install(app)
    app.add_middleware(Guard, access=settings.access)
    for part in (routes_lens, routes_pictures, routes_scores):
        app.include_router(part.routes(parts), dependencies=[Depends(known_only)])

    static = Path(str(files("opticaldr").joinpath("serve/static")))
    app.mount("/static", StaticFiles(directory=static), name="static")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(static / "index.html")

    return app
