"""What every part of the report counts from: a run's manifests, its classes, what was lost, how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.report.number_text import share
from synthaug.pipeline.scores.detection.evaluator import frequency_groups

LONG = 60  # rows a table may have before its middle is folded away
ENDS = 25  # rows kept at either end of a long table
GROUPS = ("head", "middle", "tail")

Numbers = Mapping[str, float | None]

UNDONE: Mapping[str, Mapping[str, Any]] = {  # what a step's manifest would say before it ran
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
    """All that is said without pixels: the job, each step's manifest, the logs of both trainings.

    `logs["evaluation"]` are the evaluations during the detector's training, where there were any.
    """

    job: Job
    manifests: Mapping[str, Mapping[str, Any]]
    logs: Mapping[str, Sequence[Mapping[str, float]]]
    missing: Sequence[str] = ()  # steps that are not done
    notes: Sequence[
        str
    ] = ()  # what a reader of a page made from an unfinished or changed run must know

    @property
    def verified(self) -> bool:
        """Whether a detector looked for the synthetic objects."""
        return bool(self.manifests.get("verify", {}).get("enabled"))

    def score(self, name: str) -> Mapping[str, Any] | None:
        """The metric of that name, where it was measured."""
        return self.scores.get(name)

    @property
    def scores(self) -> dict[str, Mapping[str, Any]]:
        """Every metric that any step measured, by name."""
        return {
            name: metric
            for told in self.manifests.values()
            for name, metric in told.get("scores", {}).items()
        }


@dataclass(frozen=True)
class ClassRow:
    """What happened to one class from the labels to the finished set."""

    index: int
    name: str
    isthing: bool
    group: str  # head | middle | tail | unseen
    labelled: int
    pseudo: int
    target: int
    planned: int
    made: int
    dropped: int
    left: int | None = None  # labels after verification, where there was one
    ap50: float | None = None  # on synthetic images
    real_ap50: float | None = None

    @property
    def yields(self) -> str:
        """The share of the produced objects whose labels verification left."""
        return "–" if self.left is None else share(self.left, self.made)

    @property
    def gain(self) -> str:
        """How many times as many instances there are with the synthetic ones."""
        return (
            f"{(self.labelled + self.made) / self.labelled:,.1f}×"
            if self.labelled
            else "new"
            if self.made
            else "–"
        )


@dataclass(frozen=True)
class Folded:
    """The rows of a table; a long one shows its ends, and the whole on demand."""

    first: Sequence[Any]
    last: Sequence[Any] = ()
    whole: Sequence[Any] = field(default=())

    @property
    def hidden(self) -> int:
        """Rows between the two ends."""
        return max(0, len(self.whole) - len(self.first) - len(self.last))


def fold(rows: Sequence[Any]) -> Folded:
    """Shorten a long table to its ends: the most frequent and the rarest classes."""
    return Folded(rows) if len(rows) <= LONG else Folded(rows[:ENDS], rows[-ENDS:], rows)


def class_rows(run: Run) -> list[ClassRow]:
    """Things before stuff, each by how many labels there are, most first."""
    ingest, plan, made = (run.manifests[name] for name in ("ingest", "plan", "synthesize"))
    labelled = ingest["splits"]["labelled"]["objects"]
    pseudo = run.manifests["pseudo_label"].get("objects", {})
    found = [labelled.get(c["name"], 0) for c in ingest["classes"]]
    group_of = {c: name for name, classes in frequency_groups(found).items() for c in classes}
    rows = []
    for index, category in enumerate(ingest["classes"]):
        name, planned = category["name"], plan["classes"].get(category["name"], {})
        target, dropped = round(planned.get("target", 0)), made["dropped"].get(name, 0)
        numbers = (found[index], pseudo.get(name, 0), target, planned.get("planned", 0))
        kind = (name, category["isthing"], group_of[index])
        rows.append(
            ClassRow(
                index, *kind, *numbers, made["objects"].get(name, 0), dropped, **_worth(run, name)
            )
        )
    return sorted(rows, key=lambda row: (not row.isthing, -row.labelled, row.index))


def _worth(run: Run, name: str) -> dict[str, Any]:
    """What verification and DAP say of a class."""
    dap = (run.score("dap") or {}).get("per_class", {}).get(name, {})
    left = run.manifests["verify"]["objects"].get(name, 0) if run.verified else None
    return {"left": left, "ap50": dap.get("AP50"), "real_ap50": dap.get("real_AP50")}


def losses(run: Run, rows: Sequence[ClassRow]) -> list[tuple[str, str, int]]:
    """(Where, what, how many) of all that was skipped or dropped on the way; empty when nothing was."""
    found: list[tuple[str, str, int]] = []
    for split, told in run.manifests["ingest"]["splits"].items():
        found += [
            (f"{split} set", str(reason), number)
            for reason, number in sorted(told["skipped"].items())
            if number
        ]
    rule = "images outside generator.min_objects, max_objects or min_area"
    for name, number in run.manifests["train_generator"].get("left_out", {}).items():
        found += [(f"generator training, {name.replace('_', '-')}", rule, number)] if number else []
    left_out = run.manifests["score"].get("validation", {}).get("left_out", 0)
    found += [("scores, validation", rule, left_out)] if left_out else []
    found += [
        ("synthesis", f"“{row.name}” without a visible mask", row.dropped)
        for row in rows
        if row.dropped
    ]
    return found


def misses(rows: Sequence[ClassRow]) -> list[ClassRow]:
    """Classes planned more than a tenth (and more than two objects) away from their target."""
    return [row for row in rows if abs(row.planned - row.target) > max(2, 0.1 * row.target)]


def provenance(run: Run) -> dict[str, Any]:
    """The job, versions, times and digests; without where it ran, which changes nothing and is nobody's business."""
    import yaml

    told = yaml.safe_load(run.job.to_yaml())
    content = {key: value for key, value in told.items() if key not in ("output", "cluster")}
    versions: dict[str, set[str]] = {}
    for manifest in run.manifests.values():
        for package, version in manifest.get("versions", {}).items():
            versions.setdefault(package, set()).add(version)
    digests = {
        name: run.manifests[name].get("sha256", "")
        for name in ("train_detector", "self_train", "train_generator")
    }
    return {
        "yaml": yaml.safe_dump(content, sort_keys=False, allow_unicode=True),
        "versions": {
            package: ", ".join(sorted(found)) for package, found in sorted(versions.items())
        },
        "steps": [
            (name, m.get("seconds"), m["key"], digests.get(name, ""))
            for name, m in run.manifests.items()
            if "key" in m
        ],
        "sha256": run.job.sha256(),
    }
