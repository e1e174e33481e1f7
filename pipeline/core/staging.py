"""A folder that appears when all of it is written, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from synthaug.pipeline.core.storage import Folder

_LONG_NAME = 200  # bytes; a name has 255 at most


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Folder]:
    """Yield a folder that becomes `target` when the block ends well.

    It lies beside it, and vanishes when the block does not end well. What killed processes of this
    machine left beside it is removed first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
    name = target.name
    if len(os.fsencode(name)) > _LONG_NAME:  # nothing can be put before and after it
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    head = f".{name}.{host}."
    for left in target.parent.glob(f"{head}*.tmp"):
        pid = left.name.removeprefix(head).removesuffix(".tmp")
        if pid.isdecimal() and not _alive(int(pid)):
            shutil.rmtree(left)
    work = target.parent / f"{head}{os.getpid()}.tmp"
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, work, ignore_errors=True)
        work.mkdir()
        yield Folder.at(work)
        work.rename(target)  # also over an empty folder
        undo.pop_all()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
