"""Look for synthetic images that are copies of real ones: memorised training images, and leaks of measured ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, cut
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.leaks.pairs import SYNTHETIC, Pair, find_pairs
from synthaug.pipeline.leaks.signatures import read_signatures
from synthaug.pipeline.steps.contract import Manifest, Published
from synthaug.pipeline.steps.leaks import SHARD, Hasher, report_pairs, write_pairs

NEEDS = ("leaks", "synthesize")
VERSION = 1
PUBLISHES: tuple[Published, ...] = ()


@dataclass(frozen=True)
class Spec:
    """What the tasks need, as plain data."""

    made: str
    real: str
    splits: tuple[str, ...]
    out: str


def settings(job: Job) -> dict[str, Any]:
    """Whether leaks stop the run."""
    return {"leaks": job.data.leaks}


def metrics(manifest: Manifest) -> dict[str, Any]:
    """Return the number of pairs."""
    return {"leaks": {"copies": manifest["pairs"]}}


def _hasher(spec: Spec) -> Hasher:
    return Hasher(parquet.read(parquet.Config(spec.made)), Folder.at(spec.out).sub(SYNTHETIC).uri)


def compare(spec: Spec) -> list[Pair]:
    """Runs in a worker: all pairs of a synthetic and a real image that show the same, written to `leaks.json`."""
    real = Folder.at(spec.real)
    folders = [(split, real.sub(split)) for split in spec.splits]
    signatures = read_signatures([*folders, (SYNTHETIC, Folder.at(spec.out).sub(SYNTHETIC))])
    found = find_pairs(
        signatures, {split: int(split == SYNTHETIC) for split in (*spec.splits, SYNTHETIC)}
    )
    write_pairs(Folder.at(spec.out), found)
    return found


def run(context: Context) -> dict[str, Any]:
    """Hash every synthetic image and compare it with all real ones."""
    leaks, made = context.inputs["leaks"], context.inputs["synthesize"]
    splits = tuple(leaks.manifest["splits"])
    spec = Spec(made.folder.uri, leaks.folder.uri, splits, context.folder.uri)
    folder = context.folder.sub(SYNTHETIC)
    images = made.manifest["images"]
    context.shards(partial(_hasher, spec), cut(images, SHARD), folder, "synthetic images")
    found = context.executor.call(compare, spec)
    copied = {pair.first if pair.first[0] == SYNTHETIC else pair.second for pair in found}
    return {
        "images": images,
        "copies": len(copied),
        **report_pairs(context, found, "no synthetic image is a copy of a real one"),
    }
