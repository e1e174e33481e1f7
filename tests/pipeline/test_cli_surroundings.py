"""What surrounds any command: a full disk, a pipe nobody reads, SIGTERM, no temporary folder.

Each case is a fork of this process with the streams of its own: starting Python anew for every
command would take minutes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from PIL import Image

from synthaug.pipeline import cli
from synthaug.pipeline.cli import KEEPS, main

COMMANDS = sorted(main.commands)


def forked(words: list[str], stdout: int, before: Callable[[], Any] = bool) -> tuple[int, str]:
    """Run the command line in a fork; returns its exit code and what it says on stderr."""
    with tempfile.TemporaryFile() as told:
        pid = os.fork()
        if not pid:
            _run(words, stdout, told.fileno(), before)
        _, status = os.waitpid(pid, 0)
        told.seek(0)
        text = told.read().decode()
    return os.waitstatus_to_exitcode(status), text


def _run(words: list[str], stdout: int, stderr: int, before: Callable[[], Any]) -> None:
    """Take the streams, run and end."""
    code: Any = 99
    try:
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        before()
        main(words, prog_name="synthaug")
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        with contextlib.suppress(OSError, AttributeError):  # it may be full or closed
            sys.stderr.flush()
        os._exit(code)


def does(name: str, work: Callable[[], Any]) -> Callable[[], None]:
    """Return what makes a command do some work and take no arguments."""

    def change() -> None:
        main.commands[name].params = []
        main.commands[name].callback = work

    return change


@pytest.fixture
def full() -> Any:
    with Path("/dev/full").open("wb") as file:
        yield file.fileno()


@pytest.fixture
def unread() -> Any:
    """A pipe whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.fixture
def nowhere() -> Any:
    with Path(os.devnull).open("wb") as file:
        yield file.fileno()


FULL = "error: stdout: cannot be written (No space left on device)\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_behind_stdout_is_one_line(full: int, name: str) -> None:
    told = forked([name], full, does(name, lambda: click.echo("a line")))
    assert told == (1, FULL)
    assert forked([name, "--help"], full) == (1, FULL)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_pipe_that_nobody_reads_ends_a_command_quietly(unread: int, name: str) -> None:
    assert forked([name], unread, does(name, lambda: click.echo("a line"))) == (1, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_sigterm_ends_a_command_in_one_line(nowhere: int, name: str) -> None:
    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)

    code, told = forked([name], nowhere, does(name, work))
    assert code == 143
    kept = "; what was finished is kept: run the same command to go on" if name in KEEPS else ""
    assert told == f"stopped{kept}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_no_folder_for_temporary_files_is_one_line(nowhere: int, name: str) -> None:
    def work() -> None:
        tempfile.tempdir = None
        tempfile._candidate_tempdir_list = lambda: ["/proc/none"]  # type: ignore[attr-defined]
        tempfile.mkdtemp()

    code, told = forked([name], nowhere, does(name, work))
    assert (code, told.count("\n")) == (2, 1)
    assert told.startswith("error: TMPDIR: no folder for temporary files can be written")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_elsewhere_is_not_blamed_on_stdout(nowhere: int, name: str) -> None:
    def work() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    code, told = forked([name], nowhere, does(name, work))
    assert (code, told.count("\n")) == (1, 1)
    assert told.startswith("error: the disk is full (No space left on device); make room")


@pytest.mark.parametrize(("stop", "status"), [(KeyboardInterrupt, 130), (cli._StoppedError, 143)])
def test_a_stop_before_a_command_begins_is_a_stop(
    nowhere: int, stop: type[BaseException], status: int
) -> None:
    def reads(*_: Any) -> Any:
        raise stop

    def before() -> None:
        main.parse_args = reads  # type: ignore[method-assign]

    assert forked(["validate"], nowhere, before) == (status, "stopped\n")


@pytest.fixture
def words(tmp_path: Path) -> dict[str, list[str]]:
    """Commands with work to do."""
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 5, 20, 15]}],
        "categories": [{"id": 1, "name": "cup"}],
    }
    (tmp_path / "t.json").write_text(json.dumps(document))
    reference = f"coco:{tmp_path}/t.json"
    out = str(tmp_path / "out")
    return {
        "validate": ["validate", reference],
        "export": ["export", reference, "--to", "coco", "--out", out],
        "list": ["list"],
    }


@pytest.mark.parametrize("name", ["validate", "export", "list"])
def test_commands_at_work_tell_a_full_disk(
    words: dict[str, list[str]], full: int, name: str
) -> None:
    assert forked(words[name], full) == (1, FULL)


@pytest.mark.parametrize("name", ["validate", "export", "list"])
def test_commands_at_work_leave_with_their_reader(
    words: dict[str, list[str]], unread: int, name: str
) -> None:
    assert forked(words[name], unread) == (1, "")


def test_an_unwritable_tmpdir_is_passed_by(
    words: dict[str, list[str]], nowhere: int, tmp_path: Path
) -> None:
    def before() -> None:
        os.environ["TMPDIR"] = "/proc/none"  # the next place, such as /tmp, is taken
        tempfile.tempdir = None

    assert forked(words["validate"], nowhere, before) == (0, "")
    assert forked(words["export"], nowhere, before)[0] == 0
    assert (tmp_path / "out").is_dir()


def test_what_stderr_cannot_take_changes_no_exit_code(
    words: dict[str, list[str]], full: int, nowhere: int
) -> None:
    def fill() -> None:
        os.dup2(full, 2)

    def close() -> None:
        sys.stderr = None

    for before in (fill, close):
        assert forked(words["validate"], nowhere, before)[0] == 0
        assert forked(["validate", "coco:none.json"], nowhere, before)[0] == 2
