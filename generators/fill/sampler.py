"""Regions of real images painted by a trained in-filler."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from synthaug.generators.base import Edit, EditedPhoto, SamplerOptions, Samples
from synthaug.generators.fill.config import Config
from synthaug.generators.fill.edits import Task, shows_example, task_of, with_fine_detail
from synthaug.generators.fill.flow import fill, noise_for
from synthaug.generators.fill.geometry import Image, put_back
from synthaug.generators.fill.network import FillNetwork
from synthaug.generators.fill.windows import Windows
from synthaug.generators.nn.precision import uses_bfloat16

SEED_STRIDE = 1_000_003  # between the seeds of the objects of one image
DRAFT_STEPS = 3  # of the flow, while somebody drags a box and looks
FULL_DIFFERENCE = 0.25  # of pixel values, -1 to 1, from which a pixel surely belongs to the object


class WindowSampler(ABC):
    """Paints the regions of edits in windows; later ones see earlier ones."""

    def __init__(self, config: Config, num_classes: int) -> None:
        """Take the sizes of the windows."""
        self._config = config
        self._num_classes = num_classes

    @abstractmethod
    def _fill(self, windows: Windows, seeds: Sequence[int], guided: bool) -> torch.Tensor:
        """Return the windows with their regions painted, [B, 3, S, S] in [-1, 1].

        `guided` asks for what is labelled with all means; equal seeds start from equal noise.
        """

    def sample(self, conditions: Sequence[Edit], seeds: Sequence[int]) -> Samples:
        """Return the edited images, all of one size, and the masks of what was painted."""
        edited = self.edit(conditions, seeds)
        counts = [len(photo.masks) for photo in edited]
        most = max(counts, default=0)
        size = conditions[0].photo.size
        masks = np.zeros((len(edited), most, *size), np.float32)
        for row, photo in enumerate(edited):
            masks[row, : len(photo.masks)] = photo.masks
        images = [photo.image for photo in edited]
        return Samples(np.stack(images), masks)

    def edit(self, edits: Sequence[Edit], seeds: Sequence[int]) -> list[EditedPhoto]:
        """Return photos of any sizes with their regions painted."""
        images = [edit.photo.image for edit in edits]
        masks = []
        for edit in edits:
            shape = (len(edit.paintings), *edit.photo.size)
            masks.append(np.zeros(shape, np.float32))
        counts = [len(edit.paintings) for edit in edits]
        rounds = max(counts, default=0)
        for number in range(rounds):
            rows = [row for row, count in enumerate(counts) if count > number]
            tasks = [self._task(edits[row], number, images[row]) for row in rows]
            own_seeds = [seeds[row] + number * SEED_STRIDE for row in rows]
            painted = self._paint(tasks, own_seeds)
            results = zip(rows, tasks, painted, strict=True)
            for row, task, (pixels, mask) in results:
                painting = edits[row].paintings[number]
                fine = with_fine_detail(pixels, task, painting)
                image = put_back(images[row], task.window, fine, task.kept)
                images[row] = image
                masks[row][number] = _mask_in_image(image, task, mask * task.kept)
        edited = zip(images, masks, strict=True)
        return [EditedPhoto(image, own) for image, own in edited]

    def _task(self, edit: Edit, number: int, image: Image) -> Task:
        return task_of(edit, number, image, self._config, self._num_classes)

    def _paint(
        self, tasks: Sequence[Task], seeds: Sequence[int]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return painted pixels [3, S, S] and a soft mask [S, S] of each task."""
        results: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        resolutions = [task.resolution for task in tasks]
        for resolution in sorted(set(resolutions)):
            rows = [row for row, own in enumerate(resolutions) if own == resolution]
            contents = [tasks[row].content for row in rows]
            windows = Windows.concatenate(contents)
            own_seeds = [seeds[row] for row in rows]
            shows_object = [tasks[row].shows == "object" for row in rows]
            is_object = torch.tensor(shows_object)
            painted = self._fill(windows, own_seeds, guided=True)
            # of background and seams the whole region is what was painted
            soft = torch.ones_like(windows.region[:, 0])
            if is_object.any():
                objects = windows.select(is_object)
                pairs = zip(own_seeds, shows_object, strict=True)
                their_seeds = [seed for seed, own in pairs if own]
                emptied = objects.relabelled(self._num_classes).without_examples()
                without = self._fill(emptied, their_seeds, guided=False)
                difference = painted[is_object] - without
                difference = difference.abs().mean(1)
                differs = (difference / FULL_DIFFERENCE).clamp(0, 1)
                # what shows the example may have the colors of the background behind it
                shown = shows_example(painted[is_object], objects.example)
                soft[is_object] = torch.maximum(differs, shown)
            masks = soft * windows.region[:, 0]
            for row, pixels, mask in zip(rows, painted, masks, strict=True):
                results[row] = (pixels, mask)
        return [results[row] for row in range(len(tasks))]


class FillSampler(WindowSampler):
    """Paints by a trained in-filler."""

    def __init__(self, network: FillNetwork, options: SamplerOptions) -> None:
        super().__init__(network.config, network.num_classes)
        self._device = torch.device(options.device)
        on_device = network.eval().to(self._device)
        self._network = on_device.to(memory_format=torch.channels_last)
        self._bf16 = uses_bfloat16(options.precision, self._device)

    def draft(self) -> FillSampler:
        """Return a sampler of the same network that takes few steps."""
        quick = copy.copy(self)
        steps = min(DRAFT_STEPS, self._config.flow_steps)
        quick._config = replace(self._config, flow_steps=steps)
        return quick

    def _fill(self, windows: Windows, seeds: Sequence[int], guided: bool) -> torch.Tensor:
        """Follow the flow; see the base class."""
        side = windows.pixels.shape[-1]
        noise = noise_for(seeds, side).to(self._device)
        guidance = self._config.guidance if guided else 1.0
        there = windows.to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            steps = self._config.flow_steps
            painted = fill(self._network, there, noise, steps, guidance)
        return painted.float().cpu()


def _mask_in_image(image: Image, task: Task, mask: torch.Tensor) -> NDArray[np.float32]:
    """Return a soft mask [S, S] of a window as one of the image [H, W]."""
    black = np.zeros_like(image)
    ones = mask.new_ones(3, *mask.shape)
    white = ones * (2 * mask - 1)
    whole = torch.ones_like(mask)
    shown = put_back(black, task.window, white, whole)
    return np.asarray(shown[..., 0] / 255, np.float32)
