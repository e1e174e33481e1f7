"""The step on toy images whose labels were falsified, judged by a detector that knows the truth: table, rest, export."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthaug.detectors import tta
from synthaug.detectors.base import Prediction
from synthaug.pipeline.batches.detector import detector_batches
from synthaug.pipeline.batches.draw import draw_for
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Provenance
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.report import verification as report_verify
from synthaug.pipeline.scores.detection.evaluator import overlaps
from synthaug.pipeline.steps import export, ingest, verify
from synthaug.pipeline.verification.verdicts import EXTRA, KEPT
from tests import paths

BASE = paths.JOBS / "base.yaml"
REAL, MADE = 60, 24
SOURCE = toy.read(toy.Config("test", MADE), Path())
FAULTS = (
    "missing",
    "swapped",
    "misplaced",
    "duplicate",
    "extra",
    None,
)  # of image i: FAULTS[i % 6]


class Informed:
    """Knows the truth of toy images by their pixels; its boxes are a little off, its scores high."""

    num_classes = len(toy.CATEGORIES)

    def __init__(self):
        tables = [SOURCE, toy.read(toy.Config("val", REAL), Path())]
        self.truth = {
            decode(table[i]).tobytes(): table[i].objects
            for table in tables
            for i in range(len(table))
        }

    def predict(self, images, scale=1.0):
        return [self._found(self.truth[image.tobytes()]) for image in images]

    @staticmethod
    def _found(objects):
        seen = objects.select(objects.isthing)
        rng = np.random.default_rng(int(seen.id.sum()))
        boxes = (seen.boxes + rng.uniform(-0.5, 0.5, seen.boxes.shape)).astype(np.float32)
        scores = rng.uniform(0.9, 1, len(seen)).astype(np.float32)
        return Prediction(boxes, seen.category.astype(np.int64), scores)


def falsified(index):
    """Toy scene `index` as a synthetic one with one wrong label; of what is duplicated, the copy's id ends in 99."""
    scene, kind = SOURCE[index], FAULTS[index % len(FAULTS)]
    objects = scene.objects
    first, boxes, category = 0, objects.boxes.copy(), objects.category.copy()
    keep = np.arange(len(objects))
    if kind == "missing":  # at the first of some places that hold no such thing
        taken = boxes[category == category[0]]
        places = np.array(
            [(x, y, x + 14, y + 14) for x in range(0, 49, 4) for y in range(0, 49, 4)], np.float32
        )
        clear = overlaps(places, taken, np.zeros(len(taken), bool)).max(1) == 0
        boxes[0] = places[clear.argmax()]
    elif kind == "swapped":
        category[0] = next(c for c in range(5) if c not in category)
    elif kind == "misplaced":
        side = boxes[0, 2] - boxes[0, 0]
        boxes[0, [0, 2]] += side * (0.6 if boxes[0, 0] < 32 else -0.6)
    elif kind == "duplicate":
        keep = np.append(keep, 0)
    elif kind == "extra":
        keep, first = keep[1:], None
    made = replace(objects, boxes=boxes, category=category).select(keep)
    identity = index * 10_000 + 1 + np.arange(len(made))
    made = replace(made, id=identity, source=("synthetic",) * len(made), rle=(None,) * len(made))
    origin = Provenance(index, "test", "c0ffee", "toy", "natural")
    return replace(
        scene.with_objects(made), image_id=f"t-{index:08d}", provenance=origin, panoptic=None
    ), first


def context_of(root, inputs, name, *overrides):
    given = [
        "name=t",
        f"data.labelled=toy:train?count={REAL}",
        f"data.validation=toy:val?count={REAL}",
    ]
    given += [
        "data.unlabelled=''",
        "plan.shard=10",
        "verify.max_failed=1",
        "verify.recall=0.99",
        "verify.min_recall=0.5",
    ]
    job = load_job(BASE, [*given, *overrides], str(root))
    return Context(
        job, Folder.at(root / name), inputs, SerialExecutor(), lambda _: None, lambda *_: None
    )


def done_by(step, context):
    return Output(context.folder, json.loads(json.dumps(step.run(context), sort_keys=True)))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Ingest, then as many synthetic images as there are kinds of faults, some times over; verified and exported."""
    root = tmp_path_factory.mktemp("run")
    outputs = {"ingest": done_by(ingest, context_of(root, {}, "ingest"))}
    for number, start in enumerate(range(0, MADE, 10)):
        with parquet.ShardWriter(
            Folder.at(root / "made"), f"part-{number:05d}.parquet", toy.CATEGORIES
        ) as writer:
            writer.write([falsified(i)[0] for i in range(start, min(MADE, start + 10))])
    outputs["synthesize"] = Output(
        Folder.at(root / "made"), {"images": MADE, "objects": {"tree": 1}}
    )
    with pytest.MonkeyPatch.context() as patch:
        informed = tta.TestTimeAugmented(Informed(), flip=False, scales=())
        patch.setattr(verify.Spec, "detector", lambda _: informed)
        patch.setattr(
            verify,
            "_trained_detector",
            lambda _: (("", ""), {"sha256": "0" * 64, "trained_here": False}),
        )
        outputs["verify"] = done_by(verify, context_of(root, outputs, "verify"))
    outputs["export"] = done_by(export, context_of(root, outputs, "export"))
    return outputs


def test_every_planted_fault_gets_its_verdict_and_what_its_policy_says(outputs):
    table = parquet.open_table(outputs["verify"].folder)
    rest = parquet.open_table(outputs["verify"].folder.sub(verify.REJECTED))
    rejected = {rest[i].image_id: rest[i].objects for i in range(len(rest))}
    judged = named = 0
    for i in range(len(table)):
        scene = table[i]
        index = int(scene.image_id.split("-")[1])
        kind = FAULTS[index % len(FAULTS)]
        verdicts = [v for v in scene.objects.verdict if v not in (KEPT, None)]
        verdicts += list(rejected[scene.image_id].verdict) if scene.image_id in rejected else []
        judged += 1
        expected = {"missing": ["extra", "missing"], None: []}.get(
            kind, [kind]
        )  # the true one has lost its label
        named += sorted(verdicts) == expected
        if sorted(verdicts) != expected:
            print(index, kind, verdicts)
        for verdict, crowd in zip(
            scene.objects.verdict, scene.objects.iscrowd.tolist(), strict=True
        ):
            assert crowd == (verdict not in (KEPT, None)), (
                "ignored is what stayed without being right"
            )
    assert judged == MADE
    assert named >= MADE - 4, "things cover each other in toy scenes"


def test_nothing_vanishes(outputs):
    """Objects in = labels left + ignore regions of them + rejected; the manifest counts the same per class."""
    manifest = outputs["verify"].manifest
    table = parquet.open_table(outputs["verify"].folder)
    rest = parquet.open_table(outputs["verify"].folder.sub(verify.REJECTED))
    ids = [
        int(k) for t in (table, rest) for i in range(len(t)) for k in t[i].objects.id if k < 1 << 52
    ]
    assert sorted(ids) == sorted(int(k) for i in range(MADE) for k in falsified(i)[0].objects.id)
    counted = sum(
        sum(manifest[key].values()) for key in verify.COUNTS if key not in (EXTRA, "objects")
    )
    assert counted == len(ids)
    assert manifest["images"] == {"verified": MADE, "failed": 0, "empty": 0}
    left = sum(int((~table[i].objects.iscrowd).sum()) for i in range(len(table)))
    assert sum(manifest["objects"].values()) == left
    assert "Is each object there?" in report_verify.section(manifest)


def test_a_perfect_detector_scores_one_on_the_exported_file(outputs):
    """Ignore regions are crowds with run lengths: what is found in them counts neither way."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(Path(outputs["export"].folder.path) / "instances.json"))
        things = {c.id for c in toy.CATEGORIES if c.isthing}
        found = []
        for a in coco.anns.values():
            x, y, w, h = a["bbox"]
            inside = [x + 0.1 * w, y + 0.1 * h, 0.8 * w, 0.8 * h] if a["iscrowd"] else a["bbox"]
            found.append(
                {
                    **{key: a[key] for key in ("image_id", "category_id")},
                    "bbox": inside,
                    "score": 1.0,
                }
            )
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.params.catIds = sorted(things)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    crowds = [a for a in coco.anns.values() if a["iscrowd"]]
    assert crowds
    for annotation in crowds:
        assert annotation["segmentation"]["counts"]
        assert annotation["area"] == pytest.approx(annotation["bbox"][2] * annotation["bbox"][3])
    assert min(coco.anns) >= 1
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_ignore_regions_reach_the_training_as_such(outputs):
    table = parquet.open_table(outputs["verify"].folder)
    samples = detector_batches(table, draw_for([table], len(table), 0, "uniform", 0.1))(0)
    with_regions = [s for s in samples if s.ignore is not None]
    assert sum(len(s.ignore) for s in with_regions) == sum(
        int(table[i].objects.iscrowd.sum()) for i in range(len(table))
    )
    assert with_regions


def test_switched_off_the_table_goes_on_as_it_was_made(outputs, tmp_path):
    context = context_of(tmp_path, outputs, "verify", "verify.enabled=false")
    told = verify.run(context)
    assert told["images"] == {"verified": MADE}
    for name in outputs["synthesize"].folder.names():
        assert context.folder.read_bytes(name) == outputs["synthesize"].folder.read_bytes(name)
    assert verify.settings(context.job) == {"enabled": False}


def test_a_judge_that_is_not_there_is_refused_before_anything_runs(tmp_path):
    job = load_job(BASE, [f"verify.detector={tmp_path}/none.safetensors"], str(tmp_path / "run"))
    with pytest.raises(JobError, match=r"^verify\.detector: there is no file"):
        verify.check(job)
