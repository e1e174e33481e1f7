"""Residual networks for small images: published size, shapes, seeds."""

import pytest
import torch

from synthaug.pipeline.scores.classification.cifar_resnet import network


def test_the_published_network_has_its_published_size():
    """ResNet-101 in CIFAR form with ten classes has 42.5 M weights, ResNet-20 with projections 0.27
    M.
    """
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


def test_the_weights_follow_the_seed():
    same, again, other = (network(8, 4, 3, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(same[name], again[name]) for name in same)
    assert not torch.equal(same["0.0.weight"], other["0.0.weight"])


def test_each_stage_but_the_first_halves_the_map_and_doubles_the_channels():
    net = network(8, 4, 3, 0)
    shapes = []
    x = torch.zeros(2, 3, 32, 32)
    for layer in list(net)[:-3]:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(4, 32, 32), (4, 32, 32), (4, 32, 32), (8, 16, 16), (16, 8, 8)]
