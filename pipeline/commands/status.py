"""Lines about the state of a run."""

from __future__ import annotations

from collections.abc import Iterator

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import MANIFEST
from synthaug.pipeline.execution.training import read_log
from synthaug.pipeline.steps import STEPS


def lines(run_folder: str) -> Iterator[str]:
    """Yield a line for each step of a run, here or on s3://.

    Done, not started, or how far it is.
    """
    run = Folder.at(run_folder)
    if not run.exists("job.yaml"):
        raise JobError(
            f"{run_folder}: not a run folder (it has no job.yaml); give the --output folder of a "
            "run"
        )
    steps = run.sub("steps")
    present = steps.folders()
    for name in STEPS:
        own = [steps.sub(folder) for folder in present if folder.startswith(f"{name}-")]
        if own:
            newest = max(own, key=Folder.changed)
            yield f"{name:<16} {_state(newest)}"
        else:
            yield f"{name:<16} not started"


def _state(folder: Folder) -> str:
    """Return how far the step of this folder is."""
    if folder.exists(MANIFEST):
        return f"done in {folder.read_json(MANIFEST)['seconds']:.0f} s"
    log = read_log(folder)
    if log:
        return f"unfinished: step {log[-1]['step']} of {log[-1]['steps']}"
    shards = [name for name in folder.names() if name.endswith(".json")]
    return f"unfinished: {len(shards)} shards finished"
