"""The discriminators' fixtures: scores, regions, their order, and the traces of both paths."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from synthaug.generators.base import Layouts
from synthaug.generators.lostgan import discriminator as lostgan_discriminator
from tests.parity.comparison import Row, compare
from tests.parity.lostgan_fixtures import Fixture, Trace, sigma_row

PREFIX = "obD."
INPUTS = {"image_tag", "boxes_xywh", "labels", "rule", "torch_version", "sn_keys"}
# what the published wrapper leaves behind in its caller's tensor, which ours does not touch
NOT_OURS = {"boxes_after_call"}


def recorded_image(side: int) -> Tensor:
    """The two real images of the fixtures: [2, 3, R, R] in [-1, 1]."""
    r = np.random.default_rng(zlib.crc32(f"image:{side}".encode()))
    coarse, noise = r.uniform(-1, 1, (2, 3, 8, 8)), r.uniform(-1, 1, (2, 3, side, side))
    image = 0.75 * coarse.repeat(side // 8, 2).repeat(side // 8, 3) + 0.25 * noise
    image[1] *= 0.5
    return torch.tensor(image, dtype=torch.float32)


def discriminator_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Compare everything a discriminator's fixture holds."""
    imported, state = fixture.network(fixture.keys())
    yield Row(fixture.name, "weights", detail=f"imported as {imported}")
    yield from sigma_row(fixture, state, tolerance)
    network: Any = imported.network.eval()
    made, trace = forward(fixture, network)
    for name in sorted(made.keys() & fixture.arrays.keys()):
        yield compare(fixture.name, name, fixture.arrays[name], made[name], tolerance)
    if not fixture.arrays.keys() >= {"out_img", "out_obj"}:
        yield Row(fixture.name, "out_obj", detail="holds no scores of objects", fault=True)
    done = INPUTS | made.keys() | {"sn_sigma"}
    if "trace_names" in fixture.arrays:
        yield from trace.rows(fixture, "", tolerance)
        done |= {"trace_names", "trace_stats", "trace_samples"}
    for name in sorted(fixture.arrays.keys() - done):
        why = (
            "the published wrapper changes its caller's boxes, ours does not"
            if name in NOT_OURS
            else "unknown array"
        )
        yield Row(fixture.name, name, detail=f"not compared: {why}")


def forward(fixture: Fixture, network: Any) -> tuple[dict[str, Any], Trace]:
    """Run the discriminator.

    What it made by the names of the arrays, objects also in the published order.
    """
    image, layouts = recorded_image(network.resolution), fixture.layouts()
    names = fixture.arrays.get("trace_names")
    trace = Trace(network, [] if names is None else names.tolist(), PREFIX)
    last = network.object_blocks[-1]
    real, pieces = lostgan_discriminator.roi_features, []

    def spy(features: Tensor, rois: Tensor, cells: int, scale: float) -> Tensor:
        out = real(features, rois, cells, scale)
        pieces.append((rois, out))
        return out

    # the published code lists large objects first, ours keeps the order of the input
    for name in (f"{last}.out", "l_obj.out", "l_y.out"):
        trace.changes[f"{PREFIX}{name}"] = lambda x: x[
            published_order(layouts, network.resolution, pieces)
        ]
    with (
        torch.inference_mode(),
        trace,
        mock.patch.object(lostgan_discriminator, "roi_features", spy),
    ):
        scores, objects = network(image, layouts)
    order = published_order(layouts, network.resolution, pieces)
    for name, piece in zip(
        ("roi_align_s", "roi_align_l") if len(pieces) > 1 else ("roi_align",), pieces, strict=True
    ):
        trace.note(f"{PREFIX}{name}.out", piece[1])
    rois = torch.empty(len(order), 5)
    rois[order] = torch.cat([part for part, _ in pieces[::-1]])
    made = {
        "image_stride": image[:, :, ::16, ::16].numpy(),
        "image_sum": np.array(image.double().sum().item()),
        "out_img": scores[:, None].numpy(),
        "out_obj": objects[order][:, None].numpy(),
        "out_obj_input_order": objects[:, None].numpy(),
        "rois_in": rois.numpy(),
        "labels_kept_in": layouts.labels[layouts.labels > 0].numpy(),
        "order": order.numpy(),
        "n_large": np.array(len(pieces[1][0]) if len(pieces) > 1 else -1),
    }
    return made, trace


def published_order(layouts: Layouts, side: int, pieces: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Input index of each object [n], large ones first, by what the network itself took for small
    and large.
    """
    keep = layouts.labels > 0
    given = torch.cat(
        [keep.nonzero()[:, :1].float(), layouts.boxes[keep] * side], 1
    )  # [n, 5] pixels
    free = list(range(len(given)))
    order = []
    for roi in torch.cat([rois for rois, _ in pieces[::-1]]):  # large, then small
        place = next(i for i in free if torch.equal(given[i], roi))
        free.remove(place)
        order.append(place)
    return torch.tensor(order)
