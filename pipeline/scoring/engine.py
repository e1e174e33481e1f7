"""Scores of any tables in three phases.

Prepare pairs the images, extract measures each, reduce computes the metrics.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, cut
from synthaug.pipeline.execution.training import device, load_state, train
from synthaug.pipeline.scores import load_score
from synthaug.pipeline.scores.base import (
    BATCH,
    TABLES,
    Arrays,
    AuxiliaryModel,
    ExtractFunction,
    Extractor,
    MetricInputs,
    RecordStore,
    Resources,
    TableImage,
)
from synthaug.pipeline.scores.pairing import Pairing, pair

if TYPE_CHECKING:
    from torch import nn

SHARD = 2 * BATCH  # images
PAIRS = "pairs.npy"
RECORDS = "extracted"  # folder of the records
Tables = Callable[[bool], Mapping[str, Dataset]]  # whether with pixels -> the tables, by name


@dataclass(frozen=True)
class ScoringJob:
    """The scores to measure and the tables to measure them on.

    Plain data that travels to workers.
    """

    settings: Mapping[str, Any]  # score -> its Config
    open_tables: Tables
    folder: str  # of records and trained networks
    generated: bool = False  # as in MetricInputs
    detector: tuple[str, str] | None = (
        None  # folder and name of the reference detector's checkpoint
    )
    detector_sha256: str = ""
    weights: str = ""  # folder of published networks
    seed: int = 0
    train_counts: tuple[int, ...] = ()
    card_entries: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def inputs(self, pixels: bool = True) -> Iterator[MetricInputs]:
        """Open the inputs of the scores.

        The detector's checkpoint is at hand as long as the block.
        """
        folder = Folder.at(self.folder)
        weights = Path(self.weights) if self.weights else None
        inputs = MetricInputs(
            self.open_tables(pixels),
            _read_pairing(folder),
            RecordStore(folder.sub(RECORDS)),
            _TrainedNetworks(folder),
            Resources(None, self.detector_sha256, weights, device()),
            self.generated,
            self.seed,
            self.train_counts,
            self.card_entries,
        )
        if self.detector is None:
            yield inputs
            return
        uri, name = self.detector
        with Folder.at(uri).local_copy(name) as path:
            yield replace(inputs, resources=replace(inputs.resources, detector=path))

    def without(self, names: Iterable[str]) -> ScoringJob:
        """Return the job without some scores."""
        left_out = set(names)
        settings = {name: config for name, config in self.settings.items() if name not in left_out}
        return replace(self, settings=settings)


def extractors_of(settings: Mapping[str, Any]) -> list[Extractor]:
    """Return the extractors of some scores, each once, in a fixed order."""
    by_key: dict[str, Extractor] = {}
    for name, config in settings.items():
        for extractor in load_score(name).extractors(config):
            by_key[extractor.key] = extractor
    return [by_key[key] for key in sorted(by_key)]


def prepare(job: ScoringJob) -> dict[str, str]:
    """Pair the images, and return by score the reasons why some cannot be had.

    No pixel is decoded.
    """
    tables = job.open_tables(False)
    pairing = pair(tables["real"], tables["synthetic"])
    _write_pairing(Folder.at(job.folder), pairing)
    reasons = {}
    with job.inputs(pixels=False) as inputs:
        for name, config in job.settings.items():
            reason = load_score(name).available(inputs, config)
            if reason:
                reasons[name] = reason
    return reasons


def measure(context: Context, job: ScoringJob) -> Json:
    """Return the metrics of a prepared job, as JSON.

    Work that was finished in its folder is not done again.
    """
    extract(context, job)
    return reduce(context, job)


def extract(context: Context, job: ScoringJob) -> None:
    """Measure every image with every extractor, and store the records.

    On the pool of workers.

    Networks that the extractors need are trained first.
    """
    extractors = extractors_of(job.settings)
    models: list[AuxiliaryModel] = []
    for extractor in extractors:
        models += extractor.auxiliary_models
    _train(context, job, models)

    extracted = {name for extractor in extractors for name in extractor.tables}
    tables = job.open_tables(False)
    shards: list[tuple[str, tuple[str, range]]] = []
    for table in TABLES:
        if table in tables and table in extracted:
            count = len(tables[table])
            for shard, indices in cut(count, SHARD, table):
                shards.append((shard, (table, indices)))
    records = Folder.at(job.folder).sub(RECORDS)
    context.shards(partial(_ShardExtractor, job), shards, records, "images looked at", gpu=True)


def reduce(context: Context, job: ScoringJob) -> Json:
    """Compute the metrics from the records, as JSON.

    Networks that learn from records are trained first.
    """
    models: list[AuxiliaryModel] = []
    with job.inputs(pixels=False) as inputs:
        for name, config in job.settings.items():
            models += load_score(name).auxiliary_models(inputs, config)
    _train(context, job, models)

    names = list(job.settings)
    reducer = partial(_Reducer, job)
    metrics = dict(context.executor.pool(reducer, names, len(names)))
    return {name: metrics[name] for name in names}


def draw(job: ScoringJob, name: str, metric: Mapping[str, Any]) -> list[str]:
    """Runs in a worker: write a score's pictures into the job's folder.

    Returns the names of the files.
    """
    with job.inputs() as inputs:
        pictures = load_score(name).pictures(inputs, metric)
    folder = Folder.at(job.folder)
    for file, data in pictures.items():
        folder.write_bytes(file, data)
    return list(pictures)


def _train(context: Context, job: ScoringJob, models: Iterable[AuxiliaryModel]) -> None:
    """Train networks on the pool of workers, each once."""
    by_name = {model.name: model for model in models}
    if not by_name:
        return
    in_order = [by_name[name] for name in sorted(by_name)]
    trainer = partial(_Trainer, job)
    for _ in context.executor.pool(trainer, in_order, len(in_order), gpu=True):
        pass


class _Trainer:
    """Runs in a worker: trains an auxiliary model."""

    def __init__(self, job: ScoringJob) -> None:
        self._job = job

    def __call__(self, model: AuxiliaryModel) -> str:
        import torch

        with self._job.inputs() as inputs:
            spec = model.training_spec(inputs)
            torch.set_num_threads(spec.threads)
            folder = Folder.at(self._job.folder).sub(model.name)
            save_every = max(1, spec.steps // 4)
            train(spec.training, spec.batches, spec.steps, save_every, folder)
        return model.name


class _TrainedNetworks:
    """The auxiliary models in a job's folder."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def load(self, model: AuxiliaryModel, inputs: MetricInputs) -> Mapping[str, nn.Module]:
        """Return the networks of a trained model."""
        spec = model.training_spec(inputs)
        own_folder = self._folder.sub(model.name)
        step = load_state(spec.training, own_folder)
        assert step == spec.steps, f"{model.name} is not trained"
        modules: Mapping[str, nn.Module] = spec.training.modules
        return modules


class _ShardExtractor:
    """Measures a range of a table with every extractor, and stores the records.

    Runs in a worker.
    """

    def __init__(self, job: ScoringJob) -> None:
        self._extractors: list[Extractor] = []
        self._functions: dict[str, ExtractFunction] = {}
        with job.inputs() as inputs:
            self._inputs = inputs
            for extractor in extractors_of(job.settings):
                if not set(extractor.tables).isdisjoint(inputs.tables):
                    self._extractors.append(extractor)
                    self._functions[extractor.key] = extractor.extract_function(inputs)

    def __call__(self, name: str, item: tuple[str, range]) -> Json:
        table, indices = item
        extractors = [extractor for extractor in self._extractors if table in extractor.tables]
        images: list[TableImage] = []
        arrays: dict[str, list[Arrays | None]] = {extractor.key: [] for extractor in extractors}
        for start in range(indices.start, indices.stop, BATCH):
            stop = min(start + BATCH, indices.stop)
            batch = [self._inputs.image(table, index) for index in range(start, stop)]
            for extractor in extractors:
                arrays[extractor.key] += self._extract(extractor, batch)
            images += [replace(image) for image in batch]  # copies, without the decoded pixels
        self._inputs.records.write(name, images, arrays)
        return {"rows": len(indices)}

    def _extract(self, extractor: Extractor, batch: list[TableImage]) -> list[Arrays | None]:
        """Return the arrays of each image of a batch.

        None of those that the extractor does not use.
        """
        used = []
        for image in batch:
            if self._inputs.uses(extractor, image.table, image.index):
                used.append(image)
        if not used:
            return [None] * len(batch)
        measured = self._functions[extractor.key](used)
        pairs = zip(used, measured, strict=True)
        by_index = {image.index: arrays for image, arrays in pairs}
        return [by_index.get(image.index) for image in batch]


class _Reducer:
    """Runs in a worker: reduces records to one score."""

    def __init__(self, job: ScoringJob) -> None:
        self._job = job

    def __call__(self, name: str) -> tuple[str, Json]:
        with self._job.inputs() as inputs:
            score = load_score(name).score
            metric = score(inputs, self._job.settings[name])
        return name, metric.to_json()


def _write_pairing(folder: Folder, pairing: Pairing) -> None:
    out = io.BytesIO()
    rows = np.stack([pairing.layout, pairing.sample])
    np.save(out, rows, allow_pickle=False)
    folder.write_bytes(PAIRS, out.getvalue())


def _read_pairing(folder: Folder) -> Pairing:
    stream = io.BytesIO(folder.read_bytes(PAIRS))
    layout, sample = np.load(stream, allow_pickle=False)
    return Pairing(layout, sample)
