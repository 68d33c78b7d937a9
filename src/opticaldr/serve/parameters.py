"""Query parameters, forms and pictures as the OpenAPI document describes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import Response
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from opticaldr.serve.errors import ServiceError
from opticaldr.serve.optics import DEPTH_RANGE_M, NOISE_RANGE, STRENGTH_RANGE

LARGEST_SEED = 2**31 - 1

Depth = Annotated[
    float,
    Query(ge=DEPTH_RANGE_M[0], le=DEPTH_RANGE_M[1], description="Distance from lens to face [m]."),
]
Strength = Annotated[
    float,
    Query(
        ge=STRENGTH_RANGE[0],
        le=STRENGTH_RANGE[1],
        description="Lens strength: 0 = in focus, 1 = as designed.",
    ),
]
Noise = Annotated[
    Annotated[float, Field(ge=NOISE_RANGE[0], le=NOISE_RANGE[1])] | None,
    BeforeValidator(lambda given: None if given == "" else given),
    Query(description="Read noise as a share of full scale; empty = the sensor's own."),
]
Seed = Annotated[int, Query(ge=0, le=LARGEST_SEED, description="Of the sensor's noise.")]
AlreadyCaptured = Annotated[
    bool, Query(description="The upload comes from the camera itself: no lens is simulated.")
]
Detect = Annotated[
    bool, Query(description="Look for a face and align it; false = take the centre square.")
]


async def known_only(request: Request) -> None:
    """A dependency that refuses what a path does not take: a misspelt name would go unnoticed."""
    own = request.scope["route"].dependant
    takes = {field.alias for part in (own, *own.dependencies) for field in part.query_params}
    for name in request.query_params:
        if name not in takes:
            raise ServiceError(
                422,
                "bad_parameter",
                f"Expected {' or '.join(sorted(takes)) or 'no parameter'}, found '{name[:40]}'; see "
                "/openapi.json.",
            )


def one_of(numbers: Sequence[int], description: str) -> Any:
    """The type of a parameter that takes a few numbers (pydantic's Literal takes no text)."""

    def check(number: int) -> int:
        if number not in numbers:
            raise PydanticCustomError("enum", f"one of {', '.join(map(str, numbers))}")
        return number

    described = Query(description=description, json_schema_extra={"enum": list(numbers)})
    return Annotated[int, AfterValidator(check), described]


class Png(Response):
    """A PNG picture."""

    media_type = "image/png"


def png_or(refused: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of a path that answers with a PNG; to go with response_class=Response.

    With a response class of its own FastAPI would describe refusals as pictures as well.
    """
    content = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
    return {200: {"description": "A PNG picture.", "content": content}, **refused}


def form(what: str) -> dict[str, Any]:
    """The OpenAPI description of a multipart form with one file, which uploads.received reads."""
    part = {"type": "string", "format": "binary", "description": what}
    schema = {
        "type": "object",
        "properties": {"file": part},
        "required": ["file"],
        "additionalProperties": False,
    }
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}
