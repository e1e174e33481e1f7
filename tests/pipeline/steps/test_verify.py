"""The step on toy images whose labels were falsified, judged by a detector that knows the truth:
table, rest, export.
"""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthaug.detectors.base import Prediction
from synthaug.pipeline.batches.detector import detector_batches
from synthaug.pipeline.batches.draw import draw_for
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import ImageRef, Objects, Provenance, Scene, SceneList
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
    """Knows the truth of toy images by their pixels; its boxes are a little off, its scores high.

    Of the classes `unseen` it detects nothing, and its features of boxes tell their class unless it
    is `blind`.
    """

    num_classes = len(toy.CATEGORIES)

    def __init__(self, unseen=(), blind=False):
        self.unseen, self.blind = unseen, blind
        tables = [
            SOURCE,
            toy.read(toy.Config("val", REAL), Path()),
            toy.read(toy.Config("train", REAL), Path()),
        ]
        self.truth = {
            decode(table[i]).tobytes(): table[i].objects
            for table in tables
            for i in range(len(table))
        }

    def predict(self, images, scale=1.0):
        return [self._found(self.truth[image.tobytes()]) for image in images]

    def box_features(self, images, boxes):
        """Return, per class, the overlap of each box with its nearest object, and a feature of
        noise.
        """
        features = []
        for image, own in zip(images, boxes, strict=True):
            truth = self.truth[image.tobytes()]
            rng = np.random.default_rng(int(1000 * own.sum()) % 2**32)
            known = rng.normal(0, 0.02, (len(own), self.num_classes + 1))
            for label in range(0 if self.blind else self.num_classes):
                of_class = truth.boxes[truth.category == label]
                iou = overlaps(own, of_class, np.zeros(len(of_class), bool))
                known[:, label] += iou.max(1, initial=0)
            features.append(known.astype(np.float32))
        return features

    def _found(self, objects):
        seen = objects.select(objects.isthing & ~np.isin(objects.category, self.unseen))
        rng = np.random.default_rng(int(seen.id.sum()))
        boxes = (seen.boxes + rng.uniform(-0.5, 0.5, seen.boxes.shape)).astype(np.float32)
        scores = rng.uniform(0.9, 1, len(seen)).astype(np.float32)
        return Prediction(boxes, seen.category.astype(np.int64), scores)


def falsified(index):
    """Toy scene `index` as a synthetic one with one wrong label.

    Of what is duplicated, the copy's id ends in 99.
    """
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


def verified_by(detector, outputs, root, *overrides):
    """Return the output of the step with a detector in the place of the trained one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify.Spec, "detector", lambda _: detector)
        trained = (("", ""), {"sha256": "0" * 64, "trained_here": False})
        patch.setattr(verify, "_trained_detector", lambda _: trained)
        return done_by(verify, context_of(root, outputs, "verify", *overrides))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Ingest, then as many synthetic images as there are kinds of faults, some times over.

    Verified and exported.
    """
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
    outputs["verify"] = verified_by(Informed(), outputs, root)
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
    """Objects in = labels left + ignore regions of them + rejected.

    The manifest counts the same per class.
    """
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


# ---- Classes that the detector does not see ----


def most_frequent_thing():
    """The thing class of which the synthetic images have most objects, and how many."""
    counts = np.zeros(len(toy.CATEGORIES), int)
    for index in range(MADE):
        objects = falsified(index)[0].objects
        counts += np.bincount(objects.category[objects.isthing], minlength=len(counts))
    return int(counts.argmax()), int(counts.max())


@pytest.fixture(scope="module", params=[False, True], ids=["looks", "blind"])
def unseen(request, outputs, tmp_path_factory):
    """Verification by a detector that never detects one class; its features know it, or nothing."""
    label, count = most_frequent_thing()
    detector = Informed(unseen=(label,), blind=request.param)
    root = tmp_path_factory.mktemp("unseen")
    done = verified_by(detector, outputs, root, "verify.min_recall=0.8")
    return toy.CATEGORIES[label].name, count, done, request.param


def test_a_class_that_is_never_detected_is_judged_by_its_crops_or_not_at_all(unseen):
    name, count, done, blind = unseen
    manifest = done.manifest
    tried = manifest["tail"][name]["tried"]
    assert tried["lower bar"]["accepted_true"] == 0
    verdicts = {key: manifest[key].get(name, 0) for key in verify.COUNTS}
    if blind:
        assert manifest["bars"][name]["judge"] == ""
        assert verdicts["not_judged"] == count, "no verdict, no yield"
        assert not done.folder.exists(verify.PROTOTYPES)
        return
    assert manifest["bars"][name]["judge"] == "crops"
    assert tried["crops"]["accepted_true"] >= 0.8 * tried["crops"]["true"]
    assert tried["crops"]["accepted_false"] <= 0.1 * tried["crops"]["false"]
    assert verdicts["not_judged"] == 0
    assert verdicts["kept"] + verdicts["doubtful"] + verdicts["too_small"] == count
    assert 0.6 * count < verdicts["kept"] < count, "some labels are false, and most are not"


def test_false_labels_of_such_a_class_become_ignore_regions(unseen):
    name, _, done, blind = unseen
    label = next(k for k, category in enumerate(toy.CATEGORIES) if category.name == name)
    table = parquet.open_table(done.folder)
    for scene in table:
        own = scene.objects.select(scene.objects.category == label)
        verdicts = np.array([verdict or "" for verdict in own.verdict])
        if blind:
            assert set(verdicts) <= {""}
        assert (own.iscrowd == (verdicts == "doubtful")).all()


def test_such_a_class_has_a_dash_for_a_yield_and_is_named(unseen):
    name, _, done, blind = unseen
    (row,) = [row for row in report_verify.class_rows(done.manifest) if row.name == name]
    assert (row.yields == "–") == blind
    unjudged = report_verify.unjudged_classes(done.manifest)
    assert (name in unjudged) == blind
    page = report_verify.section(done.manifest)
    assert (f"the classes {', '.join(unjudged)}, of which nobody" in page) == bool(unjudged)
    _, link = verify.links(done.manifest)
    assert (f"(not {', '.join(unjudged)})" in link.figure) == bool(unjudged)


# ---- Links ----


def test_objects_that_are_where_they_should_be_are_recognised_and_those_of_others_are_not(outputs):
    recognised = outputs["verify"].manifest["recognised"]
    shares = {key: part / total for key, (part, total) in recognised.items()}
    assert shares["real"] > 0.9
    assert shares["made"] > 0.7
    assert shares["chance"] < 0.2
    generator, verification = verify.links(outputs["verify"].manifest)
    assert (generator.state, verification.state) == ("ok", "ok")


class Plaid(Informed):
    """Sees real images as they are, and nothing in synthetic ones."""

    def predict(self, images, scale=1.0):
        real = toy.read(toy.Config("val", REAL), Path())
        known = {decode(scene).tobytes() for scene in real}
        found = super().predict(images)
        nothing = Prediction(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0))
        pairs = zip(images, found, strict=True)
        return [own if image.tobytes() in known else nothing for image, own in pairs]


def test_a_generator_whose_objects_nobody_recognises_stops_the_run(outputs, tmp_path):
    done = verified_by(Plaid(), outputs, tmp_path)
    generator, verification = verify.links(done.manifest)
    assert (generator.state, generator.stops) == ("weak", True)
    assert generator.figure.startswith("0 % of ")
    assert "generator.steps" in generator.advice
    assert verification.state == "ok", "the judge is not to blame"


def test_a_judge_that_knows_nothing_stops_the_run(outputs, tmp_path):
    things = [k for k, category in enumerate(toy.CATEGORIES) if category.isthing]
    done = verified_by(Informed(unseen=things, blind=True), outputs, tmp_path)
    generator, verification = verify.links(done.manifest)
    assert generator.state == "untested"
    assert (verification.state, verification.stops) == ("weak", True)
    assert "no class has a judge" in verification.figure


def test_switched_off_the_table_goes_on_as_it_was_made(outputs, tmp_path):
    context = context_of(tmp_path, outputs, "verify", "verify.enabled=false")
    told = verify.run(context)
    assert told["images"] == {"verified": MADE}
    for name in outputs["synthesize"].folder.names():
        assert context.folder.read_bytes(name) == outputs["synthesize"].folder.read_bytes(name)
    assert verify.settings(context.job) == {"enabled": False}
    assert [link.state for link in verify.links(told)] == ["untested", "untested"]


def test_areas_that_are_too_small_are_learnt_as_shares_of_their_images_and_not_of_crowds():
    objects = Objects.build(
        [0, 1, 0], [[0, 0, 10, 5], [0, 0, 10, 10], [0, 0, 40, 20]], iscrowd=[0, 0, 1]
    )
    wide = Scene("a", 20, 40, ImageRef(), objects)
    table = SceneList(toy.CATEGORIES, [wide])
    assert verify.labelled_areas(table) == {0: [50 / 800], 1: [100 / 800]}


def test_a_judge_that_is_not_there_is_refused_before_anything_runs(tmp_path):
    job = load_job(BASE, [f"verify.detector={tmp_path}/none.safetensors"], str(tmp_path / "run"))
    with pytest.raises(JobError, match=r"^verify\.detector: there is no file"):
        verify.check(job)
