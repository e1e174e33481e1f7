"""Find images that are in two splits, before anything is trained.

Write the one manifest of the images of each split. A step of its own and not a part of `ingest`:
what it compares includes the trial's own data sets, which ingest does not read, and a change of
`data.leaks` is no reason to read all data again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, cut
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.leaks.hashing import Signature, signature
from synthaug.pipeline.leaks.pairs import (
    KINDS,
    LISTED,
    Pair,
    advice,
    count_pairs,
    find_pairs,
    leak_message,
    split_manifest,
)
from synthaug.pipeline.leaks.signatures import read_signatures, write_signatures
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.trial.tables import references

NEEDS = ("ingest",)
VERSION = 2
SHARD = 512  # images
SPLITS, PAIRS = "splits.json", "leaks.json"
PUBLISHES = (Published(SPLITS),)


@dataclass(frozen=True)
class Spec:
    """The job and the folders that workers need, as plain data."""

    job: Job
    ingest: str
    out: str
    splits: tuple[str, ...]

    def table(self, split: str) -> Dataset:
        """Open an ingested split, or a data set that only the trial reads."""
        if split not in references(self.job):
            folder = Folder.at(self.ingest).sub(split)
            return parquet.open_table(folder)
        root = Path(self.job.data.root)
        return open_dataset(references(self.job)[split], root, key=split)


def keys(job: Job) -> dict[str, str]:
    """Return the job's key behind each split, for messages."""
    validation = "data.validation"
    if not job.data.validation:
        validation = "data.labelled (the part held out for validation)"
    return {
        "labelled": "data.labelled",
        "unlabelled": "data.unlabelled",
        "validation": validation,
        "synthetic": "the synthetic images",
    }


def settings(job: Job) -> Json:
    """Return whether leaks stop the run, and the content of unread data sets.

    Those that ingest does not read.
    """
    root = Path(job.data.root)
    fingerprints = {}
    for key, text in references(job).items():
        table = open_dataset(text, root, key=key)
        fingerprints[key] = table.fingerprint()
    return {"leaks": job.data.leaks, "fingerprints": fingerprints}


def metrics(manifest: Manifest) -> Json:
    """Return the number of pairs, and the digest of the manifest of splits."""
    found = {"leaks": manifest["pairs"]}
    return {"leaks": found, "splits_sha256": manifest["sha256"]}


def provenance(manifest: Manifest) -> dict[str, str]:
    """Return the digest of the one manifest of which image is in which split."""
    return {"splits_sha256": manifest["sha256"]}


class Hasher:
    """Runs in a worker: computes the signatures of a shard of images."""

    def __init__(self, table: Dataset, out: str) -> None:
        self._table = table
        self._out = Folder.at(out)

    def __call__(self, name: str, indices: range) -> Json:
        """Write the signatures of some images as shard `name`."""
        rows = [_signature_row(self._table[index]) for index in indices]
        write_signatures(self._out, name, rows)
        return {"rows": len(indices)}


def _signature_row(scene: Scene) -> tuple[str, str, Signature]:
    """Return a scene's id, the name of its file and its signature."""
    file = PurePath(scene.image.path or "").name
    return scene.image_id, file, signature(decode(scene))


def _hasher(spec: Spec, split: str) -> Hasher:
    folder = Folder.at(spec.out).sub(split)
    return Hasher(spec.table(split), folder.uri)


def compare(spec: Spec) -> tuple[Json, list[Pair]]:
    """Write `splits.json` and `leaks.json`; return the former, and all pairs.

    Runs in a worker; what is returned has no images.
    """
    folder = Folder.at(spec.out)
    folders = [(split, folder.sub(split)) for split in spec.splits]
    signatures = read_signatures(folders)
    only_trial = references(spec.job)
    shared = [split for split in spec.splits if split not in only_trial]
    manifest = split_manifest(signatures, shared)
    folder.write_json(SPLITS, manifest)
    group = {split: number for number, split in enumerate(spec.splits)}
    pairs = find_pairs(signatures, group)
    write_pairs(folder, pairs)
    splits = {}
    for split, entry in manifest["splits"].items():
        splits[split] = {"count": entry["count"], "sha256": entry["sha256"]}
    return {"sha256": manifest["sha256"], "splits": splits}, pairs


def write_pairs(folder: Folder, pairs: Sequence[Pair]) -> None:
    """Write all pairs where a user can read them."""
    listed = [pair.to_json() for pair in pairs]
    content = {"pairs": listed, "count": count_pairs(pairs)}
    folder.write_json(PAIRS, content)


def report_pairs(context: Context, pairs: Sequence[Pair], none: str) -> Json:
    """Print the pairs, or stop the run at a leak if the job says so.

    Returns the manifest's part on the pairs. `none` is printed where there is no pair.
    """
    message = leak_message(pairs, keys(context.job), context.folder.sub(PAIRS).uri)
    if message and context.job.data.leaks == "stop":
        raise JobError(
            f"{message}; {advice(pairs)}, or set data.leaks=report to go on with results that are "
            "too good"
        )
    if message:
        context.tell(
            f"  WARNING {message}: results are too good by what this gives away; {advice(pairs)}"
        )
    counts = count_pairs(pairs)
    others = []
    for key, number in sorted(counts.items()):
        if not key.startswith("leak"):
            others.append(f"{number} pairs {key}")
    if others:
        context.tell(f"  {'; '.join(others)}")
    elif not message:
        context.tell(f"  {none}")
    gravest = sorted(pairs, key=lambda pair: KINDS.index(pair.kind))
    shown = [pair.to_json() for pair in gravest[:LISTED]]
    return {"pairs": counts, "shown": shown}


def run(context: Context) -> Json:
    """Hash every image of every split and compare them.

    The manifest has the digest that later steps record.
    """
    ingest = context.inputs["ingest"]
    only_trial = references(context.job)
    sizes = {}
    for split, entry in ingest.manifest["splits"].items():
        sizes[split] = entry["images"]
    spec = Spec(context.job, ingest.folder.uri, context.folder.uri, (*sizes, *only_trial))
    for split in only_trial:
        sizes[split] = len(spec.table(split))
    for split in spec.splits:
        folder = context.folder.sub(split)
        shards = cut(sizes[split], SHARD)
        hasher = partial(_hasher, spec, split)
        context.shards(hasher, shards, folder, f"images of {split}")
    manifest, pairs = context.executor.call(compare, spec)
    return {**manifest, **report_pairs(context, pairs, "no image is in two splits")}
