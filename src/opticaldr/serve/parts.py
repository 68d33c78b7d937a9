"""What the paths share: the camera, the trained run, the line of videos, room for uploads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from starlette.requests import Request

from opticaldr.camera import load_camera
from opticaldr.serve.errors import ServiceError
from opticaldr.serve.estimates import Estimator
from opticaldr.serve.jobs import Jobs
from opticaldr.serve.limits import Limits
from opticaldr.serve.load import HeldBytes, Workers
from opticaldr.serve.optics import LiveCamera
from opticaldr.serve.uploads import Upload, received
from opticaldr.types import InputError

T = TypeVar("T")

UNTRAINED = "focused"
"""The preset whose lens is shown when nothing else was asked for."""


@dataclass(frozen=True)
class Parts:
    """shown: the run, lens.json or preset whose lens it is. estimator: None without a trained run."""

    shown: str | Path
    limits: Limits
    camera: LiveCamera
    estimator: Estimator | None
    jobs: Jobs
    workers: Workers
    held: HeldBytes

    @property
    def card(self) -> Path | None:
        """The privacy card in the folder of the run or lens; None while there is none."""
        path = Path(self.shown) / "privacy_card.json"
        return path if path.exists() else None

    def upload(self, request: Request, *, most: int) -> AbstractAsyncContextManager[Upload]:
        """The file of a request's form, of at most `most` bytes."""
        return received(request, most=most, seconds=self.limits.upload_seconds, held=self.held)

    async def worked_on(self, request: Request, work: Callable[[Upload], T]) -> T:
        """Receives a picture and works on it in a thread."""
        with self.workers.place():
            async with self.upload(request, most=self.limits.image_bytes) as upload:
                return await self.workers.run(partial(work, upload))

    async def drawn(self, work: Callable[[], T]) -> T:
        """Work without an upload, in a thread."""
        with self.workers.place():
            return await self.workers.run(work)

    def trained(self) -> Estimator:
        """The estimator; ServiceError 409 without a trained run."""
        if self.estimator is None:
            raise ServiceError(
                409,
                "no_model",
                "Expected a trained run, found a lens alone, which gives no score; start the service "
                "with --model RUN.",
            )
        return self.estimator


def load_parts(run: Path | None, lens: str | None, limits: Limits) -> Parts:
    """Loads lens and weights, so that the first request does not wait for them."""
    if run and lens:
        raise InputError(
            "Expected --model or --lens, found both: a run is shown with its own lens; leave one out."
        )
    shown = run or lens or UNTRAINED
    return Parts(
        shown=shown,
        limits=limits,
        camera=LiveCamera(load_camera(shown)),
        estimator=Estimator(run) if run else None,
        jobs=Jobs(limits),
        workers=Workers(limits),
        held=HeldBytes(limits),
    )
