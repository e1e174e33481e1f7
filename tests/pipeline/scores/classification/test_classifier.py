"""The classifier of CAS: its batches, its augmentation, its schedule and its resume."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.scores.classification import classifier, crops
from synthaug.pipeline.scores.classification.cifar_resnet import network

SMALL = classifier.Config(width=8, steps=30, batch=16, size=8, shift=1)


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
    training = classifier.ClassifierTraining(config, train, num_classes)
    for index in range(config.steps):
        training.step(index, training.batch(index))
    return training.model


def test_random_labels_teach_nothing():
    """Labels without relation to the pixels.

    What was memorised in training must not help on fresh crops.
    """
    rng = np.random.default_rng(0)
    train, test = noisy([0] * 60, 0), noisy([0] * 400, 1)
    model = trained(SMALL, replace(train, labels=rng.integers(0, 2, 60)))
    found = classifier.accuracy(model, test.crops, rng.integers(0, 2, 400))
    assert 0.4 < found.top1 < 0.6
    assert found.floor["chance"] == 0.5


def test_resumed_training_is_equal_bit_for_bit():
    train = noisy([0, 1] * 20, 0)
    whole = classifier.ClassifierTraining(SMALL, train, 2)
    state = {}
    for index in range(12):
        if index == 5:
            state["model"] = copy.deepcopy(whole.modules["classifier"].state_dict())
            state["optimizer"] = copy.deepcopy(whole.optimizers["classifier"].state_dict())
        whole.step(index, whole.batch(index))
    torch.rand(7)  # what others do with the global generator must not matter
    resumed = classifier.ClassifierTraining(SMALL, train, 2)
    resumed.modules["classifier"].load_state_dict(state["model"])
    resumed.optimizers["classifier"].load_state_dict(state["optimizer"])
    for index in range(5, 12):
        resumed.step(index, resumed.batch(index))
    expected, actual = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(expected[key], actual[key]) for key in expected)
    start = network(SMALL.depth, SMALL.width, 2, SMALL.seed).state_dict()
    assert not torch.equal(start["0.0.weight"], actual["0.0.weight"])


def test_batches_are_balanced_whatever_the_shares_and_follow_seed_and_step():
    training = classifier.ClassifierTraining(
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
    np.testing.assert_array_equal(crops, classifier.augment(crops, still, np.random.default_rng(0)))
    flips = classifier.augment(
        np.repeat(crops[:1], 40, axis=0), replace(still, flip=True), np.random.default_rng(0)
    )
    kinds = {flip.tobytes() for flip in flips}
    assert kinds == {crops[0].tobytes(), np.ascontiguousarray(crops[0][:, ::-1]).tobytes()}
    shifts = classifier.augment(
        np.repeat(crops[:1], 90, axis=0), replace(still, shift=1), np.random.default_rng(0)
    )
    assert len({shift.tobytes() for shift in shifts}) == 9


def test_what_moves_in_from_outside_repeats_the_border():
    crops = np.zeros((60, 8, 8, 3), np.uint8)
    crops[:, :, 0] = 100  # the left column
    shifted = classifier.augment(
        crops, replace(SMALL, flip=False, shift=3), np.random.default_rng(0)
    )
    lit = {int((crop[0, :, 0] > 0).sum()) for crop in shifted}
    assert lit == {0, 1, 2, 3, 4}
    assert not shifted[:, :, -1].any(), "nothing of the left comes in on the right"


def test_pixels_reach_the_network_between_minus_one_and_one():
    class Seen(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = torch.nn.Parameter(torch.zeros(2))
            self.range = set()

        def forward(self, x):
            self.range |= set(x.unique().tolist())
            return self.logits.expand(len(x), 2)

    network = Seen()
    crops = np.zeros((2, 8, 8, 3), np.uint8)
    crops[1] = 255
    classifier.accuracy(network, crops, np.array([0, 1]))
    assert network.range == {-1.0, 1.0}


def test_an_answer_does_not_depend_on_the_other_crops_of_the_batch():
    model, test = (
        trained(replace(SMALL, steps=4), noisy([0, 1] * 10, 0)),
        noisy([0] * 30 + [1] * 20, 1),
    )
    together, apart = (
        classifier.accuracy(model, test.crops, test.labels, batch) for batch in (50, 7)
    )
    np.testing.assert_array_equal(together.confusion, apart.confusion)
    assert not model.training


def test_every_step_sets_the_rate_of_its_index():
    training = classifier.ClassifierTraining(SMALL, noisy([0, 1] * 10, 0), 2)
    for index in (20, 3):
        training.step(index, training.batch(index))
        assert training.optimizers["classifier"].param_groups[0]["lr"] == classifier.learning_rate(
            SMALL, index
        )


def test_learning_rate_warms_up_and_falls_to_zero():
    config = replace(SMALL, steps=100, lr=1.0)
    rates = [classifier.learning_rate(config, index) for index in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[4]
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] < 0.001


def test_a_confusion_counts_true_classes_in_rows_and_answers_in_columns():
    class Always(torch.nn.Module):
        """Answers class 2 whatever it is shown."""

        def __init__(self):
            super().__init__()
            self.logits = torch.nn.Parameter(torch.tensor([0.0, 0.0, 1.0]))

        def forward(self, x):
            return self.logits.expand(len(x), 3)

    labels = np.array([0, 0, 1, 2])
    result = classifier.accuracy(Always(), np.zeros((4, 8, 8, 3), np.uint8), labels)
    assert result.confusion.tolist() == [[0, 0, 2], [0, 0, 1], [0, 0, 1]]
    assert result.per_class == (0.0, 0.0, 1.0)
    assert (result.top1, result.balanced) == (0.25, pytest.approx(1 / 3))
    assert result.floor == {"chance": 1 / 3, "majority": 0.5}


def test_the_mean_of_trainings_leaves_out_what_is_not_known():
    one = classifier.Accuracy(0.5, 0.5, (0.5, None), np.array([[1, 1], [0, 0]]))
    other = classifier.Accuracy(1.0, 1.0, (1.0, None), np.array([[2, 0], [0, 0]]))
    mean = classifier.mean_accuracy([one, other])
    assert (mean.top1, mean.balanced, mean.per_class) == (0.75, 0.75, (0.75, None))
    assert mean.confusion.tolist() == [[3, 1], [0, 0]]


def test_a_label_is_a_position_among_the_selected_classes():
    categories = (Category(1, "dark"), Category(7, "sky", isthing=False), Category(3, "light"))
    assert classifier.Config().selected(categories) == [0, 2]
    assert classifier.Config(classes="all").selected(categories) == [0, 1, 2]
