"""The key numbers at the top of the report, each with what it must be compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.report import pseudo_labels as report_pseudo
from synthaug.pipeline.report.number_text import count, num, share
from synthaug.pipeline.report.tables import ClassRow, Run


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


def summary(run: Run) -> str:
    """Say in one sentence what went in and what came out."""
    splits, made = run.manifests["ingest"]["splits"], run.manifests["synthesize"]
    unlabelled = splits.get("unlabelled", {}).get("images", 0)
    besides = f" and {count(unlabelled)} unlabelled" if unlabelled else ""
    taken = f"{count(splits['labelled']['images'])} labelled{besides} images"
    if not made["images"]:
        return f"{taken} went in; no synthetic images have been made of them yet."
    objects, classes = sum(made["objects"].values()), sum(1 for n in made["objects"].values() if n)
    per_image = f" ({objects / made['images']:.1f} per image)"
    return (
        f"From {taken}, the generator "
        f"“{run.job.generator.system}” made {count(made['images'])} synthetic images with {count(objects)} "
        f"objects{per_image} of {classes} classes; the plan asked for the class distribution “{run.job.plan.target}”."
    )


def tiles(run: Run, rows: Sequence[ClassRow]) -> list[Tile]:
    """The key numbers, each with what it must be compared with; tail classes apart."""
    return [
        *_dap_tiles(run),
        _cas_tile(run),
        _pseudo_tile(run),
        _tail_tile(run, rows),
        _made_tile(rows),
    ]


def _dap_tiles(run: Run) -> list[Tile]:
    dap = run.score("dap")
    labels = ("Detector AP50 on real images", "DAP: AP50 on synthetic images")
    if dap is None:
        return [Tile(label, "n/a", None, ["DAP was not measured"]) for label in labels]
    real, floor = (dap["controls"].get(name, {}).get("AP50") for name in ("real", "shuffled"))
    tail = dap["controls"].get("real", {}).get("AP50_tail")
    notes = [
        f"{share(dap['value'], real)} of the ceiling {num(real)}",
        f"shuffled floor {num(floor)}",
    ]
    notes += _interval(dap["values"], "AP50")
    return [
        Tile(
            labels[0],
            num(real),
            Gauge(real),
            ["validation; the ceiling of DAP", f"tail classes {num(tail)}"],
            True,
        ),
        Tile(labels[1], num(dap["value"]), Gauge(dap["value"], real, floor), notes),
    ]


def _interval(values: Mapping[str, Any], key: str) -> list[str]:
    low, high = (values.get(f"{key}_{side}") for side in ("low", "high"))
    return [] if low is None or high is None else [f"95 % interval {num(low)} – {num(high)}"]


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
    notes = [
        f"{count(sum(pseudo['objects'].values()))} objects, {report_pseudo.RULES[run.job.pseudo_label.rule]}"
    ]
    whole = (pseudo.get("quality") or {}).get("all")
    if whole is None:
        return Tile(label, "n/a", None, ["the truth is not known", *notes])
    return Tile(
        label, f"{num(whole['precision'])} / {num(whole['recall'])}", None, ["IoU 0.5", *notes]
    )


def _tail_tile(run: Run, rows: Sequence[ClassRow]) -> Tile:
    tail, label = (
        [row for row in rows if row.isthing and row.group == "tail"],
        "Tail classes: DAP AP50",
    )
    if not tail:
        return Tile(
            label, "none", None, ["no thing class has under ⅛ of the labels of the largest"]
        )
    before, after = sum(row.labelled for row in tail), sum(row.made for row in tail)
    dap = run.score("dap") or {"values": {}, "controls": {}}
    value, real = dap["values"].get("AP50_tail"), dap["controls"].get("real", {}).get("AP50_tail")
    floor = dap["controls"].get("shuffled", {}).get("AP50_tail")
    classes = f"{len(tail)} class{'es' if len(tail) > 1 else ''}"
    notes = [
        f"real images {num(real)}",
        f"{classes}: {count(before)} labelled, {count(after)} synthetic objects",
    ]
    notes += _interval(dap["values"], "AP50_tail")
    return Tile(label, num(value), Gauge(value, real, floor), notes)


def _made_tile(rows: Sequence[ClassRow]) -> Tile:
    made, dropped = sum(row.made for row in rows), sum(row.dropped for row in rows)
    label = "Planned objects that became visible"
    notes = [f"{count(made)} kept", f"{count(dropped)} dropped without a visible mask"]
    return Tile(
        label,
        share(made, made + dropped),
        Gauge(made / (made + dropped) if made + dropped else None),
        notes,
    )
