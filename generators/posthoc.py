"""Layouts to images by two trained generators.

LostGAN's masks, painted by SPADE or the panoptic-aware generator.

Sun & Wu (LostGAN-V2, section 2.2.3 and Table 6, "GauGAN + our inferred masks"): the masks that a
trained LostGAN infers are the map that a generator of the other kind, trained with true maps, is
given in testing. Nothing is trained here. How masks become a map is not told in the paper; the
pipeline's rule is the one by which all synthetic objects get theirs
(pipeline/synthesis/masks_from_levels.py), for which it samples the two parts one after the other.

Legend: B images, O object slots, H W pixels of the map.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators import checkpoint, load_system
from synthaug.generators.base import (
    Layouts,
    LayoutSampler,
    Maps,
    MapSampler,
    SamplerOptions,
    Samples,
)

CONDITION = "layout"
LEARNS = False
ADDS_ONLY = False
TWO_STAGE = True
FILES = {"layouts": "", "maps": ""}
CONDITIONS = {"layouts": "layout", "maps": "map"}  # key: condition of the generator it names


@dataclass(frozen=True)
class Config:
    """Two checkpoints of generators with the same classes."""

    layouts: str = ""  # of a generator conditioned on layouts (lostgan); its masks are used
    maps: str = ""  # of a generator conditioned on maps (spade, panoptic); its images are used
    # both headers as JSON text, as in every checkpoint so far; filled in, so that a checkpoint
    # needs neither file
    parts: str = ""

    def __post_init__(self) -> None:
        if self.parts:
            return
        parts = {"layouts": self.layouts, "maps": self.maps}
        for name, path in parts.items():
            if not path:
                raise ValueError(
                    f"{name}: names no checkpoint; give the generator.safetensors of a run"
                )


def read_headers(config: Config) -> dict[str, dict[str, Any]]:
    """Return system, config and classes of both generators.

    ValueError when they cannot work together.
    """
    if config.parts:
        return dict(json.loads(config.parts))
    headers = {
        "layouts": _read_header("layouts", config.layouts),
        "maps": _read_header("maps", config.maps),
    }
    if headers["layouts"]["classes"] != headers["maps"]["classes"]:
        raise ValueError(
            f"maps: {config.maps} was trained on other classes than {config.layouts}; train both "
            "on the same data set"
        )
    return headers


def _read_header(name: str, path: str) -> dict[str, Any]:
    """Return what is kept of a checkpoint's header.

    ValueError when its system has another condition than needed.
    """
    try:
        header = checkpoint.read_header(Path(path))
    except ValueError as err:
        raise ValueError(f"{name}: {err}") from err
    system = header["system"]
    condition = CONDITIONS[name]
    if load_system(system).CONDITION != condition:
        raise ValueError(
            f"{name}: {path} holds a {system} generator, which is not conditioned on a "
            f"{condition}; give another file"
        )
    return {key: header[key] for key in ("system", "config", "classes")}


class Posthoc(nn.Module):
    """Both networks.

    `config` is such that a checkpoint of this one needs no other file.
    """

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        headers = read_headers(config)
        parts = json.dumps(headers, sort_keys=True)
        self.config = replace(config, parts=parts)
        self.classes = list(headers["maps"]["classes"])
        if len(self.classes) != num_classes:
            raise ValueError(
                f"layouts: {config.layouts} knows {len(self.classes)} classes, the data has "
                f"{num_classes}"
            )
        self.systems = {name: load_system(header["system"]) for name, header in headers.items()}
        self.parts = nn.ModuleDict()
        for name, header in headers.items():
            system = self.systems[name]
            part_config = checkpoint.read_config(system, header)
            self.parts[name] = system.build(part_config, num_classes)
        self.dont_care = bool(headers["maps"]["config"]["dont_care"])
        if not config.parts:
            self._copy_weights("layouts", config.layouts)
            self._copy_weights("maps", config.maps)

    def _copy_weights(self, name: str, path: str) -> None:
        try:
            _, network, _ = checkpoint.load(Path(path))
        except ValueError as err:
            raise ValueError(f"{name}: {err}") from err
        self.parts[name].load_state_dict(network.state_dict())


@dataclass(frozen=True)
class PosthocSampler:
    """Samplers of both generators."""

    layouts: LayoutSampler  # its masks are used
    maps: MapSampler  # its images are used
    dont_care: bool  # whether the second one knows pixels of no class

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        return self.maps.size

    def sample(self, conditions: Layouts, seeds: Sequence[int]) -> Samples:
        """Return one image per layout and the disjoint masks it was made of, 0 or 1.

        The rule is the plainest: a pixel is of the object whose soft mask is highest there
        (LostGAN-V2, component iii).
        """
        inferred = self.layouts.sample(conditions, seeds)
        assert inferred.masks is not None
        soft = torch.from_numpy(inferred.masks)
        soft = F.interpolate(soft, self.size, mode="bilinear", align_corners=False)
        num_classes = self.maps.num_classes
        maps, masks = maps_of_masks(soft, conditions.labels, num_classes, self.dont_care)
        painted = self.maps.sample(maps, seeds)
        return Samples(painted.images, masks.numpy())


def maps_of_masks(
    soft: Tensor, labels: Tensor, num_classes: int, dont_care: bool
) -> tuple[Maps, Tensor]:
    """Return maps [B, H, W] and disjoint masks [B, O, H, W] of layouts.

    Of soft masks [B, O, H, W] and labels [B, O].

    A pixel without any mask is of no class, or, where the maps must not have such, of class 0.
    """
    height, owner = soft.max(1)  # [B, H, W]
    free = height <= 0
    rows = owner.flatten(1)  # [B, H W]
    classes = labels.gather(1, rows).view_as(owner) - 1
    classes[free] = num_classes if dont_care else 0
    instances = owner + 1
    instances[free] = 0
    numbers = torch.arange(soft.shape[1])
    slots = numbers[None, :, None, None]
    owned = owner[:, None] == slots
    masks = owned & ~free[:, None]
    return Maps(classes, instances, num_classes), masks.float()


def build(config: Config, num_classes: int) -> Posthoc:
    """Return both networks with the weights of their files.

    ValueError when they do not fit.
    """
    return Posthoc(config, num_classes)


def sampler(network: nn.Module, options: SamplerOptions) -> PosthocSampler:
    """Return the sampler of both generators, each with the same options."""
    assert isinstance(network, Posthoc)
    systems = network.systems
    parts = network.parts
    layouts = systems["layouts"].sampler(parts["layouts"], options)
    maps = systems["maps"].sampler(parts["maps"], options)
    of_layouts = cast(LayoutSampler, layouts)
    of_maps = cast(MapSampler, maps)
    return PosthocSampler(of_layouts, of_maps, network.dont_care)
