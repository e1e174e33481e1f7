"""The counts behind every part of the report.

A run's manifests, its classes, what was lost, how it was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.links import Link
from synthaug.pipeline.report.number_text import share
from synthaug.pipeline.scores.detection.evaluator import frequency_groups

LONG = 60  # rows a table may have before its middle is folded away
ENDS = 25  # rows kept at either end of a long table
GROUPS = ("head", "middle", "tail")

Numbers = Mapping[str, float | None]

UNDONE: Mapping[str, Manifest] = {  # manifests of steps that did not run
    "train_detector": {},
    "self_train": {"steps": 0},
    "calibrate": {"classes": {}},
    "pseudo_label": {"images": 0, "objects": {}, "quality": None},
    "train_generator": {},
    "plan": {"images": 0, "classes": {}},
    "synthesize": {"images": 0, "objects": {}, "dropped": {}},
    "verify": {},
    "export": {},
    "score": {"scores": {}},
    "trial": {"seeds": 0},
}


@dataclass(frozen=True)
class Run:
    """A run without its pixels: job, each step's manifest, logs of the trainings.

    `logs["evaluation"]` are the evaluations during the detector's training, where there were any.
    """

    job: Job
    manifests: Mapping[str, Manifest]
    logs: Mapping[str, Sequence[Mapping[str, float]]]
    missing: Sequence[str] = ()  # steps that are not done
    notes: Sequence[str] = ()  # for readers of a page of an unfinished or changed run
    links: Sequence[Link] = ()  # of the chain, as far as they were measured

    @property
    def verified(self) -> bool:
        """Whether a detector checked the synthetic objects."""
        return bool(self.manifests.get("verify", {}).get("enabled"))

    def score(self, name: str) -> Mapping[str, Any] | None:
        """Return the metric of that name, where it was measured."""
        return self.scores.get(name)

    @property
    def scores(self) -> dict[str, Mapping[str, Any]]:
        """Every metric that any step measured, by name."""
        scores: dict[str, Mapping[str, Any]] = {}
        for manifest in self.manifests.values():
            scores.update(manifest.get("scores", {}))
        return scores


@dataclass(frozen=True)
class ClassRow:
    """One class from its labels to the finished set."""

    index: int
    name: str
    isthing: bool
    group: str  # head | middle | tail | unseen
    labelled: int
    pseudo: int
    target: int
    planned: int
    made: int  # synthesized
    dropped: int
    left: int | None = None  # labels after verification, where there was one
    ap50: float | None = None  # on synthetic images
    real_ap50: float | None = None
    judged: bool = True  # whether verification has a judge for it

    @property
    def yields(self) -> str:
        """Return the share of the synthetic objects whose labels verification left.

        A dash where none was verified.
        """
        if self.left is None or not self.judged:
            return "–"
        return share(self.left, self.made)

    @property
    def gain(self) -> str:
        """How many times as many instances there are with the synthetic ones."""
        if self.labelled:
            return f"{(self.labelled + self.made) / self.labelled:,.1f}×"
        return "new" if self.made else "–"


@dataclass(frozen=True)
class FoldedTable:
    """The rows of a table; a long one shows its ends, and all of it on demand."""

    first: Sequence[Any]
    last: Sequence[Any] = ()
    all: Sequence[Any] = field(default=())

    @property
    def hidden(self) -> int:
        """Rows between the two ends."""
        return max(0, len(self.all) - len(self.first) - len(self.last))


def fold(rows: Sequence[Any]) -> FoldedTable:
    """Shorten a long table to its ends: the most frequent and the rarest classes."""
    if len(rows) <= LONG:
        return FoldedTable(rows)
    return FoldedTable(rows[:ENDS], rows[-ENDS:], rows)


def class_rows(run: Run) -> list[ClassRow]:
    """Return the classes by the number of their labels, most first.

    Things before stuff.
    """
    categories = run.manifests["ingest"]["classes"]
    labels = run.manifests["ingest"]["splits"]["labelled"]["objects"]
    pseudo = run.manifests["pseudo_label"].get("objects", {})
    plan = run.manifests["plan"]["classes"]
    synthetic = run.manifests["synthesize"]
    dap = (run.score("dap") or {}).get("per_class", {})
    unjudged = run.manifests["verify"].get("not_judged", {})
    labelled = [labels.get(category["name"], 0) for category in categories]
    group_of = {}
    for group, members in frequency_groups(labelled).items():
        group_of.update(dict.fromkeys(members, group))
    rows = []
    for index, category in enumerate(categories):
        name = category["name"]
        planned = plan.get(name, {})
        measured = dap.get(name, {})
        left = None
        if run.verified:
            left = run.manifests["verify"]["objects"].get(name, 0)
        rows.append(
            ClassRow(
                index=index,
                name=name,
                isthing=category["isthing"],
                group=group_of[index],
                labelled=labelled[index],
                pseudo=pseudo.get(name, 0),
                target=round(planned.get("target", 0)),
                planned=planned.get("planned", 0),
                made=synthetic["objects"].get(name, 0),
                dropped=synthetic["dropped"].get(name, 0),
                left=left,
                ap50=measured.get("AP50"),
                real_ap50=measured.get("real_AP50"),
                judged=not unjudged.get(name),
            )
        )
    return sorted(rows, key=lambda row: (not row.isthing, -row.labelled, row.index))


def losses(run: Run, rows: Sequence[ClassRow]) -> list[tuple[str, str, int]]:
    """Return (where, what, how many) of all that was skipped or dropped on the way.

    Empty when nothing was.
    """
    lost: list[tuple[str, str, int]] = []
    for split, entry in run.manifests["ingest"]["splits"].items():
        for reason, number in sorted(entry["skipped"].items()):
            lost.append((f"{split} set", str(reason), number))
    rule = "images outside generator.min_objects, max_objects or min_area"
    for name, number in run.manifests["train_generator"].get("left_out", {}).items():
        lost.append((f"generator training, {name.replace('_', '-')}", rule, number))
    validation = run.manifests["score"].get("validation", {})
    left_out = validation.get("left_out", 0)
    lost.append(("scores, validation", rule, left_out))
    for row in rows:
        lost.append(("synthesis", f"“{row.name}” without a visible mask", row.dropped))
    return [(where, what, number) for where, what, number in lost if number]


def misses(rows: Sequence[ClassRow]) -> list[ClassRow]:
    """Return the classes planned far away from their target.

    More than a tenth, and more than two objects.
    """
    missed = []
    for row in rows:
        away = abs(row.planned - row.target)
        if away > max(2, 0.1 * row.target):
            missed.append(row)
    return missed


def provenance(run: Run) -> Json:
    """Return the job, versions, times and digests.

    Where it ran is left out: it changes nothing and is nobody's business.
    """
    import yaml

    content = yaml.safe_load(run.job.to_yaml())
    content = {key: content[key] for key in content if key not in ("output", "cluster")}
    digests = {}
    for name in ("train_detector", "self_train", "train_generator"):
        digests[name] = run.manifests[name].get("sha256", "")
    steps = []
    for name, manifest in run.manifests.items():
        if "key" in manifest:
            digest = digests.get(name, "")
            steps.append((name, manifest.get("seconds"), manifest["key"], digest))
    return {
        "yaml": yaml.safe_dump(content, sort_keys=False, allow_unicode=True),
        "versions": versions(run),
        "steps": steps,
        "sha256": run.job.sha256(),
    }


def versions(run: Run) -> dict[str, str]:
    """Return the versions of every package with which steps ran, by package."""
    used: dict[str, set[str]] = {}
    for manifest in run.manifests.values():
        for package, version in manifest.get("versions", {}).items():
            used.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(used[package])) for package in sorted(used)}
