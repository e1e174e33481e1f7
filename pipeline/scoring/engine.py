"""Scores of any tables: looks at all images once, on the pool; then networks trained on what was seen; then the numbers."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, cut
from synthaug.pipeline.execution.training import device, load_state, train
from synthaug.pipeline.scores import SCORES
from synthaug.pipeline.scores.base import (
    BATCH,
    TABLES,
    Arrays,
    Look,
    Material,
    Observer,
    Pupil,
    View,
    lacking,
    pair,
)
from synthaug.pipeline.scoring import records as observations

SHARD = 2 * BATCH  # images
PAIRS = "pairs.npy"
RECORDS = "extracted"
Tables = Callable[[bool], Mapping[str, Dataset]]  # whether with pixels -> the tables, by name


@dataclass(frozen=True)
class Plan:
    """What is to be measured on what, as plain data that travels to workers."""

    settings: Mapping[str, Any]  # score -> its Config
    tables: Tables
    folder: str  # where records and trained networks go
    painted: bool = False
    judge: tuple[str, str] | None = None  # folder and name of a detector's checkpoint
    judge_sha256: str = ""
    weights: str = ""  # folder of published networks
    seed: int = 0
    train_counts: tuple[int, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def material(self, pixels: bool = True) -> Iterator[Material]:
        """Open what the scores may use; the judge's checkpoint is there as long as the block."""
        folder, tables = Folder.at(self.folder), self.tables(pixels)
        layout, sample = np.load(io.BytesIO(folder.read_bytes(PAIRS)), allow_pickle=False)

        def state(pupil: Pupil, lesson: Any) -> None:
            assert load_state(lesson.training, folder.sub(pupil.name)) == lesson.steps, (
                f"{pupil.name} is not trained"
            )

        made = partial(
            Material,
            tables,
            layout,
            sample,
            self.painted,
            judge_sha256=self.judge_sha256,
            weights=Path(self.weights) if self.weights else None,
            device=device(),
            seed=self.seed,
            train_counts=self.train_counts,
            about=self.about,
            records=lambda look, table: observations.read(folder.sub(RECORDS), look.key, table),
            state=state,
        )
        if self.judge is None:
            yield made()
            return
        with Folder.at(self.judge[0]).local_copy(self.judge[1]) as path:
            yield made(judge=path)


def module_of(name: str) -> Any:
    """Return the module of a score."""
    return importlib.import_module(SCORES[name])


def files_of(name: str, config: Any) -> tuple[str, ...]:
    """Return the names of the published networks that a score needs."""
    module = module_of(name)
    return tuple(module.files(config)) if hasattr(module, "files") else ()


def looks_of(settings: Mapping[str, Any]) -> list[Look]:
    """Return the looks of some scores, each once, in a fixed order."""
    found = {
        look.key: look
        for name, config in settings.items()
        for look in module_of(name).looks(config)
    }
    return [found[key] for key in sorted(found)]


def prepare(plan: Plan) -> dict[str, str]:
    """Pair the images and return, by score, why those that cannot be had cannot; no pixel is decoded."""
    tables = plan.tables(False)
    pairs = np.stack(pair(tables["real"], tables["synthetic"]))
    out = io.BytesIO()
    np.save(out, pairs, allow_pickle=False)
    Folder.at(plan.folder).write_bytes(PAIRS, out.getvalue())
    reasons = {}
    with plan.material(pixels=False) as material:
        for name, config in plan.settings.items():
            reason = module_of(name).available(material, config)
            reason = reason or lacking(material, (), files=files_of(name, config))
            if reason:
                reasons[name] = reason
    return reasons


def measure(context: Context, plan: Plan) -> dict[str, Any]:
    """Return the metrics of a prepared plan, as JSON; what was finished in its folder earlier is not done again."""
    looks, executor = looks_of(plan.settings), context.executor
    before = {pupil.name: pupil for look in looks for pupil in look.needs}
    _learn(context, plan, before)
    tables = {name: len(table) for name, table in plan.tables(False).items()}
    seen = {name for look in looks for name in look.tables}
    items = [
        (shard, (name, places))
        for name in TABLES
        if name in tables and name in seen
        for shard, places in cut(tables[name], SHARD, name)
    ]
    context.shards(
        partial(_Looker, plan), items, Folder.at(plan.folder).sub(RECORDS), "images looked at"
    )
    modules = {name: module_of(name) for name in plan.settings}
    with plan.material(pixels=False) as material:
        after = [
            m.pupils(material, plan.settings[name])
            for name, m in modules.items()
            if hasattr(m, "pupils")
        ]
    _learn(context, plan, {pupil.name: pupil for pupils in after for pupil in pupils})
    crew = max(1, min(len(plan.settings), executor.workers))
    found: dict[str, Any] = dict(executor.pool(partial(_Scorer, plan), list(plan.settings), crew))
    return {name: found[name] for name in plan.settings}


def _learn(context: Context, plan: Plan, pupils: Mapping[str, Pupil]) -> None:
    if pupils:
        crew = min(len(pupils), context.executor.workers)
        list(
            context.executor.pool(
                partial(_Teacher, plan), [pupils[name] for name in sorted(pupils)], crew
            )
        )


class _Looker:
    """Runs in a worker: lets every look see a range of a table, and keeps what they leave."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._folder = plan, Folder.at(plan.folder).sub(RECORDS)
        self._looks = looks_of(plan.settings)
        self._observers: dict[str, Observer] = {}
        with plan.material() as material:
            self._material = material
            for look in self._looks:
                if set(look.tables) & set(material.tables):
                    self._observers[look.key] = look.observer(material)

    def __call__(self, name: str, item: tuple[str, range]) -> dict[str, Any]:
        table, places = item
        views: list[View] = []
        found: dict[str, list[Arrays | None]] = {
            look.key: []
            for look in self._looks
            if table in look.tables and look.key in self._observers
        }
        for start in range(places.start, places.stop, BATCH):
            batch = [
                self._material.view(table, i) for i in range(start, min(start + BATCH, places.stop))
            ]
            for look in self._looks:
                if look.key in found:
                    found[look.key] += self._look(look, batch)
            views += [
                View(v.table, v.index, v.layout, v.sample, v.scene) for v in batch
            ]  # without their pixels
        observations.write(self._folder, name, views, found)
        return {"rows": len(places)}

    def _look(self, look: Look, batch: list[View]) -> list[Arrays | None]:
        shown = [view for view in batch if self._material.shows(look, view.table, view.index)]
        records = iter(self._observers[look.key](shown) if shown else [])
        chosen = {view.index for view in shown}
        return [next(records) if view.index in chosen else None for view in batch]


class _Teacher:
    """Runs in a worker: trains one network."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __call__(self, pupil: Pupil) -> str:
        import torch

        with self._plan.material() as material:
            lesson = pupil.lesson(material)
            torch.set_num_threads(lesson.threads)
            folder = Folder.at(self._plan.folder).sub(pupil.name)
            train(lesson.training, lesson.batches, lesson.steps, max(1, lesson.steps // 4), folder)
        return pupil.name


class _Scorer:
    """Runs in a worker: reduces records to one score."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __call__(self, name: str) -> tuple[str, dict[str, Any]]:
        with self._plan.material() as material:
            return name, module_of(name).score(material, self._plan.settings[name]).to_json()


def lacks(name: str, config: Any, folder: str) -> str | None:
    """Return why this machine cannot have a score, whatever the data; `folder` has the published networks, "" = none."""
    module = module_of(name)
    if not hasattr(module, "lacks"):
        return None
    reason: str | None = module.lacks(Path(folder) if folder else None, config)
    return reason


def draw(plan: Plan, name: str, metric: Mapping[str, Any]) -> list[str]:
    """Runs in a worker: write what a score has to show into the plan's folder; returns the files' names."""
    module = module_of(name)
    with plan.material() as material:
        pictures: Mapping[str, bytes] = (
            module.pictures(material, metric) if hasattr(module, "pictures") else {}
        )
    for file, data in pictures.items():
        Folder.at(plan.folder).write_bytes(file, data)
    return list(pictures)


def without(plan: Plan, names: Mapping[str, Any]) -> Plan:
    """Return the plan without some scores."""
    return replace(
        plan, settings={name: config for name, config in plan.settings.items() if name not in names}
    )


def cells(metric: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Return of a score: its name, which number stands for it, that number, its interval, what to compare it with."""
    key = metric["card"].get("headline_key", "")
    beside = [
        f"{name} {_number(n[key])}"
        for name, n in metric["controls"].items()
        if n.get(key) is not None
    ]
    ends = [metric["values"].get(f"{key}_{end}") for end in ("low", "high")]
    spread = "" if None in ends else f"[{_number(ends[0])}, {_number(ends[1])}]"
    return metric["name"], key, _number(metric["value"]), spread, ", ".join(beside)


def sentence(metric: Mapping[str, Any]) -> str:
    """Return a score's headline with what it must be compared with, in one line."""
    name, key, value, spread, beside = cells(metric)
    told = " ".join(part for part in (f"{name}:", key, value, spread) if part)
    return f"{told} ({beside})" if beside else told


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}" if abs(value) >= 10 else f"{value:.3f}"
