"""The losses of Grid2Im and the order of its training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from synthaug.generators import grid2im
from synthaug.generators.base import TrainingBatch
from synthaug.generators.grid2im.config import Config
from synthaug.generators.grid2im.objective import Grid2ImObjective, Loop, known_masks
from tests.generators.grid2im.scenes import LABELS, TINY
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
