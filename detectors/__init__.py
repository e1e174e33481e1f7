"""Detectors: images in, boxes out. One line per back-end; a module is imported when it is chosen.

A back-end module has a frozen dataclass `Config`, `build(config, num_classes, *, seed, device) -> Detector` and
`load(path, *, device) -> Detector`. One that needs a library of its own can be imported without it, so that jobs can be
checked, and says with `check_installed()` (ValueError) whether it can be used.
"""

from __future__ import annotations

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


def backend(name: str) -> ModuleType:
    """Import and return a back-end's module; raises ValueError when the name is not in DETECTORS."""
    if name not in DETECTORS:
        raise ValueError(f"detector: '{name}' is unknown; choose {', '.join(DETECTORS)}")
    return importlib.import_module(DETECTORS[name])


def check_installed(name: str) -> None:
    """Raise ValueError, one line that says what to do, when a back-end's library is not there."""
    check = getattr(backend(name), "check_installed", None)
    if check:
        check()


def build(
    name: str, settings: Mapping[str, Any], num_classes: int, *, seed: int = 0, device: str = "cpu"
) -> Detector:
    """Make an untrained detector for classes 0..num_classes-1; raises ValueError for an unknown or bad setting."""
    module = backend(name)
    try:
        config = module.Config(**settings)
    except TypeError as err:
        raise ValueError(f"detector {name}: {err}; see its Config for the settings") from err
    detector: Detector = module.build(config, num_classes, seed=seed, device=device)
    return detector


def load(path: Path, *, device: str = "cpu") -> Detector:
    """Read a detector that any back-end saved; raises ValueError, one line that names the file."""
    from synthaug.detectors.weights import read_header

    name = read_header(path)["backend"]
    if name not in DETECTORS:
        raise ValueError(
            f"{path}: was written by detector '{name}', unknown here; known: {', '.join(DETECTORS)}"
        )
    detector: Detector = backend(name).load(path, device=device)
    return detector
