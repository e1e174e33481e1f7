"""Run mutated inputs until their number or time is reached.

`python -m tests.fuzz OUT [--cases N] [--minutes M]`

Findings go to OUT/found.txt, the first three of each kind with the numbers of their cases; counts
per input and outcome to OUT/counts.json. `--again N` runs case N alone and keeps its files in
OUT/work. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.fuzz.corpus import build, secrets

_SILENT = 300.0  # seconds without a word after which a worker is ended: it waits for something


class Worker:
    """A child process and the case that it is at."""

    def __init__(self, out: Path, options: argparse.Namespace, first: int) -> None:
        self._out, self._options = out, options
        self._lane = first % options.workers
        self.case = first
        self.next = first
        self.heard = time.monotonic()
        self._rest = b""
        self.process = self._started(first)

    def _started(self, first: int) -> subprocess.Popen[bytes]:
        work = self._out / "work" / str(self._lane)
        work.mkdir(parents=True, exist_ok=True)
        words = [str(self._out / "corpus"), str(work), self._options.seed, str(first)]
        words += [str(self._options.workers), *self._options.only]
        command = [sys.executable, "-m", "tests.fuzz.worker", *words]
        self._errors = (self._out / f"stderr-{self._lane}.txt").open("ab")
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors)

    def lines(self) -> list[dict[str, Any]]:
        """Return what the worker has said since."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        self._rest += data
        *whole, self._rest = self._rest.split(b"\n")
        self.heard = time.monotonic()
        return [json.loads(line) for line in whole]

    def again(self) -> None:
        """Start anew behind the case that ended the process."""
        self.heard = time.monotonic()
        self.process = self._started(self.case + self._options.workers)
        self._rest = b""


class Record:
    """What was found, and how many cases were run."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self.counts: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        file = out / "counts.json"
        if file.is_file():
            known = json.loads(file.read_text())
            self.counts = Counter(known["counts"])
            self.kinds = Counter(known["kinds"])

    def note(self, case: int, kind: str, detail: str) -> None:
        """Keep a finding; the first three of a kind are written."""
        self.kinds[kind] += 1
        if self.kinds[kind] <= 3:
            with (self._out / "found.txt").open("a") as file:
                file.write(f"case {case}: {kind}: {detail!a}\n")

    def save(self) -> None:
        """Write the counts."""
        known = {"cases": self.counts.total(), "kinds": self.kinds, "counts": self.counts}
        (self._out / "counts.json").write_text(json.dumps(known, indent=1))


def run(options: argparse.Namespace) -> int:
    """Run the workers; returns how many kinds of findings there are."""
    out = Path(options.out).resolve()
    _prepare(out)
    record = Record(out)
    at = out / "next.json"
    first = json.loads(at.read_text()) if at.is_file() else 0
    began = time.monotonic()
    workers = [Worker(out, options, first + lane) for lane in range(options.workers)]
    goal = record.counts.total() + options.cases
    try:
        while record.counts.total() < goal and time.monotonic() - began < 60 * options.minutes:
            _listen(workers, record)
            record.save()
            at.write_text(json.dumps(max(worker.case for worker in workers) + 1))
    finally:
        for worker in workers:
            worker.process.kill()
        record.save()
    total = record.counts.total()
    print(f"{total} cases, {len(record.kinds)} kinds of findings, {time.monotonic() - began:.0f} s")
    for kind, count in record.kinds.most_common():
        print(f"{count:6}  {kind}")
    return len(record.kinds)


def _prepare(out: Path) -> None:
    if (out / "corpus" / "targets.json").is_file():
        return
    (out / "corpus").mkdir(parents=True)
    targets = build(out / "corpus")
    (out / "work").mkdir()
    secrets(out / "work" / "outside")
    text = json.dumps([asdict(target) for target in targets])
    (out / "corpus" / "targets.json").write_text(text)


def _listen(workers: list[Worker], record: Record) -> None:
    """Take what the workers say for a second, and replace those that ended."""
    until = time.monotonic() + 1
    while time.monotonic() < until:
        streams = {worker.process.stdout: worker for worker in workers}
        ready, _, _ = select.select(list(streams), [], [], 0.5)
        for stream in ready:
            worker = streams[stream]
            lines = worker.lines()
            for line in lines:
                _take(line, worker, record)
            if not lines and worker.process.poll() is not None:
                kind = f"ended by {worker.process.returncode}"
                if worker.process.returncode == -27:
                    kind = "hang: over 10 s of processor time"
                record.note(worker.case, kind, "")
                worker.again()
        for worker in workers:
            if time.monotonic() - worker.heard > _SILENT:
                record.note(worker.case, "hang: waits for something", "")
                worker.process.kill()
                worker.process.wait()
                worker.again()


def _take(line: dict[str, Any], worker: Worker, record: Record) -> None:
    if "found" in line:
        record.note(line["case"], line["found"], line["detail"])
    elif "done" in line:
        record.counts.update(line["counts"])
    elif "case" in line:
        worker.case = line["case"]


def again(options: argparse.Namespace) -> None:
    """Run one case in a process of its own and leave its files."""
    out = Path(options.out).resolve()
    _prepare(out)
    work = out / "work" / "again"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    words = [str(out / "corpus"), str(work), options.seed, str(options.again), "1", *options.only]
    command = [sys.executable, "-m", "tests.fuzz.worker", *words]
    subprocess.run(command, env=os.environ | {"FUZZ_CASES": "1"}, check=False)
    print(f"its files are in {work}")


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--only", nargs="*", default=[], help="names of inputs")
    parser.add_argument("--again", type=int)
    options = parser.parse_args()
    if options.again is not None:
        again(options)
        return 0
    return bool(run(options))


if __name__ == "__main__":
    sys.exit(main())
