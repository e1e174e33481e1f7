"""The data sets and files that a job names, opened and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from synthaug.detectors.rcnn_config import Config
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.images import label_of
from synthaug.pipeline.core.readable import LABELS_WANTED, check_content
from synthaug.pipeline.core.scene import Category, Dataset, Scene
from synthaug.pipeline.core.seeding import permuted, seed_for
from synthaug.pipeline.formats.merge import with_classes
from synthaug.pipeline.formats.reference import open_dataset


@dataclass(frozen=True)
class Inputs:
    """The data sets of a job, opened."""

    splits: dict[str, Dataset]  # "labelled", "validation" and, where given, "unlabelled"

    @property
    def categories(self) -> tuple[Category, ...]:
        """Return the classes all splits share."""
        return self.splits["labelled"].categories


def open_inputs(job: Job) -> Inputs:
    """Open every data set the job names.

    Raises DatasetError where they disagree on the classes.
    """
    data = job.data
    root = Path(data.root)
    options = {"on_bad": data.on_bad, "max_pixels": str(data.max_pixels)}

    def opened(split: str, reference: str, **more: str) -> Dataset:
        return open_dataset(reference, root, key=f"data.{split}", defaults=options | more)

    labelled = opened("labelled", data.labelled)
    if len(labelled) == 0:
        raise DatasetError("data.labelled: the data set has no image; name one that has")
    _check_labels("labelled", labelled)
    splits: dict[str, Dataset] = {"labelled": labelled}
    if data.validation:
        splits["validation"] = opened("validation", data.validation)
        _check_labels("validation", splits["validation"])
    else:
        train, held_out = _hold_out(labelled, data.validation_fraction, job.seed)
        splits["labelled"] = train
        splits["validation"] = held_out
    if data.unlabelled:
        splits["unlabelled"] = opened("unlabelled", data.unlabelled, annotations="optional")
    return Inputs(_with_the_same_classes(splits))


def _check_labels(split: str, table: Dataset) -> None:
    """Raise DatasetError for images without labels where there must be some."""
    if not table.has_labels:
        raise DatasetError(
            f"data.{split}: its images have no labels; name a labelled set, "
            "and these as data.unlabelled"
        )


def _hold_out(table: Dataset, fraction: float, seed: int) -> tuple[Subset, Subset]:
    """Split by a fixed pseudo-random permutation: (rest, held out)."""
    count = max(1, round(fraction * len(table)))
    if count >= len(table):
        raise JobError(
            f"data.validation_fraction: {fraction} leaves no image to train on; "
            "name a data.validation set"
        )
    key = seed_for(seed, "validation")
    size = len(table)
    order = [permuted(i, size, key) for i in range(size)]
    first = Subset(table, sorted(order[count:]))
    second = Subset(table, sorted(order[:count]))
    return first, second


def _with_the_same_classes(splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """Return the splits with the classes of the labelled images.

    Classes are known by name. Raises DatasetError for a split that has another class.
    """
    wanted = splits["labelled"].categories
    aligned = {}
    for split, table in splits.items():
        aligned[split] = with_classes(table, wanted, f"data.{split}", "data.labelled")
    return aligned


def check_split(job: Job, split: str, table: Dataset, images: int, objects: int) -> None:
    """Raise DatasetError for an empty split, or a labelled one without objects.

    What is drawn from the labelled images says so, because no file is to blame.
    """
    fraction = job.data.validation_fraction
    is_drawn = not job.data.validation
    if is_drawn and images and not objects and split == "validation":
        raise DatasetError(
            f"data.validation_fraction: {fraction:g} drew {images} images without one object to be "
            "learnt; name a data.validation set, draw more or take another seed"
        )
    advice = LABELS_WANTED
    if is_drawn and split == "labelled":
        advice += f", or a data.validation set: data.validation_fraction={fraction:g} took others"
    check_content(f"data.{split}", table, images, objects, advice)


def check_size(scene: Scene, max_pixels: int) -> None:
    """Raise DatasetError for an image of too many pixels."""
    if scene.height * scene.width > max_pixels:
        raise DatasetError(
            f"{label_of(scene)}: {scene.width}x{scene.height} is over "
            f"data.max_pixels={max_pixels}; raise it or shrink the image"
        )


def check_sides(scene: Scene, config: Config) -> None:
    """Raise DatasetError for a strip under a pixel high where it enters a detector."""
    sizes = config.resolved()
    shorter, longer = sorted(scene.size)
    ratio = min(sizes.image_size / shorter, sizes.max_size / longer)
    if int(shorter * ratio) < 1:
        raise DatasetError(
            f"{label_of(scene)}: {scene.width}x{scene.height} shrinks to less than a pixel at "
            f"detector.max_size={sizes.max_size}; cut it into tiles, leave it out or raise "
            "detector.max_size"
        )


def check_file(key: str, path: str) -> None:
    """Raise JobError when a key names a file that is not there."""
    if path and not Path(path).is_file():
        raise JobError(f"{key}: there is no file '{path}'; correct the path or leave the key empty")
