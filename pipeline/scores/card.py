"""Metric cards: a number never travels without its protocol."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.scores.base import Extractor, MetricInputs

CARD = (  # keys that the card of every score has
    "protocol",
    "headline_key",  # of values and of the controls: the number that stands for the score
    "images",  # number of each table
    "selection",  # rule by which images are used
    "resize",  # filter, or "none"
    "file_format",  # of the images that were read
    "splits",  # of the statistic over parts of the sample, or "none"
    "seed",
    "network",  # name, or "none"
    "network_sha256",  # or "none"; of networks trained here: their training data and steps
    "versions",
    "warnings",  # sentences: where the sample is too small for the score
)


@dataclass(frozen=True)
class Metric:
    """One score: the headline, every other number, and the protocol that gave them.

    Numbers that do not exist (a class without truth, a mean over nothing) are None, never NaN: a
    number that is not finite becomes None, and NumPy values become plain Python ones, when the
    metric is built.
    """

    name: str
    value: float | None  # the headline
    # all named numbers, the headline among them
    values: Mapping[str, float | None] = field(default_factory=dict)
    # class name -> named numbers
    per_class: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    # protocol: counts, files, sha256, seeds
    card: Mapping[str, Any] = field(default_factory=dict)
    # the same numbers of other images: ceilings, floors, chance
    controls: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, _plain(getattr(self, f.name)))

    def to_json(self) -> Json:
        """Return a dict of JSON values only.

        `json.dumps(..., allow_nan=False)` accepts it.
        """
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(value: Any) -> Any:
    """Return `value` as JSON knows it.

    No NumPy, no tuples, no numbers that are not finite.
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    assert value is None or isinstance(value, (str, int, float)), (
        f"a card holds no {type(value).__name__}"
    )
    return value


def metric_of(
    inputs: MetricInputs,
    extractor: Extractor,
    name: str,
    headline: str,
    values: Mapping[str, float | None],
    controls: Mapping[str, Mapping[str, float | None]],
    **entries: Any,
) -> Metric:
    """Return the metric of a score with a full card.

    Its headline is one of its values.
    """
    card = full_card(inputs, extractor, headline_key=headline, **entries)
    return Metric(name=name, value=values[headline], values=values, card=card, controls=controls)


def full_card(inputs: MetricInputs, extractor: Extractor, **entries: Any) -> Json:
    """Return a card with every key of CARD and the entries of the caller of the score.

    `entries` add to what is the same for all scores, or replace it.
    """
    selection = "all images of each table, in its order"
    if extractor.limit:
        selection = f"the first {extractor.limit} layouts and their synthetic images"
    usual = {
        "images": _image_counts(inputs, extractor),
        "selection": selection,
        "resize": "none",
        "file_format": file_formats(inputs),
        "splits": "none",
        "seed": inputs.seed,
        "network": "none",
        "network_sha256": "none",
        "versions": versions("numpy"),
        "warnings": [],
    }
    card = {**usual, **entries, **inputs.card_entries}
    missing = [key for key in CARD if key not in card]
    assert not missing, f"the card has no {missing}"
    return card


def deviations(section: str, config: Any, published: Any, unstated: Collection[str]) -> list[str]:
    """Return a sentence per setting that is not the published one.

    In the order of the keys. Both are of one dataclass; `unstated` names the settings for which the
    publication gives no value.
    """
    sentences = []
    for f in fields(config):
        if f.name in unstated:
            continue
        ours = getattr(config, f.name)
        theirs = getattr(published, f.name)
        if is_dataclass(ours) and type(ours) is type(theirs):
            sentences += deviations(f"{section}.{f.name}", ours, theirs, ())
        elif ours != theirs:
            sentences.append(f"{section}.{f.name} {_text(ours)} instead of {_text(theirs)}")
    return sentences


def comparability(differences: Collection[str], publication: str) -> str:
    """Return the sentence of a card on how far a number compares with published ones."""
    if not differences:
        return f"the settings of {publication}"
    return f"not comparable with {publication}: {'; '.join(differences)}"


def _text(value: Any) -> str:
    """Return a setting in words of a card."""
    if isinstance(value, (tuple, list)):
        return ", ".join(str(entry) for entry in value) or "none"
    if value == "":
        return "none"
    return str(value)


def _image_counts(inputs: MetricInputs, extractor: Extractor) -> dict[str, int]:
    """Return the number of images of each table that an extractor measures."""
    counts = {}
    for name, table in inputs.tables.items():
        if name in extractor.tables:
            used = [inputs.uses(extractor, name, index) for index in range(len(table))]
            counts[name] = sum(used)
    return counts


def file_formats(inputs: MetricInputs) -> dict[str, str]:
    """Return the file format of each table's images, by the name of the first one."""
    formats = {}
    for name, table in inputs.tables.items():
        suffix = ""
        if len(table):
            suffix = Path(table[0].image.path or "").suffix.lstrip(".").lower()
        formats[name] = suffix or "unknown"
    return formats


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of the libraries that decide a number.

    As far as they are installed.
    """
    installed = {}
    for name in packages:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed
