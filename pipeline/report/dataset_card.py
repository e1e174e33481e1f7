"""The README.md of an exported data set: content, making, worth, what is missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category

_SPECIAL = re.compile(r"[\\`*_{}\[\]#|~!]")
_LICENCE = (
    "# license: for whoever publishes this to choose; it must allow what the licences of all "
    "source images allow\n"
)
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
NO_VERDICTS = ("images", "objects", "judge", "policy")  # entries of a manifest of verification
OPENING = {
    "coco": 'CocoDetection("train/images", "train/instances.json")  # torchvision.datasets',
    "hf": 'load_dataset("/path/of/this/folder")  # datasets',
    "lvis": 'load_lvis_json("lvis_train.json", "images/")  # detectron2.data.datasets',
    "voc": 'load_voc_instances("/path/of/this/folder", "train", names)  # detectron2.data.datasets',
    "yolo": 'YOLO("yolo11n.pt").train(data="/path/of/this/folder/data.yaml")  # ultralytics',
}


@dataclass
class SetCounts:
    """The counts of one data set in one split."""

    split: str
    name: str
    images: int
    objects: Counter[tuple[int, str]] = field(
        default_factory=Counter
    )  # (class index, source), without ignore regions
    ignored: int = 0  # regions
    index: Sequence[int] | None = None  # class index of the set -> of the export; None = the same

    def of(self, category: int, source: str) -> int:
        """Return the objects of a class of the export from one source."""
        if self.index is None:
            return self.objects[category, source]
        if category not in self.index:
            return 0
        return self.objects[list(self.index).index(category), source]


@dataclass(frozen=True)
class RunFacts:
    """The JSON files of a run."""

    metrics: Mapping[str, Any]  # metrics.json
    seed: int | None


@dataclass(frozen=True)
class Facts:
    """The content of a card."""

    title: str
    format: str
    categories: tuple[Category, ...]
    sets: Sequence[SetCounts]
    lost: Mapping[str, int]  # what the format does not hold
    skipped: Mapping[str, int]  # what was left out when the sets were read
    version: str
    run: RunFacts | None = None
    data_files: Sequence[tuple[str, str]] = ()  # (split, pattern) of the form that `datasets` opens


def plain(text: str) -> str:
    """Return a text that Markdown and HTML show as it is, on one line.

    Such as the name of a class.
    """
    encodable = text.encode("utf-8", "replace").decode()
    line = " ".join(encodable.split())
    line = "".join(c for c in line if c.isprintable())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\g<0>", line)


def card(facts: Facts) -> str:
    """Return the whole file: front matter as Hugging Face reads it, then the text."""
    return "\n".join([_front(facts), *_body(facts)]) + "\n"


def _front(facts: Facts) -> str:
    images = sum(part.images for part in facts.sets)
    size = next((name for limit, name in _SIZES if images < limit), "n>1M")
    tags = ["synthaug"]
    if facts.run:
        tags.append("synthetic")
    head: Json = {
        "pretty_name": facts.title.encode("utf-8", "replace").decode(),
        "task_categories": ["object-detection"],
        "size_categories": [size],
        "tags": tags,
    }
    if facts.data_files:
        files = [{"split": split, "path": pattern} for split, pattern in facts.data_files]
        head["configs"] = [{"config_name": "default", "data_files": files}]
    return f"---\n{_LICENCE}{yaml.safe_dump(head, sort_keys=False)}---\n"


def _body(facts: Facts) -> Iterator[str]:
    yield f"# {plain(facts.title)}\n"
    kinds = ", ".join(dict.fromkeys(part.name for part in facts.sets))
    yield (
        f"Images with labelled objects ({kinds}), written by synthaug {plain(facts.version)} as "
        f"`{facts.format}`.\n"
    )
    if facts.format in OPENING:
        yield f"    {OPENING[facts.format]}\n"
    yield "## What is in it\n"
    yield from _contents(facts)
    if facts.run:
        yield "## How it was made\n"
        yield from _making(facts.run)
        yield "## What it is known to be worth\n"
        yield from _worth(facts.run)
    yield "## Limits\n"
    yield from _limits(facts)
    yield "## Licence\n"
    yield (
        "Not chosen yet. Real images keep the licences they came with; put the choice into the "
        "first lines of this file.\n"
    )


def _contents(facts: Facts) -> Iterator[str]:
    rows = []
    keys: dict[tuple[str, str], None] = {}  # split and source of objects, in order
    for part in facts.sets:
        total = sum(part.objects.values())
        rows.append((part.split, part.name, part.images, total, part.ignored))
        sources = {source for _, source in part.objects}
        keys |= {(part.split, source): None for source in sorted(sources)}
    yield _table(("split", "set", "images", "objects", "ignore regions"), rows)
    lines = []
    for k, category in enumerate(facts.categories):
        counts = []
        for split, source in keys:
            parts = [part for part in facts.sets if part.split == split]
            counts.append(sum(part.of(k, source) for part in parts))
        name = plain(category.name)
        if not category.isthing:
            name = f"{name} (stuff)"
        lines.append((category.id, name, *counts))
    heads = [f"{split}: {source}" for split, source in keys]
    yield _table(("id", "class", *heads), lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [str(value) for value in row]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _making(run: RunFacts) -> Iterator[str]:
    metrics = run.metrics
    digests = {}
    for score in metrics.get("scores", {}).values():
        content = score.get("card", {})
        for key in content:
            if key.endswith("_sha256"):
                digests[key] = content[key]
    job = metrics.get("job", "")
    job_digest = metrics.get("job_sha256", "")
    yield f"- Job `{job}`, seed {run.seed}, sha256 `{job_digest}`"
    for key, digest in sorted(digests.items()):
        yield f"- {plain(key.removesuffix('_sha256'))}: sha256 `{digest}`"
    synthetic = metrics.get("synthetic", {})
    images = synthetic.get("images", 0)
    dropped = sum(synthetic.get("dropped", {}).values())
    yield (
        f"- {images} synthetic images made; {dropped} objects dropped because too little of them "
        "showed"
    )
    yield (
        "- Each synthetic image names its seed, generator, checkpoint and the real image whose "
        "layout it follows"
    )
    versions = metrics.get("versions", {})
    packages = [f"{plain(name)} {plain(str(version))}" for name, version in versions.items()]
    yield f"- {', '.join(packages)}\n"
    yield from _verification(metrics.get("verified") or {})


def _verification(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield the verdicts on the synthetic objects."""
    if not manifest.get("enabled"):
        yield "No detector checked whether the synthetic objects are where their labels say.\n"
        return
    rows = []
    for key, counts in manifest.items():
        if key in NO_VERDICTS or not isinstance(counts, Mapping) or not counts:
            continue
        if all(isinstance(number, int) for number in counts.values()):
            rows.append((plain(key.replace("_", " ")), sum(counts.values())))
    yield "A detector that had no part in making them looked for every synthetic object:\n"
    yield _table(("verdict", "objects"), rows)
    things = manifest.get("things", ())
    unjudged = [plain(name) for name in things if manifest["not_judged"].get(name)]
    if unjudged:
        yield (
            f"Nobody could judge the objects of {', '.join(unjudged)}: their labels are as they "
            "were asked for.\n"
        )
    images = []
    for key, number in manifest.get("images", {}).items():
        images.append((plain(key), number))
    yield _table(("images", "number"), images)


def _worth(run: RunFacts) -> Iterator[str]:
    lines = run.metrics.get("trial", {}).get("says", [])
    if lines:
        yield "Trained with and without it, same budget, paired seeds:\n"
        for line in lines:
            yield f"- {plain(line)}"
        yield ""
        if "advice" in run.metrics["trial"]:
            yield f"Advice: {plain(run.metrics['trial']['advice'])}.\n"
    else:
        yield (
            "No trial was run: whether training on it helps a detector is not known (`synthaug "
            "trial`).\n"
        )
    for name, score in run.metrics.get("scores", {}).items():
        yield from _score(name, score)
    for name, reason in run.metrics.get("scores_unavailable", {}).items():
        yield f"- {plain(name.upper())} was not measured: {plain(str(reason))}"
    yield ""


def _score(name: str, score: Mapping[str, Any]) -> Iterator[str]:
    """Yield a score with its controls, then how it was measured."""
    content = score.get("card", {})
    key = content.get("headline_key")
    if not key:
        key = ""
        for value_name, value in score.get("values", {}).items():
            if value == score.get("value"):
                key = value_name
                break
    controls = []
    for control, numbers in score.get("controls", {}).items():
        if isinstance(numbers, Mapping) and numbers.get(key) is not None:
            controls.append(f"{plain(control)} {_number(numbers[key])}")
    line = f"- **{plain(name.upper())}** {_number(score.get('value'))}"
    if controls:
        line += f" ({', '.join(controls)})"
    yield line
    for item, value in content.items():
        if isinstance(value, (str, int, float)) and not item.endswith(("_sha256", "_key")):
            yield f"  - {plain(item.replace('_', ' '))}: {plain(str(value))}"


def _number(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


def _limits(facts: Facts) -> Iterator[str]:
    if facts.run:
        yield (
            "- Synthetic images come from a generator trained on the labelled images: they show no "
            "class and no place that"
        )
        yield "  was not there, and may repeat its mistakes. Never measure a detector on them."
    if any(source == "pseudo" for part in facts.sets for _, source in part.objects):
        yield (
            "- Objects marked `pseudo` were labelled by a detector; what it missed is not labelled."
        )
    yield from (
        f"- {plain(reason)}: {number}" for reason, number in sorted(facts.lost.items()) if number
    )
    yield from (
        f"- left out when reading: {plain(reason)}: {number}"
        for reason, number in sorted(facts.skipped.items())
    )
    yield ""
