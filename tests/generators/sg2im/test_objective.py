"""The losses of sg2im and the order of its training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators import sg2im
from synthaug.generators.base import TrainingBatch
from synthaug.generators.nn.imagenet import to_imagenet
from synthaug.generators.sg2im.config import Config
from synthaug.generators.sg2im.graphs import scene_graphs
from synthaug.generators.sg2im.objective import (
    Loop,
    Sg2ImObjective,
    Sg2ImTraining,
    mask_loss,
)
from tests.generators.sg2im.scenes import LABELS, TINY, layouts_of


def objective_of(**settings: Any) -> Sg2ImObjective:
    torch.manual_seed(0)
    return Sg2ImObjective(Config(**{**TINY, "mask_side": 4, **settings}), LABELS)


def batch_of(masks: int = 4, scores: float = 1.0) -> TrainingBatch:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    layouts = layouts_of(masks=masks)
    return TrainingBatch(images, replace(layouts, scores=layouts.scores * scores))


def test_the_generator_is_asked_for_boxes_masks_classes_and_realism() -> None:
    objective, batch = objective_of(lambda_mask=0.1), batch_of()
    objective.networks["G"].eval()
    objective.networks["D"].eval()
    fakes = objective.generate(batch, torch.Generator().manual_seed(0))
    terms = {**objective.generator_losses(batch, fakes.images), **fakes.losses}
    assert set(terms) == {"g_l1", "g_class", "g_object", "g_image", "g_box", "g_mask"}
    graphs = scene_graphs(batch.layouts)
    scores, logits = objective.networks["D"].object(fakes.images, graphs)  # type: ignore[operator]
    expected = 0.1 * F.cross_entropy(logits, graphs.labels)
    torch.testing.assert_close(terms["g_class"].value, expected)
    torch.testing.assert_close(terms["g_object"].value, 0.01 * F.softplus(-scores).mean())
    l1 = (fakes.images - to_imagenet(batch.images)).abs().mean()
    torch.testing.assert_close(terms["g_l1"].value, l1)


def test_unsure_objects_weigh_less_in_the_object_terms_of_the_discriminator() -> None:
    fake = torch.rand(3, 3, 64, 64)

    def terms(scores: float, **settings: Any) -> dict[str, float]:
        objective = objective_of(**settings)
        objective.networks["D"].eval()
        losses = objective.discriminator_losses(batch_of(scores=scores), fake)
        return {name: float(loss.value.detach()) for name, loss in losses.items()}

    sure, unsure = terms(1.0), terms(0.0)
    assert unsure["d_image"] == sure["d_image"]
    assert 0 < unsure["d_object"] < sure["d_object"]  # the whole images still count
    assert 0 < unsure["d_class"] < sure["d_class"]
    assert terms(0.0, weigh_scores=False) == sure


def test_objects_of_real_images_and_of_fakes_are_weighed_alike() -> None:
    objective, batch, fake = objective_of(), batch_of(scores=0.25), torch.rand(3, 3, 64, 64)
    discriminators = objective.networks["D"].eval()
    losses = objective.discriminator_losses(batch, fake)
    graphs = scene_graphs(batch.layouts)
    of_object, of_class = torch.zeros(()), torch.zeros(())
    for images, sign in ((fake, 1), (to_imagenet(batch.images), -1)):
        scores, logits = discriminators.object(images, graphs)  # type: ignore[operator]
        of_object = of_object + (F.softplus(sign * scores) * graphs.scores).mean()
        errors = F.cross_entropy(logits, graphs.labels, reduction="none")
        of_class = of_class + (errors * graphs.scores).mean()
    torch.testing.assert_close(losses["d_object"].value, of_object)
    torch.testing.assert_close(losses["d_class"].value, of_class)


@pytest.mark.parametrize("given", [True, False])
def test_masks_are_painted_where_the_generator_is_told_of_them(given: bool) -> None:
    objective, batch = objective_of(given_masks=given), batch_of()
    generator = objective.networks["G"].eval()
    made = objective.generate(batch, torch.Generator().manual_seed(0)).images
    graphs, noise = objective.draw(batch.layouts, torch.Generator().manual_seed(0))
    with_masks = generator(graphs, noise, graphs.boxes, graphs.masks).images
    without = generator(graphs, noise, graphs.boxes).images
    assert not torch.equal(with_masks, without)
    assert torch.equal(made, with_masks if given else without)


def test_only_known_masks_are_learned_from() -> None:
    logits, masks = torch.randn(2, 4, 4), torch.ones(2, 4, 4)
    masks[1] = torch.nan
    expected = F.binary_cross_entropy_with_logits(logits[:1], masks[:1])
    torch.testing.assert_close(mask_loss(logits, masks), expected)
    assert float(mask_loss(logits, masks * torch.nan)) == 0


def trained(steps: int, loop: Loop) -> tuple[Sg2ImTraining, list[dict[str, Tensor]]]:
    config = Config(**{**TINY, "mask_side": 4})
    training = sg2im.training(config, loop, LABELS - 1, 4, 3)
    told = [training.step(index, batch_of()) for index in range(steps)]
    return training, told


def test_norms_freeze_at_a_step_with_a_fresh_optimizer_and_resume_bit_for_bit() -> None:
    loop = Loop(freeze_from=1)
    one, _ = trained(1, loop)
    name = "refinement_net.refinement_modules.0.net.1.running_mean"
    before = one.generator().state_dict()[name].clone()
    two, _ = trained(2, loop)
    assert torch.equal(before, two.generator().state_dict()[name])
    steps = {int(state["step"]) for state in two.optimizers["G"].state.values()}
    assert steps == {1}
    moving, _ = trained(2, Loop())
    assert not torch.equal(before, moving.generator().state_dict()[name])
    resumed, _ = trained(0, loop)
    for key, module in one.modules.items():
        resumed.modules[key].load_state_dict(module.state_dict())
    for key, optimizer in one.optimizers.items():
        resumed.optimizers[key].load_state_dict(optimizer.state_dict())
    resumed.step(1, batch_of())
    expected = two.generator().state_dict()
    for key, value in resumed.generator().state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_the_discriminator_learns_on_the_fakes_that_the_generator_learned_from() -> None:
    training = sg2im.training(Config(**TINY, mask_side=4), Loop(), LABELS - 1, 4, 3)
    fakes: list[Tensor] = []
    training.modules["G"].register_forward_hook(lambda _m, _i, out: fakes.append(out.images))
    seen: list[Tensor] = []
    training.modules["D"].image.register_forward_hook(  # type: ignore[operator, union-attr]
        lambda _m, inputs, _out: seen.append(inputs[0])
    )
    training.step(0, batch_of())
    assert len(fakes) == 1
    assert sum(torch.equal(image, fakes[0]) for image in seen) == 2  # in G's phase and in D's
