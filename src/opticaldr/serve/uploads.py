"""Receiving one file of a multipart form in memory, counted while it streams.

Starlette's own form parser writes files above 1 MB to the temporary folder. Faces must not be
written anywhere, so the parser of python-multipart is fed here, chunk by chunk, into memory.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import anyio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from opticaldr.serve.errors import ServiceError
from opticaldr.serve.limits import MEBI
from opticaldr.serve.load import HeldBytes

ENVELOPE = 64 * 1024
"""Bytes that a form may have around its file: boundaries and part headers."""
MAX_NAME = 120


@dataclass(frozen=True)
class Upload:
    """One uploaded file. name: what the client calls it, without folders. data: its bytes."""

    name: str
    data: bytes = field(repr=False)


@asynccontextmanager
async def received(
    request: Request, *, most: int, seconds: float, held: HeldBytes
) -> AsyncIterator[Upload]:
    """The part `file` of a multipart form; its bytes count as held until the block ends.

    Args:
        most: bytes that the file may have; more are refused as soon as they have arrived.
        seconds: within which the whole form must arrive.

    Raises:
        ServiceError: 408, 413, 415 (no multipart form), 422 (no file in it) or 429.
    """
    form = _Form(_boundary(request))
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > most + ENVELOPE:
        raise _too_large(most)
    size = 0
    try:
        try:
            with anyio.fail_after(seconds):
                async for chunk in request.stream():
                    size += len(chunk)
                    held.take(len(chunk))
                    if size > most + ENVELOPE:
                        raise _too_large(most)
                    form.feed(chunk)
        except TimeoutError:
            raise ServiceError(
                408,
                "too_slow",
                f"Expected the upload within {seconds:g} s, found it unfinished; send a smaller "
                "file.",
            ) from None
        upload = form.finish()
        if len(upload.data) > most:
            raise _too_large(most)
        yield upload
    finally:
        held.give_back(size)


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise ServiceError(
            415,
            "not_a_form",
            "Expected multipart/form-data with a part named file, found another content type; "
            "send the file as a form.",
        )
    return boundary


def _too_large(most: int) -> ServiceError:
    return ServiceError(
        413,
        "too_large",
        f"Expected a file of at most {most / MEBI:g} MiB, found more; send a smaller one.",
    )


def _bad_form(found: str) -> ServiceError:
    return ServiceError(
        422,
        "bad_form",
        f"Expected a multipart form with one file in a part named file, found {found}; send it "
        "again.",
    )


class _Form:
    """Takes the file out of a form that arrives in chunks; it is the form's only part."""

    def __init__(self, boundary: bytes) -> None:
        self._header = {"name": b"", "value": b""}
        self._disposition = b""
        self._name: str | None = None
        self._data = io.BytesIO()
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._part_data,
                    "on_end": self._form_ends,
                },
            )
        except FormParserError:
            raise _bad_form("a boundary that cannot be used") from None

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _bad_form("data that do not parse") from None

    def finish(self) -> Upload:
        if self._name is None:
            raise _bad_form("no such part")
        if not self._ended:
            raise _bad_form("a form that is cut off")
        return Upload(self._name, self._data.getvalue())

    def _part_begins(self) -> None:
        if self._name is not None:
            raise _bad_form("more than one part")

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header["name"] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header["value"] += data[start:end]

    def _header_ends(self) -> None:
        if self._header["name"].lower() == b"content-disposition":
            self._disposition = self._header["value"]
        self._header = {"name": b"", "value": b""}

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != b"file":
            raise _bad_form("a part of another name")
        given = options.get(b"filename", b"").decode("utf-8", "replace")
        self._name = _plain(given) or "upload"

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data.write(memoryview(data)[start:end])

    def _form_ends(self) -> None:
        self._ended = True


def _plain(name: str) -> str:
    """The last part of a file name, without control characters."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return "".join(letter for letter in last if letter.isprintable())[:MAX_NAME]
