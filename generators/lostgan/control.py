"""Reconfiguring layout and style by hand (Sun & Wu 2021, sections 2.1 and 3.2.1): change one code, keep all others.

A style is written as a recipe, a weighted sum of what seeds draw, so that a scene can be stored as text and made again.
The z_obj of object number k under seed s is what slot k of the image with seed s gets in production (LostGanSampler.draw):
`Studio.scene(layout, seed)` shows what mass production makes of that layout and seed.

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
    """One object of a layout; its number is its identity and stays when others come and go."""

    number: int
    label: str
    box: Box
    style: Style
    z: Tensor = field(compare=False, repr=False)  # z_obj [Z]


@dataclass(frozen=True)
class Controlled:
    """A layout with all its latent codes; every method returns a new scene in which all other codes are the same tensors.

    Objects are named by their number: the place they had in `Studio.scene`, counted on for those that are added. Scenes
    with equal recipes are equal. Every method raises ValueError, in one line, for what cannot be.
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
        known = ", ".join(str(thing.number) for thing in self.objects) or "none"
        raise ValueError(f"there is no object {number}; the scene has {known}")

    def move(self, number: int, box: Sequence[float]) -> Controlled:
        """Give an object another box; all codes stay."""
        return self._with(replace(self[number], box=checked_box(box)))

    def relabel(self, number: int, label: str) -> Controlled:
        """Give an object another class; all codes stay."""
        self.codebook.label(label)
        return self._with(replace(self[number], label=label))

    def add(self, label: str, box: Sequence[float], seed: int | None = None) -> Controlled:
        """Add an object, its style drawn by the scene's seed or by another; its number is the next that was never used."""
        self.codebook.label(label)
        style = style_of(self.seed if seed is None else seed)
        new = ControlledObject(
            self.born, label, checked_box(box), style, self.codebook.object(style, self.born)
        )
        return replace(self, objects=(*self.objects, new), born=self.born + 1)

    def remove(self, number: int) -> Controlled:
        """Take an object away; the others keep their numbers."""
        gone = self[number]
        return replace(self, objects=tuple(thing for thing in self.objects if thing is not gone))

    def restyle(self, number: int, seed: int) -> Controlled:
        """Draw another z_obj for one object."""
        return self._styled(number, style_of(seed))

    def restyle_image(self, seed: int) -> Controlled:
        """Draw another z_img; every z_obj stays."""
        style = style_of(seed)
        return replace(self, style=style, z_image=self.codebook.image(style))

    def restyle_background(self, seed: int) -> Controlled:
        """Draw another z_obj for the whole-image object; a scene whose generator has none stays as it is."""
        style = style_of(seed) if self.codebook.config.background else self.background
        return replace(self, background=style, z_background=self.codebook.background(style))

    def interpolate(self, number: int, seed: int, t: float) -> Controlled:
        """Take one object's z_obj the share t of the way to what `seed` draws, linearly as in Fig. 12.

        t = 0 changes nothing, t = 1 is `restyle`. In between a code is shorter than a drawn one: that is the paper's choice.
        """
        if not 0 <= t <= 1:
            raise ValueError(f"t is {t}; interpolate from 0 to 1")
        weights = {old: weight * (1 - t) for old, weight in self[number].style}
        for other, _ in style_of(seed):
            weights[other] = weights.get(other, 0.0) + t
        return self._styled(
            number, tuple((key, weight) for key, weight in weights.items() if weight)
        )

    def changes(self, base: Controlled) -> list[str]:
        """Name what differs from another scene of the same layout: `z_img`, `z_obj 2`, `box 0`, `added 5` ..."""
        said = ["z_img"] * (self.style != base.style) + ["z_background"] * (
            self.background != base.background
        )
        before = {thing.number: thing for thing in base.objects}
        now = {thing.number: thing for thing in self.objects}
        for number in sorted(before.keys() | now.keys()):
            if number not in now or number not in before:
                said.append(f"{'added' if number in now else 'removed'} {number}")
                continue
            old, new = before[number], now[number]
            said += [f"class {number}"] * (old.label != new.label) + [f"box {number}"] * (
                old.box != new.box
            )
            said += [f"z_obj {number}"] * (old.style != new.style)
        return said

    def record(self) -> dict[str, Any]:
        """The scene as plain JSON values, for `Studio.restore`."""
        objects = [
            {
                "number": o.number,
                "class": o.label,
                "box": list(o.box),
                "style": [list(part) for part in o.style],
            }
            for o in self.objects
        ]
        image, background = (
            [list(part) for part in style] for style in (self.style, self.background)
        )
        return {
            "seed": self.seed,
            "image": image,
            "background": background,
            "born": self.born,
            "objects": objects,
        }

    def _styled(self, number: int, style: Style) -> Controlled:
        return self._with(replace(self[number], style=style, z=self.codebook.object(style, number)))

    def _with(self, changed: ControlledObject) -> Controlled:
        return replace(
            self, objects=tuple(changed if o.number == changed.number else o for o in self.objects)
        )


@dataclass(frozen=True)
class Rendered:
    """Pictures of some scenes; slot o of the masks is the o-th object of a scene, slots beyond its objects are empty."""

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
        """Open a checkpoint; ValueError when it is none, or of a system that has no styles.

        Codes are truncated at 2 as in production, unless told else; 0 leaves them as drawn.
        """
        header = checkpoint.read_header(Path(path))
        if header["system"] != "lostgan":
            raise ValueError(
                f"{path}: '{header['system']}' has no layout and style codes to control; use a lostgan"
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
        """How many mask stacks a rendering has."""
        return self._sampler.num_stages

    def scene(self, objects: Iterable[tuple[str, Sequence[float]]], seed: int) -> Controlled:
        """Return the scene of a layout, pairs of class name and xyxy box in [0, 1]; `seed` draws all its codes."""
        placed = [(name, box) for name, box in objects]
        parts = [list(part) for part in style_of(seed)]
        listed = [
            {"number": i, "class": n, "box": b, "style": parts} for i, (n, b) in enumerate(placed)
        ]
        born = len(listed)
        return self.restore(
            {"seed": seed, "image": parts, "background": parts, "born": born, "objects": listed}
        )

    def restore(self, record: Mapping[str, Any]) -> Controlled:
        """Return the scene that `Controlled.record` described."""
        book = self.codebook
        image, background = (recipe(record[key]) for key in ("image", "background"))
        objects = []
        for entry in record["objects"]:
            number, style = int(entry["number"]), recipe(entry["style"])
            try:
                book.label(entry["class"])
                box = checked_box(entry["box"])
            except ValueError as err:
                raise ValueError(f"object {number} ({entry['class']}): {err}") from err
            objects.append(
                ControlledObject(number, entry["class"], box, style, book.object(style, number))
            )
        z_image, z_background = book.image(image), book.background(background)
        return Controlled(
            record["seed"],
            tuple(objects),
            image,
            background,
            record["born"],
            z_image,
            z_background,
            book,
        )

    def render(self, scenes: Sequence[Controlled]) -> Rendered:
        """Paint scenes of this studio; a picture depends on its own scene only, to the last grey level."""
        if not scenes:
            raise ValueError("there is nothing to render; give at least one scene")
        layouts, z_image, z_objects = self._batch(scenes)
        images, masks, stages = [], [], []
        for start in range(0, len(scenes), BATCH):
            part = slice(start, start + BATCH)
            some = Layouts(layouts.labels[part], layouts.boxes[part], layouts.scores[part])
            painted, stacks = self._sampler.generate(some, z_image[part], z_objects[part])
            images.append(painted)
            masks.append(self._sampler.at_full_size(stacks[-1]))
            stages.append([stack.float().cpu().numpy() for stack in stacks])
        joined = tuple(np.concatenate(stage) for stage in zip(*stages, strict=True))
        return Rendered(np.concatenate(images), np.concatenate(masks), joined)

    def _batch(self, scenes: Sequence[Controlled]) -> tuple[Layouts, Tensor, Tensor]:
        """Layouts, z_img [B, Z] and z_obj [B, O, Z], with one more slot where the generator has a background."""
        labels = [
            np.array([self.codebook.label(o.label) for o in s.objects], np.int64) for s in scenes
        ]
        boxes = [np.array([o.box for o in s.objects], np.float32).reshape(-1, 4) for s in scenes]
        layouts = Layouts.collate(labels, boxes, [np.ones(len(row), np.float32) for row in labels])
        slots = layouts.labels.shape[1] + int(self.codebook.config.background)
        z_objects = torch.zeros(
            len(scenes), slots, self.codebook.config.z_object
        )  # padding paints nothing
        for row, scene in zip(z_objects, scenes, strict=True):
            for slot, thing in enumerate(scene.objects):
                row[slot] = thing.z
            if scene.z_background is not None:
                row[-1] = scene.z_background
        return layouts, torch.stack([scene.z_image for scene in scenes]), z_objects
