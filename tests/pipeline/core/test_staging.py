"""A staged folder is there whole or not at all, and what was killed is cleared away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synthaug.pipeline.core.staging import staged
from synthaug.pipeline.core.storage import Folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left_by_dead_process(target: Path) -> Path:
    """Return a working folder as a process that is no more left it."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with staged(target):
        (own,) = target.parent.glob(f".{target.name}.*.tmp")
        left = own.with_name(own.name.replace(f".{os.getpid()}.", f".{ended.pid}."))
    target.rmdir()
    (left / "inner").mkdir(parents=True)
    (left / "inner" / "half").write_bytes(b"1")
    return left


def test_nothing_is_seen_before_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "out"
    with staged(target) as folder:
        folder.write_bytes("a", b"1")
        assert not target.exists()
    assert b"1" == (target / "a").read_bytes()
    assert ["out"] == names(target.parent)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), staged(tmp_path / "out") as folder:
        _write_half(folder, error)
    assert [] == names(tmp_path)


def _write_half(folder: Folder, error: type[BaseException]) -> None:
    folder.write_bytes("a", b"1")
    raise error


def test_an_empty_folder_is_replaced_and_a_full_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with staged(tmp_path / "empty") as folder:
        folder.write_bytes("a", b"1")
    assert ["a"] == names(tmp_path / "empty")
    with pytest.raises(OSError, match="not empty"), staged(tmp_path / "empty") as folder:
        folder.write_bytes("b", b"2")
    assert ["a"] == names(tmp_path / "empty")
    assert ["empty"] == names(tmp_path), "the working folder is gone"


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "out"
    left = left_by_dead_process(target)
    with staged(tmp_path / "other"):
        assert left.is_dir(), "it is of another target"
    with staged(target):
        assert not left.exists()


def test_what_another_machine_left_is_not_touched(tmp_path: Path) -> None:
    """A process of the same number may run there."""
    target = tmp_path / "out"
    left = left_by_dead_process(target)
    _, name, _host, pid, end = left.name.split(".")
    elsewhere = left.rename(tmp_path / f".{name}.00000000.{pid}.{end}")
    with staged(target):
        pass
    assert elsewhere.is_dir()


def test_a_folder_may_have_the_longest_name_there_is(tmp_path: Path) -> None:
    target = tmp_path / ("ü" * 127)  # 254 bytes
    with staged(target) as folder:
        folder.write_bytes("a", b"1")
    assert (target / "a").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_a_working_export_of_another_process_is_left_alone(tmp_path: Path) -> None:
    with staged(tmp_path / "out"):
        name = next(tmp_path.glob(".out.*.tmp"))
        other = name.with_name(name.name.replace(f".{os.getpid()}.", f".{os.getppid()}."))
        other.mkdir()
    with staged(tmp_path / "out2"), staged(tmp_path / "out3"):
        pass
    (tmp_path / "out").rmdir()
    with staged(tmp_path / "out"):
        pass
    assert other.is_dir()
