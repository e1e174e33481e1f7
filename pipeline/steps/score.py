"""Measure the scores: look at real and synthetic validation images once, on the pool, then compute each score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import evidence
from pipeline.context import Context, cut
from pipeline.evidence import Evidence
from pipeline.formats import parquet
from pipeline.guides import guide_of
from pipeline.images import decode
from pipeline.sampling import seed_for
from pipeline.scene import Objects, Provenance, Scene
from pipeline.scores import cas, dap
from pipeline.scores.card import Metric
from pipeline.scores.detection import DetectionRow
from pipeline.sections import Job, section_dict
from pipeline.steps.synthesize import load_generator
from pipeline.steps.train_detector import WEIGHTS as DETECTOR
from pipeline.storage import Folder, file_digest
from pipeline.training import device, load_state, train

NEEDS = ("ingest", "train_detector", "train_generator")
VERSION = 2
SHARD = 32  # validation images


@dataclass(frozen=True)
class Sources:
    """Where a scoring task finds its inputs: URIs of folders."""

    job: Job
    ingest: str
    detector: str
    generator: str
    folder: str

    def table(self, split: str, pixels: bool = True) -> Any:
        """Open an ingested split."""
        return parquet.read(parquet.Config(Folder.at(self.ingest).sub(split).uri), pixels=pixels)

    def judge(self) -> AbstractContextManager[Path]:
        """The checkpoint of the detector that judges, as a local file."""
        judge = self.job.score.judge
        return nullcontext(Path(judge)) if judge else Folder.at(self.detector).local_copy(DETECTOR)


def settings(job: Job) -> dict[str, Any]:
    """The scores asked for, and how images are produced for them."""
    sections = {name: section_dict(job, name) for name in ("score", "synthesize")}
    return {**sections, "seed": job.seed, "judge": file_digest(job.score.judge)}


class _Looker:
    """Runs in a worker: for each validation image, detects in it and in its synthetic twins, and cuts out objects."""

    def __init__(self, sources: Sources) -> None:
        from detectors import load as load_detector

        job = sources.job
        self._job, self._folder = job, Folder.at(sources.folder)
        self._guide = guide_of(job)
        self._table = self._guide.accepted(sources.table("validation"))
        self._generator = load_generator(Folder.at(sources.generator), job)
        with sources.judge() as path:  # which need not be of the job's back-end
            self._detector = load_detector(path, device=device())
        self._dap: dap.Config | None = job.score.settings.get("dap")
        self._cas: cas.Config | None = job.score.settings.get("cas")

    def __call__(self, name: str, places: range) -> dict[str, Any]:
        rows: list[Evidence] = []
        limit = self._dap.max_images if self._dap and self._dap.max_images else len(self._table)
        for start in range(places.start, places.stop, self._job.synthesize.batch):
            index = list(range(start, min(start + self._job.synthesize.batch, places.stop)))
            scenes = [self._table[i] for i in index]
            detect = [self._dap is not None and i < limit for i in index]
            rows += self._look(index, scenes, [decode(s) for s in scenes], 0, True, detect, self._cas is not None)
            samples = max(
                self._dap.samples_per_layout if self._dap else 0, self._cas.samples_per_layout if self._cas else 0
            )
            for sample in range(samples):
                images = self._twins(index, scenes, sample)
                wanted = [d and sample < (self._dap.samples_per_layout if self._dap else 0) for d in detect]
                cropped = self._cas is not None and sample < self._cas.samples_per_layout
                rows += self._look(index, scenes, images, sample, False, wanted, cropped)
        evidence.write(self._folder, f"{name}.parquet", rows, self._cas.size if self._cas else 1)
        return {"rows": len(places), "images": len(rows)}

    def _twins(self, index: list[int], scenes: list[Scene], sample: int) -> list[NDArray[np.uint8]]:
        """Synthesise what drives the generator in some validation images, at the size of the real ones."""
        planned = []
        for i, scene in zip(index, scenes, strict=True):
            seed = seed_for(self._job.seed, "score", i, sample)
            planned.append(replace(scene, provenance=Provenance(seed, "", "", scene.image_id, "score")))
        return self._guide.paint(self._generator, planned)

    def _truth(self, scene: Scene) -> Objects:
        return self._guide.keep.select(scene.objects, (scene.height, scene.width))

    def _look(
        self,
        index: list[int],
        scenes: list[Scene],
        images: list[NDArray[np.uint8]],
        sample: int,
        real: bool,
        detect: list[bool],
        crop: bool,
    ) -> list[Evidence]:
        found = iter(
            self._detector.predict([im for im, d in zip(images, detect, strict=True) if d]) if any(detect) else ()
        )
        rows = []
        for i, scene, image, wanted in zip(index, scenes, images, detect, strict=True):
            truth = self._truth(scene)
            labels = truth.category.astype(np.int64)
            detection = crops = None
            if wanted:
                p = next(found)
                none = np.zeros(len(labels), bool)
                size = (scene.height, scene.width)
                detection = DetectionRow(i, *size, truth.boxes, labels, none, p.boxes, p.labels, p.scores, sample)
            if crop and self._cas:
                crops = cas.cut(i, sample, image, truth.boxes, labels, self._cas.size)
            if detection or crops:
                rows.append(Evidence(real, detection, crops))
        return rows


class _Student:
    """Runs in a worker: trains one classifier of CAS, on synthetic or on real crops."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def __call__(self, kind: str) -> dict[str, Any]:
        import torch

        config: cas.Config = self._sources.job.score.settings["cas"]
        torch.set_num_threads(config.threads)
        training, crops = student(self._sources, kind)
        folder = Folder.at(self._sources.folder).sub(f"cas-{kind}")
        train(training, training.batch, config.steps, max(1, config.steps // 4), folder)
        return {"kind": kind, "crops": len(crops.labels)}


def student(sources: Sources, kind: str) -> tuple[cas.ClassifierTraining, cas.CropSet]:
    """Return the classifier to train on `kind` ('synthetic' | 'real') crops, and these."""
    config: cas.Config = sources.job.score.settings["cas"]
    categories = sources.table("validation", pixels=False).categories
    rows = _real_crops(sources, config) if kind == "real" else _crops(sources, real=False)
    crops = _collect(config, categories, rows)
    return cas.ClassifierTraining(config, crops, len(config.selected(categories)), device()), crops


def _collect(config: cas.Config, categories: Any, rows: Iterable[cas.CropRow], cap: int | None = None) -> cas.CropSet:
    table = cas.CropTable(config, config.selected(categories), cap)
    for row in rows:
        table.add(row)
    return table.result()


def _crops(sources: Sources, real: bool) -> Iterator[cas.CropRow]:
    for row in evidence.read(Folder.at(sources.folder)):
        if row.crops and row.real == real:
            yield row.crops


def _real_crops(sources: Sources, config: cas.Config) -> Iterator[cas.CropRow]:
    """Object crops of the labelled training images."""
    guide = guide_of(sources.job)
    table, keep = guide.accepted(sources.table("labelled")), guide.keep
    for i in range(len(table)):
        scene = table[i]
        objects = keep.select(scene.objects, (scene.height, scene.width))
        yield cas.cut(i, 0, decode(scene), objects.boxes, objects.category.astype(np.int64), config.size)


def measure(sources: Sources, train_counts: list[int], card: dict[str, Any]) -> dict[str, Any]:
    """Runs in a worker: compute every score from the evidence and the trained classifiers."""
    results: dict[str, Any] = {}
    job, categories = sources.job, sources.table("validation", pixels=False).categories
    if "dap" in job.score.settings:
        found = [(row.real, row.detection) for row in evidence.read(Folder.at(sources.folder)) if row.detection]
        synthetic, real = ([d for r, d in found if r is wanted] for wanted in (False, True))
        results["dap"] = dap.score(synthetic, real, categories, train_counts, card, job.score.settings["dap"]).to_json()
    if "cas" in job.score.settings:
        results["cas"] = _measure_cas(sources, categories, card).to_json()
    return results


def _measure_cas(sources: Sources, categories: Any, card: dict[str, Any]) -> Metric:
    config: cas.Config = sources.job.score.settings["cas"]
    models = {}
    for kind in ("synthetic", "real"):
        training, crops = student(sources, kind)
        load_state(training, Folder.at(sources.folder).sub(f"cas-{kind}"))
        models[kind] = training.model
        if kind == "synthetic":
            made = crops
    # all test crops, because a cap per class would change the class shares and with them top-1
    test = _collect(config, categories, _crops(sources, real=True), cap=0)
    return cas.score(models, made, test, categories, config, card)


def run(context: Context) -> dict[str, Any]:
    """Write `scores.json`: every number with its metric card; the manifest holds the same."""
    job, inputs = context.job, context.inputs
    ingest, detector, generator = (inputs[name].folder.uri for name in NEEDS)
    sources = Sources(job, ingest, detector, generator, context.folder.uri)
    count = len(guide_of(job).accepted(sources.table("validation", pixels=False)))
    whole = inputs["ingest"].manifest["splits"]["validation"]["images"]
    if not count:
        context.tell("  no validation image is one the generator could make; nothing can be scored")
        return {"scores": {}, "validation": {"used": 0, "left_out": whole}}
    context.shards(partial(_Looker, sources), cut(count, SHARD), context.folder, "validation images")
    if "cas" in job.score.settings:
        list(context.executor.pool(partial(_Student, sources), ["synthetic", "real"], min(2, context.executor.workers)))
    classes = inputs["ingest"].manifest["classes"]
    objects = inputs["ingest"].manifest["splits"]["labelled"]["objects"]
    with sources.judge() as judge:
        digest = Folder.at(str(judge.parent)).sha256(judge.name)
    card = {
        "detector_sha256": digest,
        "generator_sha256": inputs["train_generator"].manifest["sha256"],
        "validation_images": {"used": count, "left_out": whole - count},
        "image_size": f"synthetic images resized to the real one's size, job.seed {job.seed}",
    }
    scores = context.executor.call(measure, sources, [objects.get(c["name"], 0) for c in classes], card)
    context.folder.write_json("scores.json", scores)
    for name, metric in scores.items():
        context.tell(f"  {name}: {_shown(metric)}")
    return {"scores": scores, "validation": {"used": count, "left_out": whole - count}}


def _shown(metric: dict[str, Any]) -> str:
    """The number with what it must be compared with."""
    controls = metric["controls"]
    if metric["name"] == "dap":
        real, floor = controls.get("real", {}).get("AP50"), controls.get("shuffled", {}).get("AP50")
        return f"AP50 {_num(metric['value'])} on synthetic images ({_num(real)} on real ones, {_num(floor)} shuffled)"
    real, floor = controls.get("real", {}).get("top1"), metric["values"].get("chance")
    return f"{_num(metric['value'])} with synthetic crops ({_num(real)} with real ones, {_num(floor)} by chance)"


def _num(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
