"""Who may ask: host names, origin, token; and the headers of every answer."""

from __future__ import annotations

import hashlib
import hmac
import logging
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opticaldr.serve.errors import ServiceError, refusal
from opticaldr.types import InputError

log = logging.getLogger("opticaldr.serve")

COOKIE = "opticaldr"
SHORTEST_TOKEN = 16
LOOPBACK = ("localhost", "127.0.0.1", "::1")
DRAIN_BYTES, DRAIN_S = 256 * 2**20, 5.0
"""What is read and dropped of an upload that is refused: a client that is still sending would
otherwise see a broken connection instead of the answer."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Access:
    """From where and with what word the service may be used.

    host: the address that it listens on; one that other machines reach needs a token.
    token: at least 16 characters; None = whoever reaches the loopback address may ask.
    """

    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise InputError(
                f"Expected --token with --host {self.host}, found none; other machines reach that "
                "address: give a long random token, or leave --host out."
            )
        if self.token is not None and not (
            len(self.token) >= SHORTEST_TOKEN and self.token.isascii() and self.token.isprintable()
        ):
            raise InputError(
                f"Expected a token of at least {SHORTEST_TOKEN} ASCII characters, found "
                f"{len(self.token)}; such as the output of: openssl rand -hex 16"
            )

    def knows_host(self, name: str) -> bool:
        """False for a name that a foreign site has pointed at this machine (DNS rebinding).

        On an address of the network the machine has names that are not known here; there the
        token, which a foreign site does not have, is the guard.
        """
        return not is_loopback(self.host) or name in (*LOOPBACK, self.host)

    def opens(self, word: str) -> bool:
        """True if this is the token; takes equally long for every wrong one."""
        return self.token is not None and _same(word, self.token)

    @property
    def cookie(self) -> str:
        """What the page's browser keeps instead of the token."""
        return hmac.new((self.token or "").encode(), b"opticaldr page", hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """True for an address that only this machine reaches."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _same(found: str, expected: str) -> bool:
    return hmac.compare_digest(found.encode("utf-8", "replace"), expected.encode())


class Guard:
    """Around the whole application: refuses strangers, sets headers, answers what nobody caught."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        answer = self._admit(scope)
        if answer is not None:
            await answer(scope, exchange.receive, exchange.send)
            return
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:  # noqa: BLE001 the last one who can answer
            # neither the message nor the variables: they may hold what a client has sent
            trace = error.__traceback__
            while trace and trace.tb_next:
                trace = trace.tb_next
            place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
            log.error("%s at %s", type(error).__name__, place)
            if not exchange.started:
                failed = ServiceError(
                    500,
                    "internal",
                    f"Expected an answer, found a fault of the service ({type(error).__name__}); "
                    "its log names the place.",
                )
                await refusal(failed)(scope, exchange.receive, exchange.send)

    def _admit(self, scope: Scope) -> Response | None:
        """None for whoever may pass, else the answer."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._access.knows_host(_name(f"//{host}")):
            return _foreign("host", host)
        origin = headers.get("origin", f"http://{host}")
        embedded = headers.get("sec-fetch-mode") != "navigate"  # following a link is no harm
        cross_site = headers.get("sec-fetch-site") == "cross-site" and embedded
        if cross_site or origin.partition("://")[2] != host:
            return _foreign("origin", origin)
        if self._access.token is None:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and self._access.opens(given):
            # the address without the token: it must not stay in the history
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, self._access.cookie, httponly=True, samesite="strict")
            return answer
        kind, _, word = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._access.opens(word.strip()):
            return None
        if _same(_cookie(headers), self._access.cookie):
            return None
        return refusal(
            ServiceError(
                401,
                "no_token",
                "Expected the token of this service, found none or a wrong one; send the header "
                "Authorization: Bearer TOKEN, or open /?token=TOKEN once in a browser.",
            )
        )


class _Exchange:
    """One request and its answer: drains a refused upload, sets the headers of every answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._whole = scope["method"] not in ("POST", "PUT", "PATCH")
        self.started = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._whole = self._whole or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(raw=message["headers"])
            for name, value in HEADERS.items():
                headers[name] = value
            message = {**message, "headers": headers.raw}
            if message["status"] >= 400:
                await self._drain()
        await self._send(message)

    async def _drain(self) -> None:
        dropped = 0
        with anyio.move_on_after(DRAIN_S):
            while not self._whole and dropped < DRAIN_BYTES:
                dropped += len((await self.receive()).get("body", b""))


def _foreign(what: str, found: str) -> Response:
    return refusal(
        ServiceError(
            403,
            f"wrong_{what}",
            f"Expected a request for this service by its own {what}, found '{found[:80]}'; open "
            "the address that the service printed when it started.",
        )
    )


def _name(address: str) -> str:
    """Host name of an address, without port, lower case; "" if it does not parse."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""
