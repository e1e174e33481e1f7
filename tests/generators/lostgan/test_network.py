"""LostGAN's own promises; its recorded outputs are compared in tests/parity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from synthaug.generators import lostgan as lostgan_system
from synthaug.generators.base import Layouts, SamplerOptions, TrainingBatch
from synthaug.generators.lostgan import network as lostgan

TINY = lostgan.Config(resolution=64, width=4, z_image=8, z_object=8, embedding=8, mask_hidden=8)


def some_layouts(scores: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Layouts:
    boxes = [[0.1, 0.1, 0.5, 0.6], [0.4, 0.3, 0.9, 0.9], [0.0, 0.5, 1.0, 1.0]]
    return Layouts.collate(
        [np.array([1, 2, 3]), np.array([2])],
        [np.array(boxes, np.float32), np.array(boxes[:1], np.float32)],
        [np.array(scores, np.float32), np.ones(1, np.float32)],
    )


def produce(config: lostgan.Config, layouts: Layouts, seeds: list[int]) -> np.ndarray:
    torch.manual_seed(0)
    network = lostgan_system.build(config, 5)
    network.train()
    with torch.no_grad():  # one training pass, so that the spectral norms know their weights
        network(layouts, torch.randn(len(layouts), 8), torch.randn(*layouts.labels.shape, 8))
    return lostgan_system.sampler(network, SamplerOptions()).sample(layouts, seeds).images


@pytest.mark.parametrize("background", [False, True])
def test_an_image_depends_on_its_layout_and_seed_only(background: bool) -> None:
    config = lostgan.Config(**{**vars(TINY), "background": background})
    torch.manual_seed(0)
    sampler = lostgan_system.sampler(lostgan_system.build(config, 5), SamplerOptions())
    both = some_layouts()
    alone = Layouts(both.labels[1:, :1], both.boxes[1:, :1], both.scores[1:, :1])
    together = sampler.sample(both, [7, 8]).images[1].astype(int)
    single = sampler.sample(alone, [8]).images[0].astype(int)
    assert np.abs(together - single).max() <= 1
    assert (sampler.sample(alone, [9]).images[0] != single).any()


def test_padded_slots_have_no_mask_and_objects_do() -> None:
    sampler = lostgan_system.sampler(lostgan_system.build(TINY, 5), SamplerOptions())
    masks = sampler.sample(some_layouts(), [1, 2]).masks
    assert masks is not None
    assert masks.shape == (2, 3, 64, 64)
    assert masks[1, 1:].max() == 0
    assert masks[0].max(axis=(1, 2)).min() > 0


def test_scores_weigh_the_discriminators_object_terms() -> None:
    """Eq.

    15: with all scores zero the object terms vanish; halving them halves the terms; images terms do
    not move.
    """
    torch.manual_seed(0)
    objective = lostgan.LostGanObjective(TINY, 6)
    objective.networks["D"].eval()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    full = some_layouts()

    def losses(factor: float) -> dict[str, float]:
        batch = TrainingBatch(images, Layouts(full.labels, full.boxes, full.scores * factor))
        terms = objective.discriminator_losses(batch, -images)
        return {name: loss.value.item() for name, loss in terms.items()}

    one, half, none = losses(1.0), losses(0.5), losses(0.0)
    assert none["d_object"] == 0
    assert half["d_object"] == pytest.approx(one["d_object"] / 2)
    assert half["d_image"] == pytest.approx(one["d_image"])


def test_images_without_objects_train() -> None:
    torch.manual_seed(0)
    objective = lostgan.LostGanObjective(TINY, 6)
    empty = Layouts.collate(
        [np.zeros(0, np.int64)] * 2,
        [np.zeros((0, 4), np.float32)] * 2,
        [np.zeros(0, np.float32)] * 2,
    )
    batch = TrainingBatch(torch.zeros(2, 3, 64, 64), empty)
    fake = objective.generate(batch, torch.Generator().manual_seed(0)).images
    terms = [
        *objective.generator_losses(batch, fake).values(),
        *objective.discriminator_losses(batch, fake.detach()).values(),
    ]
    total = torch.stack([loss.value for loss in terms]).sum()
    total.backward()
    assert torch.isfinite(total)


@pytest.mark.parametrize("resolution", [64, 128, 256, 512])
def test_every_resolution_is_the_same_code(resolution: int) -> None:
    config = lostgan.Config(**{**vars(TINY), "resolution": resolution, "width": 2})
    sampler = lostgan_system.sampler(lostgan_system.build(config, 5), SamplerOptions())
    made = sampler.sample(some_layouts(), [1, 2])
    assert made.images.shape == (2, resolution, resolution, 3)
    disc: nn.Module = lostgan.Discriminator(resolution, 2, 6)
    image, objects = disc(torch.zeros(2, 3, resolution, resolution), some_layouts())
    assert image.shape == (2,)
    assert objects.shape == (4,)


@pytest.mark.parametrize(("key", "value"), [("resolution", 100), ("width", 0), ("lambda_l1", -1.0)])
def test_impossible_settings_name_their_key(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        lostgan.Config(**{key: value})


def test_per_image_weights_turn_a_mean_over_objects_into_the_mean_of_the_images_means() -> None:
    weights = lostgan.per_image_weights(some_layouts())  # three objects, then one
    terms = torch.tensor([1.0, 2.0, 6.0, 5.0])
    assert (terms * weights).mean().item() == pytest.approx((3.0 + 5.0) / 2)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_a_larger_discriminator_starts_orthogonal_only_when_asked(orthogonal: bool) -> None:
    config = lostgan.Config(**{**vars(TINY), "resolution": 128, "orthogonal_d": orthogonal})
    d = lostgan.LostGanObjective(config, 6).networks["D"]
    rows = d.state_dict()["block2.conv1.weight_orig"].flatten(1)
    assert torch.allclose(rows @ rows.t(), torch.eye(len(rows)), atol=1e-5) == orthogonal


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=rng)


def linear_of(layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the normed weight and the bias of a spectrally normed layer."""
    assert isinstance(layer, lostgan.SNLinear | lostgan.SNConv2d)
    return layer.weight().detach(), layer.bias.detach()


def test_isla_norm_spreads_each_objects_numbers_over_its_mask() -> None:
    """Equations 7 to 9 pixel by pixel, in float64.

    An object's share is its mask over the sum of masks.
    """
    torch.manual_seed(0)
    norm = lostgan.IslaNorm(3, 4).double().eval()
    nn.init.normal_(norm.weight_proj.bias)
    nn.init.normal_(norm.bias_proj.bias)
    norm.batch_norm2d.running_mean.uniform_(-1, 1)
    norm.batch_norm2d.running_var.uniform_(0.5, 2)
    x, code = double(2, 3, 4, 4), double(2, 3, 4, seed=1)
    masks = double(2, 3, 4, 4, seed=2).sigmoid()
    weight, weight_bias = linear_of(norm.weight_proj)
    bias, bias_bias = linear_of(norm.bias_proj)
    means = norm.batch_norm2d.running_mean
    deviations = (norm.batch_norm2d.running_var + 1e-5).sqrt()
    expected = torch.empty_like(x)
    for image, row, column in np.ndindex(2, 4, 4):
        shares = masks[image, :, row, column]
        shares = shares / (shares.sum() + 1e-6)
        gamma = shares @ (code[image] @ weight.t() + weight_bias)
        beta = shares @ (code[image] @ bias.t() + bias_bias)
        normalized = (x[image, :, row, column] - means) / deviations
        expected[image, :, row, column] = (1 + gamma) * normalized + beta
    labels = torch.ones(2, 3, dtype=torch.int64)
    torch.testing.assert_close(norm(x, masks, code, labels), expected, rtol=0, atol=1e-6)


def test_shares_add_up_to_one_under_masks_and_to_zero_without() -> None:
    masks = torch.zeros(1, 2, 4, 4)
    masks[0, 0, :2] = 0.25
    masks[0, 1, :1] = 0.75
    shares = lostgan.mask_shares(masks, 4)
    torch.testing.assert_close(shares.sum(1)[0, :2], torch.ones(2, 4), rtol=0, atol=1e-5)
    assert shares[0, :, 2:].max() == 0
    assert shares[0, :, 0, 0].tolist() == pytest.approx([0.25, 0.75], abs=1e-5)
    assert shares[0, :, 1, 0].tolist() == pytest.approx([1, 0], abs=1e-5)


def test_shares_are_taken_after_masks_are_resized() -> None:
    masks = torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    small = torch.nn.functional.interpolate(masks, size=(4, 4), mode="bilinear")
    expected = small / (small.sum(1, keepdim=True) + 1e-6)
    torch.testing.assert_close(lostgan.mask_shares(masks, 4), expected)


def test_spade_norm_reads_the_highest_mask_of_each_label() -> None:
    """Two objects of label 2 make one channel; a label of no object is an empty one."""
    torch.manual_seed(0)
    norm = lostgan.SpadeNorm(3, 4, 5).eval()
    masks = torch.rand(1, 3, 6, 6)
    labels = torch.tensor([[2, 1, 2]])
    label_map = torch.zeros(1, 4, 6, 6)
    label_map[0, 1] = masks[0, 1]
    label_map[0, 2] = torch.maximum(masks[0, 0], masks[0, 2])
    hidden = norm.mlp_shared(label_map)
    x = torch.randn(1, 3, 6, 6)
    gamma, beta = norm.mlp_gamma(hidden), norm.mlp_beta(hidden)
    expected = norm.batch_norm2d(x) * (1 + gamma) + beta
    torch.testing.assert_close(norm(x, masks, torch.empty(1, 3, 0), labels), expected)


class Marking(nn.Module):
    """A norm that adds a number, so that the order of both norms shows."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return x + self.number


def test_a_block_doubles_before_its_first_convolution_and_adds_the_doubled_shortcut() -> None:
    torch.manual_seed(0)
    block = lostgan.GeneratorBlock(3, 4, (Marking(0.3), Marking(-0.2))).double().eval()
    for name in ("conv1", "conv2", "c_sc"):
        nn.init.normal_(block.get_submodule(name).get_parameter("bias"))
    x = double(2, 3, 4, 4)

    def doubled(values: torch.Tensor) -> torch.Tensor:
        return values.repeat_interleave(2, 2).repeat_interleave(2, 3)

    conv2d = torch.nn.functional.conv2d
    main = doubled((x + 0.3).clamp_min(0))
    main = conv2d(main, *linear_of(block.conv1), padding=1)
    main = conv2d((main - 0.2).clamp_min(0), *linear_of(block.conv2), padding=1)
    expected = main + conv2d(doubled(x), *linear_of(block.c_sc))
    nothing = torch.empty(0)
    made = block(x, nothing, nothing, nothing)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)


def test_refined_masks_mix_placed_and_inferred_ones_by_the_weight_of_their_class() -> None:
    """Component (iv), slot by slot: its own logits, inside its own box, its own alpha."""
    torch.manual_seed(0)
    network = lostgan.LostGanGenerator(TINY, 5)
    stage = network.refined[0]
    alphas = torch.tensor([-1.0, 0.5, 2.0, -3.0, 1.0])
    with torch.no_grad():
        network.get_parameter(f"alpha{stage}").copy_(alphas.view(1, 5, 1))
    logits = torch.randn(2, 5, 8, 8)
    placed = torch.rand(2, 3, 8, 8)
    inside = (torch.rand(2, 3, 32, 32) > 0.5).float()
    labels = torch.tensor([[1, 4, 0], [3, 3, 2]])
    refined = network._refine(stage, logits, placed, inside, labels)
    for image, slot in np.ndindex(2, 3):
        label = labels[image, slot]
        alpha = alphas[label].sigmoid()
        inferred = logits[image, label].sigmoid() * inside[image, slot, ::4, ::4]
        expected = (1 - alpha) * placed[image, slot] + alpha * inferred
        torch.testing.assert_close(refined[image, slot], expected)


def test_every_stage_has_masks_of_its_side_and_uses_those_of_the_stage_before() -> None:
    torch.manual_seed(0)
    config = lostgan.Config(**{**vars(TINY), "resolution": 128, "width": 2})
    network = lostgan.LostGanGenerator(config, 5).eval()
    sides = []
    for number in network.names:
        block = network.get_submodule(f"res{number}")
        block.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[1].shape[-1]))
    layouts = some_layouts()
    images, stacks = network(layouts, torch.randn(2, 8), torch.randn(2, 3, 8))
    assert images.shape == (2, 3, 128, 128)
    assert [stack.shape[-1] for stack in stacks] == [64, 8, 16, 32, 64]
    assert sides == [64, 8, 16, 32, 64]


@pytest.mark.parametrize(("stages", "count"), [(-1, 3), (0, 0), (1, 1), (2, 2)])
def test_as_many_stages_are_refined_as_asked(stages: int, count: int) -> None:
    config = lostgan.Config(**{**vars(TINY), "refine_stages": stages})
    network = lostgan.LostGanGenerator(config, 5)
    _, stacks = network(some_layouts(), torch.randn(2, 8), torch.randn(2, 3, 8))
    assert len(stacks) == 1 + count


def test_a_code_is_the_latent_followed_by_the_embedding_of_its_label() -> None:
    network = lostgan.LostGanGenerator(TINY, 5).eval()
    codes = []
    network.mask_regress.register_forward_pre_hook(lambda _, inputs: codes.append(inputs[0]))
    layouts = some_layouts()
    z_objects = torch.randn(2, 3, 8)
    network(layouts, torch.randn(2, 8), z_objects)
    assert torch.equal(codes[0][..., :8], z_objects)
    assert torch.equal(codes[0][1, 0, 8:], network.label_embedding.weight[2])
    assert torch.equal(codes[0][0, 2, 8:], network.label_embedding.weight[3])


def test_padding_does_not_change_an_image() -> None:
    torch.manual_seed(0)
    network = lostgan.LostGanGenerator(TINY, 5).eval()
    layouts = some_layouts()
    padded = Layouts(
        torch.cat([layouts.labels, torch.zeros(2, 1, dtype=torch.int64)], 1),
        torch.cat([layouts.boxes, torch.tensor([[[-0.6, -0.6, -0.1, -0.1]]] * 2)], 1),
        torch.cat([layouts.scores, torch.zeros(2, 1)], 1),
    )
    z_image, z_objects = torch.randn(2, 8), torch.randn(2, 4, 8)
    images, _ = network(layouts, z_image, z_objects[:, :3])
    others, _ = network(padded, z_image, z_objects)
    torch.testing.assert_close(others, images, rtol=0, atol=1e-5)


def test_without_learned_masks_boxes_are_filled_and_clipped_masks_stay_in_theirs() -> None:
    torch.manual_seed(0)
    layouts = some_layouts()
    code = torch.randn(2, 3, 16)
    inside = lostgan.inside_boxes(layouts.boxes, 64)
    filled = lostgan.LostGanGenerator(
        lostgan.Config(**{**vars(TINY), "layout_to_mask": False}), 5
    ).eval()
    assert torch.equal(filled._place(code, layouts.boxes), inside)
    leaking = lostgan.LostGanGenerator(TINY, 5).eval()
    clipped = lostgan.LostGanGenerator(
        lostgan.Config(**{**vars(TINY), "clip_masks": True}), 5
    ).eval()
    clipped.load_state_dict(leaking.state_dict())
    masks = leaking._place(code, layouts.boxes)
    assert torch.equal(clipped._place(code, layouts.boxes), masks * inside)


def test_the_top_left_sample_of_each_cell_is_picked() -> None:
    masks = torch.arange(36.0).view(1, 1, 6, 6)
    assert lostgan.top_left(masks, 3)[0, 0].tolist() == [[0, 2, 4], [12, 14, 16], [24, 26, 28]]
    assert torch.equal(lostgan.top_left(masks, 6), masks)


def test_the_background_is_a_last_slot_that_covers_the_image() -> None:
    layouts = some_layouts()
    wider = lostgan.with_background(layouts)
    assert torch.equal(wider.labels[:, :3], layouts.labels)
    assert torch.equal(wider.boxes[:, :3], layouts.boxes)
    assert wider.labels[:, 3].tolist() == [0, 0]
    assert wider.boxes[:, 3].tolist() == [[0, 0, 1, 1]] * 2
    assert wider.scores[:, 3].tolist() == [1, 1]


def objective_of(**settings: object) -> lostgan.LostGanObjective:
    torch.manual_seed(0)
    objective = lostgan.LostGanObjective(lostgan.Config(**{**vars(TINY), **settings}), 6)
    objective.networks["D"].eval()
    return objective


def training_pair() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    real, fake = torch.rand(2, 2, 3, 64, 64, generator=rng) * 2 - 1
    return real, fake


def test_each_score_weighs_the_term_of_its_own_object_on_real_images_and_on_fakes() -> None:
    """Equation 15: sum of p_i times the hinge of object i, over the number of objects."""
    objective = objective_of(lambda_object=3.0, lambda_image=0.5)
    real, fake = training_pair()
    layouts = some_layouts((0.9, 0.2, 0.5))
    images, objects = objective.networks["D"](real, layouts)
    fake_images, fake_objects = objective.networks["D"](fake, layouts)
    weights = torch.tensor([0.9, 0.2, 0.5, 1.0])
    terms = (1 - objects).clamp_min(0) + (1 + fake_objects).clamp_min(0)
    losses = objective.discriminator_losses(TrainingBatch(real, layouts), fake)
    torch.testing.assert_close(losses["d_object"].value, 3 * (weights * terms).sum() / 4)
    image_terms = (1 - images).clamp_min(0) + (1 + fake_images).clamp_min(0)
    torch.testing.assert_close(losses["d_image"].value, 0.5 * image_terms.mean())
    assert losses["d_object"].mean_over == "objects"
    assert losses["d_image"].mean_over == "images"


def test_scores_are_not_weighed_where_pseudo_labels_are_fully_trusted() -> None:
    real, fake = training_pair()
    objective = objective_of(weigh_scores=False)
    unsure = TrainingBatch(real, some_layouts((0.9, 0.2, 0.5)))
    sure = TrainingBatch(real, some_layouts())
    one = objective.discriminator_losses(unsure, fake)["d_object"].value
    other = objective.discriminator_losses(sure, fake)["d_object"].value
    assert torch.equal(one, other)


def test_one_pass_over_both_gives_the_losses_of_two_passes() -> None:
    real, fake = training_pair()
    batch = TrainingBatch(real, some_layouts((0.9, 0.2, 0.5)))
    apart = objective_of().discriminator_losses(batch, fake)
    together = objective_of(joint_pass=True).discriminator_losses(batch, fake)
    for name, loss in apart.items():
        torch.testing.assert_close(together[name].value, loss.value, rtol=1e-4, atol=1e-5)


def test_object_terms_may_be_averaged_in_each_image_first() -> None:
    real, fake = training_pair()
    objective = objective_of(per_image=True)
    layouts = some_layouts((0.9, 0.2, 0.5))
    _, objects = objective.networks["D"](real, layouts)
    _, fake_objects = objective.networks["D"](fake, layouts)
    terms = (1 - objects).clamp_min(0) + (1 + fake_objects).clamp_min(0)
    weighed = terms * torch.tensor([0.9, 0.2, 0.5, 1.0])
    expected = (weighed[:3].mean() + weighed[3]) / 2
    losses = objective.discriminator_losses(TrainingBatch(real, layouts), fake)
    torch.testing.assert_close(losses["d_object_image"].value, expected)
    assert losses["d_object_image"].mean_over == "images"
    of_g = objective.generator_losses(TrainingBatch(real, layouts), fake)
    expected = -(fake_objects[:3].mean() + fake_objects[3]) / 2
    torch.testing.assert_close(of_g["g_object_image"].value, expected)


def test_the_generators_terms_are_those_of_equation_11() -> None:
    """Scores of fakes, both negative, unweighed by p_i, and the mean absolute difference of the
    images.
    """
    objective = objective_of(lambda_object=3.0, lambda_image=0.5, lambda_l1=2.0)
    real, fake = training_pair()
    layouts = some_layouts((0.9, 0.2, 0.5))
    images, objects = objective.networks["D"](fake, layouts)
    losses = objective.generator_losses(TrainingBatch(real, layouts), fake)
    assert losses.keys() == {"g_object", "g_image", "g_l1"}
    torch.testing.assert_close(losses["g_object"].value, -3 * objects.mean())
    torch.testing.assert_close(losses["g_image"].value, -0.5 * images.mean())
    torch.testing.assert_close(losses["g_l1"].value, 2 * (fake - real).abs().mean())
    assert losses["g_object"].mean_over == "objects"
    assert losses["g_l1"].mean_over == "images"


def test_fakes_are_the_networks_for_latents_of_the_stream() -> None:
    """z_img is drawn before z_obj."""
    objective = objective_of()
    network = objective.networks["G"].eval()
    real, _ = training_pair()
    layouts = some_layouts()
    made = objective.generate(TrainingBatch(real, layouts), torch.Generator().manual_seed(4))
    rng = torch.Generator().manual_seed(4)
    z_image = torch.randn(2, 8, generator=rng)
    z_objects = torch.randn(2, 3, 8, generator=rng)
    expected, _ = network(layouts, z_image, z_objects)
    assert torch.equal(made.images, expected)
    assert made.losses == {}


def test_a_background_is_added_in_training_where_it_is_asked_for() -> None:
    objective = objective_of(background=True)
    seen = []
    objective.networks["G"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    real, _ = training_pair()
    objective.generate(TrainingBatch(real, some_layouts()), torch.Generator().manual_seed(4))
    layouts, _, z_objects = seen[0]
    assert layouts.labels.tolist() == [[1, 2, 3, 0], [2, 0, 0, 0]]
    assert z_objects.shape == (2, 4, 8)
