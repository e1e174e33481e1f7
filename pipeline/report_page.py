"""What the report says, as tables, charts and sentences: pure functions from manifests to plain data, then to HTML.

Every text of a job or a data file reaches the page through the template's autoescape; nothing here makes markup.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import report_curves, report_pseudo, report_trial
from pipeline.report_pictures import Picture
from pipeline.report_pseudo import PseudoRow, Sheets
from pipeline.scores.detection import frequency_groups
from pipeline.sections import Job

TEMPLATE = Path(__file__).with_name("report.html.j2")
LONG = 60  # rows a table may have before its middle is folded away
ENDS = 25  # rows kept at either end of a long table
CONFUSED = 24  # classes up to which the confusion matrix is shown
GROUPS = ("head", "middle", "tail")

Numbers = Mapping[str, float | None]


@dataclass(frozen=True)
class Run:
    """All that is said without pixels: the job, each step's manifest, the logs of both trainings.

    `logs["evaluation"]` are the evaluations during the detector's training, where there were any.
    """

    job: Job
    manifests: Mapping[str, Mapping[str, Any]]
    logs: Mapping[str, Sequence[Mapping[str, float]]]

    def score(self, name: str) -> Mapping[str, Any] | None:
        """The metric of that name, where it was measured."""
        found: Mapping[str, Any] | None = self.manifests["score"].get("scores", {}).get(name)
        return found


@dataclass(frozen=True)
class Pair:
    """A synthetic image beside the real one its layout came from."""

    made: Picture
    real: Picture | None
    image_id: str
    source: str
    reason: str
    planned: int
    visible: int


@dataclass(frozen=True)
class Samples:
    """Some instances of one class, synthetic and real."""

    index: int  # of the class
    made: Sequence[Picture]
    real: Sequence[Picture]


@dataclass(frozen=True)
class Gallery:
    """The pictures of the page, and how many classes with instances have none on it."""

    pairs: Sequence[Pair] = ()
    classes: Sequence[Samples] = ()
    not_shown: int = 0
    labels: Sheets = field(default=Sheets())


@dataclass(frozen=True)
class Gauge:
    """A number in [0, 1] with what to compare it with, for a small bar."""

    value: float | None
    ceiling: float | None = None
    floor: float | None = None


@dataclass(frozen=True)
class Tile:
    """A key number."""

    label: str
    value: str
    gauge: Gauge | None
    notes: Sequence[str]
    real: bool = False  # the number is about real images


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

    @property
    def gain(self) -> str:
        """How many times as many instances there are with the synthetic ones."""
        return f"{(self.labelled + self.made) / self.labelled:,.1f}×" if self.labelled else "new" if self.made else "–"


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


def num(value: float | None) -> str:
    """A share or a score; n/a where there is none."""
    return "n/a" if value is None else f"{value:.3f}"


def count(value: float | None) -> str:
    """A whole number, grouped by thousands."""
    return "n/a" if value is None else f"{round(value):,}"


def share(part: float | None, whole: float | None) -> str:
    """How much of the whole a part is, in percent."""
    return f"{100 * part / whole:.0f} %" if part is not None and whole else "n/a"


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
        rows.append(
            ClassRow(index, name, category["isthing"], group_of[index], *numbers, made["objects"].get(name, 0), dropped)
        )
    return sorted(rows, key=lambda row: (not row.isthing, -row.labelled, row.index))


def summary(run: Run) -> str:
    """Say in one sentence what went in and what came out."""
    splits, made = run.manifests["ingest"]["splits"], run.manifests["synthesize"]
    unlabelled = splits.get("unlabelled", {}).get("images", 0)
    besides = f" and {count(unlabelled)} unlabelled" if unlabelled else ""
    objects, classes = sum(made["objects"].values()), sum(1 for n in made["objects"].values() if n)
    per_image = f" ({objects / made['images']:.1f} per image)" if made["images"] else ""
    return (
        f"From {count(splits['labelled']['images'])} labelled{besides} images, the generator "
        f"“{run.job.generator.system}” made {count(made['images'])} synthetic images with {count(objects)} "
        f"objects{per_image} of {classes} classes; the plan asked for the class distribution “{run.job.plan.target}”."
    )


def tiles(run: Run, rows: Sequence[ClassRow]) -> list[Tile]:
    """The key numbers, each with what it must be compared with; tail classes apart."""
    return [*_dap_tiles(run), _cas_tile(run), _pseudo_tile(run), _tail_tile(run, rows), _made_tile(rows)]


def _dap_tiles(run: Run) -> list[Tile]:
    dap = run.score("dap")
    labels = ("Detector AP50 on real images", "DAP: AP50 on synthetic images")
    if dap is None:
        return [Tile(label, "n/a", None, ["DAP was not measured"]) for label in labels]
    real, floor = (dap["controls"].get(name, {}).get("AP50") for name in ("real", "shuffled"))
    tail = dap["controls"].get("real", {}).get("AP50_tail")
    bounds = [dap["values"].get(f"AP50_{side}") for side in ("low", "high")]
    notes = [f"{share(dap['value'], real)} of the ceiling {num(real)}", f"shuffled floor {num(floor)}"]
    notes += [f"95 % interval {num(bounds[0])} – {num(bounds[1])}"] if None not in bounds else []
    return [
        Tile(labels[0], num(real), Gauge(real), ["validation; the ceiling of DAP", f"tail classes {num(tail)}"], True),
        Tile(labels[1], num(dap["value"]), Gauge(dap["value"], real, floor), notes),
    ]


def _cas_tile(run: Run) -> Tile:
    cas, label = run.score("cas"), "CAS: learnt from synthetic, tested on real"
    if cas is None:
        return Tile(label, "n/a", None, ["CAS was not measured"])
    real, chance = cas["controls"].get("real", {}).get("top1"), cas["values"].get("chance")
    notes = [f"trained on real crops {num(real)}", f"by chance {num(chance)}"]
    return Tile(label, num(cas["value"]), Gauge(cas["value"], real, chance), notes)


def _pseudo_tile(run: Run) -> Tile:
    pseudo, label = run.manifests["pseudo_label"], "Pseudo-labels: precision / recall"
    if not pseudo["images"]:
        return Tile(label, "none", None, ["no unlabelled images"])
    notes = [f"{count(sum(pseudo['objects'].values()))} objects, {report_pseudo.RULES[run.job.pseudo_label.rule]}"]
    whole = (pseudo.get("quality") or {}).get("all")
    if whole is None:
        return Tile(label, "n/a", None, ["the truth is not known", *notes])
    return Tile(label, f"{num(whole['precision'])} / {num(whole['recall'])}", None, ["IoU 0.5", *notes])


def _tail_tile(run: Run, rows: Sequence[ClassRow]) -> Tile:
    tail, label = [row for row in rows if row.isthing and row.group == "tail"], "Tail classes: DAP AP50"
    if not tail:
        return Tile(label, "none", None, ["no thing class has under ⅛ of the labels of the largest"])
    before, after = sum(row.labelled for row in tail), sum(row.made for row in tail)
    dap = run.score("dap") or {"values": {}, "controls": {}}
    value, real = dap["values"].get("AP50_tail"), dap["controls"].get("real", {}).get("AP50_tail")
    floor = dap["controls"].get("shuffled", {}).get("AP50_tail")
    classes = f"{len(tail)} class{'es' if len(tail) > 1 else ''}"
    notes = [f"real images {num(real)}", f"{classes}: {count(before)} labelled, {count(after)} synthetic objects"]
    return Tile(label, num(value), Gauge(value, real, floor), notes)


def _made_tile(rows: Sequence[ClassRow]) -> Tile:
    made, dropped = sum(row.made for row in rows), sum(row.dropped for row in rows)
    label = "Planned objects that became visible"
    notes = [f"{count(made)} kept", f"{count(dropped)} dropped without a visible mask"]
    return Tile(label, share(made, made + dropped), Gauge(made / (made + dropped) if made + dropped else None), notes)


def dap_rows(run: Run, rows: Sequence[ClassRow]) -> list[tuple[ClassRow, Numbers]]:
    """The measured classes with their numbers on synthetic and (`real_...`) on real images."""
    return _measured(run, "dap", rows)


def cas_rows(run: Run, rows: Sequence[ClassRow]) -> list[tuple[ClassRow, Numbers]]:
    """The classes the classifier knows, with its accuracy."""
    return _measured(run, "cas", rows)


def _measured(run: Run, score: str, rows: Sequence[ClassRow]) -> list[tuple[ClassRow, Numbers]]:
    per_class = (run.score(score) or {}).get("per_class", {})
    return [(row, per_class[row.name]) for row in rows if row.name in per_class]


def group_rows(run: Run, rows: Sequence[ClassRow]) -> list[tuple[str, int, Sequence[Numbers]]]:
    """(Group, its classes, AP and AP50 on [synthetic, real, shuffled]) over all things and per frequency group."""
    dap = run.score("dap")
    if dap is None:
        return []
    sources = [dap["values"], dap["controls"].get("real", {}), dap["controls"].get("shuffled", {})]
    table: list[tuple[str, int, Sequence[Numbers]]] = []
    for group in ("", *GROUPS):
        suffix = f"_{group}" if group else ""
        numbers = [{key: source.get(f"{key}{suffix}") for key in ("AP", "AP50")} for source in sources]
        size = sum(1 for row in rows if row.isthing and group in ("", row.group))
        table.append((group or "all things", size, numbers))
    return table


def cas_groups(run: Run, rows: Sequence[ClassRow]) -> list[tuple[str, int, float | None, float | None]]:
    """(Group, classes with test crops, mean accuracy learnt from synthetic, from real crops)."""
    known = [(row, numbers) for row, numbers in cas_rows(run, rows) if numbers.get("accuracy") is not None]
    table = []
    for group in ("", *GROUPS):
        members = [numbers for row, numbers in known if group in ("", row.group)]
        made, real = (_mean([numbers.get(key) for numbers in members]) for key in ("accuracy", "real_accuracy"))
        table.append((group or "all", len(members), made, real))
    return table


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def pseudo_rows(run: Run, rows: Sequence[ClassRow]) -> list[tuple[ClassRow, PseudoRow]]:
    """Classes with detections in the unlabelled images, or with truth there or in the validation images."""
    pseudo, learnt = run.manifests["pseudo_label"], run.manifests["calibrate"]
    told = [(row, report_pseudo.class_row(row.name, pseudo, learnt, run.job.pseudo_label.rule)) for row in rows]
    return [
        (row, found) for row, found in told if found.found or found.kept or found.truths or found.truth.get("truth")
    ]


def losses(run: Run, rows: Sequence[ClassRow]) -> list[tuple[str, str, int]]:
    """(Where, what, how many) of all that was skipped or dropped on the way; empty when nothing was."""
    found: list[tuple[str, str, int]] = []
    for split, told in run.manifests["ingest"]["splits"].items():
        found += [(f"{split} set", str(reason), number) for reason, number in sorted(told["skipped"].items()) if number]
    rule = "images outside generator.min_objects, max_objects or min_area"
    for name, number in run.manifests["train_generator"].get("left_out", {}).items():
        found += [(f"generator training, {name.replace('_', '-')}", rule, number)] if number else []
    left_out = run.manifests["score"].get("validation", {}).get("left_out", 0)
    found += [("scores, validation", rule, left_out)] if left_out else []
    found += [("synthesis", f"“{row.name}” without a visible mask", row.dropped) for row in rows if row.dropped]
    return found


def misses(rows: Sequence[ClassRow]) -> list[ClassRow]:
    """Classes planned more than a tenth (and more than two objects) away from their target."""
    return [row for row in rows if abs(row.planned - row.target) > max(2, 0.1 * row.target)]


def cards(run: Run) -> list[dict[str, Any]]:
    """Every metric with all its numbers and how it was made."""
    found = []
    for name, metric in run.manifests["score"].get("scores", {}).items():
        card = {key: _words(value) for key, value in metric["card"].items() if key != "confusion"}
        columns = [("", metric["values"]), *metric["controls"].items()]
        names = sorted({key for _, numbers in columns for key in numbers})
        table = [(key, [numbers.get(key) for _, numbers in columns]) for key in names]
        found.append(
            {"name": name, "columns": [column or "value" for column, _ in columns], "table": table, "card": card}
        )
    return found


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def confusion(run: Run) -> list[tuple[str, list[tuple[int, float]]]]:
    """(True class, [(crops, share of them) per answer]) of CAS, for sets with few classes."""
    cas = run.score("cas") or {}
    matrix = cas.get("card", {}).get("confusion", [])
    # The matrix is in the order of the classes; the keys of a manifest have been sorted.
    names = [c["name"] for c in run.manifests["ingest"]["classes"] if c["name"] in cas.get("per_class", {})]
    if len(matrix) > CONFUSED:
        return []
    pairs = zip(names, matrix, strict=True)
    return [(name, [(n, round(n / sum(row), 2) if sum(row) else 0.0) for n in row]) for name, row in pairs]


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
        name: run.manifests[name].get("sha256", "") for name in ("train_detector", "self_train", "train_generator")
    }
    return {
        "yaml": yaml.safe_dump(content, sort_keys=False, allow_unicode=True),
        "versions": {package: ", ".join(sorted(found)) for package, found in sorted(versions.items())},
        "steps": [
            (name, m.get("seconds"), m.get("key", ""), digests.get(name, "")) for name, m in run.manifests.items()
        ],
        "sha256": run.job.sha256(),
    }


def render(run: Run, gallery: Gallery) -> bytes:
    """Return the page, UTF-8."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    files = FileSystemLoader(TEMPLATE.parent)
    environment = Environment(
        autoescape=True, loader=files, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"num": num, "count": count}
    rows = class_rows(run)
    most = max([max(row.labelled + row.pseudo, row.made, row.target) for row in rows], default=0)
    page = environment.get_template(TEMPLATE.name).render(
        job=run.job,
        title=run.job.report.title or run.job.name,
        summary=summary(run),
        trial=Markup(report_trial.section(run.manifests.get("trial", {}))),  # noqa: S704 (escaped by its own template)
        tiles=tiles(run, rows),
        parts=[
            (part, fold([r for r in rows if r.isthing is flag])) for part, flag in (("things", True), ("stuff", False))
        ],
        most=most or 1,
        by_index={row.index: row for row in rows},
        gallery=gallery,
        scores=run.manifests["score"].get("scores", {}),
        groups=group_rows(run, rows),
        dap=fold(dap_rows(run, rows)),
        cas=fold(cas_rows(run, rows)),
        cas_groups=cas_groups(run, rows),
        confusion=confusion(run),
        cards=cards(run),
        taught=run.manifests["self_train"],
        pseudo=run.manifests["pseudo_label"],
        pseudo_rows=fold(pseudo_rows(run, rows)),
        trust=report_pseudo.trust(run.manifests["calibrate"], run.job.pseudo_label.rule),
        charts=[Markup(svg) for svg in report_curves.charts(run.logs)],  # noqa: S704 - escaped where it is drawn
        chosen=report_curves.chosen(run.manifests["train_detector"]),
        losses=losses(run, rows),
        misses=fold(misses(rows)),
        provenance=provenance(run),
    )
    return f"{page.strip()}\n".encode()
