"""The regression's loss against its equations, class by class and layer by layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.crn.config import DIVERSE
from synthaug.generators.crn.losses import (
    CAFFE_MEAN,
    VGG19_LAYERS,
    RegressionLoss,
    average_pools,
    nearest_image,
    vgg_colors,
)
from synthaug.generators.nn.imagenet import to_imagenet
from synthaug.generators.nn.perceptual import VggFeatures

ONLY_PIXELS = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """Three images, a real one and labels of two classes, one of them on the left half."""
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 3, 16, 16, generator=rng) * 2 - 1
    real = torch.rand(1, 3, 16, 16, generator=rng) * 2 - 1
    labels = torch.zeros(1, 2, 16, 16)
    labels[:, 0, :, :8] = 1
    labels[:, 1, :, 8:] = 1
    return images, real, labels


def test_each_class_learns_from_its_nearest_image() -> None:
    images, real, labels = scene()
    images[0, 1, :, :, :8] = real[0, :, :, :8]  # the second image has the left half right
    errors = RegressionLoss(ONLY_PIXELS, True).class_errors(images, real, labels)
    assert errors.shape == (1, 1, 3, 2)
    by_hand = (images[0] - real).abs().mul(127.5).mean(1)[:, None] * labels[0]
    torch.testing.assert_close(errors[0, 0], by_hand.mean((2, 3)))
    assert errors[0, 0, 1, 0] == 0
    least = errors[0, 0].amin(0).sum()
    mean = errors[0, 0].mean(0).sum()
    expected = 0.999 * least + 0.001 * mean
    torch.testing.assert_close(nearest_image(errors[0]), expected)
    torch.testing.assert_close(RegressionLoss(ONLY_PIXELS, True)(images, real, labels), expected)


def test_confidence_weighs_pixels() -> None:
    images, real, labels = scene()
    sure_left = labels[:, 0]
    errors = RegressionLoss(ONLY_PIXELS, True).class_errors(images, real, labels, sure_left)
    assert errors[..., 1].eq(0).all()
    plain = RegressionLoss(ONLY_PIXELS, False)
    weighed = plain.errors(images[:, 0], real, sure_left)
    left = (images[:, 0] - real).abs()[..., :8].sum() * 127.5 / real.numel()
    torch.testing.assert_close(weighed, left[None])


@pytest.fixture(scope="module")
def vgg19(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of VGG-19's first layers with random weights."""
    from torchvision.models import vgg19 as build

    torch.manual_seed(0)
    with torch.device("meta"):
        features = build(weights=None, init_weights=False).features
    state = {}
    for name, value in features.state_dict().items():
        fan_in = value[0].numel() if value.ndim == 4 else 1000
        state[f"features.{name}"] = torch.randn(value.shape) * (2 / fan_in) ** 0.5
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path


def test_layers_of_vgg_have_average_pools_and_see_colors_without_their_mean(vgg19: Path) -> None:
    images, real, _ = scene()
    loss = RegressionLoss(DIVERSE, False, str(vgg19))
    terms = loss.errors(images[:, 0], real)
    assert terms.shape == (6,)
    layers = VggFeatures(vgg19, VGG19_LAYERS, VGG19_LAYERS)
    average_pools(layers)
    assert not [layer for layer in layers.features if isinstance(layer, nn.MaxPool2d)]
    mean = torch.tensor(CAFFE_MEAN)[:, None, None]
    colors = [(x + 1) / 2 * 255 - mean for x in (images[:, 0], real)]
    torch.testing.assert_close(terms[0], (colors[0] - colors[1]).abs().mean())
    features = [layers.outputs(x) for x in colors]
    for weight, term, ours, theirs in zip(DIVERSE[1:], terms[1:], *features, strict=True):
        torch.testing.assert_close(term, weight * F.l1_loss(ours, theirs), rtol=1e-4, atol=1e-5)
    assert [x.shape[-1] for x in features[0]] == [16, 8, 4, 2, 1]
    whole = RegressionLoss(DIVERSE, True, str(vgg19)).class_errors(
        images[:, :1], real, torch.ones(1, 1, 16, 16)
    )
    torch.testing.assert_close(whole[:, 0, 0, 0], terms, rtol=1e-4, atol=1e-5)


def test_the_pixel_term_is_the_same_for_weights_of_either_kind() -> None:
    images, real, _ = scene()
    ours = RegressionLoss(ONLY_PIXELS, False, "", "imagenet").errors(images[:, 0], real)
    theirs = RegressionLoss(ONLY_PIXELS, False).errors(images[:, 0], real)
    torch.testing.assert_close(ours, theirs)


def test_vgg_sees_the_colors_that_its_weights_were_trained_on() -> None:
    images = scene()[0][0]
    scale, shift = vgg_colors("imagenet")
    torch.testing.assert_close(images * scale + shift, to_imagenet(images))
    scale, shift = vgg_colors("caffe")
    mean = torch.tensor(CAFFE_MEAN)[:, None, None]
    torch.testing.assert_close(images * scale + shift, (images + 1) * 127.5 - mean)


def test_a_file_that_is_absent_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^perceptual_weights: .*none\.pth") as caught:
        RegressionLoss(DIVERSE, True, str(tmp_path / "none.pth"))
    assert "\n" not in str(caught.value)
