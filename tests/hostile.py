"""Broken and hostile inputs, each read in a child process with limits, compared with what its
manifest expects.

`python -m tests.hostile FOLDER [NAME...]` runs the cases of a folder with a manifest.json (name,
kind, entry, expected, also_ok, must_mention, after, limits, must_not_create) and prints those that
differ, then how many of each kind do. Sets are read as `validate` reads them and as a dry run does,
strictly and with on_bad=skip. Job files and checkpoints are adapted first (hostile_adapted.py).
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from synthaug.pipeline.commands.validate import Request, validate
from synthaug.pipeline.core.errors import SynthaugError, printable, visible
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.readable import check_content, read_scene
from synthaug.pipeline.core.scene import Scene
from synthaug.pipeline.core.skipped import Skipped, short_lines
from synthaug.pipeline.formats.reference import open_dataset

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


def read(case: dict[str, Any], folder: Path, command: str, on_bad: str) -> Found:
    """Read a case as `validate` or as a `run` does, in a fork with limits."""
    reference = reference_of(case)
    if on_bad == "skip":
        reference += ("&" if "?" in reference else "?") + "on_bad=skip"
    if command == "validate":
        return forked(case, folder, lambda: validated(reference, folder))
    return forked(case, folder, lambda: dry_run(reference, folder, case.get("check", {})))


def validated(reference: str, folder: Path) -> dict[str, Any]:
    """Return what `validate` says of a data set."""
    told: dict[str, Any] = {"exit": 0, "lines": [], "images": -1, "annotations": -1}
    try:
        for line in validate(Request((reference,), str(folder)), lambda *_: None):
            told["lines"].append(visible(line))
    except SynthaugError as err:
        told["exit"] = err.exit_code
        told["lines"].append(printable(str(err)))
    for line in told["lines"]:
        if " images, " in line and " objects, " in line:
            words = line.split()
            told |= {"images": int(words[0]), "annotations": int(words[2])}
            told["clean"] = line.endswith(": in order")
            break
    return told


def dry_run(reference: str, folder: Path, check: dict[str, Any]) -> dict[str, Any]:
    """Return what a dry run says of a labelled data set, all of whose images it decodes."""
    told: dict[str, Any] = {"exit": 0, "lines": [], "images": 0, "annotations": 0}
    learnt = 0
    try:
        table = open_dataset(reference, folder, key="data.labelled")
        skipped = Skipped(table.skipped)
        for index in range(len(table)):
            scene = read_scene(table, index, skipped)
            if scene is not None:
                told["images"] += 1
                told["annotations"] += len(scene.objects)
                learnt += int((~scene.objects.iscrowd).sum())
                told["lines"] += wrong_pixels(scene, check)
        check_content("data.labelled", table, told["images"], learnt)
        told["lines"] += [visible(line) for line in short_lines(skipped)]
        told["clean"] = not told["lines"]
    except SynthaugError as err:
        told["exit"] = err.exit_code
        told["lines"] = [printable(str(err))]
    return told


WRONG_PIXELS = "WRONG PIXELS"


def wrong_pixels(scene: Scene, check: dict[str, Any]) -> Iterator[str]:
    """Yield in what an image is not as its manifest says: its mean color, its size."""
    if Path(scene.image.path or "").name != check.get("file"):
        return
    pixels = decode(scene)
    mean = pixels.mean((0, 1))
    if "mean_rgb" in check and np.abs(mean - check["mean_rgb"]).max() > check["tolerance"]:
        yield f"{WRONG_PIXELS}: a mean of {mean}, not {check['mean_rgb']}"
    size = [pixels.shape[1], pixels.shape[0]]
    wanted = check.get("upright_size") or check.get("stored_size") or size
    if size != wanted:
        yield f"{WRONG_PIXELS}: a size of {size}, not {wanted}"


def forked(case: dict[str, Any], folder: Path, call: Callable[[], dict[str, Any]]) -> Found:
    """Return what a call says, made in a child process with the case's limits."""
    limits = case.get("limits", {})
    seconds = int(limits.get("max_seconds", SECONDS))
    megabytes = int(limits.get("max_rss_mb", MEGABYTES))
    receiver, sender = multiprocessing.Pipe(duplex=False)
    pid = os.fork()
    if not pid:
        receiver.close()
        _child(folder, seconds, call, sender)
    sender.close()
    told: Any = None
    with contextlib.suppress(EOFError):
        told = receiver.recv()
    receiver.close()
    os.waitpid(pid, 0)
    if told is None:
        return Found("limit", f"ended, perhaps after {seconds} s")
    if isinstance(told, str):
        return Found("traceback", told)
    if told["megabytes"] > megabytes:
        return Found("limit", f"{told['megabytes']} MB, over {megabytes}")
    text = "\n".join(told["lines"])
    outcome = "accept" if told.get("clean") else "skip_with_warning"
    if told["exit"]:
        outcome = "reject"
    return Found(outcome, text, told.get("images", -1), told.get("annotations", -1))


def _child(
    folder: Path, seconds: int, call: Callable[[], dict[str, Any]], sender: Connection
) -> NoReturn:
    """Call, tell and end."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    os.chdir(folder)
    try:
        told: Any = call()
        told["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    except BaseException:  # whatever it is: nothing may get out
        told = traceback.format_exc()[-600:]
    sender.send(told)
    os._exit(0)


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
        if WRONG_PIXELS in found.text:
            yield f"{name}: {found.text[:200]}"
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


def adapted(case: dict[str, Any], folder: Path) -> Iterator[str]:
    """Yield in what a job file or a checkpoint differs from what its manifest says."""
    from tests import hostile_adapted  # with all that runs and networks need

    file = folder / case["entry"]
    if case["kind"] == "job_yaml":
        file.write_bytes(hostile_adapted.adapted_job(file.read_bytes()))
        wanted = hostile_adapted.words(case)
        found = forked(case, folder, lambda: hostile_adapted.checked_job(file))
    else:
        wanted = hostile_adapted.adapt_checkpoint(case, folder)
        found = forked(case, folder, lambda: hostile_adapted.imported(file))
    allowed = {case["expected"], *case.get("also_ok", [])}
    if found.outcome not in allowed:
        yield f"{found.outcome}, not {' or '.join(sorted(allowed))}: {found.text[:300]}"
    elif found.outcome == "reject":
        lost = [word for word in wanted if word.lower() not in found.text.lower()]
        if lost:
            yield f"does not mention {lost}: {found.text[:300]}"
    for word in case.get("forbidden_in_output", []):
        if word in found.text and not word.startswith("<"):  # markup is for pages
            yield f"says {word}"


def run(source: Path, names: list[str]) -> int:
    """Run the cases, by name or kind, and print what differs; returns how many do."""
    cases = json.loads((source / "manifest.json").read_text())
    chosen = [case for case in cases if not names or {case["name"], case["kind"]} & set(names)]
    of_kind: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        for case in chosen:
            folder = prepared(case, source, Path(scratch))
            if case["kind"] in KINDS:
                told = []
                for command in ("validate", "run"):
                    strict, skipping = (
                        read(case, folder, command, on_bad) for on_bad in ("stop", "skip")
                    )
                    told += [f"{command}: {line}" for line in differences(case, strict, skipping)]
            else:
                told = list(adapted(case, folder))
            told += [
                f"made {name}"
                for name in case.get("must_not_create", [])
                if (folder / name).exists()
            ]
            shutil.rmtree(folder)
            of_kind[case["kind"]] += 1
            wrong[case["kind"]] += bool(told)
            for line in told:
                print(f"{case['name']}: {line}", flush=True)
    for kind, count in of_kind.items():
        print(f"{kind:<12}{count:>4} cases, {wrong[kind]} differ")
    print(f"{len(chosen)} cases, {wrong.total()} differ, {time.monotonic() - began:.0f} s")
    return wrong.total()


if __name__ == "__main__":
    sys.exit(bool(run(Path(sys.argv[1]).resolve(), sys.argv[2:])))
