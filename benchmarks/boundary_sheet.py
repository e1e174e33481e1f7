"""A sheet like Figure 1 of Panoptic-based Image Synthesis.

Map, SPADE, panoptic, with boundaries between things enlarged.

    python -m benchmarks.boundary_sheet SPADE PANOPTIC OUT.png [--maps toy:val?count=60] \
        [--rows 4] [--zoom 4] [--styles 0]

SPADE and PANOPTIC are checkpoints, or folders of runs, of generators with the same classes as MAPS,
a data set with maps. Rows are the maps with the most boundary between two things that touch, one
map each; of such a map the square with the most of it is shown enlarged, nearest pixel, from all
pictures alike. Colours of the map: a hue per class, a shade per instance, boundaries in white.
`--styles N` adds N more images of the panoptic generator with other seeds, where it has a latent
code.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from synthaug.generators import checkpoint
from synthaug.generators.base import Maps, SamplerOptions
from synthaug.pipeline.core.panoptic_maps import maps_of
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.formats.reference import open_dataset

WINDOW = 0.25  # side of the enlarged square, share of the map's width
GAP, LINE, PAGE, INK, FRAME = 6, 18, (255, 255, 255), (29, 33, 38), (235, 60, 60)
Pixels = NDArray[np.uint8]


def checkpoint_of(given: str) -> Path:
    path = Path(given)
    return path / "checkpoints" / "generator.safetensors" if path.is_dir() else path


def between_things(instances: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return 1 where a pixel of a thing has another thing below or to its right, else 0: [H, W]."""
    is_thing = instances > classes
    differs_below = instances[:-1] != instances[1:]
    things_below = is_thing[:-1] & is_thing[1:]
    differs_right = instances[:, :-1] != instances[:, 1:]
    things_right = is_thing[:, :-1] & is_thing[:, 1:]
    flags = np.zeros(instances.shape, np.int64)
    flags[:-1] |= differs_below & things_below
    flags[:, :-1] |= differs_right & things_right
    return flags


def busiest(flags: NDArray[np.int64], side: int) -> tuple[int, int, int]:
    """Return count, top and left of the square of `side` pixels with the most flags.

    Nearest the middle among equals.
    """
    columns = sliding_window_view(flags, side, axis=0).sum(-1)
    counts = sliding_window_view(columns, side, axis=1).sum(-1)
    places = np.argwhere(counts == counts.max())
    middle = (np.array(counts.shape) - 1) / 2
    distances = np.abs(places - middle).sum(1)
    nearest = int(distances.argmin())
    top, left = places[nearest].tolist()
    return int(counts.max()), top, left


def coloured(labels: NDArray[np.int64], instances: NDArray[np.int64], classes: int) -> Pixels:
    """The map as a picture [H, W, 3]."""
    hue = (labels * 157 % 256).astype(np.uint8)
    shade = np.where(instances > classes, 150 + instances * 67 % 90, 120)
    tint = np.where(labels == classes, 0, 150)
    out = np.asarray(
        Image.fromarray(np.stack([hue, tint, shade], -1).astype(np.uint8), "HSV").convert("RGB")
    ).copy()
    edge = np.zeros(labels.shape, bool)
    edge[:-1] |= instances[:-1] != instances[1:]
    edge[:, :-1] |= instances[:, :-1] != instances[:, 1:]
    out[edge] = 255
    return out


def sheet(
    rows: list[list[Pixels]], boxes: list[tuple[int, int, int]], captions: list[str], zoom: int
) -> Image.Image:
    """Per row all pictures, and under them their squares (top, left, side) enlarged."""
    height, width = rows[0][0].shape[:2]
    scale = max(1, round(192 / width))
    cell = (width * scale, height * scale)
    side = boxes[0][2]
    large = side * scale * zoom
    page_width = GAP + len(captions) * (cell[0] + large + 3 * GAP)
    page_height = LINE + len(rows) * (max(cell[1], large) + GAP) + GAP
    page = Image.new("RGB", (page_width, page_height), PAGE)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for j, caption in enumerate(captions):
        draw.text((GAP + j * (cell[0] + large + 3 * GAP), 2), caption, fill=INK, font=font)
    for i, (pictures, (top, left, _)) in enumerate(zip(rows, boxes, strict=True)):
        y = LINE + i * (max(cell[1], large) + GAP)
        for j, picture in enumerate(pictures):
            x = GAP + j * (cell[0] + large + 3 * GAP)
            whole = Image.fromarray(picture)
            page.paste(whole.resize(cell, Image.Resampling.NEAREST), (x, y))
            corner = (x + left * scale, y + top * scale)
            draw.rectangle(
                (*corner, corner[0] + side * scale - 1, corner[1] + side * scale - 1), outline=FRAME
            )
            part = whole.crop((left, top, left + side, top + side)).resize(
                (large, large), Image.Resampling.NEAREST
            )
            page.paste(part, (x + cell[0] + GAP, y))
            at = (x + cell[0] + GAP, y, x + cell[0] + GAP + large - 1, y + large - 1)
            draw.rectangle(at, outline=FRAME)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("spade")
    parser.add_argument("panoptic")
    parser.add_argument("out", type=Path)
    parser.add_argument("--maps", default="toy:val?count=60")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--zoom", type=int, default=4)
    parser.add_argument("--styles", type=int, default=0)
    given = parser.parse_args()
    samplers: dict[str, Any] = {}
    for name in ("spade", "panoptic"):
        system, network, _ = checkpoint.load(checkpoint_of(getattr(given, name)))
        samplers[name] = system.sampler(network, SamplerOptions())
    size = samplers["panoptic"].size
    if size != samplers["spade"].size:
        raise SystemExit("both generators must paint images of the same size")
    table = open_dataset(given.maps, Path())
    classes, side = len(table.categories), max(8, round(WINDOW * size[1]))
    found = []
    for index in range(len(table)):
        maps = maps_of(table[index], classes, size)
        count, top, left = busiest(between_things(maps.instances, classes), side)
        found.append((-count, index, (top, left, side), maps))
    chosen = sorted(found, key=lambda row: row[:2])[: given.rows]
    rows = []
    styles = given.styles if samplers["panoptic"].config.vae else 0
    for _, index, _, maps in chosen:
        batch = Maps.collate([maps.labels], [maps.instances], classes)
        seeds = [seed_for(0, "sheet", index, k) for k in range(1 + styles)]
        made = [
            samplers["spade"].sample(batch, seeds[:1]).images[0],
            *(samplers["panoptic"].sample(batch, [s]).images[0] for s in seeds),
        ]
        rows.append([coloured(maps.labels, maps.instances, classes), *made])
    captions = ["map", "SPADE", "panoptic-aware", *(f"style {k + 2}" for k in range(styles))]
    page = sheet(rows, [box for _, _, box, _ in chosen], captions, given.zoom)
    page.quantize(255).save(given.out, optimize=True) if given.out.suffix == ".png" else page.save(
        given.out, quality=90
    )
    print(
        f"{given.out}: {page.width} x {page.height}, {given.out.stat().st_size / 1e3:.0f} kB; "
        f"torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
