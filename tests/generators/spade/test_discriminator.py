"""SPADE's discriminator and encoder: scales, layers, sizes and where weights start."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from synthaug.generators.spade.discriminator import (
    Discriminator,
    Encoder,
    PatchDiscriminator,
    default_init,
    xavier_init,
)


def test_each_scale_sees_the_averaged_image_and_has_weights_of_its_own() -> None:
    torch.manual_seed(0)
    network = Discriminator(4, 3, num_scales=3, num_layers=3).eval()
    semantic, images = torch.rand(2, 4, 32, 48), torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        outputs = network(semantic, images)
        x = torch.cat([semantic, images], 1)
        for k in range(3):
            part = network.get_submodule(f"discriminator_{k}")
            for made, expected in zip(outputs[k], part(x), strict=True):
                assert torch.equal(made, expected)
            x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
    first, second = (network.get_submodule(f"discriminator_{k}.model0.0") for k in (0, 1))
    assert not torch.equal(first.weight, second.weight)


def test_layers_halve_the_map_but_the_last_two_and_end_in_scores() -> None:
    network = PatchDiscriminator(5, 4, 4)
    outputs = network(torch.rand(1, 5, 64, 64))
    assert [tuple(x.shape[1:]) for x in outputs] == [
        (4, 33, 33),
        (8, 17, 17),
        (16, 9, 9),
        (32, 10, 10),
        (1, 11, 11),
    ]


def test_widths_stop_growing_at_eight_times_the_base() -> None:
    network = PatchDiscriminator(5, 2, 6)
    assert [network.get_submodule(f"model{i}.0.0").weight_orig.shape[0] for i in range(1, 6)] == [
        4,
        8,
        16,
        16,
        16,
    ]


def test_the_encoder_takes_images_of_any_size_resized_to_256() -> None:
    torch.manual_seed(0)
    network = Encoder(2, 5).eval()
    images = torch.rand(2, 3, 96, 128) * 2 - 1
    resized = F.interpolate(images, (256, 256), mode="bilinear", align_corners=False)
    with torch.no_grad():
        for made, expected in zip(network(images), network(resized), strict=True):
            assert made.shape == (2, 5)
            assert torch.equal(made, expected)


def test_default_weights_lie_within_one_over_the_root_of_the_fan_in() -> None:
    torch.manual_seed(0)
    weight = torch.empty(50, 4, 3, 3)
    default_init(weight)
    assert float(weight.abs().max()) <= 1 / 6
    assert float(weight.abs().max()) > 0.99 / 6


def test_xavier_gain_is_a_fiftieth_and_biases_start_at_zero() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(20, 30, 5), nn.Linear(400, 300))
    xavier_init(network)
    for layer, fans in zip(network, (20 * 25 + 30 * 25, 700), strict=True):
        assert not layer.bias.any()
        expected = 0.02 * (2 / fans) ** 0.5
        assert abs(float(layer.weight.std()) / expected - 1) < 0.03


def test_a_layer_is_a_normed_convolution_instance_norm_and_a_leaky_slope_of_a_fifth() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(5, 4, 4).double().eval()
    x = torch.randn(2, 5, 16, 24, dtype=torch.float64)
    first = network.model0[0]
    hidden = F.conv2d(x, first.weight, first.bias, stride=2, padding=2)
    hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
    outputs = network(x)
    torch.testing.assert_close(outputs[0], hidden)
    weight = network.get_submodule("model1.0.0").weight()
    values = F.conv2d(hidden, weight, stride=2, padding=2)
    mean = values.mean((2, 3), keepdim=True)
    variance = values.var((2, 3), unbiased=False, keepdim=True)
    values = (values - mean) / (variance + 1e-5).sqrt()
    expected = torch.where(values > 0, values, 0.2 * values)
    torch.testing.assert_close(outputs[1], expected)


def test_scores_are_linear_in_the_last_features() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(5, 4, 3).eval()
    outputs = network(torch.randn(1, 5, 16, 16))
    last = network.get_submodule("model3.0")
    expected = F.conv2d(outputs[-2], last.weight, last.bias, padding=2)
    assert torch.equal(outputs[-1], expected)
    assert float(outputs[-1].min()) < 0 < float(outputs[-2].max())


def test_the_encoders_outputs_are_mean_then_logarithm_of_the_variance() -> None:
    torch.manual_seed(0)
    network = Encoder(2, 5).eval()
    images = torch.rand(1, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        network.fc_mu.weight.zero_()
        network.fc_mu.bias.fill_(3)
        network.fc_var.weight.zero_()
        network.fc_var.bias.fill_(-2)
        mu, logvar = network(images)
    assert mu.tolist() == [[3.0] * 5]
    assert logvar.tolist() == [[-2.0] * 5]
    assert network.fc_mu.in_features == 16 * 4 * 4
