"""One JSON shape for every refusal: {"error": {"code", "message", "status"}}; contents never in it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from opticaldr.types import InputError

NAMES = {404: "not_found", 405: "bad_method"}


class ErrorBody(BaseModel):
    """What was expected, what was found, and what to do."""

    code: str = Field(description="A word for programs, such as too_large.")
    message: str = Field(description="A sentence for people.")
    status: int = Field(description="The HTTP status once more.")


class ErrorAnswer(BaseModel):
    """The answer to every request that is refused."""

    error: ErrorBody


class ServiceError(Exception):
    """A refusal with its status; the message says expected, found, what to do."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


MEANINGS = {
    401: "The service was started with a token, and the request brought none or a wrong one.",
    403: "The request came for another host or from another site.",
    404: "No such thing.",
    408: "The upload took too long.",
    409: "No trained model is loaded.",
    413: "More bytes, pixels, frames or seconds than the limits of /api/health.",
    415: "Not a picture or video of a kind that is read, or a damaged one.",
    422: "A parameter or the form is missing or outside its range.",
    429: "Too much work at once; try again soon.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of refusals; 401 and 403 can happen anywhere."""
    return {
        status: {"model": ErrorAnswer, "description": MEANINGS[status]}
        for status in (401, 403, *statuses)
    }


def refusal(error: ServiceError) -> Response:
    """The answer in the one shape."""
    body = ErrorBody(code=error.code, message=error.message, status=error.status)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "2"}}
    answer = ErrorAnswer(error=body).model_dump()
    return JSONResponse(answer, error.status, headers=headers.get(error.status))


def install(app: FastAPI) -> None:
    """Answers every expected exception in the one shape; Guard answers the others."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(InputError, _input_error)
    app.add_exception_handler(RequestValidationError, _bad_parameter)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_gone)


async def _service_error(request: Request, error: ServiceError) -> Response:
    return refusal(error)


async def _input_error(request: Request, error: InputError) -> Response:
    return refusal(ServiceError(422, "bad_input", str(error)))


async def _bad_parameter(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    wanted = first["msg"].removeprefix("Input ").removeprefix("should be ")
    found = "nothing" if first["type"] == "missing" else repr(first["input"])[:40]
    message = f"Expected {name} to be {wanted}, found {found}; see /openapi.json."
    return refusal(ServiceError(422, "bad_parameter", message))


async def _http_error(request: Request, error: HTTPException) -> Response:
    message = (
        f"Expected a path and method of /openapi.json, found {request.method} "
        f"{request.url.path[:80]} ({error.detail}); check the spelling."
    )
    answer = refusal(ServiceError(error.status_code, NAMES.get(error.status_code, "http"), message))
    answer.headers.update(error.headers or {})
    return answer


async def _client_gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody is there to read it
