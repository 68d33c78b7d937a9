"""What the service answers, as pydantic models: the OpenAPI document is made of them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from opticaldr.serve.errors import ErrorBody


class Open(BaseModel):
    """An answer that may carry more keys than are described here."""

    model_config = ConfigDict(extra="allow")


class JobCount(BaseModel):
    """Videos that run or wait, and how many may."""

    running: int
    most: int


class Health(BaseModel):
    """That the service lives, and what it takes on."""

    status: Literal["ok"]
    version: str
    model: bool = Field(description="True if a trained run is loaded, so that predict answers.")
    card: bool = Field(description="True if the folder of the run or lens holds a privacy card.")
    lens: str = Field(description="Name of the run folder, lens file or preset that is shown.")
    lens_sha256: str
    limits: dict[str, int | float] = Field(description="Bytes, pixels, frames, seconds and counts.")
    jobs: JobCount


class Notices(BaseModel):
    """Standing texts that the page shows."""

    disclaimer: str
    patents: str


class LensAnswer(Open):
    """The content of lens.json, and what the live view offers."""

    sha256: str
    sensor_pixels: int
    depth_range_m: tuple[float, float] = Field(description="Distances that captures take [m].")
    designed_depth_range_m: tuple[float, float] = Field(description="depth_range_m of lens.json.")
    strength_range: tuple[float, float]
    noise_range: tuple[float, float] = Field(description="Read noise, share of full scale.")
    sizes: list[int] = Field(description="Sides of captures [px].")
    notices: Notices


class Card(Open):
    """The content of privacy_card.json."""

    schema_version: str
    grade: str


class EstimateAnswer(Open):
    """One line of `predict --json`: a research estimate, not a diagnosis."""

    input: str
    score: float | None = Field(description="BDI-II estimate in [0, 63].")
    band: str | None
    frames: int
    valid_frames: int
    flags: list[str]
    disclaimer: str


class JobAccepted(BaseModel):
    """Where to ask for the job: /api/jobs/{id}."""

    id: str


class JobAnswer(BaseModel):
    """A video in work. done, total: frames; total null if the video states no number."""

    id: str
    state: Literal["queued", "running", "done", "cancelled", "failed"]
    done: int
    total: int | None
    result: EstimateAnswer | None
    error: ErrorBody | None
