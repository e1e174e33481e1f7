"""Measure the scores.

Generate images of the validation layouts, then compare them with the validation images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.links import Link
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder, file_digest
from synthaug.pipeline.execution.context import Context, cut
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.scores import load_score
from synthaug.pipeline.scores.features.weights import FILES, find
from synthaug.pipeline.scores.objects.gates import gate_link
from synthaug.pipeline.scoring import engine
from synthaug.pipeline.scoring.sizes import table_at_size
from synthaug.pipeline.scoring.summary import summary
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.inputs import Inputs, check_file
from synthaug.pipeline.steps.networks import check_detector_file, check_score_networks
from synthaug.pipeline.steps.synthesize import load_synthesizer
from synthaug.pipeline.steps.train_detector import WEIGHTS as DETECTOR
from synthaug.pipeline.synthesis.base import Synthesizer
from synthaug.pipeline.synthesis.conditioning import conditioning_of
from synthaug.pipeline.synthesis.paired import PairedSamples

NEEDS = ("ingest", "train_detector", "train_generator")
VERSION = 11
SHARD = 32  # validation images
PAIRED = "twins"  # folder of the images generated from the validation layouts
PICTURES = ("nearest.jpg", "real_or_made.jpg", "mask_iou.png")
PUBLISHES = tuple(Published(picture) for picture in PICTURES)
ANY_LAYOUTS = ("mask_iou",)  # scores that may ask about layouts the generator has learnt from


@dataclass(frozen=True)
class Tables:
    """Opens the tables of a run.

    The labelled and validation images a generator can be asked for, and the paired samples. The
    real images are those whose layouts were painted.
    """

    job: Job
    ingest: str  # folders
    paired: str

    def __call__(self, pixels: bool = True) -> Mapping[str, Dataset]:
        """Return train, real and synthetic."""
        synthetic = parquet.open_table(self.paired, pixels=pixels)
        return {
            "train": self.split("labelled", pixels),
            "real": self.real(pixels),
            "synthetic": synthetic,
        }

    def real(self, pixels: bool = True) -> Dataset:
        """Open the images of the split that score.layouts names."""
        return self.split(self.job.score.layouts, pixels)

    def split(self, name: str, pixels: bool = True) -> Dataset:
        """Open an ingested split at the size that is measured.

        As far as the generator can be asked for it.
        """
        folder = Folder.at(self.ingest).sub(name)
        table = parquet.open_table(folder, pixels=pixels)
        scored = conditioning_of(self.job).scored(table)
        if self.job.score.size == "source":
            return scored
        return table_at_size(scored, self.job.generator.config.size, pixels)


def settings(job: Job) -> Json:
    """Return the scores asked for, the samples' settings, and the networks' digests."""
    content = {
        "score": section_dict(job, "score"),
        "synthesize": section_dict(job, "synthesize"),
        "seed": job.seed,
        "judge": file_digest(job.score.detector),
    }
    if job.score.weights:  # a file that comes or changes changes the scores
        folder = Path(job.score.weights)
        content["networks"] = {name: find(folder, name).sha256 for name in FILES}
    return content


def check(job: Job) -> None:
    """Raise JobError when a file or a published network that is needed is not there."""
    check_file("score.detector", job.score.detector)
    folder = job.score.weights
    if folder and not Path(folder).is_dir():
        raise JobError(
            f"score.weights: there is no folder '{folder}'; correct the path or leave the key empty"
        )
    if job.score.size == "generator" and "size" not in dir(job.generator.config):
        raise JobError(
            f"score.size: generator.system {job.generator.system} makes images of the size of its "
            "real ones; set it to source"
        )
    if job.score.layouts == "labelled":
        others = [name for name in job.score.settings if name not in ANY_LAYOUTS]
        if others:
            raise JobError(
                f"score.layouts: labelled is for {', '.join(ANY_LAYOUTS)} alone, not for "
                f"{', '.join(others)}: the generator has seen these images; name fewer scores in "
                "score.names, or set it to validation"
            )
    for name in job.score.asked:
        _check_score(name, job.score.settings[name], folder)


def _check_score(name: str, config: Any, folder: str) -> None:
    weights = Path(folder) if folder else None
    reason = load_score(name).unsupported(weights, config)
    if reason:
        raise JobError(f"score.names: '{name}' cannot be had: {reason}")


def check_data(job: Job, inputs: Inputs) -> None:
    """Raise JobError when a network that measures cannot be built.

    Or when its file does not fit the classes.
    """
    check_detector_file("score.detector", job.score.detector, len(inputs.categories))
    check_score_networks(job.score.settings, inputs.categories)


def metrics(manifest: Manifest) -> Json:
    """Return the scores, why others are missing, and the number of images used.

    The images are those of validation.
    """
    return {
        "scores": manifest["scores"],
        "scores_unavailable": manifest["unavailable"],
        "validation": manifest["validation"],
    }


def links(manifest: Manifest) -> list[Link]:
    """Return whether the generator passes its gates, as far as they were measured.

    And whether its objects are detected better than those of another image: DAP's floor.
    """
    scores = manifest.get("scores", {})
    gates = gate_link(scores)
    floor = _above_the_floor(scores)
    return [floor] if gates is None else [gates, floor]


def _above_the_floor(scores: Mapping[str, Any]) -> Link:
    """Return the link of DAP and its floor."""
    name = "scores"
    dap = scores.get("dap")
    if dap is None:
        measured = ", ".join(scores) or "nothing"
        return Link(name, "untested", f"DAP was not measured; measured: {measured}")
    values = dap["values"]
    controls = dap["controls"]
    floor = controls.get("shuffled", {}).get("AP50")
    ceiling = controls.get("real", {}).get("AP50")
    value = values.get("AP50")
    if value is None or floor is None:
        return Link(name, "untested", "DAP has no object to detect")
    figure = f"DAP AP50 {value:.3f}, with shuffled layouts {floor:.3f}"
    if ceiling is not None:
        figure = f"{figure}, on real images {ceiling:.3f}"
    low = values.get("AP50_low")
    if low is None:
        low = value
    if low > floor:
        return Link(name, "ok", figure)
    advice = "the images do not show what was asked for: train the generator longer"
    return Link(name, "weak", f"{figure}: not above the floor with certainty", advice)


def run(context: Context) -> Json:
    """Write `scores.json`: every number with its metric card.

    The reason for each that is missing is in the manifest too.
    """
    job = context.job
    inputs = context.inputs
    ingest, detector, generator = (inputs[name].folder.uri for name in NEEDS)
    tables = Tables(job, ingest, context.folder.sub(PAIRED).uri)
    num_layouts = len(tables.real(pixels=False))
    num_images = inputs["ingest"].manifest["splits"][job.score.layouts]["images"]
    used = {"used": num_layouts, "left_out": num_images - num_layouts}
    extractors = engine.extractors_of(job.score.settings)
    samples = max((extractor.samples for extractor in extractors), default=0)
    if not num_layouts:
        context.tell(
            f"  no {job.score.layouts} image is one the generator could make; nothing can be scored"
        )
    if not num_layouts or not samples:
        return {"scores": {}, "unavailable": {}, "validation": used}

    load = partial(_synthesizer, generator)
    make = partial(PairedSamples, job, load, tables.real, samples, tables.paired)
    context.shards(
        make, cut(num_layouts, SHARD), Folder.at(tables.paired), "layouts painted", gpu=True
    )

    scoring = _scoring_job(context, tables, detector, used)
    reasons = engine.prepare(scoring)
    for name, reason in reasons.items():
        context.tell(f"  {name}: not measured: {reason}")
    scoring = scoring.without(reasons)
    scores = engine.measure(context, scoring)
    context.folder.write_json("scores.json", {"scores": scores, "unavailable": reasons})
    for name, metric in scores.items():
        context.tell(f"  {summary(metric)}")
        sheets = context.executor.call(engine.draw, scoring, name, metric)
        for file in sheets:
            context.tell(f"    pictures: {file}")
    return {"scores": scores, "unavailable": reasons, "validation": used}


def _synthesizer(folder: str, job: Job) -> Synthesizer:
    return load_synthesizer(Folder.at(folder), job)


def _image_size(job: Job) -> str:
    """Return the entry of a card on the size of the images that are measured."""
    if job.score.size == "source":
        return (
            f"synthetic images resized to the real one's size, job.seed {job.seed}; "
            "published numbers are of the generator's (score.size: generator)"
        )
    height, width = job.generator.config.size
    return (
        f"real and synthetic images at {height} x {width} pixels, the generator's, job.seed "
        f"{job.seed}"
    )


def _scoring_job(
    context: Context, tables: Tables, detector: str, used: Mapping[str, int]
) -> engine.ScoringJob:
    """Return the scores and tables of the job.

    With the card entries that only the run knows. The reference detector is the one the job names,
    else the run's own in the folder `detector`.
    """
    job = context.job
    ingest = context.inputs["ingest"].manifest
    folder = detector
    name = DETECTOR
    digest = Folder.at(detector).sha256(DETECTOR)
    if job.score.detector:
        uri = Folder.at(job.score.detector).uri
        folder, _, name = uri.rpartition("/")
        digest = file_digest(job.score.detector)
    objects = ingest["splits"]["labelled"]["objects"]
    names = [category["name"] for category in ingest["classes"]]
    train_counts = [objects.get(name, 0) for name in names]
    card_entries = {
        "detector_sha256": digest,
        "generator_sha256": context.inputs["train_generator"].manifest["sha256"],
        "layouts": f"of the {job.score.layouts} images",
        f"{job.score.layouts}_images": dict(used),
        "image_size": _image_size(job),
    }
    return engine.ScoringJob(
        job.score.settings,
        tables,
        context.folder.uri,
        generated=True,
        detector=(folder, name),
        detector_sha256=digest,
        weights=job.score.weights,
        seed=job.seed,
        train_counts=tuple(train_counts),
        card_entries=card_entries,
    )
