"""One child process: mutates, reads, and says what it found as lines of JSON on stdout.

Each line is {"case": N} before a case, {"case": N, "found": ..., "detail": ...} for what must not
be, and {"done": N, "counts": ...} now and then. A case is made again from its number alone.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import sys
import traceback
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import SynthaugError, printable
from synthaug.pipeline.core.readable import read_scene
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.core.skipped import Skipped, short_lines
from synthaug.pipeline.formats.reference import open_dataset
from tests.fuzz.corpus import SECRET, Target
from tests.fuzz.mutations import mutate

SECONDS = 10  # of processor time
MEGABYTES = 2000
_LONGEST = 4000  # characters of a message
_SLACK = 0.011  # pixels by which a box of a table may stick out of its image
_ROOT = Path(__file__).resolve().parents[2]
_OWN_FILES = (str(_ROOT), sys.prefix, sys.base_prefix)  # what Python and our code read
_READABLE = ("/dev/null", "/dev/urandom", "/etc/localtime", "/usr/share/zoneinfo/")
_FORBIDDEN = (
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"),
    *("socket.connect", "socket.getaddrinfo", "urllib.Request", "ctypes.dlopen"),
)


class Watch:
    """Sees what a case opens, runs and reaches, through Python's audit events."""

    def __init__(self, home: Path) -> None:
        self.home = str(home)
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._event)

    def _event(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            self._opened(args)
        elif event in _FORBIDDEN:
            self.seen.append(f"{event} {args!r:.200}")
        elif event == "exec":
            file = getattr(args[0], "co_filename", "")
            if not file.startswith((*_OWN_FILES, "<string>", "<frozen", "<attrs")):
                self.seen.append(f"exec of code from {file!r:.200}")

    def _opened(self, args: tuple[Any, ...]) -> None:
        path, mode, flags = args
        if isinstance(path, int) or path is None:
            return
        text = os.fsdecode(path)
        self.on = False  # resolving a link is no reading of the case
        real = os.path.realpath(text)
        self.on = True
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if real.startswith((self.home + "/", *(_READABLE))) and not writes:
            return
        if real.startswith(_OWN_FILES) and not writes and "outside" not in real:
            return
        self.seen.append(f"{'wrote' if writes else 'opened'} {real!r:.200} ({mode})")


def reads(target: Target, home: Path, random: Random) -> str:
    """Read a target as a command would; returns how that ended."""
    file = home / target.argument
    if target.kind == "dataset":
        mark = "&" if "?" in target.argument else "?"
        rule = random.choice(("skip", "stop"))
        reference = f"{target.argument}{mark}on_bad={rule}"
        if target.argument.startswith(("parquet:", "hf:")):
            reference = target.argument
        return _reads_dataset(reference, home)
    if target.kind == "job":
        from synthaug.pipeline.config.load import load_job

        load_job(file, [], None, lambda _: None)
        return "accepted"
    if target.kind == "layout":
        from synthaug.pipeline.studio.layout_files import read_layout

        read_layout(str(file), None)
        return "accepted"
    return _reads_checkpoint(target.kind, file)


def _reads_dataset(reference: str, home: Path) -> str:
    table = open_dataset(reference, home, key="DATASET")
    table.fingerprint()
    skipped = Skipped(table.skipped)
    for index in range(len(table)):
        scene = read_scene(table, index, skipped)
        if scene is not None:
            check_scene(scene, table)
    for line in (*short_lines(skipped), *skipped.unread):
        printable(line)
    return "partly" if skipped else "accepted"


def check_scene(scene: Scene, table: Dataset) -> None:
    """Assert what every scene promises, whatever its file said."""
    objects = scene.objects
    assert scene.height >= 1, "height"
    assert scene.width >= 1, "width"
    assert np.isfinite(objects.boxes).all(), "box that is no number"
    assert (objects.boxes[:, 2:] >= objects.boxes[:, :2]).all(), "box without extent"
    assert (objects.boxes >= -_SLACK).all(), "box outside the image"
    far = np.array([scene.width, scene.height]) + _SLACK
    assert (objects.boxes[:, 2:] <= far).all(), "box outside the image"
    assert np.isfinite(objects.area).all(), "area that is no number"
    assert (objects.area >= 0).all(), "negative area"
    assert ((objects.category >= 0) & (objects.category < len(table.categories))).all(), "class"
    assert (objects.id >= 1).all(), "id below 1"
    for rle in objects.rle:
        if rle is not None:
            assert masks.decode(rle, scene.size).any(), "mask without a pixel"


def _reads_checkpoint(kind: str, file: Path) -> str:
    from synthaug.generators import checkpoint
    from synthaug.generators import official as importing

    try:
        if kind == "checkpoint":
            checkpoint.load(file)
        elif kind == "names":
            importing.class_names([file], 3)
        else:
            importing.write(
                importing.read(file), ["a", "b"], file.with_name("out.synthaug.safetensors")
            )
    except ValueError as err:
        raise SynthaugError(str(err)) from err
    return "accepted"


# --- the loop ---


def main() -> None:
    """Run cases FIRST, FIRST + STEP ... of a seed, until stdout is closed."""
    corpus, work, seed, first, step = sys.argv[1:6]
    wanted = set(sys.argv[6:])
    targets = [Target(**row) for row in json.loads((Path(corpus) / "targets.json").read_text())]
    if wanted:
        targets = [target for target in targets if target.name in wanted]
    originals = {target.name: _files(Path(corpus) / target.name) for target in targets}
    home = Path(work)
    _warm_up(targets, originals, home)
    _limit()
    watch = Watch(home)
    counts: Counter[str] = Counter()
    number = int(first)
    last = number + int(os.environ.get("FUZZ_CASES", "1000000000")) * int(step)
    while number < last:
        _say({"case": number})
        _case(number, seed, targets, originals, home, watch, counts)
        number += int(step)
        if number // int(step) % 50 == 0 or number >= last:
            _say({"done": number, "counts": counts})
            counts = Counter()


def _warm_up(targets: list[Target], originals: dict[str, dict[str, bytes]], home: Path) -> None:
    """Read every input as it is, which must work; imports what reading needs."""
    for target in targets:
        own = home / target.name
        _lay(own, originals[target.name])
        os.chdir(own)
        reads(target, own, Random(0))
        _say({"warm": target.name})


def _case(
    number: int,
    seed: str,
    targets: list[Target],
    originals: dict[str, dict[str, bytes]],
    home: Path,
    watch: Watch,
    counts: Counter[str],
) -> None:
    random = Random(f"{seed}:{number}")
    target = random.choice(targets)
    if target.kind in ("job", "import", "checkpoint") and random.random() < 0.75:
        target = random.choice(targets)  # these take longer: fewer of them
    own = home / target.name
    files = originals[target.name]
    changed = mutated_files(files, random)
    for name, data in changed.items():
        (own / name).write_bytes(data)
    outcome = _outcome(number, target, own, random, watch)
    counts[f"{target.name} {outcome}"] += 1
    if target.kind == "import":
        _lay(own, files)  # what it wrote goes
    elif "FUZZ_CASES" not in os.environ:
        for name in changed:
            (own / name).write_bytes(files[name])


def mutated_files(files: dict[str, bytes], random: Random) -> dict[str, bytes]:
    """Return one or two files of a set, mutated; labels more often than pictures."""
    pictures = (".png", ".jpg", ".tif", ".gif", ".bmp", ".webp")
    labels = [name for name in sorted(files) if not name.endswith(pictures)]
    changed = {}
    for _ in range(random.choice((1, 1, 1, 2))):
        names = sorted(files)
        if labels and random.random() < 0.75:
            names = labels
        name = random.choice(names)
        changed[name] = mutate(name, files[name], random)
    return changed


def _outcome(number: int, target: Target, own: Path, random: Random, watch: Watch) -> str:
    """Read a target and report what must not be; returns how it ended."""
    os.chdir(own)
    _forget_peak()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    watch.seen = []
    watch.on = True
    outcome = "accepted"
    try:
        outcome = reads(target, own, random)
    except SynthaugError as err:
        outcome = "refused"
        _check_message(number, str(err))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as err:
        outcome = "traceback"
        place = _place_of(err)
        _say(
            {
                "case": number,
                "found": f"traceback {type(err).__name__} at {place}",
                "detail": f"{target.name}: {str(err)[:300]}",
            }
        )
    finally:
        watch.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
    for event in watch.seen:
        if target.kind == "import" and event.startswith("wrote") and str(own) in event:
            continue
        _say({"case": number, "found": f"event {event[:80]}", "detail": f"{target.name}: {event}"})
    peak = _peak()
    if peak > MEGABYTES:
        _say({"case": number, "found": f"memory in {target.name}", "detail": f"{peak} MB"})
    for left in own.parent.rglob("PWNED"):
        _say({"case": number, "found": "executed", "detail": str(left)})
        left.unlink()
    return outcome


def _check_message(number: int, text: str) -> None:
    if SECRET in text:
        _say({"case": number, "found": "leaked", "detail": text[:300]})
    told = printable(text)
    if not told.strip() or len(told) > _LONGEST:
        _say({"case": number, "found": f"message of {len(told)} letters", "detail": told[:300]})


def _place_of(err: BaseException) -> str:
    """Return the last line of our own code in a traceback."""
    frames = traceback.extract_tb(err.__traceback__)
    own = [
        frame for frame in frames if "synthaug" in frame.filename or "/pipeline/" in frame.filename
    ]
    frame = (own or list(frames) or [None])[-1]
    if frame is None:
        return "?"
    name = re.sub(r".*/(pipeline|generators|detectors|tests)/", r"\1/", frame.filename)
    return f"{name}:{frame.lineno}"


def _files(folder: Path) -> dict[str, bytes]:
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            found[file.relative_to(folder).as_posix()] = file.read_bytes()
    return found


def _lay(folder: Path, files: dict[str, bytes]) -> None:
    """Write a set anew; what an earlier case left there goes."""
    os.chdir(folder.parent)
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def _limit() -> None:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, also inside C code
    most = 8 << 30  # addresses, of which libraries take some without using them
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Return the largest memory (MB) since it was last forgotten."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) // 1024


def _say(record: dict[str, Any]) -> None:
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
