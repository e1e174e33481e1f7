"""The share of features that nearest upsampling maps wrongly, per doubling (Fig. 4).

    python -m benchmarks.wrongly_mapped jobs/cityscapes.yaml data.root=FOLDER [KEY=VALUE ...]

Reads the maps of the job's validation images (of the labelled ones where it holds a part of these
out) at the size of its generator. Prints, for each doubling, the share of the new features whose
identity is not the map's, the worst image, and the share that Algorithm 1 cannot copy from anywhere
(holes).
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean

import torch

from synthaug.generators.nn.panoptic.misalignment import Misalignment, misalignments
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.panoptic_maps import maps_of
from synthaug.pipeline.formats.reference import open_dataset


def rows(job_file: str, overrides: list[str]) -> list[list[Misalignment]]:
    """Return the doublings of every image that has a map."""
    job = load_job(Path(job_file), overrides)
    config = job.generator.config
    first, last = config.start[0], config.size[0]
    heights = [first * 2**step for step in range(1, 1 + (last // first).bit_length() - 1)]
    table = open_dataset(job.data.validation or job.data.labelled, Path(job.data.root))
    num_classes = len(table.categories)
    found = []
    for scene in table:
        if scene.panoptic is None:
            continue
        maps = maps_of(scene, num_classes, config.size)
        labels = torch.from_numpy(maps.labels).long()
        identity = torch.from_numpy(maps.instances).long() * (num_classes + 1) + labels
        found.append(misalignments(identity[None], heights))
    return found


def main() -> None:
    """Print the table."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    found = rows(sys.argv[1], sys.argv[2:])
    print(f"{len(found)} maps; shares of the new features\n")
    print("| to | wrong | worst image | holes |\n|---|---|---|---|")
    for of_images in zip(*found, strict=True):
        height, width = of_images[0].size
        wrong = [one.wrong for one in of_images]
        holes = [one.holes for one in of_images]
        cells = (
            f"{height} x {width}",
            *(f"{v:.1%}" for v in (mean(wrong), max(wrong), mean(holes))),
        )
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
