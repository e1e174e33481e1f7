"""Layouts drawn by hand, planned besides those that a planner draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from synthaug.pipeline.core.boxes import mirror_boxes
from synthaug.pipeline.core.panoptic_maps import segment_ids, table_ids
from synthaug.pipeline.core.scene import Scene, ids_in_image
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.planning.planner import Planner, is_mirrored


class WithDrawn:
    """A planner whose last scenes are drawn ones, each as often as it is given."""

    def __init__(
        self, planner: Planner, drawn: Sequence[Scene], seed: int, name: str, flip: float
    ) -> None:
        """Take planned scenes without seeds and ids.

        `flip` is the probability by which the photos of plans of edits are mirrored; 0 for others.
        """
        self._planner = planner
        self._drawn = drawn
        self._seed = seed
        self._name = name
        self._flip = flip
        self.count = planner.count + len(drawn)
        self.categories = planner.categories
        self.num_sources = planner.num_sources
        self.limit = planner.limit
        self.natural = planner.natural
        self.target = planner.target
        self.need = planner.need
        self.short = planner.short
        self.weights = planner.weights

    @property
    def refused(self) -> int:
        """Return the places that the planner has refused so far."""
        return self._planner.refused

    def scene(self, index: int) -> Scene:
        """Return planned scene `index`; those drawn by hand come last."""
        if index < self._planner.count:
            return self._planner.scene(index)
        drawn = self._drawn[index - self._planner.count]
        assert drawn.provenance is not None
        seed = seed_for(self._seed, "image", index)
        objects = drawn.objects
        if drawn.panoptic is not None:
            ids = table_ids(index, segment_ids(objects))
        else:
            ids = ids_in_image(index, len(objects))
        if is_mirrored(seed, self._flip):
            boxes = mirror_boxes(objects.boxes, drawn.width)
            objects = replace(objects, boxes=boxes, layout_boxes=boxes)
        return replace(
            drawn,
            image_id=f"{self._name}-{index:08d}",
            objects=replace(objects, id=ids),
            provenance=replace(drawn.provenance, seed=seed),
        )
