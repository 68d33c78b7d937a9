"""Running the application: a socket that is ours before anything is loaded, and a clean end."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable

import torch
import uvicorn

from opticaldr.serve.app import Settings, create_app
from opticaldr.types import InputError

GRACE_S = 5
"""How long answers in work may take after Ctrl-C [s]."""


def run_service(settings: Settings, port: int, *, on_ready: Callable[[str], None]) -> None:
    """Serves until Ctrl-C.

    Args:
        port: 0 takes a free one.
        on_ready: called with the address once the socket listens and the lens is loaded.

    Raises:
        InputError: the port is in use, or the host is no address of this machine.
    """
    listening = _listen(settings.access.host, port)
    with listening:
        app = create_app(settings)
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # quotes what it receives
        torch.set_num_threads(1)  # several small pictures at once, rather than one on all cores
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # addresses hold parameters, and who asked for what is nobody's business
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
        )
        name = f"[{settings.access.host}]" if ":" in settings.access.host else settings.access.host
        on_ready(f"http://{name}:{listening.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _cannot_listen(host, port, error) from None
    try:
        # a service that was killed leaves its port busy for a minute without this
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise _cannot_listen(host, port, error) from None
    return listening


def _cannot_listen(host: str, port: int, error: OSError) -> InputError:
    if error.errno == errno.EADDRINUSE:
        return InputError(
            f"Expected a free port, found {port} in use on {host}; end the other program or choose "
            "another --port (0 = any free one)."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return InputError(
            f"Expected a port that you may open, found {port}; choose one above 1023."
        )
    return InputError(
        f"Expected --host to be an address of this machine, found '{host}' ({error.strerror}); "
        "leave it out for this machine alone."
    )
