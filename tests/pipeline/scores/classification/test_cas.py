"""CAS on crops whose difficulty is known by construction."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.scores.card import Metric, deviations
from synthaug.pipeline.scores.classification import cas, crops
from synthaug.pipeline.scores.classification import classifier as cas_classifier
from tests.score_inputs import score_inputs

NO_CROPS = crops.CropSet(
    np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64), 0
)
CATEGORIES = (Category(1, "dark"), Category(7, "sky", isthing=False), Category(3, "light"))
SMALL = cas.Config(width=8, steps=30, batch=16, size=8, shift=1)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noisy(labels, seed, size=8):
    """Crops whose brightness follows the label: dark for 0, light for 1."""
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels, np.int64)
    noise = rng.integers(0, 100, (len(labels), size, size, 3))
    pixels = (noise + 120 * labels[:, None, None, None]).astype(np.uint8)
    return crops.CropSet(pixels, labels, np.bincount(labels, minlength=2), 0)


def trained(config, train, num_classes=2):
    training = cas_classifier.ClassifierTraining(config, train, num_classes)
    for index in range(config.steps):
        training.step(index, training.batch(index))
    return training.model


def test_separable_classes_are_learned_and_the_metric_tells_how():
    """The training set is 9 to 1: balanced batches must not let the rare class drown."""
    train, test = noisy([0] * 90 + [1] * 10, 0), noisy([0] * 30 + [1] * 60, 1)
    model = trained(SMALL, train)
    metric = cas.cas(
        {"synthetic": [model], "real": [model]}, train, test, CATEGORIES, SMALL, {"files": "PNG"}
    )
    assert metric.value > 0.95
    assert metric.values["balanced"] > 0.95
    assert metric.controls["floor"] == {
        "chance": 0.5,
        "majority": pytest.approx(2 / 3),
        "top1": 0.5,
    }
    assert metric.controls["real"]["top1"] == metric.value
    assert list(metric.per_class) == ["dark", "light"]
    assert metric.per_class["light"]["train_crops"] == 10
    assert np.sum(metric.card["confusion"]) == 90
    assert metric.card["files"] == "PNG"
    assert metric == Metric(**json.loads(json.dumps(metric.to_json(), allow_nan=False)))


def test_several_trainings_give_mean_and_spread_and_one_gives_no_spread():
    train, test = noisy([0, 1] * 10, 0), noisy([0, 1] * 30, 1)
    short = replace(SMALL, steps=2)
    models = [trained(replace(short, seed=seed), train) for seed in range(3)]
    single = [cas_classifier.accuracy(model, test.crops, test.labels) for model in models]
    assert len({one.top1 for one in single}) > 1, (
        "the seeds do not matter here, so nothing is tested"
    )
    metric = cas.cas({"synthetic": models, "real": models[:1]}, train, test, CATEGORIES, short, {})
    assert metric.value == pytest.approx(np.mean([one.top1 for one in single]))
    assert metric.values["top1_std"] == pytest.approx(np.std([one.top1 for one in single], ddof=1))
    assert metric.per_class["light"]["accuracy"] == pytest.approx(
        np.mean([one.per_class[1] for one in single])
    )
    assert "top1_std" not in metric.controls["real"]
    assert metric.per_class["light"]["test_crops"] == 30, (
        "each crop is a test crop once, however many classifiers see it"
    )


def test_absent_classes_are_none_and_an_empty_test_set_has_no_value():
    train, config = noisy([0, 1] * 10, 0), replace(SMALL, steps=2, classes="all")
    model = trained(config, train, num_classes=3)
    test = noisy([0] * 5, 1)
    test = replace(test, num_seen=np.array([5, 0, 0]))
    metric = cas.cas(
        {"synthetic": [model]},
        replace(train, num_seen=np.array([10, 10, 0])),
        test,
        CATEGORIES,
        config,
        {},
    )
    assert metric.per_class["light"]["accuracy"] is None
    assert metric.values["balanced"] == metric.value
    assert metric.card["classes_without_training_crops"] == ["light"]
    assert metric.card["classes_without_test_crops"] == ["sky", "light"]
    nothing = cas_classifier.accuracy(model, test.crops[:0], test.labels[:0])
    assert (nothing.top1, nothing.balanced, nothing.floor["majority"]) == (None, None, None)


def differences(config):
    return deviations("cas", config, cas.PUBLISHED, cas.UNSTATED)


def test_the_card_says_plainly_every_setting_that_is_not_the_papers():
    assert [] == differences(cas.PUBLISHED)
    for f in fields(cas.Config):
        if f.name in cas.UNSTATED:
            continue
        other = {"classes": "things", "sampling": "class_balanced", "depth": 8}.get(f.name, 9)
        (told,) = differences(replace(cas.PUBLISHED, **{f.name: other}))
        assert told == f"cas.{f.name} {other} instead of {getattr(cas.PUBLISHED, f.name)}"
    told = cas._protocol(NO_CROPS, NO_CROPS, [], cas.Config())["comparability"]
    assert "cas.crops_per_class_max 500 instead of 0" in told
    assert "cas.sampling class_balanced instead of uniform" in told


def test_the_papers_training_sees_all_crops_as_often_as_they_are():
    table = crops.CropTable(replace(cas.PUBLISHED, size=8), [0, 1])
    labels = np.array([0] * 90 + [1] * 10)
    table.add(crops.CropRow(0, 0, np.zeros((100, 8, 8, 3), np.uint8), labels, 0))
    config = cas.Config(sampling="uniform", crops_per_class_max=0, size=8, width=8, batch=400)
    every = table.result()
    assert 100 == len(every.labels)
    _, drawn = cas_classifier.ClassifierTraining(config, every, 2).batch(0)
    assert 0.04 < drawn.mean() < 0.16
    config = replace(config, sampling="class_balanced")
    _, balanced = cas_classifier.ClassifierTraining(config, every, 2).batch(0)
    assert 0.4 < balanced.mean() < 0.6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 18}, r"cas\.depth is 18"),
        ({"classes": "stuff"}, r"cas\.classes is 'stuff'"),
        ({"batch": 0}, r"cas\.batch is 0"),
        ({"repeats": 0}, r"cas\.repeats is 0"),
        ({"shift": 40}, r"cas\.shift 40"),
        ({"lr": 0.0}, r"cas\.lr is 0"),
    ],
)
def test_bad_settings_name_the_key(settings, message):
    with pytest.raises(ValueError, match=message):
        cas.Config(**settings)


def bright_pictures(level, count, prefix, source=""):
    """Images of one brightness with an object of each thing class."""
    scenes = []
    for number in range(count):
        pixels = np.full((16, 16, 3), level, np.uint8)
        objects = Objects.build([0, 2], [[0, 0, 8, 16], [8, 0, 16, 16]])
        origin = Provenance(number, "g", "", f"{source}{number}", "score") if source else None
        image = ImageRef(encode(pixels, "png"))
        scenes.append(Scene(f"{prefix}{number}", 16, 16, image, objects, None, origin))
    return SceneList(CATEGORIES, scenes)


def test_each_classifier_learns_from_the_crops_of_its_own_table():
    """The score's from synthetic crops alone, the ceiling's from labelled ones.

    Both are tested on real ones.
    """
    config = replace(SMALL, samples_per_layout=1)
    tables = {
        "real": bright_pictures(60, 3, "r"),
        "synthetic": bright_pictures(200, 3, "s", "r"),
        "train": bright_pictures(100, 3, "t"),
    }
    inputs = score_inputs(tables)
    models = cas.auxiliary_models(inputs, config)
    assert ["synthetic", "train"] == [model.table for model in models]
    assert 2 == len({model.name for model in models})
    levels = {}
    for model in models:
        spec = model.training_spec(inputs)
        pixels, labels = spec.batches(0)
        assert {0, 1} == set(labels.tolist())
        levels[model.table] = set(np.unique(pixels).tolist())
    assert {"synthetic": {200}, "train": {100}} == levels
    assert {60} == set(np.unique(cas.collect(inputs, config, "real").crops).tolist())


def test_trainings_of_one_score_have_seeds_of_their_own():
    tables = {name: bright_pictures(60, 2, name) for name in ("real", "synthetic", "train")}
    models = cas.auxiliary_models(score_inputs(tables), replace(SMALL, seed=7, repeats=3))
    assert [model.config.seed for model in models] == [7, 8, 9] * 2
    assert len({model.name for model in models}) == 6


def test_all_real_crops_are_tested_on_whatever_the_cap_of_training(monkeypatch):
    """A cap would change the shares of the classes, and with them the accuracy."""
    tables = {
        "real": bright_pictures(60, 5, "r"),
        "synthetic": bright_pictures(200, 5, "s", "r"),
    }

    class Always(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = torch.nn.Parameter(torch.tensor([0.0, 1.0]))

        def forward(self, x):
            return self.logits.expand(len(x), 2)

    inputs = score_inputs(tables)
    monkeypatch.setattr(type(inputs), "trained", lambda *_: {"classifier": Always()})
    config = replace(SMALL, samples_per_layout=1, crops_per_class_max=1)
    card = cas.score(inputs, config).card
    assert card["train_crops"]["used"] == 2
    assert card["test_crops"]["used"] == card["test_crops"]["found"] == 10


@pytest.mark.parametrize("name", ["real", "synthetic", "train"])
def test_objects_under_a_pixel_make_no_crops_and_that_is_told_before(name):
    tables = {key: bright_pictures(60, 2, key) for key in ("real", "synthetic", "train")}
    assert cas.available(score_inputs(tables), SMALL) is None
    scenes = []
    for scene in tables[name]:
        objects = scene.objects
        boxes = objects.boxes.copy()
        boxes[:, 2] = boxes[:, 0] + 0.5
        scenes.append(scene.with_objects(replace(objects, boxes=boxes, layout_boxes=boxes)))
    tables[name] = SceneList(tables[name].categories, scenes)
    reason = cas.available(score_inputs(tables), SMALL)
    assert reason is not None
    assert reason.startswith(f"the {name} images have no object of a pixel or more")
