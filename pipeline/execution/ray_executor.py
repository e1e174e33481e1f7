"""Work on Ray: a private one on this machine, or one that is joined.

The only door to Ray.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from synthaug.pipeline.config.schema import Cluster
from synthaug.pipeline.core.errors import JobError, RunError, SynthaugError, first_line
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution import gpu_memory, machines
from synthaug.pipeline.execution.executor import Executor, Fits, SerialExecutor, Tick
from synthaug.pipeline.execution.ray_jobs import Shares
from synthaug.pipeline.execution.ray_workers import Crew, Door, Hand

MIN_OBJECT_STORE = 100 * 2**20  # Ray refuses less than 75 MiB; pixels never travel through it
ATTEMPTS = 4  # times a training group is started before one gives up
PLACE_SECONDS = 15.0  # how long a group waits for room for all; after that it is started smaller
DEATH_GRACE_SECONDS = 20.0  # after a process failed, another one's death is still waited for
WORTH_SHARING = 4  # items for each GPU, under which it is not shared
PROBE_SECONDS = 120.0  # for a machine to say what it sees: its first worker imports us
# of processes for each other: rank 0 may evaluate meanwhile, and Ray sees the dead
TIMEOUT = timedelta(hours=12)


log = logging.getLogger(__name__)
LONGEST_SCRATCH = 40  # bytes; Ray's socket paths below it may not exceed 107


def _scratch() -> Path:
    """Make a folder of mode 0700 for Ray, in TMPDIR if its path is short.

    Raises JobError where none can be made.
    """
    try:
        place = tempfile.gettempdir()
        if len(os.fsencode(place)) > LONGEST_SCRATCH and os.access("/tmp", os.W_OK):
            place = "/tmp"
        return Path(tempfile.mkdtemp(prefix="sa-", dir=place))
    except OSError as err:
        raise JobError(
            f"cluster: no folder for temporary files can be written ({first_line(err)}); "
            "set TMPDIR to one, of a short path"
        ) from err


class RayExecutor:
    """A private local Ray, or an existing one."""

    def __init__(self, cluster: Cluster, tell: Callable[[str], None] = lambda _: None) -> None:
        """Start a Ray or join one; JobError where that cannot be."""
        address = cluster.address
        self._most = cluster.workers
        self._workers_per_gpu = cluster.workers_per_gpu  # 0 = as many as fit
        self._memory = gpu_memory.memory_of_this_process
        self._joined = bool(address)
        self._idle: list[Hand] = []  # workers of the last pool, kept for the next one
        self._idle_share = 0.0  # of a GPU that each of them has
        if address:
            self.check_reachable(address)
        self._scratch = _scratch()
        self._environment(cluster)
        import ray  # after the environment: Ray reads it when imported

        self._ray: Any = ray
        options: Json = {
            "log_to_driver": False,
            "logging_level": "ERROR",
            "configure_logging": True,
        }
        if address:
            options["address"] = address
            _send_messages_to_log()
        else:
            options |= {
                "address": "local",
                "num_cpus": max(2, self.room()),
                "include_dashboard": False,
                "object_store_memory": max(MIN_OBJECT_STORE, cluster.memory_mb * 2**20),
                "_temp_dir": str(self._scratch),
            }
        on_stop = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**options)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_stop)  # Ray's own prints its stack
        except Exception as err:  # Ray raises a dozen unrelated types here; all mean the same
            self._remove_scratch()
            problem = "a local Ray could not be started"
            if address:
                problem = f"Ray at '{address}' cannot be reached"
            raise JobError(
                f"cluster.address: {problem} ({first_line(err)}); "
                "set cluster.executor=serial to go without"
            ) from err
        self._start = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Worker)
        self._tell = tell
        self._shares: Shares | None = None  # of a cluster that other jobs may use, too
        if address:
            self._shares = Shares(ray, uuid.uuid4().hex, cluster.priority)

    def _environment(self, cluster: Cluster) -> None:
        """Set Ray's variables (docs/architecture.md).

        Loopback, private token, no statistics.
        """
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # several torch processes on few cores stall when idle threads spin for long; not spinning
        # at all costs a third
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
        if cluster.address:  # else a lost node's last words come over the progress
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        else:
            os.environ.setdefault("RAY_worker_niceness", str(cluster.niceness))
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
            token = self._scratch / "token"
            token.touch(mode=0o600)
            token.write_text(_secret())
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)

    @staticmethod
    def check_reachable(address: str) -> None:
        """Ask the port before Ray does; JobError if it is closed.

        Ray retries for half a minute and prints pages.
        """
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

    def call(
        self,
        function: Callable[..., Any],
        *args: Any,
        tick: Tick | None = None,
        gpu: bool = False,
    ) -> Any:
        """Run one task, on a worker of the last pool where there is one.

        Where its worker is lost the task is run again: it resumes from what it saved.
        """
        with self._crew(self._share(gpu)) as crew:
            try:
                return crew.call(function, args, tick or _nothing)
            except self._ray.exceptions.RayTaskError as err:
                raise _raised_there(err) from None

    def pool(
        self,
        make: Callable[[], Callable[[Any], Any]],
        items: Iterable[Any],
        most: int | None = None,
        gpu: bool = False,
    ) -> Iterator[Any]:
        """Keep each worker busy with one item; yields results as they come."""
        remaining = iter(items)
        share = self._share(gpu)
        if share and self._is_worth_measuring(most):
            yield from self._run(make, islice(remaining, self._has("GPU")), share, most)
            share = self._measured_share()
        yield from self._run(make, remaining, share, most)

    def _is_worth_measuring(self, most: int | None) -> bool:
        """Return whether there is so much to do that GPUs are shared, if they can be.

        `most` is not more than there are items. Workers with a share begin with their imports.
        """
        many = most is None or most > WORTH_SHARING * self._has("GPU")
        return not self._workers_per_gpu and many

    def _run(
        self,
        make: Callable[[], Callable[[Any], Any]],
        items: Iterator[Any],
        share: float,
        most: int | None,
    ) -> Iterator[Any]:
        """Run items through workers that have each a share of a GPU."""
        most = self.room(share) if most is None else most
        with self._crew(share, most) as crew:
            try:
                yield from crew.run(make, items, most)
            except self._ray.exceptions.RayTaskError as err:
                raise _raised_there(err) from None

    def _measured_share(self) -> float:
        """Return the share of a GPU that one more worker like the last ones needs.

        By the memory that one of them took; workers and other tasks have whole ones by then.
        """
        memory = self.call(self._memory, gpu=True)
        cores = self._has("CPU") // max(1, self._has("GPU"))
        return 1 / gpu_memory.workers_that_fit(memory, max(1, cores))

    def room(self, share: float = 0.0) -> int:
        """Return how many workers there may be at once, by what the machines now have.

        Each with a share of a GPU; 0 = with none.
        """
        if self._joined:
            room = self._has("CPU")
            if self._most:
                room = min(self._most, room)
        else:
            room = self._most or len(os.sched_getaffinity(0))
        if share:
            room = min(room, round(self._has("GPU") / share))
        return room

    def _quota(self, share: float, wanted: int) -> int | None:
        """Return how many of the workers it could use this job may have beside others.

        Each with a share of a GPU; None = all.
        """
        if self._shares is None:
            return None
        if share:
            return self._shares.quota("GPU", wanted, round(self._has("GPU") / share))
        return self._shares.quota("CPU", wanted, self._has("CPU"))

    def _has(self, kind: str) -> int:
        """Return how many cores (CPU) or GPUs the machines have."""
        return int(self._ray.cluster_resources().get(kind, 0))

    def _share(self, gpu: bool) -> float:
        """Return the share of a GPU that a worker asks for; 0 where there are none.

        A whole one where it is to be measured how many fit.
        """
        if gpu and self._has("GPU"):
            return 1 / max(1, self._workers_per_gpu)
        return 0.0

    @contextlib.contextmanager
    def _crew(self, share: float, most: int | None = None) -> Iterator[Crew]:
        """Lend the workers that wait to a crew, and keep those that it leaves.

        All have a share of a GPU; workers with another one are ended.
        """
        if share != self._idle_share:
            self._keep_idle(0)
            self._idle_share = share
        if most is not None:
            self._keep_idle(most)
        start = self._start.options(num_gpus=share)
        room = functools.partial(self.room, share)
        quota = functools.partial(self._quota, share)
        door = Door(self._ray, room, start, self._tell, quota)
        crew = Crew(door, self._idle)
        self._idle = []
        try:
            yield crew
        finally:
            self._keep_idle(0)  # of a pool that was opened beside this one
            self._idle = crew.idle
            self._idle_share = share

    def _stop(self, actors: Iterable[Any]) -> None:
        for actor in actors:
            self._ray.kill(actor)

    def _keep_idle(self, count: int) -> None:
        """End all but `count` of the workers kept for a next pool.

        Others need their cores and memory.
        """
        self._stop(hand.actor for hand in self._idle[count:])
        self._idle = self._idle[:count]

    def group(
        self,
        function: Callable[..., Any],
        size: int,
        *args: Any,
        tick: Tick | None = None,
        fits: Fits = lambda _: True,
    ) -> Any:
        """Run a process group of actors.

        One that dies ends the group, which is started again, smaller where room is lacking.
        """
        size = self._capped(size, fits)
        if size == 1:
            self._keep_idle(1)
            return self.call(function, *args, tick=tick, gpu=True)
        self._keep_idle(0)
        gpus = self._has("GPU") >= size
        for _ in range(ATTEMPTS):
            room = self._reserve(size, gpus, fits)
            if room is None:
                return self.call(function, *args, tick=tick, gpu=True)
            try:
                return self._run_group(room, gpus, function, args, tick)
            except self._ray.exceptions.RayActorError:
                size = room.bundle_count
            finally:
                self._ray.util.remove_placement_group(room)  # and with it the group
        raise RunError(
            f"a training worker died {ATTEMPTS} times; see the step's log.jsonl for the last step"
        )

    def _capped(self, size: int, fits: Fits) -> int:
        """Return a size of a group that `cluster.workers` allows, and that fits."""
        if not self._most:
            return size
        while size > 1 and (size > self._most or not fits(size)):
            size -= 1
        return size

    def _reserve(self, size: int, gpus: bool, fits: Fits) -> Any:
        """Reserve room for `size` members, or for as many as there is room for.

        None where that is one.
        """
        while size > 1:
            if fits(size):
                bundle = {"CPU": 1}
                if gpus:
                    bundle["GPU"] = 1
                room = self._ray.util.placement_group([bundle] * size)
                if room.wait(PLACE_SECONDS):
                    return room
                self._ray.util.remove_placement_group(room)
            kind = "CPU"
            if gpus:
                kind = "GPU"
            free = self._ray.available_resources().get(kind, 0)
            size = min(size - 1, max(1, int(free)))
        return None

    def _run_group(
        self,
        room: Any,
        gpus: bool,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        tick: Tick | None,
    ) -> Any:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        start = self._ray.remote(num_cpus=1, num_gpus=int(gpus))(_Process)
        size = room.bundle_count
        processes = []
        for rank in range(size):
            bundle = PlacementGroupSchedulingStrategy(room, placement_group_bundle_index=rank)
            processes.append(start.options(scheduling_strategy=bundle).remote())
        try:
            rendezvous = self._rendezvous(processes[0])
            references = []
            for rank, process in enumerate(processes):
                run = process.run.remote(rank, size, rendezvous, gpus, function, args)
                references.append(run)
            return self._first_result(references, tick)
        finally:
            self._stop(processes)

    def _rendezvous(self, first: Any) -> str:
        """Return the address at which the processes of a group find each other.

        On this machine a file, in a joined cluster a port of rank 0.
        """
        if self._joined:
            return str(self._get(first.address.remote()))
        return f"file://{self._scratch / f'meet-{time.time_ns()}'}"

    def _first_result(self, refs: list[Any], tick: Tick | None) -> Any:
        """Wait for all processes and return rank 0's result.

        A death is raised rather than the errors that it causes in the others.
        """
        todo = list(refs)
        while todo:
            done, todo = self._ray.wait(todo, timeout=1.0)
            if tick:
                tick()
            for ref in done:
                error = self._error_of(ref)
                if error is not None:
                    raise self._explaining(error, todo)
        return self._get(refs[0])

    def _explaining(self, error: Exception, unfinished: list[Any]) -> Exception:
        """Return the error that explains the others': a death, or one for the user.

        Else the first one, of a process that lost another one, or that failed by itself.
        """
        telling = (self._ray.exceptions.RayActorError, SynthaugError)
        if isinstance(error, telling) or not unfinished:
            return error
        ended, _ = self._ray.wait(
            unfinished, num_returns=len(unfinished), timeout=DEATH_GRACE_SECONDS
        )
        for ref in ended:
            other = self._error_of(ref)
            if isinstance(other, telling):
                return other
        return error

    def _error_of(self, ref: Any) -> Exception | None:
        """Return the error with which a finished task ended, as it was raised there."""
        try:
            self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as err:
            return _raised_there(err)
        except self._ray.exceptions.RayError as err:
            death: Exception = err
            return death
        return None

    def _get(self, ref: Any) -> Any:
        """Return a result; what the task raised comes back as it was raised there."""
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as err:
            raise _raised_there(err) from None

    def check_machines(self, folder: Folder, name: str, images: Sequence[str] = ()) -> None:
        """Ask every machine of a joined cluster what it sees of files, and its versions.

        JobError where one differs from this one. A machine that is lost meanwhile is left out.
        """
        if not self._joined:
            return
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ask = self._ray.remote(num_cpus=0, max_retries=0)(machines.view_of)
        asked = []
        for node in self._ray.nodes():
            if node["Alive"]:
                place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                reference = ask.options(scheduling_strategy=place).remote(folder.uri, name, images)
                asked.append((node["NodeManagerAddress"], reference))
        here = machines.view_of(folder.uri, name, images)
        for address, reference in asked:
            try:
                there = self._ray.get(reference, timeout=PROBE_SECONDS)
            except self._ray.exceptions.RayTaskError as err:
                raise JobError(
                    f"cluster.address: machine {address} cannot do our work "
                    f"({first_line(_raised_there(err))}); install the same synthaug there"
                ) from None
            except self._ray.exceptions.RayError:
                continue
            machines.compare(here, there, address, folder.uri, name)

    def close(self) -> None:
        """Stop Ray, or leave the one that was joined."""
        self._ray.shutdown()
        self._remove_scratch()

    def _remove_scratch(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)


class _Worker:
    """One actor, for one pool or task after the other."""

    def __init__(self) -> None:
        self._made_by: Any = None
        self._work: Callable[[Any], Any] | None = None

    def home(self) -> tuple[str, str]:
        """Return the machine this runs on: Ray's name of it, and its address."""
        import ray
        import ray.util

        util: Any = ray.util
        node: str = ray.get_runtime_context().get_node_id()
        return node, str(util.get_node_ip_address())

    def run(self, work: list[Any], item: Any) -> Any:
        """Return the result of an item; `work` holds a reference to the pool's `make`."""
        if self._work is None or self._made_by != work[0]:
            self._begin(work[0])
        assert self._work is not None
        return self._work(item)

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Return the result of a task."""
        self._forget()
        return function(*args)

    def _begin(self, make: Any) -> None:
        """Make the work of a new pool."""
        import ray

        self._forget()
        self._made_by = make
        torch: Any = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()  # how much this work takes is asked later
        self._work = ray.get(make)()

    def _forget(self) -> None:
        """Forget the last work, its memory and its threads, as if this actor were new."""
        self._work = None
        self._made_by = None
        gc.collect()
        torch: Any = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(_omp_threads())
            torch.cuda.empty_cache()  # does nothing without a GPU


def _omp_threads() -> int:
    """Return the first number of OMP_NUM_THREADS; 1 where it is none above 0."""
    first = os.environ.get("OMP_NUM_THREADS", "1").split(",")[0].strip()
    if first.isascii() and first.isdigit():
        return max(1, int(first))
    return 1


def _send_messages_to_log() -> None:
    """Send Ray's messages to the log: those about a lost node are pages.

    Ray has no setting for it. Where a version of it prints them by another function they are seen
    again, and nothing else changes.
    """
    import ray._private.worker as inside

    vars(inside)["print_to_stdstream"] = _log_message


def _log_message(data: Json, **_: bool) -> None:
    for line in data["lines"]:
        log.info("ray: %s", line)


def _raised_there(err: Any) -> Exception:
    """Return the error that a task raised, of the one that Ray raises here."""
    cause = err.cause
    return cause if isinstance(cause, Exception) else err


class _Process:
    """One actor of a process group."""

    def address(self) -> str:
        """Return a free port of this actor's machine."""
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
        rendezvous: str,
        gpus: bool,
        function: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> Any:
        import torch
        import torch.distributed as dist

        # nccl wants a GPU of its own for every process; processes that share one talk through gloo
        backend = "nccl" if gpus and torch.cuda.is_available() else "gloo"
        dist.init_process_group(
            backend, init_method=rendezvous, rank=rank, world_size=size, timeout=TIMEOUT
        )
        try:
            return function(*args)
        finally:
            dist.destroy_process_group()


@functools.cache
def _secret() -> str:
    """Return the token of all clusters of this process: Ray reads it once in its life."""
    return os.urandom(24).hex()


def _nothing() -> None:
    """Do nothing, about once a second."""


def open_executor(cluster: Cluster, tell: Callable[[str], None] = lambda _: None) -> Executor:
    """Start the executor a job asks for; it tells the user of lost workers."""
    if cluster.executor == "serial":
        return SerialExecutor()
    return RayExecutor(cluster, tell)
