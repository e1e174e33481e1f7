"""Look for synthetic images that are copies of real ones.

Memorised training images, and leaks of measured ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, cut
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.leaks.pairs import SYNTHETIC, Pair, find_pairs
from synthaug.pipeline.leaks.signatures import read_signatures
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.leaks import SHARD, Hasher, report_pairs, write_pairs

NEEDS = ("leaks", "synthesize")
VERSION = 1
PUBLISHES: tuple[Published, ...] = ()


@dataclass(frozen=True)
class Spec:
    """Folders of the comparison, as plain data."""

    synthetic: str  # of the synthetic images
    real: str  # of the step leaks: the signatures of each split
    splits: tuple[str, ...]
    out: str

    @property
    def signatures(self) -> Folder:
        """Return the folder of the synthetic images' signatures."""
        return Folder.at(self.out).sub(SYNTHETIC)


def settings(job: Job) -> Json:
    """Return whether leaks stop the run."""
    return {"leaks": job.data.leaks}


def metrics(manifest: Manifest) -> Json:
    """Return the number of pairs."""
    return {"leaks": {"copies": manifest["pairs"]}}


def _hasher(spec: Spec) -> Hasher:
    return Hasher(parquet.open_table(spec.synthetic), spec.signatures.uri)


def compare(spec: Spec) -> list[Pair]:
    """Write and return all pairs of a synthetic and a real image that are the same.

    Runs in a worker.
    """
    real = Folder.at(spec.real)
    folders = [(split, real.sub(split)) for split in spec.splits]
    signatures = read_signatures([*folders, (SYNTHETIC, spec.signatures)])
    # only pairs across these two groups count
    group_of = dict.fromkeys(spec.splits, 0) | {SYNTHETIC: 1}
    pairs = find_pairs(signatures, group_of)
    write_pairs(Folder.at(spec.out), pairs)
    return pairs


def run(context: Context) -> Json:
    """Hash every synthetic image and compare it with all real ones."""
    leaks = context.inputs["leaks"]
    synthesized = context.inputs["synthesize"]
    splits = tuple(leaks.manifest["splits"])
    num_images = synthesized.manifest["images"]
    spec = Spec(synthesized.folder.uri, leaks.folder.uri, splits, context.folder.uri)
    shards = cut(num_images, SHARD)
    context.shards(partial(_hasher, spec), shards, spec.signatures, "synthetic images")
    pairs = context.executor.call(compare, spec)
    copies = {_synthetic_image(pair) for pair in pairs}
    summary = report_pairs(context, pairs, "no synthetic image is a copy of a real one")
    return {"images": num_images, "copies": len(copies), **summary}


def _synthetic_image(pair: Pair) -> tuple[str, str]:
    """Return the split and the id of the synthetic image of a pair."""
    if pair.first[0] == SYNTHETIC:
        return pair.first
    return pair.second
