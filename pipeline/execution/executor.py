"""Single tasks, pools of workers and process groups, as steps see them.

Two executors with one interface: `RayExecutor` (ray_executor.py), and here `SerialExecutor`, which
runs the same functions one after the other in this process, for tests, debugging and machines
without Ray. Results never depend on which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.storage import Folder

Tick = Callable[[], None]
Fits = Callable[[int], bool]  # whether a group of this size can do the work


class Executor(Protocol):
    """Runs the work of steps."""

    def call(
        self,
        function: Callable[..., Any],
        *args: Any,
        tick: Tick | None = None,
        gpu: bool = False,
    ) -> Any:
        """Run one task; `tick` is called about once a second meanwhile, in the driver.

        `gpu` says that it runs networks: where there are GPUs it is given one, or a share.
        """
        ...

    def pool(
        self,
        make: Callable[[], Callable[[Any], Any]],
        items: Iterable[Any],
        most: int | None = None,
        gpu: bool = False,
    ) -> Iterator[Any]:
        """Run items through stateful workers, each made once by `make`.

        There are as many workers as there is room for, at most `most`; more when machines join,
        fewer when they go. Those that run networks (`gpu`) are as many as the GPUs hold, where
        there are any. Yields results as they come.
        """
        ...

    def group(
        self,
        function: Callable[..., Any],
        size: int,
        *args: Any,
        tick: Tick | None = None,
        fits: Fits = lambda _: True,
    ) -> Any:
        """Run `function(*args)` on `size` processes; return rank 0's result.

        They are joined by torch.distributed (gloo or nccl), each with a GPU of its own where there
        are enough.

        Where one dies, or where there is no room for all, as many are started as there is room for
        and `fits` allows: the function learns how many from torch.distributed, which is not
        initialised when it is alone.
        """
        ...

    def check_machines(self, folder: Folder, name: str, images: Sequence[str] = ()) -> None:
        """Raise JobError where a machine does not see a file, or has other versions.

        The file is one of a folder; `images` are paths.
        """
        ...

    def close(self) -> None:
        """Stop what was started."""
        ...


class SerialExecutor:
    """Runs everything in this process, one after the other."""

    def call(
        self,
        function: Callable[..., Any],
        *args: Any,
        tick: Tick | None = None,
        gpu: bool = False,
    ) -> Any:
        """Run the task here."""
        result = function(*args)
        if tick:
            tick()
        return result

    def pool(
        self,
        make: Callable[[], Callable[[Any], Any]],
        items: Iterable[Any],
        most: int | None = None,
        gpu: bool = False,
    ) -> Iterator[Any]:
        """Run all items through one worker."""
        work = make()
        yield from map(work, items)

    def group(
        self,
        function: Callable[..., Any],
        size: int,
        *args: Any,
        tick: Tick | None = None,
        fits: Fits = lambda _: True,
    ) -> Any:
        """Run a group of one; more processes need Ray."""
        if size != 1:
            raise JobError(
                f"cluster.executor: 'serial' cannot train with {size} workers; set "
                "cluster.executor=ray"
            )
        return self.call(function, *args, tick=tick)

    def check_machines(self, folder: Folder, name: str, images: Sequence[str] = ()) -> None:
        """Nothing to check: there is this machine alone."""

    def close(self) -> None:
        """Nothing to stop."""
