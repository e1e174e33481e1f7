"""The labels of a COCO file, packed: about a hundred bytes each and their masks.

As Python objects those of a hundred thousand images would take a gigabyte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Ints
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.scene import SOURCES, Objects
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.coco.labels import Label, Segmentation, encode_segmentation
from synthaug.pipeline.formats.validation import is_int

_CHUNK = 4096  # labels that are packed at a time
_NO_ID = 0  # of a label whose id is no whole number from 1 on
_NO_MASK, _COUNTS, _POLYGONS = range(3)
_ROW = np.dtype(
    [
        ("image", "u4"),  # place among the images
        ("own_id", "i8"),
        ("file_id", "i8"),
        ("category", "i4"),
        ("box", "f4", 4),
        ("layout_box", "f4", 4),
        ("area", "f4"),
        ("iscrowd", "?"),
        ("isthing", "?"),
        ("score", "f4"),
        ("source", "u1"),
        ("verdict", "i4"),
        ("verdict_score", "f4"),
        ("verdict_iou", "f4"),
        ("mask_kind", "u1"),
        ("mask_start", "u8"),
        ("mask_end", "u8"),
    ]
)
Rows = NDArray[Any]  # [N] of _ROW


class LabelTable:
    """Labels of images, in the order of the file."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Take the keys of the images, in order."""
        self._places = {key: place for place, key in enumerate(keys)}
        self._waiting: list[tuple[Any, ...]] = []
        self._packed: list[Rows] = []
        self.masks = bytearray()
        self.verdicts: dict[str | None, int] = {None: 0}
        self.odd_ids: Counter[str] = Counter()  # that are no whole numbers from 1 on

    def __len__(self) -> int:
        return len(self._waiting) + sum(len(rows) for rows in self._packed)

    def add(self, key: str, label: Label) -> None:
        """Keep a label of the image `key`."""
        kind, data = _mask_bytes(label.segmentation)
        start = len(self.masks)
        self.masks += data
        file_id = _id_number(label.id)
        if file_id == _NO_ID and label.id is not None:
            self.odd_ids[f"{label.id!r:.100}"] += 1
        verdict = self.verdicts.setdefault(label.verdict, len(self.verdicts))
        row = (
            self._places[key],
            _id_number(label.object_id),
            file_id,
            label.category,
            label.box,
            label.layout_box,
            label.area,
            label.iscrowd,
            label.isthing,
            label.score,
            SOURCES.index(label.source),
            verdict,
            label.verdict_score,
            label.verdict_iou,
            kind,
            start,
            len(self.masks),
        )
        self._waiting.append(row)
        if len(self._waiting) >= _CHUNK:
            self._pack()

    def rows(self) -> Rows:
        """Return all rows [N] in the order of the file."""
        self._pack()
        if len(self._packed) != 1:
            self._packed = [np.concatenate([np.empty(0, _ROW), *self._packed])]
        return self._packed[0]

    def _pack(self) -> None:
        if self._waiting:
            self._packed.append(np.array(self._waiting, _ROW))
            self._waiting.clear()

    def num_objects(self) -> Ints:
        """Return the number of objects of each image [M], crowds apart."""
        rows = self.rows()
        return np.bincount(rows["image"][~rows["iscrowd"]], minlength=len(self._places))

    def of(self, keys: Iterable[str]) -> LabelTable:
        """Return the labels of some of the images alone."""
        chosen = LabelTable(keys)
        place_of = np.full(len(self._places), -1)
        for key, place in chosen._places.items():
            place_of[self._places[key]] = place
        rows = self.rows()
        places = place_of[rows["image"]]
        kept: Rows = rows[places >= 0].copy()
        kept["image"] = places[places >= 0]
        chosen._packed = [kept]
        chosen.masks = self.masks
        chosen.verdicts = self.verdicts
        chosen.odd_ids = self.odd_ids
        return chosen


class LabelsByImage:
    """The labels of a file by their image, each with a unique id >= 1."""

    def __init__(self, table: LabelTable, num_images: int, skipped: Skipped) -> None:
        """Sort the labels of a table; `skipped` counts those that get a new id."""
        rows = table.rows()
        self._ids = _ids(rows, table.odd_ids, skipped)
        self._rows = rows
        self._masks = table.masks
        self._verdicts = list(table.verdicts)
        self._order = np.argsort(rows["image"], kind="stable")
        self._starts = np.searchsorted(rows["image"][self._order], np.arange(num_images + 1))

    def objects(self, place: int, size: Size) -> Objects:
        """Return the objects of an image (H, W); masks given as polygons are filled."""
        chosen = self._order[self._starts[place] : self._starts[place + 1]]
        rows = self._rows[chosen]
        rle = [encode_segmentation(self._mask(row), size) for row in rows]
        return Objects.build(
            rows["category"],
            rows["box"],
            id=self._ids[chosen],
            rle=rle,
            area=rows["area"],
            iscrowd=rows["iscrowd"],
            isthing=rows["isthing"],
            score=rows["score"],
            source=[SOURCES[number] for number in rows["source"]],
            layout_boxes=rows["layout_box"],
            verdict=[self._verdicts[number] for number in rows["verdict"]],
            verdict_score=rows["verdict_score"],
            verdict_iou=rows["verdict_iou"],
        )

    def _mask(self, row: Any) -> Segmentation:
        if row["mask_kind"] == _NO_MASK:
            return None
        data = bytes(self._masks[row["mask_start"] : row["mask_end"]])
        if row["mask_kind"] == _COUNTS:
            return data.decode()
        (number,) = np.frombuffer(data, np.int64, 1)
        lengths = np.frombuffer(data, np.int64, number, offset=8)
        points = np.frombuffer(data, np.float64, offset=8 + 8 * number)
        return np.split(points, np.cumsum(lengths)[:-1])


def _mask_bytes(segmentation: Segmentation) -> tuple[int, bytes]:
    """Return the kind of a mask and its bytes."""
    if segmentation is None:
        return _NO_MASK, b""
    if isinstance(segmentation, str):
        return _COUNTS, segmentation.encode()
    lengths = [len(polygon) for polygon in segmentation]
    head = np.array([len(lengths), *lengths], np.int64)
    points = np.concatenate(segmentation).astype(np.float64)
    return _POLYGONS, head.tobytes() + points.tobytes()


def _id_number(value: Any) -> int:
    """Return an id that can be kept as it is, else _NO_ID."""
    if is_int(value) and 1 <= value < 1 << 63:
        return value
    return _NO_ID


def _ids(rows: Rows, odd_ids: Counter[str], skipped: Skipped) -> Ints:
    """Return a unique id >= 1 of every label: our own, the file's, or 1, 2, 3 ..."""
    for name in ("own_id", "file_id"):
        if _are_unique(rows[name]):
            ids: Ints = rows[name].copy()
            return ids
    skipped["renumbered ids"] += len(rows)
    values, counts = np.unique(rows["file_id"], return_counts=True)
    repeated = values[(counts > 1) & (values != _NO_ID)].tolist()
    repeated += [text for text, count in odd_ids.items() if count > 1]
    for key in repeated:
        skipped.names.setdefault("renumbered ids", []).append(f"id {key} is there twice")
    return np.arange(1, len(rows) + 1)


def _are_unique(ids: Ints) -> bool:
    has_all = bool((ids != _NO_ID).all())
    return has_all and len(np.unique(ids)) == len(ids)
