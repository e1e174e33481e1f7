"""Work on Ray: a private one on this machine, or one that is joined. The only door to Ray."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.errors import JobError, RunError, SynthaugError, first_line
from synthaug.pipeline.execution.executor import Executor, Fits, SerialExecutor, Tick

MIN_OBJECT_STORE = 100 * 2**20  # Ray refuses less than 75 MiB; pixels never travel through it
ATTEMPTS = 4  # times a training group is started before one gives up
PLACE_SECONDS = 15.0  # how long a group waits for room for all; after that it is started smaller
GRIEF_SECONDS = 20.0  # how long after one member failed another's death is looked for
PATIENCE = timedelta(
    hours=12
)  # of members for each other: rank 0 may evaluate meanwhile, and the dead are seen by Ray


class RayExecutor:
    """A private local Ray, or an existing one."""

    def __init__(self, workers: int, address: str, memory_mb: int) -> None:
        self.workers, self._joined = workers, bool(address)
        self._crew: list[Any] = []  # actors of the last pool
        if address:
            self.check_reachable(address)
        # made with mode 0700, and short, because Ray's socket paths may not exceed 107 bytes
        self._scratch = Path(
            tempfile.mkdtemp(prefix="sa-", dir="/tmp" if Path("/tmp").is_dir() else None)
        )
        self._environment(address)
        import ray  # after the environment: Ray reads it when imported

        self._ray: Any = ray
        options: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": "ERROR",
            "configure_logging": True,
        }
        if address:
            options["address"] = address
        else:
            options |= {
                "address": "local",
                "num_cpus": max(2, workers),
                "include_dashboard": False,
                "object_store_memory": max(MIN_OBJECT_STORE, memory_mb * 2**20),
                "_temp_dir": str(self._scratch),
            }
        try:
            ray.init(**options)
        except (
            Exception
        ) as err:  # Ray raises a dozen unrelated types here; all mean the same to the user
            self._forget_scratch()
            where = (
                f"Ray at '{address}' cannot be reached"
                if address
                else "a local Ray could not be started"
            )
            raise JobError(
                f"cluster.address: {where} ({first_line(err)}); set cluster.executor=serial to go without"
            ) from err

    def _environment(self, address: str) -> None:
        """Loopback only, private token, no usage statistics (see docs/architecture.md, Security)."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # several torch processes on few cores stall when idle threads spin for long; not spinning at all costs a third
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
        if not address:
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
            token = self._scratch / "token"
            token.touch(mode=0o600)
            token.write_text(_secret())
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)

    @staticmethod
    def check_reachable(address: str) -> None:
        """Ask the port before Ray does (JobError if it is closed): Ray retries for half a minute and prints pages."""
        host, _, port = address.removeprefix("ray://").partition(":")
        try:
            if not port.isdigit():
                raise OSError("the address has no port")
            socket.create_connection((host, int(port)), timeout=3).close()
        except OSError as err:
            raise JobError(
                f"cluster.address: Ray at '{address}' cannot be reached ({err}); "
                "start it, or leave cluster.address empty to use this machine"
            ) from err

    def call(self, function: Callable[..., Any], *args: Any, tick: Tick | None = None) -> Any:
        """Run one task; a killed worker is replaced and the task run again (it resumes from what it saved)."""
        self._dismiss()
        task = self._ray.remote(num_cpus=1, max_retries=3)(function)
        return self._wait(task.remote(*args), tick)

    def pool(
        self, make: Callable[[], Callable[[Any], Any]], items: Iterable[Any], workers: int
    ) -> Iterator[Any]:
        """Keep each actor busy with one item; items are drawn as actors come free, so a long stream costs no memory."""
        ray, todo = self._ray, iter(items)
        running: dict[Any, Any] = {}  # the actor of each item that is being done
        work, crew = (
            [ray.put(make)],
            self._hire(workers),
        )  # in a list: fetched once per actor, not with every item
        try:
            for one in crew:
                self._feed(one, work, todo, running)
            while running:
                done, _ = ray.wait(list(running), num_returns=1)
                one = running.pop(done[0])
                result = self._get(done[0])
                self._feed(one, work, todo, running)
                yield result
        except (
            BaseException
        ):  # also when no more results are wanted: what is still running must not go on
            self._dismiss(crew)
            raise
        self._dismiss()  # of a pool that was opened beside this one
        self._crew = crew

    @staticmethod
    def _feed(actor: Any, work: list[Any], todo: Iterator[Any], running: dict[Any, Any]) -> None:
        for item in todo:
            running[actor.run.remote(work, item)] = actor
            return

    def _hire(self, workers: int) -> list[Any]:
        """The actors of the last pool and new ones: to start one, with its imports, takes seconds."""
        crew, self._crew = self._crew, []
        for one in crew[workers:]:
            self._ray.kill(one)
        actor = self._ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=8)(_Worker)
        return [*crew[:workers], *(actor.remote() for _ in range(workers - len(crew)))]

    def _dismiss(self, crew: Sequence[Any] = ()) -> None:
        """End a crew, and the actors that wait for a next pool, before something else needs their cores and memory."""
        for one in (*crew, *self._crew):
            self._ray.kill(one)
        self._crew = []

    def group(
        self,
        function: Callable[..., Any],
        size: int,
        *args: Any,
        tick: Tick | None = None,
        fits: Fits = lambda _: True,
    ) -> Any:
        """A gang of actors; one that dies takes the gang down, and it is started again, smaller where room is lacking."""
        self._dismiss()
        gpus = size > 1 and self._ray.cluster_resources().get("GPU", 0) >= size
        for _ in range(ATTEMPTS):
            room = self._reserve(size, gpus, fits)
            if room is None:
                return self.call(function, *args, tick=tick)
            try:
                return self._run_gang(room, gpus, function, args, tick)
            except self._ray.exceptions.RayActorError:
                size = room.bundle_count
            finally:
                self._ray.util.remove_placement_group(room)  # and with it the gang
        raise RunError(
            f"a training worker died {ATTEMPTS} times; see the step's log.jsonl for the last step"
        )

    def _reserve(self, size: int, gpus: bool, fits: Fits) -> Any:
        """Reserve room for `size` members, or for as many as there is room for; None where that is one."""
        while size > 1:
            if fits(size):
                room = self._ray.util.placement_group(
                    [{"CPU": 1, **({"GPU": 1} if gpus else {})}] * size
                )
                if room.wait(PLACE_SECONDS):
                    return room
                self._ray.util.remove_placement_group(room)
            free = self._ray.available_resources().get("GPU" if gpus else "CPU", 0)
            size = min(size - 1, max(1, int(free)))
        return None

    def _run_gang(
        self,
        room: Any,
        gpus: bool,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        tick: Tick | None,
    ) -> Any:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        member = self._ray.remote(num_cpus=1, num_gpus=int(gpus))(_Member)
        size = room.bundle_count
        places = [
            PlacementGroupSchedulingStrategy(room, placement_group_bundle_index=rank)
            for rank in range(size)
        ]
        gang = [member.options(scheduling_strategy=place).remote() for place in places]
        try:
            meeting = self._meeting(gang[0])
            refs = [
                one.run.remote(rank, size, meeting, gpus, function, args)
                for rank, one in enumerate(gang)
            ]
            return self._first_result(refs, tick)
        finally:
            for one in gang:
                self._ray.kill(one)

    def _meeting(self, first: Any) -> str:
        """Where the members of a gang find each other: a file on this machine, a port of rank 0 in a joined cluster."""
        if self._joined:
            return str(self._get(first.address.remote()))
        return f"file://{self._scratch / f'meet-{time.time_ns()}'}"

    def _first_result(self, refs: list[Any], tick: Tick | None) -> Any:
        """Wait for all members and return rank 0's result; a death is raised before what it made the others say."""
        todo = list(refs)
        try:
            while todo:
                done, todo = self._ray.wait(todo, timeout=1.0)
                if tick:
                    tick()
                for ref in done:
                    self._get(ref)
        except (self._ray.exceptions.RayActorError, SynthaugError):
            raise
        except Exception:  # of a member that lost a neighbour, or of one that failed by itself
            gone, _ = (
                self._ray.wait(todo, num_returns=len(todo), timeout=GRIEF_SECONDS)
                if todo
                else ([], [])
            )
            for ref in gone:
                self._raise_cause(ref)
            raise
        return self._get(refs[0])

    def _raise_cause(self, ref: Any) -> None:
        """Raise what explains the others' errors: a death, or an error told to the user; else return."""
        try:
            self._get(ref)
        except (self._ray.exceptions.RayActorError, SynthaugError):
            raise
        except Exception:  # what this one says is no more than what the first one said
            return

    def _wait(self, ref: Any, tick: Tick | None) -> Any:
        while True:
            done, _ = self._ray.wait([ref], timeout=1.0)
            if tick:
                tick()
            if done:
                return self._get(ref)

    def _get(self, ref: Any) -> Any:
        """Return a result; what the task raised comes back as it was raised there."""
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as err:
            raise err.cause if isinstance(getattr(err, "cause", None), Exception) else err from None

    def close(self) -> None:
        """Stop Ray, or leave the one that was joined."""
        self._ray.shutdown()
        self._forget_scratch()

    def _forget_scratch(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)


class _Worker:
    """One actor of pools, one pool after the other."""

    def __init__(self) -> None:
        self._made: Any = None  # by what
        self._work: Callable[[Any], Any] | None = None

    def run(self, work: list[Any], item: Any) -> Any:
        """Do an item of the pool whose `make` is behind the reference in `work`."""
        if self._work is None or self._made != work[0]:
            self._begin(work[0])
        assert self._work is not None
        return self._work(item)

    def _begin(self, make: Any) -> None:
        """Be as a new actor is: without the last pool's work, and with as many threads as Ray gives one."""
        import ray

        self._work, self._made = None, make
        gc.collect()
        torch: Any = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1").split(",")[0]))
        self._work = ray.get(make)()


class _Member:
    """One actor of a training group."""

    def address(self) -> str:
        """A free port of this actor's machine."""
        import ray.util

        util: Any = ray.util
        host = util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return f"tcp://{host}:{probe.getsockname()[1]}"

    def run(
        self,
        rank: int,
        size: int,
        meeting: str,
        gpus: bool,
        function: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> Any:
        import torch.distributed as dist

        # nccl wants a GPU of its own for every member; members that share one talk through gloo
        backend = "nccl" if gpus else "gloo"
        dist.init_process_group(
            backend, init_method=meeting, rank=rank, world_size=size, timeout=PATIENCE
        )
        try:
            return function(*args)
        finally:
            dist.destroy_process_group()


@functools.cache
def _secret() -> str:
    """The token of this process's clusters; one for all, because Ray reads it once in the life of a process."""
    return os.urandom(24).hex()


def open_executor(kind: str, workers: int, address: str, memory_mb: int) -> Executor:
    """Start the executor a job asks for; `workers` 0 means one per core of this machine."""
    count = workers or len(os.sched_getaffinity(0))
    if kind == "serial":
        return SerialExecutor(count)
    return RayExecutor(count, address, memory_mb)
