"""Job keys that have changed their name.

The old one is accepted for one version, with a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.config.build import FaultError
from synthaug.pipeline.core.json_values import Json

RENAMED = {  # old key -> new key, in the same section
    "verify.judge": "verify.detector",
    "score.judge": "score.detector",
    "detector.bf16": "detector.precision",
    "detector.colour_jitter": "detector.color_jitter",
    "self_train.strong.colour": "self_train.strong.color",
    "self_train.strong.grey": "self_train.strong.gray",
    "generator.normalisation": "generator.normalization",
    "score.detector_features.neighbours": "score.detector_features.neighbors",
    "score.prdc.neighbours": "score.prdc.neighbors",
}

VALUES: dict[str, dict[Any, Any]] = {  # old key -> its values that have another name now
    "detector.bf16": {True: "bfloat16", False: "float32"},
}


@dataclass(frozen=True)
class Source:
    """A file or an override that writes keys; what has a higher level wins."""

    name: str
    level: int


def source_of(key: str, sources: dict[str, Source]) -> Source | None:
    """Return the source that wrote a key last, or the nearest section around it."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        source = sources.get(".".join(parts[:length]))
        if source is not None:
            return source
    return None


def rename_old_keys(raw: Json, sources: dict[str, Source], warn: Callable[[str], None]) -> None:
    """Put the values of old keys under the new ones, in place.

    The source that wins decides where they differ; one that gives both names raises FaultError.
    """
    for old, new in RENAMED.items():
        section, _, old_name = old.rpartition(".")
        new_name = new.rpartition(".")[2]
        keys = _section(raw, section)
        if old_name not in keys:
            continue
        value = keys.pop(old_name)
        names = VALUES.get(old, {})
        if isinstance(value, (bool, str, int)):
            value = names.get(value, value)
        source = source_of(old, sources)
        assert source is not None, f"{old} is written nowhere"
        warn(
            f"{source.name}: {old} is now called {new}; "
            "the old name is accepted in this version only"
        )
        other = source_of(new, sources)
        if new_name in keys and other is not None:
            if other.level == source.level:
                raise FaultError(old, f"is the old name of {new}, which is given too; remove it")
            if other.level > source.level:
                continue
        keys[new_name] = value
        sources[new] = source


def _section(raw: Json, key: str) -> Json:
    """Return a section, or nothing where it is not written as one."""
    section = raw
    for name in key.split("."):
        content = section.get(name)
        if not isinstance(content, dict):
            return {}
        section = content
    return section
