"""Limits and hostile uploads: each is refused with its status, before anything is decoded."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import anyio
import numpy as np
import pytest
from PIL import Image

from opticaldr.serve import uploads
from opticaldr.serve.app import Settings, create_app
from opticaldr.serve.errors import ServiceError
from opticaldr.serve.limits import MEBI, Limits
from opticaldr.serve.media_in import check_length, check_picture, check_video, picture
from opticaldr.serve.uploads import Upload
from serving import client, encoded, file, refused, video
from serving import picture as drawn

LIMITS = Limits(image_bytes=MEBI, image_pixels=10_000, video_pixels=2500, video_frames=30)


@pytest.fixture(scope="module")
def service():
    with client(Settings(limits=LIMITS)) as opened:
        yield opened


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side: int = 50_000) -> bytes:
    """A PNG of a few kilobytes that claims side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(2**20), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def gif_bomb() -> bytes:
    """2,000 frames of 65535 x 65535 in a few kilobytes."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + 2000 * frame


PNG = encoded(drawn(64))
HOSTILE = {
    "zero bytes": b"",
    "HTML as picture": b"<html><script>alert(1)</script></html>",
    "PNG cut in half": PNG[: len(PNG) // 2],
    "PNG signature alone": PNG[:8],
    "JPEG cut in half": encoded(drawn(64), "JPEG")[:500],
    "WebP cut in half": encoded(drawn(64), "WEBP")[:300],
    "BMP cut in half": encoded(drawn(64), "BMP")[:3000],
    "GIF bomb": gif_bomb(),
    "TIFF": encoded(drawn(64), "TIFF"),
    "playlist": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_picture_is_refused(service, what):
    answer = service.post("/api/capture?size=64", files=file(HOSTILE[what], "face.jpg"))
    refused(answer, 415, "not_a_picture")


def test_pixels_are_counted_from_the_header(service):
    """50,000 x 50,000 pixels would unpack to 7 GB; the answer needs no second."""
    assert len(bomb()) < 10_000
    refused(service.post("/api/capture", files=file(bomb())), 413, "too_many_pixels")
    refused(service.post("/api/capture", files=file(encoded(drawn(101)))), 413, "too_many_pixels")
    assert service.post("/api/capture?size=64", files=file(encoded(drawn(99)))).status_code == 200


def test_no_pixel_is_decoded_before_the_check(monkeypatch):
    def decode(*_, **__):
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "convert", decode)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    with pytest.raises(ServiceError, match="megapixels"):
        check_picture(Upload("a", bomb(6000)), LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_the_four_kinds_are_read(kind):
    image = drawn(40)
    found = picture(Upload("a", encoded(image, kind)), LIMITS)
    lost = 15 if kind in ("JPEG", "WEBP") else 0  # lossy ones drop most of the noise of 12
    assert np.abs(found.astype(int) - image).mean() <= lost


# --- bytes ---------------------------------------------------------------------------------------

OPENING = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
ENDING = b"\r\n--b--\r\n"


def post_chunks(limits: Limits, chunks: list[bytes], *, pause_s: float = 0.0) -> dict:
    """The refusal of a body that arrives in chunks, without Content-Length; then the client goes."""
    left, answers = list(chunks), []

    async def receive():
        await anyio.sleep(pause_s)
        if not left:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0), "more_body": True}

    async def send(message):
        answers.append(message)

    scope = {
        **{"type": "http", "method": "POST", "path": "/api/capture", "query_string": b""},
        **{"client": None, "server": None, "scheme": "http", "http_version": "1.1"},
        **{"root_path": "", "raw_path": b"/api/capture"},
        "headers": [
            (b"host", b"127.0.0.1"),
            (b"content-type", b"multipart/form-data; boundary=b"),
        ],
    }
    anyio.run(create_app(Settings(limits=limits)), scope, receive, send)
    return {"status": answers[0]["status"], "body": answers[1]["body"]}


def test_bytes_are_limited(service):
    refused(service.post("/api/capture", files=file(bytes(MEBI + 1))), 413, "too_large")
    just = service.post("/api/capture", files=file(bytes(MEBI)))
    refused(just, 415, "not_a_picture")  # as many as are allowed, but no picture


def test_bytes_are_counted_while_they_arrive(monkeypatch):
    fed = []
    monkeypatch.setattr(uploads._Form, "feed", lambda form, chunk: fed.append(len(chunk)))
    found = post_chunks(LIMITS, [OPENING, *[bytes(65536)] * 40])
    assert found["status"] == 413
    assert sum(fed) <= MEBI + uploads.ENVELOPE  # of 2.5 MiB that were sent


def test_a_slow_upload_is_let_go():
    slow = replace(LIMITS, upload_seconds=0.05)
    assert post_chunks(slow, [OPENING, *[b"x"] * 10], pause_s=0.02)["status"] == 408


def test_a_client_that_goes_is_no_fault_of_the_service():
    assert post_chunks(LIMITS, [OPENING, b"half a pic"])["status"] == 400


def test_uploads_together_are_limited():
    with client(Settings(limits=replace(LIMITS, held_bytes=1000))) as service:
        for _ in range(2):  # what was held is given back after a refusal
            refused(service.post("/api/capture", files=file(bytes(2000))), 429, "too_many")
        small = service.post("/api/capture", files=file(bytes(100)))
        refused(small, 415, "not_a_picture")


def test_requests_in_line_are_limited():
    with client(Settings(limits=replace(LIMITS, waiting=0))) as service:
        for answer in (service.post("/api/capture", files=file(PNG)), service.get("/api/psf.png")):
            refused(answer, 429, "too_many")
            assert answer.headers["retry-after"] == "2"


# --- forms and parameters ------------------------------------------------------------------------


def post_form(service, body: bytes, kind: str = "multipart/form-data; boundary=b"):
    return service.post("/api/capture?size=64", content=body, headers={"content-type": kind})


def test_a_form_is_read_as_it_is_defined(service):
    assert post_form(service, OPENING + PNG + ENDING).status_code == 200
    quoted = post_form(service, OPENING + PNG + ENDING, 'multipart/form-data; boundary="b"')
    assert quoted.status_code == 200


OTHER = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1'


@pytest.mark.parametrize(
    "body",
    [
        *[b"", b"--b--\r\n", b"nonsense", b"--b\r\n\r\nno header\r\n--b--\r\n"],
        OPENING + PNG,  # cut off
        OPENING + PNG + b"\r\n" + OPENING + PNG + ENDING,  # two files
        OTHER + b"\r\n" + OPENING + PNG + ENDING,
        OPENING + PNG + b"\r\n" + OTHER + ENDING,
        OTHER + ENDING,
    ],
)
def test_a_form_without_one_whole_file_is_refused(service, body):
    refused(post_form(service, body), 422, "bad_form")


@pytest.mark.parametrize(
    "kind", ["image/png", "multipart/form-data", "multipart/mixed; boundary=b"]
)
def test_another_content_type_is_refused(service, kind):
    refused(post_form(service, PNG, kind), 415, "not_a_form")


@pytest.mark.parametrize(
    "query",
    [
        *["depth_m=0.1", "depth_m=3.1", "depth_m=nan", "depth_m=inf", "depth_m=", "depth_m=near"],
        *["strength=-0.1", "strength=1.1", "noise=-1", "noise=0.3", "noise=nan"],
        *["seed=-1", "seed=99999999999", "seed=1.5", "size=65", "size=1000000", "size=0"],
    ],
)
def test_parameters_have_ranges(service, query):
    message = refused(service.post(f"/api/capture?{query}", files=file(PNG)), 422, "bad_parameter")
    assert query.split("=")[0] in message


def test_frames_are_1_10_or_100(service):
    answer = service.post("/api/restore?frames=7", files=file(PNG))
    assert "one of 1, 10, 100" in refused(answer, 422, "bad_parameter")


def test_file_names_are_cut_to_their_last_part():
    assert uploads._plain("../../etc/pass\nwd") == "passwd"
    assert uploads._plain("C:\\me\\face.png") == "face.png"
    assert len(uploads._plain(1000 * "x")) == uploads.MAX_NAME


# --- videos --------------------------------------------------------------------------------------

NO_VIDEO = {
    "zero bytes": b"",
    "HTML": b"<html>",
    "picture": PNG,
    "playlist": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
    "concat list": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "DASH": b"<MPD><BaseURL>http://127.0.0.1/</BaseURL></MPD>",
    "index cut off": video(20)[:600],
    "MP4 signature alone": b"\x00\x00\x00\x18ftypmp42" + bytes(100),
    "Matroska signature alone": b"\x1a\x45\xdf\xa3" + bytes(100),
    "stream of a codec that nobody knows": video(20).replace(b"avc1", b"\x00\xff\x00\xff"),
    "playlist behind a signature": b"\x00\x00\x00\x18ftyp\n#EXTM3U\nfile:///etc/passwd\n",
}


@pytest.mark.parametrize("what", NO_VIDEO)
def test_what_is_no_video_is_refused(what):
    with pytest.raises(ServiceError) as refusal:
        check_video(Upload("clip.mp4", NO_VIDEO[what]), LIMITS)
    assert (refusal.value.status, refusal.value.code) == (415, "not_a_video")


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "avi"])
def test_containers_are_read(container):
    stated = check_video(Upload("clip", video(20, container=container)), LIMITS)
    assert stated in (20, None)  # Matroska states no number


def test_pixels_frames_and_seconds_of_videos_are_limited():
    def code(data: bytes, **changed: float) -> str:
        with pytest.raises(ServiceError) as refusal:
            check_video(Upload("clip", data), replace(LIMITS, **changed))
        assert refusal.value.status == 413
        return refusal.value.code

    assert code(video(5, side=64)) == "too_many_pixels"
    assert code(video(31)) == "too_long"
    assert code(video(20, rate=5), video_seconds=3.0) == "too_long"
    check_length(30, 300.0, LIMITS)
