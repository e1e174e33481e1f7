"""Generators: conditions in, images out.

One system of a paper per module, imported when a job chooses it.

A system's module states as plain data

- `CONDITION`: "layout" (classes, boxes and scores of objects, base.Layouts), "map" (a class and an
  instance per pixel, base.Maps), "edit" (a photo and the objects to be painted into it, base.Edit)
  or "paste" (a photo and pieces of others);
- `LEARNS`: whether it is trained here, and so has `training` and `Loop`;
- `ADDS_ONLY`: whether it can only add objects to real images, and so only from images that a person
  labelled;
- `TWO_STAGE`: whether one part of it infers masks and another makes the image of them
  (posthoc.PosthocSampler);
- `FILES`: the keys of its Config that name files it reads, each with what is left out where it
  names none, "" where it has to name one;

and has

- `Config`, a frozen dataclass. Its keys are keys of a job's section `generator`; ValueErrors begin
  with `key: `. CONFIG_KEYS says which attributes it must have for the pipeline; one that is also a
  base.ToldOfMasks is given true masks of objects, one that is a base.ToldOfExamples a real object
  to paint each new one after;
- `build(config, num_classes) -> nn.Module`, a fresh network, whose `config` is the one that its
  checkpoint is saved with;
- `sampler(network, options) -> Sampler`, for all systems with the same options
  (base.SamplerOptions); one that has no use for an option ignores it. An image depends on its own
  condition and its seed only, up to rounding;
- where it LEARNS, `Loop`, a frozen dataclass. Its keys are keys of a job's section
  `train_generator`;
- where it LEARNS, `training(config, loop, num_classes, steps, seed, device) -> Training`, whose
  networks are initialised by the seed. Systems with a discriminator make theirs with
  training/adversarial.py.

`load_system` imports a module and checks all this; tests/generators/test_generator_contract.py
tests it.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from synthaug import published

if TYPE_CHECKING:
    import torch
    from torch import nn

    from synthaug.generators.base import Sampler, SamplerOptions, Training

GENERATORS = {
    "lostgan": "synthaug.generators.lostgan",
    "boxes": "synthaug.generators.boxes",
    "sg2im": "synthaug.generators.sg2im",
    "layout2im": "synthaug.generators.layout2im",
    "grid2im": "synthaug.generators.grid2im",
    "spade": "synthaug.generators.spade",
    "panoptic": "synthaug.generators.panoptic",
    "pix2pix": "synthaug.generators.pix2pix",
    "pix2pix_maps": "synthaug.generators.pix2pix.maps",
    "crn": "synthaug.generators.crn",
    "sims": "synthaug.generators.sims",
    "copy_paste": "synthaug.generators.copy_paste",
    "posthoc": "synthaug.generators.posthoc",
    "fill": "synthaug.generators.fill",
    "diffusers": "synthaug.generators.inpainting",
}
CONDITIONS = ("layout", "map", "edit", "paste")
NAMES = ("CONDITION", "LEARNS", "ADDS_ONLY", "TWO_STAGE", "FILES", "Config", "build", "sampler")
LEARNING_NAMES = ("Loop", "training")  # where a system LEARNS
CONFIG_KEYS = {  # condition -> attributes that the pipeline asks of a Config
    "layout": (),
    "map": (
        "size",  # (H, W) of the images
        "dont_care",  # whether the network has a channel for pixels of no class
    ),
    "edit": (),
    "paste": (),
}
# condition -> attributes that the pipeline asks of a Config besides, where the system learns
TRAINING_KEYS = {
    "layout": ("size",),  # (H, W) of the images
    "map": ("crop",),  # whether it is trained on parts of enlarged images
    "edit": (),
    "paste": (),
}


class System(Protocol):
    """A module of GENERATORS."""

    CONDITION: Literal["layout", "map", "edit", "paste"]
    LEARNS: bool
    ADDS_ONLY: bool
    TWO_STAGE: bool
    FILES: Mapping[str, str]
    Config: Any
    Loop: Any  # only where it LEARNS

    def build(self, config: Any, num_classes: int) -> nn.Module:
        """Return a fresh network; ValueError when a file of the Config cannot be used."""
        ...

    def sampler(self, network: nn.Module, options: SamplerOptions) -> Sampler[Any]:
        """Return what makes images with a network."""
        ...

    def training(
        self,
        config: Any,
        loop: Any,
        num_classes: int,
        steps: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> Training[Any]:
        """Return the training of fresh networks; only where it LEARNS.

        `loop` is a `Loop`, a job's section train_generator.

        Raises ValueError when a file of the Config cannot be used.
        """
        ...


def load_system(name: str) -> System:
    """Import a system and check that its module keeps the contract.

    ValueError says in one line what it lacks.
    """
    if name not in GENERATORS:
        raise ValueError(f"generator '{name}' is unknown; choose {', '.join(GENERATORS)}")
    path = GENERATORS[name]
    module = importlib.import_module(path)
    names = vars(module)
    missing = [needed for needed in NAMES if needed not in names]
    if names.get("LEARNS"):
        missing += [needed for needed in LEARNING_NAMES if needed not in names]
    if missing:
        raise ValueError(_lacks(path, missing))
    condition = names["CONDITION"]
    if condition not in CONDITIONS:
        raise ValueError(
            f"{path}: CONDITION '{condition}' is not one of {', '.join(CONDITIONS)}; correct it"
        )
    files = names["FILES"]
    missing = _missing_keys(names["Config"], condition, names["LEARNS"], files)
    if missing:
        raise ValueError(_lacks(f"{path}.Config", missing))
    return cast(System, module)


def named_files(system: System, config: Any) -> dict[str, str]:
    """Return, by key, the files that a Config names.

    A published network that is named in a file's place is none.
    """
    files = {}
    for key in system.FILES:
        value = str(getattr(config, key))
        if value and value not in published.NAMES:
            files[key] = value
    return files


def _missing_keys(config: Any, condition: str, learns: bool, files: Collection[str]) -> list[str]:
    """Return the obligatory attributes that a Config lacks.

    It may have them as a field or as a property.
    """
    needed = [*CONFIG_KEYS[condition], *files]
    if learns:
        needed += TRAINING_KEYS[condition]
    known = set(dir(config))
    if dataclasses.is_dataclass(config):
        known |= {field.name for field in dataclasses.fields(config)}
    return [key for key in needed if key not in known]


def _lacks(subject: str, missing: list[str]) -> str:
    return f"{subject} lacks {', '.join(missing)}; generators/__init__.py says what it has to be"
