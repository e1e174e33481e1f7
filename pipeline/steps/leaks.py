"""Look for images that are in two splits, before anything is trained; write the one manifest of who sees which image.

A step of its own and not a part of `ingest`: what it compares includes the trial's own data sets, which ingest does not
read, and a change of `data.leaks` is no reason to read all data again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, cut
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.leaks import hashing as image_hash
from synthaug.pipeline.leaks.hashing import Marks, marks
from synthaug.pipeline.leaks.pairs import (
    EVALUATION,
    EXTERNAL,
    SHOWN,
    Pair,
    advice,
    complaint,
    count,
    pairs,
    split_manifest,
)
from synthaug.pipeline.steps.contract import Manifest, Published

NEEDS = ("ingest",)
VERSION = 2
SHARD = 512  # images
SPLITS, FOUND = "splits.json", "leaks.json"
PUBLISHES = (Published(SPLITS),)


@dataclass(frozen=True)
class Spec:
    """What the tasks need, as plain data."""

    job: Job
    ingest: str
    out: str
    splits: tuple[str, ...]

    def table(self, split: str) -> Dataset:
        """Open an ingested split, or a data set that only the trial reads."""
        if split not in references(self.job):
            return parquet.read(parquet.Config(Folder.at(self.ingest).sub(split).uri))
        return open_dataset(references(self.job)[split], Path(self.job.data.root), key=split)


def references(job: Job) -> dict[str, str]:
    """The data sets that only the trial reads, by their keys."""
    if not job.trial.seeds:
        return {}
    named = {f"{EXTERNAL}{name}": text for name, text in job.trial.external.items()}
    return named | ({EVALUATION: job.trial.evaluation} if job.trial.evaluation else {})


def keys(job: Job) -> dict[str, str]:
    """The job's key behind each split, for messages."""
    held = (
        "data.validation"
        if job.data.validation
        else "data.labelled (the part held out for validation)"
    )
    return {
        "labelled": "data.labelled",
        "unlabelled": "data.unlabelled",
        "validation": held,
        "synthetic": "the synthetic images",
    }


def settings(job: Job) -> dict[str, Any]:
    """Whether leaks stop the run, and the content of the data sets that ingest does not read."""
    root = Path(job.data.root)
    opened = {key: open_dataset(text, root, key=key) for key, text in references(job).items()}
    return {
        "leaks": job.data.leaks,
        "fingerprints": {key: table.fingerprint() for key, table in opened.items()},
    }


def metrics(manifest: Manifest) -> dict[str, Any]:
    """Return the number of pairs, and the digest of the manifest of splits."""
    return {"leaks": {"leaks": manifest["pairs"]}, "splits_sha256": manifest["sha256"]}


def provenance(manifest: Manifest) -> dict[str, str]:
    """Return the digest of the one manifest of which image is in which split."""
    return {"splits_sha256": manifest["sha256"]}


class Hasher:
    """Runs in a worker: computes the marks of a shard of images."""

    def __init__(self, table: Dataset, out: str) -> None:
        self._table, self._out = table, Folder.at(out)

    def __call__(self, name: str, places: range) -> dict[str, Any]:
        """Write the marks of the images at `places` as shard `name`."""
        scenes = (self._table[i] for i in places)
        image_hash.write(self._out, f"{name}.parquet", [_marked(scene) for scene in scenes])
        return {"rows": len(places)}


def _marked(scene: Scene) -> tuple[str, str, Marks]:
    return scene.image_id, PurePath(scene.image.path or "").name, marks(decode(scene))


def _hasher(spec: Spec, split: str) -> Hasher:
    return Hasher(spec.table(split), Folder.at(spec.out).sub(split).uri)


def compare(spec: Spec) -> tuple[dict[str, Any], list[Pair]]:
    """Runs in a worker: write `splits.json` and `leaks.json`; returns the former without its images, and all pairs."""
    folder = Folder.at(spec.out)
    table = image_hash.read([(split, folder.sub(split)) for split in spec.splits])
    manifest = split_manifest(
        table, [split for split in spec.splits if split not in references(spec.job)]
    )
    folder.write_json(SPLITS, manifest)
    found = pairs(table, {split: number for number, split in enumerate(spec.splits)})
    write_pairs(folder, found)
    told = {
        split: {key: entry[key] for key in ("count", "sha256")}
        for split, entry in manifest["splits"].items()
    }
    return {"sha256": manifest["sha256"], "splits": told}, found


def write_pairs(folder: Folder, found: Sequence[Pair]) -> None:
    """Write all pairs where a user can read them."""
    folder.write_json(FOUND, {"pairs": [pair.to_json() for pair in found], "count": count(found)})


def settle(context: Context, found: Sequence[Pair], nothing: str) -> dict[str, Any]:
    """Stop the run at a leak if the job says so, else tell of it; returns what the manifest says of the pairs."""
    told = complaint(found, keys(context.job), f"{context.folder.uri}/{FOUND}")
    if told and context.job.data.leaks == "stop":
        raise JobError(
            f"{told}; {advice(found)}, or set data.leaks=report to go on with results that are too good"
        )
    if told:
        context.tell(
            f"  WARNING {told}: results are too good by what this gives away; {advice(found)}"
        )
    counted = count(found)
    others = [
        f"{n} pairs {key}" for key, n in sorted(counted.items()) if not key.startswith("leak")
    ]
    if others or not told:
        context.tell(f"  {'; '.join(others) or nothing}")
    shown = sorted(found, key=lambda pair: ("leak", "memorised", "shared").index(pair.kind))[:SHOWN]
    return {"pairs": counted, "shown": [pair.to_json() for pair in shown]}


def run(context: Context) -> dict[str, Any]:
    """Hash every image of every split and compare them; the manifest has the digest that later steps record."""
    job, ingest = context.job, context.inputs["ingest"]
    sizes = {split: told["images"] for split, told in ingest.manifest["splits"].items()}
    spec = Spec(job, ingest.folder.uri, context.folder.uri, (*sizes, *references(job)))
    sizes |= {split: len(spec.table(split)) for split in references(job)}
    for split in spec.splits:
        folder = context.folder.sub(split)
        context.shards(
            partial(_hasher, spec, split), cut(sizes[split], SHARD), folder, f"images of {split}"
        )
    told, found = context.executor.call(compare, spec)
    return {**told, **settle(context, found, "no image is in two splits")}
