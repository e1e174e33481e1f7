"""Serving the studio on a port of this machine, by uvicorn."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.studio.server.guard import PARAMETER, Guard
from synthaug.pipeline.studio.session import Session

HOST = "127.0.0.1"
MISSING = (
    "studio: this command needs Starlette and uvicorn, of which {name} is not installed; "
    "pip install starlette uvicorn"
)


def check_installed() -> None:
    """Raise JobError where the libraries of the extra `studio` are missing."""
    try:
        import starlette
        import uvicorn
    except ModuleNotFoundError as err:
        raise JobError(MISSING.format(name=err.name)) from err
    assert starlette and uvicorn


def listen(port: int) -> socket.socket:
    """Return a socket that listens on loopback alone; port 0 is any that is free."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as err:
        listening.close()
        raise JobError(
            f"--port: {port} cannot be had ({err.strerror}); give another one, or 0 for any"
        ) from err
    return listening


def serve(session: Session, listening: socket.socket, tell: Callable[[str], None]) -> None:
    """Serve a session until the user stops it.

    Tell its address, with the token of this start.
    """
    import uvicorn

    from synthaug.pipeline.studio.server.app import application

    port = listening.getsockname()[1]
    guard = Guard(secrets.token_urlsafe(32), port)
    config = uvicorn.Config(
        application(session, guard), log_level="warning", access_log=False, server_header=False
    )
    tell(f"studio:  http://{HOST}:{port}/?{PARAMETER}={guard.token}")
    tell("         open this address in a browser on this machine; Ctrl-C ends it")
    uvicorn.Server(config).run(sockets=[listening])
