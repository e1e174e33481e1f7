"""The command that comes next: the last line of each command."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synthaug.pipeline.core.errors import printable
from synthaug.pipeline.trial.paired_tests import SCREENED

UNJUDGED = "nothing judged"


def next_step(words: Sequence[str], why: str = "") -> str:
    """Return the line that names a command of this program, as a shell takes it."""
    command = printable(shlex.join(("synthaug", *words)))
    return f"next:    {command}{_comment(why)}"


def _comment(why: str) -> str:
    return f"   # {why}" if why else ""


def after_run(trial: Mapping[str, Any], job: Sequence[str], run: str) -> Iterator[str]:
    """Yield what comes after a run, by the manifest of its trial.

    `job` are the words that name its job. What is not shown to help is not to be handed on.
    """
    export = ("export", run, "--to", "coco", "--out", f"{run.rstrip('/')}-coco")
    word = trial.get("verdict", {}).get("word", UNJUDGED)
    if not trial.get("seeds") or word == UNJUDGED:
        yield next_step(("trial", *job), "does this data help your detector?")
        yield next_step(export, "for your own tools; --to yolo, voc, lvis or hf, too")
    elif word == "helps":
        yield next_step(export, "for your own tools; --to yolo, voc, lvis or hf, too")
    elif word == SCREENED["helps"]:
        confirm = (*job, "trial.evaluation=DATASET")
        yield next_step(("trial", *confirm), "images that nothing else has seen confirm it")
    else:
        yield f"next:    open {run}/report.html{_comment('what each class gained and lost')}"
    yield next_step(("studio", run), "drag boxes and see what the generator makes of them")
