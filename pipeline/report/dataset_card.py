"""The README.md of an exported data set: what is in it, how it was made, what it is known to be worth, what is missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from synthaug.pipeline.core.scene import Category

_SPECIAL = re.compile(r"[\\`*_{}\[\]#|~!]")
_LICENCE = "# license: for whoever publishes this to choose; it must allow what the licences of all source images allow\n"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
OPENING = {
    "coco": 'CocoDetection("train/images", "train/instances.json")  # torchvision.datasets',
    "hf": 'load_dataset("/path/of/this/folder")  # datasets',
    "lvis": 'load_lvis_json("lvis_train.json", "images/")  # detectron2.data.datasets',
    "voc": 'load_voc_instances("/path/of/this/folder", "train", names)  # detectron2.data.datasets',
    "yolo": 'YOLO("yolo11n.pt").train(data="/path/of/this/folder/data.yaml")  # ultralytics',
}


@dataclass
class SetCounts:
    """What one data set brought to one split."""

    split: str
    name: str
    images: int
    objects: Counter[tuple[int, str]] = field(
        default_factory=Counter
    )  # (class index, source), without ignore regions
    ignored: int = 0  # regions
    index: Sequence[int] | None = None  # class index of the set -> of the export; None = the same

    def of(self, category: int, source: str) -> int:
        """Objects of a class of the export from one source."""
        own = (
            category
            if self.index is None
            else (list(self.index).index(category) if category in self.index else -1)
        )
        return self.objects[own, source]


@dataclass(frozen=True)
class RunFacts:
    """What a run left behind, as its JSON files say it."""

    metrics: Mapping[str, Any]  # metrics.json
    seed: int | None


@dataclass(frozen=True)
class Facts:
    """Everything a card says."""

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
    """Return a text, such as a class name, so that Markdown and HTML show it as it is, on one line."""
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    line = "".join(c for c in line if c.isprintable())
    return _SPECIAL.sub(
        r"\\\g<0>", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    )


def card(facts: Facts) -> str:
    """Return the whole file: front matter as Hugging Face reads it, then the text."""
    return "\n".join([_front(facts), *_body(facts)]) + "\n"


def _front(facts: Facts) -> str:
    images = sum(part.images for part in facts.sets)
    size = next((name for limit, name in _SIZES if images < limit), "n>1M")
    head: dict[str, Any] = {
        "pretty_name": facts.title.encode("utf-8", "replace").decode(),
        "task_categories": ["object-detection"],
        "size_categories": [size],
        "tags": ["synthaug", *(["synthetic"] if facts.run else [])],
    }
    if facts.data_files:
        files = [{"split": split, "path": pattern} for split, pattern in facts.data_files]
        head["configs"] = [{"config_name": "default", "data_files": files}]
    return f"---\n{_LICENCE}{yaml.safe_dump(head, sort_keys=False)}---\n"


def _body(facts: Facts) -> Iterator[str]:
    yield f"# {plain(facts.title)}\n"
    kinds = ", ".join(dict.fromkeys(part.name for part in facts.sets))
    yield f"Images with labelled objects ({kinds}), written by synthaug {plain(facts.version)} as `{facts.format}`.\n"
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
    yield "Not chosen yet. Real images keep the licences they came with; put the choice into the first lines of this file.\n"


def _contents(facts: Facts) -> Iterator[str]:
    rows = [(p.split, p.name, p.images, sum(p.objects.values()), p.ignored) for p in facts.sets]
    yield _table(("split", "set", "images", "objects", "ignore regions"), rows)
    keys = [(p.split, source) for p in facts.sets for source in sorted({s for _, s in p.objects})]
    keys = list(dict.fromkeys(keys))
    lines = []
    for k, category in enumerate(facts.categories):
        counts = [
            sum(p.of(k, source) for p in facts.sets if p.split == split) for split, source in keys
        ]
        lines.append(
            (category.id, plain(category.name) + ("" if category.isthing else " (stuff)"), *counts)
        )
    yield _table(("id", "class", *(f"{split}: {source}" for split, source in keys)), lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return (
        "\n".join([*lines, *(f"| {' | '.join(str(value) for value in row)} |" for row in rows)])
        + "\n"
    )


def _making(run: RunFacts) -> Iterator[str]:
    metrics = run.metrics
    scores = metrics.get("scores", {})
    sums = {
        key: s["card"][key]
        for s in scores.values()
        for key in s.get("card", {})
        if key.endswith("_sha256")
    }
    yield f"- Job `{metrics.get('job', '')}`, seed {run.seed}, sha256 `{metrics.get('job_sha256', '')}`"
    yield from (
        f"- {plain(key.removesuffix('_sha256'))}: sha256 `{value}`"
        for key, value in sorted(sums.items())
    )
    made = metrics.get("synthetic", {})
    dropped = sum(made.get("dropped", {}).values())
    yield f"- {made.get('images', 0)} synthetic images made; {dropped} objects dropped because too little of them showed"
    yield "- Each synthetic image names its seed, generator, checkpoint and the real image whose layout it follows"
    versions = metrics.get("versions", {})
    yield f"- {', '.join(f'{plain(name)} {plain(str(number))}' for name, number in versions.items())}\n"
    yield from _verification(metrics.get("verified") or {})


def _verification(told: Mapping[str, Any]) -> Iterator[str]:
    """What the detector that looked for every synthetic object said; nothing where that step did not run."""
    if not told.get("enabled"):
        yield "No detector checked whether the synthetic objects are where their labels say.\n"
        return
    verdicts = {
        k: v
        for k, v in told.items()
        if isinstance(v, Mapping) and v and k not in ("images", "objects", "judge", "policy")
    }
    counts = {k: v for k, v in verdicts.items() if all(isinstance(n, int) for n in v.values())}
    yield "A detector that had no part in making them looked for every synthetic object:\n"
    yield _table(
        ("verdict", "objects"),
        [(plain(k.replace("_", " ")), sum(v.values())) for k, v in counts.items()],
    )
    yield _table(("images", "number"), [(plain(k), v) for k, v in told.get("images", {}).items()])


def _worth(run: RunFacts) -> Iterator[str]:
    says = run.metrics.get("trial", {}).get("says", [])
    if says:
        yield "Trained with and without it, same budget, paired seeds:\n"
        yield from (f"- {plain(line)}" for line in says)
        yield ""
    else:
        yield "No trial was run: whether training on it helps a detector is not known (`synthaug trial`).\n"
    for name, score in run.metrics.get("scores", {}).items():
        values, told = score.get("values", {}), score.get("card", {})
        key = told.get("headline_key") or next(
            (k for k, v in values.items() if v == score.get("value")), ""
        )
        beside = {
            c: numbers.get(key)
            for c, numbers in score.get("controls", {}).items()
            if isinstance(numbers, Mapping)
        }
        shown = [f"{plain(c)} {_number(v)}" for c, v in beside.items() if v is not None]
        yield f"- **{plain(name.upper())}** {_number(score.get('value'))}" + (
            f" ({', '.join(shown)})" if shown else ""
        )
        for item, value in told.items():
            if isinstance(value, (str, int, float)) and not item.endswith(("_sha256", "_key")):
                yield f"  - {plain(item.replace('_', ' '))}: {plain(str(value))}"
    for name, reason in run.metrics.get("scores_unavailable", {}).items():
        yield f"- {plain(name.upper())} was not measured: {plain(str(reason))}"
    yield ""


def _number(value: Any) -> str:
    return "none" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _limits(facts: Facts) -> Iterator[str]:
    if facts.run:
        yield "- Synthetic images come from a generator trained on the labelled images: they show no class and no place that"
        yield "  was not there, and may repeat its mistakes. Never measure a detector on them."
    if any(source == "pseudo" for part in facts.sets for _, source in part.objects):
        yield "- Objects marked `pseudo` were labelled by a detector; what it missed is not labelled."
    yield from (
        f"- {plain(reason)}: {number}" for reason, number in sorted(facts.lost.items()) if number
    )
    yield from (
        f"- left out when reading: {plain(reason)}: {number}"
        for reason, number in sorted(facts.skipped.items())
    )
    yield ""
