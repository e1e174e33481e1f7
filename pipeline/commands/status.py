"""What a run folder or a data set holds, as lines of text."""

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
    """Say of each step of a run whether it is done; of a training, which step it has reached."""
    if not (run_folder / "job.yaml").is_file():
        raise JobError(
            f"{run_folder}: not a run folder (it has no job.yaml); give the --output folder of a run"
        )
    for name in STEPS:
        found = sorted(
            (run_folder / "steps").glob(f"{name}-*"), key=lambda path: path.stat().st_mtime
        )
        if not found:
            yield f"{name:<16} not started"
            continue
        folder = Folder.at(str(found[-1]))
        if folder.exists(MANIFEST):
            yield f"{name:<16} done in {folder.read_json(MANIFEST)['seconds']:.0f} s"
            continue
        log, shards = read_log(folder), [n for n in folder.names() if n.endswith(".json")]
        far = (
            f"step {log[-1]['step']} of {log[-1]['steps']}"
            if log
            else f"{len(shards)} shards finished"
        )
        yield f"{name:<16} unfinished: {far}"


def inspect(table: Dataset, progress: Callable[[int, int, str], None]) -> Iterator[str]:
    """Decode every image of a data set and count its objects per class."""
    counts: Counter[int] = Counter()
    for index in range(len(table)):
        scene = table[index]
        decode(scene)
        counts.update(scene.objects.category.tolist())
        progress(index + 1, len(table), "images")
    yield f"{len(table)} images, {sum(counts.values())} objects, {len(table.categories)} classes: in order"
    for position, category in sorted(
        enumerate(table.categories), key=lambda pair: -counts[pair[0]]
    ):
        yield f"  {counts[position]:>8}  {category.name}{'' if category.isthing else ' (stuff)'}"
    for reason, number in sorted(table.skipped.items()):
        yield f"  {number:>8}  {reason}"
