"""Detectors: images in, boxes out. One line per back-end, imported when chosen.

A back-end module has a frozen dataclass `Config` with at least CONFIG_KEYS, `build(config,
num_classes, *, seed, device) -> Detector`, `load(path, *, device) -> Detector` and
`check_installed()`, which raises ValueError unless the back-end's library is there. It can be
imported without that library, so that jobs can be checked.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthaug.detectors.base import Detector

DETECTORS = {
    "torchvision": "synthaug.detectors.torchvision_rcnn",
    "detectron2": "synthaug.detectors.detectron2_rcnn",
}
OBLIGATORY = ("Config", "build", "load", "check_installed")
CONFIG_KEYS = ("backbone", "flip", "masks", "weights")  # that the pipeline asks of a Config


def backend(name: str) -> ModuleType:
    """Import a back-end's module.

    Raises ValueError when it is unknown or lacks a part.
    """
    if name not in DETECTORS:
        raise ValueError(f"detector: '{name}' is unknown; choose {', '.join(DETECTORS)}")
    module = importlib.import_module(DETECTORS[name])
    missing = [part for part in OBLIGATORY if part not in vars(module)]
    if not missing:
        known = {field.name for field in dataclasses.fields(module.Config)}
        missing = [f"Config.{key}" for key in CONFIG_KEYS if key not in known]
    if missing:
        raise ValueError(
            f"{DETECTORS[name]} lacks {', '.join(missing)}; detectors/__init__.py says what it has"
        )
    return module


def check_installed(name: str) -> None:
    """Raise ValueError, one line with a remedy, when a back-end's library is absent."""
    backend(name).check_installed()


def build(
    name: str,
    settings: Mapping[str, Any],
    num_classes: int,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> Detector:
    """Return an untrained detector for classes 0..num_classes-1.

    Raises ValueError for a setting that is unknown or out of range.
    """
    module = backend(name)
    try:
        config = module.Config(**settings)
    except TypeError as err:
        raise ValueError(f"detector {name}: {err}; see its Config for the settings") from err
    built = module.build(config, num_classes, seed=seed, device=device)
    detector: Detector = built
    return detector


def load(path: Path, *, device: str = "cpu") -> Detector:
    """Read a detector of any back-end; raises ValueError naming the file."""
    from synthaug.detectors.weights import read_header

    name = read_header(path)["backend"]
    if name not in DETECTORS:
        known = ", ".join(DETECTORS)
        raise ValueError(f"{path}: was written by detector '{name}', unknown here; known: {known}")
    detector: Detector = backend(name).load(path, device=device)
    return detector
