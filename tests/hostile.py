"""Broken and hostile inputs, each read in a child process with limits, compared with what its
manifest expects.

`python -m tests.hostile FOLDER [NAME...]` runs the cases of a folder with a manifest.json (name,
kind, entry, expected, also_ok, must_mention, after, limits, must_not_create; pictures and
annotations only) and prints those that differ.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = {
    "image",
    "path",
    "bbox",
    "coco_json",
    "names",
    "mask",
    "scale",
    "panoptic",
    "vg",
    "cityscapes",
}
SECONDS, MEGABYTES = 120, 4000  # where a case sets no limit
# what `validate` says of a set, as JSON on the last line
CHILD = """
import json, sys
from pathlib import Path
from synthaug.pipeline.commands.status import inspect
from synthaug.pipeline.core.errors import SynthaugError, printable, visible
from synthaug.pipeline.formats.reference import open_dataset
reference, root = sys.argv[1:]
told = {"exit": 0}
try:
    table = open_dataset(reference, Path(root), key="DATASET")
    lines = [visible(line) for line in inspect(table, lambda *_: None, reference)]
    told["lines"] = lines
    words = next(line for line in lines if " images, " in line and " objects, " in line).split()
    told |= {"images": int(words[0]), "annotations": int(words[2])}
except SynthaugError as err:
    told |= {"exit": err.exit_code, "lines": [printable(str(err))]}
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Found:
    """What became of one reading."""

    outcome: str  # reject | skip_with_warning | accept | traceback | limit
    text: str
    images: int = -1
    annotations: int = -1


def reference_of(case: dict[str, Any]) -> str:
    """Return the reference that reads a case in its own folder."""
    entry = case["entry"]
    if case["kind"] == "panoptic":
        return f"coco_panoptic:{entry}"
    if case["kind"] == "vg":
        wide = "min_side=0&min_size=0&min_count=1&min_objects=0&relationships=ignored&split=all"
        return f"visual_genome:.?{wide}"
    if case["kind"] == "cityscapes":
        return f"cityscapes:{entry}?split=train"
    return f"coco:{entry}"


def read(case: dict[str, Any], folder: Path, on_bad: str) -> Found:
    """Read a case in a child process."""
    limits = case.get("limits", {})
    seconds = int(limits.get("max_seconds", SECONDS))
    megabytes = int(limits.get("max_rss_mb", MEGABYTES))
    reference = reference_of(case)
    reference += ("&" if "?" in reference else "?") + f"on_bad={on_bad}"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds + 20, seconds + 20))

    try:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, reference, str(folder)],
            capture_output=True,
            text=True,
            timeout=5 * seconds,
            preexec_fn=limit,
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Found("limit", f"longer than {seconds} s")
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    if used > megabytes:
        return Found("limit", f"{used} MB, over {megabytes}")
    try:
        told = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return Found("traceback", done.stderr[-600:])
    text = "\n".join(told["lines"])
    if told["exit"]:
        return Found("reject", text)
    is_clean = text.splitlines()[0].endswith("in order")
    outcome = "accept" if is_clean else "skip_with_warning"
    return Found(outcome, text, told["images"], told["annotations"])


def differences(case: dict[str, Any], strict: Found, skipping: Found) -> Iterator[str]:
    """Yield in what the two readings of a case are not as its manifest says.

    A reading that stops at what might be left out is right, too, when it names the culprit.
    """
    allowed = {case["expected"], *case.get("also_ok", [])}
    for name, found in (("stop", strict), ("skip", skipping)):
        if found.outcome in ("traceback", "limit"):
            yield f"{name}: {found.outcome}: {found.text[-300:]}"
            continue
        fine = allowed | (
            {"reject"} if name == "stop" and "skip_with_warning" in allowed else set()
        )
        if "accept" in allowed:
            fine |= {
                "skip_with_warning"
            }  # something else is told, and what is read is checked below
        if found.outcome not in fine:
            yield f"{name}: {found.outcome}, not {' or '.join(sorted(fine))}: {found.text[:200]}"
        if found.outcome != "accept":
            lost = [word for word in case["must_mention"] if word.lower() not in found.text.lower()]
            if lost:
                yield f"{name}: does not mention {lost}: {found.text[:200]}"
    after = case.get("after", {})
    if skipping.outcome in ("accept", "skip_with_warning") and after:
        wanted = (after.get("images", -1), after.get("annotations", -1))
        got = (skipping.images, skipping.annotations)
        # only the mask of an object may be left out, and a box that hangs over may be clipped
        kept = {wanted}
        if "accept" in allowed or case["kind"] == "mask":
            kept.add((3, 12))
        if "skip_with_warning" in allowed:
            kept |= {(2, 8), (3, 11)}
        if got not in kept:
            yield f"skip: {got[0]} images, {got[1]} objects are left, not {wanted}"


def prepared(case: dict[str, Any], source: Path, scratch: Path) -> Path:
    """Copy a case and what lies beside it into a scratch folder; returns the case's folder."""
    for name in ("_base", "_outside"):
        if not (scratch / name).exists():
            shutil.copytree(source / name, scratch / name)
    folder = scratch / case["name"]
    shutil.copytree(source / case["name"], folder, symlinks=True)
    link = case.get("make_at_test_time")
    if link:
        path = folder / link["symlink"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or path.is_file():
            path.unlink()
        path.symlink_to(link["to"])
    return folder


def run(source: Path, names: list[str]) -> int:
    """Run the cases and print what differs; returns how many do."""
    cases = json.loads((source / "manifest.json").read_text())
    chosen = [
        case for case in cases if case["kind"] in KINDS and (not names or case["name"] in names)
    ]
    wrong = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        for case in chosen:
            folder = prepared(case, source, Path(scratch))
            strict, skipping = (read(case, folder, on_bad) for on_bad in ("stop", "skip"))
            told = list(differences(case, strict, skipping))
            told += [
                f"made {name}"
                for name in case.get("must_not_create", [])
                if (folder / name).exists()
            ]
            shutil.rmtree(folder)
            wrong += bool(told)
            for line in told:
                print(f"{case['name']}: {line}", flush=True)
    print(f"{len(chosen)} cases, {wrong} differ, {time.monotonic() - began:.0f} s")
    return wrong


if __name__ == "__main__":
    sys.exit(bool(run(Path(sys.argv[1]).resolve(), sys.argv[2:])))
