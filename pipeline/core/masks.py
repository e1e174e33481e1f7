"""Masks and their encodings: COCO run lengths (by column) and panoptic PNG.

Counts that come from a file are parsed here in numpy and checked before anything is allocated from
them: the usual C decoder trusts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Floats, Floats32
from synthaug.pipeline.core.boxes import Boxes, Size
from synthaug.pipeline.core.scene import Objects

Masks = NDArray[np.bool_]  # [N, H, W], or one mask [H, W]
Runs = NDArray[np.int64]  # [R] run lengths of a mask, columns first, beginning with background

_LONGEST_WALK = 200_000  # pixels along the edge of a polygon that are rasterised as they are
_MAX_CHARS = 12  # per run; 5 bits each, so one run never overflows 64 bits
_DIGIT, _NEGATIVE, _MORE = 0x1F, 0x10, 0x20  # bits of a character of compressed counts


def encode(masks: Masks) -> list[str]:
    """Return the COCO compressed counts of each mask [N, H, W]."""
    return encode_with_boxes(masks)[0]


def encode_with_boxes(masks: Masks) -> tuple[list[str], Boxes]:
    """Return the compressed counts and the tight boxes [N, 4] of masks [N, H, W].

    The boxes come from the counts, which is quicker than `tight_boxes`.
    """
    from pycocotools import mask as coco_mask

    assert masks.ndim == 3
    if not len(masks):
        return [], np.zeros((0, 4), np.float32)
    bits = masks.transpose(1, 2, 0).view(np.uint8)
    columns_first = np.asfortranarray(bits)  # [H, W, N]
    rles = coco_mask.encode(columns_first)
    boxes = coco_mask.toBbox(rles).astype(np.float32)  # [N, 4] xywh, pixels
    boxes[:, 2:] += boxes[:, :2]
    counts = [rle["counts"].decode("ascii") for rle in rles]
    return counts, boxes


def fill_boxes(boxes: Boxes, size: Size) -> tuple[list[str], Boxes, Floats32]:
    """Return boxes [N, 4] grown to full pixels as masks.

    These are their compressed counts, tight boxes and areas [N]; each is at least a pixel wide.
    """
    height, width = size
    low = np.minimum(np.floor(boxes[:, :2]), (width - 1, height - 1))
    high = np.ceil(boxes[:, 2:])
    grown = np.concatenate([low, high], axis=1)
    limits = [width, height, width, height]
    corners = np.clip(grown, 0, limits).astype(int).tolist()
    filled = np.zeros((len(boxes), height, width), bool)
    for mask, (x1, y1, x2, y2) in zip(filled, corners, strict=True):
        bottom = max(y2, y1 + 1)
        right = max(x2, x1 + 1)
        mask[y1:bottom, x1:right] = True
    codes, tight = encode_with_boxes(filled)
    areas = filled.sum((1, 2)).astype(np.float32)
    return codes, tight, areas


def runs(rle: str) -> Runs:
    """Return the run lengths of compressed counts.

    Raises ValueError when the text is no such thing. Each run is written in groups of five bits,
    least significant first; 0x20 says that more follow, 0x10 in the last one that the number is
    negative. From the fourth run on it is the difference to the run two before.
    """
    characters = np.frombuffer(rle.encode(), np.uint8)
    codes = characters.astype(np.int64) - 48
    if not len(codes):
        raise ValueError("empty counts")
    ends_early = codes[-1] & _MORE
    if codes.min() < 0 or codes.max() > 63 or ends_early:
        raise ValueError("counts are not COCO compressed run lengths")
    last = np.flatnonzero((codes & _MORE) == 0)  # [R] position of the last character of each run
    following = last[:-1] + 1
    first = np.concatenate(([0], following))
    num_chars = last - first + 1
    if num_chars.max() > _MAX_CHARS:
        raise ValueError("a run in the counts is too long")
    start = np.repeat(first, num_chars)
    position = np.arange(len(codes)) - start
    digits = (codes & _DIGIT) << (5 * position)
    values = np.add.reduceat(digits, first)
    negative = (codes[last] & _NEGATIVE) > 0
    num_bits = 5 * num_chars[negative]
    values[negative] -= np.int64(1) << num_bits
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    if values.min() < 0:
        raise ValueError("the counts hold a negative run")
    return values


def check(rle: str, size: Size) -> Runs:
    """Return the run lengths.

    Raises ValueError unless they describe a mask of exactly this size.
    """
    lengths = runs(rle)
    height, width = size
    pixels = int(lengths.sum())
    if pixels != height * width:
        raise ValueError(f"the counts cover {pixels} pixels, not {height}x{width}")
    return lengths


def decode(rle: str, size: Size) -> Masks:
    """Return the mask [H, W].

    Raises ValueError when the counts are broken or of another size.
    """
    lengths = check(rle, size)
    height, width = size
    is_mask = np.arange(len(lengths)) % 2 == 1
    columns = np.repeat(is_mask, lengths).reshape(width, height)
    return np.ascontiguousarray(columns.T)


def decode_all(objects: Objects, size: Size) -> Masks:
    """Return the masks of N objects [N, H, W].

    An object without a mask is empty there.
    """
    masks = np.zeros((len(objects), *size), np.bool_)  # [N, H, W]
    for mask, rle in zip(masks, objects.rle, strict=True):
        if rle is not None:
            mask[:] = decode(rle, size)
    return masks


def paste(masks: Floats32, boxes: Boxes, size: Size, threshold: float = 0.5) -> list[str]:
    """Return the counts of soft masks [N, M, M] stretched over boxes [N, 4].

    The mask is where they reach the threshold. Each pixel takes the bilinear value at its centre,
    cells beyond the mask's edge being 0 (Mask R-CNN, section 3.1).
    """
    height, width = size
    pasted = []
    corners = boxes.astype(np.float64)
    for mask, box in zip(masks, corners, strict=True):
        x0, y0, x1, y1 = box.tolist()
        rows = _bilinear_weights(y0, y1, height, len(mask))  # [H, M]
        columns = _bilinear_weights(x0, x1, width, len(mask))  # [W, M]
        inside_y = np.flatnonzero(rows.any(1))
        inside_x = np.flatnonzero(columns.any(1))
        values = rows[inside_y] @ mask @ columns[inside_x].T
        image = np.zeros(size, np.bool_)
        image[np.ix_(inside_y, inside_x)] = values >= threshold
        pasted.extend(encode(image[None]))
    return pasted


def _bilinear_weights(low: float, high: float, num_pixels: int, num_cells: int) -> Floats:
    """Return the weights [pixels, cells] of cells that divide [low, high].

    They are taken at the centres of the pixels.
    """
    centers = np.arange(num_pixels) + 0.5
    extent = max(high - low, 1e-6)
    in_cells = (centers - low) / extent * num_cells - 0.5  # from the centre of the first cell
    cells = np.arange(num_cells)
    distance = np.abs(in_cells[:, None] - cells)
    weights: Floats = np.clip(1 - distance, 0, None)
    return weights


def area(rle: str) -> int:
    """Return the number of pixels of a mask."""
    return int(runs(rle)[1::2].sum())


def tight_boxes(masks: Masks) -> Boxes:
    """Return the smallest box [N, 4] around each mask [N, H, W].

    Zeros for an empty mask.
    """
    assert masks.ndim == 3
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        xs = np.flatnonzero(mask.any(axis=0))
        ys = np.flatnonzero(mask.any(axis=1))
        if len(xs):
            low = xs[0], ys[0]
            high = xs[-1] + 1, ys[-1] + 1
            box[:] = *low, *high
    return boxes


def tight_box(rle: str, size: Size) -> Boxes:
    """Return the smallest box [4] around one encoded mask, straight from its runs.

    Raises ValueError as `decode` does.
    """
    lengths = check(rle, size)
    height, _ = size
    end = np.cumsum(lengths)[1::2]
    start = end - lengths[1::2]
    filled = start < end
    if not filled.any():
        return np.zeros(4, np.float32)
    first = start[filled]  # pixels of each run, columns first
    last = end[filled] - 1
    first_column = first // height
    last_column = last // height
    in_one_column = first_column == last_column
    top = np.where(in_one_column, first % height, 0).min()
    bottom = np.where(in_one_column, last % height + 1, height).max()
    left = first_column.min()
    right = last_column.max() + 1
    return np.array([left, top, right, bottom], np.float32)


def check_polygons(polygons: Any) -> list[Floats]:
    """Return polygons as arrays [x0, y0, x1, y1, ...].

    Raises ValueError unless each has three finite points or more.
    """
    is_list = isinstance(polygons, Sequence) and not isinstance(polygons, str)
    if not is_list or not polygons:
        raise ValueError("a polygon mask must be a list of polygons")
    return [_check_polygon(polygon) for polygon in polygons]


def _check_polygon(polygon: Any) -> Floats:
    is_list = isinstance(polygon, (list, tuple, np.ndarray))
    if not is_list or len(polygon) < 6 or len(polygon) % 2:
        raise ValueError("a polygon needs an even number of coordinates, six or more")
    dtype = None
    if any(isinstance(value, (list, dict)) for value in polygon):
        dtype = object
    points = np.array(polygon, dtype=dtype)
    if points.dtype.kind not in "iuf" or not np.isfinite(points).all():
        raise ValueError("a polygon has a coordinate that is no finite number")
    return points.astype(np.float64)


def is_thin(polygon: Floats) -> bool:
    """Return whether a polygon [x0, y0, ...] may hold no pixel.

    Judged by its area and the length of its edge.
    """
    points = polygon.reshape(-1, 2)
    following = np.roll(points, -1, axis=0)
    x, y = points.T
    next_x, next_y = following.T
    cross = x * next_y - y * next_x
    area = abs(float(cross.sum())) / 2
    lengths = np.hypot(next_x - x, next_y - y)
    perimeter = float(lengths.sum())
    return area < max(4.0, perimeter)


def may_be_empty(polygon: Floats, size: Size) -> bool:
    """Return whether a polygon [x0, y0, ...] may hold no pixel of an image (H, W).

    So may one that is thin, that goes around again, or that reaches out of the image.
    """
    points = polygon.reshape(-1, 2)
    height, width = size
    reaches_out = points.min() < -1 or bool((points.max(0) > (width + 1, height + 1)).any())
    return is_thin(polygon) or goes_around_again(polygon) or reaches_out


def goes_around_again(polygon: Floats) -> bool:
    """Return whether a polygon [x0, y0, ...] passes two points again.

    What it goes around twice is not filled.
    """
    points = {tuple(point) for point in polygon.reshape(-1, 2).tolist()}
    return len(points) < len(polygon) // 2 - 1


def cut_to_image(points: Floats, size: Size) -> Floats:
    """Return the part of a polygon [K, 2] that lies in an image (H, W).

    It is [0, 2] for nothing. Its edges are cut where they leave the image; points are not moved.
    """
    height, width = size
    return _cut_between(points, ((0, 0, width), (1, 0, height)))


def from_polygons(polygons: Sequence[Any], size: Size) -> str:
    """Rasterise polygons of x, y pixels into one mask, as COCO does.

    Raises ValueError for malformed ones.
    """
    from pycocotools import mask as coco_mask

    height, width = size
    near = []
    for polygon in check_polygons(polygons):
        points = _near(polygon.reshape(-1, 2), size)
        if len(points) >= 3:
            near.append(points.ravel().tolist())
    if not near:
        return from_uncompressed([height * width], size)
    merged = coco_mask.merge(coco_mask.frPyObjects(near, height, width))
    return str(merged["counts"].decode("ascii"))


def _near(points: Floats, size: Size) -> Floats:
    """Return the part of a polygon [K, 2] that is near an image (H, W).

    Near is within one image size. The rasteriser walks every pixel of an edge, so what is far away
    would cost memory. Cutting the polygon, edge by edge (Sutherland and Hodgman, 1974), keeps what
    lies inside; moving its points would not.
    """
    edges = np.roll(points, -1, axis=0) - points
    if np.hypot(*edges.T).sum() <= _LONGEST_WALK:
        return points
    height, width = size
    return _cut_between(points, ((0, -width, 2 * width), (1, -height, 2 * height)))


def _cut_between(points: Floats, bounds: Sequence[tuple[int, float, float]]) -> Floats:
    """Return the part of a polygon [K, 2] between bounds.

    These are an axis and the least and most coordinate there.
    """
    for axis, low, high in bounds:
        if points.size and points[:, axis].min() < low:
            points = _cut(points, axis, low, 1)
        if points.size and points[:, axis].max() > high:
            points = _cut(points, axis, high, -1)
    return points


def _cut(points: Floats, axis: int, bound: float, sign: int) -> Floats:
    """Return the part of a polygon [K, 2] where sign * (coordinate - bound) >= 0."""
    following = np.roll(points, -1, axis=0)
    depth = sign * (points[:, axis] - bound)
    next_depth = np.roll(depth, -1)
    crosses = (depth >= 0) != (next_depth >= 0)
    span = depth - next_depth
    share = np.divide(depth, span, out=np.zeros_like(depth), where=crosses)
    meeting = points + share[:, None] * (following - points)
    meeting[:, axis] = bound
    kept = []
    for point, is_in, on_bound, is_crossing in zip(
        points, depth >= 0, meeting, crosses, strict=True
    ):
        if is_in:
            kept.append(point)
        if is_crossing:
            kept.append(on_bound)
    return np.array(kept).reshape(-1, 2)


def from_uncompressed(counts: Sequence[int], size: Size) -> str:
    """Compress a list of run lengths.

    Raises ValueError when they are not whole numbers that fill the image.
    """
    from pycocotools import mask as coco_mask

    height, width = size
    if not all(_is_count(number) for number in counts):
        raise ValueError("the counts must be whole numbers, none negative")
    if sum(counts) != height * width:
        raise ValueError(f"the counts cover {sum(counts)} pixels, not {height}x{width}")
    whole = [int(number) for number in counts]
    plain = {"size": [height, width], "counts": whole}
    packed = coco_mask.frPyObjects(plain, height, width)
    return str(packed["counts"].decode("ascii"))


def _is_count(number: Any) -> bool:
    if isinstance(number, bool):
        return False
    is_integer = isinstance(number, (int, np.integer))
    return is_integer and bool(number >= 0)


def panoptic_png(ids: NDArray[np.integer[Any]]) -> bytes:
    """Return a segment id map [H, W] as PNG with id = R + 256 G + 65536 B.

    0 is nothing; ids are below 2**24.
    """
    import cv2

    assert ids.ndim == 2
    is_outside = (ids < 0) | (ids >= 1 << 24)
    assert not is_outside.any(), "a panoptic PNG holds 24 bits per pixel"
    channels = [ids >> 16, ids >> 8 & 255, ids & 255]  # blue first, as OpenCV has it
    blue_first = np.stack(channels, axis=-1).astype(np.uint8)  # [H, W, 3]
    done, data = cv2.imencode(".png", blue_first)
    assert done
    return bytes(data.tobytes())
