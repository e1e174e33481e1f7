"""SPADE's settings and its training: resume, order of the two networks, equal forms."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from synthaug.generators import spade as spade_system
from synthaug.generators.base import MapBatch
from synthaug.generators.spade import network as spade
from synthaug.generators.spade.losses import (
    discriminator_loss,
    feature_matching,
    generator_loss,
    kl_divergence,
)
from synthaug.generators.spade.semantics import semantics
from synthaug.generators.training.adversarial import AdversarialTraining
from synthaug.generators.training.adversarial import Config as TrainingConfig
from tests.generators.spade.networks import FORMS, SMALL, maps_of, settled


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resolution", 40),
        ("upsampling", "all"),
        ("aspect_ratio", 0.0),
        ("aspect_ratio", 100.0),
        ("gan_mode", "lsgan"),
        ("num_layers", 1),
        ("width", 0),
        ("lambda_kl", -1.0),
    ],
)
def test_impossible_settings_name_their_key(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{key}:") as caught:
        spade.Config(**{key: value})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def training_of(config: spade.Config, loop: TrainingConfig) -> AdversarialTraining[MapBatch]:
    return spade_system.training(config, loop, 5, steps=6, seed=3)


def batch_of(count: int, seed: int) -> MapBatch:
    images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return MapBatch(images, maps_of(32, 32, 5, seed, count))


def parts_of(training: AdversarialTraining[MapBatch]) -> dict[str, Any]:
    return training.modules | {
        f"optimizer {name}": part for name, part in training.optimizers.items()
    }


def state_of(training: AdversarialTraining[MapBatch]) -> dict[str, Any]:
    return copy.deepcopy({name: part.state_dict() for name, part in parts_of(training).items()})


@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_resumes_bit_for_bit(accumulate: int) -> None:
    """With a latent code, whose encoder learns with G, in one part and in two."""
    config = replace(SMALL, vae=True, z=4)
    loop = TrainingConfig(lr_d=4e-4, beta2=0.9, accumulate=accumulate, ema=0.5)
    straight = training_of(config, loop)
    told = {}
    for step in range(4):
        if step == 2:
            saved = state_of(straight)
        told = straight.step(step, batch_of(4, step))
    assert {"d_real", "d_fake", "g_image", "g_features", "g_kl_sum"} == told.keys()
    assert {"G", "D", "E", "G_ema"} == straight.modules.keys()
    resumed = training_of(config, loop)
    before = state_of(resumed)["E"]["fc_mu.weight"]
    for name, part in parts_of(resumed).items():
        part.load_state_dict(saved[name])
    torch.rand(3)
    for step in (2, 3):
        resumed.step(step, batch_of(4, step))
    torch.testing.assert_close(state_of(resumed), state_of(straight), rtol=0, atol=0)
    assert not torch.equal(before, state_of(straight)["E"]["fc_mu.weight"])


def test_d_learns_on_fakes_of_the_updated_generator() -> None:
    """G runs twice a step, the second time with its new weights, so with other images."""
    training = training_of(SMALL, TrainingConfig(lr_g=1e-2))
    fakes: list[Tensor] = []
    training.modules["G"].register_forward_hook(lambda _m, _i, out: fakes.append(out))
    training.step(0, batch_of(2, 0))
    assert [True, False] == [fake.requires_grad for fake in fakes]
    assert not torch.equal(fakes[0], fakes[1])
    assert (
        training.modules["G"].get_buffer("head_0.norm_0.param_free_norm.num_batches_tracked") == 2
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_by_windows_is_that_by_pixels(precision: str) -> None:
    """Gradients of both networks, up to rounding."""
    found = []
    for fast in (False, True):
        training = training_of(
            replace(SMALL, width=4, fast_modulation=fast), TrainingConfig(precision=precision)
        )
        training.step(0, batch_of(2, 0))
        found.append(
            torch.cat(
                [p.grad.flatten() for n in ("G", "D") for p in training.modules[n].parameters()]
            )
        )  # type: ignore[union-attr]
    apart = (found[0] - found[1]).norm() / found[0].norm()
    assert apart < (1e-4 if precision == "float32" else 0.1)


def test_a_sum_over_images_is_not_weighed_by_parts() -> None:
    """The KL divergence of a batch in parts is that of the whole.

    Without norms over the batch it depends on E alone.
    """
    config = replace(SMALL, vae=True, z=4)
    told = [
        training_of(config, TrainingConfig(accumulate=n)).step(0, batch_of(4, 0))["g_kl_sum"]
        for n in (1, 2)
    ]
    torch.testing.assert_close(told[0], told[1], rtol=1e-4, atol=0)


def test_without_a_latent_code_z_is_ignored_and_with_one_it_is_needed() -> None:
    maps = semantics(maps_of(32, 32, 3, seed=0), True, True)
    plain = settled(spade_system.build(SMALL, 3))
    with torch.no_grad():
        assert torch.equal(plain(maps), plain(maps, torch.randn(1, 256)))
    coded = spade_system.build(replace(SMALL, vae=True, z=4), 3)
    with pytest.raises(AssertionError, match="needs one"):
        coded(maps)


@pytest.mark.parametrize("config", FORMS)
def test_sides_double_from_the_first_map_to_the_image(config: spade.Config) -> None:
    doublings = sum(stage.doubled for stage in spade.stages(config))
    assert doublings == spade.DOUBLINGS[config.upsampling]
    rows, columns = config.start
    assert config.size == (rows * 2**doublings, columns * 2**doublings)
    widths = [stage.channels_in for stage in spade.stages(config)]
    outs = [stage.channels_out for stage in spade.stages(config)]
    assert widths[1:] == outs[:-1]


def objective_of(config: spade.Config) -> spade.SpadeObjective:
    objective = spade.SpadeObjective(config, 5)
    for number, network in enumerate(objective.networks.values()):
        settled(network, number)
    return objective


@pytest.mark.parametrize("weigh_scores", [True, False])
def test_the_terms_are_those_of_the_losses_over_the_discriminators_outputs(
    weigh_scores: bool,
) -> None:
    """Real and fake in their places; pixels of pseudo-labels weigh their score where asked."""
    objective = objective_of(replace(SMALL, weigh_scores=weigh_scores))
    plain = batch_of(2, 0)
    weights = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(4))
    batch = MapBatch(plain.images, plain.maps, weights)
    fake = batch_of(2, 1).images
    semantic = semantics(batch.maps, True, True).dense
    fakes, reals = (objective.networks["D"](semantic, images) for images in (fake, batch.images))
    on_real, on_fake = discriminator_loss(reals, fakes, "hinge", weights if weigh_scores else None)
    of_d = objective.discriminator_losses(batch, fake)
    found = torch.stack([of_d["d_real"].value, of_d["d_fake"].value])
    torch.testing.assert_close(found, torch.stack([on_real, on_fake]))
    of_g = objective.generator_losses(batch, fake)
    expected = [generator_loss(fakes, "hinge"), 10 * feature_matching(fakes, reals)]
    found = torch.stack([of_g["g_image"].value, of_g["g_features"].value])
    torch.testing.assert_close(found, torch.stack(expected))
    assert len({float(value) for value in (on_real, on_fake, *expected)}) == 4


def test_latent_codes_are_drawn_around_those_of_the_real_images() -> None:
    """z = mu + exp(logvar / 2) noise; the divergence is a sum, times its weight."""
    objective = objective_of(replace(SMALL, vae=True, z=4, lambda_kl=0.3))
    batch, given = batch_of(2, 0), []
    objective.networks["G"].register_forward_pre_hook(lambda _, inputs: given.append(inputs[1]))
    fakes = objective.generate(batch, torch.Generator().manual_seed(9))
    mu, logvar = objective.networks["E"](batch.images)
    noise = torch.randn(2, 4, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(given[0], mu + (logvar / 2).exp() * noise)
    divergence = fakes.losses["g_kl_sum"]
    torch.testing.assert_close(divergence.value, 0.3 * kl_divergence(mu, logvar))
    assert "sum" == divergence.mean_over
