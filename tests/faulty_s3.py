"""A server of S3 (moto's) on loopback that fails as real ones do, for tests and benchmarks."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

StartResponse = Callable[..., Any]
Environ = dict[str, Any]

HANG_SECONDS = 6.0  # a client that waits for an answer no longer than 3 s has given up by then
KEYS = {
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "y",
    "AWS_EC2_METADATA_DISABLED": "true",
}
# what may become of a request
ERROR, BUSY, HANG, DROP, HALF, LOST = "500", "503", "hang", "drop", "half", "lost"
ANSWERS = {
    ERROR: ("500 Internal Server Error", "InternalError"),
    BUSY: ("503 Slow Down", "SlowDown"),
}


@dataclass
class Faults:
    """A share of requests that fail, and outages in which all do."""

    share: float = 0.0
    kinds: tuple[str, ...] = (ERROR, BUSY, HANG, DROP, HALF, LOST)
    seed: int = 0
    seen: Counter[str] = field(default_factory=Counter)  # what became of requests
    requests: list[str] = field(default_factory=list)  # methods and paths
    _down_until: float = 0.0
    _lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def go_down(self, seconds: float) -> None:
        """Let all requests fail for a while."""
        self._down_until = time.monotonic() + seconds

    def next(self, request: str) -> str:
        """Return what becomes of a request, its method and path; "" for an answer."""
        with self._lock:
            self.requests.append(request)
            kind = ""
            if time.monotonic() < self._down_until:
                kind = DROP
            elif self._rng.random() < self.share:
                kind = self._rng.choice(self.kinds)
            self.seen[kind] += 1
            return kind


class FaultyApp:
    """A WSGI application that answers for another one, or fails."""

    def __init__(self, app: Any, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        kind = self._faults.next(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        if kind in ANSWERS:
            return _answer(*ANSWERS[kind], start_response)
        if kind == HANG:
            time.sleep(HANG_SECONDS)
        if kind in (HANG, DROP):
            return _drop(environ, start_response)
        if kind == LOST:  # it is done, and nobody is told
            b"".join(self._app(environ, lambda *_: None))
            return _drop(environ, start_response)
        body: Iterable[bytes] = self._app(environ, start_response)
        if kind == HALF and environ["REQUEST_METHOD"] == "GET":
            whole = b"".join(body)
            return [whole[: len(whole) // 2]]
        return body


def _answer(status: str, code: str, start_response: StartResponse) -> list[bytes]:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
    body = text.encode()
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]


def _drop(environ: Environ, start_response: StartResponse) -> list[bytes]:
    """End the connection without a word."""
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
    start_response("200 OK", [])
    return []


@contextmanager
def served(faults: Faults) -> Iterator[Callable[[str], str]]:
    """Serve an empty bucket; yields the function from a name in it to its address."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from pyarrow import fs
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                return  # the connection was ended by us, or by a client that waits no longer

        def log(self, *_: Any) -> None:
            return

    app = FaultyApp(DomainDispatcherApplication(create_backend_app), faults)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
    server.daemon_threads = True  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    place = f"127.0.0.1:{server.server_address[1]}"
    bucket = f"bucket-{server.server_address[1]}"  # moto's buckets are those of the process
    s3 = fs.S3FileSystem(
        endpoint_override=place, scheme="http", region="us-east-1", allow_bucket_creation=True
    )
    query = f"endpoint_override={place}&scheme=http&region=us-east-1"
    try:
        s3.create_dir(bucket)
        yield lambda name: f"s3://{bucket}/{name}?{query}"
    finally:
        server.shutdown()
        thread.join()
