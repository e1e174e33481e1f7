"""The flow against its definition in float64, and what sampling must not depend on."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from synthaug.generators.fill.flow import fill, flow_loss, noise_for, sampling_times
from synthaug.generators.fill.windows import Windows
from tests.generators.fill.fill_windows import CLASSES, random_network, random_windows


class Oracle(nn.Module):
    """A network that knows the pixels it is to paint: its velocity leads straight to them."""

    num_classes = CLASSES

    def __init__(self, target: Tensor) -> None:
        super().__init__()
        self.target = target
        self.seen: list[Tensor] = []

    def forward(self, noisy: Tensor, time: Tensor, windows: Windows) -> Tensor:
        self.seen.append(noisy.clone())
        return (self.target - noisy) / (1 - time[:, None, None, None])


def test_steps_along_the_true_velocity_end_at_the_pixels() -> None:
    windows = random_windows(2)
    target = torch.rand_like(windows.pixels) * 2 - 1
    painted = fill(Oracle(target), windows, noise_for([1, 2], 16), steps=5, guidance=1.0)
    inside = windows.region.expand_as(painted) > 0
    torch.testing.assert_close(painted[inside], target[inside], atol=1e-5, rtol=0)
    assert torch.equal(painted[~inside], windows.pixels[~inside])


def test_the_network_always_sees_the_known_pixels() -> None:
    windows = random_windows(1)
    oracle = Oracle(torch.zeros_like(windows.pixels))
    fill(oracle, windows, noise_for([3], 16), steps=3, guidance=1.0)
    outside = windows.region.expand_as(windows.pixels) == 0
    for noisy in oracle.seen:
        assert torch.equal(noisy[outside], windows.pixels[outside])


def test_hidden_pixels_do_not_leak_into_the_sample() -> None:
    """The region's own pixels are known in training only."""
    windows, network = random_windows(2), random_network()
    hidden = torch.where(windows.region > 0, torch.zeros(()), windows.pixels)
    blind = copy.copy(windows)
    object.__setattr__(blind, "pixels", hidden)
    noise = noise_for([4, 5], 16)
    seen, unseen = (fill(network, w, noise, 2, 1.5) for w in (windows, blind))
    assert torch.equal(seen, unseen)


def test_the_loss_is_the_definition_in_float64() -> None:
    windows, network = random_windows(3), random_network()
    noise, time = noise_for([1, 2, 3], 16), torch.tensor([0.1, 0.5, 0.9])
    losses = flow_loss(network, windows, noise, time)
    for row in range(3):
        one = windows.select(slice(row, row + 1))
        t, x, e = time[row].double(), one.pixels.double(), noise[row : row + 1].double()
        inside = one.region.double()
        noisy = inside * ((1 - t) * e + t * x) + (1 - inside) * x
        velocity = network(noisy.float(), time[row : row + 1], one).double()
        error = (velocity - (x - e)) ** 2 * inside
        expected = error.sum() / (3 * inside.sum())
        torch.testing.assert_close(losses[row].double(), expected, rtol=1e-4, atol=1e-6)


def test_each_window_is_painted_from_its_own_seed_and_content() -> None:
    windows, network = random_windows(3), random_network()
    together = fill(network, windows, noise_for([7, 8, 9], 16), 3, 1.5)
    alone = fill(network, windows.select(slice(2, 3)), noise_for([9], 16), 3, 1.5)
    torch.testing.assert_close(together[2:], alone, atol=5e-5, rtol=0)
    other = fill(network, windows.select(slice(2, 3)), noise_for([10], 16), 3, 1.5)
    assert not torch.allclose(alone, other)


def test_guidance_of_one_asks_the_network_once_a_step() -> None:
    windows = random_windows(1)
    oracle = Oracle(windows.pixels)
    fill(oracle, windows, noise_for([1], 16), steps=4, guidance=1.0)
    assert len(oracle.seen) == 4


def test_guidance_moves_away_from_the_untold_velocity() -> None:
    windows, network = random_windows(1), random_network()
    noise = noise_for([1], 16)
    plain, guided = (fill(network, windows, noise, 4, g) for g in (1.0, 3.0))
    assert not torch.allclose(plain, guided)


class Told(nn.Module):
    """A network whose velocity is 1 where it is told a class, and 0 where it is not."""

    num_classes = CLASSES

    def forward(self, noisy: Tensor, time: Tensor, windows: Windows) -> Tensor:
        told = (windows.labels != CLASSES + 1).float()
        return torch.ones_like(noisy) * told[:, None, None, None]


def test_guidance_multiplies_what_the_class_adds_to_the_velocity() -> None:
    """Three steps: the second, guided, looks back at the first; the third, guided too, does not."""
    windows = random_windows(1)
    start = torch.full_like(windows.pixels, -0.9)
    painted = fill(Told(), windows, start, steps=3, guidance=1.5)
    inside = windows.region.expand_as(painted) > 0
    first, second, third = 0.4556689, 0.3518811, 0.1924501  # lengths of the steps
    change = (1.5 - 1) / first
    end = -0.9 + first * 1 + second * (1.5 + second / 2 * change) + third * 1.5
    torch.testing.assert_close(painted[inside], torch.full_like(painted, end)[inside])


def test_guidance_is_asked_for_in_the_middle_of_time_alone() -> None:
    """Of ten steps those that begin at 0, 0.911 and 0.968 are not guided; seven ask twice."""
    windows = random_windows(1)
    oracle = Oracle(windows.pixels)
    fill(oracle, windows, noise_for([1], 16), steps=10, guidance=2.0)
    assert len(oracle.seen) == 17
    oracle.seen.clear()
    fill(oracle, windows, noise_for([1], 16), steps=2, guidance=2.0)
    assert len(oracle.seen) == 3


def test_steps_are_shorter_the_later() -> None:
    times = torch.tensor(sampling_times(6), dtype=torch.float64)
    assert times[0] == 0 and times[-1] == 1
    left = 1 - times
    torch.testing.assert_close(left[:-1] ** (2 / 3) * 6, torch.arange(6, 0, -1).double())
    lengths = times.diff()
    assert (lengths.diff() < 0).all()


class Decay(nn.Module):
    """A velocity of minus the pixels: after time 1 they are 1 / e of what they were."""

    num_classes = CLASSES

    def forward(self, noisy: Tensor, time: Tensor, windows: Windows) -> Tensor:
        return -noisy


def test_half_the_length_of_steps_leaves_a_quarter_of_the_error() -> None:
    windows = random_windows(1)
    start = torch.full_like(windows.pixels, 0.9)
    inside = windows.region.expand_as(start) > 0
    errors = []
    for steps in (8, 16):
        painted = fill(Decay(), windows, start, steps, guidance=1.0)
        errors.append(float((painted[inside] - 0.9 / math.e).abs().max()))
    assert errors[0] < 0.005
    assert 3.2 < errors[0] / errors[1] < 5
