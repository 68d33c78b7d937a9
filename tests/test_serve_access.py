"""Who may ask: host names, origins, tokens; and the command line that starts the service."""

from __future__ import annotations

import socket
import sys

import pytest

from opticaldr.cli.app import main
from opticaldr.serve.app import Settings, create_app
from opticaldr.serve.security import COOKIE, Access, is_loopback
from opticaldr.types import InputError
from serving import client, encoded, file, picture, refused

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def service():
    with client() as opened:
        yield opened


@pytest.fixture
def locked():
    with client(Settings(access=Access("0.0.0.0", TOKEN))) as opened:
        yield opened


# --- host and origin ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""]
)
def test_foreign_host_names_are_refused(service, host):
    refused(service.get("/api/health", headers={"host": host}), 403, "wrong_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:8000", "[::1]:8000"])
def test_names_of_this_machine_are_known(service, host):
    assert service.get("/api/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},  # another service of this machine
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_other_sites_may_not_ask(service, headers):
    answer = service.post("/api/capture", files=file(encoded(picture())), headers=headers)
    refused(answer, 403, "wrong_origin")
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_itself_may_ask(service):
    own = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    assert service.get("/api/health", headers=own).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert service.get("/", headers=link).status_code == 200


# --- token ----------------------------------------------------------------------------------------


def test_without_the_token_nothing_answers(locked):
    for path in ("/", "/static/index.html", "/api/health", "/openapi.json", "/api/nothing"):
        answer = locked.get(path)
        refused(answer, 401, "no_token")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["cache-control"] == "no-store"
    refused(locked.post("/api/capture", files=file(encoded(picture()))), 401, "no_token")


@pytest.mark.parametrize("word", ["", "wrong", TOKEN[:-1], TOKEN + "x", "tökén"])
def test_a_wrong_token_opens_nothing(locked, word):
    headers = {"authorization": f"Bearer {word}".encode()}
    refused(locked.get("/api/health", headers=headers), 401, "no_token")
    refused(locked.get("/", params={"token": word}), 401, "no_token")
    refused(locked.get("/api/health", headers={"cookie": f"{COOKIE}={'x' * 64}"}), 401, "no_token")


def test_bearer_opens(locked):
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert locked.get("/api/health", headers=headers).status_code == 200


def test_the_page_trades_the_token_for_a_cookie(locked):
    answer = locked.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert locked.get("/api/health").status_code == 200  # the client keeps the cookie


def test_the_token_in_the_address_opens_the_page_alone(locked):
    refused(locked.get("/api/health", params={"token": TOKEN}), 401, "no_token")


def test_tokens_are_long_and_do_not_show():
    with pytest.raises(InputError, match="at least 16"):
        Access(token="short")
    with pytest.raises(InputError, match=r"Expected --token with --host 0\.0\.0\.0"):
        Access("0.0.0.0")
    assert TOKEN not in repr(Settings(access=Access(token=TOKEN)))
    assert [is_loopback(host) for host in ("127.0.0.2", "::1", "localhost")] == [True] * 3
    assert [is_loopback(host) for host in ("0.0.0.0", "192.168.1.2", "here.lan")] == [False] * 3


# --- faults ---------------------------------------------------------------------------------------


def test_a_fault_is_a_500_without_contents(monkeypatch, caplog):
    app = create_app(Settings())

    @app.get("/api/fault")
    async def fault() -> None:
        raise RuntimeError("the name of a patient")

    from starlette.testclient import TestClient

    answer = TestClient(app, base_url="http://127.0.0.1").get("/api/fault")
    assert "RuntimeError" in refused(answer, 500, "internal")
    assert "patient" not in answer.text + caplog.text
    assert "test_serve_access.py" in caplog.text  # the place is logged
    assert answer.headers["cache-control"] == "no-store"


# --- the command ----------------------------------------------------------------------------------


def command(monkeypatch, capsys, *arguments: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["opticaldr", "serve", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return stop.value.code, lines[0]


def test_a_port_in_use_is_one_sentence(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = command(monkeypatch, capsys, "--port", port)
    assert code == 2
    assert f"found {port} in use" in line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], "Expected --token with --host 0.0.0.0, found none"),
        (["--token", "short"], "Expected a token of at least 16 ASCII characters, found 5"),
        (["--model", "no-such-run", "--port", 0], "found 'no-such-run'"),
        (
            ["--host", "203.0.113.7", "--token", TOKEN],  # TEST-NET-3, RFC 5737: nobody's address
            "Expected --host to be an address of this machine",
        ),
    ],
)
def test_a_start_that_cannot_be_is_one_sentence(monkeypatch, capsys, arguments, sentence):
    code, line = command(monkeypatch, capsys, *arguments)
    assert code == 2
    assert sentence in line
