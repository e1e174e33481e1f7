"""The arms of a trial: what each adds to the real images, and how its batches are drawn.

All arms train the same detector with the same optimiser steps, batch size and seeds; they differ in which images fill the
batches. `real` is what is compared with; controls are what costs no generator; candidates are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.batches.images_and_layouts import (
    Draw,
    Pixels,
    crowds,
    repeat_factors,
)
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.scene import Dataset, class_counts
from synthaug.pipeline.core.seeding import permuted, rng_for, seed_for
from synthaug.pipeline.synthesis.pasting import Pasted

if TYPE_CHECKING:
    from synthaug.detectors.base import Sample

EXTERNAL = "external:"  # prefix of arms whose images are a data set named in trial.external


@dataclass(frozen=True)
class Arm:
    """One way to train the detector."""

    name: str
    role: Literal["baseline", "control", "placebo", "candidate"]
    says: str  # what it is, for the reader of a report
    added: tuple[str, ...] = ()  # tables whose images fill `trial.share` of each batch
    sampling: Literal["uniform", "repeat_factor", "instance_aware"] = (
        "uniform"  # of the real images
    )
    steps: float = 1.0  # times the steps of the other arms
    fraction: float = 1.0  # of the added images that is used


ARMS = {
    arm.name: arm
    for arm in (
        Arm("real", "baseline", "real images, drawn uniformly"),
        Arm(
            "rfs", "control", "repeat-factor sampling (Gupta et al. 2019)", sampling="repeat_factor"
        ),
        Arm(
            "irfs",
            "control",
            "instance-aware repeat factors (Yaman et al. 2023)",
            sampling="instance_aware",
        ),
        Arm(
            "copy_paste",
            "control",
            "real objects pasted into real images (Ghiasi et al. 2021)",
            ("copy_paste",),
        ),
        Arm("pseudo", "control", "unlabelled images with the detector's own labels", ("pseudo",)),
        Arm("real_2x", "control", "real images, twice the steps", steps=2.0),
        Arm("placebo", "placebo", "the synthetic images with each other's labels", ("placebo",)),
        Arm("synthetic", "candidate", "synthetic images as they were made", ("synthetic",)),
        Arm(
            "verified",
            "candidate",
            "synthetic images after verification of each instance",
            ("verified",),
        ),
    )
}
BEST = "synthetic_best"  # synthetic images on top of the best control, chosen when the controls are done


def arm_named(name: str) -> Arm:
    """Return an arm of ARMS, or one that adds an external data set."""
    if name.startswith(EXTERNAL):
        return Arm(name, "candidate", f"the data set '{name.removeprefix(EXTERNAL)}'", (name,))
    return ARMS[name]


def on_top_of(control: Arm, candidate: str = "synthetic") -> Arm:
    """Return the arm that adds the candidate's images to a control's recipe, at the control's sampling and steps."""
    added = (*control.added, *ARMS[candidate].added)
    return replace(
        control,
        name=BEST,
        role="candidate",
        says=f"{candidate} images on top of {control.name}",
        added=added,
    )


def first_part(table: Dataset, fraction: float, seed: int) -> Dataset:
    """Return a fixed pseudo-random part of a table; a smaller part is contained in a larger one."""
    if fraction >= 1:
        return table
    kept = max(1, round(fraction * len(table)))
    return Subset(
        table, sorted(permuted(i, len(table), seed_for(seed, "part")) for i in range(kept))
    )


def instance_aware_factors(present: NDArray[np.int64], threshold: float) -> NDArray[np.float64]:
    """How often each image is drawn, by image and instance frequency (IRFS, Yaman et al. 2023, eq. 3).

    present [N, C] counts the instances of each class in each image; a class of image frequency f and share of instances b
    is repeated max(1, sqrt(threshold / sqrt(f b))) times.
    """
    images = (present > 0).mean(0)
    instances = present.sum(0) / max(1, present.sum())
    per_class = np.maximum(1.0, np.sqrt(threshold / np.sqrt(images * instances).clip(1e-9)))  # [C]
    factors: NDArray[np.float64] = np.where(present > 0, per_class, 1.0).max(1, initial=1.0)
    return factors


def real_draw(table: Dataset, batch: int, seed: int, sampling: str, threshold: float) -> Draw:
    """Return the draw of real images that an arm asks for."""
    if sampling == "uniform":
        return Draw(len(table), batch, seed)
    one = [class_counts([scene], len(table.categories)) for scene in table]
    present = np.stack(one)  # [N, C]
    factors = repeat_factors(present > 0, threshold)
    if sampling == "instance_aware":
        factors = instance_aware_factors(present, threshold)
    return Draw(len(table), batch, seed, factors)


def arm_batches(
    real: Dataset, draw: Draw, added: Sequence[Dataset], count: int, seed: int
) -> Callable[[int], list[Sample]]:
    """Return step -> samples: `draw`'s real images and `count` of the added ones, equally many of each added table."""
    from synthaug.detectors.base import Sample

    used = [table for table in added if len(table)] if count else []
    more = [
        Draw(len(table), 1, seed_for(seed, "added", *([k] if k else [])))
        for k, table in enumerate(used)
    ]
    read = [
        table.entry if isinstance(table, Pasted) else Pixels([table], None).__getitem__
        for table in (real, *used)
    ]

    def sample(table: int, index: int) -> Sample:
        scene, image = read[table](index)
        objects = scene.objects.select(~scene.objects.iscrowd)
        return Sample(
            image, objects.boxes, objects.category.astype(np.int64), ignore=crowds(scene.objects)
        )

    def batch(step: int) -> list[Sample]:
        chosen = [(0, i) for i in draw(step)]
        for place in range(step * count, (step + 1) * count) if used else ():
            whole_turns, table = divmod(
                place, len(used)
            )  # the tables take turns, from batch to batch too
            chosen.append((1 + table, more[table](whole_turns)[0]))
        order = rng_for(seed, "order", step).permutation(
            len(chosen)
        )  # no place in a batch belongs to one kind
        return [sample(*chosen[i]) for i in order]

    return batch
