"""The service as a process: real sockets, Ctrl-C, kill -9, a client that goes, a disk that is full."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from opticaldr.model import build_model, save_model
from serving import Service, encoded, picture, refused, started, video

START_S = 60.0
"""Loading torch and the weights on a busy core."""


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_config) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_model(build_model(tiny_config), tiny_config, folder)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory, run) -> Iterator[Service]:
    with started(tmp_path_factory.mktemp("home"), "--model", run) as running:
        yield running


@pytest.mark.timeout(START_S * 3)
def test_it_works_where_nothing_can_be_written(service):
    assert service.get("/").status_code == 200
    assert service.post("/api/capture", encoded(picture())).status_code == 200
    large = encoded(np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8))
    assert service.post("/api/restore", large).status_code == 200
    id = service.post("/api/jobs?detect=false", video(40)).json()["id"]
    while (job := service.get(f"/api/jobs/{id}").json())["state"] in ("queued", "running"):
        time.sleep(0.02)
    assert (job["state"], job["done"]) == ("done", 40)
    assert service.written() == []


def test_a_refused_upload_gets_its_answer(service):
    """The client is still sending when 413 is decided; it must read it, not a broken pipe."""
    refused(service.post("/api/capture", bytes(24 * 2**20)), 413, "too_large")
    streamed = httpx2.post(
        service.url + "/api/capture",
        content=(bytes(2**20) for _ in range(24)),
        headers={"content-type": "multipart/form-data; boundary=b"},
        timeout=30,
    )
    assert streamed.status_code in (413, 422)  # 422: these bytes are no form


def test_a_client_that_goes_while_it_sends_leaves_no_trace(service):
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(
                b"POST /api/capture HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n" + bytes(5000)
            )
    assert service.get("/api/health").json()["status"] == "ok"
    assert service.post("/api/capture", encoded(picture())).status_code == 200
    assert service.written() == []


def test_answers_do_not_name_the_server(service):
    assert "server" not in service.get("/api/health").headers


def test_kill_and_restart_on_the_same_port_then_ctrl_c(service, run, tmp_path):
    """Uses up the service of this module."""
    open_connection = httpx2.Client(base_url=service.url)  # its port stays in TIME_WAIT
    assert open_connection.get("/api/health").status_code == 200
    service.process.kill()
    service.process.wait(10)
    with started(tmp_path, "--model", run, port=service.port) as again:
        assert again.get("/api/health").json()["model"] is True
        again.post("/api/jobs?detect=false", video(200))  # Ctrl-C cancels it
        again.process.send_signal(signal.SIGINT)
        out, err = again.process.communicate(timeout=20)
        assert again.process.returncode == 0
        assert out.strip().endswith("Stopped.")
        assert err == ""
    open_connection.close()
