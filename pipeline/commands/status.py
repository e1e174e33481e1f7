"""Lines about the state of a run and about the content of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from synthaug.pipeline.core.errors import JobError, printable
from synthaug.pipeline.core.readable import check_content, read_scene
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.skipped import Skipped, short_lines, unread_lines
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import MANIFEST
from synthaug.pipeline.execution.training import read_log
from synthaug.pipeline.steps import STEPS


def lines(run_folder: Path) -> Iterator[str]:
    """Yield a line for each step of a run: done, not started, or how far it is."""
    if not (run_folder / "job.yaml").is_file():
        raise JobError(
            f"{run_folder}: not a run folder (it has no job.yaml); give the --output folder of a "
            "run"
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


def inspect(
    table: Dataset, progress: Callable[[int, int, str], None], told: str = "DATASET"
) -> Iterator[str]:
    """Yield what is in a data set, every image decoded, and what was skipped.

    Raises DatasetError, which begins with `told`, for a set in which there is nothing.
    """
    total = len(table)
    objects: Counter[int] = Counter()
    skipped = Skipped(table.skipped)
    images = 0
    for index in range(total):
        scene = read_scene(table, index, skipped)
        if scene is not None:
            images += 1
            objects.update(scene.objects.category.tolist())
        progress(index + 1, total, "images")
    yield from short_lines(skipped)
    yield from unread_lines(skipped)
    check_content(told, table, images, sum(objects.values()))
    num_classes = len(table.categories)
    state = "in order"
    if skipped:
        state = "in order but for what is said above"
    yield f"{images} images, {sum(objects.values())} objects, {num_classes} classes: {state}"
    classes = list(enumerate(table.categories))
    classes.sort(key=lambda pair: -objects[pair[0]])
    for index, category in classes:
        kind = "" if category.isthing else " (stuff)"
        yield f"  {objects[index]:>8}  {printable(category.name)}{kind}"
