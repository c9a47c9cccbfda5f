"""A web server for one reader on this machine: a fixed table of addresses under a secret, and nothing else.

No address is ever turned into a path: what is served is in the table before the server starts. Whoever does not know the secret
learns nothing, not even which addresses there are.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lnauto.errors import InputError

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
LONGEST_ADDRESS = 300  # characters
AT_ONCE = 16  # requests answered at a time
PER_SECOND, BURST = 50, 200  # requests; a page asks for fewer than a dozen
IDLE_SECONDS = 30  # after which a connection is closed
ASKING_SECONDS = 10  # that a request may take to arrive, byte by byte though it come
MOST_CONNECTIONS = 64  # a thread each; of more, that goes which has been asking for longest
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
    " connect-src 'self' data: blob:; worker-src blob:; font-src data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Served:
    """What lies at an address: as bytes, as a file, or as a file that is made when somebody asks for it."""

    content: bytes | Path | Callable[[], Path]
    kind: str  # its media type


class ViewServer(ThreadingHTTPServer):
    """Serves `table`, whose keys are addresses below the secret, to programs on this machine."""

    daemon_threads = True

    def __init__(self, table: Mapping[str, Served], port: int = 0) -> None:
        self.table = table
        self.secret = secrets.token_urlsafe(24)
        self.busy = threading.BoundedSemaphore(AT_ONCE)
        self.making = threading.Lock()  # a page that is loaded again asks for what is being written
        self.rate, self.strangers = Rate(PER_SECOND, BURST), Rate(PER_SECOND, BURST)
        self.open = threading.Lock()  # of these two
        self.asking: dict[socket.socket, float] = {}  # connections whose request is not there yet, since when
        self.answered: set[socket.socket] = set()
        try:
            super().__init__((LOOPBACK, port), Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError.of(
                f"nothing can be served there ({why})", f"--port {port}", "leave it out, or give another"
            ) from error
        self.hosts = {f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")}

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}/{self.secret}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Whoever knows the port can connect, so that neither many connections nor slow ones may keep the reader out."""
        with self.open:
            if len(self.asking) + len(self.answered) >= MOST_CONNECTIONS:
                slowest = next(iter(self.asking), request)
                self.asking.pop(slowest, None)
                _hang_up(slowest)
            self.asking[request] = time.monotonic()
        super().process_request(request, client_address)

    def has_asked(self, request: socket.socket) -> None:
        with self.open:
            self.asking.pop(request, None)
            self.answered.add(request)

    def shutdown_request(self, request: Any) -> None:
        with self.open:
            self.asking.pop(request, None)
            self.answered.discard(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Every half second, by `serve_forever`: a timeout for each byte alone would let a request take for ever."""
        with self.open:
            for request, since in self.asking.items():
                if time.monotonic() - since > ASKING_SECONDS:
                    _hang_up(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that hangs up in the middle is nothing to tell."""
        log.debug("A connection ended early.", exc_info=True)


def _hang_up(connection: socket.socket) -> None:
    """Whoever reads from it sees its end."""
    with suppress(OSError):  # the other side was as fast
        connection.shutdown(socket.SHUT_RDWR)


class Rate:
    """So many a second, and a few more at once."""

    def __init__(self, per_second: float, burst: int) -> None:
        self.per_second, self.burst = per_second, burst
        self.left, self.last = float(burst), time.monotonic()
        self.lock = threading.Lock()

    def allows(self) -> bool:
        with self.lock:
            now = time.monotonic()
            self.left = min(self.burst, self.left + (now - self.last) * self.per_second)
            self.last = now
            if self.left < 1:
                return False
            self.left -= 1
            return True


class Handler(BaseHTTPRequestHandler):
    server: ViewServer
    server_version, sys_version = "lnauto", ""
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def _answer(self, with_content: bool) -> None:
        self.server.has_asked(self.connection)
        refused = self._refused()
        if refused is not None:
            self.send_error(refused)
            return
        if not self.server.busy.acquire(timeout=IDLE_SECONDS):
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        try:
            self._send(self.server.table[self._below()], with_content)
        finally:
            self.server.busy.release()

    def _refused(self) -> HTTPStatus | None:
        """Why there is no answer. The host is compared because a page from elsewhere may reach this machine by a name of its own;
        browsers say where a request comes from."""
        given = self.path.encode().lstrip(b"/").partition(b"/")[0]
        known = secrets.compare_digest(given, self.server.secret.encode())
        if not (self.server.rate if known else self.server.strangers).allows():  # strangers do not use up the reader's share
            return HTTPStatus.TOO_MANY_REQUESTS
        if len(self.path) > LONGEST_ADDRESS:
            return HTTPStatus.REQUEST_URI_TOO_LONG
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        elsewhere = self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        if self.headers.get("Host") not in self.server.hosts or elsewhere:
            return HTTPStatus.FORBIDDEN
        if not known or self._below() not in self.server.table:
            return HTTPStatus.NOT_FOUND
        return None

    def _below(self) -> str:
        return self.path.lstrip("/").partition("/")[2]

    def _send(self, served: Served, with_content: bool) -> None:
        content = served.content
        if isinstance(content, bytes):
            self._start(served.kind, len(content))
            if with_content:
                self.wfile.write(content)
            return
        try:
            path = content if isinstance(content, Path) else self._made(content)
            file = path.open("rb")
        except (OSError, InputError) as error:
            log.warning("Not shown: %s", error)
            self.send_error(HTTPStatus.GONE)
            return
        with file:
            self._start(served.kind, path.stat().st_size)
            if with_content:
                shutil.copyfileobj(file, self.wfile)

    def _made(self, make: Callable[[], Path]) -> Path:
        with self.server.making:
            return make()

    def _start(self, kind: str, length: int) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002 (http.server's name)
        log.debug(format, *values)
