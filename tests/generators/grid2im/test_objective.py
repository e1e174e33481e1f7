"""The losses of Grid2Im and the order of its training."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from synthaug.generators import grid2im
from synthaug.generators.base import TrainingBatch
from synthaug.generators.grid2im.config import Config
from synthaug.generators.grid2im.losses import feature_matching, squared_error
from synthaug.generators.grid2im.objective import Grid2ImObjective, Loop, known_masks
from tests.generators.grid2im.scenes import LABELS, TINY, network_of
from tests.generators.sg2im.scenes import graphs_of, layouts_of


def batch_of(scores: float = 1.0) -> TrainingBatch:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    layouts = layouts_of(masks=8)
    return TrainingBatch(images, replace(layouts, scores=layouts.scores * scores))


def test_unknown_masks_are_the_predicted_ones() -> None:
    graphs = graphs_of((1,), masks=8)
    assert graphs.masks is not None
    graphs.masks[0] = torch.nan
    predicted = torch.rand(2, 8, 8)
    made = known_masks(graphs, predicted)
    assert torch.equal(made[0], predicted[0])
    assert made[1].eq(1).all()
    assert torch.equal(known_masks(graphs_of((1,)), predicted), predicted)


def test_boxes_are_learned_from_where_attributes_are_told() -> None:
    torch.manual_seed(0)
    objective = Grid2ImObjective(Config(**TINY), LABELS)
    told = []
    for seed in range(8):
        rng = torch.Generator().manual_seed(seed)
        drawn = objective.draw(layouts_of(masks=8), rng)
        losses = objective.generate(batch_of(), torch.Generator().manual_seed(seed)).losses
        assert drawn.told == bool(drawn.attributes.any()) == ("g_box" in losses)
        told.append(drawn.told)
    assert len(set(told)) == 2
    assert len(objective.passes) == 8


def test_the_wrong_layout_has_the_appearance_of_earlier_objects() -> None:
    torch.manual_seed(0)
    objective = Grid2ImObjective(Config(**TINY), LABELS)
    generator, batch = network_of(), batch_of()
    objective.networks["G"].load_state_dict(generator.state_dict())
    objective.networks["G"].eval()
    objective.generate(batch, torch.Generator().manual_seed(0))
    pool: Any = copy.deepcopy(objective.networks["pool"])
    objective.generate(batch, torch.Generator().manual_seed(5))
    drawn = objective.draw(batch.layouts, torch.Generator().manual_seed(5))
    made = objective.passes[1]
    codes = generator.read_appearance(batch.images, made.graphs)
    others = pool.exchange(made.graphs.labels, codes, drawn.choose)
    assert (others - codes).abs().max() > 0.01
    for layout, appearance in ((made.layout, codes), (made.wrong_layout, others)):
        expected = generator.layout(made.graphs, appearance, made.graphs.boxes, made.true_masks)
        torch.testing.assert_close(layout, expected)


def terms(scores: float, **settings: Any) -> dict[str, float]:
    torch.manual_seed(0)
    objective = Grid2ImObjective(Config(**{**TINY, **settings}), LABELS)
    objective.networks["D"].eval()
    batch = batch_of(scores)
    fake = objective.generate(batch, torch.Generator().manual_seed(0)).images.detach()
    losses = objective.discriminator_losses(batch, fake)
    assert not objective.passes
    return {name: float(loss.value.detach()) for name, loss in losses.items()}


def test_unsure_objects_weigh_less_in_the_object_terms_of_the_discriminator() -> None:
    sure, unsure = terms(1.0), terms(0.0)
    assert unsure["d_image_real"] == sure["d_image_real"]
    assert 0 < unsure["d_object"] < sure["d_object"]
    assert 0 < unsure["d_class"] < sure["d_class"]
    assert terms(0.0, weigh_scores=False) == sure


def test_real_and_fake_objects_are_weighed_alike() -> None:
    """Of 7 rows 4 are objects and 3 whole images, which are always sure."""
    torch.manual_seed(0)
    objective = Grid2ImObjective(Config(**TINY), LABELS)
    batch = batch_of(scores=0.25)
    fake = objective.generate(batch, torch.Generator().manual_seed(0)).images.detach()
    graphs, discriminators = objective.passes[0].graphs, objective.networks["D"].eval()
    assert graphs.scores.tolist().count(0.25) == 4
    losses = objective.discriminator_losses(batch, fake)
    of_object, of_class = torch.zeros(()), torch.zeros(())
    for images, sign in ((fake, 1), (batch.images, -1)):
        scores, logits = discriminators.object(images, graphs)  # type: ignore[operator]
        of_object = of_object + (F.softplus(sign * scores) * graphs.scores).mean()
        errors = F.cross_entropy(logits, graphs.labels, reduction="none")
        of_class = of_class + (errors * graphs.scores).mean()
    torch.testing.assert_close(losses["d_object"].value, 0.5 * of_object)
    torch.testing.assert_close(losses["d_class"].value, of_class)


def test_images_are_judged_with_their_layout_and_real_ones_with_a_wrong_one_too() -> None:
    torch.manual_seed(0)
    objective = Grid2ImObjective(Config(**TINY), LABELS)
    config, batch = objective.config, batch_of()
    for seed in range(2):  # the second pass has appearance of the first to be wrong with
        fake = objective.generate(batch, torch.Generator().manual_seed(seed)).images.detach()
    objective.passes.pop(0)
    (made,) = objective.passes
    judge: Any = objective.networks["D"].eval()
    with torch.no_grad():
        for value in judge.parameters():  # large enough to tell them apart
            value.add_(torch.randn(value.shape) * 0.05)
    on_fake = judge.image(made.layout, fake)
    on_real = judge.image(made.layout, batch.images)
    on_wrong = judge.image(made.wrong_layout, batch.images)
    masks, true_masks = (judge.mask(m, made.graphs.labels) for m in (made.masks, made.true_masks))
    expected = {
        "g_image": config.lambda_image * squared_error(on_fake, 1),
        "g_image_features": config.lambda_image_features * feature_matching(on_fake, on_real),
        "g_mask": config.lambda_mask * squared_error(masks, 1),
        "g_mask_features": config.lambda_mask_features * feature_matching(masks, true_masks),
        "d_image_fake": 0.25 * squared_error(on_fake, 0),
        "d_image_wrong": 0.25 * squared_error(on_wrong, 0),
        "d_image_real": 0.5 * squared_error(on_real, 1),
        "d_mask_fake": 0.5 * squared_error(masks, 0),
        "d_mask_real": 0.5 * squared_error(true_masks, 1),
    }
    found = objective.generator_losses(batch, fake)
    found |= objective.discriminator_losses(batch, fake)
    for name, value in expected.items():
        torch.testing.assert_close(found[name].value, value, msg=name)
    told_apart = [float(squared_error(seen, 0).detach()) for seen in (on_fake, on_real, on_wrong)]
    assert min(abs(a - b) for a, b in itertools.combinations(told_apart, 2)) > 1e-4


def test_the_mask_discriminator_learns_slower_and_a_training_resumes_bit_for_bit() -> None:
    def fresh() -> Any:
        return grid2im.training(Config(**TINY), Loop(), LABELS - 1, 4, 3)

    straight, first, resumed = fresh(), fresh(), fresh()
    before = straight.modules["D"].mask.scale0_layer0[0].weight.clone()
    for index in range(2):
        straight.step(index, batch_of())
    first.step(0, batch_of())
    moved = (first.modules["D"].mask.scale0_layer0[0].weight - before).abs().max()
    assert 0 < moved <= 1.01e-5
    for key, module in first.modules.items():
        resumed.modules[key].load_state_dict(module.state_dict())
    for key, optimizer in first.optimizers.items():
        resumed.optimizers[key].load_state_dict(optimizer.state_dict())
    resumed.step(1, batch_of())
    for key, module in straight.modules.items():
        for name, value in module.state_dict().items():
            assert torch.equal(value, resumed.modules[key].state_dict()[name]), name
