"""The arms of a trial: what each adds to real images, and how it draws batches.

All arms train the same detector with the same optimizer steps, batch size and seeds; they differ in
which images fill the batches. `real` is the baseline; controls cost no generator; candidates are
compared with both. An arm is data: what it adds, how it samples, how long it trains, which keys of
the detector it changes. So arms can be stacked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from synthaug.pipeline.batches.draw import Draw, repeat_factors
from synthaug.pipeline.batches.pixels import Pixels
from synthaug.pipeline.core.arrays import Bytes, Floats, Ints
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Dataset, Scene, class_counts
from synthaug.pipeline.core.seeding import permuted, rng_for, seed_for
from synthaug.pipeline.synthesis.copy_paste_table import CopyPasteTable
from synthaug.pipeline.trial.recipe import Recipe, sample_of

if TYPE_CHECKING:
    from synthaug.detectors.base import Sample

Entry = tuple[Scene, Bytes]  # a scene and its pixels [H, W, 3]
EXTERNAL = "external:"  # prefix of arms whose images are a data set named in trial.external
USUAL = Recipe()


Role = Literal["baseline", "headroom", "control", "placebo", "candidate"]
Sampling = Literal["uniform", "repeat_factor", "instance_aware"]


@dataclass(frozen=True)
class Arm:
    """One way to train the detector."""

    name: str
    role: Role
    description: str  # for the reader of a report
    added: tuple[str, ...] = ()  # tables whose images fill `trial.share` of each batch
    # Of the real images:
    real: tuple[str, ...] = ("real",)  # tables they come from
    labelled: float = 1.0  # part of them that is used, the same one in every training
    sampling: Sampling = "uniform"
    threshold: float = 0.0  # share of images or instances; classes in less are repeated
    steps: float = 1.0  # times the steps of the other arms
    fraction: float = 1.0  # of the added images that is used
    # keys of the detector, and of the recipe (trial.recipe), that it changes, with their values
    detector: tuple[tuple[str, Any], ...] = ()
    recipe: tuple[tuple[str, Any], ...] = ()


_ARMS = (
    Arm("real", "baseline", "real images, drawn uniformly"),
    Arm("real_half", "headroom", "half of the real images, always the same", labelled=0.5),
    Arm(
        "real_more",
        "headroom",
        "the real images and those of trial.more with their true labels",
        real=("real", "more"),
    ),
    Arm(
        "rfs",
        "control",
        "repeat-factor sampling (Gupta et al. 2019)",
        sampling="repeat_factor",
    ),
    Arm(
        "irfs",
        "control",
        "instance-aware repeat factors (Yaman et al. 2023)",
        sampling="instance_aware",
    ),
    Arm(
        "lsj",
        "control",
        "large-scale jitter: zoomed by 0.5 to 2 (Ghiasi et al. 2021)",
        detector=(("scale_jitter", 1.0),),
    ),
    Arm(
        "copy_paste",
        "control",
        "real objects pasted into real images (Ghiasi et al. 2021)",
        added=("copy_paste",),
    ),
    Arm(
        "pseudo",
        "control",
        "unlabelled images with the detector's own labels",
        added=("pseudo",),
    ),
    Arm("real_2x", "control", "real images, twice the steps", steps=2.0),
    Arm(
        "placebo",
        "placebo",
        "the synthetic images with each other's labels",
        added=("placebo",),
    ),
    Arm(
        "soft",
        "placebo",
        "real images brought to the generator's resolution and back",
        added=("soft",),
    ),
    Arm("diluted", "placebo", "places for added images stay empty", added=("nothing",)),
    Arm(
        "empties",
        "placebo",
        "real images with places painted over that show no object",
        added=("empties",),
    ),
    Arm(
        "synthetic",
        "candidate",
        "synthetic images as they were made",
        added=("synthetic",),
    ),
    Arm(
        "verified",
        "candidate",
        "synthetic images after verification of each instance",
        added=("verified",),
    ),
)
ARMS = {arm.name: arm for arm in _ARMS}
# Chosen by the trial itself, when the controls are done:
STACK = "stack"  # the controls that gained, together
BEST = "synthetic_best"  # the best candidate on top of the stack


def arm_named(name: str) -> Arm:
    """Return an arm of ARMS, or one that adds an external data set."""
    if name.startswith(EXTERNAL):
        data_set = name.removeprefix(EXTERNAL)
        return Arm(name, "candidate", f"the data set '{data_set}'", added=(name,))
    return ARMS[name]


def stacked(parts: Sequence[Arm], name: str, role: Role) -> Arm:
    """Return the arm that does what all its parts do, the parts before it first.

    Added tables are joined. Where two parts would do one thing differently (sampling, a key of the
    detector), the first one has its way; the longest training is taken.
    """
    assert parts, "nothing to stack"
    added: dict[str, None] = {}  # in order, each once
    detector: Json = {}
    recipe: Json = {}
    for part in parts:
        added |= dict.fromkeys(part.added)
        detector = dict(part.detector) | detector
        recipe = dict(part.recipe) | recipe
    samplers = [part for part in parts if part.sampling != "uniform"]
    sampler = samplers[0] if samplers else parts[0]
    return replace(
        parts[0],
        name=name,
        role=role,
        description=" + ".join(part.name for part in parts),
        added=tuple(added),
        sampling=sampler.sampling,
        threshold=sampler.threshold,
        steps=max(part.steps for part in parts),
        detector=tuple(sorted(detector.items())),
        recipe=tuple(sorted(recipe.items())),
    )


def on_top_of(control: Arm, candidate: Arm) -> Arm:
    """Return the arm that adds the candidate's images to a control's recipe.

    It keeps the control's sampling and steps.
    """
    both = stacked([control, candidate], BEST, "candidate")
    return replace(both, description=f"{candidate.name} on top of {control.name}")


def fixed_part(table: Dataset, fraction: float, seed: int) -> Dataset:
    """Return a part of a table that depends on the images' ids, not their order."""
    if fraction >= 1:
        return table
    ranks = [seed_for(seed, scene.image_id) for scene in table]
    count = max(1, round(fraction * len(ranks)))
    order = sorted(range(len(ranks)), key=lambda index: ranks[index])
    return Subset(table, sorted(order[:count]))


def first_part(table: Dataset, fraction: float, seed: int) -> Dataset:
    """Return a fixed pseudo-random part of a table.

    A smaller part is contained in a larger one.
    """
    if fraction >= 1:
        return table
    size = len(table)
    count = max(1, round(fraction * size))
    own_seed = seed_for(seed, "part")
    chosen = sorted(permuted(i, size, own_seed) for i in range(count))
    return Subset(table, chosen)


def instance_aware_factors(counts: Ints, threshold: float) -> Floats:
    """Return how often each image [N] is drawn, by image and instance frequency.

    IRFS, Yaman et al. 2023, eq. 3. counts [N, C] are the instances of each class in each image; a
    class of image frequency f and share of instances b is repeated max(1, sqrt(threshold / sqrt(f
    b))) times, an image as often as its rarest class.
    """
    present = counts > 0  # [N, C]
    image_frequency = present.mean(0)  # [C]
    instance_share = counts.sum(0) / max(1, counts.sum())  # [C]
    frequency = np.sqrt(image_frequency * instance_share).clip(1e-9)
    per_class = np.maximum(1.0, np.sqrt(threshold / frequency))  # [C]
    return np.asarray(np.where(present, per_class, 1.0).max(1, initial=1.0))


def real_draw(table: Dataset, batch: int, seed: int, sampling: str, threshold: float) -> Draw:
    """Return the draw of real images that an arm asks for."""
    if sampling == "uniform":
        return Draw(len(table), batch, seed)
    num_classes = len(table.categories)
    counts = np.stack([class_counts([scene], num_classes) for scene in table])  # [N, C]
    if sampling == "instance_aware":
        factors = instance_aware_factors(counts, threshold)
    else:
        factors = repeat_factors(counts > 0, threshold)
    return Draw(len(table), batch, seed, factors)


@dataclass(frozen=True)
class RealEnd:
    """The end of a training, where real images take the places of added ones."""

    first: int  # step
    draw: Draw  # of as many as there were added


def arm_batches(
    real: Dataset,
    draw: Draw,
    added: Sequence[Dataset],
    count: int,
    seed: int,
    recipe: Recipe = USUAL,
    end: RealEnd | None = None,
) -> Callable[[int], list[Sample]]:
    """Return step -> samples: the real images of `draw` and `count` added ones.

    The added tables take turns, from batch to batch too, so each gives equally many whatever its
    size.
    """
    used: list[Dataset] = []
    if count:
        used = [table for table in added if len(table)]
    read_real = _reader(real)
    read_added = [_reader(table) for table in used]
    added_draws = []
    for number, table in enumerate(used):
        identity = ("added", number) if number else ("added",)
        added_draws.append(Draw(len(table), 1, seed_for(seed, *identity)))

    def batch(step: int) -> list[Sample]:
        entries = [read_real(index) for index in draw(step)]
        first = step * count
        last = first + count if used else first
        if end is not None and step >= end.first:
            entries += [read_real(index) for index in end.draw(step)]
            last = first
        for position in range(first, last):
            turn, number = divmod(position, len(used))
            (index,) = added_draws[number](turn)
            entries.append(read_added[number](index))
        # Real and added images are mixed: no position in a batch belongs to one kind.
        order = rng_for(seed, "order", step).permutation(len(entries))
        samples = []
        for i in order:
            scene, image = entries[i]
            samples.append(sample_of(scene, image, recipe))
        return samples

    return batch


def _reader(table: Dataset) -> Callable[[int], Entry]:
    """Return index -> scene and pixels of a table; those of files are kept in memory."""
    if isinstance(table, CopyPasteTable):  # drawn when they are read; hardly any comes twice
        return table.entry
    return Pixels([table], None).__getitem__
