"""A run that never happened.

Scene tables, manifests and logs of toy data, for tests of what is made of a finished run.
"""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.boxes import clip_boxes
from synthaug.pipeline.core.images import decode, encode
from synthaug.pipeline.core.scene import ImageRef, Objects, Provenance, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.scores.card import Metric
from synthaug.pipeline.scores.detection.evaluator import frequency_groups
from synthaug.pipeline.steps import report
from tests import paths

BASE = paths.JOBS / "base.yaml"


def synthetic(scene, index, job):
    """A toy scene as if it had been planned and drawn.

    Its largest stuff gone, its pixels blurred by a pixel.
    """
    objects = scene.objects
    made = Provenance(
        index,
        "lostgan",
        "c0ffee",
        scene.image_id,
        "balanced: +windmill -tree" if index % 2 else "natural: as in the source",
    )
    n = len(objects)
    drawn = replace(
        objects,
        source=("synthetic",) * n,
        layout_boxes=clip_boxes(objects.boxes + np.float32(1.5), scene.size),
        id=index * 10_000 + 1 + np.arange(n),
    )
    pixels = decode(scene)
    blurred = ((pixels.astype(int) + np.roll(pixels, 1, 0) + np.roll(pixels, 1, 1)) // 3).astype(
        np.uint8
    )
    name = f"{job.name}-{index:08d}"
    layout = Scene(
        name,
        scene.height,
        scene.width,
        ImageRef(),
        replace(drawn, boxes=drawn.layout_boxes, rle=(None,) * n),
        None,
        made,
    )
    return layout, Scene(
        name,
        scene.height,
        scene.width,
        ImageRef(encode(blurred, "png"), name),
        drawn.select(np.arange(n) != n - 1),
        None,
        made,
    )


def tables(root, job, categories, labelled=24, images=16, empty=False):
    """Write scene tables `labelled`, `plan` and `synthesize`.

    Return objects per class in labelled and synthetic.
    """
    source = toy.read(toy.Config("train"), Path())
    real = [source[i] for i in range(labelled)]
    if empty:
        real = [scene.with_objects(Objects.build([], [])) for scene in real]
    pairs = [synthetic(real[i % labelled], i, job) for i in range(images)]
    kept = {
        "ingest/labelled": real,
        "plan": [a for a, _ in pairs],
        "synthesize": [b for _, b in pairs],
    }
    for name, scenes in {**kept, "pseudo_label": pseudo_labelled(real)}.items():
        with parquet.ShardWriter(
            Folder.at(root / name), "part-00000.parquet", categories
        ) as writer:
            writer.write(scenes)
    return [
        Counter(categories[c].name for s in scenes for c in s.objects.category.tolist())
        for scenes in kept.values()
    ]


def pseudo_labelled(scenes):
    """The scenes as if a detector had labelled them.

    The scores go from 0.3 to 0.9 through the table.
    """
    total, n, out = max(1, sum(len(s.objects) for s in scenes)), 0, []
    for scene in scenes:
        size = len(scene.objects)
        score = 0.3 + 0.6 * (n + np.arange(size)) / total
        n += size
        objects = replace(scene.objects, score=score.astype(np.float32), source=("pseudo",) * size)
        out.append(scene.with_objects(objects))
    return out


def learnt(names):
    """What `calibrate` says: rule f1 is better than fixed.

    The last class had no objects of its own.
    """
    numbers = {"precision": 0.8, "recall": 0.7, "f1": 0.7467, "truth": 20, "found": 18}
    rules = {
        rule: {
            "all": {**numbers, "f1": f1},
            "macro_f1": f1 - 0.1,
            "classes": dict.fromkeys(names, numbers),
        }
        for rule, f1 in (("fixed", 0.6123), ("precision", 0.5), ("f1", 0.7234))
    }
    trust = {"brier": 0.1, "bins": [[0.05, 0.1, 60], [0.55, 0.7, 10], [0.95, 0.9, 9]]}
    held = {
        "folds": 5,
        "rules": rules,
        "raw": {**trust, "ece": 0.0912},
        "calibrated": {**trust, "ece": 0.0178},
    }
    entry = {"truths": 20, "found": 30, "curve": {"slope": 1.0, "offset": 0.0}, "thresholds": {}}
    return {"images": 24, "classes": dict.fromkeys(names, entry), "pooled": {}, "held_out": held}


def metric_dap(categories, counts):
    groups = frequency_groups([counts[c.name] for c in categories])
    numbers = {
        "AP": 0.2,
        "AP50": 0.4321,
        "AP75": None,
        "AR100": 0.5,
        "AP_tail": None,
        "AP50_tail": 0.111,
        "AP50_head": 0.6,
    }
    per_class = {
        c.name: {
            "AP": 0.1,
            "AP50": 0.05 * k,
            "AP75": None,
            "AR100": 0.3,
            "gt": 7,
            "gt_images": 5,
            "real_AP50": 0.08 * k,
            "real_AP": None,
        }
        for k, c in enumerate(categories)
        if c.isthing
    }
    controls = {"real": {**numbers, "AP50": 0.8765}, "shuffled": {"AP": 0.01, "AP50": 0.0234}}
    card = {
        "protocol": "as made",
        "groups": {g: [categories[i].name for i in ids] for g, ids in groups.items()},
    }
    return Metric("dap", 0.4321, numbers, per_class, card, controls).to_json()


def metric_cas(categories):
    names = [c.name for c in categories if c.isthing]
    per_class = {
        n: {"accuracy": 0.4, "test_crops": 9, "train_crops": 40, "real_accuracy": None}
        for n in names
    }
    values = {"top1": 0.3456, "balanced": 0.3, "chance": 1 / len(names), "majority": 0.25}
    card = {"network": "small", "confusion": (np.eye(len(names), dtype=int) * 9).tolist()}
    return Metric(
        "cas", 0.3456, values, per_class, card, {"real": {"top1": 0.7654, "balanced": 0.6}}
    ).to_json()


def write_logs(root):
    steps = np.arange(5, 401, 5)
    decay = np.exp(-steps / 120)
    for name, losses in (
        ("train_detector", {"loss_classifier": decay, "total": 2 * decay + 0.3}),
        (
            "train_generator",
            {
                "d_object": 1 + decay,
                "d_image": 0.2 * decay,
                "g_object": -decay,
                "g_image": decay,
                "g_l1": 0.4 * decay,
            },
        ),
    ):
        rows = [
            {
                "step": int(s),
                "steps": 400,
                "steps_per_s": 3.2,
                **{k: float(v[i]) for k, v in losses.items()},
            }
            for i, s in enumerate(steps)
        ]
        Folder.at(root / name).write_bytes(
            "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode()
        )


def fake_run(root, categories=toy.CATEGORIES, overrides=(), **sizes):
    """Return the context of a report step after a run that never happened.

    Change its manifests before running.
    """
    job = load_job(BASE, ["name=fake", *overrides], str(root))
    labelled, planned, made = tables(root, job, categories, **sizes)
    write_logs(root)
    images, names = sizes.get("images", 16), [c.name for c in categories]
    classes = [{"id": c.id, "name": c.name, "isthing": c.isthing} for c in categories]
    split = {"images": sizes.get("labelled", 24), "objects": dict(labelled), "skipped": {}}
    splits = {
        "labelled": split,
        "validation": split,
        "unlabelled": {**split, "images": 1234, "objects": {}},
    }
    per_class = {
        name: {"precision": 0.9, "recall": None, "truth": 12, "found": 10} for name in names
    }
    quality = {
        "all": {"precision": 0.9123, "recall": 0.8321, "truth": 99, "found": 90},
        "classes": per_class,
    }
    targets = {
        n: {"natural": 9.0, "target": float(planned[n]), "planned": planned[n]} for n in names
    }
    scores = {"dap": metric_dap(categories, labelled), "cas": metric_cas(categories)}
    manifests = {
        "ingest": {"splits": splits, "classes": classes},
        "leaks": {"sha256": "a" * 64, "splits": {}, "pairs": {}, "shown": []},
        "train_detector": {"sha256": "d" * 64, "weights": "detector.safetensors", "last": {}},
        "self_train": {
            "steps": 0,
            "kept": "supervised",
            "weights": "labeller.safetensors",
            "sha256": "d" * 64,
        },
        "calibrate": learnt(names),
        "pseudo_label": {
            "images": 1234,
            "objects": dict.fromkeys(names, 10),
            "found": dict.fromkeys(names, 31),
            "bins": {name: [12, 9, 0, 10] for name in names},
            "thresholds": {
                name: {"score": 0.4, "least": 0.4567, "basis": "class"} for name in names
            },
            "quality": quality,
        },
        "train_generator": {
            "sha256": "e" * 64,
            "used": {"labelled": 24},
            "left_out": {"labelled": 0},
            "last": {},
        },
        "plan": {"images": images, "sources": 20, "classes": targets},
        "synthesize": {"images": images, "objects": dict(made), "dropped": {}, "pixels": {}},
        "copies": {"images": images, "copies": 0, "pairs": {}, "shown": []},
        "verify": {"enabled": False, "images": {"verified": images}, "objects": dict(made)},
        "export": {"images": images, "annotations": sum(made.values())},
        "score": {"scores": scores, "validation": {"used": 24, "left_out": 0}},
        "trial": {"seeds": 0},
    }
    inputs = {}
    for number, (name, manifest) in enumerate(manifests.items()):
        extra = {
            "step": name,
            "key": f"{number:012x}",
            "seconds": 1.5 + number,
            "versions": {"torch": "2.15.0"},
        }
        inputs[name] = Output(Folder.at(root / name), {**manifest, **extra})
    return Context(
        job, Folder.at(root / "report"), inputs, SerialExecutor(), lambda _: None, lambda *_: None
    )


def change(context, step, **content):
    """The same context with other manifest content of a step."""
    old = context.inputs[step]
    return replace(
        context, inputs={**context.inputs, step: Output(old.folder, {**old.manifest, **content})}
    )


def written(context):
    """Run the step; return the page's bytes."""
    manifest = report.run(context)
    data = context.folder.read_bytes(manifest["file"])
    assert len(data) == manifest["bytes"]
    return data
