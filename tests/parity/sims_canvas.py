"""Segments, retrieval and canvas of SIMS against the recorded outputs of the authors' scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.generators.sims.canvas import Bare, Piece, Rules, Speckles, compose
from synthaug.generators.sims.segments import Flags, Segment, large_segments, segments_of
from tests.parity.baselines import Fixture
from tests.parity.comparison import Row, compare

Array = NDArray[Any]
CLASSES = 19
VOID = 255
THIN = (5, 6, 7)  # pole, light, sign
BACK_TO_FRONT = (10, 2, 9, 3, 1, 0, 4, 8, 17, 18, 14, 13, 15, 16, 11, 5, 12, 7, 6)
VEHICLES = (13, 14, 15, 16, 17, 18)
RULES = Rules(ground=(0, 1), loose=(8,), background=(0, 1, 3, 4, 8, 9, 10))
LARGE = 1000  # pixels of 256 x 512
SLOTS = 10  # segments retrieved for one
EVERY = 8  # pixel of a canvas that is recorded
UNCOMPARED = (
    "transform_all_class_flag",
    "transform_class_remained",
    "transform_original_index_remained",
)


def canvas_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Segments of maps, those retrieved for a map, pairs, and the canvas in three variants."""
    scene = Scene(fixture)
    yield from scene.segment_rows()
    yield from scene.retrieval_rows(tolerance)
    yield from scene.pair_rows()
    yield from scene.piece_rows(tolerance)
    yield from scene.variant_rows(tolerance)
    for name in UNCOMPARED:
        if name in fixture.arrays:
            yield Row(fixture.name, name, detail="not compared: counts published empty segments")


def number_of(segment: Segment) -> int:
    """Return a segment's published number: of thin classes 1 is the background."""
    return segment.number + 1 + int(segment.category in THIN)


def doubled(values: Array) -> Array:
    """Repeat every row and column."""
    return values.repeat(2, 0).repeat(2, 1)


def shifted(values: Array, rows: int, columns: int) -> Array:
    """Shift [H, W, ...] down and to the right, filled with zeros."""
    moved = np.zeros_like(values)
    height, width = values.shape[:2]
    to = np.s_[max(rows, 0) : height + min(rows, 0), max(columns, 0) : width + min(columns, 0)]
    rows, columns = -rows, -columns
    of = np.s_[max(rows, 0) : height + min(rows, 0), max(columns, 0) : width + min(columns, 0)]
    moved[to] = values[of]
    return moved


def first_half(band: Flags) -> Flags:
    """Return the first half of a band's pixels, column by column."""
    places = np.flatnonzero(band.T.ravel())
    chosen = np.zeros(band.size, bool)
    chosen[places[: len(places) // 2]] = True
    return chosen.reshape(band.T.shape).T


class Scene:
    """The recorded map, the memory of segments and what was retrieved."""

    def __init__(self, fixture: Fixture) -> None:
        self.fixture = fixture
        arrays = fixture.arrays
        self.labels = arrays["test_map"].astype(np.int64)
        self.size = self.labels.shape
        self.maps = arrays["train_maps"].astype(np.int64)
        self.photos = [self._photo(number) for number in range(1, len(self.maps) + 1)]
        self.segments = segments_of(self.labels, CLASSES, THIN)
        self.bank = []
        for image, labels in enumerate(self.maps, start=1):
            for segment in segments_of(labels, CLASSES, THIN):
                self.bank.append((image, segment))
        share = LARGE / self.labels.size
        large = large_segments(self.segments, share, self.size)
        self.large = sorted(large, key=self._place)
        self.retrieved = {id(segment): self._slots(segment) for segment in self.large}
        self.found = [segment for segment in self.large if self.retrieved[id(segment)]]

    def _photo(self, number: int) -> Array:
        """Return photograph [2 H, 2 W, 3] of a training map."""
        height, width = self.labels.shape
        tag = f"{self.fixture.text('photo_tag')}{number}"
        holder = Fixture(self.fixture.folder, "", {"tag": np.array([tag])})
        image = holder.image("tag", 1, 2 * height, 2 * width)[0].numpy()
        values = (image.transpose(1, 2, 0) + 1) * np.float32(127.5)
        return np.floor(values).astype(np.uint8)

    def _place(self, segment: Segment) -> tuple[int, int]:
        """Return the place of a segment in the order of pasting."""
        return BACK_TO_FRONT.index(segment.category), segment.number

    def _slots(self, query: Segment) -> list[tuple[int, float, Segment]]:
        """Return image, IoU and segment of the slots filled for a segment.

        As published: the weakest slot is looked up once per image, so a later segment of an image
        takes the place of an earlier one where both are better than the slot was before.
        """
        there = query.in_frame(self.size)
        slots: list[tuple[int, float, Segment]] = []
        for image in range(1, len(self.maps) + 1):
            weakest = 0.0
            if len(slots) == SLOTS:
                weakest = min(slot[1] for slot in slots)
            kept = None
            for of_image, segment in self.bank:
                if of_image != image or segment.category != query.category:
                    continue
                mask = segment.in_frame(self.size)
                iou = float((mask & there).sum() / (mask | there).sum())
                if iou > weakest:
                    kept = (image, iou, segment)
            if kept is not None and len(slots) == SLOTS:
                worst = min(range(SLOTS), key=lambda place: slots[place][1])
                slots[worst] = kept
            elif kept is not None:
                slots.append(kept)
        return slots

    def _best(self, query: Segment) -> tuple[int, float, Segment]:
        """Return the best slot of a segment."""
        return max(self.retrieved[id(query)], key=lambda slot: slot[1])

    def _row(self, name: str, made: Any, allowed: float = 0.0) -> Row:
        """Compare an array by its name."""
        recorded = self.fixture.arrays[name]
        made = np.asarray(made)
        if made.size == recorded.size:
            made = made.reshape(recorded.shape)
        return compare(self.fixture.name, name, recorded, made, allowed)

    # ---- Segments and retrieval ----

    def segment_rows(self) -> Iterator[Row]:
        """Segments of the map and of the memory, but for the published empty ones."""
        arrays = self.fixture.arrays
        rows = []
        for segment in self.segments:
            top, left, bottom, right = segment.box
            corners = (top, bottom - 1, left, right - 1)
            whole = int(segment.whole.sum())
            rows.append((segment.category + 1, number_of(segment), segment.area, whole, *corners))
        recorded = arrays["test_segments"]
        recorded = recorded[recorded[:, 2] > 0]
        yield compare(self.fixture.name, "test_segments", recorded, np.array(rows), 0)
        rows = []
        for image, segment in self.bank:
            colors = self.photos[image - 1][::2, ::2][segment.in_frame(self.size)]
            counts = (segment.area, int(segment.whole.sum()), int(colors.sum(dtype=np.int64)))
            rows.append((image, segment.category + 1, number_of(segment), *counts))
        recorded = arrays["bank_segments"]
        recorded = recorded[recorded[:, 3] > 0]
        yield compare(self.fixture.name, "bank_segments", recorded, np.array(rows), 0)

    def retrieval_rows(self, tolerance: float) -> Iterator[Row]:
        """Segments of the memory that were retrieved, by class and number."""
        rows = []
        by_class = sorted(self.large, key=lambda segment: (segment.category, segment.number))
        for segment in by_class:
            for slot, (image, iou, _) in enumerate(self.retrieved[id(segment)], start=1):
                rows.append((segment.category + 1, number_of(segment), slot, image, iou))
        yield self._row("retrieved", np.array(rows), tolerance)

    def _pairs(self) -> list[tuple[Segment, Segment]]:
        """Return the pairs of large segments of two classes, in the script's order."""
        classes = list(dict.fromkeys(segment.category for segment in self.large))
        pairs = []
        for place, behind in enumerate(classes):
            for ahead in classes[place + 1 :]:
                for first in self.large:
                    for second in self.large:
                        if (first.category, second.category) == (behind, ahead):
                            pairs.append((first, second))
        return pairs

    def pair_rows(self) -> Iterator[Row]:
        """Pairs of segments and their colors for the order network."""
        palette = self.fixture.arrays["colours"].astype(np.int64)
        pairs = []
        sums = []
        for first, second in self._pairs():
            numbers = (number_of(first), number_of(second))
            pairs.append((*numbers, first.category + 1, second.category + 1))
            painted = np.zeros((*self.size, 3), np.int64)
            for segment in (first, second):
                painted[segment.in_frame(self.size)] = palette[segment.category]
            if not sums:
                yield self._row("order_image_first", painted[::4, ::4])
            sums.append(painted.sum((0, 1)))
        yield self._row("order_pairs", np.array(pairs))
        yield self._row("order_images_sum", np.array(sums).T)

    # ---- Canvas ----

    def piece_rows(self, tolerance: float) -> Iterator[Row]:
        """What enters the transform network."""
        best = [self._best(segment) for segment in self.found]
        categories = [segment.category + 1 for segment in self.found]
        yield self._row("transform_class", categories)
        yield self._row("transform_response_index", [image for image, _, _ in best])
        numbers = [number_of(segment) for segment in self.found]
        yield self._row("transform_original_index", numbers)
        yield self._row("transform_proposal_iou", [iou for _, iou, _ in best], tolerance)
        sums = []
        for image, _, segment in best:
            mask = doubled(segment.in_frame(self.size))
            sums.append(int(self.photos[image - 1][mask].sum(dtype=np.int64)))
        yield self._row("transform_proposal_sum", sums)
        yield self._row("transform_mask_sum", [4 * segment.area for segment in self.found])
        wholes = [4 * int(segment.whole.sum()) for _, _, segment in best]
        yield self._row("transform_pole_sum", wholes)

    def _pieces(self) -> list[Piece | Bare]:
        """Return all segments, back to front, with what was retrieved for the large ones."""
        pieces: list[Piece | Bare] = []
        for segment in sorted(self.segments, key=self._place):
            target = doubled(segment.in_frame(self.size))
            if not self.retrieved.get(id(segment)):
                pieces.append(Bare(segment.category, target))
                continue
            image, _, real = self._best(segment)
            mask = doubled(real.in_frame(self.size))
            whole = doubled(real.whole_in_frame(self.size))
            colors = self.photos[image - 1].astype(np.float32) / 255 * mask[..., None]
            number = self.found.index(segment)
            rows, columns = self.fixture.arrays["moves"][number].tolist()
            moved = (shifted(colors, rows, columns), shifted(mask, rows, columns))
            shadows = doubled(np.isin(self.maps[image - 1], VEHICLES))
            pieces.append(Piece(segment.category, target, whole, colors, mask, *moved, shadows))
        return pieces

    def _in_front(self) -> Callable[[int, int], bool]:
        """Return the recorded scores as an order of pieces."""
        winners = self.fixture.arrays["scores"].argmax(1).tolist()
        ordered = sorted(self.segments, key=self._place)
        said = {}
        for (first, second), winner in zip(self._pairs(), winners, strict=True):
            said[id(first), id(second)] = winner == first.category + 1

        def in_front(placed: int, new: int) -> bool:
            return said.get((id(ordered[placed]), id(ordered[new])), False)

        return in_front

    def variant_rows(self, tolerance: float) -> Iterator[Row]:
        """The canvas without bands, with bands, and with the order network's word."""
        labels = doubled(self.labels)
        pieces = self._pieces()
        variants: dict[str, tuple[Callable[[int, int], bool], Speckles | None]] = {
            "none": (lambda _placed, _new: False, None),
            "edge": (lambda _placed, _new: False, first_half),
            "intended": (self._in_front(), None),
        }
        for name, (in_front, speckles) in variants.items():
            canvas = compose(labels, VOID, pieces, in_front, RULES, speckles)
            colors = canvas.colors
            yield self._row(f"{name}/label", canvas.labels)
            yield self._row(f"{name}/covered", (colors.sum(2) > 0).sum())
            yield self._row(f"{name}/canvas", colors[::EVERY, ::EVERY], tolerance)
            sums = colors.sum((0, 1), dtype=np.float64)
            yield self._row(f"{name}/canvas_abs", sums, tolerance)
