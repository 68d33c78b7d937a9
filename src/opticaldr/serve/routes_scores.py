"""Paths that score: a picture at once, a video as a job. Only with a trained run."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from starlette.requests import ClientDisconnect

from opticaldr.serve.answers import EstimateAnswer, JobAccepted, JobAnswer
from opticaldr.serve.errors import refusals
from opticaldr.serve.estimates import Question
from opticaldr.serve.jobs import Report
from opticaldr.serve.media_in import check_length, check_video, picture
from opticaldr.serve.parameters import AlreadyCaptured, Depth, Detect, Seed, form
from opticaldr.serve.parts import Parts
from opticaldr.serve.uploads import Upload

PICTURE = form("A JPEG, PNG, WebP or BMP.")
JobId = Annotated[str, Path(max_length=64, description="From POST /api/jobs.")]
VIDEO = form("An MP4, MOV, WebM, MKV or AVI; sound is ignored.")


async def _asked(
    already_captured: AlreadyCaptured = False,
    detect: Detect = True,
    depth_m: Depth = 1.0,
    seed: Seed = 0,
) -> Question:
    return Question(already_captured, detect, depth_m, seed)


Asked = Annotated[Question, Depends(_asked)]


def routes(parts: Parts) -> APIRouter:
    """The paths, bound to the parts of one service."""
    router = APIRouter(prefix="/api")
    limits, jobs = parts.limits, parts.jobs
    refused = refusals(408, 409, 413, 415, 422, 429)
    accepted = {202: {"links": {name: _link(name) for name in ("job", "cancel")}}}

    @router.post("/predict", responses=refused, openapi_extra=PICTURE)
    async def predict(request: Request, question: Asked) -> EstimateAnswer:
        """The estimate of one picture. Not a diagnosis."""
        estimator = parts.trained()

        def work(upload: Upload) -> dict[str, Any]:
            return estimator.image(picture(upload, limits), upload.name, question)

        return EstimateAnswer.model_validate(await parts.worked_on(request, work))

    @router.post("/jobs", status_code=202, responses={**refused, **accepted}, openapi_extra=VIDEO)
    async def submit(request: Request, question: Asked) -> JobAccepted:
        """Puts a video in line; ask for it at /api/jobs/{id}."""
        estimator = parts.trained()
        jobs.check_room()  # before a long upload
        with parts.workers.place():
            async with parts.upload(request, most=limits.video_bytes) as upload:
                total = await parts.workers.run(partial(check_video, upload, limits))
                if await request.is_disconnected():
                    raise ClientDisconnect  # nobody would learn the job's id, or cancel it

                def work(report: Report) -> dict[str, Any]:
                    def on_frame(done: int) -> None:
                        check_length(done, 0.0, limits)  # headers may lie
                        report(done)

                    return estimator.video(
                        upload, question, on_frame, max_pixels=limits.video_pixels
                    )

                return JobAccepted(id=jobs.submit(work, total).id)

    @router.get("/jobs/{id}", responses=refusals(404, 422))
    async def job(id: JobId) -> JobAnswer:
        """Progress or result of a video; results are forgotten after limits.kept_seconds."""
        return JobAnswer.model_validate(vars(jobs.get(id)))

    @router.delete("/jobs/{id}", responses=refusals(404, 422))
    async def cancel(id: JobId) -> JobAnswer:
        """Cancels a video within a batch of frames and forgets it; the answer is its last state."""
        return JobAnswer.model_validate(vars(jobs.cancel(id)))

    return router


def _link(operation: str) -> dict[str, Any]:
    """Where the id of an accepted job leads, for readers of the OpenAPI document."""
    return {"operationId": operation, "parameters": {"id": "$response.body#/id"}}
