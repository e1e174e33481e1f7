"""Lines about the state of a run and about the content of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import MANIFEST
from synthaug.pipeline.execution.training import read_log
from synthaug.pipeline.steps import STEPS


def lines(run_folder: Path) -> Iterator[str]:
    """Yield a line for each step of a run: done, not started, or how far it is."""
    if not (run_folder / "job.yaml").is_file():
        raise JobError(
            f"{run_folder}: not a run folder (it has no job.yaml); give the --output folder of a run"
        )
    for name in STEPS:
        folders = list((run_folder / "steps").glob(f"{name}-*"))
        if folders:
            newest = max(folders, key=lambda path: path.stat().st_mtime)
            yield f"{name:<16} {_state(Folder.at(newest))}"
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


def inspect(table: Dataset, progress: Callable[[int, int, str], None]) -> Iterator[str]:
    """Decode every image of a data set; yield its objects per class.

    Then what was skipped.
    """
    total = len(table)
    objects: Counter[int] = Counter()
    for index, scene in enumerate(table):
        decode(scene)
        objects.update(scene.objects.category.tolist())
        progress(index + 1, total, "images")
    num_classes = len(table.categories)
    yield f"{total} images, {sum(objects.values())} objects, {num_classes} classes: in order"
    classes = list(enumerate(table.categories))
    classes.sort(key=lambda pair: -objects[pair[0]])
    for index, category in classes:
        kind = "" if category.isthing else " (stuff)"
        yield f"  {objects[index]:>8}  {category.name}{kind}"
    for reason, number in sorted(table.skipped.items()):
        yield f"  {number:>8}  {reason}"
