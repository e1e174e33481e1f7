"""Layouts to images by two trained generators: LostGAN's masks, painted by SPADE or the panoptic-aware generator.

Sun & Wu (LostGAN-V2, section 2.2.3 and Table 6, "GauGAN + our inferred masks"): the masks that a trained LostGAN infers are
the map that a generator of the other kind, trained with true maps, is given in testing. Nothing is trained here. How masks
become a map is not told in the paper; ours is the rule by which all synthetic objects get theirs
(pipeline/synthesis/masks_from_levels.py).
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synthaug.generators import GENERATORS, checkpoint

GUIDE = "posthoc"  # what drives it: layouts, and then the maps made of its masks
KINDS = {"layouts": "boxes", "maps": "maps"}  # key: what drives the generator it names


@dataclass(frozen=True)
class Config:
    """Two checkpoints of generators with the same classes."""

    layouts: str = ""  # of a generator that is driven by boxes (lostgan); its masks are used
    maps: str = ""  # of a generator that is driven by maps (spade, panoptic); it paints
    parts: str = ""  # both headers as JSON, filled in: the checkpoint needs neither file

    def __post_init__(self) -> None:
        for name in KINDS:
            if not self.parts and not getattr(self, name):
                raise ValueError(
                    f"{name}: names no checkpoint; give the generator.safetensors of a run"
                )


def headers(config: Config) -> dict[str, dict[str, Any]]:
    """Read what both files say of themselves; ValueError when they cannot work together."""
    if config.parts:
        return dict(json.loads(config.parts))
    found = {}
    for name, kind in KINDS.items():
        path = Path(getattr(config, name))
        header = checkpoint.read_header(path)
        system = header["system"]
        if importlib.import_module(GENERATORS[system]).GUIDE != kind:
            raise ValueError(
                f"{name}: {path} holds a {system} generator, which is not driven by {kind}; give another file"
            )
        found[name] = {key: header[key] for key in ("system", "config", "classes")}
    if found["layouts"]["classes"] != found["maps"]["classes"]:
        raise ValueError(
            f"maps: {config.maps} was trained on other classes than {config.layouts}; train both on the same data set"
        )
    return found


class Posthoc(nn.Module):
    """Both networks; `config` is such that a checkpoint of this one needs no other file."""

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        told = headers(config)
        self.config = replace(config, parts=json.dumps(told, sort_keys=True))
        self.systems, self.classes = {}, list(told["maps"]["classes"])
        if len(self.classes) != num_classes:
            raise ValueError(
                f"layouts: {config.layouts} knows {len(self.classes)} classes, the data has {num_classes}"
            )
        self.parts = nn.ModuleDict()
        for name, header in told.items():
            system = self.systems[name] = importlib.import_module(GENERATORS[header["system"]])
            self.parts[name] = system.build(system.Config(**header["config"]), num_classes)
            if not config.parts:
                _, network, _ = checkpoint.load(Path(getattr(config, name)))
                self.parts[name].load_state_dict(network.state_dict())


@dataclass(frozen=True)
class Pair:
    """Both generators, ready to produce."""

    layouts: Any  # generators.base.Generator
    maps: Any  # spade_production.Spade or alike
    dont_care: bool  # whether the painting one knows pixels of no class

    @property
    def resolution(self) -> tuple[int, int]:
        """(H, W) of the images that are painted."""
        size: tuple[int, int] = self.maps.resolution
        return size


def build(config: Config, num_classes: int) -> Posthoc:
    """Return both networks with the weights of their files; ValueError when they do not fit."""
    return Posthoc(config, num_classes)


def producer(
    network: nn.Module,
    device: torch.device | str = "cpu",
    truncation: float = 2.0,
    precision: str = "float32",
    compiled: bool = False,
) -> Pair:
    """Wrap both for production; `truncation` and `compiled` are the layout generator's."""
    assert isinstance(network, Posthoc)
    layouts = network.systems["layouts"].producer(
        network.parts["layouts"], device, truncation, precision, compiled
    )
    maps = network.systems["maps"].producer(network.parts["maps"], device, precision)
    dont_care = bool(json.loads(network.config.parts)["maps"]["config"]["dont_care"])
    return Pair(layouts, maps, dont_care)
