"""The losses of Layout2Im and the order of its training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators import layout2im
from synthaug.generators.base import TrainingBatch
from synthaug.generators.layout2im.config import Config
from synthaug.generators.layout2im.objective import Layout2ImObjective, Loop, kl_divergence
from synthaug.generators.layout2im.rows import rows_of
from synthaug.generators.nn.imagenet import to_imagenet
from tests.generators.layout2im.scenes import BOXES, LABELS, TINY, layouts_of, network_of


def objective_of(**settings: Any) -> Layout2ImObjective:
    torch.manual_seed(0)
    objective = Layout2ImObjective(Config(**{**TINY, **settings}), LABELS)
    for network in objective.networks.values():
        network.eval()
    return objective


def batch_of(scores: float = 1.0, counts: tuple[int, ...] = (1, 3)) -> TrainingBatch:
    images = torch.rand(len(counts), 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    layouts = layouts_of(counts)
    return TrainingBatch(images, replace(layouts, scores=layouts.scores * scores))


def test_the_divergence_is_that_of_normal_distributions() -> None:
    mean, log_variance = torch.randn(3, 4), torch.randn(3, 4)
    made = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(made, normal).sum()
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)


def test_both_ways_are_painted_and_read_back() -> None:
    objective, batch = objective_of(lambda_z=1.0), batch_of()
    generator: Any = objective.networks["G"]
    generator.load_state_dict(network_of().state_dict())  # objects show, and are told apart
    with torch.no_grad():
        generator.crop_encoder.fc_logvar.bias.fill_(1.0)
    fakes = objective.generate(batch, torch.Generator().manual_seed(0))
    assert fakes.images.shape == (4, 3, 64, 64)
    rebuilt, random = fakes.images.chunk(2)
    drawn = objective.draw(batch.layouts, torch.Generator().manual_seed(0))
    painted = generator(drawn.rows, drawn.z).images
    torch.testing.assert_close(random, painted)
    mean, log_variance = generator.read(to_imagenet(batch.images), drawn.rows)
    z_of_real = mean + drawn.noise * log_variance.exp().sqrt()
    torch.testing.assert_close(rebuilt, generator(drawn.rows, z_of_real).images)
    read, _ = generator.read(random, drawn.rows)
    torch.testing.assert_close(fakes.losses["g_z"].value, (read - drawn.z).abs().mean())
    l1 = (rebuilt - to_imagenet(batch.images)).abs().mean()
    torch.testing.assert_close(fakes.losses["g_l1"].value, l1)
    assert fakes.losses["g_kl"].mean_over == "sum"


def test_objects_come_in_an_order_that_is_drawn() -> None:
    objective, batch = objective_of(), batch_of(counts=(2, 3))
    layouts = replace(batch.layouts, scores=batch.layouts.labels * 0.1)
    orders = set()
    for seed in range(8):
        rows = objective.draw(layouts, torch.Generator().manual_seed(seed)).rows
        labels = rows.labels.tolist()
        assert [1, 2, 1, 2, 3] == sorted(labels[:2]) + sorted(labels[2:])
        assert torch.equal(rows.boxes, torch.from_numpy(BOXES)[rows.labels - 1])
        torch.testing.assert_close(rows.scores, rows.labels * 0.1)
        orders.add(tuple(labels))
    assert len(orders) > 2


def test_both_kinds_of_fakes_count_half() -> None:
    objective, batch = objective_of(), batch_of()
    fake = torch.cat([torch.zeros(2, 3, 64, 64), 5 * torch.rand(2, 3, 64, 64)])
    with torch.no_grad():
        for value in objective.networks["D"].parameters():  # large enough to tell them apart
            value.add_(torch.randn(value.shape) * 0.1)
    terms = objective.discriminator_losses(batch, fake)
    image = objective.networks["D"].image
    scores = [image(x) for x in (*fake.chunk(2), to_imagenet(batch.images))]  # type: ignore[operator]
    fakes = (F.softplus(scores[0]).mean() + F.softplus(scores[1]).mean()) / 2
    torch.testing.assert_close(terms["d_image"].value, fakes + F.softplus(-scores[2]).mean())
    told = objective.generator_losses(batch, fake)
    expected = (F.softplus(-scores[0]).mean() + F.softplus(-scores[1]).mean()) / 2
    torch.testing.assert_close(told["g_image"].value, expected)
    rows = rows_of(batch.layouts)
    look: Any = objective.networks["D"].objects
    real, logits = look(to_imagenet(batch.images), rows)
    of_rebuilt, of_random = (look(images, rows) for images in fake.chunk(2))
    assert (of_rebuilt[0] - of_random[0]).abs().max() > 0.01
    of_fakes = (F.softplus(of_rebuilt[0]).mean() + F.softplus(of_random[0]).mean()) / 2
    torch.testing.assert_close(terms["d_object"].value, of_fakes + F.softplus(-real).mean())
    errors = [F.cross_entropy(seen[1], rows.labels) for seen in (of_rebuilt, of_random)]
    torch.testing.assert_close(
        told["g_class"].value, sum(errors) / 2 * objective.config.lambda_class
    )
    torch.testing.assert_close(terms["d_class"].value, F.cross_entropy(logits, rows.labels))


def test_unsure_objects_weigh_less_in_the_object_terms_of_the_discriminator() -> None:
    fake = torch.rand(4, 3, 64, 64)

    def terms(scores: float, **settings: Any) -> dict[str, float]:
        losses = objective_of(**settings).discriminator_losses(batch_of(scores), fake)
        return {name: float(loss.value.detach()) for name, loss in losses.items()}

    sure, unsure = terms(1.0), terms(0.25)
    assert unsure["d_image"] == sure["d_image"]
    assert abs(unsure["d_object"] - 0.25 * sure["d_object"]) < 1e-5
    assert abs(unsure["d_class"] - 0.25 * sure["d_class"]) < 1e-5
    assert terms(0.25, weigh_scores=False) == sure


def test_the_generator_makes_new_fakes_for_its_own_phase() -> None:
    training = layout2im.training(Config(**TINY), Loop(), LABELS - 1, 4, 3)
    fakes: list[Tensor] = []
    training.modules["G"].register_forward_hook(lambda _m, _i, out: fakes.append(out.images))
    training.step(0, batch_of())
    assert len(fakes) == 4  # both ways for D, and both again for G
    assert not torch.equal(fakes[1], fakes[3])


def test_images_without_objects_can_be_learned_from() -> None:
    training = layout2im.training(Config(**TINY), Loop(), LABELS - 1, 4, 3)
    losses = training.step(0, batch_of(counts=(0, 0)))
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
