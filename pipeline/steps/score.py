"""Measure the scores: paint twins of the validation layouts, then compare them with the validation images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder, file_digest
from synthaug.pipeline.execution.context import Context, cut
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.scores import load_score
from synthaug.pipeline.scores.features.weights import FILES, find
from synthaug.pipeline.scoring import engine
from synthaug.pipeline.scoring.summary import summary
from synthaug.pipeline.steps.contract import Manifest, Published
from synthaug.pipeline.steps.inputs import Inputs, check_detector, check_file
from synthaug.pipeline.steps.synthesize import load_synthesizer
from synthaug.pipeline.steps.train_detector import WEIGHTS as DETECTOR
from synthaug.pipeline.synthesis.base import Synthesizer
from synthaug.pipeline.synthesis.conditioning import conditioning_of
from synthaug.pipeline.synthesis.paired import PairedSamples

NEEDS = ("ingest", "train_detector", "train_generator")
VERSION = 5
SHARD = 32  # validation images
TWINS = "twins"
PUBLISHES = (Published("nearest.jpg"),)


@dataclass(frozen=True)
class Tables:
    """Opens the tables of a run: what the generator can be shown of the labelled and validation images, and the twins."""

    job: Job
    ingest: str  # folders
    twins: str

    def __call__(self, pixels: bool = True) -> Mapping[str, Dataset]:
        """Return train, real and synthetic."""
        found = {
            name: conditioning_of(self.job).scored(self.split(split, pixels))
            for name, split in (("train", "labelled"), ("real", "validation"))
        }
        return {**found, "synthetic": parquet.open_table(self.twins, pixels=pixels)}

    def split(self, name: str, pixels: bool) -> Dataset:
        """Open an ingested split."""
        return parquet.open_table(Folder.at(self.ingest).sub(name), pixels=pixels)

    def validation(self) -> Dataset:
        """The layouts of the twins."""
        return conditioning_of(self.job).scored(self.split("validation", True))


def settings(job: Job) -> dict[str, Any]:
    """The scores asked for, and how images are produced for them."""
    sections = {name: section_dict(job, name) for name in ("score", "synthesize")}
    weights = job.score.weights  # a file that comes or changes changes the scores
    networks = {name: find(Path(weights), name).sha256 for name in FILES} if weights else {}
    named = {"networks": networks} if networks else {}
    return {**sections, "seed": job.seed, "judge": file_digest(job.score.detector), **named}


def check(job: Job) -> None:
    """Raise JobError when a file or a published network that the job needs is not there."""
    check_file("score.detector", job.score.detector)
    folder = job.score.weights
    if folder and not Path(folder).is_dir():
        raise JobError(
            f"score.weights: there is no folder '{folder}'; correct the path or leave the key empty"
        )
    for name in job.score.asked:
        _check_score(name, job.score.settings[name], folder)


def _check_score(name: str, config: Any, folder: str) -> None:
    weights = Path(folder) if folder else None
    reason = load_score(name).unsupported(weights, config)
    if reason:
        raise JobError(f"score.names: '{name}' cannot be had: {reason}")


def check_data(job: Job, inputs: Inputs) -> None:
    """Raise JobError when the detector the job names knows other classes."""
    check_detector("score.detector", job.score.detector, len(inputs.categories))


def metrics(manifest: Manifest) -> dict[str, Any]:
    """Return the scores, the reason for each that is missing, and what is known of the validation images."""
    return {
        "scores": manifest["scores"],
        "scores_unavailable": manifest["unavailable"],
        "validation": manifest["validation"],
    }


def run(context: Context) -> dict[str, Any]:
    """Write `scores.json`: every number with its metric card, and why what is not there is not; the manifest has the same."""
    job, inputs = context.job, context.inputs
    ingest, detector, generator = (inputs[name].folder.uri for name in NEEDS)
    tables = Tables(job, ingest, context.folder.sub(TWINS).uri)
    count = len(conditioning_of(job).scored(tables.split("validation", False)))
    whole = inputs["ingest"].manifest["splits"]["validation"]["images"]
    used = {"used": count, "left_out": whole - count}
    if not count:
        context.tell("  no validation image is one the generator could make; nothing can be scored")
        return {"scores": {}, "unavailable": {}, "validation": used}
    samples = max((one.samples for one in engine.extractors_of(job.score.settings)), default=0)
    if not samples:
        return {"scores": {}, "unavailable": {}, "validation": used}
    load = partial(_synthesizer, generator)
    make = partial(PairedSamples, job, load, tables.validation, samples, tables.twins)
    context.shards(make, cut(count, SHARD), Folder.at(tables.twins), "layouts painted")
    scoring = _scoring_job(context, tables, detector, used)
    reasons = engine.prepare(scoring)
    for name, reason in reasons.items():
        context.tell(f"  {name}: not measured: {reason}")
    scoring = scoring.without(reasons)
    scores = engine.measure(context, scoring)
    context.folder.write_json("scores.json", {"scores": scores, "unavailable": reasons})
    for name, metric in scores.items():
        context.tell(f"  {summary(metric)}")
        for file in context.executor.call(engine.draw, scoring, name, metric):
            context.tell(f"    pictures: {file}")
    return {"scores": scores, "unavailable": reasons, "validation": used}


def _synthesizer(folder: str, job: Job) -> Synthesizer:
    return load_synthesizer(Folder.at(folder), job)


def _scoring_job(
    context: Context, tables: Tables, detector: str, used: Mapping[str, int]
) -> engine.ScoringJob:
    """Say what is measured on what, with all that only the run knows."""
    job, ingest = context.job, context.inputs["ingest"].manifest
    own = Folder.at(detector)
    objects = ingest["splits"]["labelled"]["objects"]
    digest = file_digest(job.score.detector) or own.sha256(DETECTOR)
    judge = (
        Folder.at(job.score.detector).uri.rpartition("/")
        if job.score.detector
        else (own.uri, "", DETECTOR)
    )
    return engine.ScoringJob(
        job.score.settings,
        tables,
        context.folder.uri,
        generated=True,
        detector=(judge[0], judge[2]),
        detector_sha256=digest,
        weights=job.score.weights,
        seed=job.seed,
        train_counts=tuple(objects.get(c["name"], 0) for c in ingest["classes"]),
        card_entries={
            "detector_sha256": digest,
            "generator_sha256": context.inputs["train_generator"].manifest["sha256"],
            "validation_images": dict(used),
            "image_size": f"synthetic images resized to the real one's size, job.seed {job.seed}",
        },
    )
