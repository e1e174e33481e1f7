"""`synthaug studio`: what it opens of a run, and what it says where it cannot."""

from __future__ import annotations

import builtins
import socket
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `studio` is not installed")

from synthaug.pipeline.commands import studio
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.studio.server import serve


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="not a run folder"):
        studio.studio(tmp_path, 0, print)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(JobError, match=f"--port: {port} cannot be had"):
            serve.listen(port)


def test_it_listens_on_loopback_alone() -> None:
    with serve.listen(0) as listening:
        assert "127.0.0.1" == listening.getsockname()[0]


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "uvicorn":
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(JobError, match="uvicorn is not installed; pip install starlette uvicorn"):
        serve.check_installed()
