"""CAS on crops whose difficulty is known by construction."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.scores.card import Metric
from synthaug.pipeline.scores.classification import cas, crops
from synthaug.pipeline.scores.classification import classifier as cas_classifier
from synthaug.pipeline.scores.classification.cifar_resnet import network

CATEGORIES = (Category(1, "dark"), Category(7, "sky", isthing=False), Category(3, "light"))
SMALL = cas.Config(width=4, steps=30, batch=16, size=8, shift=1)


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
    metric = cas.measured(
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
    metric = cas.measured(
        {"synthetic": models, "real": models[:1]}, train, test, CATEGORIES, short, {}
    )
    assert metric.value == pytest.approx(np.mean([one.top1 for one in single]))
    assert metric.values["top1_std"] == pytest.approx(np.std([one.top1 for one in single], ddof=1))
    assert metric.per_class["light"]["accuracy"] == pytest.approx(
        np.mean([one.per_class[1] for one in single])
    )
    assert "top1_std" not in metric.controls["real"]
    assert metric.per_class["light"]["test_crops"] == 30, (
        "each crop is a test crop once, however many classifiers see it"
    )


def test_random_labels_teach_nothing():
    """Labels without relation to the pixels: what was memorised in training must not help on fresh crops."""
    rng = np.random.default_rng(0)
    train, test = noisy([0] * 60, 0), noisy([0] * 400, 1)
    model = trained(SMALL, replace(train, labels=rng.integers(0, 2, 60)))
    found = cas_classifier.accuracy(model, test.crops, rng.integers(0, 2, 400))
    assert 0.4 < found.top1 < 0.6
    assert found.floor["chance"] == 0.5


def test_resumed_training_is_equal_bit_for_bit():
    train = noisy([0, 1] * 20, 0)
    whole = cas_classifier.ClassifierTraining(SMALL, train, 2)
    state = {}
    for index in range(12):
        if index == 5:
            state["model"] = copy.deepcopy(whole.modules["classifier"].state_dict())
            state["optimizer"] = copy.deepcopy(whole.optimizers["classifier"].state_dict())
        whole.step(index, whole.batch(index))
    torch.rand(7)  # what others do with the global generator must not matter
    resumed = cas_classifier.ClassifierTraining(SMALL, train, 2)
    resumed.modules["classifier"].load_state_dict(state["model"])
    resumed.optimizers["classifier"].load_state_dict(state["optimizer"])
    for index in range(5, 12):
        resumed.step(index, resumed.batch(index))
    expected, actual = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(expected[key], actual[key]) for key in expected)
    start = network(SMALL.depth, SMALL.width, 2, SMALL.seed).state_dict()
    assert not torch.equal(start["0.0.weight"], actual["0.0.weight"])


def test_batches_are_balanced_whatever_the_shares_and_follow_seed_and_step():
    training = cas_classifier.ClassifierTraining(
        replace(SMALL, batch=400), noisy([0] * 95 + [1] * 5, 0), 2
    )
    crops, labels = training.batch(3)
    assert (crops.shape, crops.dtype) == ((400, 8, 8, 3), np.uint8)
    assert 140 < labels.sum() < 260
    np.testing.assert_array_equal(crops, training.batch(3)[0])
    assert not np.array_equal(labels, training.batch(4)[1])


def test_augmentation_flips_and_shifts_only_when_asked():
    crops = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    still = replace(SMALL, flip=False, shift=0)
    np.testing.assert_array_equal(
        crops, cas_classifier.augment(crops, still, np.random.default_rng(0))
    )
    flips = cas_classifier.augment(
        np.repeat(crops[:1], 40, axis=0), replace(still, flip=True), np.random.default_rng(0)
    )
    kinds = {flip.tobytes() for flip in flips}
    assert kinds == {crops[0].tobytes(), np.ascontiguousarray(crops[0][:, ::-1]).tobytes()}
    shifts = cas_classifier.augment(
        np.repeat(crops[:1], 90, axis=0), replace(still, shift=1), np.random.default_rng(0)
    )
    assert len({shift.tobytes() for shift in shifts}) == 9


def test_the_published_network_has_its_published_size():
    """ResNet-101 in CIFAR form with ten classes has 42.5 M weights, ResNet-20 with projections 0.27 M."""
    count = [
        sum(p.numel() for p in network(*shape, 10, seed=0).parameters())
        for shape in ((101, 64), (20, 16))
    ]
    assert count == [42_512_970, 272_474]


@pytest.mark.parametrize("depth", [8, 14, 101])
def test_every_depth_answers_each_class_and_same_seed_same_weights(depth):
    net, again, other = (network(depth, 4, 5, seed).eval() for seed in (0, 0, 1))
    x = torch.rand(2, 3, 32, 32)
    assert net(x).shape == (2, 5)
    assert torch.equal(net(x), again(x))
    assert not torch.equal(net(x), other(x))


def test_an_answer_does_not_depend_on_the_other_crops_of_the_batch():
    model, test = (
        trained(replace(SMALL, steps=4), noisy([0, 1] * 10, 0)),
        noisy([0] * 30 + [1] * 20, 1),
    )
    together, apart = (
        cas_classifier.accuracy(model, test.crops, test.labels, batch) for batch in (50, 7)
    )
    np.testing.assert_array_equal(together.confusion, apart.confusion)
    assert not model.training


def test_every_step_sets_the_rate_of_its_index():
    training = cas_classifier.ClassifierTraining(SMALL, noisy([0, 1] * 10, 0), 2)
    for index in (20, 3):
        training.step(index, training.batch(index))
        assert training.optimizers["classifier"].param_groups[0][
            "lr"
        ] == cas_classifier.learning_rate(SMALL, index)


def test_learning_rate_warms_up_and_falls_to_zero():
    config = replace(SMALL, steps=100, lr=1.0)
    rates = [cas_classifier.learning_rate(config, index) for index in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[4]
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] < 0.001


def test_crops_at_the_border_are_clipped_and_boxes_without_pixels_counted():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 200
    boxes = [
        (-10, -10, 20, 20),
        (30, 0, 90, 90),
        (70, 0, 90, 40),
        (10, 10, 10, 30),
        (5, 5, 5.5, 30),
        (0, 0, 60, 40),
    ]
    found, kept = crops.crops(image, np.asarray(boxes, np.float32), 32)
    assert kept.tolist() == [True, True, False, False, False, True]
    assert (found.shape, found.dtype) == ((3, 32, 32, 3), np.uint8)
    assert (found[0].max(), found[1].min()) == (
        0,
        200,
    )  # the left part is black, the right part only light
    assert (found[2][:, :15].max(), found[2][:, 17:].min()) == (0, 200)
    assert crops.cut(
        0, 0, image, np.asarray(boxes, np.float32), np.arange(6), 32
    ).labels.tolist() == [0, 1, 5]
    assert crops.cut(0, 0, image, np.asarray(boxes, np.float32), np.arange(6), 32).skipped == 3


def test_no_boxes_give_no_crops():
    found, kept = crops.crops(np.zeros((9, 9, 3), np.uint8), np.zeros((0, 4), np.float32), 16)
    assert (found.shape, kept.shape) == ((0, 16, 16, 3), (0,))


def test_shrinking_averages_pixels():
    """A fine checkerboard becomes grey, not black or white as with point sampling."""
    board = (
        (np.indices((64, 64)).sum(axis=0) % 2 * 254).astype(np.uint8)[..., None].repeat(3, axis=2)
    )
    found, _ = crops.crops(board, np.asarray([(0, 0, 64, 64)], np.float32), 32)
    assert set(found.ravel().tolist()) == {127}


def test_the_table_is_capped_per_class_and_blind_to_order():
    rng = np.random.default_rng(0)
    rows = [
        crops.CropRow(
            i, s, rng.integers(0, 255, (3, 8, 8, 3), dtype=np.uint8), np.array([0, 1, 2]), skipped=1
        )
        for i in range(10)
        for s in range(2)
    ]
    tables = [crops.CropTable(replace(SMALL, crops_per_class_max=7), [0, 2]) for _ in range(2)]
    for row, reverse in zip(rows, rows[::-1], strict=True):
        tables[0].add(row)
        tables[1].add(reverse)
    one, other = (table.result() for table in tables)
    np.testing.assert_array_equal(one.crops, other.crops)
    assert np.bincount(one.labels).tolist() == [7, 7]  # class 2 has become label 1
    assert (one.found.tolist(), one.skipped) == ([20, 20], 20)
    everything = crops.CropTable(SMALL, [0, 2], cap=0)
    for row in rows:
        everything.add(row)
    assert len(everything.result().labels) == 40


def test_absent_classes_are_none_and_an_empty_test_set_has_no_value():
    train, config = noisy([0, 1] * 10, 0), replace(SMALL, steps=2, classes="all")
    model = trained(config, train, num_classes=3)
    test = noisy([0] * 5, 1)
    test = replace(test, found=np.array([5, 0, 0]))
    metric = cas.measured(
        {"synthetic": [model]},
        replace(train, found=np.array([10, 10, 0])),
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


def test_the_card_says_plainly_when_it_is_not_the_papers_network():
    assert "ResNet-8 instead of ResNet-101" in cas.deviations(cas.Config())
    assert cas.deviations(cas.Config(depth=101, width=64, classes="all")) == []
    assert "1 samples per layout instead of 5" in cas.deviations(cas.Config(samples_per_layout=1))


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
