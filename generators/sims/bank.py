"""The memory of segments: a table of real images, maps and segments in them.

It is part of the network, so a checkpoint has it and a run's folder can be moved. A segment is
stored as a row: the image that it is of, its class, its number in the map, and its shape at a small
size. Its pixels are cut out of the image when they are needed.

Legend: I images, M segments, H W pixels, S bytes of a shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synthaug.generators.sims.canvas import Floats
from synthaug.generators.sims.config import Config
from synthaug.generators.sims.retrieval import Bytes, ShapeIndex, grid_of, shape_of
from synthaug.generators.sims.segments import Flags, Ints, Segment, segments_of

SMALLEST = 0.25  # of the area from which on segments of maps are given one: smaller are not kept
COLUMNS = ("image", "category", "number")  # of the table of segments


@dataclass(frozen=True)
class Real:
    """A real segment where it is in its image, or stretched to a box."""

    colors: Floats  # [H, W, 3] in [0, 1], 0 outside of it
    mask: Flags  # [H, W]
    whole: Flags  # [H, W] with its bridge
    shadows: Flags  # [H, W] what throws shadows in its image


class SegmentBank(nn.Module):
    """The table and the search in it. It stays in the memory of the CPU."""

    images: Tensor  # [I, H, W, 3] uint8
    labels: Tensor  # [I, H, W] int16
    segments: Tensor  # [M, 3] int32: COLUMNS
    shapes: Tensor  # [M, S] uint8
    behind: Tensor  # [C] float32: how often a class lies behind another one that it touches

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.grid = grid_of(config.aspect_ratio)
        self._index: ShapeIndex | None = None
        for name, value in self._tables(0, 0).items():
            self.register_buffer(name, value)

    def _tables(self, images: int, segments: int) -> dict[str, Tensor]:
        """Return empty tables for so many images and segments."""
        size = self.config.size
        side = self.grid[0] * self.grid[1] // 8
        with torch.device("cpu"):
            return {
                "images": torch.zeros(images, *size, 3, dtype=torch.uint8),
                "labels": torch.zeros(images, *size, dtype=torch.int16),
                "segments": torch.zeros(segments, len(COLUMNS), dtype=torch.int32),
                "shapes": torch.zeros(segments, side, dtype=torch.uint8),
                "behind": torch.zeros(self.num_classes),
            }

    def __len__(self) -> int:
        return len(self.segments)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SegmentBank:
        """Stay where and what it is: pixels are cut on the CPU."""
        return self

    # ---- Writing ----

    def fill(self, pictures: Iterable[tuple[Bytes, Ints]], behind: Floats) -> None:
        """Take in images [H, W, 3] with maps [H, W], in order, in place of all before."""
        config = self.config
        height, width = config.size
        least = SMALLEST * config.large * height * width
        images: list[Bytes] = []
        maps = []
        rows = []
        shapes = []
        for image, labels in pictures:
            assert image.shape == (height, width, 3)
            for segment in segments_of(labels, self.num_classes, config.thin):
                if segment.area > least:
                    rows.append((len(images), segment.category, segment.number))
                    shapes.append(self.shape(segment))
            images.append(image)
            maps.append(labels.astype(np.int16))
        tables = self._tables(len(images), len(rows))
        if images:
            tables["images"] = torch.from_numpy(np.stack(images))
            tables["labels"] = torch.from_numpy(np.stack(maps))
        if rows:
            tables["segments"] = torch.from_numpy(np.array(rows, np.int32))
            tables["shapes"] = torch.from_numpy(np.stack(shapes))
        tables["behind"] = torch.from_numpy(behind.astype(np.float32))
        for name, value in tables.items():
            self.register_buffer(name, value)
        self._index = None

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take the tables of a checkpoint, of whatever length, where they fit together."""
        tables = {}
        for name in self._tables(0, 0):
            value = state_dict.get(prefix + name)
            if value is None:
                missing_keys.append(prefix + name)
                return
            tables[name] = value
        for key in state_dict:
            if key.startswith(prefix) and key.removeprefix(prefix) not in tables:
                unexpected_keys.append(key)
        fault = self._fault(tables)
        if fault:
            error_msgs.append(f"the memory of segments: {fault}")
            return
        for name, value in tables.items():
            self.register_buffer(name, value.detach().cpu().clone())
        self._index = None

    def _fault(self, tables: dict[str, Tensor]) -> str:
        """Return what is wrong with tables of a file, "" where they fit together."""
        images, segments = len(tables["images"]), len(tables["segments"])
        for name, expected in self._tables(0, 0).items():
            value = tables[name]
            count = segments if name in ("segments", "shapes") else images
            shape = (count, *expected.shape[1:])
            if name == "behind":
                shape = tuple(expected.shape)
            if value.dtype != expected.dtype or tuple(value.shape) != shape:
                return f"'{name}' is {value.dtype} {list(value.shape)}, not {list(shape)}"
        if not segments:
            return ""
        image, category, number = tables["segments"].long().T
        known = (image >= 0) & (image < images) & (number >= 0)
        known &= (category >= 0) & (category < self.num_classes)
        if not bool(known.all()):
            return "'segments' names images or classes that are not there"
        return ""

    # ---- Search ----

    def shape(self, segment: Segment) -> Bytes:
        """Return what is compared of a segment."""
        mask = segment.mask
        if self.config.align == "image":
            mask = segment.in_frame(self.config.size)
        return shape_of(mask, self.grid)

    def nearest(self, segment: Segment, count: int = 1, allowed: Flags | None = None) -> list[int]:
        """Return the segments of the class with the nearest shapes, the nearest first.

        `allowed` [I]: of which images they may be.
        """
        if self._index is None:
            image, category, _ = self.segments.numpy().astype(np.int64).T
            self._index = ShapeIndex(self.shapes.numpy(), category, image)
        shape = self.shape(segment)
        numbers: list[int] = self._index.nearest(shape, segment.category, count, allowed).tolist()
        return numbers

    def real(self, number: int, place: Segment | None = None) -> Real | None:
        """Return a segment of the table, None where its map has no such segment.

        Where shapes are aligned by boxes it is stretched to that of `place`.
        """
        image, category, number_in_map = self.segments[number].tolist()
        labels = self.labels[image].numpy().astype(np.int64)
        of_class = segments_of(labels, self.num_classes, self.config.thin, only=category)
        if number_in_map >= len(of_class):
            return None
        segment = of_class[number_in_map]
        size = self.config.size
        mask = segment.in_frame(size)
        whole = segment.whole_in_frame(size)
        pixels = self.images[image].numpy().astype(np.float32) / 255
        shadows = np.isin(labels, self.config.casters)
        if place is not None and self.config.align == "box":
            mask, whole, shadows, pixels = (
                stretch(values, segment.box, place.box) for values in (mask, whole, shadows, pixels)
            )
        colors: Floats = pixels * mask[..., None]
        return Real(colors, mask, whole, shadows)


def stretch(
    values: NDArray[Any], box: tuple[int, int, int, int], to: tuple[int, int, int, int]
) -> NDArray[Any]:
    """Return [H, W, ...] with the content of a box stretched to another one, else 0."""
    top, left, bottom, right = box
    content = values[top:bottom, left:right]
    first_row, first_column, last_row, last_column = to
    size = (last_column - first_column, last_row - first_row)
    stretched = np.zeros_like(values)
    window = np.s_[first_row:last_row, first_column:last_column]
    if values.dtype == bool:
        flags = cv2.resize(content.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        stretched[window] = flags > 0
    else:
        stretched[window] = cv2.resize(content, size, interpolation=cv2.INTER_LINEAR)
    return stretched
