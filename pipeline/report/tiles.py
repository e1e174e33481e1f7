"""The key numbers at the top of the report, each with its comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.report.number_text import count, num, share
from synthaug.pipeline.report.pseudo_labels import RULES
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
    splits = run.manifests["ingest"]["splits"]
    synthetic = run.manifests["synthesize"]
    labelled = count(splits["labelled"]["images"])
    unlabelled = splits.get("unlabelled", {}).get("images", 0)
    images = f"{labelled} labelled images"
    if unlabelled:
        images = f"{labelled} labelled and {count(unlabelled)} unlabelled images"
    if not synthetic["images"]:
        return f"{images} went in; no synthetic images have been made of them yet."
    objects = sum(synthetic["objects"].values())
    classes = sum(1 for number in synthetic["objects"].values() if number)
    per_image = objects / synthetic["images"]
    return (
        f"From {images}, the generator “{run.job.generator.system}” made "
        f"{count(synthetic['images'])} synthetic images with {count(objects)} objects "
        f"({per_image:.1f} per image) of {classes} classes; the plan asked for the class "
        f"distribution “{run.job.plan.target}”."
    )


def tiles(run: Run, rows: Sequence[ClassRow]) -> list[Tile]:
    """Return the key numbers, each with its comparison; tail classes apart."""
    return [
        _real_detector_tile(run),
        _dap_tile(run),
        _cas_tile(run),
        _pseudo_tile(run),
        _tail_tile(run, rows),
        _visible_tile(rows),
    ]


def _real_detector_tile(run: Run) -> Tile:
    label = "Detector AP50 on real images"
    dap = run.score("dap")
    if dap is None:
        return Tile(label, "n/a", None, ["DAP was not measured"])
    real = dap["controls"].get("real", {})
    notes = [
        "validation; the ceiling of DAP",
        f"tail classes {num(real.get('AP50_tail'))}",
    ]
    ap50 = real.get("AP50")
    return Tile(label, num(ap50), Gauge(ap50), notes, real=True)


def _dap_tile(run: Run) -> Tile:
    label = "DAP: AP50 on synthetic images"
    dap = run.score("dap")
    if dap is None:
        return Tile(label, "n/a", None, ["DAP was not measured"])
    ceiling = dap["controls"].get("real", {}).get("AP50")
    floor = dap["controls"].get("shuffled", {}).get("AP50")
    notes = [
        f"{share(dap['value'], ceiling)} of the ceiling {num(ceiling)}",
        f"shuffled floor {num(floor)}",
        *_interval(dap["values"], "AP50"),
    ]
    gauge = Gauge(dap["value"], ceiling, floor)
    return Tile(label, num(dap["value"]), gauge, notes)


def _interval(values: Mapping[str, Any], key: str) -> list[str]:
    """Return a note on the interval of a number, where it has one."""
    low = values.get(f"{key}_low")
    high = values.get(f"{key}_high")
    if low is None or high is None:
        return []
    return [f"95 % interval {num(low)} – {num(high)}"]


def _cas_tile(run: Run) -> Tile:
    label = "CAS: learnt from synthetic, tested on real"
    cas = run.score("cas")
    if cas is None:
        return Tile(label, "n/a", None, ["CAS was not measured"])
    ceiling = cas["controls"].get("real", {}).get("top1")
    chance = cas["values"].get("chance")
    notes = [f"trained on real crops {num(ceiling)}", f"by chance {num(chance)}"]
    gauge = Gauge(cas["value"], ceiling, chance)
    return Tile(label, num(cas["value"]), gauge, notes)


def _pseudo_tile(run: Run) -> Tile:
    label = "Pseudo-labels: precision / recall"
    pseudo = run.manifests["pseudo_label"]
    if not pseudo["images"]:
        return Tile(label, "none", None, ["no unlabelled images"])
    objects = count(sum(pseudo["objects"].values()))
    notes = [f"{objects} objects, {RULES[run.job.pseudo_label.rule]}"]
    quality = (pseudo.get("quality") or {}).get("all")
    if quality is None:
        return Tile(label, "n/a", None, ["the truth is not known", *notes])
    value = f"{num(quality['precision'])} / {num(quality['recall'])}"
    return Tile(label, value, None, ["IoU 0.5", *notes])


def _tail_tile(run: Run, rows: Sequence[ClassRow]) -> Tile:
    label = "Tail classes: DAP AP50"
    tail = [row for row in rows if row.isthing and row.group == "tail"]
    if not tail:
        note = "no thing class has under ⅛ of the labels of the largest"
        return Tile(label, "none", None, [note])
    labelled = count(sum(row.labelled for row in tail))
    synthetic = count(sum(row.made for row in tail))
    dap = run.score("dap") or {"values": {}, "controls": {}}
    value = dap["values"].get("AP50_tail")
    ceiling = dap["controls"].get("real", {}).get("AP50_tail")
    floor = dap["controls"].get("shuffled", {}).get("AP50_tail")
    classes = "1 class" if len(tail) == 1 else f"{len(tail)} classes"
    notes = [
        f"real images {num(ceiling)}",
        f"{classes}: {labelled} labelled, {synthetic} synthetic objects",
        *_interval(dap["values"], "AP50_tail"),
    ]
    return Tile(label, num(value), Gauge(value, ceiling, floor), notes)


def _visible_tile(rows: Sequence[ClassRow]) -> Tile:
    kept = sum(row.made for row in rows)
    dropped = sum(row.dropped for row in rows)
    planned = kept + dropped
    notes = [f"{count(kept)} kept", f"{count(dropped)} dropped without a visible mask"]
    part = kept / planned if planned else None
    return Tile("Planned objects that became visible", share(kept, planned), Gauge(part), notes)
