"""Inputs of a score for tests: records are extracted when they are read, without a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.scores.base import (
    BATCH,
    AuxiliaryModel,
    Extractor,
    MetricInputs,
    Record,
    RecordStore,
    Resources,
)
from synthaug.pipeline.scores.pairing import pair


class NoNetworks:
    """Trained networks of a score that trains none."""

    def load(self, model: AuxiliaryModel, inputs: MetricInputs) -> Mapping[str, nn.Module]:
        raise AssertionError(f"{model.name} is not trained")


class FreshInputs(MetricInputs):
    """Inputs whose extractors run whenever their records are read."""

    def extracted(self, extractor: Extractor, table: str) -> Iterator[Record]:
        """Extract here and now."""
        yield from records_of(self, extractor, table)


def records_of(
    inputs: MetricInputs, extractor: Extractor, table: str, batch: int = BATCH
) -> Iterator[Record]:
    """Extract here and now, in batches of any size."""
    extract = extractor.extract_function(inputs)
    indices = range(len(inputs.tables[table]))
    used = [index for index in indices if inputs.uses(extractor, table, index)]
    for start in range(0, len(used), batch):
        images = [inputs.image(table, index) for index in used[start : start + batch]]
        measured = extract(images)
        assert len({tuple(arrays) for arrays in measured}) == 1, "a column per array"
        for image, arrays in zip(images, measured, strict=True):
            yield Record(table, image.index, image.layout, image.sample, arrays)


def score_inputs(tables: Mapping[str, Dataset], **fields: Any) -> FreshInputs:
    """Return inputs of some tables.

    Keyword arguments are fields of MetricInputs or of its Resources.
    """
    resources = {}
    for name in Resources.__dataclass_fields__:
        if name in fields:
            resources[name] = fields.pop(name)
    pairing = fields.pop("pairing", None) or pair(tables["real"], tables["synthetic"])
    records = fields.pop("records", RecordStore(Folder.at("/nowhere")))
    return FreshInputs(tables, pairing, records, NoNetworks(), Resources(**resources), **fields)
