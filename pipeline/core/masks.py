"""Masks and their two encodings: COCO run lengths (column by column) and panoptic PNG.

Counts that come from a file are parsed here in numpy and checked before anything is allocated from them: the usual C
decoder trusts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.scene import Objects

_MAX_CHARS = 12  # per run; 5 bits each, so one run never overflows 64 bits


def encode(masks: NDArray[np.bool_]) -> list[str]:
    """Return the COCO compressed counts of each mask [N, H, W]."""
    return encode_with_boxes(masks)[0]


def encode_with_boxes(masks: NDArray[np.bool_]) -> tuple[list[str], NDArray[np.float32]]:
    """Return what `encode` and `tight_boxes` return; the boxes come from the counts, which is quicker."""
    from pycocotools import mask as coco_mask

    assert masks.ndim == 3
    if not len(masks):
        return [], np.zeros((0, 4), np.float32)
    stacked = np.asfortranarray(masks.transpose(1, 2, 0).view(np.uint8))  # [H, W, N]
    rles = coco_mask.encode(stacked)
    boxes = coco_mask.toBbox(rles).astype(np.float32)  # [N, 4] xywh, pixels
    boxes[:, 2:] += boxes[:, :2]
    return [rle["counts"].decode("ascii") for rle in rles], boxes


def runs(rle: str) -> NDArray[np.int64]:
    """Return the run lengths of compressed counts, background first; raises ValueError when the text is no such thing.

    Each run is written in groups of five bits, least significant first; 0x20 says that more follow, 0x10 in the last
    one that the number is negative. From the fourth run on it is the difference to the run two before.
    """
    codes = np.frombuffer(rle.encode(), np.uint8).astype(np.int64) - 48
    if not len(codes):
        raise ValueError("empty counts")
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 0x20:
        raise ValueError("counts are not COCO compressed run lengths")
    ends = np.flatnonzero((codes & 0x20) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_CHARS:
        raise ValueError("a run in the counts is too long")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    values -= np.where(codes[ends] & 0x10, np.int64(1) << (5 * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    if values.min() < 0:
        raise ValueError("the counts hold a negative run")
    return values


def check(rle: str, size: Size) -> NDArray[np.int64]:
    """Return the run lengths; raises ValueError unless they describe a mask of exactly this size."""
    lengths = runs(rle)
    if int(lengths.sum()) != size[0] * size[1]:
        raise ValueError(f"the counts cover {int(lengths.sum())} pixels, not {size[0]}x{size[1]}")
    return lengths


def decode(rle: str, size: Size) -> NDArray[np.bool_]:
    """Return the mask [H, W]; raises ValueError when the counts are broken or of another size."""
    lengths = check(rle, size)
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)  # [W * H], columns first
    return np.ascontiguousarray(flat.reshape(size[1], size[0]).T)


def decode_all(objects: Objects, size: Size) -> NDArray[np.bool_]:
    """Return the masks of N objects [N, H, W]; an object without a mask is empty there."""
    masks = np.zeros((len(objects), *size), np.bool_)  # [N, H, W]
    for mask, rle in zip(masks, objects.rle, strict=True):
        if rle is not None:
            mask[:] = decode(rle, size)
    return masks


def paste(
    masks: NDArray[np.float32], boxes: NDArray[np.float32], size: Size, threshold: float = 0.5
) -> list[str]:
    """Return, as counts, where soft masks [N, M, M] stretched over xyxy boxes [N, 4] reach the threshold.

    Each pixel takes the bilinear value at its centre, cells beyond the mask's edge being 0 (Mask R-CNN, section 3.1).
    """
    pasted = []
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(np.float64), strict=True):
        rows, columns = (
            _tent(low, high, n, len(mask))
            for low, high, n in ((y0, y1, size[0]), (x0, x1, size[1]))
        )
        inside = [np.flatnonzero(weights.any(1)) for weights in (rows, columns)]
        whole = np.zeros(size, np.bool_)
        whole[np.ix_(*inside)] = rows[inside[0]] @ mask @ columns[inside[1]].T >= threshold
        pasted.extend(encode(whole[None]))
    return pasted


def _tent(low: float, high: float, pixels: int, cells: int) -> NDArray[np.float64]:
    """Bilinear weights [pixels, cells] of cells that divide [low, high] at the centres of pixels."""
    at = (np.arange(pixels) + 0.5 - low) / max(
        high - low, 1e-6
    ) * cells - 0.5  # in cells, from the first one's centre
    weights: NDArray[np.float64] = np.clip(1 - np.abs(at[:, None] - np.arange(cells)), 0, None)
    return weights


def area(rle: str) -> int:
    """Return the number of pixels of a mask."""
    return int(runs(rle)[1::2].sum())


def tight_boxes(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the smallest xyxy box [N, 4] around each mask [N, H, W], far edge exclusive; zeros for an empty mask."""
    assert masks.ndim == 3
    boxes = np.zeros((len(masks), 4), np.float32)  # [N, 4] xyxy, pixels
    for box, mask in zip(boxes, masks, strict=True):
        xs, ys = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        if len(xs):
            box[:] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
    return boxes


def tight_box(rle: str, size: Size) -> NDArray[np.float32]:
    """Return `tight_boxes` of one encoded mask [4], straight from its runs; raises ValueError as `decode` does."""
    lengths = check(rle, size)
    ends = np.cumsum(lengths)[1::2]
    starts = ends - lengths[1::2]
    starts, ends = starts[starts < ends], ends[starts < ends]
    if not len(starts):
        return np.zeros(4, np.float32)
    H = size[0]
    first, last = starts // H, (ends - 1) // H  # column of the first and last pixel of each run
    within = first == last
    top = np.where(within, starts % H, 0).min()
    bottom = np.where(within, (ends - 1) % H + 1, H).max()
    return np.array([first.min(), top, last.max() + 1, bottom], np.float32)


def check_polygons(polygons: Any) -> list[NDArray[np.float64]]:
    """Return polygons as arrays [x0, y0, x1, y1, ...]; ValueError unless each has three finite points or more."""
    if not isinstance(polygons, Sequence) or isinstance(polygons, str) or not polygons:
        raise ValueError("a polygon mask must be a list of polygons")
    checked = []
    for polygon in polygons:
        if (
            not isinstance(polygon, (list, tuple, np.ndarray))
            or len(polygon) < 6
            or len(polygon) % 2
        ):
            raise ValueError("a polygon needs an even number of coordinates, six or more")
        points = np.array(
            polygon, dtype=object if any(isinstance(v, (list, dict)) for v in polygon) else None
        )
        if points.dtype.kind not in "iuf" or not np.isfinite(points).all():
            raise ValueError("a polygon has a coordinate that is no finite number")
        checked.append(points.astype(np.float64))
    return checked


def from_polygons(polygons: Sequence[Any], size: Size) -> str:
    """Rasterise polygons of x, y pixels into one mask, as COCO does; raises ValueError for malformed ones."""
    from pycocotools import mask as coco_mask

    H, W = size
    # The rasteriser walks every pixel of an edge: far outside the image that costs memory and changes nothing.
    low, high = np.array([-W, -H], np.float64), np.array([2 * W, 2 * H], np.float64)
    near = [np.clip(p.reshape(-1, 2), low, high).ravel().tolist() for p in check_polygons(polygons)]
    merged = coco_mask.merge(coco_mask.frPyObjects(near, H, W))
    return str(merged["counts"].decode("ascii"))


def from_uncompressed(counts: Sequence[int], size: Size) -> str:
    """Compress a list of run lengths; raises ValueError when they are not whole numbers that fill the image."""
    from pycocotools import mask as coco_mask

    if not all(
        isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 0 for n in counts
    ):
        raise ValueError("the counts must be whole numbers, none negative")
    if sum(counts) != size[0] * size[1]:
        raise ValueError(f"the counts cover {sum(counts)} pixels, not {size[0]}x{size[1]}")
    packed = coco_mask.frPyObjects({"size": list(size), "counts": [int(n) for n in counts]}, *size)
    return str(packed["counts"].decode("ascii"))


def panoptic_png(ids: NDArray[np.integer[Any]]) -> bytes:
    """Return a segment id map [H, W] (0 = nothing, below 2**24) as PNG with id = R + 256 G + 65536 B."""
    import cv2

    assert ids.ndim == 2
    assert not ((ids < 0) | (ids >= 1 << 24)).any(), "a panoptic PNG holds 24 bits per pixel"
    blue_first = np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=-1).astype(
        np.uint8
    )  # [H, W, 3] BGR
    done, data = cv2.imencode(".png", blue_first)
    assert done
    return bytes(data.tobytes())
