"""Calibrate and pseudo_label with a detector that is known.

What is written, what is kept, what pycocotools makes of it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthaug.detectors import tta
from synthaug.detectors.base import Prediction
from synthaug.pipeline.batches.detector import sample_of
from synthaug.pipeline.batches.layouts import LayoutFilter
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection import inference as detecting
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.formats.coco import read as coco
from synthaug.pipeline.formats.coco import results as coco_results
from synthaug.pipeline.formats.json_files import short_decimal
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.steps import STEPS, calibrate, ingest, pseudo_label
from tests import paths

BASE = paths.JOBS / "base.yaml"
TREE = next(k for k, category in enumerate(toy.CATEGORIES) if category.name == "tree")
DATA = ("toy:train?count=4", "toy:unlabelled?count=20", "toy:val?count=20")


class Informed:
    """Knows the toy's truth by its pixels.

    Finds three objects of four, sure of most, and adds wrong boxes, unsure.
    """

    num_classes = len(toy.CATEGORIES)

    def __init__(self, with_masks=False):
        self.truth, self.batches, self.with_masks = {}, [], with_masks
        for reference in DATA:
            split, _, count = reference.removeprefix("toy:").partition("?count=")
            table = toy.read(toy.Config(split, int(count)), Path())
            for i in range(len(table)):
                self.truth[decode(table[i]).tobytes()] = table[i].objects

    def predict(self, images, scale=1.0):
        self.batches.append(len(images))
        return [self._found(self.truth[image.tobytes()]) for image in images]

    def _found(self, objects):
        rng = np.random.default_rng(int(objects.id.sum()))
        n = len(objects)
        seen = rng.random(n) < 0.75
        boxes = np.concatenate([objects.boxes[seen], objects.boxes[:, [1, 0, 3, 2]] * 0.5]).astype(
            np.float32
        )
        labels = np.concatenate([objects.category[seen], rng.permutation(objects.category)]).astype(
            np.int64
        )
        scores = np.concatenate(
            [rng.uniform(0.35, 0.95, seen.sum()), rng.uniform(0.05, 0.4, n)]
        ).astype(np.float32)
        order = np.argsort(-scores)
        soft = rng.random((len(order), 7, 7), np.float32) if self.with_masks else None
        return Prediction(boxes[order], labels[order], scores[order], soft)


def contexts(root, *overrides, detector=None):
    """Run ingest, calibrate and pseudo_label on toy data; returns the outputs by step."""
    data = dict(zip(("labelled", "unlabelled", "validation"), DATA, strict=True))
    given = [f"data.{key}={value}" for key, value in data.items()]
    job = load_job(BASE, ["name=t", *given, "pseudo_label.flip=false", *overrides], str(root))
    done = {"self_train": Output(Folder.at(root / "weights"), {})}
    informed = detector or Informed()
    with pytest.MonkeyPatch.context() as patch:
        for step in (calibrate, pseudo_label):
            patch.setattr(
                step,
                "load_labeller",
                lambda *_: tta.TestTimeAugmented(informed, flip=False, scales=()),
            )
        for name, step in (
            ("ingest", ingest),
            ("calibrate", calibrate),
            ("pseudo_label", pseudo_label),
        ):
            folder = Folder.at(root / name)
            inputs = {need: done[need] for need in step.NEEDS}
            context = Context(
                job, folder, inputs, SerialExecutor(), lambda _: None, lambda *_: None
            )
            done[name] = Output(folder, json.loads(json.dumps(step.run(context), sort_keys=True)))
    return done


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return contexts(tmp_path_factory.mktemp("run"))


def read_json(output, name):
    return output.folder.read_json(name)


def test_calibrate_stands_before_pseudo_label():
    names = list(STEPS)
    assert names.index("train_detector") < names.index("calibrate") < names.index("pseudo_label")


def test_calibration_tells_of_every_class_and_of_images_held_out(done):
    told = read_json(done["calibrate"], "calibration.json")
    assert done["calibrate"].manifest == told
    assert {c.name for c in toy.CATEGORIES} == set(told["classes"])
    truths = Counter()
    table = toy.read(toy.Config("val", 20), Path())
    for i in range(20):
        truths.update(toy.CATEGORIES[c].name for c in table[i].objects.category.tolist())
    assert truths == Counter({name: entry["truths"] for name, entry in told["classes"].items()})
    rules = told["held_out"]["rules"]
    assert {"fixed", "precision", "f1"} == set(rules)
    assert rules["f1"]["all"]["f1"] > rules["fixed"]["all"]["f1"] + 0.02
    assert told["held_out"]["calibrated"]["ece"] < told["held_out"]["raw"]["ece"]
    bases = {name: entry["thresholds"]["f1"]["basis"] for name, entry in told["classes"].items()}
    assert all((bases[name] == "class") == (truths[name] >= 10) for name in bases)


def test_what_is_kept_reaches_its_threshold_and_carries_its_probability(done):
    manifest = done["pseudo_label"].manifest
    table = parquet.open_table(done["pseudo_label"].folder)
    found = {
        (r["image_id"], r["category_id"], r["score"])
        for r in read_json(done["pseudo_label"], "detections.json")
    }
    kept = Counter()
    for i in range(len(table)):
        scene = table[i]
        assert decode(scene).shape == (64, 64, 3)
        for category, score in zip(
            scene.objects.category.tolist(), scene.objects.score.tolist(), strict=True
        ):
            name = toy.CATEGORIES[category].name
            kept[name] += 1
            assert score >= manifest["thresholds"][name]["least"] - 1e-6
            assert (
                scene.image_id,
                toy.CATEGORIES[category].id,
                short_decimal(np.float32(score)),
            ) in found
    assert manifest["objects"] == dict(kept)
    for c in toy.CATEGORIES:
        least = manifest["thresholds"][c.name]["least"]
        reached = sum(1 for _, key, score in found if key == c.id and score >= least)
        assert kept[c.name] == pytest.approx(reached, abs=1)
    ids = np.concatenate([table[i].objects.id for i in range(len(table))])
    assert len(set(ids.tolist())) == len(ids), "an id is of one object of the whole table"
    assert manifest["found"] == {name: sum(counts) for name, counts in manifest["bins"].items()}
    assert sum(manifest["found"].values()) == len(found)


# ---- Classes whose labels are not shown to be right ----


class Guessing(Informed):
    """Finds all but trees as Informed does; its trees are anywhere, and it is sure of them."""

    def _found(self, objects):
        rng = np.random.default_rng(int(objects.id.sum()) + 1)
        known = super()._found(objects)
        others = known.labels != TREE
        corner = rng.uniform(0, 50, (6, 2))
        boxes = np.concatenate([known.boxes[others], np.hstack([corner, corner + 5])])
        labels = np.concatenate([known.labels[others], np.full(6, TREE)])
        scores = np.concatenate([known.scores[others], rng.uniform(0.8, 0.9, 6)])
        order = np.argsort(-scores)
        return Prediction(
            boxes[order].astype(np.float32),
            labels[order].astype(np.int64),
            scores[order].astype(np.float32),
        )


@pytest.fixture(scope="module")
def guessed(tmp_path_factory):
    return contexts(tmp_path_factory.mktemp("guessed"), detector=Guessing())


def test_a_class_of_random_detections_has_no_labels_but_ignore_regions(guessed):
    manifest = guessed["pseudo_label"].manifest
    assert "tree" not in manifest["objects"]
    assert manifest["unlabelled_classes"]["tree"]["why"] == pseudo_label.WRONG
    assert manifest["thresholds"]["tree"] == {"score": None, "least": None, "basis": "unshown"}
    table = parquet.open_table(guessed["pseudo_label"].folder)
    regions = 0
    for scene in table:
        trees = scene.objects.select(scene.objects.category == TREE)
        assert trees.iscrowd.all(), "a region is neither object nor background"
        assert all(code is not None for code in trees.rle), "COCO's crowds have run lengths"
        regions += len(trees)
    assert regions == manifest["ignored"]["tree"] > 60
    written = read_json(guessed["pseudo_label"], "instances.json")["annotations"]
    assert sum(record["iscrowd"] for record in written) == sum(manifest["ignored"].values())
    assert manifest["quality"]["classes"]["tree"]["found"] == 0


def test_regions_are_nothing_to_learn_and_no_background(guessed):
    table = parquet.open_table(guessed["pseudo_label"].folder)
    index = next(i for i in range(len(table)) if table[i].objects.iscrowd.any())
    scene = table[index]
    sample = sample_of(scene, decode(scene))
    assert TREE not in sample.labels
    assert len(sample.ignore) == scene.objects.iscrowd.sum()
    assert LayoutFilter().select(scene).category.tolist() == sample.labels.tolist()


def test_a_class_is_named_with_what_was_measured(guessed, done):
    (link,) = pseudo_label.links(guessed["pseudo_label"].manifest)
    assert (link.state, link.stops) == ("weak", False)
    assert "none of tree (" in link.figure
    (link,) = pseudo_label.links(done["pseudo_label"].manifest)
    assert link.state == "ok"
    assert "right on held-out validation images" in link.figure
    (link,) = pseudo_label.links({"images": 0, "objects": {}})
    assert link.state == "untested"


def test_with_no_class_left_there_are_no_labels_and_the_run_goes_on(tmp_path):
    done = contexts(tmp_path, "pseudo_label.min_precision=1")
    manifest = done["pseudo_label"].manifest
    assert manifest["objects"] == {}
    assert sum(manifest["ignored"].values()) > 0
    (link,) = pseudo_label.links(manifest)
    assert link.state == "weak"
    assert link.figure.startswith("0 labels of 0 classes; none of ")


def test_a_bar_of_nothing_keeps_labels_of_any_worth(tmp_path):
    done = contexts(tmp_path, "pseudo_label.min_precision=0", detector=Guessing())
    manifest = done["pseudo_label"].manifest
    assert manifest["objects"]["tree"] > 0
    assert manifest["ignored"] == {}


@pytest.mark.parametrize(
    ("right", "found", "why"),
    [(40, 50, None), (3, 3, None), (2, 2, "too few to tell"), (1, 30, "mostly wrong")],
)
def test_the_bound_on_held_out_images_decides(right, found, why):
    numbers = {"right": right, "found": found}
    calibrated = {
        "classes": {"kite": {}},
        "held_out": {"rules": {"f1": {"classes": {"kite": numbers}}}},
    }
    classes = pseudo_label.unshown(calibrated, load_job(BASE, [], "out"))
    assert classes.get("kite", {}).get("why") == why
    alone = pseudo_label.unshown({**calibrated, "held_out": None}, load_job(BASE, [], "out"))
    assert alone["kite"]["why"] == "too few to tell", "one validation image holds nothing out"


def test_pycocotools_measures_the_files_as_they_are(done, tmp_path):
    """AP50 of all detections against truth written by the user, and precision and recall as the
    manifest says.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    source = toy.read(toy.Config("unlabelled", 20), Path())
    records, images = [], []
    for i in range(20):
        scene = source[i]
        images.append({"id": scene.image_id, "height": 64, "width": 64, "file_name": "x"})
        for c, box in zip(
            scene.objects.category.tolist(), scene.objects.boxes.astype(float), strict=True
        ):
            xywh = [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]
            area = xywh[2] * xywh[3]
            records.append(
                {
                    "id": len(records) + 1,
                    "image_id": scene.image_id,
                    "category_id": c + 1,
                    "bbox": xywh,
                }
            )
            records[-1] |= {"area": area, "iscrowd": 0}
    names = [{"id": c.id, "name": c.name} for c in toy.CATEGORIES]
    (tmp_path / "truth.json").write_text(
        json.dumps({"images": images, "annotations": records, "categories": names})
    )
    truth = COCO(str(tmp_path / "truth.json"))
    evaluation = COCOeval(
        truth,
        truth.loadRes(done["pseudo_label"].folder.local_path("detections.json").as_posix()),
        "bbox",
    )
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert 0.6 < evaluation.stats[1] < 0.9
    labels = read_json(done["pseudo_label"], "instances.json")
    assert [image["id"] for image in images] == [image["id"] for image in labels["images"]]
    quality = done["pseudo_label"].manifest["quality"]["all"]
    assert quality["truth"] == len(records)
    assert quality["found"] == len(labels["annotations"])
    assert 0.7 < quality["precision"] <= 1
    assert 0.5 < quality["recall"] <= 0.9


def test_a_changed_rule_looks_at_no_validation_image_again():
    job = load_job(BASE, [], "out")
    other = replace(job, pseudo_label=replace(job.pseudo_label, rule="fixed", calibrate=False))
    assert calibrate.settings(job) == calibrate.settings(other)
    assert pseudo_label.settings(job) != pseudo_label.settings(other)
    wider = replace(job, pseudo_label=replace(job.pseudo_label, scales=(2.0,)))
    assert calibrate.settings(job) != calibrate.settings(wider)


def test_fixed_rule_keeps_the_networks_scores(tmp_path):
    done = contexts(
        tmp_path,
        "pseudo_label.rule=fixed",
        "pseudo_label.calibrate=false",
        "pseudo_label.threshold=0.6",
    )
    scores = [r["score"] for r in read_json(done["pseudo_label"], "detections.json")]
    kept = [a["score"] for a in read_json(done["pseudo_label"], "instances.json")["annotations"]]
    assert sorted(kept) == sorted(score for score in scores if score >= 0.6)
    assert min(scores) < 0.1
    assert {"score": 0.6, "least": 0.6, "basis": "fixed"} == done["pseudo_label"].manifest[
        "thresholds"
    ]["tree"]


def test_masks_are_kept_where_the_detector_has_them(tmp_path):
    done = contexts(tmp_path, detector=Informed(with_masks=True))
    records = read_json(done["pseudo_label"], "detections.json")
    assert all(masks.runs(r["segmentation"]["counts"]).sum() == 64 * 64 for r in records)
    own_masks, kept = {}, 0
    for record in records:
        key = (record["image_id"], record["category_id"], record["score"])
        own_masks[key] = record["segmentation"]["counts"]
    table = parquet.open_table(done["pseudo_label"].folder, pixels=False)
    for i in range(len(table)):
        objects = table[i].objects
        assert [masks.area(code) for code in objects.rle] == objects.area.tolist()
        for k, code in enumerate(objects.rle):
            if not objects.iscrowd[k]:
                score = short_decimal(objects.score[k])
                key = (table[i].image_id, toy.CATEGORIES[objects.category[k]].id, score)
                assert code == own_masks[key], "each has the mask of its own detection"
                kept += 1
    assert kept > 20


def test_without_unlabelled_images_nothing_is_done(tmp_path):
    job = load_job(BASE, ["name=t", "data.unlabelled="], str(tmp_path))
    outputs = {
        "ingest": Output(Folder.at(tmp_path), {}),
        "train_detector": Output(Folder.at(tmp_path), {}),
    }
    context = Context(
        job, Folder.at(tmp_path / "c"), outputs, SerialExecutor(), lambda _: None, lambda *_: None
    )
    assert {"classes": {}} == calibrate.run(context)
    assert {"images": 0, "objects": {}, "quality": None} == pseudo_label.run(context)


@pytest.mark.parametrize(("count", "batch"), [(1, 4), (7, 3), (8, 4), (5, 8), (0, 4)])
def test_every_image_is_looked_at_once_and_in_order(count, batch):
    informed = Informed()
    table = toy.read(toy.Config("val", 20), Path())
    places = range(3, 3 + count)
    seen = list(
        detecting.detect(
            tta.TestTimeAugmented(informed, flip=False, scales=()), table, places, batch
        )
    )
    assert list(places) == [place for place, _, _ in seen]
    assert all(scene.image_id == table[place].image_id for place, scene, _ in seen)
    assert [batch] * (count // batch) + [count % batch] * bool(count % batch) == informed.batches


@pytest.mark.parametrize(
    ("text", "original"),
    [
        ("12", 12),
        ("0", 0),
        ("-3", -3),
        ("007", "007"),
        ("cat-7", "cat-7"),
        ("1e3", "1e3"),
        ("", ""),
        ("٣", "٣"),
    ],
)
def test_ids_are_the_users_own(text, original):
    assert coco_results.original_id(text) == original
    assert str(original) == text


def test_labels_read_back_as_coco_where_the_images_are(tmp_path):
    """Names lead from the folder that holds all images to each; ids are whole numbers again."""
    pixels = toy.read(toy.Config("val", 3), Path())
    categories = (Category(7, "tree"), Category(3, "car"))
    scenes = []
    for i, name in enumerate(("a/one.png", "a/two.png", "b/one.png")):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(pixels[i].image.data)
        objects = Objects.build(
            [i % 2], [[1, 2, 30.25, 40]], id=[i + 1], score=[0.25 * i], source=["pseudo"]
        )
        scenes.append(
            Scene(str(i + 10), 64, 64, ImageRef(None, str(tmp_path / "images" / name)), objects)
        )
    with parquet.ShardWriter(
        Folder.at(tmp_path / "out"), "part-00000.parquet", categories
    ) as writer:
        writer.write(scenes)
    with coco_results.spool(Folder.at(tmp_path / "out" / "found"), "part-00000") as spooled:
        coco_results.add(spooled, [])
    spec = pseudo_label.Spec(load_job(BASE, [], "out"), "", "", str(tmp_path / "out"), {}, False)
    assert 0 == pseudo_label.write_coco(spec, ["part-00000"])
    assert [] == json.loads((tmp_path / "out" / "detections.json").read_text())
    written = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert [10, 11, 12] == [image["id"] for image in written["images"]]
    back = coco.read(
        coco.Config(str(tmp_path / "out" / "instances.json"), images=str(tmp_path / "images"))
    )
    for scene, again in zip(scenes, (back[i] for i in range(3)), strict=True):
        assert scene.image_id == again.image_id
        assert scene.objects.boxes.tolist() == again.objects.boxes.tolist()
        assert scene.objects.score.tolist() == again.objects.score.tolist()
        assert again.objects.source == ("pseudo",)


def test_the_same_records_spool_to_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        with coco_results.spool(Folder.at(tmp_path), name) as spooled:
            coco_results.add(spooled, [{"score": 0.5}, {"score": 0.25}])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert 4 == coco_results.join(Folder.at(tmp_path), ["a", "b"], Folder.at(tmp_path), "all.json")
    assert [0.5, 0.25] * 2 == [r["score"] for r in json.loads((tmp_path / "all.json").read_text())]


def test_a_detector_that_knows_no_mirror_is_not_asked_about_one():
    with pytest.raises(JobError, match=r"pseudo_label\.flip: .*set pseudo_label\.flip to false"):
        load_job(BASE, ["detector.flip=false"], "out")
    load_job(BASE, ["detector.flip=false", "pseudo_label.flip=false"], "out")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("pseudo_label.rule=best", "'best' is not one of fixed, precision, f1"),
        ("pseudo_label.precision=1.0", "precision: 1.0 is not between 0 and 1, both excluded"),
        ("pseudo_label.folds=1", "folds: 1 is out of range; give 2 or more"),
        ("pseudo_label.scales=[0.01]", "scales: 0.01 is not between 0.1 and 10"),
        ("pseudo_label.min_truths=0", "min_truths: 0 is out of range; give 1 or more"),
    ],
)
def test_bad_keys_are_one_line(override, told):
    with pytest.raises(JobError, match=told.replace("(", "\\(")):
        load_job(BASE, [override], "out")


@pytest.mark.parametrize(("right", "state"), [(4, "weak"), (5, "ok")])
def test_labels_that_are_mostly_wrong_are_a_weak_link_though_the_job_wants_them(right, state):
    manifest = {
        "images": 3,
        "objects": {"cow": 10},
        "held_out": {"right": right, "found": 10},
        "unlabelled_classes": {},
        "ignored": {},
    }
    (link,) = pseudo_label.links(manifest)
    assert link.state == state
