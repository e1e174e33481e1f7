"""Reconfiguring layout and style by hand: change one code, keep all others.

Sun & Wu 2021, sections 2.1 and 3.2.1.

A style is written as a recipe, a weighted sum of the draws of seeds, so that a scene can be stored
as text and made again. The z_obj of object number k under seed s is that of slot k of the sample
with seed s (LostGanSampler.draw): the scene `Studio.scene(layout, seed)` is rendered to the sample
of that layout and seed.

Legend: B images, O object slots, R image side, S side of a mask stack, Z width of a latent code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthaug.generators import checkpoint
from synthaug.generators.base import Layouts, SamplerOptions
from synthaug.generators.lostgan.network import LostGanGenerator
from synthaug.generators.lostgan.sampler import LostGanSampler
from synthaug.generators.lostgan.styles import Box, Codebook, Style, checked_box, recipe, style_of

BATCH = 16  # images painted at once


@dataclass(frozen=True)
class ControlledObject:
    """One object of a layout.

    Its number is its identity and stays when others come and go.
    """

    number: int
    label: str
    box: Box
    style: Style
    z: Tensor = field(compare=False, repr=False)  # z_obj [Z]

    def changes(self, before: ControlledObject) -> list[str]:
        """Name the differences to the same object in another scene."""
        changes = []
        if self.label != before.label:
            changes.append(f"class {self.number}")
        if self.box != before.box:
            changes.append(f"box {self.number}")
        if self.style != before.style:
            changes.append(f"z_obj {self.number}")
        return changes

    def record(self) -> dict[str, Any]:
        """Return the object as plain JSON values."""
        return {
            "number": self.number,
            "class": self.label,
            "box": list(self.box),
            "style": _style_record(self.style),
        }


def _style_record(style: Style) -> list[list[float]]:
    return [list(part) for part in style]


@dataclass(frozen=True)
class Controlled:
    """A layout with all its latent codes.

    Every method returns a new scene in which all other codes are the same tensors.

    Objects are named by their number: their position in `Studio.scene`, counted on for those that
    are added. Scenes with equal recipes are equal. Every method raises ValueError, in one line, for
    an edit that is impossible.
    """

    seed: int
    objects: tuple[ControlledObject, ...]
    style: Style  # of the image
    background: Style  # of the whole-image object, where the generator has one
    born: int  # the number the next added object gets
    z_image: Tensor = field(compare=False, repr=False)  # [Z]
    z_background: Tensor | None = field(compare=False, repr=False)  # [Z]
    codebook: Codebook = field(repr=False)

    def __getitem__(self, number: int) -> ControlledObject:
        """Return the object with this number."""
        for thing in self.objects:
            if thing.number == number:
                return thing
        numbers = [str(thing.number) for thing in self.objects]
        known = ", ".join(numbers) or "none"
        raise ValueError(f"there is no object {number}; the scene has {known}")

    def move(self, number: int, box: Sequence[float]) -> Controlled:
        """Give an object another box; all codes stay."""
        moved = replace(self[number], box=checked_box(box))
        return self._with(moved)

    def relabel(self, number: int, label: str) -> Controlled:
        """Give an object another class; all codes stay."""
        self.codebook.label(label)
        return self._with(replace(self[number], label=label))

    def add(self, label: str, box: Sequence[float], seed: int | None = None) -> Controlled:
        """Add an object, its style drawn by the scene's seed or by another.

        Its number is the next that was never used.
        """
        self.codebook.label(label)
        if seed is None:
            seed = self.seed
        style = style_of(seed)
        z = self.codebook.object(style, self.born)
        new = ControlledObject(self.born, label, checked_box(box), style, z)
        objects = (*self.objects, new)
        return replace(self, objects=objects, born=self.born + 1)

    def remove(self, number: int) -> Controlled:
        """Take an object away; the others keep their numbers."""
        removed = self[number]
        kept = [thing for thing in self.objects if thing is not removed]
        return replace(self, objects=tuple(kept))

    def restyle(self, number: int, seed: int) -> Controlled:
        """Draw another z_obj for one object."""
        return self._with_style(number, style_of(seed))

    def restyle_image(self, seed: int) -> Controlled:
        """Draw another z_img; every z_obj stays."""
        style = style_of(seed)
        z_image = self.codebook.image(style)
        return replace(self, style=style, z_image=z_image)

    def restyle_background(self, seed: int) -> Controlled:
        """Draw another z_obj for the whole-image object.

        A scene whose generator has none stays as it is.
        """
        style = style_of(seed)
        if not self.codebook.config.background:
            return self
        z_background = self.codebook.background(style)
        return replace(self, background=style, z_background=z_background)

    def interpolate(self, number: int, seed: int, t: float) -> Controlled:
        """Take one object's z_obj the share t of the way to the code that `seed` draws.

        Linearly, as in Fig. 12.

        t = 0 changes nothing, t = 1 is `restyle`. In between a code is shorter than a drawn one:
        that is the paper's choice.
        """
        if not 0 <= t <= 1:
            raise ValueError(f"t is {t}; interpolate from 0 to 1")
        weights = {}
        for old, weight in self[number].style:
            weights[old] = weight * (1 - t)
        for other, _ in style_of(seed):
            weights[other] = weights.get(other, 0.0) + t
        style = [(key, weight) for key, weight in weights.items() if weight]
        return self._with_style(number, tuple(style))

    def changes(self, base: Controlled) -> list[str]:
        """Name the differences to another scene of the same layout.

        Such as `z_img`, `z_obj 2`, `box 0`, `added 5`.
        """
        changes = []
        if self.style != base.style:
            changes.append("z_img")
        if self.background != base.background:
            changes.append("z_background")
        before = {thing.number: thing for thing in base.objects}
        after = {thing.number: thing for thing in self.objects}
        for number in sorted(before.keys() | after.keys()):
            if number not in before:
                changes.append(f"added {number}")
            elif number not in after:
                changes.append(f"removed {number}")
            else:
                changes += after[number].changes(before[number])
        return changes

    def record(self) -> dict[str, Any]:
        """Return the scene as plain JSON values, for `Studio.restore`."""
        return {
            "seed": self.seed,
            "image": _style_record(self.style),
            "background": _style_record(self.background),
            "born": self.born,
            "objects": [thing.record() for thing in self.objects],
        }

    def _with_style(self, number: int, style: Style) -> Controlled:
        z = self.codebook.object(style, number)
        restyled = replace(self[number], style=style, z=z)
        return self._with(restyled)

    def _with(self, changed: ControlledObject) -> Controlled:
        """Return the scene with an object in the place of the one that has its number."""
        objects = []
        for thing in self.objects:
            if thing.number == changed.number:
                thing = changed
            objects.append(thing)
        return replace(self, objects=tuple(objects))


@dataclass(frozen=True)
class Rendered:
    """Pictures of some scenes.

    Slot o of the masks is the o-th object of a scene, slots beyond its objects are empty.
    """

    images: NDArray[np.uint8]  # [B, R, R, 3] RGB
    masks: NDArray[np.float32]  # [B, O, R, R] the last stage's
    stages: tuple[
        NDArray[np.float32], ...
    ]  # each [B, O, S, S]; the first is the initial mask M^S (Fig. 13)


class Studio:
    """A trained generator for making and changing scenes by hand."""

    def __init__(self, sampler: LostGanSampler, classes: Sequence[str]) -> None:
        self._sampler = sampler
        self.codebook = Codebook(tuple(classes), sampler.config, sampler.truncation)

    @staticmethod
    def open(
        path: str | Path, device: torch.device | str = "cpu", truncation: float = 2.0
    ) -> Studio:
        """Open a checkpoint.

        ValueError when it is none, or of a system that has no styles.

        Codes are truncated at 2 as in production by default; 0 leaves them as drawn.
        """
        header = checkpoint.read_header(Path(path))
        if header["system"] != "lostgan":
            raise ValueError(
                f"{path}: '{header['system']}' has no layout and style codes to control; use a "
                "lostgan"
            )
        _, network, _ = checkpoint.load(Path(path))
        assert isinstance(network, LostGanGenerator)
        options = SamplerOptions(device, truncation)
        return Studio(LostGanSampler(network, options), header["classes"])

    @property
    def resolution(self) -> int:
        """Side of the images, pixels."""
        return self._sampler.config.resolution

    @property
    def stages(self) -> int:
        """Number of mask stacks of a rendering."""
        return self._sampler.num_stages

    def scene(self, objects: Iterable[tuple[str, Sequence[float]]], seed: int) -> Controlled:
        """Return the scene of a layout, pairs of class name and xyxy box in [0, 1].

        `seed` draws all its codes.
        """
        style = _style_record(style_of(seed))
        records = []
        for number, (name, box) in enumerate(objects):
            summary = {"number": number, "class": name, "box": box, "style": style}
            records.append(summary)
        return self.restore(
            {
                "seed": seed,
                "image": style,
                "background": style,
                "born": len(records),
                "objects": records,
            }
        )

    def restore(self, record: Mapping[str, Any]) -> Controlled:
        """Return the scene that `Controlled.record` described."""
        style = recipe(record["image"])
        background = recipe(record["background"])
        objects = [self._object(entry) for entry in record["objects"]]
        return Controlled(
            seed=record["seed"],
            objects=tuple(objects),
            style=style,
            background=background,
            born=record["born"],
            z_image=self.codebook.image(style),
            z_background=self.codebook.background(background),
            codebook=self.codebook,
        )

    def _object(self, entry: Mapping[str, Any]) -> ControlledObject:
        """Return the object that `ControlledObject.record` described."""
        number = int(entry["number"])
        label = entry["class"]
        style = recipe(entry["style"])
        try:
            self.codebook.label(label)
            box = checked_box(entry["box"])
        except ValueError as err:
            raise ValueError(f"object {number} ({label}): {err}") from err
        code = self.codebook.object(style, number)
        return ControlledObject(number, label, box, style, code)

    def render(self, scenes: Sequence[Controlled]) -> Rendered:
        """Sample images of scenes of this studio.

        Each depends on its own scene only, to the last grey level.
        """
        if not scenes:
            raise ValueError("there is nothing to render; give at least one scene")
        layouts, z_image, z_objects = self._batch(scenes)
        images = []
        masks = []
        stages: list[list[NDArray[np.float32]]] = [[] for _ in range(self.stages)]
        for start in range(0, len(scenes), BATCH):
            part = slice(start, start + BATCH)
            labels = layouts.labels[part]
            boxes = layouts.boxes[part]
            some = Layouts(labels, boxes, layouts.scores[part])
            codes = z_objects[part]
            pixels, stacks = self._sampler.generate(some, z_image[part], codes)
            images.append(pixels)
            masks.append(self._sampler.at_full_size(stacks[-1]))
            for stage, stack in zip(stages, stacks, strict=True):
                stage.append(stack.float().cpu().numpy())
        joined = tuple(np.concatenate(stage) for stage in stages)
        return Rendered(np.concatenate(images), np.concatenate(masks), joined)

    def _batch(self, scenes: Sequence[Controlled]) -> tuple[Layouts, Tensor, Tensor]:
        """Return layouts, z_img [B, Z] and z_obj [B, O, Z].

        They have one more slot where the generator has a background.
        """
        labels = []
        boxes = []
        scores = []
        for scene in scenes:
            rows = [self.codebook.label(thing.label) for thing in scene.objects]
            labels.append(np.array(rows, np.int64))
            corners = [thing.box for thing in scene.objects]
            boxes.append(np.array(corners, np.float32).reshape(-1, 4))
            scores.append(np.ones(len(rows), np.float32))
        layouts = Layouts.collate(labels, boxes, scores)
        config = self.codebook.config
        slots = layouts.labels.shape[1] + int(config.background)
        # codes of padding stay 0; it paints nothing
        z_objects = torch.zeros(len(scenes), slots, config.z_object)
        for codes, scene in zip(z_objects, scenes, strict=True):
            for slot, thing in enumerate(scene.objects):
                codes[slot] = thing.z
            if scene.z_background is not None:
                codes[-1] = scene.z_background
        of_images = [scene.z_image for scene in scenes]
        return layouts, torch.stack(of_images), z_objects
