"""Images of a data set looked at by all cores, given back in their order.

The workers are forks, so the table is not copied to them. Each takes every n-th chunk and waits
when the parent does not take what it found, so memory does not grow with the number of images.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from synthaug.pipeline.core.errors import RunError
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.skipped import Skipped

Facts = TypeVar("Facts")
CHUNK = 32  # images that a worker looks at before it tells
_LEAST = 128  # images for which a worker is worth its start
Chunk = tuple[list[Facts], Skipped]
# table, index -> what is kept of an image; None, counted, for one that cannot be read
Look = Callable[[Dataset, int, Skipped], Facts | None]


def num_workers(images: int) -> int:
    """Return how many processes look at so many images: one per core, fewer for few."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(min(cores, images // _LEAST), 1)


def look_at_all(table: Dataset, workers: int, look: Look[Facts]) -> Iterator[Chunk[Facts]]:
    """Yield the facts of all images in chunks, in order, with what could not be read.

    Raises what `look` raises, and RunError for a worker that was killed.
    """
    starts = range(0, len(table), CHUNK)
    if workers == 1 or "fork" not in multiprocessing.get_all_start_methods():
        for start in starts:
            yield _chunk(table, start, look)
        return
    fork = multiprocessing.get_context("fork")
    lanes: list[tuple[Any, Connection]] = []
    try:
        for lane in range(workers):
            receiver, sender = fork.Pipe(duplex=False)
            inherited = [receiver, *(other for _, other in lanes)]
            words = (table, starts[lane::workers], look, sender, inherited)
            process = fork.Process(target=_work, args=words, daemon=True)
            process.start()
            sender.close()
            lanes.append((process, receiver))
        for number, start in enumerate(starts):
            yield _received(lanes[number % workers][1], start)
    finally:
        for process, receiver in lanes:
            process.kill()
            process.join()
            receiver.close()


def _chunk(table: Dataset, start: int, look: Look[Facts]) -> Chunk[Facts]:
    skipped = Skipped()
    found = []
    for index in range(start, min(start + CHUNK, len(table))):
        facts = look(table, index, skipped)
        if facts is not None:
            found.append(facts)
    return found, skipped


def _received(receiver: Connection, start: int) -> Chunk[Any]:
    try:
        content = receiver.recv()
    except EOFError as err:
        raise RunError(
            f"a worker process ended while it read images {start} to {start + CHUNK}; "
            "was it killed for want of memory? free some and try again"
        ) from err
    if isinstance(content, Exception):
        raise content
    chunk: Chunk[Any] = content
    return chunk


def _work(
    table: Dataset,
    starts: range,
    look: Look[Facts],
    sender: Connection,
    inherited: Sequence[Connection],
) -> None:
    """Look at the chunks of one lane; what goes wrong is told as an exception."""
    for receiver in inherited:
        receiver.close()  # so that a worker notices when the parent is gone
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    try:
        for start in starts:
            sender.send(_chunk(table, start, look))
    except BrokenPipeError:
        return  # the parent is gone
    except Exception as err:  # handed to the parent, which raises it
        sender.send(err)
